//! Are tokens verified, on a real Envoy, with keys from wherever they come?

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};

use crate::drivers::{Call, SDKS, outcomes};
use crate::issuer::{KEYS, KeyServer, b64, claims, fetched, public, research, signed, token, token_with};
use crate::requests::{CHAT, GPT_4O, chat, check_record, details, record_of, refusal, with};

async fn ask(gateway: &Gateway, token: &str) -> Answer {
    gateway.post(CHAT, token, &chat("hello")).await.unwrap()
}

#[track_caller]
fn check_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (status, Some(code)),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_token_of_every_algorithm_is_taken_and_a_forged_one_is_not() {
    let inline = json!({ "keys": public("") });
    let gateway = Gateway::start(Setup::new().workers(1).edit(research(inline))).await.unwrap();
    let ps256 = ("rsa-1", Algorithm::PS256);
    let rs384 = ("rsa-2", Algorithm::RS384);
    for (kid, algorithm) in KEYS.into_iter().chain([ps256, rs384]) {
        let good = token(kid, algorithm);
        // The second time from memory.
        for _ in 0..2 {
            let answer = ask(&gateway, &good).await;
            assert_eq!(answer.status, 200, "{algorithm:?}: {}", answer.text());
            check_record(
                &record_of(&gateway, &answer).await,
                &json!({ "client": "research", "model": GPT_4O }),
            );
        }
        let (message, signature) = good.rsplit_once('.').unwrap();
        let (head, _) = message.split_once('.').unwrap();
        let other_claims = b64(claims(json!({ "sub": "somebody else" })).to_string());
        let forged = [
            format!("{head}.{other_claims}.{signature}"),
            format!("{message}.{}", b64([0; 64])),
            format!("{message}.{}", b64([0; 96])),
            format!("{message}.{}", b64([0xff; 256])),
            format!("{message}.{}", b64([0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01])),
        ];
        for forged in forged {
            let answer = ask(&gateway, &forged).await;
            check_refused(&answer, 401, "invalid_token");
            assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
            let message = "The token does not have its issuer's signature.";
            assert_eq!(answer.json(), refusal(message, "authentication_error", None, "invalid_token"));
        }
    }
    // One kind of RSA signature is not another.
    for (said, made) in
        [("RS256", Algorithm::PS256), ("PS256", Algorithm::RS256), ("RS512", Algorithm::RS256)]
    {
        let header = json!({ "alg": said, "kid": "rsa-1" });
        check_refused(
            &ask(&gateway, &signed(&header, &claims(json!({})), "rsa-1", made)).await,
            401,
            "invalid_token",
        );
    }
}

#[tokio::test]
async fn the_record_of_a_401_tells_who_was_refused() {
    let inline = json!({ "keys": public("ed25519") });
    let gateway = Gateway::start(Setup::new().workers(1).edit(research(inline))).await.unwrap();
    let key = "sk-proj-0123456789abcdef0123456789abcdef";
    let iss = "https://other.example";
    let token = |more: Value| token_with("ed25519", Algorithm::EdDSA, with(json!({ "iss": iss }), more));
    let names = ["caller_address", "key_begins", "unverified_iss", "unverified_sub", "unverified_oid"];
    let cases = [
        (key.to_owned(), json!(["127.0.0.1", "sk-proj-", null, null, null])),
        ("short".to_owned(), json!(["127.0.0.1", "s", null, null, null])),
        // Two users of one application are two.
        (token(json!({ "sub": "a", "oid": "1" })), json!(["127.0.0.1", null, iss, "a", "1"])),
        (token(json!({ "sub": "b", "oid": "2" })), json!(["127.0.0.1", null, iss, "b", "2"])),
    ];
    for (credential, expected) in &cases {
        let answer = ask(&gateway, credential).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        let details = details(&record_of(&gateway, &answer).await);
        assert_eq!(json!(names.map(|name| &details[name])), *expected, "{credential}");
    }
    // Who is a client is told by its name, and who shows nothing by the address.
    let served = ask(&gateway, &token_with("ed25519", Algorithm::EdDSA, json!({ "sub": "c" }))).await;
    assert_eq!(served.status, 200, "{}", served.text());
    let details_of_served = details(&record_of(&gateway, &served).await);
    assert_eq!(names.map(|name| details_of_served.get(name)), [None; 5]);
    let nobody = gateway.http().post(format!("{}{CHAT}", gateway.url())).json(&chat("hello")).send().await;
    let nobody = Answer::read(nobody.unwrap()).await.unwrap();
    let details_of_nobody = details(&record_of(&gateway, &nobody).await);
    assert_eq!(details_of_nobody["caller_address"], "127.0.0.1");
    assert_eq!(details_of_nobody.get("key_begins"), None);
    for secret in cases.iter().map(|(credential, _)| credential).filter(|credential| credential.len() > 8) {
        assert!(!json!(gateway.access_log().unwrap()).to_string().contains(secret.as_str()));
        assert!(!gateway.log_text().unwrap().contains(secret.as_str()));
    }
}

#[tokio::test]
async fn a_refused_token_says_what_was_wrong_and_nothing_else() {
    let inline = json!({ "keys": public("ed25519") });
    let gateway = Gateway::start(Setup::new().workers(1).edit(research(inline))).await.unwrap();
    let with = |more: Value| token_with("ed25519", Algorithm::EdDSA, more);
    let none = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(claims(json!({})).to_string()));
    let cases = [
        (with(json!({ "exp": 1000 })), "token_expired"),
        (with(json!({ "nbf": 9_999_999_999_u64 })), "token_not_yet_valid"),
        (with(json!({ "iss": "https://other.example" })), "unknown_issuer"),
        (with(json!({ "aud": "api://other" })), "wrong_audience"),
        (with(json!({ "azp": "other-app" })), "no_client_for_token"),
        (with(json!({ "roles": "ai.admin" })), "no_client_for_token"),
        (none, "invalid_token"),
        (format!("{}{}", with(json!({})), "A".repeat(20_000)), "invalid_token"),
    ];
    for (token, code) in &cases {
        let answer = ask(&gateway, token).await;
        check_refused(&answer, 401, code);
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        for word in ["research", "entra", "issuer.example", "ai.user", "ed25519"] {
            assert!(!answer.text().contains(word), "{}", answer.text());
        }
        let nobody = json!({ "status": 401, "client": null, "outcome": code });
        check_record(&record_of(&gateway, &answer).await, &nobody);
    }
    // The client is known, and may not use everything.
    let embedding = json!({ "model": "text-embedding-3-small", "input": "x" });
    let answer = gateway.post("/v1/embeddings", &with(json!({})), &embedding).await.unwrap();
    check_refused(&answer, 403, "model_not_allowed");
    let answer = gateway.post("/v1/files", &with(json!({})), &embedding).await.unwrap();
    check_refused(&answer, 403, "endpoint_not_allowed");
    for backend in gateway.backends().keys() {
        assert_eq!(gateway.mock(backend).received(), [], "{backend}");
    }
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_workers_while_requests_wait() {
    let idp = KeyServer::start(&public("")).await;
    idp.hold(true);
    let setup = idp.known_to(Setup::new().workers(4)).edit(research(fetched(json!({ "wait_ms": 20_000 }))));
    let gateway = Gateway::start(setup).await.unwrap();
    let tokens: Vec<_> = KEYS.iter().map(|(kid, algorithm)| token(kid, *algorithm)).collect();
    let asked = join_all(tokens.iter().cycle().take(40).map(|token| ask(&gateway, token)));
    let release = async {
        idp.wait_for(1).await;
        idp.hold(false);
    };
    let (answers, ()) = tokio::join!(asked, release);
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(idp.asked(), ["idp.example/keys?v=2"]);
    let changed = [("issuer", "entra"), ("outcome", "changed")];
    gateway.wait_for_metric("tollgate_jwks_fetches", &changed, 1.0).await.unwrap();
}

#[tokio::test]
async fn a_request_waits_for_keys_no_longer_than_it_is_told_to() {
    let idp = KeyServer::start(&public("")).await;
    idp.hold(true);
    let setup = idp.known_to(Setup::new().workers(1)).edit(research(fetched(json!({ "wait_ms": 200 }))));
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = ask(&gateway, &token("rsa-1", Algorithm::RS256)).await;
    check_refused(&answer, 503, "keys_unavailable");
    assert_eq!(answer.header("x-should-retry"), "");
    check_record(
        &record_of(&gateway, &answer).await,
        &json!({ "outcome": "keys_unavailable", "client": null }),
    );
    // Keys of others are needed for no API key.
    let answer = gateway.post(CHAT, crate::requests::WEB_SHOP, &chat("hello")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    idp.hold(false);
    wait_until("the keys come", async || {
        ask(&gateway, &token("rsa-1", Algorithm::RS256)).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_during_a_fetch_leaves_nothing_behind() {
    let idp = KeyServer::start(&public("")).await;
    idp.hold(true);
    let setup = idp.known_to(Setup::new().workers(1)).edit(research(fetched(json!({ "wait_ms": 20_000 }))));
    let gateway = Gateway::start(setup).await.unwrap();
    let token = token("rsa-1", Algorithm::RS256);
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(&token);
    let sent = request.timeout(Duration::from_millis(300)).json(&chat("hello")).send().await;
    assert!(sent.is_err());
    let log = gateway.wait_for_log(1).await.unwrap();
    check_record(&log[0], &json!({ "outcome": "client_gone", "client": null, "backend": null }));
    idp.hold(false);
    assert_eq!(ask(&gateway, &token).await.status, 200);
}

#[tokio::test]
async fn a_new_key_is_fetched_once_however_many_tokens_name_one() {
    let idp = KeyServer::start(&public("rsa-1")).await;
    let setup = idp.known_to(Setup::new()).edit(research(fetched(json!({}))));
    let gateway = Gateway::start(setup).await.unwrap();
    assert_eq!(ask(&gateway, &token("rsa-1", Algorithm::RS256)).await.status, 200);
    assert_eq!(idp.asked().len(), 1);

    idp.serve(&public("rsa"));
    let answers = join_all((0..20).map(|user| {
        let token = token_with("rsa-2", Algorithm::RS256, json!({ "sub": user }));
        let gateway = &gateway;
        async move { ask(gateway, &token).await }
    }));
    for answer in answers.await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(idp.asked().len(), 2);

    for number in 0..20 {
        let header = json!({ "alg": "RS256", "kid": format!("made-up-{number}") });
        let answer = ask(&gateway, &signed(&header, &claims(json!({})), "rsa-1", Algorithm::RS256)).await;
        check_refused(&answer, 401, "invalid_token");
        let message = "The token names a key that its issuer does not publish.";
        assert_eq!(answer.json()["error"]["message"], message);
    }
    assert_eq!(idp.asked().len(), 2);
}

#[tokio::test]
async fn the_last_good_keys_hold_while_the_issuer_is_away() {
    let idp = KeyServer::start(&public("")).await;
    let setup = idp.known_to(Setup::new()).edit(research(fetched(json!({ "refresh_s": 1 }))));
    let gateway = Gateway::start(setup).await.unwrap();
    let known = token("ed25519", Algorithm::EdDSA);
    assert_eq!(ask(&gateway, &known).await.status, 200);
    idp.fail(500);
    let before = idp.asked().len();
    idp.wait_for(before + 2).await;
    let fresh = token_with("rsa-1", Algorithm::RS256, json!({ "sub": "while it is away" }));
    assert_eq!(ask(&gateway, &fresh).await.status, 200);
    let refused = [("issuer", "entra"), ("outcome", "refused")];
    assert!(gateway.metric("tollgate_jwks_fetches", &refused).await.unwrap() >= 1.0);
    let sentence = "could not be fetched from cluster idp: refused; the last ones hold";
    assert!(gateway.log_text().unwrap().contains(sentence));

    idp.serve(&public("rsa"));
    wait_until("the key is withdrawn", async || ask(&gateway, &known).await.status == 401).await;
    assert_eq!(ask(&gateway, &fresh).await.status, 200);
}

#[tokio::test]
async fn an_sdk_takes_a_token_for_a_key() {
    let inline = json!({ "keys": public("") });
    let gateway = Gateway::start(Setup::new().workers(1).edit(research(inline))).await.unwrap();
    for sdk in SDKS.into_iter().filter(|sdk| sdk.class == "OpenAI") {
        let good = token("rsa-1", Algorithm::RS256);
        let expired = token_with("rsa-1", Algorithm::RS256, json!({ "exp": 1000 }));
        let calls = [
            Call::chat(sdk, &good, json!({})),
            Call::new(sdk, &good, "models.retrieve", json!({ "model": GPT_4O })),
            Call::chat(sdk, &expired, json!({})),
        ];
        // The one call whose argument is no object in one of the languages.
        let calls = calls.into_iter().filter(|call| call.method != "models.retrieve" || !is_node(sdk));
        let found = outcomes(&gateway, &calls.collect::<Vec<_>>()).await;
        assert_eq!(found[0]["answer"]["object"], "chat.completion", "{found:?}");
        if !is_node(sdk) {
            assert_eq!(found[1]["answer"]["id"], GPT_4O, "{found:?}");
        }
        let refused = found.last().unwrap();
        check_record(
            refused,
            &json!({ "exception": "AuthenticationError", "status": 401, "code": "token_expired" }),
        );
    }
}

fn is_node(sdk: crate::drivers::Sdk) -> bool {
    sdk.language == crate::drivers::Language::Node
}

/// Asks until it is so, in a time in which it must have become so.
async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

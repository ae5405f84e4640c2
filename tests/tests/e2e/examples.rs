//! Do the examples do what their READMEs claim?
//!
//! Each runs through one Envoy: first the README's commands as they stand, then what a few commands cannot show.

use std::collections::BTreeSet;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate_tests::harness::bootstrap::{Bootstrap, backends, gateway_from};
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Answer, Gateway, Setup, console, credential_of};
use tollgate_tests::mock::Fault;

use crate::envoy_lines::part;
use crate::issuer::{KeyServer, public, signed};
use crate::requests::{CHAT, chat, check_record, details, record_of, with};
use crate::terminator::{Authority, Terminator};

/// An example's gateway configuration.
fn config(example: &str) -> Value {
    gateway_from(&workspace().join(format!("examples/{example}/gateway.yaml"))).unwrap()
}

fn setup(example: &str) -> Setup {
    Setup::new().config(config(example))
}

/// The example in an Envoy of its own.
async fn start(example: &str) -> Gateway {
    Gateway::start(setup(example)).await.unwrap()
}

/// The README's commands print what it shows.
async fn run_readme(example: &str, gateway: &Gateway, variables: &[(&str, &str)]) {
    let readme = std::fs::read_to_string(workspace().join(format!("examples/{example}/README.md"))).unwrap();
    let declared = backends(&config(example));
    let names: Vec<_> = declared.iter().map(|backend| backend.name.as_str()).collect();
    console::run(&readme, gateway, &names, variables).await;
}

/// A short chat, with these members as well.
async fn ask(gateway: &Gateway, key: &str, more: Value) -> Answer {
    let body = with(chat("hello"), with(json!({ "max_tokens": 8 }), more));
    gateway.post(CHAT, key, &body).await.unwrap()
}

#[track_caller]
fn check_refused(answer: &Answer, status: u16, code: &str) {
    let found = (answer.status, answer.json()["error"]["code"].clone());
    assert_eq!(found, (status, json!(code)), "{}", answer.text());
}

#[test]
fn every_example_has_a_test_here() {
    let mut examples = BTreeSet::new();
    for folder in std::fs::read_dir(workspace().join("examples")).unwrap().map(|entry| entry.unwrap()) {
        if folder.path().join("gateway.yaml").exists() {
            examples.insert(folder.file_name().into_string().unwrap());
        }
    }
    let source = include_str!("examples.rs");
    let ran: BTreeSet<_> = source
        .split("run_readme(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .filter(|name| !name.contains(')'))
        .collect();
    assert_eq!(examples, ran);
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioned_capacity_comes_first_and_again_after_its_pause() {
    let gateway = start("ptu-first").await;
    run_readme("ptu-first", &gateway, &[]).await;
    // It pauses: it is not asked.
    let before = gateway.mock("ptu").received().len();
    let answer = ask(&gateway, "demo-team", json!({})).await;
    check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "payg", "attempts": 1 }));
    assert_eq!(gateway.mock("ptu").received().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn teams_are_held_to_their_budgets_and_the_departments() {
    let gateway = start("teams-and-budgets").await;
    run_readme("teams-and-budgets", &gateway, &[]).await;
    for (key, team) in [("demo-search", "search"), ("demo-support", "support")] {
        let labels = [("client", team), ("outcome", "insufficient_quota")];
        gateway.wait_for_metric("tollgate_requests", &labels, 1.0).await.unwrap();
        // What is left is still served, and charged to who asked.
        let answer = ask(&gateway, key, json!({})).await;
        check_record(&record_of(&gateway, &answer).await, &json!({ "client": team, "outcome": "served" }));
    }
    let usage =
        gateway.http().get(format!("{}/tollgate/v1/usage", gateway.url())).bearer_auth("demo-support");
    let usage = Answer::read(usage.send().await.unwrap()).await.unwrap().json();
    let [own, shared] = &usage["limits"].as_array().unwrap()[..] else { panic!("{usage}") };
    let billed = gateway.mock("payg").billed();
    assert_eq!(billed.len(), 3);
    check_record(own, &json!({ "unit": "tokens", "group": null, "used": billed[2].usage.total() }));
    check_record(shared, &json!({ "unit": "cost", "group": "retail", "shared": true, "limit": 0.75 }));
    // 2.50 and 10.00 for a million.
    let micros: u64 =
        billed.iter().map(|one| (one.usage.prompt * 5).div_ceil(2) + one.usage.completion * 10).sum();
    assert_eq!(shared["used"], json!(micros as f64 / 1e6));
    gateway.wait_for_metric("tollgate_price_micros", &[], micros as f64).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_one_region_is_never_served_in_another() {
    for (failure, status) in [(Fault::answer(500), 500), (Fault::close(), 503)] {
        // A new one each time: who has failed time after time is left alone.
        let gateway = start("sovereign-regions").await;
        for backend in ["sweden", "france"] {
            gateway.mock(backend).update(|settings| settings.faults = [failure.clone().always()].into());
        }
        gateway.mock("virginia").forget();
        for stream in [false, true] {
            let answer = ask(&gateway, "demo-bank", json!({ "stream": stream })).await;
            assert_eq!(answer.status, status, "{}", answer.text());
        }
        assert_eq!(gateway.mock("virginia").received(), []);
        // The same request of the other client is served there.
        let answer = ask(&gateway, "demo-shop", json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        check_record(
            &record_of(&gateway, &answer).await,
            &json!({ "client": "shop", "backend": "virginia" }),
        );
    }
    let gateway = start("sovereign-regions").await;
    // The last failure, for it outlives the commands: all of the region pause.
    run_readme("sovereign-regions", &gateway, &[]).await;
    gateway.mock("virginia").forget();
    check_refused(&ask(&gateway, "demo-bank", json!({ "stream": true })).await, 429, "backends_throttled");
    assert_eq!(gateway.mock("virginia").received(), []);
}

const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
const OTHER_TENANT: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";
const GATEWAY_APP: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const FORECASTS_APP: &str = "11112222-bbbb-3333-cccc-4444dddd5555";
const ANALYSTS_GROUP: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const AUTHORITY: &str = "login.microsoftonline.com";

/// A key as Entra publishes it: for signatures, without an algorithm, with its certificate.
fn as_entra_publishes(mut key: Value) -> Value {
    key.as_object_mut().unwrap().remove("alg");
    let certificate = json!({
        "use": "sig", "x5t": key["kid"], "x5c": ["MIIC/jCCAeagAwIBAgIJAJ"], "cloud_instance_name": "microsoftonline.com",
        "issuer": format!("https://{AUTHORITY}/{TENANT}/v2.0"),
    });
    with(key, certificate)
}

/// A token as Entra makes it for an application, in version 2.0, with these claims as well.
fn entra_token(more: Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "rsa-1" });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "aud": GATEWAY_APP, "iss": format!("https://{AUTHORITY}/{TENANT}/v2.0"), "iat": now, "nbf": now, "exp": now + 3899,
        "aio": "k2RgYPj/uX9p", "azp": FORECASTS_APP, "azpacr": "1", "oid": "33334444-dddd-5555-eeee-6666ffff7777",
        "rh": "1.AXYAu7uqqqo", "sub": "33334444-dddd-5555-eeee-6666ffff7777", "tid": TENANT, "uti": "9wHCNWlpBkGFAZ", "ver": "2.0",
    });
    signed(&header, &with(claims, more), "rsa-1", Algorithm::RS256)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_known_by_the_claims_of_its_tenants_tokens() {
    let keys = KeyServer::start(&public("rsa").into_iter().map(as_entra_publishes).collect::<Vec<_>>()).await;
    let authority = Authority::new();
    let terminator = Terminator::start(keys.addr(), authority.certificate(AUTHORITY)).await;
    let dir = tempfile::tempdir().unwrap();
    let authorities = dir.path().join("authorities.pem");
    std::fs::write(&authorities, authority.pem()).unwrap();
    // The example's cluster; only where Entra is, and who is trusted to say so, is of this machine.
    let mut cluster =
        Bootstrap::load_from("examples/entra-id/clusters.yaml").unwrap().value()["clusters"][0].clone();
    let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    assert_eq!(*part(&mut cluster, address), json!({ "address": AUTHORITY, "port_value": 443 }));
    *part(&mut cluster, address) = json!({ "address": "127.0.0.1", "port_value": terminator.port() });
    let trusted = "/transport_socket/typed_config/common_tls_context/validation_context/trusted_ca/filename";
    *part(&mut cluster, trusted) = json!(authorities);
    let with_entra = move |envoy: &mut Value| {
        part(envoy, "/static_resources/clusters").as_array_mut().unwrap().push(cluster);
    };
    let gateway = Gateway::start(setup("entra-id").patch(with_entra)).await.unwrap();

    let role = json!({ "roles": ["Models.Use"] });
    let forecasts = entra_token(role.clone());
    let other_issuer = format!("https://{AUTHORITY}/{OTHER_TENANT}/v2.0");
    let elsewhere = entra_token(with(role.clone(), json!({ "iss": other_issuer, "tid": OTHER_TENANT })));
    let nobody = entra_token(json!({}));
    let variables = [
        ("TOKEN", forecasts.as_str()),
        ("TOKEN_OF_ANOTHER_TENANT", &elsewhere),
        ("TOKEN_WITHOUT_ROLE_OR_GROUP", &nobody),
    ];
    run_readme("entra-id", &gateway, &variables).await;
    assert_eq!(keys.asked(), [format!("{AUTHORITY}/{TENANT}/discovery/v2.0/keys")]);

    let user = json!({
        "azp": "04b07795-8ddb-461a-bbee-02f9e1bf7b46", "scp": "user_impersonation", "name": "Ada", "preferred_username": "ada@corp.example",
    });
    let groups = json!({ "groups": ["44445555-eeee-6666-ffff-7777aaaa8888", ANALYSTS_GROUP] });
    for (token, client) in
        [(forecasts, "forecasts"), (entra_token(with(user.clone(), groups.clone())), "analysts")]
    {
        let answer = ask(&gateway, &token, json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        check_record(&record_of(&gateway, &answer).await, &json!({ "client": client, "outcome": "served" }));
    }
    // A token with more groups than fit names none, and says where they are.
    let overage = json!({
        "_claim_names": { "groups": "src1" },
        "_claim_sources": { "src1": { "endpoint": "https://graph.microsoft.com/v1.0/users/x/getMemberObjects" } },
    });
    let first_version =
        json!({ "iss": format!("https://sts.windows.net/{TENANT}/"), "ver": "1.0", "appid": FORECASTS_APP });
    let cases = [
        (with(user.clone(), overage), "no_client_for_token"),
        (with(user.clone(), json!({ "roles": ["Models.Use"] })), "no_client_for_token"),
        (with(user, json!({ "groups": ["44445555-eeee-6666-ffff-7777aaaa8888"] })), "no_client_for_token"),
        (json!({ "roles": ["Other.Role"] }), "no_client_for_token"),
        (with(role.clone(), first_version), "unknown_issuer"),
        (with(role.clone(), json!({ "aud": "00000003-0000-0000-c000-000000000000" })), "wrong_audience"),
        (with(role, json!({ "exp": 1_700_000_000 })), "token_expired"),
    ];
    let served = gateway.mock("payg").received().len();
    for (claims, code) in cases {
        check_refused(&ask(&gateway, &entra_token(claims), json!({})).await, 401, code);
    }
    let received = gateway.mock("payg").received();
    assert_eq!(received.len(), served);
    for one in received {
        assert_eq!(
            (one.header("authorization"), one.header("api-key")),
            (None, Some(&*credential_of("payg")))
        );
    }
}

/// So many more clients, each with a key that is its name.
fn many_clients(config: &mut Value) {
    let clients = config["clients"].as_array_mut().unwrap();
    clients.extend((0..CLIENTS).map(|at| {
        let hash = hex::encode(Sha256::digest(client(at)));
        json!({ "name": client(at), "api_keys": [{ "sha256": hash }], "models": ["*"] })
    }));
}

const CLIENTS: usize = 40;

fn client(at: usize) -> String {
    format!("client-{at}")
}

/// Those of many clients whom the new version serves, each asked on a connection of its own.
async fn on_next(gateway: &Gateway) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for at in 0..CLIENTS {
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(client(at));
        let request = request.header("connection", "close").json(&chat("hello"));
        let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        if answer.json()["model"] == "gpt-4o-next" {
            found.insert(at);
        }
    }
    found
}

/// These shares for the two versions, and a client that is known as soon as they hold.
fn shares(stable: u32, next: u32) -> impl FnOnce(&mut Bootstrap) {
    move |whole| {
        let gateway = whole.gateway_mut().unwrap();
        gateway["models"][0]["backends"][0]["weight"] = json!(stable);
        gateway["models"][0]["backends"][1]["weight"] = json!(next);
        // It is no canary any more.
        gateway["models"][0]["backends"][1].as_object_mut().unwrap().remove("share_max");
        let hash = hex::encode(Sha256::digest(format!("witness-{next}")));
        gateway["clients"][0]["api_keys"] = json!([{ "sha256": hash }]);
    }
}

/// Until the listener of these shares is the one that answers.
async fn until(gateway: &Gateway, next: u32) {
    let start = std::time::Instant::now();
    loop {
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url()));
        let request = request.bearer_auth(format!("witness-{next}")).header("connection", "close");
        match request.json(&chat("hello")).send().await.unwrap().status().as_u16() {
            200 => return,
            status => assert_eq!(status, 401),
        }
        assert!(start.elapsed().as_secs() < 30, "the shares do not change");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_grows_by_clients_and_keeps_those_it_has() {
    let options = ["--drain-time-s", "60", "--drain-strategy", "immediate"];
    let gateway = Gateway::start(setup("canary").edit(many_clients).from_files().options(options));
    let gateway = gateway.await.unwrap();
    run_readme("canary", &gateway, &[]).await;

    let tenth = on_next(&gateway).await;
    // The names decide, so these are the same each time.
    assert!((1..=CLIENTS / 5).contains(&tenth.len()), "{tenth:?}");
    assert_eq!(on_next(&gateway).await, tenth);
    gateway.push(shares(50, 50)).unwrap();
    until(&gateway, 50).await;
    let half = on_next(&gateway).await;
    assert!(half.is_superset(&tenth), "{tenth:?} {half:?}");
    assert!((CLIENTS / 3..=2 * CLIENTS / 3).contains(&half.len()), "{half:?}");
    gateway.push(shares(0, 100)).unwrap();
    until(&gateway, 100).await;
    assert_eq!(on_next(&gateway).await.len(), CLIENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_audit_counts_is_what_enforcement_refuses() {
    let gateway = start("audit-first").await;
    run_readme("audit-first", &gateway, &[]).await;
    let bad = || json!({ "max_tokens": 4000, "n": 3 });
    let answer = ask(&gateway, "demo-notebook", bad()).await;
    assert_eq!(answer.status, 200);
    // Unchanged, but for what Tollgate always writes.
    let received = gateway.mock("payg").received().pop().unwrap().json();
    check_record(&received, &bad());
    let told = details(&record_of(&gateway, &answer).await);
    let expected =
        json!({ "would_refuse": ["n"], "would_clamp": ["max_tokens"], "shadow_refusals": ["tokens/day"] });
    check_record(&told, &expected);
    // Whoever keeps to the rules is told of nowhere.
    let good = ask(&gateway, "demo-notebook", json!({})).await;
    let told = details(&record_of(&gateway, &good).await);
    assert_eq!(
        (&told["would_refuse"], &told["would_clamp"], &told["shadow_refusals"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    drop(gateway);

    let enforced = |config: &mut Value| {
        config["policies"][0]["mode"] = json!("enforce");
        config["clients"][0]["limits"][0]["shadow"] = json!(false);
    };
    let gateway = Gateway::start(setup("audit-first").edit(enforced)).await.unwrap();
    check_refused(&ask(&gateway, "demo-notebook", bad()).await, 400, "parameter_above_maximum");
    let clamped = ask(&gateway, "demo-notebook", json!({ "max_tokens": 4000 })).await;
    assert_eq!(clamped.header("x-tollgate-clamped"), "max_tokens=512");
    let all = ask(&gateway, "demo-notebook", json!({ "max_tokens": 512 })).await;
    assert_eq!(all.status, 200);
    gateway.mock("payg").update(|settings| settings.completion_tokens = 512);
    assert_eq!(ask(&gateway, "demo-notebook", json!({ "max_tokens": 512 })).await.status, 200);
    check_refused(
        &ask(&gateway, "demo-notebook", json!({ "max_tokens": 512 })).await,
        429,
        "insufficient_quota",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vllm_and_azure_each_get_what_they_take() {
    let gateway = start("vllm-beside-azure").await;
    run_readme("vllm-beside-azure", &gateway, &[]).await;
    for backend in ["vllm", "azure"] {
        gateway.mock(backend).forget();
    }
    gateway.mock("vllm").update(|settings| settings.faults.push_back(Fault::close()));
    let tool = json!({ "type": "function", "function": { "name": "now", "parameters": {} } });
    let body = json!({
        "model": "assistant", "messages": [{ "role": "user", "content": "hello" }], "max_completion_tokens": 4, "stream": true,
        "tools": [tool],
    });
    let answer = gateway.post(CHAT, "demo-team", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(
        &record_of(&gateway, &answer).await,
        &json!({ "backend": "azure", "attempts": 2, "completion_tokens": "4" }),
    );

    let vllm = gateway.mock("vllm").received().pop().unwrap();
    assert_eq!(vllm.path, CHAT);
    assert_eq!((vllm.header("authorization"), vllm.header("api-key")), (None, None));
    let common = json!({ "messages": body["messages"], "tools": body["tools"], "stream": true });
    let expected = json!({
        "model": "meta-llama/Llama-3.3-70B-Instruct", "max_completion_tokens": 4, "max_tokens": null,
        "stream_options": { "include_usage": true },
    });
    check_record(&vllm.json(), &with(expected, common.clone()));

    let azure = gateway.mock("azure").received().pop().unwrap();
    assert_eq!(azure.path, "/openai/deployments/llama-33-70b/chat/completions?api-version=2024-06-01");
    assert_eq!((azure.header("authorization"), azure.header("api-key")), (None, Some("azure-key")));
    // Its version knows neither the cap's newer name nor stream_options.
    let expected = json!({ "max_tokens": 4, "max_completion_tokens": null, "stream_options": null });
    check_record(&azure.json(), &with(expected, common));
}

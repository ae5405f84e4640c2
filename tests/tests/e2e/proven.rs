//! Does it count what Envoy has proved already: a token, a certificate, what an earlier filter says?

use std::process::Stdio;

use jsonwebtoken::Algorithm;
use rcgen::SanType;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tollgate_tests::harness::{Answer, Gateway, Setup, tools};

use crate::issuer::{AUDIENCE, ISSUER, public, research, token, token_with};
use crate::requests::{CHAT, WEB_SHOP, chat, check_record, record_of};
use crate::terminator::Authority;
use crate::tls_listener::{listen_with_tls, tls_port};

fn http_filters(listener: &mut Value) -> &mut Vec<Value> {
    let path = "/filter_chains/0/filters/0/typed_config/http_filters";
    listener.pointer_mut(path).unwrap().as_array_mut().unwrap()
}

fn first_listener(envoy: &mut Value) -> &mut Value {
    envoy.pointer_mut("/static_resources/listeners/0").unwrap()
}

async fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let mut request = gateway.http().post(format!("{}{CHAT}", gateway.url())).json(&chat("hello"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

async fn check_served(gateway: &Gateway, headers: &[(&str, &str)], client: &str) {
    let answer = ask(gateway, headers).await;
    assert_eq!(answer.status, 200, "{headers:?}: {}", answer.text());
    check_record(&record_of(gateway, &answer).await, &json!({ "client": client, "outcome": "served" }));
}

async fn check_refused(gateway: &Gateway, headers: &[(&str, &str)], code: &str) {
    let answer = ask(gateway, headers).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (401, Some(code)), "{headers:?}");
}

/// Envoy verifies tokens before Tollgate sees them; whether it leaves them in the request is the operator's choice.
fn verified_by_envoy(forward: bool) -> impl FnOnce(&mut Value) + Send {
    move |envoy| {
        let keys = json!({ "keys": public("rsa-1") }).to_string();
        let provider = json!({
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "local_jwks": { "inline_string": keys },
            "forward": forward,
            "payload_in_metadata": "entra-payload",
        });
        let requirements = json!([{ "provider_name": "entra" }, { "allow_missing": {} }]);
        let filter = json!({
            "name": "envoy.filters.http.jwt_authn",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": { "entra": provider },
                "rules": [{
                    "match": { "prefix": "/" },
                    "requires": { "requires_any": { "requirements": requirements } },
                }],
            },
        });
        http_filters(first_listener(envoy)).insert(0, filter);
    }
}

#[tokio::test]
async fn a_token_that_envoy_has_verified_needs_no_keys_here() {
    let proof = || json!({ "verified_by_envoy": { "jwt_authn_metadata": "entra-payload" } });
    let good = format!("Bearer {}", token("rsa-1", Algorithm::RS256));
    let other = token_with("rsa-1", Algorithm::RS256, json!({ "roles": ["ai.admin"] }));
    for forward in [true, false] {
        let setup = Setup::new().workers(1).edit(research(proof())).patch(verified_by_envoy(forward));
        let gateway = Gateway::start(setup).await.unwrap();
        check_served(&gateway, &[("authorization", &good)], "research").await;
        check_served(&gateway, &[("api-key", WEB_SHOP)], "web-shop").await;
        check_refused(&gateway, &[], "missing_api_key").await;
        check_refused(&gateway, &[("authorization", &format!("Bearer {other}"))], "no_client_for_token")
            .await;
        check_refused(&gateway, &[("authorization", &good), ("api-key", WEB_SHOP)], "ambiguous_api_key")
            .await;
        let sent = format!("{:?}", gateway.mock("ptu").received());
        assert!(!sent.contains(good.split('.').nth(1).unwrap()), "{sent}");
    }
    // Where no filter verifies it, nothing here does.
    let gateway = Gateway::start(Setup::new().workers(1).edit(research(proof()))).await.unwrap();
    check_refused(&gateway, &[("authorization", &good)], "invalid_token").await;
}

/// A change of Envoy: a filter says by this header what `x-gate` has, and whatever clients say by it is taken out.
pub fn said_by_a_filter(header: &'static str) -> impl FnOnce(&mut Value) + Send {
    move |envoy| {
        let listener = first_listener(envoy);
        // What a filter of one's own would do.
        let gate = json!({ "header": { "key": header, "value": "%REQ(x-gate)%" } });
        http_filters(listener).insert(
            0,
            json!({
                "name": "gate",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                    "mutations": { "request_mutations": [{ "append": gate }] },
                },
            }),
        );
        let strip = "/filter_chains/0/filters/0/typed_config/early_header_mutation_extensions/0/typed_config/mutations";
        let mutations = listener.pointer_mut(strip).unwrap().as_array_mut().unwrap();
        mutations.push(json!({ "remove": header }));
    }
}

#[tokio::test]
async fn a_trusted_header_counts_only_if_an_earlier_filter_sets_it() {
    const HEADER: &str = "x-authenticated-client";
    let legacy = |config: &mut Value| {
        config["clients"].as_array_mut().unwrap().push(json!({
            "name": "legacy", "trusted_header": { "name": HEADER, "value": "legacy-system" }, "models": ["*"],
        }));
    };
    let gateway =
        Gateway::start(Setup::new().workers(1).edit(legacy).patch(said_by_a_filter(HEADER))).await.unwrap();
    check_served(&gateway, &[("x-gate", "legacy-system")], "legacy").await;
    check_refused(&gateway, &[(HEADER, "legacy-system")], "missing_api_key").await;
    check_refused(&gateway, &[("x-gate", "somebody")], "no_client_for_token").await;
    check_refused(&gateway, &[("x-gate", "legacy-system"), ("api-key", WEB_SHOP)], "ambiguous_api_key").await;
    for received in gateway.mock("ptu").received() {
        assert_eq!(received.header(HEADER), None);
    }
}

#[tokio::test]
async fn a_certificate_that_envoy_has_verified_is_as_good_as_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let write = |file: &str, text: String| {
        let path = dir.path().join(file);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let authorities = write("authorities.pem", authority.pem());
    let server = write("server.pem", authority.pem_for(dns("localhost")));
    let partner = write("partner.pem", authority.pem_for(uri("spiffe://corp/partner")));
    let machine = write("machine.pem", authority.pem_for(dns("batch.corp.example")));
    let stranger = write("stranger.pem", authority.pem_for(uri("spiffe://corp/other")));

    let clients = |config: &mut Value| {
        config["clients"].as_array_mut().unwrap().extend([
            json!({ "name": "partner", "certificate": { "uri_san": "spiffe://corp/partner" }, "models": ["*"] }),
            json!({ "name": "machine", "certificate": { "dns_san": "batch.corp.example" }, "models": ["*"] }),
        ]);
    };
    let with_tls = listen_with_tls(server, Some(authorities.clone()));
    let gateway = Gateway::start(Setup::new().workers(1).edit(clients).patch(with_tls)).await.unwrap();
    let port = tls_port(&gateway).await;

    let cases = [
        (Some(&partner), 200, Some("partner")),
        (Some(&machine), 200, Some("machine")),
        (Some(&stranger), 401, None),
        (None, 401, None),
    ];
    for (at, (certificate, status, client)) in cases.into_iter().enumerate() {
        let answer = over_tls(&port, &authorities, certificate).await;
        assert_eq!(answer["status"], status, "{certificate:?}: {answer}");
        let log = gateway.wait_for_log(at + 1).await.unwrap();
        assert_eq!(log[at]["client"].as_str(), client, "{certificate:?}");
    }
    // Without TLS nothing is proved.
    check_refused(&gateway, &[("x-forwarded-client-cert", "URI=spiffe://corp/partner")], "missing_api_key")
        .await;
}

/// Asks as whom the certificate says; answers `status` and `body`.
async fn over_tls(port: &str, authorities: &str, certificate: Option<&String>) -> Value {
    let python = tokio::task::spawn_blocking(tools::python).await.unwrap().unwrap();
    let mut process = Command::new(python)
        .arg(tools::workspace().join("tests/python/mtls.py"))
        .args([port, CHAT, authorities])
        .args(certificate)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(chat("hello").to_string().as_bytes()).await.unwrap();
    drop(input);
    let output = process.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

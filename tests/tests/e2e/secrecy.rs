//! Does what is secret stay where it belongs, and does nobody route but us?

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup, credential_of};
use tollgate_tests::mock::{Fault, Received, Settings};

use crate::envoy_lines::raw;
use crate::issuer::{public, research, token, token_with};
use crate::requests::{
    BATCH, CHAT, COMPLETIONS, EMBEDDING, EMBEDDINGS, INSTRUCT, WEB_SHOP, chat, check_record,
    nobody_is_limited, record_of, with,
};

const BACKENDS: [&str; 3] = ["ptu", "payg-a", "payg-b"];

async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut request = gateway.http().post(format!("{}{path}", gateway.url())).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// Everything a backend was sent, as text.
fn all_of(received: &Received) -> String {
    format!(
        "{} {} {:?} {}",
        received.method,
        received.path,
        received.headers,
        String::from_utf8_lossy(&received.body)
    )
}

#[tokio::test]
async fn a_backend_is_sent_its_own_key_and_nobody_elses() {
    // So that all three are asked for each request, by headers that they share.
    let busy = || Settings { faults: [Fault::answer(408).always()].into(), ..Settings::default() };
    let setup = Setup::new().workers(1).edit(nobody_is_limited).mock("ptu", busy()).mock("payg-a", busy());
    let inline = json!({ "keys": public("rsa-1") });
    let gateway = Gateway::start(setup.edit(research(inline))).await.unwrap();
    let bearer = format!("Bearer {WEB_SHOP}");
    let token = token("rsa-1", Algorithm::RS256);
    let token_bearer = format!("Bearer {token}");
    let cookie = format!("session={token}");
    let ways: [&[(&str, &str)]; 5] = [
        &[("authorization", &token_bearer), ("x-api-key", &token), ("cookie", &cookie)],
        &[("authorization", &bearer)],
        &[("api-key", WEB_SHOP)],
        &[("authorization", &bearer), ("api-key", WEB_SHOP)],
        &[
            ("api-key", WEB_SHOP),
            ("x-api-key", "demo-web-shop"),
            ("proxy-authorization", "Bearer demo-web-shop"),
            ("cookie", "key=demo-web-shop"),
            ("openai-organization", "org-of-the-client"),
            ("openai-project", "project-of-the-client"),
        ],
    ];
    for (at, headers) in ways.iter().enumerate() {
        let answer =
            post(&gateway, CHAT, headers, &with(chat("secret"), json!({ "stream": at % 2 == 1 }))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for backend in BACKENDS {
            let sent = all_of(&gateway.mock(backend).received()[at]);
            for other in BACKENDS {
                let has = sent.contains(&credential_of(other));
                assert_eq!(has, other == backend, "{other}'s key at {backend}: {sent}");
            }
            let foreign = [WEB_SHOP, "of-the-client", "x-tollgate-", "x-envoy-", "cookie"];
            for foreign in foreign.into_iter().chain(token.split('.')) {
                assert!(!sent.contains(foreign), "{foreign} at {backend}: {sent}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_learns_nothing_of_backends_but_their_answer() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let told = gateway.http().get(format!("{}/v1/models", gateway.mock("ptu").url())).send().await.unwrap();
    assert_eq!(told.headers()["x-ms-region"], "ptu", "the mock tells it to whoever asks it directly");
    gateway.mock("ptu").update(|settings| {
        let fault = Fault::answer(400)
            .header("azure-openai-deployment-utilization", "71%")
            .header("x-envoy-upstream-service-time", "5")
            .header("x-envoy-decorator-operation", "vllm.models.svc.cluster.local:8000/*")
            .header("set-cookie", "__cf_bm=1")
            .header("cf-ray", "1-ARN")
            .header("alt-svc", "h3=\":443\"")
            .header("link", "<https://eu-ptu.openai.azure.com/openai>; rel=next")
            .header("refresh", "0; url=https://eu-ptu.openai.azure.com")
            .header("x-served-by", "eu-ptu")
            .header("x-azure-ref", "eu-ptu")
            .header("x-litellm-model-api-base", "https://eu-ptu.openai.azure.com")
            .header("ms-azureml-model-error-reason", "eu-ptu")
            .header("x-request-id", "req-of-eu-ptu")
            .header("operation-location", "https://eu-ptu.openai.azure.com/openai/operations/1")
            .header("x-ratelimit-remaining-tokens", "12345");
        settings.faults.push_back(fault);
    });
    for status in [400, 200] {
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("who are you")).await.unwrap();
        assert_eq!(answer.status, status);
        let names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
        let reveals = [
            "x-ms-",
            "apim-",
            "azure",
            "x-envoy-",
            "remaining-requests",
            "openai-organization",
            "litellm",
            "azureml",
            "served-by",
            "link",
            "refresh",
            "cookie",
            "cf-",
            "alt-svc",
            "location",
        ];
        let revealed = names.iter().find(|name| reveals.iter().any(|part| name.contains(part)));
        assert_eq!(revealed, None, "{names:?}");
        // The request's own name is the gateway's, not the provider's.
        assert_ne!(answer.header("x-request-id"), answer.header("x-tollgate-provider-request-id"));
        if status == 400 {
            assert_eq!(answer.header("x-tollgate-provider-request-id"), "req-of-eu-ptu");
        }
        // The limits that are told are the client's own.
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), "100000");
        assert_ne!(answer.header("x-ratelimit-remaining-tokens"), "12345");
    }
}

#[tokio::test]
async fn a_backend_gets_only_the_headers_that_are_listed() {
    let with_other = |config: &mut Value| config["pass_headers"] = json!(["x-corp-*"]);
    let setup = Setup::new().workers(1).edit(nobody_is_limited).edit(with_other);
    let gateway = Gateway::start(setup).await.unwrap();
    let passes = [
        ("x-corp-team", "a"),
        ("x-stainless-lang", "python"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("openai-beta", "assistants=v2"),
        ("x-ms-client-request-id", "b"),
        ("idempotency-key", "c"),
    ];
    let stays = [
        ("x-ms-spillover-deployment", "expensive"),
        ("x-ms-oai-image-generation-deployment", "expensive"),
        ("azureml-model-deployment", "expensive"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/v1/files"),
        ("x-rewrite-url", "/v1/files"),
        ("x-forwarded-host", "elsewhere"),
        ("x-forwarded-proto", "ftp"),
        ("forwarded", "for=203.0.113.7"),
        ("cf-connecting-ip", "203.0.113.7"),
        ("x-real-ip", "203.0.113.7"),
        ("true-client-ip", "203.0.113.7"),
        ("apim-debug", "x"),
        ("ocp-apim-subscription-key", "x"),
        ("x-litellm-api-key", "x"),
        ("cookie", "a=b"),
        ("referer", "https://intranet.example/secret"),
    ];
    let whole: Vec<_> = passes.into_iter().chain(stays).collect();
    for (key, path, body) in
        [(WEB_SHOP, CHAT, chat("hello")), (BATCH, "/v1/batches", json!({ "input_file_id": "f" }))]
    {
        let mut headers = vec![("api-key", key)];
        headers.extend(&whole);
        let answer = post(&gateway, path, &headers, &body).await;
        assert!(answer.status < 500, "{path}: {}", answer.status);
        let received = BACKENDS.iter().flat_map(|backend| gateway.mock(backend).received()).next().unwrap();
        let mut names: Vec<_> = received.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.retain(|name| !["api-key", "authorization"].contains(name));
        names.sort_unstable();
        let mut expected: Vec<_> = passes.iter().map(|(name, _)| *name).collect();
        expected.extend(["accept", "content-length", "content-type", "host", "x-request-id"]);
        expected.sort_unstable();
        assert_eq!(names, expected, "{path}");
        BACKENDS.iter().for_each(|backend| gateway.mock(backend).forget());
    }
}

/// What the filter itself would write to send a request to one backend: base64 of a protobuf `Value` that is a list of
/// `{name: BACKEND}`.
fn candidates(backend: &str) -> String {
    /// A field of a message that is a message or a string itself, shorter than 128 bytes.
    fn field(number: u8, inner: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat()
    }
    let name = [field(1, b"name"), field(2, &field(3, backend.as_bytes()))].concat();
    let group = field(5, &field(1, &name));
    STANDARD.encode(field(6, &field(1, &group)))
}

/// Envoy strips nothing itself, and takes every client for one of its own, whose headers count.
fn trust_everybody(envoy: &mut Value) {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager = envoy.pointer_mut(manager).unwrap().as_object_mut().unwrap();
    manager.remove("early_header_mutation_extensions").unwrap();
    let everywhere = json!([ { "address_prefix": "0.0.0.0", "prefix_len": 0 } ]);
    manager.insert("internal_address_config".to_owned(), json!({ "cidr_ranges": everywhere }));
}

#[tokio::test]
async fn our_own_headers_change_nothing_when_a_client_sets_them() {
    check_internal_headers(Setup::new()).await;
}

#[tokio::test]
async fn nor_do_they_where_envoy_lets_them_through_to_us() {
    check_internal_headers(Setup::new().patch(trust_everybody)).await;
}

async fn check_internal_headers(setup: Setup) {
    let gateway = Gateway::start(setup.workers(1).edit(nobody_is_limited)).await.unwrap();
    let elsewhere = candidates("payg-b");
    let headers = [
        ("x-tollgate-candidates", elsewhere.as_str()),
        ("x-tollgate-client", "batch"),
        ("x-envoy-max-retries", "0"),
        ("x-envoy-max-retries", "9"),
        ("x-envoy-retry-on", "4xx,5xx,retriable-4xx,retriable-status-codes"),
        ("x-envoy-retriable-status-codes", "400,404"),
        ("x-envoy-retriable-header-names", "content-type"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
        ("x-envoy-upstream-stream-duration-ms", "1"),
        ("x-envoy-hedge-on-per-try-timeout", "true"),
        ("x-envoy-original-path", "/elsewhere"),
        ("x-envoy-upstream-alt-stat-name", "elsewhere"),
    ];
    // What becomes of a request without any of them: the fault it meets, its status, and how often each is asked.
    let cases = [
        (None, 200, [1, 0, 0]),
        (Some(Fault::answer(429).header("retry-after-ms", "0.001")), 200, [1, 1, 0]),
        (Some(Fault::answer(400)), 400, [1, 0, 0]),
    ];
    // Longer than the timeouts that are asked for, the backend being the one who waits.
    gateway.mock("ptu").update(|settings| settings.latency_ms = 20);
    for header in headers {
        for (fault, status, asked) in &cases {
            BACKENDS.iter().for_each(|backend| gateway.mock(backend).forget());
            gateway.mock("ptu").update(|settings| settings.faults = fault.iter().cloned().collect());
            let answer = post(&gateway, CHAT, &[("api-key", WEB_SHOP), header], &chat("hello")).await;
            let found = BACKENDS.map(|backend| gateway.mock(backend).received().len());
            assert_eq!((answer.status, &found), (*status, asked), "{header:?} {fault:?}");
            for sent in BACKENDS.iter().flat_map(|backend| gateway.mock(backend).received()) {
                assert_eq!(sent.header(header.0), None);
            }
            check_record(&record_of(&gateway, &answer).await, &json!({ "client": "web-shop" }));
        }
        // As many attempts as there are backends for the model, which here is one.
        BACKENDS.iter().for_each(|backend| gateway.mock(backend).forget());
        let fault = Fault::answer(429).header("retry-after-ms", "0.001");
        gateway.mock("payg-a").update(|settings| settings.faults = [fault].into());
        let body = json!({ "model": INSTRUCT, "prompt": "hello" });
        let answer = post(&gateway, COMPLETIONS, &[("api-key", BATCH), header], &body).await;
        let found = BACKENDS.map(|backend| gateway.mock(backend).received().len());
        assert_eq!((answer.status, found), (429, [0, 1, 0]), "{header:?}");
    }
}

#[tokio::test]
async fn no_log_has_a_word_of_a_prompt_or_an_answer_and_no_key() {
    // All that the filter could say; the rest of Envoy would print whole requests at this level.
    let inline = json!({ "keys": public("rsa-1") });
    let setup = Setup::new().edit(nobody_is_limited).edit(research(inline));
    let gateway = Gateway::start(setup).await.unwrap();
    let trace =
        gateway.http().post(format!("{}/logging?wasm=trace", gateway.admin_url())).send().await.unwrap();
    assert_eq!(trace.status(), 200);

    let private = "Zaubertrank";
    let key = "unknown-key-of-somebody";
    // One that is taken, and two that are not.
    let tokens = [json!({}), json!({ "exp": 1000 }), json!({ "azp": "someone" })]
        .map(|more| token_with("rsa-1", Algorithm::RS256, more));
    let bodies = [
        (CHAT, chat(private)),
        (CHAT, with(chat(private), json!({ "stream": true }))),
        (EMBEDDINGS, json!({ "model": EMBEDDING, "input": [private] })),
        (CHAT, with(chat(private), json!({ "max_tokens": private }))),
        (CHAT, with(chat(private), json!({ "stream_options": private }))),
        (CHAT, with(chat(private), json!({ "model": private }))),
        (CHAT, with(chat(private), json!({ private: private, "user": private }))),
        (COMPLETIONS, json!({ "model": INSTRUCT, "prompt": private })),
    ];
    let mut statuses = Vec::new();
    for (path, body) in &bodies {
        for key in [WEB_SHOP, BATCH, key].into_iter().chain(tokens.iter().map(String::as_str)) {
            statuses.push(gateway.post(path, key, body).await.unwrap().status);
        }
    }
    for broken in ["{\"messages\":\"Zaubertrank", "{\"Zaubertrank\":", "Zaubertrank", "{\"n\":Zaubertrank}"] {
        let request =
            gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).body(broken);
        statuses.push(request.send().await.unwrap().status().as_u16());
    }
    // Failures, fail-over and a stream that breaks off have messages of their own.
    let faults =
        [Fault::answer(429).header("retry-after-ms", "0.001"), Fault::close(), Fault::reset_after(5)];
    for fault in faults {
        gateway.mock("ptu").update(|settings| settings.faults.push_back(fault));
        let body = with(chat(private), json!({ "stream": true }));
        let request =
            gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
        let answer = request.send().await.unwrap();
        statuses.push(answer.status().as_u16());
        // One of them has no whole body.
        let _ = answer.bytes().await;
    }
    for status in [200, 400, 401, 403] {
        assert!(statuses.contains(&status), "{statuses:?}");
    }
    gateway.wait_for_log(statuses.len()).await.unwrap();

    let answered = gateway.mock("ptu").received()[0].response.clone();
    assert!(String::from_utf8_lossy(&answered).contains(private));
    let log = gateway.log_text().unwrap();
    assert!(log.contains("web-shop") && log.contains("invalid_json"), "{log}");
    let dump = gateway.admin("/config_dump").await.unwrap();
    let stats = gateway.admin("/stats/prometheus").await.unwrap();
    let keys = BACKENDS.map(credential_of);
    // A token's header is nobody's secret.
    let parts = tokens.iter().flat_map(|token| token.split('.').skip(1));
    let secrets = keys.iter().map(String::as_str).chain([WEB_SHOP, BATCH, key]).chain(parts);
    for secret in secrets.clone().chain([private]) {
        let line = log.lines().find(|line| line.to_lowercase().contains(&secret.to_lowercase()));
        assert_eq!(line, None, "{secret}");
    }
    for secret in secrets.chain([private]) {
        assert!(!stats.contains(secret) && !dump.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_client_writes_nothing_into_the_access_log() {
    let gateway = Gateway::start(Setup::new()).await.unwrap();
    // As it stands in a line it would end one string and begin others. Envoy refuses the path before it gives an id of its own.
    let forged = r#"xyzzy","client":"other","outcome":"served","x":""#;
    for (path, id) in [("/v1%2fx", forged), (CHAT, forged), ("/v1%2fx", "\u{7f}xyzzy\u{e9}")] {
        let asks =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n");
        raw(&gateway, &asks).await;
    }
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
    let record = record_of(&gateway, &answer).await;
    check_record(&record, &json!({ "client": "web-shop", "status": 200 }));
    // Each line is read as JSON there.
    let log = gateway.wait_for_log_where(|log| log.len() >= 4).await.unwrap();
    let clients: Vec<_> =
        log.iter().filter(|line| line.get("client").is_some_and(Value::is_string)).collect();
    assert_eq!(clients, [&record]);
    assert!(!gateway.log_text().unwrap().contains("xyzzy"));
}

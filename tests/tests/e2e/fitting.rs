//! Does each backend of a pool get the body that it takes?

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::Fault;

use crate::drivers::{Call, SDKS, outcomes};
use crate::requests::{CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, refusal, with};

/// The default backends for `gpt-4o`, in their order.
const ORDER: [&str; 3] = ["ptu", "payg-a", "payg-b"];

/// What the model is called at each of them.
const NAMES: [&str; 3] = ["gpt-4o-ptu", "a-name-that-is-longer-than-the-others", "x"];

/// An old dated version, Azure's v1 and a server that speaks OpenAI's API: each takes another body.
fn mixed(config: &mut Value) {
    nobody_is_limited(config);
    config["backends"][0]["api_version"] = json!("2024-06-01");
    for (place, name) in NAMES.into_iter().enumerate() {
        config["models"][0]["backends"][place]["deployment"] = json!(name);
    }
}

/// Ejections are Envoy's own judgement, which is not what is asked about here.
fn nobody_is_ejected(envoy: &mut Value) {
    for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
        cluster.as_object_mut().unwrap().remove("outlier_detection");
    }
}

fn setup() -> Setup {
    Setup::new().workers(1).edit(mixed).patch(nobody_is_ejected)
}

async fn start() -> Gateway {
    Gateway::start(setup()).await.unwrap()
}

fn fails_once(gateway: &Gateway, backend: &str, fault: Fault) {
    gateway.mock(backend).update(|settings| settings.faults = [fault].into());
}

#[tokio::test]
async fn every_attempt_of_one_request_has_its_own_body_and_its_length() {
    each_attempt_has_its_own(&start().await).await;
}

#[tokio::test]
async fn so_it_has_at_backends_that_speak_http2() {
    let gateway = Gateway::start(setup().patch(backends_speak_http2)).await.unwrap();
    each_attempt_has_its_own(&gateway).await;
    for backend in ORDER {
        let labels = [("envoy_cluster_name", backend)];
        assert!(gateway.metric("envoy_cluster_upstream_cx_http2_total", &labels).await.unwrap() > 0.0);
    }
}

fn backends_speak_http2(envoy: &mut Value) {
    for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
}

async fn each_attempt_has_its_own(gateway: &Gateway) {
    // From some hundred bytes to nearly all that a client may send; the edits before and behind the text.
    for (kib, fault) in
        [(0, Fault::answer(500)), (100, Fault::close()), (1000, Fault::answer(429)), (3900, Fault::close())]
    {
        ORDER.iter().for_each(|backend| gateway.mock(backend).forget());
        fails_once(gateway, "ptu", fault.clone().header("retry-after-ms", "0.001"));
        fails_once(gateway, "payg-a", fault.header("retry-after-ms", "0.001"));
        let text = "0123456789abcdef".repeat(kib * 64);
        // As text, for what matters is where its members stand.
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":"{text}"}}],"model":"gpt-4o","max_completion_tokens":50,"stream":true}}"#
        );
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{kib} KiB");
        answer.text().await.unwrap();
        for (backend, name) in ORDER.into_iter().zip(NAMES) {
            let received = gateway.mock(backend).received();
            let [received] = received.as_slice() else { panic!("{backend}: {}", received.len()) };
            let sent = received.json();
            let length = received.body.len().to_string();
            assert_eq!(received.header("content-length"), Some(length.as_str()), "{backend}");
            let is_old = backend == "ptu";
            let cap = if is_old { "max_tokens" } else { "max_completion_tokens" };
            let mut expected = json!({
                "messages": [{ "role": "user", "content": text }], "model": name, cap: 50, "stream": true,
            });
            if is_old {
                // It reads the name in its path, and gets the one that the others read.
                expected["model"] = json!(NAMES[1]);
            } else {
                expected["stream_options"] = json!({ "include_usage": true });
            }
            assert!(sent == expected, "{backend} {kib} KiB: {}", &received.body.len());
        }
    }
}

#[tokio::test]
async fn the_sdks_are_served_by_whichever_style_is_left() {
    let gateway = start().await;
    let calls: Vec<_> = SDKS
        .iter()
        .flat_map(|sdk| [json!({}), json!({ "stream": true })].map(|more| Call::chat(*sdk, WEB_SHOP, more)))
        .collect();
    for (at, backend) in ORDER.into_iter().enumerate() {
        for down in &ORDER[..at] {
            let fault = Fault::answer(500).always();
            gateway.mock(down).update(|settings| settings.faults = [fault].into());
        }
        for (call, outcome) in calls.iter().zip(outcomes(&gateway, &calls).await) {
            let answer = &outcome["answer"];
            let choices = match answer.as_array() {
                // Nobody asked for the usage, so nobody is told, whichever backend was asked for it.
                Some(chunks) => {
                    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()), "{backend} {outcome}");
                    // Azure's first one has none.
                    &chunks.last().unwrap()["choices"]
                }
                None => &answer["choices"],
            };
            assert_eq!(choices[0]["index"], 0, "{backend} {:?} {outcome}", call.sdk);
        }
        assert_eq!(gateway.mock(backend).received().len(), calls.len(), "{backend}");
    }
}

#[tokio::test]
async fn a_request_that_no_backend_can_take_is_refused_with_the_field() {
    let setup = Setup::new().workers(1).edit(mixed).edit(|config| {
        config["models"][0]["backends"] = json!([{ "backend": "ptu", "deployment": "gpt-4o-ptu" }]);
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &with(chat("hi"), json!({ "store": true }))).await.unwrap();
    let message = "`store` is taken by no backend that may serve this request: it needs API version \
                   2024-12-01-preview or a later preview.";
    let expected = refusal(message, "invalid_request_error", Some("store"), "unsupported_parameter");
    assert_eq!((answer.status, answer.json()), (400, expected));
    assert_eq!(gateway.mock("ptu").received(), []);
}

fn has_models(gateway: &Gateway, backend: &str, models: &[&str]) {
    let models = models.iter().map(|model| (*model).to_owned()).collect();
    gateway.mock(backend).update(|settings| settings.models = Some(models));
}

#[tokio::test]
async fn a_missing_deployment_is_reported_and_the_next_backend_asked() {
    let gateway = start().await;
    has_models(&gateway, "ptu", &["another"]);
    let sentence =
        json!({ "error": { "message": "Could not find an existing deployment to match the model." } });
    fails_once(&gateway, "payg-a", Fault::answer(400).body(sentence));
    for stream in [false, true] {
        let body = with(chat("anybody"), json!({ "stream": stream }));
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-tollgate-elsewhere"), "");
        let attempts = if stream { 1 } else { 3 };
        let expected = json!({ "attempts": attempts, "backend": "payg-b", "outcome": "served" });
        check_record(&record_of(&gateway, &answer).await, &expected);
    }
    // They pause: the second request went by them.
    assert_eq!(ORDER.map(|backend| gateway.mock(backend).received().len()), [1, 1, 2]);
    for backend in ["ptu", "payg-a"] {
        gateway.wait_for_metric("tollgate_missing_deployments", &[("backend", backend)], 1.0).await.unwrap();
    }
    let log = gateway.log_text().unwrap();
    assert!(log.contains("backend ptu has no deployment gpt-4o-ptu: "), "{log}");
}

#[tokio::test]
async fn when_no_backend_has_its_deployment_the_client_is_told_so() {
    let gateway = start().await;
    ORDER.iter().for_each(|backend| {
        let body = json!({ "error": { "code": "DeploymentNotFound", "message": "It does not exist." } });
        gateway
            .mock(backend)
            .update(|settings| settings.faults = [Fault::answer(404).body(body).always()].into());
    });
    // The others pause after the first time; the last one is asked again and again.
    for attempts in [3, 1, 1] {
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("anybody")).await.unwrap();
        let message = "No backend has the deployment that this gateway's configuration names for the model.";
        let expected = refusal(message, "server_error", None, "deployment_not_found");
        assert_eq!((answer.status, answer.json()), (503, expected));
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        let expected =
            json!({ "attempts": attempts, "outcome": "deployment_not_found", "prompt_tokens": "0" });
        check_record(&record_of(&gateway, &answer).await, &expected);
    }
}

#[tokio::test]
async fn a_refused_credential_goes_elsewhere_and_is_told_as_503() {
    let gateway = start().await;
    let invalid =
        json!({ "error": { "code": "401", "message": "Access denied due to invalid subscription key." } });
    let firewall = json!({ "error": { "code": "403", "message": "Access denied due to Virtual Network/Firewall rules." } });
    // What forbids Envoy to ask the next one is taken out.
    fails_once(
        &gateway,
        "ptu",
        Fault::answer(401).body(invalid.clone()).header("x-envoy-ratelimited", "true"),
    );
    fails_once(&gateway, "payg-a", Fault::answer(403).body(firewall));
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("anybody")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = json!({ "attempts": 3, "backend": "payg-b", "outcome": "served" });
    check_record(&record_of(&gateway, &answer).await, &expected);
    for backend in ["ptu", "payg-a"] {
        let labels = [("backend", backend)];
        gateway.wait_for_metric("tollgate_backend_auth_failures", &labels, 1.0).await.unwrap();
    }
    let log = gateway.log_text().unwrap();
    assert!(log.contains("backend ptu refuses this gateway's credential with 401"), "{log}");
    // The first two pause, and the last one refuses too.
    fails_once(&gateway, "payg-b", Fault::answer(401).body(invalid));
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("anybody")).await.unwrap();
    let message = "The backend does not accept this gateway's own credential. Your key is not at fault.";
    let expected = refusal(message, "server_error", None, "backend_credential_refused");
    assert_eq!((answer.status, answer.json()), (503, expected));
}

#[tokio::test]
async fn a_403_that_is_too_long_to_be_read_goes_elsewhere_too() {
    let gateway = start().await;
    // A page of a firewall in between, say.
    let page = || Fault::answer(403).header("content-type", "text/html").body(json!("x".repeat(100_000)));
    fails_once(&gateway, "ptu", page());
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("anybody")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    // It makes no pause.
    ORDER.iter().for_each(|backend| fails_once(&gateway, backend, page()));
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("anybody")).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("backend_credential_refused")));
    check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 3, "prompt_tokens": "0" }));
}

#[tokio::test]
async fn a_backend_cannot_forbid_that_the_next_one_is_asked() {
    let gateway = start().await;
    for status in [429, 500] {
        let fault =
            Fault::answer(status).header("x-envoy-ratelimited", "true").header("retry-after-ms", "0.001");
        fails_once(&gateway, "ptu", fault);
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("anybody")).await.unwrap();
        assert_eq!(answer.status, 200, "{status}");
        check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 2, "outcome": "served" }));
    }
}

#[tokio::test]
async fn no_other_refusal_goes_elsewhere_and_a_long_one_passes_whole() {
    let gateway = start().await;
    let error =
        |code: &str, more: &str| json!({ "error": { "code": code, "message": format!("no {more}") } });
    // Longer than what is read of an error.
    let long = "x".repeat(100_000);
    for (status, body) in [
        (400, error("content_filter", "")),
        (400, error("invalid_value", "Could not find an existing deployment")),
        (400, error("DeploymentNotFound", &long)),
        (403, error("content_policy_violation", "")),
        (404, error("model_not_found", &long)),
    ] {
        // Not even if the backend itself says what only an attempt may.
        let fault = Fault::answer(status).body(body.clone()).header("x-tollgate-elsewhere", "1");
        fails_once(&gateway, "ptu", fault);
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("who")).await.unwrap();
        assert!((answer.status, answer.json()) == (status, body), "{status}");
        check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 1, "backend": "ptu" }));
    }
}

/// Streams must begin within so long; nothing else must.
fn soon(config: &mut Value) {
    config["models"][0]["stream_start_ms_max"] = json!(500);
}

#[tokio::test]
async fn a_stream_leaves_a_silent_backend_for_the_next_one() {
    let setup = Setup::new().workers(1).edit(mixed).edit(soon).patch(nobody_is_ejected);
    let gateway = Gateway::start(setup).await.unwrap();
    fails_once(&gateway, "ptu", Fault::hang());
    let answer = gateway.post(CHAT, WEB_SHOP, &with(chat("soon"), json!({ "stream": true }))).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 2, "backend": "payg-a" }));
    let received = gateway.mock("payg-a").received().remove(0);
    assert_eq!(received.header("x-envoy-upstream-rq-per-try-timeout-ms"), None);

    // When the last one is silent too, the client is told.
    ORDER.iter().for_each(|backend| fails_once(&gateway, backend, Fault::hang()));
    let answer = gateway.post(CHAT, WEB_SHOP, &with(chat("soon"), json!({ "stream": true }))).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &json!("backend_timeout")));
}

#[tokio::test]
async fn a_whole_answer_leaves_a_silent_backend_only_where_accepted() {
    let bounded = |config: &mut Value| config["models"][0]["answer_start_ms_max"] = json!(500);
    let setup = Setup::new().workers(1).edit(mixed).edit(bounded).patch(nobody_is_ejected);
    let gateway = Gateway::start(setup).await.unwrap();
    fails_once(&gateway, "ptu", Fault::hang());
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("soon")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 2, "backend": "payg-a" }));
    // When the last one is silent too, the client is told.
    ORDER.iter().for_each(|backend| fails_once(&gateway, backend, Fault::hang()));
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("soon")).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &json!("backend_timeout")));
    // A stream has no such bound.
    gateway.mock("ptu").update(|settings| settings.latency_ms = 1500);
    let answer =
        gateway.post(CHAT, WEB_SHOP, &with(chat("slowly"), json!({ "stream": true }))).await.unwrap();
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 1, "backend": "ptu" }));
}

#[tokio::test]
async fn neither_a_long_answer_nor_a_long_stream_is_cut_off() {
    let setup = Setup::new().workers(1).edit(mixed).edit(soon).patch(nobody_is_ejected);
    let gateway = Gateway::start(setup).await.unwrap();
    // Three times as long as a stream may take to begin.
    gateway.mock("ptu").update(|settings| settings.latency_ms = 1500);
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("slowly")).await.unwrap();
    assert_eq!(answer.status, 200);
    check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 1, "backend": "ptu" }));

    gateway.mock("ptu").update(|settings| (settings.latency_ms, settings.chunk_delay_ms) = (0, 100));
    let answer =
        gateway.post(CHAT, WEB_SHOP, &with(chat("slowly"), json!({ "stream": true }))).await.unwrap();
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 1, "backend": "ptu" }));
}

/// The same model at a project of Azure's Foundry, at Gemini's and at OpenRouter's kind of address.
fn below_a_path(config: &mut Value) {
    nobody_is_limited(config);
    for (place, (style, base)) in
        [("azure-v1", "/api/projects/P-1/openai/v1"), ("openai", "/v1beta/openai"), ("openai", "/api/v1")]
            .into_iter()
            .enumerate()
    {
        let backend = config["backends"][place].as_object_mut().unwrap();
        backend.remove("api_version");
        backend.insert("style".to_owned(), json!(style));
        backend.insert("base_path".to_owned(), json!(base));
        config["models"][0]["backends"][place]["deployment"] = json!(NAMES[place]);
    }
    config["other_endpoints"] = json!(["payg-b"]);
    config["clients"][0]["endpoints"] = json!(["*", "other"]);
}

#[tokio::test]
async fn a_backend_is_asked_below_its_base_path() {
    let setup = Setup::new().workers(1).edit(below_a_path).patch(nobody_is_ejected);
    let gateway = Gateway::start(setup).await.unwrap();
    fails_once(&gateway, "ptu", Fault::answer(500));
    fails_once(&gateway, "payg-a", Fault::answer(500));
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let answer = gateway.post(path, WEB_SHOP, &chat("Hi")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = |backend: &str| gateway.mock(backend).received().last().map(|request| request.path.clone());
    assert_eq!(asked("ptu").as_deref(), Some("/api/projects/P-1/openai/v1/chat/completions"));
    assert_eq!(asked("payg-a").as_deref(), Some("/v1beta/openai/chat/completions"));
    assert_eq!(asked("payg-b").as_deref(), Some("/api/v1/chat/completions"));
    let files = gateway.http().get(format!("{}/v1/files?limit=1", gateway.url())).header("api-key", WEB_SHOP);
    assert_eq!(files.send().await.unwrap().status(), 200);
    assert_eq!(asked("payg-b").as_deref(), Some("/api/v1/files?limit=1"));
}

//! Where does a request go when a backend cannot serve it?

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup, credential_of};
use tollgate_tests::mock::{Fault, Mock, Settings};

use crate::requests::{
    BATCH, CHAT, COMPLETIONS, INSTRUCT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, refusal,
    web_shop_has, with,
};

/// The default backends for `gpt-4o`, in their order.
const ORDER: [&str; 3] = ["ptu", "payg-a", "payg-b"];

fn fails_with(fault: Fault) -> Settings {
    Settings { faults: [fault].into(), ..Settings::default() }
}

/// How often each backend of the order was asked.
fn asked(gateway: &Gateway) -> [usize; 3] {
    ORDER.map(|backend| gateway.mock(backend).received().len())
}

async fn ask(gateway: &Gateway) -> Answer {
    gateway.post(CHAT, WEB_SHOP, &chat("who serves this")).await.unwrap()
}

/// Ejections are Envoy's own judgement, which is not what is asked about here.
fn nobody_is_ejected(envoy: &mut Value) {
    for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
        cluster.as_object_mut().unwrap().remove("outlier_detection");
    }
}

#[tokio::test]
async fn each_attempt_has_its_own_path_host_and_credential() {
    let setup = Setup::new()
        .workers(1)
        .mock("ptu", fails_with(Fault::answer(429)))
        .mock("payg-a", fails_with(Fault::answer(429)));
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(asked(&gateway), [1, 1, 1]);

    let sent = ORDER.map(|backend| gateway.mock(backend).received().remove(0));
    let azure = "/openai/deployments/gpt-4o-ptu/chat/completions?api-version=2024-10-21";
    let expected = [
        (azure, "ptu", Some(credential_of("ptu")), None),
        ("/openai/v1/chat/completions", "payg-a", Some(credential_of("payg-a")), None),
        ("/v1/chat/completions", "payg-b", None, Some(format!("Bearer {}", credential_of("payg-b")))),
    ];
    for (sent, (path, host, api_key, bearer)) in sent.iter().zip(&expected) {
        assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", *path));
        assert_eq!(sent.header("host"), Some(*host));
        assert_eq!(sent.header("api-key"), api_key.as_deref(), "{host}");
        assert_eq!(sent.header("authorization"), bearer.as_deref(), "{host}");
        // The same request every time.
        let expected = with(chat("who serves this"), json!({ "max_tokens": 256 }));
        assert_eq!(sent.json(), expected, "{host}");
        assert_eq!(sent.header("content-length"), Some(sent.body.len().to_string().as_str()));
    }
    let record = json!({ "backend": "payg-b", "attempts": 3, "status": 200, "outcome": "served" });
    check_record(&record_of(&gateway, &answer).await, &record);
    for (backend, status) in [("ptu", "429"), ("payg-a", "429"), ("payg-b", "200")] {
        let labels = [("backend", backend), ("status", status)];
        gateway.wait_for_metric("tollgate_upstream_responses", &labels, 1.0).await.unwrap();
    }
}

#[tokio::test]
async fn a_throttled_backend_is_left_alone_as_long_as_it_said() {
    let busy = Fault::answer(429).header("retry-after", "300");
    let gateway = Gateway::start(Setup::new().mock("ptu", fails_with(busy))).await.unwrap();
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(asked(&gateway), [1, 1, 0]);
    for at in 2..12 {
        // New connections, so that both workers are asked.
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
        let request = request.header("connection", "close").json(&chat("who serves this"));
        let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(asked(&gateway), [1, at, 0]);
        let record = record_of(&gateway, &answer).await;
        check_record(&record, &json!({ "backend": "payg-a", "attempts": 1 }));
    }
}

#[tokio::test]
async fn a_throttled_backend_is_first_again_once_its_time_is_over() {
    let pause = Duration::from_millis(400);
    let busy = Fault::answer(429).header("retry-after-ms", "400").header("retry-after", "1");
    let gateway = Gateway::start(Setup::new().mock("ptu", fails_with(busy))).await.unwrap();
    let throttled = Instant::now();
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(asked(&gateway), [1, 1, 0]);
    while asked(&gateway)[0] == 1 {
        assert!(throttled.elapsed() < Duration::from_secs(30), "never asked again");
        assert_eq!(ask(&gateway).await.status, 200);
    }
    assert!(throttled.elapsed() >= pause, "asked again after {:?}", throttled.elapsed());
    let so_far = asked(&gateway);
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(asked(&gateway), [so_far[0] + 1, so_far[1], 0]);
}

#[tokio::test]
async fn a_client_of_throttled_backends_waits_and_nobody_is_asked() {
    let busy = |seconds: &str| fails_with(Fault::answer(429).header("retry-after", seconds));
    let setup = Setup::new()
        .workers(1)
        .edit(web_shop_has(600))
        .mock("ptu", busy("300"))
        .mock("payg-a", busy("100"))
        .mock("payg-b", busy("200"));
    let gateway = Gateway::start(setup).await.unwrap();
    let start = Instant::now();
    // The last backend's own refusal is what the client gets, but another one is back sooner.
    let answer = ask(&gateway).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "100"));
    assert_eq!((answer.header("retry-after-ms"), answer.header("x-should-retry")), ("100000", "false"));
    assert_eq!(answer.body, gateway.mock("payg-b").received()[0].response);
    assert_eq!(asked(&gateway), [1, 1, 1]);

    // Three times: a refused request leaves no reservation behind, or the third would find the budget spent.
    for _ in 0..3 {
        let answer = ask(&gateway).await;
        assert_eq!(answer.status, 429);
        let wait_ms: u128 = answer.header("retry-after-ms").parse().unwrap();
        assert!((100_000 - start.elapsed().as_millis()..=100_000).contains(&wait_ms), "{wait_ms}");
        assert_eq!(answer.header("retry-after"), wait_ms.div_ceil(1000).to_string());
        let tenths = wait_ms.div_ceil(100);
        let message = format!(
            "Every backend for this model is at its limit. Try again in {}.{} s.",
            tenths / 10,
            tenths % 10
        );
        assert_eq!(answer.json(), refusal(&message, "rate_limit_error", None, "backends_throttled"));
        let record = json!({ "backend": null, "outcome": "backends_throttled", "prompt_tokens": "0" });
        check_record(&record_of(&gateway, &answer).await, &record);
    }
    assert_eq!(asked(&gateway), [1, 1, 1]);
}

#[tokio::test]
async fn a_backend_that_is_the_only_one_is_asked_once() {
    let busy = Fault::answer(429).header("retry-after-ms", "0.001").always();
    let setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .patch(nobody_is_ejected)
        .mock("payg-a", fails_with(busy));
    let gateway = Gateway::start(setup).await.unwrap();
    let body = json!({ "model": INSTRUCT, "prompt": "hello" });
    let faults = [Fault::answer(429).header("retry-after-ms", "0.001"), Fault::answer(500), Fault::close()];
    for (at, fault) in faults.into_iter().enumerate() {
        gateway.mock("payg-a").update(|settings| settings.faults = [fault].into());
        let answer = gateway.post(COMPLETIONS, BATCH, &body).await.unwrap();
        assert_eq!(answer.status, [429, 500, 503][at]);
        check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 1, "backend": "payg-a" }));
        assert_eq!(asked(&gateway), [0, at + 1, 0]);
    }
}

#[tokio::test]
async fn a_failure_that_another_backend_may_not_have_is_tried_there() {
    let gateway = Gateway::start(Setup::new().workers(1).patch(nobody_is_ejected)).await.unwrap();
    let faults = [
        Fault::answer(408),
        Fault::answer(429).header("retry-after-ms", "0.001"),
        Fault::answer(500),
        Fault::answer(502),
        Fault::answer(503),
        Fault::answer(504),
        Fault::answer(507),
        Fault::answer(520),
        Fault::answer(529),
        Fault::answer(599),
        Fault::close(),
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        for body in [chat("again"), with(chat("again"), json!({ "stream": true }))] {
            ORDER.iter().for_each(|backend| gateway.mock(backend).forget());
            gateway.mock("ptu").update(|settings| settings.faults = [fault.clone()].into());
            let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
            assert_eq!((at, answer.status), (at, 200), "{}", answer.text());
            assert_eq!(asked(&gateway), [1, 1, 0], "{fault:?}");
            check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 2, "backend": "payg-a" }));
            // In between all is well: five failures in a row are a pause.
            check_record(&record_of(&gateway, &ask(&gateway).await).await, &json!({ "backend": "ptu" }));
        }
    }
}

#[tokio::test]
async fn a_backend_that_fails_steadily_is_asked_by_few_requests() {
    let failing = fails_with(Fault::answer(500).always());
    let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(nobody_is_ejected).mock("ptu", failing);
    let gateway = Gateway::start(setup).await.unwrap();
    let start = Instant::now();
    for _ in 0..40 {
        assert_eq!(ask(&gateway).await.status, 200);
    }
    // Five that find out, and one in three quarters of a second that goes to see.
    let most = 6 + usize::try_from(start.elapsed().as_millis() / 750).unwrap();
    let [failed, served, last] = asked(&gateway);
    assert!((5..=most).contains(&failed), "{failed} of at most {most}");
    assert_eq!((served, last), (40, 0));
    gateway.mock("ptu").update(|settings| settings.faults.clear());
    let so_far = asked(&gateway)[0];
    while asked(&gateway)[0] < so_far + 3 {
        assert!(start.elapsed() < Duration::from_secs(30), "never asked again");
        assert_eq!(ask(&gateway).await.status, 200);
    }
}

#[tokio::test]
async fn a_failure_that_is_the_requests_own_is_passed_on_as_it_is() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    for status in [400, 403, 404, 413, 422] {
        let body = json!({ "error": { "code": "content_filter", "message": "no" }, "status": status });
        let fault = Fault::answer(status).body(body.clone()).header("x-should-retry", "false");
        ORDER.iter().for_each(|backend| gateway.mock(backend).forget());
        gateway.mock("ptu").update(|settings| settings.faults.push_back(fault));
        let answer = ask(&gateway).await;
        assert_eq!((answer.status, answer.json()), (status, body));
        assert_eq!(answer.header("x-should-retry"), "false");
        assert_eq!(asked(&gateway), [1, 0, 0]);
        check_record(
            &record_of(&gateway, &answer).await,
            // The content filter answers 400.
            &json!({ "outcome": if status == 400 { "content_filter" } else { "backend_error" }, "attempts": 1 }),
        );
    }
}

/// A port where nobody listens.
async fn closed_port() -> String {
    let mock = Mock::start("gone", Settings::default()).await.unwrap();
    let url = mock.url();
    mock.stop().await;
    url
}

#[tokio::test]
async fn a_backend_that_cannot_be_reached_is_passed_over() {
    let setup = Setup::new().workers(1).backend("ptu", &closed_port().await).env("PTU_KEY", "unused");
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 2, "backend": "payg-a" }));
}

#[tokio::test]
async fn unreachable_backends_are_reported_in_openais_shape() {
    let nowhere = closed_port().await;
    let mut setup = Setup::new().workers(1).edit(web_shop_has(600));
    for (backend, env) in [("ptu", "PTU_KEY"), ("payg-a", "PAYG_A_KEY"), ("payg-b", "PAYG_B_KEY")] {
        setup = setup.backend(backend, &nowhere).env(env, "unused");
    }
    let gateway = Gateway::start(setup).await.unwrap();
    // Three times: nothing is charged, or the budget would be spent.
    for stream in [false, true, false] {
        let body = with(chat("is anybody there"), json!({ "max_tokens": 400, "stream": stream }));
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("content-type"), "application/json");
        let message = "No backend for this model could be reached.";
        assert_eq!(answer.json(), refusal(message, "server_error", None, "backend_unavailable"));
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        let record = json!({ "outcome": "proxy_error", "prompt_tokens": "0", "completion_tokens": "0" });
        check_record(&record_of(&gateway, &answer).await, &record);
    }
}

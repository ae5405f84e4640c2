//! The limiter, as a client sees it. How its window slides is tested in the module itself, where time is chosen.

use std::num::NonZeroU64;

use serde_json::json;
use tollgate_tests::mock::{Fault, Load, Settings};

use crate::{CHAT, COMPLETIONS, Got, chat, get, post, read_events, request, send, start};

fn limits(got: &Got) -> [Option<&str>; 2] {
    ["x-ratelimit-remaining-tokens", "x-ratelimit-remaining-requests"].map(|name| got.header(name))
}

fn check_exceeded(got: &Got, what: &str, reset: &str, other: &str) {
    let seconds = got.header("retry-after").expect("retry-after").to_owned();
    let message = format!(
        "Requests to this operation under Azure OpenAI have exceeded the {what} rate limit of your current OpenAI S0 \
         pricing tier. Please retry after {seconds} seconds."
    );
    assert_eq!((got.status, got.json()), (429, json!({"error": {"code": "429", "message": message}})));
    assert_eq!((got.header(reset), got.header(other)), (Some(seconds.as_str()), None));
    let ms: u64 = got.header("retry-after-ms").and_then(|ms| ms.parse().ok()).expect("retry-after-ms");
    assert!(0 < ms && ms <= 60_000, "{ms}");
    assert_eq!(ms.div_ceil(1000).to_string(), seconds);
}

#[tokio::test]
async fn tokens_per_minute() {
    let mock = start(Settings { tpm: Some(100), ..Settings::default() }).await;
    let body = chat(&json!({"max_tokens": 30}));
    assert_eq!(limits(&post(&mock, CHAT, &body).await), [Some("62"), Some("10000")]);
    // A request that is wrong, or that no limit counts, takes nothing.
    assert_eq!(limits(&post(&mock, CHAT, &json!({})).await), [None, None]);
    assert_eq!(limits(&get(&mock, "/v1/models").await), [None, None]);
    assert_eq!(limits(&post(&mock, CHAT, &body).await), [Some("24"), Some("10000")]);
    let got = post(&mock, CHAT, &body).await;
    check_exceeded(&got, "token", "x-ratelimit-reset-tokens", "x-ratelimit-reset-requests");
    assert_eq!(limits(&got), [Some("24"), Some("10000")]);
    // One that fits still gets in: 8 and the 16 for those who don't say.
    assert_eq!(limits(&post(&mock, CHAT, &chat(&json!({}))).await), [Some("0"), Some("10000")]);
    assert_eq!(mock.billed().iter().filter(|bill| bill.usage.prompt > 0).count(), 3);
}

#[tokio::test]
async fn requests_per_minute() {
    let mock = start(Settings { rpm: Some(1), ..Settings::default() }).await;
    let body = json!({"model": "m", "prompt": "a"});
    assert_eq!(limits(&post(&mock, COMPLETIONS, &body).await), [Some("1000000"), Some("0")]);
    let got = post(&mock, COMPLETIONS, &body).await;
    check_exceeded(&got, "call", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens");
    // Other settings leave the window as it is; the limits' own open a new one.
    mock.update(|settings| settings.completion_tokens = 1);
    assert_eq!(post(&mock, COMPLETIONS, &body).await.status, 429);
    mock.update(|settings| settings.rpm = Some(2));
    assert_eq!(limits(&post(&mock, COMPLETIONS, &body).await), [Some("1000000"), Some("1")]);
}

#[tokio::test]
async fn a_window_may_be_shorter_than_a_minute() {
    // A tenth of a minute holds a tenth of its tokens.
    let window_ms = NonZeroU64::new(6000).expect("not zero");
    let mock = start(Settings { tpm: Some(1000), window_ms, ..Settings::default() }).await;
    let body = chat(&json!({"max_tokens": 42}));
    assert_eq!(limits(&post(&mock, CHAT, &body).await), [Some("50"), Some("10000")]);
    assert_eq!(limits(&post(&mock, CHAT, &body).await), [Some("0"), Some("10000")]);
    let got = post(&mock, CHAT, &body).await;
    let ms: u64 = got.header("retry-after-ms").and_then(|ms| ms.parse().ok()).expect("retry-after-ms");
    assert!(0 < ms && ms <= 6000, "{ms}");
    mock.update(|settings| settings.window_ms = window_ms.saturating_mul(NonZeroU64::MIN.saturating_add(1)));
    assert_eq!(limits(&post(&mock, CHAT, &body).await), [Some("150"), Some("10000")]);
}

fn utilization(got: &Got) -> Option<&str> {
    got.header("azure-openai-deployment-utilization")
}

#[tokio::test]
async fn provisioned_throughput_tells_its_utilization() {
    let settings = Settings { tpm: Some(1000), provisioned: true, cached_tokens: 3, ..Settings::default() };
    let mock = start(settings).await;
    // 8 of the prompt, less 3 that were cached, and the cap; then what was produced instead of the cap.
    let body = chat(&json!({"max_tokens": 495}));
    let got = post(&mock, CHAT, &body).await;
    assert_eq!((utilization(&got), limits(&got)), (Some("50.0%"), [None, None]));
    assert_eq!(utilization(&post(&mock, CHAT, &body).await), Some("52.9%"));
    let stream = chat(&json!({"max_tokens": 95, "stream": true}));
    assert_eq!(utilization(&post(&mock, CHAT, &stream).await), Some("15.8%"));
    let got = post(&mock, CHAT, &chat(&json!({"max_tokens": 1000}))).await;
    assert_eq!((got.status, utilization(&got), limits(&got)), (429, Some("8.7%"), [None, None]));
    assert!(got.header("retry-after-ms").is_some());

    // A stream that broke off has used what had been produced.
    mock.update(|settings| settings.faults.push_back(Fault::reset_after(3)));
    let mut broken = send(&mock, CHAT, &stream).await.expect("a head");
    read_events(&mut broken, 3).await;
    assert!(broken.chunk().await.is_err());
    let produced = mock.billed().pop().expect("a bill").usage;
    assert_eq!((produced.prompt, produced.completion), (8, 2));
    assert_eq!(mock.load().tokens, 3 * 29 + 5 + 2);

    // Who went away before anything was done has used nothing.
    mock.update(|settings| settings.hold = true);
    tokio::select! {
        _ = post(&mock, CHAT, &body) => panic!("an answer"),
        () = mock.wait_for_requests(6) => assert_eq!(mock.load().tokens, 94 + 500),
    }
    mock.wait_for_disconnects(1).await;
    assert_eq!((mock.load().tokens, mock.load().admitted), (94, 5));
}

#[tokio::test]
async fn what_was_admitted_and_refused_is_counted() {
    let mock = start(Settings { tpm: Some(100), ..Settings::default() }).await;
    assert_eq!(mock.load(), Load { window_tokens_max: Some(100), ..Load::default() });
    mock.update(|settings| settings.faults = [Fault::answer(429), Fault::answer(500)].into());
    let body = chat(&json!({"max_tokens": 30}));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(post(&mock, CHAT, &body).await.status);
    }
    assert_eq!(statuses, [429, 500, 200, 200, 429]);
    // What no limit counts, and what is wrong.
    get(&mock, "/v1/models").await;
    post(&mock, CHAT, &json!({})).await;
    let load = json!({"admitted": 2, "refused": 2, "tokens": 76, "window_tokens_max": 100, "windows": []});
    assert_eq!(get(&mock, "/_mock/load").await.json(), load);
    assert_eq!((mock.load().used(), mock.load().used_median()), (None, None));

    request(&mock, reqwest::Method::POST, "/_mock/reset", &[], b"").await;
    assert_eq!(mock.load(), Load { window_tokens_max: Some(100), ..Load::default() });
    // Only the count is new, not the window.
    assert_eq!(post(&mock, CHAT, &body).await.status, 429);
    assert_eq!((mock.load().admitted, mock.load().refused), (0, 1));
}

#[tokio::test]
async fn no_window_holds_more_than_the_limit() {
    let window_ms = NonZeroU64::new(200).expect("not zero");
    let mock = start(Settings { tpm: Some(30_000), window_ms, ..Settings::default() }).await;
    // Two fit, exactly.
    let body = json!({"model": "m", "prompt": "a", "max_tokens": 49});
    let client = reqwest::Client::new();
    while mock.load().windows.len() < 4 || mock.load().refused == 0 {
        let asked = client.post(mock.url() + COMPLETIONS).json(&body).send();
        asked.await.expect("an answer").bytes().await.expect("a body");
    }
    let load = mock.load();
    assert_eq!((load.window_tokens_max, load.tokens), (Some(100), 50 * load.admitted));
    assert!(load.windows.iter().all(|tokens| [0, 50, 100].contains(tokens)), "{load:?}");
}

//! The limiter, as a client sees it. How its window slides is tested in the module itself, where time is chosen.

use serde_json::json;
use tollgate_tests::mock::Settings;

use crate::{CHAT, COMPLETIONS, Got, chat, get, post, start};

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

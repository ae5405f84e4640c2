//! What goes wrong when it is told to, and who went away.

use std::num::NonZeroUsize;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tollgate_tests::mock::{Fault, Mock, Outcome, Settings, Usage, stream_events};

use crate::{
    AZURE_CHAT, CHAT, COMPLETIONS, Got, chat, check_not_ready, get, post, read_events, request, send, start,
    tempt,
};

async fn failing(faults: impl IntoIterator<Item = Fault>) -> Mock {
    start(Settings { faults: faults.into_iter().collect(), ..Settings::default() }).await
}

#[tokio::test]
async fn the_next_so_many_requests_get_the_answer_they_are_told() {
    let body = json!({"error": {"code": "busy"}});
    let mock = failing([
        Fault::answer(429).header("retry-after-ms", "50").times(2),
        Fault::answer(503).body(body.clone()),
        Fault::answer(500).times(0),
    ])
    .await;
    let told = json!({"error": {"code": "429", "message": "The mock was told to answer so."}});
    for _ in 0..2 {
        let got = post(&mock, CHAT, &chat(&json!({}))).await;
        assert_eq!((got.status, got.header("retry-after-ms"), got.json()), (429, Some("50"), told.clone()));
    }
    // Whatever is asked for.
    let got = get(&mock, "/v1/nothing").await;
    assert_eq!((got.status, got.header("retry-after-ms"), got.json()), (503, None, body));
    assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 200);
    assert_eq!(
        mock.received().iter().map(|record| record.status).collect::<Vec<_>>(),
        [Some(429), Some(429), Some(503), Some(200)]
    );
    assert_eq!(mock.billed().len(), 1);
    assert_eq!(mock.settings().faults, []);
}

#[tokio::test]
async fn a_fault_may_last_for_good() {
    let mock = failing([Fault::answer(500).always()]).await;
    for _ in 0..3 {
        assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 500);
    }
    assert_eq!(mock.settings().faults, [Fault::answer(500).always()]);
    mock.update(|settings| settings.faults.clear());
    assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 200);
}

#[tokio::test]
async fn a_status_http_does_not_have_is_a_500() {
    for status in [0, 101, 1000] {
        let mock = failing([Fault::answer(status).header("no header", "a\nb")]).await;
        assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 500, "{status}");
    }
}

#[tokio::test]
async fn a_connection_is_closed_without_an_answer() {
    let mock = failing([Fault::close()]).await;
    let error = send(&mock, CHAT, &chat(&json!({}))).await.expect_err("no answer");
    assert!(error.is_request() && !error.is_connect() && !error.is_timeout(), "{error:?}");
    assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 200);
    assert_eq!(mock.received()[0].status, None);
    assert_eq!(mock.billed().len(), 1);
    // It was not the client that went away.
    check_not_ready(mock.wait_for_disconnects(1)).await;
}

/// Sends a request that is not answered, and goes away when it has arrived.
async fn give_up(mock: &Mock) {
    let body = chat(&json!({}));
    tokio::select! {
        answer = send(mock, CHAT, &body) => panic!("{answer:?}"),
        () = mock.wait_for_requests(1) => {}
    }
    mock.wait_for_disconnects(1).await;
    assert_eq!(mock.received()[0].status, None);
    assert_eq!(mock.billed(), []);
}

#[tokio::test]
async fn a_request_may_never_be_answered() {
    let mock = failing([Fault::hang()]).await;
    give_up(&mock).await;
    assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 200);
}

#[tokio::test]
async fn an_answer_comes_no_sooner_than_its_latency() {
    let hour_ms = 3_600_000;
    give_up(&start(Settings { latency_ms: hour_ms, ..Settings::default() }).await).await;
    let mock = start(Settings { chunk_delay_ms: hour_ms, ..Settings::default() }).await;
    let mut response = send(&mock, AZURE_CHAT, &chat(&json!({"stream": true}))).await.expect("an answer");
    assert!(read_events(&mut response, 1).await.contains("prompt_filter_results"));
    drop(response);
    mock.wait_for_disconnects(1).await;
    assert_eq!(mock.received()[0].response.windows(2).filter(|pair| pair == b"\n\n").count(), 1);
    assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 200, "no stream, no delay");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_billed_so_far() {
    let body = chat(&json!({"stream": true, "n": 2, "max_tokens": 3}));
    let events =
        stream_events(AZURE_CHAT, body.to_string().as_bytes(), &Settings::default()).expect("a stream");
    assert_eq!(events.len(), 1 + 2 + 6 + 2 + 1);
    for (count, produced) in [(0, 0), (1, 0), (3, 0), (4, 1), (7, 4), (9, 6), (12, 6)] {
        let mock = failing([Fault::reset_after(count)]).await;
        // Cut: what is left of the last event gets through as well.
        mock.update(|settings| settings.cut_bytes = NonZeroUsize::new(50));
        let mut response = send(&mock, AZURE_CHAT, &body).await.expect("a head");
        let mut got = Vec::new();
        let error = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => got.extend(chunk),
                Ok(None) => panic!("a proper end after {count}"),
                Err(error) => break error,
            }
        };
        assert!(error.is_body() || error.is_decode(), "{error:?}");
        assert_eq!(got, events[..count].concat(), "{count}");
        let bill = &mock.billed()[0];
        let usage = Usage { prompt: 8, completion: produced, ..Usage::default() };
        assert_eq!((bill.usage, bill.outcome), (usage, Outcome::Reset), "{count}");
        assert_eq!(mock.received()[0].response, got);
    }
    let mock = failing([Fault::reset_after(13)]).await;
    assert_eq!(post(&mock, AZURE_CHAT, &body).await.body, events.concat());
}

#[tokio::test]
async fn an_answer_that_is_no_stream_breaks_off_in_its_middle() {
    let body = chat(&json!({}));
    let whole = post(&failing([]).await, CHAT, &body).await.body;
    let mock = failing([Fault::reset_after(0)]).await;
    let mut response = send(&mock, CHAT, &body).await.expect("a head");
    assert_eq!(response.content_length(), Some(whole.len() as u64));
    let mut got = Vec::new();
    while let Ok(chunk) = response.chunk().await {
        got.extend(chunk.expect("no proper end"));
    }
    assert_eq!(got, whole[..whole.len() / 2]);
    // It had been made all the same.
    assert_eq!((mock.billed()[0].usage.completion, mock.billed()[0].outcome), (24, Outcome::Reset));
}

#[tokio::test]
async fn an_abandoned_stream_is_billed_for_what_was_produced() {
    let settings = Settings { hold_after_events: Some(5), reasoning_tokens: 10, ..Settings::default() };
    let mock = start(settings).await;
    let mut response = send(&mock, AZURE_CHAT, &chat(&json!({"stream": true}))).await.expect("an answer");
    let text = read_events(&mut response, 5).await;
    drop(response);
    mock.wait_for_disconnects(1).await;
    let bill = &mock.billed()[0];
    // The filter's chunk, the role after ten hidden tokens, three words.
    let usage = Usage { prompt: 8, completion: 13, reasoning: 10, cached: 0 };
    assert_eq!((bill.usage, bill.outcome), (usage, Outcome::Abandoned));
    assert_eq!(mock.received()[0].response, text);
}

#[tokio::test]
async fn throttled_means_everybody() {
    let minute_ms = 60_000;
    let mock = failing([Fault::throttle_ms(minute_ms), Fault::answer(500)]).await;
    for path in [CHAT, COMPLETIONS, AZURE_CHAT] {
        let got = post(&mock, path, &chat(&json!({}))).await;
        assert_eq!(got.status, 429, "{path}");
        let number =
            |name: &str| got.header(name).and_then(|value| value.parse::<u64>().ok()).expect("a number");
        let ms = number("retry-after-ms");
        assert!(0 < ms && ms <= minute_ms, "{ms}");
        assert_eq!(number("retry-after"), ms.div_ceil(1000));
        assert_eq!(number("x-ratelimit-reset-tokens"), ms.div_ceil(1000));
        assert_eq!(number("x-ratelimit-remaining-tokens"), 0);
    }
    // It is over with the limits it is part of; the next fault has waited.
    mock.update(|settings| settings.tpm = Some(1000));
    assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 500);
    // A time too long to be added to any clock is only long.
    let mock = failing([Fault::throttle_ms(u64::MAX)]).await;
    assert_eq!(post(&mock, CHAT, &chat(&json!({}))).await.status, 429);
}

#[tokio::test]
async fn held_requests_wait_for_the_next_release() {
    let mock = start(Settings { hold: true, ..Settings::default() }).await;
    // Nobody has arrived: it lets nobody go.
    mock.release();
    let body = chat(&json!({}));
    let held = async || tokio::join!(post(&mock, CHAT, &body), post(&mock, CHAT, &body));
    for arrived in [2, 4] {
        let release = async {
            mock.wait_for_requests(arrived).await;
            tempt(&mock).await;
            assert_eq!(mock.billed().len(), arrived - 2);
            mock.release();
        };
        let ((one, two), ()) = tokio::join!(held(), release);
        assert_eq!((one.status, two.status), (200, 200));
    }
}

#[tokio::test]
async fn a_stream_held_twice_is_released_twice() {
    let mock = start(Settings { hold: true, hold_after_events: Some(2), ..Settings::default() }).await;
    let body = chat(&json!({"stream": true}));
    let release = async {
        mock.wait_for_requests(1).await;
        mock.release();
    };
    let (response, ()) = tokio::join!(send(&mock, CHAT, &body), release);
    let mut response = response.expect("an answer");
    read_events(&mut response, 2).await;
    tempt(&mock).await;
    assert_eq!(mock.billed(), []);
    mock.release();
    assert!(Got::of(response).await.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn requests_are_treated_by_the_settings_at_their_arrival() {
    let mock = start(Settings { hold: true, ..Settings::default() }).await;
    let change = async {
        mock.wait_for_requests(1).await;
        mock.update(|settings| {
            settings.completion_tokens = 1;
            settings.hold = false;
        });
        mock.release();
    };
    let body = chat(&json!({}));
    let (first, ()) = tokio::join!(post(&mock, CHAT, &body), change);
    assert_eq!(first.json()["usage"]["completion_tokens"], 24);
    assert_eq!(post(&mock, CHAT, &body).await.json()["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn a_stopped_mock_is_gone_with_its_connections() {
    let mock = start(Settings { hold_after_events: Some(1), ..Settings::default() }).await;
    let mut response = send(&mock, CHAT, &chat(&json!({"stream": true}))).await.expect("an answer");
    read_events(&mut response, 1).await;
    let addr = mock.addr();
    mock.stop().await;
    // Not by tokio: nothing more is to run here before it is gone.
    assert!(std::net::TcpStream::connect(addr).is_err());
    assert!(response.chunk().await.is_err());
}

#[tokio::test]
async fn a_dropped_mock_is_gone_with_its_connections() {
    let mock = start(Settings { hold_after_events: Some(1), ..Settings::default() }).await;
    let mut response = send(&mock, CHAT, &chat(&json!({"stream": true}))).await.expect("an answer");
    read_events(&mut response, 1).await;
    drop(mock);
    assert!(response.chunk().await.is_err());
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let mock = start(Settings { latency_ms: 1, chunk_delay_ms: 1, ..Settings::default() }).await;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client");
    for _ in 0..3 {
        let body = chat(&json!({"stream": true, "max_tokens": 2}));
        let response = client.post(mock.url() + CHAT).json(&body).send().await.expect("an answer");
        assert!(Got::of(response).await.text().ends_with("[DONE]\n\n"));
    }
    let got = request(&mock, Method::POST, CHAT, &[("expect", "100-continue")], b"{}").await;
    assert_eq!(got.status, 400);
}

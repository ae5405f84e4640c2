//! Does a stream reach the client as the backend sent it, however the network cuts it?

use std::num::NonZeroUsize;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Gzip, Settings, stream_events, tokens};

use crate::requests::{
    BATCH, CHAT, COMPLETIONS, GPT_4O, INSTRUCT, RESPONSES, WEB_SHOP, chat, check_record, nobody_is_limited,
    prompt_estimate, record_of, with,
};

/// Sizes of the pieces that the backend writes; none means an event at a time.
const CUTS: [Option<usize>; 12] = [
    None,
    Some(1),
    Some(2),
    Some(3),
    Some(5),
    Some(7),
    Some(11),
    Some(13),
    Some(64),
    Some(127),
    Some(1021),
    Some(4096),
];

/// A question whose answer has characters of one to four bytes, and what JSON escapes.
const QUESTION: &str = "caf\u{e9} \u{4e2d}\u{6587} \u{1f600} \"usage\": {} \\n end";

/// A stream of each kind that has a usage event of its own: who asks, for what, and who serves it.
fn streams() -> [(&'static str, &'static str, Value, &'static str); 2] {
    let complete = json!({ "model": INSTRUCT, "prompt": QUESTION, "stream": true, "max_tokens": 20 });
    [
        (CHAT, WEB_SHOP, with(chat(QUESTION), json!({ "stream": true, "n": 2 })), "ptu"),
        (COMPLETIONS, BATCH, complete, "payg-a"),
    ]
}

fn has_usage(event: &Bytes) -> bool {
    event.windows(9).any(|window| window == b"\"usage\":{")
}

#[tokio::test]
async fn a_stream_cut_anywhere_arrives_without_only_our_event() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited)).await.unwrap();
    for (path, key, body, backend) in streams() {
        let mock = gateway.mock(backend);
        for cut in CUTS {
            mock.update(|settings| settings.cut_bytes = cut.and_then(NonZeroUsize::new));
            mock.forget();
            let answer = gateway.post(path, key, &body).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());

            let received = mock.received().remove(0);
            assert_eq!(received.json()["stream_options"], json!({ "include_usage": true }));
            let mut events = stream_events(&received.path, &received.body, &mock.settings()).unwrap();
            assert_eq!(received.response, events.concat());
            // The last but one, before [DONE].
            let hidden = events.remove(events.len() - 2);
            assert!(has_usage(&hidden) && !events.iter().any(has_usage));
            assert_eq!(answer.text(), String::from_utf8(events.concat()).unwrap(), "{path} {cut:?}");

            let usage = mock.billed()[0].usage;
            let expected = json!({
                "outcome": "served", "estimated": "false", "backend": backend,
                "prompt_tokens": usage.prompt.to_string(), "completion_tokens": usage.completion.to_string(),
            });
            check_record(&record_of(&gateway, &answer).await, &expected);
        }
    }
}

#[tokio::test]
async fn whoever_asks_for_the_usage_event_gets_every_byte() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited)).await.unwrap();
    for (path, key, body, backend) in streams() {
        let body = with(body, json!({ "stream_options": { "include_usage": true } }));
        let mock = gateway.mock(backend);
        for cut in CUTS {
            mock.update(|settings| settings.cut_bytes = cut.and_then(NonZeroUsize::new));
            mock.forget();
            let answer = gateway.post(path, key, &body).await.unwrap();
            let received = mock.received().remove(0);
            assert_eq!(received.json()["stream_options"], body["stream_options"]);
            let events = stream_events(&received.path, &received.body, &mock.settings()).unwrap();
            assert_eq!(events.iter().filter(|event| has_usage(event)).count(), 1);
            assert_eq!(answer.text(), String::from_utf8(events.concat()).unwrap(), "{path} {cut:?}");
            record_of(&gateway, &answer).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_says_no_to_usage_keeps_its_other_options() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let options = [
        (json!(null), json!({ "include_usage": true })),
        (json!({}), json!({ "include_usage": true })),
        (json!({ "include_usage": false }), json!({ "include_usage": true })),
        (
            json!({ "include_obfuscation": false }),
            json!({ "include_usage": true, "include_obfuscation": false }),
        ),
    ];
    for (at, (asked, sent)) in options.into_iter().enumerate() {
        let body = with(chat("no"), json!({ "stream": true, "stream_options": asked }));
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(gateway.mock("ptu").received()[at].json()["stream_options"], sent);
        assert!(!has_usage(&answer.body) && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_stream_that_always_tells_its_usage_is_not_touched() {
    // Responses do so in their last event, which is no event of ours.
    let gateway = Gateway::start(Setup::new().workers(1).edit(responses_at_payg_a)).await.unwrap();
    let body = json!({ "model": GPT_4O, "input": QUESTION, "stream": true, "max_output_tokens": 20 });
    let mock = gateway.mock("payg-a");
    for cut in CUTS {
        mock.update(|settings| settings.cut_bytes = cut.and_then(NonZeroUsize::new));
        mock.forget();
        let answer = gateway.post(RESPONSES, WEB_SHOP, &body).await.unwrap();
        let received = mock.received().remove(0);
        assert_eq!((received.path.as_str(), received.json()), ("/openai/v1/responses", body.clone()));
        assert_eq!(answer.body, received.response);
        let usage = mock.billed()[0].usage;
        let expected = json!({
            "estimated": "false", "prompt_tokens": usage.prompt.to_string(), "completion_tokens": "20",
        });
        check_record(&record_of(&gateway, &answer).await, &expected);
    }
}

/// The mock's Azure takes responses from a later version on than the one the configuration names.
fn responses_at_payg_a(config: &mut Value) {
    config["models"][0]["backends"].as_array_mut().unwrap().remove(0);
}

#[tokio::test]
async fn a_stream_passes_on_as_it_comes_and_not_at_its_end() {
    let held = Settings { hold_after_events: Some(5), ..Settings::default() };
    let gateway = Gateway::start(Setup::new().workers(1).mock("ptu", held.clone())).await.unwrap();
    let body = with(chat("at once"), json!({ "stream": true }));
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
    let mut answer = request.send().await.unwrap().bytes_stream();
    let received = gateway.mock("ptu").received().remove(0);
    let mut events = stream_events(&received.path, &received.body, &held).unwrap();
    let mut seen = Vec::new();
    // The backend waits for us: what has come until then cannot have waited for the rest.
    while seen.len() < events[..5].concat().len() {
        seen.extend_from_slice(&answer.next().await.unwrap().unwrap());
    }
    assert_eq!(seen, events[..5].concat());
    gateway.mock("ptu").release();
    while let Some(chunk) = answer.next().await {
        seen.extend_from_slice(&chunk.unwrap());
    }
    events.remove(events.len() - 2);
    assert_eq!(seen, events.concat());
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_charged_for_what_came() {
    let settings = Settings { faults: [Fault::reset_after(8)].into(), ..Settings::default() };
    let gateway = Gateway::start(Setup::new().workers(1).mock("ptu", settings.clone())).await.unwrap();
    let body = with(chat("breaks off early"), json!({ "stream": true }));
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
    let answer = request.send().await.unwrap();
    let id = answer.headers()["x-request-id"].clone();
    assert_eq!(answer.status(), 200);
    let mut chunks = answer.bytes_stream();
    let mut seen = Vec::new();
    let broken = loop {
        match chunks.next().await {
            Some(Ok(chunk)) => seen.extend_from_slice(&chunk),
            end => break end,
        }
    };
    assert!(broken.is_some_and(|end| end.is_err()), "the client takes half an answer for a whole one");
    let received = gateway.mock("ptu").received().remove(0);
    let events = stream_events(&received.path, &received.body, &settings).unwrap();
    assert_eq!(seen, events[..8].concat());
    // Two events come before the first words.
    let text_bytes = tokens::echo("breaks off early", 6).concat().len() as u64;
    let record =
        crate::requests::record_where(&gateway, |line| line["request_id"] == id.to_str().unwrap()).await;
    let expected = json!({
        "outcome": "broken", "estimated": "true", "prompt_tokens": prompt_estimate(&body).to_string(),
        "completion_tokens": text_bytes.div_ceil(4).to_string(),
    });
    check_record(&record, &expected);
}

#[tokio::test]
async fn a_reset_after_the_first_byte_is_settled_exactly_once() {
    let a_day = |config: &mut Value| {
        config["clients"][0]["limits"] = json!([{ "tokens": 100_000, "per": "day" }]);
    };
    let gateway = Gateway::start(Setup::new().workers(1).edit(a_day)).await.unwrap();
    let mut charged = 0;
    for at in 1..=3 {
        gateway.mock("ptu").update(|settings| settings.faults = [Fault::reset_after(at)].into());
        let body = with(chat("breaks off"), json!({ "stream": true }));
        let request =
            gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
        let answer = request.send().await.unwrap();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.is_err(), "the client takes a part for the whole");
        let record = crate::requests::record_where(&gateway, |line| line["request_id"] == id.as_str()).await;
        check_record(&record, &json!({ "outcome": "broken", "estimated": "true", "attempts": 1 }));
        for tokens in ["prompt_tokens", "completion_tokens"] {
            charged += record[tokens].as_str().unwrap().parse::<u64>().unwrap();
        }
    }
    assert!(gateway.mock("payg-a").received().is_empty());
    let labels = [("client", "web-shop"), ("outcome", "broken")];
    gateway.wait_for_metric("tollgate_requests", &labels, 3.0).await.unwrap();
    // The budget lacks what the records say, and no reservation.
    let url = format!("{}/tollgate/v1/usage", gateway.url());
    let answer = gateway.http().get(url).bearer_auth(WEB_SHOP).send().await.unwrap();
    let usage: Value = Answer::read(answer).await.unwrap().json();
    assert_eq!(usage["limits"][0]["used"], charged, "{usage}");
}

#[tokio::test]
async fn a_compressed_answer_is_not_asked_for_and_passes_unread() {
    let setup = Setup::new().workers(1).mock("ptu", Settings { gzip: Gzip::Accepted, ..Settings::default() });
    let gateway = Gateway::start(setup).await.unwrap();
    let ask = async |body: &Value| {
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
        let request = request.header("accept-encoding", "gzip").json(body);
        Answer::read(request.send().await.unwrap()).await.unwrap()
    };
    let bodies = [chat("compress"), with(chat("compress"), json!({ "stream": true, "max_tokens": 100 }))];
    for body in &bodies {
        let answer = ask(body).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, ""));
        check_record(&record_of(&gateway, &answer).await, &json!({ "estimated": "false" }));
    }
    gateway.mock("ptu").update(|settings| settings.gzip = Gzip::Always);
    for (body, cap) in bodies.iter().zip(["256", "100"]) {
        gateway.mock("ptu").forget();
        let answer = ask(body).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, "gzip"));
        let received = gateway.mock("ptu").received().remove(0);
        assert_eq!(received.header("accept-encoding"), None);
        assert!(answer.body.starts_with(&[0x1f, 0x8b]));
        assert_eq!(answer.body, received.response);
        let expected = json!({
            "outcome": "served", "estimated": "true", "prompt_tokens": prompt_estimate(body).to_string(),
            "completion_tokens": cap,
        });
        check_record(&record_of(&gateway, &answer).await, &expected);
    }
}

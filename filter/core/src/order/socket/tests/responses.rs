//! Responses, many on one connection.

use super::*;
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const CREATE: &str = r#"{"type":"response.create","model":"gpt-5","input":"hello","max_output_tokens":50}"#;
const CREATED: &str = r#"{"type":"response.created","response":{"id":"resp_1","usage":null}}"#;
const DELTA: &str = r#"{"type":"response.output_text.delta","item_id":"msg_1","delta":"hello"}"#;

/// A gateway with two models at one backend, one of them under another name, and a third elsewhere.
fn serves(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    gateway(|config| {
        config["websocket"] = json!({ "responses": {} });
        config["models"] = json!([
            { "name": "gpt-5", "backends": [{ "backend": "a" }] },
            { "name": "gpt-5-mini", "backends": [{ "backend": "a", "deployment": "small" }] },
            { "name": "elsewhere", "backends": [{ "backend": "b" }] },
        ]);
        edit(config);
    })
}

fn handshake(path: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut handshake = HANDSHAKE.to_vec();
    handshake[1] = (":path", path);
    handshake
}

fn run(edit: impl FnOnce(&mut Value)) -> Run {
    Run::by(&serves(edit), &handshake("/v1/responses"))
}

fn limited(tokens: u64) -> impl FnOnce(&mut Value) {
    move |config| config["clients"][0]["limits"] = json!([{ "tokens": tokens, "per": "minute" }])
}

/// Seals ids, whose place is the backend that keeps them.
fn seals(config: &mut Value) {
    config["pinning"] =
        json!({ "secret_envs": ["A_SECRET_THAT_HAS_THIRTY_TWO_BYTES"], "unsealed_ids": "pass" });
}

fn completed(id: &str, input: u64, output: u64) -> String {
    json!({ "type": "response.completed", "response": { "id": id, "status": "completed", "usage": {
        "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
    } } })
    .to_string()
}

fn with(event: &str, name: &str, value: impl Into<Value>) -> String {
    let mut event: Value = serde_json::from_str(event).unwrap();
    event[name] = value.into();
    event.to_string()
}

/// Status and code of an error event, and its lane.
fn refusal(event: &str) -> (u64, String, Option<String>) {
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["type"], "error");
    let lane = event["stream_id"].as_str().map(str::to_owned);
    (event["status"].as_u64().unwrap(), event["error"]["code"].as_str().unwrap().to_owned(), lane)
}

#[test]
fn a_responses_socket_goes_to_the_backends_of_its_model() {
    let goes_to = |edit: &dyn Fn(&mut Value), path| {
        let gateway = serves(|config| edit(config));
        let (_, step) = asks(&gateway, &MemoryStore::default(), &handshake(path));
        match step {
            Step::Forward(forward) => Ok(forward.flight.candidates()[0].backend.cluster.to_string()),
            Step::Answer(answer) => Err(answer.status),
            step => panic!("{step:?}"),
        }
    };
    let nothing: &dyn Fn(&mut Value) = &|_| {};
    let configured: &dyn Fn(&mut Value) =
        &|config| config["websocket"]["responses"]["model"] = json!("elsewhere");
    assert_eq!(goes_to(nothing, "/v1/responses"), Ok("ca".to_owned()));
    assert_eq!(goes_to(nothing, "/openai/v1/responses?model=elsewhere"), Ok("cb".to_owned()));
    assert_eq!(goes_to(configured, "/v1/responses"), Ok("cb".to_owned()));
    assert_eq!(goes_to(configured, "/v1/responses?model=gpt-5"), Ok("ca".to_owned()));
    let not_its_own: &dyn Fn(&mut Value) = &|config| {
        configured(config);
        config["clients"][0]["models"] = json!(["gpt-5"]);
    };
    assert_eq!(goes_to(not_its_own, "/v1/responses"), Err(403));
    assert_eq!(
        goes_to(&|config: &mut Value| config["websocket"] = json!({ "realtime": {} }), "/v1/responses"),
        Err(426)
    );
    // Azure's dated paths have none: by HTTP they do.
    let dated: &dyn Fn(&mut Value) = &|config| {
        for backend in config["backends"].as_array_mut().unwrap() {
            backend["style"] = json!("azure");
            backend["api_version"] = json!("2025-04-01-preview");
        }
    };
    assert_eq!(goes_to(dated, "/v1/responses"), Err(426));
    assert_eq!(goes_to(dated, "/v1/responses?model=gpt-5"), Err(426));
}

#[test]
fn each_response_of_a_socket_is_a_request_of_its_own() {
    let mut run = run(|config| config["models"][0]["prices"] = json!({ "prompt": 1, "completion": 2 }));
    assert_eq!(run.path, "/v1/responses");
    // What no policy changes goes on as it came.
    assert_eq!(run.say(CREATE), [CREATE]);
    let taken = BUDGET - run.left();
    assert!((50..80).contains(&taken), "{taken}");
    for event in [CREATED, DELTA] {
        assert_eq!(run.hear(event), [event]);
    }
    let end = completed("resp_1", 50, 20);
    assert_eq!(run.hear(&end), [end]);
    assert_eq!(run.left(), BUDGET - 70);
    let record = &run.records[0];
    assert_eq!(
        (record.operation, record.outcome, record.source),
        ("responses", Outcome::Served, Source::Reported)
    );
    // Another model at the same backend, by the name that it has there.
    let other = with(CREATE, "model", "gpt-5-mini");
    assert_eq!(run.say(&other), [with(CREATE, "model", "small")]);
    run.hear(&with(&completed("resp_2", 5, 5), "type", "response.incomplete"));
    assert_eq!(run.left(), BUDGET - 80);
    let models = run.records.iter().map(|record| record.model.as_ref().unwrap().text.to_string());
    assert_eq!(models.collect::<Vec<_>>(), ["gpt-5", "gpt-5-mini"]);
    let turns = run.end().turns.unwrap();
    assert_eq!((turns.count, turns.refused, turns.usage.total(), turns.price_micros), (2, 0, 80, Some(90)));
}

#[test]
fn a_response_that_may_not_be_is_refused_and_the_socket_stays() {
    let mut run = run(|config| config["policies"][0]["unknown_fields"] = json!("refuse"));
    for (event, status, code) in [
        (with(CREATE, "model", "elsewhere"), 400, "model_not_served_there"),
        (with(CREATE, "model", "none"), 403, "model_not_allowed"),
        (
            with(CREATE, "tools", json!([{ "type": "web_search" }, { "type": "web_search" }])),
            400,
            "parameter_above_maximum",
        ),
        (with(CREATE, "background", true), 400, "invalid_type"),
        (with(CREATE, "stream_id", ""), 400, "invalid_type"),
        (with(CREATE, "stream_id", "a b"), 400, "invalid_type"),
        (with(CREATE, "type", "response.steer"), 400, "parameter_value_not_allowed"),
        (with(CREATE, "novel", 1), 400, "unknown_parameter"),
        (r#"{"model":"gpt-5"}"#.to_owned(), 400, "missing_required_parameter"),
        (r#"{"type":"response.create","Model":"gpt-5"}"#.to_owned(), 400, "ambiguous_parameter"),
        ("[]".to_owned(), 400, "invalid_json"),
    ] {
        assert_eq!(run.say(&event), ["ping"], "{event}");
        let told = run.pong();
        assert_eq!(told.len(), 1, "{event} {told:?}");
        let found = refusal(&told[0]);
        assert_eq!((found.0, found.1.as_str(), found.2), (status, code, None), "{event}");
    }
    assert_eq!(run.left(), BUDGET);
    // What is the event's own is no field that nobody knows.
    let known = with(&with(CREATE, "generate", false), "stream_id", "main");
    assert_eq!(run.say(&known), [known]);
}

#[test]
fn a_response_beyond_the_budget_is_refused_in_its_lane() {
    let mut run = run(limited(70));
    let event = with(&with(CREATE, "stream_id", "main"), "max_output_tokens", 900);
    assert_eq!(run.say(&event), ["ping"]);
    let told = run.pong();
    assert_eq!(refusal(&told[0]), (429, "request_exceeds_limit".to_owned(), Some("main".to_owned())));
    run.say(CREATE);
    run.hear(&completed("resp_1", 60, 10));
    assert_eq!(run.say(CREATE), ["ping"]);
    let told: Value = serde_json::from_str(&run.pong()[0]).unwrap();
    assert_eq!((&told["status"], &told["error"]["code"]), (&json!(429), &json!("rate_limit_exceeded")));
    assert!(told["headers"]["retry-after"].is_string(), "{told}");
    assert_eq!(run.end().turns.unwrap().refused, 2);
}

#[test]
fn a_refusal_waits_for_the_responses_before_it_in_its_lane() {
    let mut run = run(|_| {});
    run.say(CREATE);
    assert_eq!(run.say(&with(CREATE, "model", "none")), [""; 0]);
    assert_eq!(run.hear(CREATED), [CREATED]);
    // Another lane's comes at once.
    assert_eq!(run.say(&with(&with(CREATE, "model", "none"), "stream_id", "b")), ["ping"]);
    assert_eq!(refusal(&run.pong()[0]).2.as_deref(), Some("b"));
    let end = completed("resp_1", 5, 5);
    let told = run.hear(&end);
    assert_eq!((told.len(), &told[0]), (2, &end));
    assert_eq!(refusal(&told[1]).1, "model_not_allowed");
}

#[test]
fn a_responses_policy_is_the_same_as_by_http() {
    let mut run = run(|config| {
        config["policies"][0]["max_tokens"] = json!({ "default": 30, "max": 40, "over": "clamp" });
    });
    assert_eq!(run.say(CREATE), [CREATE.replace(":50", ":40")]);
    let bare = r#"{"type":"response.create","model":"gpt-5","input":"hello"}"#;
    let sent: Value = serde_json::from_str(&run.say(bare)[0]).unwrap();
    assert_eq!((&sent["type"], &sent["max_output_tokens"]), (&json!("response.create"), &json!(30)));
    run.hear(&completed("resp_1", 1, 1));
    assert_eq!(run.records[0].findings[0].clamped().as_deref(), Some("max_output_tokens=40"));
}

#[test]
fn a_policy_against_streams_holds_for_responses_by_socket() {
    let mut run = run(|config| config["policies"][0]["stream"] = json!("forbid"));
    assert_eq!(run.say(CREATE), ["ping"]);
    assert_eq!(refusal(&run.pong()[0]).1, "parameter_value_not_allowed");
}

#[test]
fn lanes_of_a_socket_are_told_apart() {
    let mut run = run(|_| {});
    let lane = |event: &str, lane: &str| with(event, "stream_id", lane);
    for name in ["a", "b"] {
        run.say(&lane(CREATE, name));
    }
    run.hear(&lane(CREATED, "b"));
    run.hear(&lane(&completed("resp_2", 5, 5), "b"));
    assert_eq!(run.records.len(), 1);
    let refused = json!({ "type": "error", "status": 500, "stream_id": "a", "error": { "message": "x" } });
    run.hear(&refused.to_string());
    assert_eq!(run.left(), BUDGET - 10);
    assert_eq!(run.records[1].outcome, Outcome::BackendError);
}

#[test]
fn an_error_in_no_lane_ends_no_turn_of_another() {
    let mut run = run(|_| {});
    for name in ["a", "b"] {
        run.say(&with(CREATE, "stream_id", name));
    }
    run.hear(&with(CREATED, "stream_id", "a"));
    let error = r#"{"type":"error","status":400,"error":{"message":"x"}}"#;
    assert_eq!(run.hear(error), [error]);
    assert_eq!(run.records, []);
    // Nor is what it then says of one charged as another's.
    run.hear(&with(&completed("resp_1", 5, 5), "stream_id", "a"));
    run.hear(&with(&completed("resp_2", 7, 7), "stream_id", "b"));
    assert_eq!((run.records.len(), run.left()), (2, BUDGET - 24));
}

#[test]
fn an_answer_that_nobody_asked_for_is_charged_as_its_models() {
    let charged = |model: &str| {
        let mut run = run(|_| {});
        let mut end: Value = serde_json::from_str(&completed("resp_1", 50, 20)).unwrap();
        end["response"]["model"] = json!(model);
        run.hear(&end.to_string());
        assert_eq!(run.left(), BUDGET - 70);
        run.records[0].model.as_ref().unwrap().text.to_string()
    };
    for (told, model) in [
        ("small", "gpt-5-mini"),
        ("small-2025-08-07", "gpt-5-mini"),
        ("small-er", "gpt-5"),
        ("gpt-5", "gpt-5"),
        ("elsewhere", "gpt-5"),
    ] {
        assert_eq!(charged(told), model, "{told}");
    }
}

#[test]
fn what_a_response_reports_is_charged_beyond_its_cap() {
    let mut run = run(|_| {});
    run.say(&with(CREATE, "max_output_tokens", 16));
    run.hear(&completed("resp_1", 5, 500));
    assert_eq!((run.left(), run.records[0].source), (BUDGET - 505, Source::Reported));
}

#[test]
fn more_responses_than_a_backend_takes_at_once_are_refused() {
    let mut run = run(|config| config["clients"][0]["limits"] = json!([]));
    let lane = |at: usize| with(CREATE, "stream_id", format!("l{at}"));
    for at in 0..RESPONSES_MAX {
        assert_eq!(run.say(&lane(at)), [lane(at)]);
    }
    assert_eq!(run.say(&lane(99)), ["ping"]);
    assert_eq!(refusal(&run.pong()[0]), (400, "invalid_type".to_owned(), Some("l99".to_owned())));
    run.hear(&with(&completed("resp_1", 5, 5), "stream_id", "l3"));
    assert_eq!(run.say(&lane(99)), [lane(99)]);
}

#[test]
fn who_may_use_the_socket_alone_may_have_its_turns() {
    let mut may = run(|config| config["clients"][0]["endpoints"] = json!(["responses/websocket"]));
    assert_eq!(may.say(CREATE), [CREATE]);
    may.socket.serve_under(&serves(|config| config["clients"][0]["endpoints"] = json!(["responses"])));
    assert_eq!(may.say(CREATE), [""; 0]);
    may.hear(&completed("resp_1", 5, 5));
    assert_eq!(may.records.iter().filter(|record| matches!(record.outcome, Outcome::Denied(_))).count(), 1);
}

#[test]
fn a_turn_of_a_patient_connection_is_not_queued() {
    let gateway = serves(|config| {
        config["store"] = json!({ "redis": { "cluster": "s", "region": "eu" } });
        config["queue"] = json!({ "for": "normal", "when": "always", "background": "queue" });
        config["clients"][0]["limits"] = json!([]);
    });
    let mut handshake = handshake("/v1/responses");
    handshake.push(("prefer", "respond-async"));
    let mut run = Run::by(&gateway, &handshake);
    assert_eq!(run.say(CREATE), [CREATE]);
}

#[test]
fn nothing_is_said_behind_a_close_frame() {
    let mut run = run(|config| {
        limited(5)(config);
        config["websocket"]["responses"]["when_exhausted"] = json!("close");
    });
    assert_eq!(run.say(CREATE), ["close 1000"]);
    assert_eq!(run.hear("{}").last().unwrap(), "close 1008");
    assert_eq!(run.hear(&completed("resp_1", 50, 20)), [""; 0]);
    assert_eq!(run.records.last().unwrap().usage.total(), 70);
}

#[test]
fn a_response_that_breaks_is_charged_by_what_was_seen() {
    let mut run = run(|_| {});
    run.say(&with(CREATE, "max_output_tokens", 500));
    run.hear(CREATED);
    run.hear(&DELTA.replace("hello", &"x".repeat(400)));
    let turns = run.end().turns.unwrap();
    assert!(turns.is_estimated && (90..=160).contains(&turns.usage.completion), "{turns:?}");
    assert_eq!(run.left(), BUDGET - turns.usage.total());
}

#[test]
fn a_response_that_nobody_asked_for_is_charged() {
    let mut run = run(|_| {});
    let end = completed("resp_1", 50, 20);
    assert_eq!(run.hear(&end), [end]);
    assert_eq!(run.left(), BUDGET - 70);
}

#[test]
fn a_socket_of_responses_is_closed_when_so_configured() {
    let mut run = run(|config| {
        limited(5)(config);
        config["websocket"]["responses"]["when_exhausted"] = json!("close");
    });
    assert_eq!(run.say(CREATE), ["close 1000"]);
    assert_eq!(run.hear("{}")[1..], ["close 1008"]);
}

#[test]
fn ids_of_a_socket_are_sealed_and_lead_to_its_backend() {
    let mut run = run(seals);
    run.say(CREATE);
    let id_of = |told: &[String]| {
        let event: Value = serde_json::from_str(&told[0]).unwrap();
        event["response"]["id"].as_str().unwrap().to_owned()
    };
    let began = id_of(&run.hear(CREATED));
    let sealed = id_of(&run.hear(&completed("resp_1", 5, 5)));
    assert!(began == sealed && !sealed.contains("resp_1"), "{began} {sealed}");
    let follows = |id: &str| with(CREATE, "previous_response_id", id);
    assert_eq!(run.say(&follows(&sealed)), [follows("resp_1")]);
    // What the backend says of it quotes it as the client knows it.
    let error = json!({ "type": "error", "status": 400, "error": {
        "code": "previous_response_not_found", "message": "Previous response with id 'resp_1' not found." } });
    let told = run.hear(&error.to_string()).concat();
    assert!(told.contains(&sealed) && !told.contains("resp_1"), "{told}");
    // Another's, and one of another backend.
    let elsewhere = Run::by(&serves(seals), &handshake("/v1/responses?model=elsewhere"));
    let theirs = {
        let mut run = elsewhere;
        run.say(&with(CREATE, "model", "elsewhere"));
        id_of(&run.hear(CREATED))
    };
    assert_eq!(run.say(&follows(&theirs)), ["ping"]);
    assert_eq!(refusal(&run.pong()[0]).1, "model_not_served_there");
    let mut forged = sealed.clone();
    forged.replace_range(sealed.len() - 4..sealed.len() - 2, "00");
    assert_eq!(run.say(&follows(&forged)), ["ping"]);
    assert_eq!(refusal(&run.pong()[0]).0, 404);
    // What nobody asked for is not told, for its ids would be.
    run.hear(&completed("resp_9", 5, 5));
    assert_eq!(run.hear(CREATED), [""; 0]);
}

proptest! {
    #[test]
    fn cuts_of_a_socket_do_not_matter(cuts in proptest::collection::vec(0_usize..900, 0..12)) {
        let said: Vec<u8> = [CREATE.to_owned(), with(CREATE, "model", "gpt-5-mini"), with(CREATE, "model", "none")]
            .iter()
            .flat_map(|event| frames::written(Kind::Text, event.as_bytes(), Some(MASK)))
            .collect();
        let heard: Vec<u8> = [CREATED.to_owned(), completed("resp_1", 5, 5), completed("resp_2", 7, 7)]
            .iter()
            .flat_map(|event| frames::written(Kind::Text, event.as_bytes(), None))
            .collect();
        let mut run = run(seals);
        let mut cuts = cuts;
        cuts.sort_unstable();
        let pieces = |bytes: &[u8]| {
            let ends = cuts.iter().map(|cut| (*cut).min(bytes.len())).chain([bytes.len()]);
            let mut at = 0;
            ends.map(|end| bytes[std::mem::replace(&mut at, end)..end].to_vec()).collect::<Vec<_>>()
        };
        let mut sent = Vec::new();
        for piece in pieces(&said) {
            sent.extend(run.with(|socket, session, world| socket.client_says(&piece, session, world)));
        }
        let mut told = Vec::new();
        for piece in pieces(&heard) {
            told.extend(run.with(|socket, session, world| socket.backend_says(&piece, session, world)));
        }
        let sent = read(Side::Client, &sent);
        prop_assert_eq!(sent, [CREATE.to_owned(), with(CREATE, "model", "small")]);
        let told = read(Side::Server, &told);
        prop_assert_eq!(told.len(), 4);
        prop_assert!(!told.concat().contains("\"resp_1\"") && !told.concat().contains("\"resp_2\""));
        prop_assert_eq!(refusal(&told[3]).1, "model_not_allowed");
        prop_assert_eq!(run.left(), BUDGET - 24);
    }
}

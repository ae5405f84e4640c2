//! What do turns and transcripts take of what a session has set and said?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_cap_that_its_backend_did_not_take_cuts_no_usage() {
    let mut run = Run::new(&gateway(|_| {}));
    run.say(r#"{"type":"session.update","session":{"max_output_tokens":1,"voice":"none"}}"#);
    run.hear(r#"{"type":"error","error":{"event_id":null}}"#);
    run.hear(CREATED);
    run.hear(&done("r1", 50, 20));
    assert_eq!((run.left(), run.records[0].source), (BUDGET - 70, Source::Reported));
}

#[test]
fn a_sessions_cap_does_not_hold_for_what_is_written_down() {
    let mut run = Run::new(&gateway(|_| {}));
    run.say(r#"{"type":"session.update","session":{"max_output_tokens":1}}"#);
    run.hear(&transcribed());
    assert_eq!(run.left(), BUDGET - 14);
}

/// What a transcript meets after a turn, under a session with this cap.
fn transcript_after(input: u64, cap: u64) -> Vec<String> {
    let mut run = Run::new(&gateway(|config| {
        config["clients"][0]["limits"] = json!([{ "tokens": 2000, "per": "minute" }]);
    }));
    run.say(&format!(r#"{{"type":"session.update","session":{{"max_output_tokens":{cap}}}}}"#));
    run.hear(&done("r1", input, 3));
    run.hear(&transcribed())
}

#[test]
fn a_transcript_takes_nothing_for_what_was_said_before() {
    // With the 1024 that are assumed, 700 more would not fit into what is left.
    assert_eq!(transcript_after(700, 1024), [transcribed()]);
}

#[test]
fn a_transcript_takes_nothing_for_the_sessions_cap() {
    assert_eq!(transcript_after(1, 1999), [transcribed()]);
}

#[test]
fn what_was_said_before_is_part_of_the_next_prompt() {
    let mut run = Run::new(&gateway(|_| {}));
    run.hear(&done("r1", 700, 100));
    assert!((816..850).contains(&taken_by_next(&mut run)));
    // A transcript is no part of it, and a turn that does not tell its usage says nothing of it.
    for heard in [transcribed(), r#"{"type":"response.done","response":{"id":"r1"}}"#.to_owned()] {
        let mut run = Run::new(&gateway(|_| {}));
        run.hear(&done("r1", 700, 100));
        run.hear(&heard);
        assert!((816..850).contains(&taken_by_next(&mut run)), "{heard}");
    }
}

#[test]
fn a_backends_word_tells_what_its_session_goes_by() {
    let mut run = Run::new(&gateway(|config| {
        config["models"].as_array_mut().unwrap().push(json!({
            "name": "cheap", "backends": [{ "backend": "a" }],
        }));
        config["models"][1]["backends"][0]["deployment"] = json!("t");
    }));
    let set = |model: &str| {
        format!(
            r#""session":{{"audio":{{"input":{{"transcription":{{"model":"{model}"}}}}}},"max_output_tokens":9}}"#
        )
    };
    run.hear(&format!(r#"{{"type":"session.created",{}}}"#, set("t")));
    run.say(&format!(r#"{{"type":"session.update",{}}}"#, set("gpt-transcribe")));
    run.hear(&format!(r#"{{"type":"session.updated",{}}}"#, set("t")));
    // The backend refuses this one.
    run.say(&format!(r#"{{"type":"session.update",{}}}"#, set("cheap")));
    run.hear(&transcribed());
    let model = run.records[0].model.as_ref();
    assert_eq!(model.map(|model| &*model.text), Some("gpt-transcribe"));
    assert_eq!(run.socket.cap, Some(9));
    run.hear(r#"{"type":"session.updated","session":{"max_output_tokens":"inf"}}"#);
    assert_eq!((run.socket.cap, run.socket.transcriber.clone()), (None, None));
}

#[test]
fn a_policys_default_is_not_put_over_the_clients_cap() {
    let mut run = Run::new(&gateway(|config| {
        config["policies"][0]["max_tokens"] = json!({ "default": 60, "max": 100, "over": "clamp" });
    }));
    run.say(r#"{"type":"session.update","session":{"max_output_tokens":20}}"#);
    assert_eq!(
        run.say(r#"{"type":"session.update","session":{"voice":"x"}}"#),
        [r#"{"type":"session.update","session":{"max_output_tokens":20,"voice":"x"}}"#]
    );
    let null = r#"{"type":"response.create","event_id":"e","response":{"max_output_tokens":null}}"#;
    assert_eq!(run.say(null), [null.replace("null", "20")]);
}

#[test]
fn a_default_is_set_before_the_first_message() {
    let mut run = Run::new(&gateway(|config| {
        config["policies"][0]["max_tokens"] = json!({ "default": 60, "max": 100, "over": "clamp" });
    }));
    let first = r#"{"type":"session.update","session":{"max_output_tokens":60,"type":"realtime"}}"#;
    let sent = run.say(AUDIO);
    assert_eq!(sent.len(), 2, "{sent:?}");
    let (ours, expected): (Value, Value) =
        (serde_json::from_str(&sent[0]).unwrap(), serde_json::from_str(first).unwrap());
    assert_eq!((ours, sent[1].as_str()), (expected, AUDIO));
    assert_eq!(run.say(AUDIO), [AUDIO]);
    run.hear(CREATED);
    let taken = BUDGET - run.left();
    assert!((60..100).contains(&taken), "{taken}");
}

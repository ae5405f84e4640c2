//! What a turn goes by: its regions now, its own event, its own kind of message.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_turn_does_not_leave_the_regions_that_hold_now() {
    let both = |config: &mut Value| {
        config["backends"][0]["region"] = json!("us");
        config["backends"][1]["region"] = json!("eu");
        config["models"][0]["backends"] = json!([{ "backend": "a" }, { "backend": "b", "priority": 1 }]);
    };
    let mut run = Run::new(&gateway(both));
    assert_eq!(run.say(CREATE), [CREATE]);
    run.socket.serve_under(&gateway(|config| {
        both(config);
        config["clients"][0]["regions"] = json!(["eu"]);
    }));
    assert_eq!(run.say(CREATE), ["ping"]);
    assert_eq!(error(&run.pong()[0]).0, "region_not_permitted");
}

#[test]
fn an_error_about_another_event_gives_no_turn_back() {
    let mut run = Run::new(&gateway(|_| {}));
    run.say(CREATE);
    let left = run.left();
    run.hear(r#"{"type":"error","error":{"event_id":"other"}}"#);
    assert_eq!((run.left(), run.records.len()), (left, 0));
    run.hear(r#"{"type":"error","error":{"event_id":"e"}}"#);
    assert_eq!((run.left(), run.records.len()), (BUDGET, 1));
}

#[test]
fn a_policys_default_is_set_whatever_the_backend_had() {
    let mut run = Run::new(&gateway(|config| {
        config["policies"][0]["max_tokens"] = json!({ "default": 60, "max": 100, "over": "clamp" });
    }));
    run.hear(r#"{"type":"session.created","session":{"max_output_tokens":90}}"#);
    let first: Value = serde_json::from_str(&run.say(AUDIO)[0]).unwrap();
    assert_eq!(first["session"]["max_output_tokens"], 60);
}

#[test]
fn sound_is_a_smaller_part_of_the_next_prompt_than_text() {
    let taken_after = |event: Value| {
        let mut run = Run::new(&gateway(|_| {}));
        run.say(&event.to_string());
        taken_by_next(&mut run)
    };
    let long = "A".repeat(12_800);
    let sound = taken_after(json!({ "type": "input_audio_buffer.append", "audio": long }));
    let text = taken_after(json!({ "type": "conversation.item.create", "item": { "text": long } }));
    assert!((3_216..3_260).contains(&text), "{text}");
    assert!((18..60).contains(&sound), "{sound}");
}

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=b");

fn form(fields: &[(&str, &str)]) -> String {
    let parts: String = fields
        .iter()
        .map(|(name, value)| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        })
        .collect();
    format!("{parts}--b--\r\n")
}

/// With a policy and an endpoint for them, and room for images.
fn run(policy: Value) -> Run {
    Run::with(gateway(|config| {
        config["clients"][0]["limits"] = json!([{ "tokens": 100_000, "per": "minute" }]);
        config["policies"][0] = with(json!({ "name": "p" }), policy);
        config["backends"][0]["api_version"] = json!("2025-04-01-preview");
    }))
}

fn ask(run: &mut Run, path: &str, body: &str) -> Step {
    let _ = run.head(&[CHAT[0], (":path", path), CHAT[2], FORM, CHAT[3]]);
    run.body(body)
}

/// The body that waits, for the first backend that reads the model in it.
#[track_caller]
fn check(policy: Value, path: &str, fields: &[(&str, &str)], expected: Result<&[(&str, &str)], &str>) {
    let body = form(fields);
    let step = ask(&mut run(policy), path, &body);
    let expected = match expected {
        Ok(fields) => form(fields),
        Err(code) => {
            assert_eq!(refused(step), code, "{body}");
            return;
        }
    };
    let Step::Forward(forward) = step else { panic!("{step:?}") };
    let sent = match &forward.patch {
        Some(patch) => [&patch.bytes, &body.as_bytes()[patch.replaced..]].concat(),
        None => body.into_bytes(),
    };
    assert_eq!(String::from_utf8(sent).unwrap(), expected);
    let is_changed = forward.patch.is_some();
    assert_eq!(forward.content_length, is_changed.then_some(expected.len()));
}

const EDITS: &str = "/v1/images/edits";
const SPEECH: &str = "/v1/audio/transcriptions";

#[test]
fn a_form_names_its_model_in_a_part() {
    let model = [("model", "gpt-4o")];
    check(json!({}), SPEECH, &model, Ok(&[("model", "e")]));
    let mut run = run(json!({}));
    let Step::Forward(forward) = ask(&mut run, SPEECH, &form(&model)) else { panic!() };
    let departure = begin(&forward.flight, b"ca").unwrap().departure;
    assert_eq!(departure.path, "/openai/deployments/d/audio/transcriptions?api-version=2025-04-01-preview");
    check(json!({}), SPEECH, &[("x", "1")], Err("400 missing_required_parameter"));
    check(json!({}), SPEECH, &[("model", "secret")], Err("403 model_not_allowed"));
}

#[test]
fn the_model_of_the_path_is_written_into_the_form() {
    let path = "/openai/deployments/gpt-4o/audio/transcriptions?api-version=2025-04-01-preview";
    check(json!({}), path, &[("x", "1")], Ok(&[("model", "e"), ("x", "1")]));
    check(json!({}), path, &[("x", "1"), ("model", "secret")], Ok(&[("x", "1"), ("model", "e")]));
}

#[test]
fn a_policy_rules_forms_as_it_does_json() {
    let clamp = json!({ "n": { "max": 2, "over": "clamp" } });
    let model = ("model", "gpt-4o");
    let named = ("model", "e");
    check(clamp.clone(), EDITS, &[model, ("n", "9")], Ok(&[named, ("n", "2")]));
    check(clamp.clone(), EDITS, &[model, ("n", "1")], Ok(&[named, ("n", "1")]));
    check(clamp.clone(), EDITS, &[model, ("n", "1e1")], Err("400 invalid_type"));
    check(clamp, EDITS, &[model, ("n", "1"), ("n", "9")], Err("400 ambiguous_parameter"));
    let default = json!({ "n": { "default": 1, "max": 2, "over": "reject" } });
    check(default.clone(), EDITS, &[model], Ok(&[("n", "1"), named]));
    check(default.clone(), EDITS, &[model, ("n", "9")], Err("400 parameter_above_maximum"));
    let audit = with(default, json!({ "mode": "audit" }));
    check(audit, EDITS, &[model, ("n", "9")], Ok(&[named, ("n", "9")]));
    let warmth = json!({ "temperature": { "max": 0.5, "over": "clamp" } });
    check(warmth, SPEECH, &[model, ("temperature", "0.9")], Ok(&[named, ("temperature", "0.5")]));
    check(
        json!({ "stream": "forbid" }),
        SPEECH,
        &[model, ("stream", "true")],
        Err("400 parameter_value_not_allowed"),
    );
    check(
        json!({ "prompt": { "bytes_max": 8 } }),
        EDITS,
        &[model, ("prompt", "a crab")],
        Ok(&[named, ("prompt", "a crab")]),
    );
    check(
        json!({ "prompt": { "bytes_max": 7 } }),
        EDITS,
        &[model, ("prompt", "a crab")],
        Err("400 parameter_above_maximum"),
    );
}

#[test]
fn every_image_that_is_asked_for_is_reserved() {
    let reserved = |fields: &[(&str, &str)]| {
        let mut run = run(json!({ "size": { "allowed": ["1024x1024", "1536x1024"], "over": "clamp" } }));
        let fields = [&[("model", "gpt-4o"), ("n", "3")], fields].concat();
        let Step::Forward(_) = ask(&mut run, EDITS, &form(&fields)) else { panic!() };
        run.finish().reserved
    };
    for (fields, each) in [
        (&[][..], 7024),
        (&[("size", "1536x1024"), ("quality", "high")], 6208),
        (&[("size", "1024x1024"), ("quality", "low")], 272),
        // As it goes on.
        (&[("size", "1792x1024"), ("quality", "high")], 6208),
    ] {
        let reserved = reserved(fields);
        assert!(reserved >= 3 * each && reserved < 3 * each + 20, "{fields:?}: {reserved}");
    }
}

#[test]
fn images_are_edited_by_json_too() {
    let mut run = run(json!({ "n": { "max": 2, "over": "reject" } }));
    let head = [CHAT[0], (":path", EDITS), CHAT[2], ("content-type", "application/json")];
    let _ = run.head(&head);
    let step =
        run.body(r#"{"model":"gpt-4o","prompt":"x","images":[{"image_url":"https://example.com/y.png"}]}"#);
    assert!(matches!(step, Step::Forward(_)), "{step:?}");
    let mut run = self::run(json!({ "n": { "max": 2, "over": "reject" } }));
    let _ = run.head(&head);
    assert_eq!(refused(run.body(r#"{"model":"gpt-4o","prompt":"x","n":3}"#)), "400 parameter_above_maximum");
}

#[test]
fn a_form_of_which_the_policy_leaves_nothing_is_refused() {
    let (path, policy) = (
        "/openai/deployments/gpt-4o/audio/transcriptions?api-version=2025-04-01-preview",
        json!({ "logprobs": "drop" }),
    );
    let include = ("include[]", "logprobs");
    check(policy.clone(), path, &[include], Err("400 invalid_form"));
    let model = ("model", "e");
    check(policy.clone(), path, &[include, ("language", "de")], Ok(&[model, ("language", "de")]));
    check(policy, path, &[include, ("include[]", "other")], Ok(&[model, ("include[]", "other")]));
}

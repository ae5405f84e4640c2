//! What a backend keeps: where its ids lead, and what clients see of them.

use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn pinning(config: &mut Value) {
    config["pinning"] =
        json!({ "secret_envs": ["A_SECRET_THAT_HAS_THIRTY_TWO_BYTES"], "unsealed_ids": "pass" });
    config["clients"][0]["endpoints"] = json!(["*", "other"]);
    config["other_endpoints"] = json!(["b"]);
    config["backends"][0]["api_version"] = json!("2025-03-01-preview");
    config["backends"][0]["region"] = json!("eu");
    // Both may be tried with one body.
    config["models"][0]["backends"][1]["deployment"] = json!("d");
    config["policies"][0]["request_bytes_max"] = json!(10_000);
}

fn run() -> Run {
    Run::with(gateway(pinning))
}

/// What happens to the request and its answer; the answer comes from the backend of this cluster, after tries elsewhere.
struct Seen {
    candidates: Vec<String>,
    path: String,
    body: String,
    edits: ResponseEdits,
    answer: String,
    record: Record,
}

struct Asked<'a> {
    line: &'a str,
    content_type: &'a str,
    body: Option<&'a str>,
    tried: &'a [&'a str],
    answer: (&'a str, &'a str),
}

impl<'a> Asked<'a> {
    fn new(line: &'a str) -> Self {
        Self {
            line,
            content_type: "application/json",
            body: None,
            tried: &["cb"],
            answer: ("application/json", "{}"),
        }
    }

    fn step(&self, run: &mut Run) -> Step {
        let (method, path) = self.line.split_once(' ').unwrap();
        let head = headers(&[
            (":method", method),
            (":path", path),
            ("api-key", "key"),
            ("content-type", self.content_type),
            ("content-length", "1"),
        ]);
        let step = run.exchange.request_head(&head, self.body.is_none(), Moment::new(&run.store, NOW));
        match (run.perform(step), self.body) {
            (Step::AwaitBody { .. }, Some(body)) => run.body(body),
            (step, _) => step,
        }
    }

    #[track_caller]
    fn seen(&self, run: &mut Run) -> Seen {
        let step = self.step(run);
        let Step::Forward(forward) = step else { panic!("{step:?}") };
        let mut body = self.body.unwrap_or_default().as_bytes().to_vec();
        if let Some(patch) = forward.patch {
            body.splice(..patch.replaced, patch.bytes);
            assert_eq!(forward.content_length, Some(body.len()));
        }
        let mut path = String::new();
        for cluster in self.tried {
            path = begin(&forward.flight, cluster.as_bytes()).unwrap().departure.path;
        }
        let candidates = forward.flight.candidates().iter().map(|target| target.backend.name.to_string());
        let candidates = candidates.collect();
        let edits = run.answer("200", self.answer.0);
        let mut answer = Vec::new();
        let (one, two) = self.answer.1.split_at(self.answer.1.len() / 2);
        for (chunk, end) in [(one, false), (two, true)] {
            match run.exchange.response_chunk(chunk.as_bytes(), end, || NOW) {
                Output::Same => answer.extend_from_slice(chunk.as_bytes()),
                Output::Replaced(bytes) => answer.extend(bytes),
            }
        }
        let [body, answer] = [body, answer].map(|bytes| String::from_utf8(bytes).unwrap());
        Seen { candidates, path, body, edits, answer, record: run.finish() }
    }
}

const RESPONSES: &str = "POST /v1/responses";

fn id_in(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["id"].as_str().unwrap().to_owned()
}

/// An id that this backend made.
fn made_by(cluster: &str, id: &str) -> String {
    let answer = json!({ "id": id }).to_string();
    let body = r#"{"model":"gpt-4o","input":"x"}"#;
    let asked = Asked {
        body: Some(body),
        tried: &[cluster],
        answer: ("application/json", &answer),
        ..Asked::new(RESPONSES)
    };
    id_in(&asked.seen(&mut run()).answer)
}

fn follow_up(id: &str) -> String {
    json!({ "model": "gpt-4o", "input": "x", "previous_response_id": id }).to_string()
}

#[test]
fn an_id_leads_to_all_deployments_of_the_backend_that_keeps_it() {
    let id = made_by("cb", "resp_1");
    let several = |config: &mut Value| {
        pinning(config);
        config["models"][0]["backends"] = json!([
            { "backend": "b", "deployment": "new", "share_max": 0.1 }, { "backend": "a", "deployment": "d" },
            { "backend": "b", "deployment": "old" },
        ]);
    };
    let mut run = Run::with(gateway(several));
    let body = follow_up(&id);
    for sent in 0..20 {
        let step = Asked { body: Some(&body), ..Asked::new(RESPONSES) }.step(&mut run);
        assert!(matches!(&step, Step::Admit(ask) if ask.places.len() <= 2), "{step:?}");
        let goes = Turn::Goes { place: 0, seat: None };
        let step = run.exchange.admitted(Ok(goes), Moment::new(&run.store, NOW));
        let Step::Forward(forward) = step else { panic!("{step:?}") };
        let candidates: Vec<_> =
            forward.flight.candidates().iter().map(|target| &*target.deployment).collect();
        // Both keep it, so the bound on the one holds: five are saved up, and the sixth would be the tenth request.
        assert_eq!(candidates[0], if sent < 5 || sent == 10 { "new" } else { "old" }, "{sent}");
        assert!(!candidates.contains(&"d"), "{candidates:?}");
        let _ = run.finish();
        run.exchange = Exchange::new(gateway(several));
    }
}

#[test]
fn an_id_leads_back_to_whoever_answered_and_nowhere_else() {
    let body = r#"{"model":"gpt-4o","input":"x"}"#;
    let first = Asked {
        body: Some(body),
        // The first candidate failed.
        tried: &["ca", "cb"],
        answer: ("application/json", r#"{"id":"resp_1","usage":{"input_tokens":3,"output_tokens":4}}"#),
        ..Asked::new(RESPONSES)
    };
    let seen = first.seen(&mut run());
    assert_eq!(seen.candidates, ["a", "b"]);
    assert!(seen.edits.remove.contains(&"content-length".to_owned()));
    assert_eq!((seen.record.pin, seen.record.usage.completion), (None, 4));
    let id = id_in(&seen.answer);
    assert!(id.starts_with("resp_tg_") && id.ends_with('1'), "{id}");

    let seen = Asked { body: Some(&follow_up(&id)), ..Asked::new(RESPONSES) }.seen(&mut run());
    assert_eq!((seen.candidates, seen.record.pin), (vec!["b".to_owned()], Some(Pin::Followed)));
    let passed: Vec<_> = seen.record.passed_over.iter().map(|one| (&*one.backend, one.why.word())).collect();
    assert_eq!(passed, [("a", "pinned")]);
    let sent: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!((&sent["previous_response_id"], &sent["model"]), (&json!("resp_1"), &json!("d")));

    let line = format!("GET /v1/responses/{id}/input_items?after={}", made_by("cb", "msg_1"));
    let seen = Asked::new(&line).seen(&mut run());
    assert_eq!(
        (seen.candidates, seen.path),
        (vec!["b".to_owned()], "/v1/responses/resp_1/input_items?after=msg_1".to_owned())
    );

    // Also to one that is not among those for endpoints without a name.
    let line = format!("DELETE /openai/responses/{}?api-version=x", made_by("ca", "resp_2"));
    let seen = Asked { tried: &["ca"], ..Asked::new(&line) }.seen(&mut run());
    assert_eq!(seen.candidates, ["a"]);
    assert_eq!(seen.path, "/openai/responses/resp_2?api-version=2025-03-01-preview");
}

#[test]
fn other_endpoints_have_ids_restored_and_uploads_pass_unread() {
    let file = made_by("ca", "file-1");
    let body = format!(r#"{{ "input_file_id" : "{file}", "endpoint":"/v1/responses" }}"#);
    let answer = r#"{"id":"batch_1","input_file_id":"file-1","metadata":{"id":"x"}}"#;
    let asked = Asked {
        body: Some(&body),
        tried: &["ca"],
        answer: ("application/json; charset=utf-8", answer),
        ..Asked::new("POST /v1/batches")
    };
    let seen = asked.seen(&mut run());
    assert_eq!(seen.candidates, ["a"]);
    assert_eq!(seen.body, r#"{ "input_file_id" : "file-1", "endpoint":"/v1/responses" }"#);
    let found: Value = serde_json::from_str(&seen.answer).unwrap();
    assert_eq!((&found["input_file_id"], &found["metadata"]["id"]), (&json!(file), &json!("x")));

    let form = Asked { content_type: "multipart/form-data; boundary=x", ..asked };
    let step = Asked { line: "POST /v1/files", ..form }.step(&mut run());
    assert!(matches!(step, Step::Forward(Forward { patch: None, .. })), "{step:?}");
    // A body that readers differ about is refused: ids might hide in it.
    let odd = Asked { body: Some("[1,]"), ..Asked::new("POST /v1/batches") };
    assert_eq!(refused(odd.step(&mut run())), "400 invalid_json");
    let plain = Asked { content_type: "text/plain", ..odd };
    assert_eq!(refused(plain.step(&mut run())), "415 unsupported_media_type");
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(10_000));
    let mut run = run();
    let head = headers(&[(":method", "POST"), (":path", "/v1/batches"), ("api-key", "key")]);
    let step = run.exchange.request_head(&head, false, Moment::new(&run.store, NOW));
    assert!(matches!(step, Step::AwaitBody { .. }));
    let step = run.exchange.request_body_grows(long.len()).unwrap();
    assert_eq!(refused(run.perform(step)), "413 request_too_large");
}

#[test]
fn ids_in_a_form_of_other_are_restored_as_in_json() {
    let field = |name: &str, text: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let form = |fields: &[(&str, &str)]| {
        fields.iter().map(|(name, text)| field(name, text)).collect::<String>() + "--x--\r\n"
    };
    let asked = |body: &str, then: &dyn Fn(Asked<'_>)| {
        let form = "multipart/form-data; boundary=x";
        then(Asked {
            content_type: form,
            body: Some(body),
            tried: &["ca"],
            ..Asked::new("POST /v1/videos/edits")
        });
    };
    let (video, file) = (made_by("ca", "video_1"), made_by("ca", "file-1"));
    let json = |id: &str| format!(r#"{{"id":"{id}"}}"#);
    let list = |id: &str| format!(r#"["{id}"]"#);
    for (name, sealed, plain) in [
        ("video[id]", video.clone(), "video_1".to_owned()),
        ("video", json(&video), json("video_1")),
        ("video_id", video.clone(), "video_1".to_owned()),
        ("file_ids[]", file.clone(), "file-1".to_owned()),
        ("file_ids[0]", file.clone(), "file-1".to_owned()),
        ("file_ids", list(&file), list("file-1")),
        ("characters[0][id]", video.clone(), "video_1".to_owned()),
        ("input_reference[file_id]", file.clone(), "file-1".to_owned()),
    ] {
        // Also where there are several of the name, and beside a text that looks like one.
        let other = ("prompt", &*video);
        let body = form(&[other, (name, &sealed), (name, &sealed)]);
        asked(&body, &|asked| {
            let seen = asked.seen(&mut run());
            assert_eq!(seen.candidates, ["a"], "{name}");
            assert_eq!(seen.body, form(&[other, (name, &plain), (name, &plain)]), "{name}");
        });
        let broken = sealed.replace(&*video, &format!("{video}x")).replace(&*file, &format!("{file}x"));
        asked(&form(&[(name, &broken)]), &|asked| {
            assert_eq!(refused(asked.step(&mut run())), "404 id_not_found", "{name}");
        });
    }
    // Of two backends: nobody has both.
    let elsewhere = made_by("cb", "file-2");
    asked(&form(&[("video[id]", &video), ("file_ids[]", &elsewhere)]), &|asked| {
        assert_eq!(refused(asked.step(&mut run())), "400 ids_of_different_backends");
    });
    // What is the user's own is not looked into.
    let own = form(&[("parameters[id]", &video), ("metadata", &json(&video)), ("prompt", "id")]);
    asked(&own, &|asked| assert_eq!(Asked { tried: &["cb"], ..asked }.seen(&mut run()).body, own));
}

#[test]
fn a_sealed_id_is_opened_whatever_is_asked_for() {
    let file = made_by("cb", "file-1");
    let with = |id: &str| {
        [
            (
                "POST /v1/images/edits",
                format!(r#"{{"model":"gpt-4o","prompt":"x","images":[{{"file_id":"{id}"}}]}}"#),
            ),
            (
                "POST /v1/chat/completions",
                format!(
                    r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":[{{"type":"file","file":{{"file_id":"{id}"}}}}]}}]}}"#
                ),
            ),
        ]
    };
    for ((line, body), (_, plain)) in with(&file).into_iter().zip(with("file-1")) {
        let seen = Asked { body: Some(&body), ..Asked::new(line) }.seen(&mut run());
        assert_eq!(seen.candidates, ["b"], "{line}");
        let (sent, plain): (Value, Value) =
            (serde_json::from_str(&seen.body).unwrap(), serde_json::from_str(&plain).unwrap());
        for part in ["images", "messages"] {
            assert_eq!(sent[part], plain[part], "{line}");
        }
    }
    for (line, body) in with(&format!("{file}x")) {
        let asked = Asked { body: Some(&body), ..Asked::new(line) };
        assert_eq!(refused(asked.step(&mut run())), "404 id_not_found", "{line}");
    }
    // Ids that nobody sealed are no matter of these.
    let strict = || {
        Run::with(gateway(|config| {
            pinning(config);
            config["pinning"]["unsealed_ids"] = json!("refuse");
        }))
    };
    for (line, body) in with("file-tg_1").into_iter().chain(with("file-1")) {
        let body = body.replace(r#""model""#, r#""x":"tg_","model""#);
        let asked = Asked { body: Some(&body), ..Asked::new(line) };
        let is_passed = !body.contains("file-tg_");
        assert_eq!(matches!(asked.step(&mut strict()), Step::Forward(_)), is_passed, "{line}");
    }
}

#[test]
fn a_pinned_request_waits_for_its_backend_in_its_region() {
    let id = made_by("ca", "resp_1");
    let follow_up = follow_up(&id);
    let asked = Asked { body: Some(&follow_up), ..Asked::new(RESPONSES) };
    let mut pausing = run();
    let target = pausing.exchange.draft.gateway.models[0].targets[0].clone();
    let wait = Cooldown { wait: Duration::from_millis(1500), from_backend: true };
    Cooldowns::note(Moment::new(&pausing.store, NOW), &target, wait).unwrap();
    let Step::Answer(answer) = asked.step(&mut pausing) else { panic!() };
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains(&("retry-after-ms", "1500".to_owned())));

    let elsewhere = |config: &mut Value| {
        pinning(config);
        config["backends"][1]["region"] = json!("us");
        config["clients"][0]["regions"] = json!(["us"]);
    };
    assert_eq!(refused(asked.step(&mut Run::with(gateway(elsewhere)))), "403 region_not_permitted");
    let line = format!("GET /v1/responses/{id}");
    let step = Asked::new(&line).step(&mut Run::with(gateway(elsewhere)));
    assert_eq!(refused(step), "403 region_not_permitted");
}

#[test]
fn the_model_must_be_permitted_and_be_served_where_the_ids_are() {
    let with = |id: &str, edit: fn(&mut Value)| {
        let gateway = gateway(|config| {
            pinning(config);
            edit(config);
        });
        let mut run = Run::with(gateway);
        let code = refused(Asked { body: Some(&follow_up(id)), ..Asked::new(RESPONSES) }.step(&mut run));
        (code, run.finish().pin)
    };
    let id = made_by("ca", "resp_1");
    let only_b = |config: &mut Value| {
        config["models"][0]["backends"].as_array_mut().unwrap().remove(0);
    };
    assert_eq!(with(&id, only_b), ("400 model_not_served_there".to_owned(), Some(Pin::Followed)));
    let none = |config: &mut Value| config["clients"][0]["models"] = json!(["secret"]);
    assert_eq!(with(&id, none), ("403 model_not_allowed".to_owned(), None));
    let refused = Some(Pin::Refused);
    let other = |config: &mut Value| config["clients"][0]["name"] = json!("other");
    assert_eq!(with(&id, other), ("404 id_not_found".to_owned(), refused));
    assert_eq!(with(&format!("{id}x"), |_| {}), ("404 id_not_found".to_owned(), refused));
    let strict = |config: &mut Value| config["pinning"]["unsealed_ids"] = json!("refuse");
    assert_eq!(with("resp_1", strict), ("404 id_not_found".to_owned(), refused));
    // What nobody said anything about goes by whose the ids are.
    fn bound_to(config: &mut Value, whose: &str) {
        let pinning = config["pinning"].as_object_mut().unwrap();
        pinning.remove("unsealed_ids");
        pinning.insert("bound_to".to_owned(), json!(whose));
    }
    assert_eq!(with("resp_1", |config| bound_to(config, "client")), ("404 id_not_found".to_owned(), refused));
    let shared = Run::with(gateway(|config| {
        pinning(config);
        bound_to(config, "anyone");
    }));
    let seen = Asked { body: Some(&follow_up("resp_1")), ..Asked::new(RESPONSES) }.seen(&mut { shared });
    assert_eq!(seen.record.pin, Some(Pin::Unsealed));

    let body =
        json!({ "model": "gpt-4o", "previous_response_id": id, "conversation": made_by("cb", "conv_1") });
    let step = Asked { body: Some(&body.to_string()), ..Asked::new(RESPONSES) }.step(&mut run());
    assert_eq!(super::refused(step), "400 ids_of_different_backends");
}

#[test]
fn what_was_not_sealed_goes_on_as_before() {
    let seen = Asked { body: Some(&follow_up("resp_1")), ..Asked::new(RESPONSES) }.seen(&mut run());
    assert_eq!((seen.candidates.len(), seen.record.pin), (2, Some(Pin::Unsealed)));
    assert!(seen.body.contains("\"resp_1\""));
    // Without a secret nothing is looked at.
    let mut plain = Run::with(gateway(|config| {
        pinning(config);
        config.as_object_mut().unwrap().remove("pinning");
    }));
    let answer = ("application/json", r#"{"id":"resp_1"}"#);
    let asked = Asked { body: Some(&follow_up("resp_tg_x")), answer, ..Asked::new(RESPONSES) };
    let seen = asked.seen(&mut plain);
    assert_eq!((seen.candidates.len(), seen.record.pin, &*seen.answer), (2, None, answer.1));
    assert_eq!(seen.edits.remove, ["x-ms-region"]);
}

#[test]
fn only_answers_that_have_ids_are_looked_at() {
    let chat = r#"{"model":"gpt-4o","messages":[]}"#;
    let answer = ("application/json", r#"{"id":"resp_1"}"#);
    let asked = Asked { body: Some(chat), answer, ..Asked::new("POST /v1/chat/completions") };
    let seen = asked.seen(&mut run());
    assert_eq!((&*seen.answer, seen.edits.remove), (answer.1, vec!["x-ms-region".to_owned()]));
    // What a client has put into a file is its own.
    let line = format!("GET /v1/files/{}/content", made_by("cb", "file-1"));
    let seen = Asked { answer, ..Asked::new(&line) }.seen(&mut run());
    assert_eq!((&*seen.path, &*seen.answer), ("/v1/files/file-1/content", answer.1));
    let seen = Asked { answer: ("audio/mpeg", answer.1), ..Asked::new("GET /v1/files") }.seen(&mut run());
    assert_eq!(seen.answer, answer.1);
    // Events are.
    let events = ("text/event-stream", "event: x\ndata: {\"response\":{\"id\":\"resp_1\"}}\n\n");
    let body = r#"{"model":"gpt-4o","input":"x","stream":true}"#;
    let seen = Asked { body: Some(body), answer: events, ..Asked::new(RESPONSES) }.seen(&mut run());
    assert_eq!(seen.answer, events.1.replace("resp_1", &made_by("cb", "resp_1")));
}

#[test]
fn an_error_passes_as_it_is() {
    let mut run = run();
    let step = Asked { body: Some(&follow_up("resp_1")), ..Asked::new(RESPONSES) }.step(&mut run);
    let Step::Forward(forward) = step else { panic!() };
    let _ = begin(&forward.flight, b"cb");
    let edits = run.answer("404", "application/json");
    assert_eq!(edits.remove, ["x-ms-region"]);
    assert_eq!(run.exchange.response_chunk(br#"{"id":"resp_1"}"#, true, || NOW), Output::Same);
}

/// The error of the backend that was asked, as the client gets it.
fn seen_error(asked: &Asked<'_>, error: &str) -> (ResponseEdits, String) {
    let mut run = run();
    let Step::Forward(forward) = asked.step(&mut run) else { panic!() };
    let _ = begin(&forward.flight, asked.tried[0].as_bytes());
    let edits = run.answer("404", "application/json");
    let seen = match run.exchange.response_chunk(error.as_bytes(), true, || NOW) {
        Output::Same => error.to_owned(),
        Output::Replaced(bytes) => String::from_utf8(bytes).unwrap(),
    };
    (edits, seen)
}

#[test]
fn an_error_quotes_the_id_that_the_client_knows() {
    let id = made_by("cb", "resp_1");
    let error = r#"{"error":{"message":"No 'resp_1' here, nor resp_2."}}"#;
    let expected = error.replace("resp_1", &id);
    let body = follow_up(&id);
    let (edits, seen) = seen_error(&Asked { body: Some(&body), ..Asked::new(RESPONSES) }, error);
    assert_eq!((&seen, edits.remove.contains(&"content-length".to_owned())), (&expected, true));
    let line = format!("DELETE /v1/responses/{id}");
    assert_eq!(seen_error(&Asked::new(&line), error).1, expected);
    let unsealed = follow_up("resp_1");
    assert_eq!(seen_error(&Asked { body: Some(&unsealed), ..Asked::new(RESPONSES) }, error).1, error);
}

#[test]
fn who_may_make_responses_may_ask_for_them() {
    let only = |endpoints: Value| {
        move |config: &mut Value| {
            pinning(config);
            config["clients"][0]["endpoints"] = endpoints;
            config["other_endpoints"] = json!([]);
        }
    };
    let id = made_by("ca", "resp_1");
    let line = |id: &str| format!("GET /v1/responses/{id}/input_items");
    let asked = |line: &str, endpoints: Value| {
        let mut run = Run::with(gateway(only(endpoints)));
        match (Asked { tried: &["ca"], ..Asked::new(line) }).step(&mut run) {
            Step::Forward(forward) => forward.flight.candidates()[0].backend.name.to_string(),
            step => refused(step),
        }
    };
    assert_eq!(asked(&line(&id), json!(["responses"])), "a");
    assert_eq!(asked(&line(&id), json!(["chat/completions"])), "403 endpoint_not_allowed");
    assert_eq!(asked(&line(&format!("{id}x")), json!(["responses"])), "404 id_not_found");
    // What leads nowhere is an endpoint without a name as ever, and so is what is no response.
    assert_eq!(asked(&line("resp_1"), json!(["responses"])), "404 unknown_url");
    assert_eq!(asked(&format!("GET /v1/files/{id}"), json!(["responses"])), "404 unknown_url");
}

#[test]
fn a_model_outside_of_policies_is_permitted_and_renamed_as_well() {
    let asked = |body: Value, edit: fn(&mut Value)| {
        let mut run = Run::with(gateway(|config| {
            pinning(config);
            config["other_endpoints"] = json!(["b", "a"]);
            config["models"][0]["aliases"] = json!(["an-alias"]);
            config["models"][0]["backends"][1]["deployment"] = json!("e");
            edit(config);
        }));
        let body = body.to_string();
        let asked = Asked { body: Some(&body), tried: &[], ..Asked::new("POST /v1/assistants") };
        let step = asked.step(&mut run);
        if matches!(step, Step::Answer(_)) {
            return Err(refused(step));
        }
        let mut run = Run::with(run.exchange.draft.gateway.clone());
        let seen = asked.seen(&mut run);
        let body: Value = serde_json::from_str(&seen.body).unwrap();
        Ok((seen.candidates.concat(), body["model"].clone()))
    };
    let same = |_: &mut Value| {};
    for name in ["gpt-4o", "an-alias"] {
        // Only the first of them: the other calls it otherwise.
        assert_eq!(asked(json!({ "model": name }), same), Ok(("b".to_owned(), json!("e"))));
    }
    let file = made_by("ca", "file-1");
    assert_eq!(
        asked(json!({ "model": "gpt-4o", "file_ids": [file] }), same),
        Ok(("a".to_owned(), json!("d")))
    );
    let alike: fn(&mut Value) = |config| config["models"][0]["backends"][1]["deployment"] = json!("d");
    assert_eq!(asked(json!({ "model": "an-alias" }), alike), Ok(("ba".to_owned(), json!("d"))));
    for none in [json!({}), json!({ "model": null }), json!([{ "x": "secret" }])] {
        assert_eq!(asked(none, same).map(|seen| seen.0), Ok("ba".to_owned()));
    }

    // Who may not serve the client does not decide what the model is called.
    let abroad: fn(&mut Value) = |config| config["clients"][0]["regions"] = json!(["eu"]);
    assert_eq!(asked(json!({ "model": "gpt-4o" }), abroad), Ok(("a".to_owned(), json!("d"))));

    for unknown in ["secret", "nothing"] {
        assert_eq!(asked(json!({ "model": unknown }), same), Err("403 model_not_allowed".to_owned()));
    }
    assert_eq!(asked(json!({ "Model": "gpt-4o" }), same), Err("400 ambiguous_parameter".to_owned()));
    assert_eq!(asked(json!({ "model": 1 }), same), Err("400 invalid_type".to_owned()));
    let only_b: fn(&mut Value) = |config| {
        config["models"][0]["backends"].as_array_mut().unwrap().remove(0);
    };
    let body = json!({ "model": "gpt-4o", "file_ids": [made_by("ca", "file-1")] });
    assert_eq!(asked(body, only_b), Err("400 model_not_served_there".to_owned()));
}

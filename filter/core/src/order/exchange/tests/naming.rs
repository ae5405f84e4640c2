//! Other models that a request names: held to the client's list as its own is.

use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The client may use `gpt-4o`, at both backends, and `art`, which they call differently; `secret` it may not.
fn naming(config: &mut Value) {
    config["clients"][0]["models"] = json!(["gpt-4o", "art"]);
    config["clients"][0]["endpoints"] = json!(["*", "other"]);
    config["clients"][0]["limits"] = json!([{ "tokens": 100_000, "per": "minute" }]);
    config["policies"][0] = json!({ "name": "p" });
    config["backends"][0]["api_version"] = json!("2025-04-01-preview");
    config["other_endpoints"] = json!(["b", "a"]);
    config["other_paths"] = json!(["rerank"]);
    config["models"].as_array_mut().unwrap().push(json!({
        "name": "art",
        "aliases": ["an-alias"],
        "backends": [{ "backend": "a", "deployment": "art-1" }, { "backend": "b", "deployment": "art" }],
    }));
}

/// The candidates and the body that waits, or the refusal.
fn asked(
    edit: fn(&mut Value),
    path: &str,
    content_type: &str,
    body: &str,
) -> Result<(String, String), String> {
    let mut run = Run::with(gateway(|config| {
        naming(config);
        edit(config);
    }));
    let head = [
        (":method", "POST"),
        (":path", path),
        CHAT[2],
        ("content-type", content_type),
        ("content-length", "1"),
    ];
    let mut step = run.head(&head);
    if matches!(step, Step::AwaitBody { .. }) {
        step = run.body(body);
    }
    let Step::Forward(forward) = step else { return Err(refused(step)) };
    let mut sent = body.as_bytes().to_vec();
    if let Some(patch) = forward.patch {
        sent.splice(..patch.replaced, patch.bytes);
        assert_eq!(forward.content_length, Some(sent.len()), "{body}");
    }
    let candidates = forward.flight.candidates().iter().map(|target| &*target.backend.name);
    Ok((candidates.collect(), String::from_utf8(sent).unwrap()))
}

const NOBODY: fn(&mut Value) = |_| {};
const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=b";
const RESPONSES: &str = "/v1/responses";
const NO_MODEL: &str = "403 model_not_allowed";
const NO_FIELD: &str = "400 parameter_not_allowed";

/// Whatever names `NAME` in this body is held to the list: it is one of the client's, or the request is refused.
#[track_caller]
fn check_held(path: &str, body: &str) {
    let with = |name: &str| asked(NOBODY, path, JSON, &body.replace("NAME", name));
    for name in ["secret", "nothing"] {
        assert_eq!(with(name).unwrap_err(), NO_MODEL, "{path} {body}");
    }
    let (_, sent) = with("art").unwrap();
    // Whoever is asked first, by the name that it has there.
    assert!(sent.contains(r#""art"#), "{sent}");
}

#[track_caller]
fn check_refused(path: &str, body: &str, code: &str) {
    assert_eq!(asked(NOBODY, path, JSON, body).unwrap_err(), code, "{path} {body}");
}

/// Nobody is named in it, whatever it says.
#[track_caller]
fn check_free(path: &str, body: &str) {
    let found = asked(NOBODY, path, JSON, body);
    assert!(found.is_ok(), "{path} {body} {found:?}");
}

#[test]
fn the_model_of_a_tool_is_one_of_the_clients() {
    for tools in [
        r#""tools":[{"type":"image_generation","model":"NAME","size":"1024x1024"}]"#,
        r#""tools":[{"type":"web_search"},{"type":"image_generation","svg":{"model":"NAME"}}]"#,
        r#""tools":[{"type":"namespace","tools":[{"type":"image_generation","model":"NAME"}]}]"#,
        r#""input":[{"type":"additional_tools","tools":[{"type":"image_generation","model":"NAME"}]}]"#,
        r#""input":[{"type":"tool_search_output","tools":[{"type":"image_generation","model":"NAME"}]}]"#,
    ] {
        let body = format!(r#"{{"model":"gpt-4o",{tools}}}"#);
        check_held(RESPONSES, &body);
        check_held("/v1/responses/compact", &body);
    }
    // Servers of chat have tools of their own.
    let tool = r#"{"type":"openrouter:image_generation","parameters":{"model":"NAME"}}"#;
    check_held("/v1/chat/completions", &format!(r#"{{"model":"gpt-4o","tools":[{tool}]}}"#));
}

#[test]
fn of_several_deployments_the_first_is_what_the_model_is_called() {
    let several = |config: &mut Value| {
        config["models"].as_array_mut().unwrap().pop();
        config["models"].as_array_mut().unwrap().push(json!({ "name": "art", "backends": [
            { "backend": "b", "deployment": "new", "priority": 1 }, { "backend": "b", "deployment": "old" },
        ] }));
    };
    let body = r#"{"model":"art","input":"x"}"#;
    let expected = ("b".to_owned(), body.replace("art", "old"));
    assert_eq!(asked(several, "/v1/rerank", JSON, body), Ok(expected));
}

#[test]
fn every_object_of_a_request_that_names_a_model_is_held() {
    for more in [
        r#""moderation":{"model":"NAME"}"#,
        r#""session":{"model":"NAME"}"#,
        r#""session":{"audio":{"input":{"transcription":{"model":"NAME"}}}}"#,
        r#""input_audio_transcription":{"model":"NAME"}"#,
        r#""extra_body":{"model":"NAME"}"#,
        r#""x":[[{"y":{"model":"NAME"}}]]"#,
        r#""data_sources":[{"type":"azure_search","parameters":{"embedding_dependency":{"type":"deployment_name","deployment_name":"NAME"}}}]"#,
    ] {
        check_held("/v1/chat/completions", &format!(r#"{{"model":"gpt-4o",{more}}}"#));
        check_held(RESPONSES, &format!(r#"{{{more},"model":"gpt-4o"}}"#));
    }
    check_held("/v1/images/generations", r#"{"model":"gpt-4o","prompt":"x","svg":{"model":"NAME"}}"#);
    check_held("/v1/images/edits", r#"{"model":"gpt-4o","prompt":"x","svg":{"model":"NAME"}}"#);
}

#[test]
fn a_request_does_not_name_several_models_or_another_backend() {
    for field in [
        r#""models":["gpt-4o","secret"]"#,
        r#""fallbacks":["secret"]"#,
        r#""fallbacks":[{"model":"gpt-4o"}]"#,
        r#""fallback_models":"secret""#,
        r#""model_list":[]"#,
        r#""context_window_fallbacks":[{"gpt-4o":["secret"]}]"#,
        r#""content_policy_fallbacks":[]"#,
        r#""user_config":{"model_list":[]}"#,
        r#""engine":"secret""#,
        r#""deployment_id":"secret""#,
        r#""deployment_name":"secret""#,
        r#""api_base":"https://example.com""#,
        r#""base_url":"https://example.com""#,
        r#""preset":"secret""#,
        r#""agent":{"name":"secret"}"#,
        r#""agent_reference":{"name":"secret"}"#,
        r#""Models":["secret"]"#,
        r#""model\u0073":["secret"]"#,
        r#""model\u017f":["secret"]"#,
        r#""fallbac\u212as":["secret"]"#,
        r#""extra_body":{"models":["secret"]}"#,
        r#""compound_custom":{"models":{"answering_model":"secret"}}"#,
    ] {
        for path in ["/v1/chat/completions", RESPONSES, "/v1/embeddings"] {
            check_refused(path, &format!(r#"{{"model":"gpt-4o",{field}}}"#), NO_FIELD);
        }
        // No more does null, which some SDK may write.
        let name = field.split_once("\":").unwrap().0;
        if !field.starts_with(r#""extra"#) && !field.starts_with(r#""compound"#) {
            check_free("/v1/chat/completions", &format!(r#"{{"model":"gpt-4o",{name}":null}}"#));
        }
    }
    for (field, code) in [
        (r#""x":{"Model":"art"}"#, "400 ambiguous_parameter"),
        (r#""x":{"m\u006fdel":"secret"}"#, "400 ambiguous_parameter"),
        (r#""x":{"mode\u006C":"art"}"#, "400 ambiguous_parameter"),
        (r#""x":{"model":"art","model":"secret"}"#, "400 ambiguous_parameter"),
        (r#""x":{"type":"function","type":"y","model":"secret"}"#, "400 ambiguous_parameter"),
        (r#""x":{"model":["secret"]}"#, "400 invalid_type"),
        (r#""x":{"model":{"id":"secret"}}"#, "400 invalid_type"),
        (r#""x":{"deployment_name":7}"#, "400 invalid_type"),
    ] {
        check_refused("/v1/chat/completions", &format!(r#"{{"model":"gpt-4o",{field}}}"#), code);
    }
    let deep = |depth| {
        let (open, close) = (r#"{"x":"#.repeat(depth), "}".repeat(depth));
        format!(r#"{{"model":"gpt-4o","x":{open}{{"model":"art"}}{close}}}"#)
    };
    check_free("/v1/chat/completions", &deep(30));
    check_refused("/v1/chat/completions", &deep(31), "400 invalid_type");
}

#[test]
fn a_body_or_query_of_other_goes_nowhere_else() {
    for field in [
        r#""engine":"secret""#,
        r#""deployment_id":"secret""#,
        r#""api_base":"https://example.com""#,
        r#""base_url":"https://example.com""#,
        r#""preset":"secret""#,
        r#""agent":{"name":"secret"}"#,
        r#""agent_reference":{"name":"secret"}"#,
        r#""user_config":{}"#,
        r#""context_window_fallbacks":[]"#,
        r#""content_policy_fallbacks":[]"#,
        r#""Engine":"secret""#,
        r#""\u0065ngine":"secret""#,
        r#""type":"function","engine":"secret""#,
    ] {
        for path in ["/v1/moderations", "/v1/threads/runs", "/v1/videos", "/v1/rerank"] {
            check_refused(path, &format!("{{{field}}}"), NO_FIELD);
        }
        let (name, _) = field.split_once(":").unwrap();
        check_free("/v1/moderations", &format!("{{{name}:null}}"));
        // What is below the top is of something else.
        check_free("/v1/moderations", &format!(r#"{{"x":{{{field}}}}}"#));
    }
    // No type makes a body the client's own.
    check_held("/v1/moderations", r#"{"type":"function","model":"NAME"}"#);
    for name in ["engine", "api_base", "engine[x]", "Engine", "preset[]"] {
        let video = form(&[("prompt", "x"), (name, "secret")]);
        assert_eq!(asked(NOBODY, "/v1/videos", FORM, &video).unwrap_err(), NO_FIELD, "{name}");
        let found = bare("GET", &format!("/v1/batches?limit=2&{name}=secret"));
        assert_eq!(found, Err(NO_FIELD.to_owned()), "{name}");
    }
    let free = form(&[("prompt", "x"), ("x", r#"{"engine":"e"}"#), ("x[engine]", "e")]);
    assert_eq!(asked(NOBODY, "/v1/videos", FORM, &free).map(|(_, sent)| sent), Ok(free));
}

#[test]
fn what_is_the_users_own_names_no_model() {
    for more in [
        r#""messages":[{"role":"user","content":"{\"model\":\"secret\"}"},{"model":"secret"}]"#,
        r#""metadata":{"model":"secret"}"#,
        r#""tools":[{"type":"function","function":{"parameters":{"properties":{"model":{"type":"string"}}}},"model":"x"}]"#,
        r#""tools":[{"type":"function","parameters":{"default":{"model":"secret"}}},{"type":"custom","model":"x"}]"#,
        r#""functions":[{"model":"secret"}]"#,
        r#""response_format":{"type":"json_schema","json_schema":{"schema":{"example":{"model":"secret"}}}}"#,
        r#""text":{"format":{"type":"json_schema","schema":{"example":{"model":"secret"}}}}"#,
        r#""prediction":{"type":"content","content":[{"model":"secret"}]}"#,
        r#""guided_json":{"properties":{"model":{"type":"string"}}}"#,
        r#""x":{"properties":{"model":{"type":"string"}}}"#,
        r#""documents":[{"model":"Model T"}]"#,
        r#""tools":[{"type":"web_search","input_examples":[{"model":"Model T"}]}]"#,
        r#""input":[{"content":[{"model":"secret"}]},{"type":"image_generation_call","svg_usage":{"model":"secret"}}]"#,
        r#""input":[{"type":"function_call_output","output":[{"model":"secret"}]}]"#,
        r#""prompt":{"id":"p","variables":{"model":"secret"}}"#,
        r#""x":{"model":null,"models":null}"#,
        r#""x":"model","y":["model","models"]"#,
    ] {
        check_free(RESPONSES, &format!(r#"{{"model":"gpt-4o",{more}}}"#));
        check_free("/v1/chat/completions", &format!(r#"{{"model":"gpt-4o",{more}}}"#));
    }
}

#[test]
fn a_model_that_is_named_is_called_as_its_backend_does() {
    let tools = |name: &str| format!(r#""tools":[{{"type":"image_generation","model":"{name}"}}]"#);
    let body = |own: &str, name: &str| format!(r#"{{"model":"{own}",{}}}"#, tools(name));
    // The one that is called otherwise by the second backend leaves that out.
    for name in ["art", "an-alias"] {
        let found = asked(NOBODY, RESPONSES, JSON, &body("gpt-4o", name)).unwrap();
        assert_eq!(found, ("a".to_owned(), body("d", "art-1")));
    }
    let alike: fn(&mut Value) = |config| config["models"][2]["backends"][1]["deployment"] = json!("art-1");
    let (candidates, sent) = asked(alike, RESPONSES, JSON, &body("gpt-4o", "art")).unwrap();
    assert_eq!((candidates.as_str(), sent), ("ab", body("d", "art-1")));
    let abroad: fn(&mut Value) = |config| {
        config["models"][2]["backends"].as_array_mut().unwrap().remove(0);
    };
    assert_eq!(
        asked(abroad, RESPONSES, JSON, &body("gpt-4o", "art")).unwrap(),
        ("b".to_owned(), body("e", "art"))
    );
    let nowhere: fn(&mut Value) = |config| {
        config["models"][0]["backends"].as_array_mut().unwrap().remove(0);
        config["models"][2]["backends"].as_array_mut().unwrap().remove(1);
    };
    let code = asked(nowhere, RESPONSES, JSON, &body("gpt-4o", "art")).unwrap_err();
    assert_eq!(code, "400 model_not_served_there");
    // What the policy took back names nothing any more.
    let drop: fn(&mut Value) = |config| config["policies"][0]["data_sources"] = json!("drop");
    let sources = r#""data_sources":[{"parameters":{"deployment_name":"secret"}}]"#;
    let found = asked(drop, RESPONSES, JSON, &format!(r#"{{"model":"gpt-4o",{sources}}}"#)).unwrap();
    assert!(found.1.contains(r#""data_sources":null"#), "{found:?}");
}

#[test]
fn an_allowed_field_may_name_any_model() {
    let allowed: fn(&mut Value) = |config| {
        config["policies"][0]["unknown_fields"] = json!("refuse");
        config["policies"][0]["allowed_fields"] = json!(["models", "plugins", "top_k"]);
    };
    let body = |field: &str| format!(r#"{{"model":"gpt-4o","messages":[],{field}}}"#);
    let chat = |field| asked(allowed, "/v1/chat/completions", JSON, &body(field)).map(|_| ());
    assert_eq!(chat(r#""models":["secret"]"#), Ok(()));
    assert_eq!(chat(r#""plugins":[{"model":"secret"}],"top_k":3"#), Ok(()));
    assert_eq!(chat(r#""fallbacks":["secret"]"#), Err("400 unknown_parameter".to_owned()));
    assert_eq!(chat(r#""Models":["secret"]"#), Err("400 unknown_parameter".to_owned()));
    assert_eq!(chat(r#""tools":[{"type":"x","model":"secret"}]"#), Err(NO_MODEL.to_owned()));
}

#[test]
fn what_evaluates_and_trains_names_models_of_the_client() {
    for (path, body) in [
        ("/v1/evals", r#"{"testing_criteria":[{"type":"score_model","model":"NAME","input":[]}]}"#),
        ("/v1/evals/e/runs", r#"{"data_source":{"type":"responses","model":"NAME"}}"#),
        (
            "/v1/evals/e/runs",
            r#"{"data_source":{"sampling_params":{"tools":[{"type":"image_generation","model":"NAME"}]}}}"#,
        ),
        ("/v1/fine_tuning/jobs", r#"{"model":"art","method":{"reinforcement":{"grader":{"model":"NAME"}}}}"#),
        (
            "/v1/fine_tuning/jobs",
            r#"{"method":{"reinforcement":{"grader":{"graders":{"a":{"model":"NAME"}}}}}}"#,
        ),
        ("/v1/threads/runs", r#"{"assistant_id":"a","model":"NAME","thread":{"messages":[]}}"#),
        ("/v1/conversations", r#"{"items":[{"type":"additional_tools","tools":[{"model":"NAME"}]}]}"#),
        ("/v1/moderations", r#"{"input":"x","model":"NAME"}"#),
        ("/v1/rerank", r#"{"query":"x","model":"NAME"}"#),
        ("/v1/evals", r#"[{"model":"NAME"}]"#),
    ] {
        check_held(path, body);
    }
    check_refused("/v1/rerank", r#"{"models":["secret"]}"#, NO_FIELD);
    for (path, body) in [
        ("/v1/moderations", r#"{"input":"x"}"#),
        ("/v1/evals/e/runs", r#"{"data_source":{"source":{"content":[{"item":{"model":"Model T"}}]}}}"#),
        ("/v1/evals", r#"{"data_source_config":{"item_schema":{"properties":{"model":{"type":"string"}}}}}"#),
        ("/v1/threads", r#"{"messages":[],"metadata":{"model":"secret"}}"#),
    ] {
        check_free(path, body);
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    fields.iter().map(part).chain(["--b--\r\n".to_owned()]).collect()
}

#[test]
fn a_form_names_models_as_json_does() {
    let edits = |more: &[(&str, &str)]| {
        let fields = [&[("model", "gpt-4o"), ("prompt", "x")], more].concat();
        asked(NOBODY, "/v1/images/edits", FORM, &form(&fields)).map(|(candidates, _)| candidates)
    };
    assert_eq!(edits(&[]), Ok("ab".to_owned()));
    for (name, value) in [
        ("svg[model]", "secret"),
        ("svg[x][model]", "secret"),
        ("svg[deployment_name]", "secret"),
        ("svg", r#"{"model":"secret"}"#),
        ("svg", r#" [{"x":{"model":"secret"}}] "#),
    ] {
        assert_eq!(edits(&[(name, value)]), Err(NO_MODEL.to_owned()), "{name}");
    }
    for (name, value) in [
        ("svg[models][]", "secret"),
        ("models", "secret"),
        ("models[]", "secret"),
        ("engine", "secret"),
        ("svg", r#"{"models":["secret"]}"#),
    ] {
        assert_eq!(edits(&[(name, value)]), Err(NO_FIELD.to_owned()), "{name}");
    }
    assert_eq!(edits(&[("svg[Model]", "art")]), Err("400 ambiguous_parameter".to_owned()));
    // The name is not written anew, so only where it is the deployment's.
    assert_eq!(edits(&[("svg[model]", "art")]), Err("400 model_not_served_there".to_owned()));
    let alike: fn(&mut Value) = |config| config["models"][2]["backends"][0]["deployment"] = json!("art");
    let fields = form(&[("model", "gpt-4o"), ("svg[model]", "art")]);
    assert_eq!(asked(alike, "/v1/images/edits", FORM, &fields).unwrap().0, "ab");
    for (name, value) in
        [("documents[model]", "secret"), ("prompt", r#"{"model":"secret"}"#), ("x", "{model"), ("x", "{}")]
    {
        let fields = form(&[("model", "gpt-4o"), (name, value)]);
        assert!(asked(NOBODY, "/v1/images/edits", FORM, &fields).is_ok(), "{name}");
    }
}

/// What is uploaded passes unread and may be long; of all other forms the model is held.
#[test]
fn a_form_of_other_names_a_model_of_the_client() {
    let video = |path, name| {
        let body = form(&[("prompt", "x"), ("model", name)]);
        let edit: fn(&mut Value) = |config| config["models"][2]["backends"][1]["deployment"] = json!("art-1");
        asked(edit, path, FORM, &body).map(|(_, sent)| sent)
    };
    for path in ["/v1/videos", "/v1/videos/edits", "/v1/videos/extensions", "/v1/video/generations/jobs"] {
        assert_eq!(video(path, "secret"), Err(NO_MODEL.to_owned()), "{path}");
        assert_eq!(video(path, "art").unwrap(), form(&[("prompt", "x"), ("model", "art-1")]), "{path}");
    }
    let twice = form(&[("model", "art"), ("model", "secret")]);
    let code = asked(NOBODY, "/v1/videos", FORM, &twice).unwrap_err();
    assert_eq!(code, "400 ambiguous_parameter");
    assert_eq!(asked(NOBODY, "/v1/videos", FORM, "x").unwrap_err(), "400 invalid_form");
    for path in [
        "/v1/files",
        "/v1/uploads/u/parts",
        "/v1/containers/c/files",
        "/v1/skills",
        "/v1/skills/s/versions",
        "/v1/rerank",
    ] {
        let head = [(":method", "POST"), (":path", path), CHAT[2], ("content-type", FORM)];
        let step = Run::with(gateway(naming)).head(&head);
        assert!(matches!(step, Step::Forward(_)), "{path}");
    }
}

#[test]
fn a_body_of_other_is_json_or_a_form_and_says_so() {
    let body = r#"{"input":"x","model":"secret"}"#;
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/octet-stream",
        "multipart/mixed; boundary=b",
    ] {
        for path in ["/v1/moderations", "/v1/videos", "/v1/batches", "/v1/rerank"] {
            // An operator vouches for what forms bring to paths that are added.
            if path == "/v1/rerank" && content_type.starts_with("multipart") {
                continue;
            }
            let code = asked(NOBODY, path, content_type, body).unwrap_err();
            assert_eq!(code, "415 unsupported_media_type", "{content_type}");
        }
    }
    assert_eq!(asked(NOBODY, "/v1/moderations", JSON, "\u{feff}{}").unwrap_err(), "400 invalid_json");
    assert_eq!(asked(NOBODY, "/v1/moderations", JSON, "{} x").unwrap_err(), "400 invalid_json");
    assert_eq!(asked(NOBODY, "/v1/rerank", JSON, r#"{"a":01}"#).unwrap_err(), "400 invalid_json");
    assert_eq!(asked(NOBODY, "/v1/rerank", JSON, "hello").unwrap_err(), "400 invalid_json");
    // HTTP/2 may end a request without a body by an empty one.
    assert!(asked(NOBODY, "/v1/batches/b/cancel", JSON, "").is_ok());
}

/// What becomes of a request without a body.
fn bare(method: &str, path: &str) -> Result<(), String> {
    let head = [(":method", method), (":path", path), CHAT[2]];
    let mut run = Run::with(gateway(naming));
    let step = run.exchange.request_head(&headers(&head), true, Moment::new(&run.store, NOW));
    match run.perform(step) {
        Step::Forward(_) => Ok(()),
        step => Err(refused(step)),
    }
}

#[test]
fn the_model_of_a_query_is_one_of_the_clients() {
    for (query, expected) in [
        ("", Ok(())),
        ("limit=2&modeling=secret&metadata[model]=secret", Ok(())),
        ("model=art", Ok(())),
        ("model=%61r%74", Ok(())),
        ("model=an-alias", Err("400 model_not_served_there")),
        ("limit=2&model=secret", Err(NO_MODEL)),
        ("%6dodel=secret", Err(NO_MODEL)),
        ("model=s%65cret", Err(NO_MODEL)),
        ("model=", Err(NO_MODEL)),
        ("model", Err(NO_MODEL)),
        ("a=1;model=secret", Err(NO_MODEL)),
        ("model[]=secret", Err(NO_MODEL)),
        ("session[model]=secret", Err(NO_MODEL)),
        ("deployment_name=secret", Err(NO_MODEL)),
        ("model=art&model=secret", Err("400 ambiguous_parameter")),
        ("model=art;model=secret", Err("400 ambiguous_parameter")),
        ("Model=art", Err("400 ambiguous_parameter")),
        ("models=art", Err(NO_FIELD)),
    ] {
        let found = bare("GET", &format!("/v1/batches?{query}"));
        assert_eq!(found, expected.map_err(str::to_owned), "{query}");
        let found = asked(NOBODY, &format!("/v1/moderations?{query}"), JSON, "{}").map(|_| ());
        assert_eq!(found, expected.map_err(str::to_owned), "{query}");
    }
}

#[test]
fn the_model_of_a_path_is_one_of_the_clients() {
    for (method, path, expected) in [
        ("DELETE", "/v1/models/art", Ok(())),
        ("DELETE", "/v1/models/an-alias", Err("400 model_not_served_there")),
        ("DELETE", "/v1/models/secret", Err(NO_MODEL)),
        ("DELETE", "/v1/models/ft:gpt-4o:org::id", Err(NO_MODEL)),
        ("GET", "/v1/fine_tuning/checkpoints/ft:gpt-4o:org::id:step-1/permissions", Err(NO_MODEL)),
        ("GET", "/v1/fine_tuning/jobs/ftjob-1/checkpoints", Ok(())),
    ] {
        assert_eq!(bare(method, path), expected.map_err(str::to_owned), "{method} {path}");
    }
}

#[test]
fn a_job_that_is_passed_on_has_no_bound_on_its_time() {
    let start_max = |path: &str, body: &str| {
        let mut run = Run::with(gateway(|config| {
            naming(config);
            config["models"][0]["answer_start_ms_max"] = json!(5000);
        }));
        let head =
            [(":method", "POST"), (":path", path), CHAT[2], ("content-type", JSON), ("content-length", "1")];
        let _ = run.head(&head);
        let Step::Forward(forward) = run.body(body) else { panic!("{path}") };
        forward.start_max
    };
    let chat = r#"{"model":"gpt-4o","messages":[]}"#;
    assert_eq!(start_max("/v1/chat/completions", chat), Some(Duration::from_secs(5)));
    assert_eq!(start_max("/v1/threads/runs", r#"{"model":"gpt-4o","assistant_id":"asst_1"}"#), None);
}

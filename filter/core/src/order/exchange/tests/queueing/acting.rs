//! Who asks for whom, and who can read what lies there?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_worker_asks_only_for_what_can_be_queued() {
    let asked = |method: &str, path: &str| {
        let mut run = Run::with(responses(|_| {}));
        let worker = ("authorization", "Bearer work");
        run.head(&[(":method", method), (":path", path), worker, ("tollgate-act-for", "web")])
    };
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"] {
        assert!(matches!(asked("POST", path), Step::AwaitBody { .. }), "{path}");
    }
    for (method, path) in [
        ("GET", "/v1/models"),
        ("GET", "/tollgate/v1/usage"),
        ("GET", &format!("/v1/responses/resp_job_{ID}")),
        ("DELETE", &format!("/tollgate/v1/jobs/{ID}")),
        ("POST", "/v1/images/generations"),
    ] {
        assert_eq!(refused(asked(method, path)), "403 act_for_not_allowed", "{path}");
    }
}

#[test]
fn a_worker_asks_for_whom_it_may_and_nobody_else_does() {
    let worker = ("authorization", "Bearer work");
    let asked = |key: (&str, &str), client: &str, more: &[(&str, &str)]| {
        let mut run = Run::with(queueing(|_| {}));
        let head = [CHAT[0], CHAT[1], key, ("tollgate-act-for", client), ("tollgate-job", ID)];
        let step = match run.head(&[&head[..], more].concat()) {
            Step::AwaitBody { .. } => run.body(PROMPT),
            step => step,
        };
        (run, step)
    };
    // Not queued again, whatever it says.
    let (mut run, step) = asked(worker, "web", &[PATIENT]);
    let Step::Forward(forward) = step else { panic!("{step:?}") };
    assert!(forward.strip.iter().all(|name| name != "content-type"));
    // Nobody waits for it.
    assert_eq!(run.exchange.draft.priority, crate::capacity::Priority::Low);
    let record = run.finish();
    let replay = record.replay.clone().unwrap();
    assert_eq!((replay.job.as_str(), &*replay.worker.text), (ID, "worker"));
    assert_eq!(record.client.as_ref().map(|name| &*name.text), Some("web"));
    assert!(record.details().contains(&format!(r#""job":"{ID}","worker":"worker""#)), "{}", record.details());
    for (key, client) in [(CHAT[2], "web"), (CHAT[2], "worker"), (worker, "worker"), (worker, "nobody")] {
        let (mut run, step) = asked(key, client, &[]);
        assert_eq!(refused(step), "403 act_for_not_allowed", "{client}");
        assert_eq!(run.finish().client, None);
    }
    // Where there is no queue nobody reads it, and it goes no further.
    let mut run = Run::new();
    let Step::AwaitBody { strip } = run.head(&[&CHAT[..], &[("tollgate-act-for", "web")]].concat()) else {
        panic!()
    };
    assert!(strip.contains(&"tollgate-act-for".to_owned()));
}

#[test]
fn what_is_sealed_is_opened_for_its_client_alone() {
    let written = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let gateway = |key: &str| {
        let mut config = json!(null);
        let _ = super::gateway(|whole| {
            whole["store"] = json!({ "redis": { "cluster": "s" } });
            whole["queue"] = json!({ "key_env": "K", "when": "always", "for": "normal" });
            config = whole.clone();
            whole.as_object_mut().unwrap().remove("queue");
        });
        config::from_value(config, &|_| Some(key.to_owned()))
    };
    let fault = gateway("short").unwrap_err()[0].to_string();
    assert_eq!(
        fault,
        "queue.key_env: environment variable \"K\" is no key: expected 32 bytes as base64, or at least as many characters"
    );
    let gateway = Rc::new(gateway(written).unwrap());
    let mut run = Run::with(gateway.clone());
    let _ = ask(&mut run, &[PATIENT, ("user-agent", "me")], PROMPT);
    let Some(QueueCall::Store(sent)) = run.exchange.errand(&DICE, NOW) else { panic!() };
    assert!(!sent.windows(5).any(|part| part == b"hello"));
    let id = Id::read(ID).unwrap();
    // A worker opens it by what lies beside it.
    let sent = replies(&sent).unwrap().into_iter().find_map(|command| match command {
        Reply::Array(words) if words.contains(&Reply::Bulk(b"body".to_vec())) => Some(words),
        _ => None,
    });
    let sent = sent.unwrap();
    let field = |name: &str| {
        let at = sent.iter().rposition(|word| *word == Reply::Bulk(name.as_bytes().to_vec())).unwrap();
        let Reply::Bulk(value) = &sent[at + 1] else { panic!("{name}") };
        value.clone()
    };
    let text = |name: &str| String::from_utf8(field(name)).unwrap();
    let [kind, method, path, headers, model] = ["kind", "method", "path", "headers", "model"].map(text);
    assert_eq!((method.as_str(), path.as_str(), model.as_str()), ("POST", CHAT[1].1, "gpt-4o"));
    assert_eq!((kind.as_str(), headers.as_str()), ("job", r#"{"user-agent":"me"}"#));
    let what = What::Body {
        client: "web",
        kind: &kind,
        method: &method,
        path: &path,
        headers: &headers,
        model: &model,
    };
    let opened = open(Key::read(written).as_ref(), &id, what, &field("body"));
    assert_eq!(opened, Ok(PROMPT.as_bytes().to_vec()));
    let what = What::Answer { client: "web", kind: "job" };
    let sealed = seal(Key::read(written).as_ref(), &DICE.nonce, &id, what, b"secret");
    let told = Told {
        state: State::Done,
        before: 0,
        at: 0,
        kind: Kind::Job,
        model: String::new(),
        status: 200,
        answer_type: String::new(),
        answer: sealed,
        why: String::new(),
    };
    let queue = gateway.queue.as_ref().unwrap();
    assert_eq!(queue.opened(&id, "web", &told), Some(b"secret".to_vec()));
    assert_eq!(queue.opened(&Id::new(&[1; 16]), "web", &told), None);
    assert_eq!(queue.opened(&id, "worker", &told), None);
    assert_eq!(queue.opened(&id, "web", &Told { kind: Kind::Response, ..told }), None);
}

/// A worker asks for the whole client: what a key leaves out of that would be reached through the queue.
#[test]
fn what_a_narrowed_key_asks_is_not_queued() {
    let key = format!("tg-{}", "0".repeat(64));
    let issued = |edit: fn(&mut Value), entry: Value| {
        let gateway = responses(|config| {
            edit(config);
            config["directory"] = json!({ "store": {} });
        });
        let hash = KeyHash::of(key.as_bytes());
        let (entry, store) = (entry.to_string(), MemoryStore::default());
        let said = crate::identity::issued::Said { entry: entry.as_bytes(), client: None };
        let _ = gateway.clients.issued().unwrap().answered(hash, Some(said), Moment::new(&store, NOW));
        gateway
    };
    let always = |config: &mut Value| config["queue"]["when"] = json!("always");
    let asked = |entry: &Value, path: &str, body: &str| {
        let mut run = Run::with(issued(always, entry.clone()));
        let bearer = format!("Bearer {key}");
        let _ = run.head(&[CHAT[0], (":path", path), ("authorization", &bearer), PATIENT]);
        run.body(body)
    };
    let background = r#"{"model":"gpt-4o","background":true,"input":"x"}"#;
    let whole = json!({ "client": "web", "note": "x" });
    assert!(matches!(asked(&whole, CHAT[1].1, PROMPT), Step::AskQueue));
    assert!(matches!(asked(&whole, RESPONSES[1].1, background), Step::AskQueue));
    for narrow in [json!({ "models": ["gpt-4o"] }), json!({ "limits": [{ "requests": 9, "per": "day" }] })] {
        let mut entry = whole.clone();
        entry.as_object_mut().unwrap().extend(narrow.as_object().unwrap().clone());
        assert!(matches!(asked(&entry, CHAT[1].1, PROMPT), Step::Forward(_)), "{narrow}");
        assert_eq!(refused(asked(&entry, RESPONSES[1].1, background)), "403 queue_not_for_key", "{narrow}");
    }
}

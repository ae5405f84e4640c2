//! What is answered later, and what its client is told of it.

use super::*;
use crate::gateway::{Dice, Patience, QueueCall, StoreTrouble, Told};
use crate::identity::KeyHash;
use crate::job::{Id, Key, Kind, State, What, open, seal};
use crate::ledger::AtQueue;
use crate::resp::{Commands, Reply, replies};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

mod acting;
mod broker;

const DICE: Dice = Dice { id: [0xab; 16], nonce: [7; 24] };
const ID: &str = "abababababababababababababababab";
const PATIENT: (&str, &str) = ("prefer", "wait=1, Respond-Async; x");

fn queueing(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    gateway(|config| {
        config["store"] = json!({ "redis": { "cluster": "s", "region": "eu" } });
        config["queue"] = json!({ "for": "normal", "when": "always" });
        // A limit of a fleet's has nothing to give before the store was asked.
        config["clients"][0]["limits"] = json!([]);
        // Another one, whose key is `work`.
        let worker = json!({
            "name": "worker",
            "api_keys": [{ "sha256": "00e13ed7af55b27622f1d6eab5bec0147e68efe28dc2b12461117afa1a5ed40e" }],
            "models": ["*"],
            "may_act_for": ["web"],
        });
        config["clients"].as_array_mut().unwrap().push(worker);
        edit(config);
    })
}

fn ask(run: &mut Run, more: &[(&str, &str)], body: &str) -> Step {
    match run.head(&[&CHAT[..], more].concat()) {
        Step::AwaitBody { .. } => run.body(body),
        step => step,
    }
}

/// What is sent to the store, and what becomes of this answer.
fn tell(run: &mut Run, answer: &[u8]) -> (Vec<String>, Step) {
    let Some(QueueCall::Store(sent)) = run.exchange.errand(&DICE, NOW) else { panic!() };
    let mut words: Vec<_> = sent
        .split(|byte| *byte == b'\n')
        .map(String::from_utf8_lossy)
        .map(|word| word.trim().to_owned())
        .collect();
    words.retain(|word| !word.starts_with(['$', '*']));
    let step = run.exchange.queue_answered(Ok(answer), Moment::new(&run.store, NOW));
    (words, step)
}

fn whole(step: Step) -> Answer {
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    answer
}

fn object(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// As the store tells of a job.
fn told(state: &str, kind: &str, status: &str, answer: &[u8], why: &str) -> Vec<u8> {
    let mut commands = Commands::new();
    let fields: [&[u8]; 8] = [
        b"1795000000000",
        kind.as_bytes(),
        b"gpt-4o",
        status.as_bytes(),
        b"application/json",
        answer,
        why.as_bytes(),
        b"",
    ];
    commands.push(&fields[..7]);
    let fields = String::from_utf8_lossy(commands.bytes()).replacen("*7\r\n", "", 1);
    format!("*9\r\n${}\r\n{state}\r\n:4\r\n{fields}+OK\r\n", state.len()).into_bytes()
}

#[test]
fn a_request_that_may_wait_is_queued_and_nobody_elses() {
    let mut run = Run::with(queueing(|_| {}));
    assert!(matches!(ask(&mut run, &[PATIENT], PROMPT), Step::AskQueue));
    let (sent, step) = tell(&mut run, b"*2\r\n:1\r\n:4\r\n+OK\r\n");
    assert!(sent.contains(&format!("tollgate:{{jobs}}:job:{ID}")), "{sent:?}");
    let has = |words: &[&str]| sent.windows(words.len()).any(|part| part == words);
    assert!(
        has(&["method", "POST", "path", "/v1/chat/completions", "headers", "{}", "model", "gpt-4o"]),
        "{sent:?}"
    );
    assert!(has(&["web", "normal", "1000", "104857600", "86400000", "3600000"]), "{sent:?}");
    assert!(sent.contains(&format!("\0{PROMPT}")), "{sent:?}");
    let answer = whole(step);
    assert_eq!(
        (answer.status, object(&answer)),
        (202, json!({ "id": ID, "object": "job", "state": "queued", "place": 5 }))
    );
    for header in
        [("preference-applied", "respond-async".to_owned()), ("location", format!("/tollgate/v1/jobs/{ID}"))]
    {
        assert!(answer.headers.contains(&header), "{header:?}");
    }
    let record = run.finish();
    assert_eq!((record.outcome, record.usage.total(), run.left()), (Outcome::Queued, 0, BUDGET));
    assert_eq!(record.at_queue, Some(AtQueue::Queued));
    // Who has not asked for it, who is too important, and where there is no queue.
    let patient = &[PATIENT][..];
    for (more, gateway) in [
        (&[][..], queueing(|_| {})),
        (&[("prefer", "wait=10")][..], queueing(|_| {})),
        (patient, queueing(|config| config["queue"]["for"] = json!("low"))),
        (patient, queueing(|config| config["queue"]["when"] = json!("full"))),
        (patient, super::gateway(|_| {})),
    ] {
        assert!(matches!(ask(&mut Run::with(gateway), more, PROMPT), Step::Forward(_)), "{more:?}");
    }
    // What would be refused for good is not queued.
    let never = r#"{"model":"secret","messages":[]}"#;
    assert_eq!(refused(ask(&mut Run::with(queueing(|_| {})), &[PATIENT], never)), "403 model_not_allowed");
}

#[test]
fn what_is_refused_for_now_is_queued_by_default() {
    let small = |config: &mut Value| {
        config["queue"]["when"] = json!("full");
        config["clients"][0]["limits"] =
            json!([{ "requests": 1, "per": "minute" }, { "tokens": BUDGET, "per": "minute" }]);
    };
    let mut run = Run::with(queueing(small));
    assert!(matches!(ask(&mut run, &[PATIENT], PROMPT), Step::AskQueue));
    run.exchange = Exchange::new(queueing(small));
    assert_eq!(refused(ask(&mut run, &[], PROMPT)), "429 rate_limit_exceeded");
}

#[test]
fn a_queue_that_takes_nothing_says_so_and_when_to_ask() {
    let said = |reply: Result<&[u8], StoreTrouble>| {
        let mut run = Run::with(queueing(|_| {}));
        assert!(matches!(ask(&mut run, &[PATIENT], PROMPT), Step::AskQueue));
        let _ = run.exchange.errand(&DICE, NOW).unwrap();
        let answer = whole(run.exchange.queue_answered(reply, Moment::new(&run.store, NOW)));
        let wait = answer.headers.iter().find(|(name, _)| *name == "retry-after").unwrap().1.clone();
        let code = refused(Step::Answer(answer));
        assert_eq!(run.left(), BUDGET);
        (code, wait)
    };
    let full = |ms: &str| format!("*2\r\n:0\r\n:{ms}\r\n+OK\r\n");
    for (ms, wait) in [("0", "1"), ("5000", "5"), ("86400000", "60")] {
        assert_eq!(said(Ok(full(ms).as_bytes())), ("429 queue_full".to_owned(), wait.to_owned()));
    }
    let unavailable = ("503 queue_unavailable".to_owned(), "1".to_owned());
    let oom: &[u8] = b"-OOM no\r\n+OK\r\n";
    for reply in [Err(StoreTrouble::Unreached), Ok(oom), Ok(b"*2\r\n:1\r\n"), Ok(b"*1\r\n:1\r\n+OK\r\n")] {
        assert_eq!(said(reply), unavailable, "{reply:?}");
    }
}

#[test]
fn a_job_answers_202_until_it_is_over_and_then_its_answer() {
    let asked = |method: &str, path: &str, reply: &[u8]| {
        let mut run = Run::with(queueing(|_| {}));
        let step = run.head(&[(":method", method), (":path", path), CHAT[2]]);
        if !matches!(step, Step::AskQueue) {
            return step;
        }
        tell(&mut run, reply).1
    };
    let path = format!("/tollgate/v1/jobs/{ID}");
    let get = |reply: &[u8]| asked("GET", &path, reply);
    let answer = whole(get(&told("queued", "job", "", b"", "")));
    assert_eq!((answer.status, &object(&answer)["place"]), (202, &json!(5)));
    let answer = whole(get(&told("running", "job", "", b"", "")));
    assert_eq!(
        (answer.status, object(&answer)),
        (202, json!({ "id": ID, "object": "job", "state": "running" }))
    );
    let answer = whole(get(&told("done", "job", "400", b"\0{\"error\":7}", "")));
    assert_eq!((answer.status, &answer.body[..]), (400, &b"{\"error\":7}"[..]));
    assert_eq!(refused(get(&told("failed", "job", "", b"", "expired"))), "502 job_failed");
    assert_eq!(refused(get(&told("done", "job", "200", b"\x01sealed", ""))), "502 job_failed");
    assert_eq!(refused(get(&told("cancelled", "job", "", b"", ""))), "410 job_cancelled");
    // Of nobody, of another, of another kind, and what is no name.
    assert_eq!(refused(get(b"$-1\r\n+OK\r\n")), "404 id_not_found");
    assert_eq!(refused(get(&told("queued", "response", "", b"", ""))), "404 id_not_found");
    assert_eq!(refused(asked("GET", "/tollgate/v1/jobs/x", b"")), "404 id_not_found");
    for (state, expected) in [("queued", "cancelled"), ("running", "cancelled"), ("done", "deleted")] {
        let mut run = Run::with(queueing(|_| {}));
        let _ = run.head(&[(":method", "DELETE"), (":path", &path), CHAT[2]]);
        let answer = whole(tell(&mut run, &told(state, "job", "200", b"\0", "")).1);
        assert_eq!((answer.status, &object(&answer)["state"]), (200, &json!(expected)));
        let is_counted = run.finish().at_queue == Some(AtQueue::Cancelled);
        assert_eq!(is_counted, expected == "cancelled", "{state}");
    }
    let mut run = Run::new();
    let step = run.head(&[(":method", "GET"), (":path", &path), CHAT[2]]);
    assert_eq!(refused(step), "404 unknown_url");
}

fn responses(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    queueing(|config| {
        config["queue"] = json!({ "for": "normal", "background": "queue" });
        config["models"][0]["backends"] = json!([{ "backend": "b" }]);
        edit(config);
    })
}

const RESPONSES: [(&str, &str); 3] = [CHAT[0], (":path", "/v1/responses"), CHAT[2]];

#[test]
fn a_response_in_the_background_is_the_queues_where_it_is_to_be() {
    let asked = |gateway, body: &str| {
        let mut run = Run::with(gateway);
        let _ = run.head(&RESPONSES);
        let step = run.body(body);
        (run, step)
    };
    let body = r#"{"model":"gpt-4o","background":true,"input":"x"}"#;
    let (mut run, step) = asked(responses(|_| {}), body);
    assert!(matches!(step, Step::AskQueue), "{step:?}");
    let (sent, step) = tell(&mut run, b"*2\r\n:1\r\n:0\r\n+OK\r\n");
    assert!(sent.iter().any(|word| word.contains(r#""background":false"#)), "{sent:?}");
    let answer = object(&whole(step));
    assert_eq!((&answer["id"], &answer["status"]), (&json!(format!("resp_job_{ID}")), &json!("queued")));
    assert_eq!(answer["model"], "gpt-4o");
    let stream = r#"{"model":"gpt-4o","background":true,"stream":true,"input":"x"}"#;
    assert_eq!(refused(asked(responses(|_| {}), stream).1), "400 mutually_exclusive_parameters");
    // What is not asked in the background, and where that is the backend's.
    assert!(matches!(asked(responses(|_| {}), r#"{"model":"gpt-4o","input":"x"}"#).1, Step::Forward(_)));
    let backends = responses(|config| config["queue"]["background"] = json!("backend"));
    assert!(matches!(asked(backends, body).1, Step::Forward(_)));
}

#[test]
fn a_response_of_the_queue_is_told_as_any_other() {
    let asked = |method: &str, path: &str, reply: &[u8]| {
        let mut run = Run::with(responses(|_| {}));
        let path = format!("/v1/responses/resp_job_{path}");
        match run.head(&[(":method", method), (":path", &path), CHAT[2]]) {
            Step::AskQueue => tell(&mut run, reply).1,
            step => step,
        }
    };
    let status =
        |method: &str, path: &str, reply: &[u8]| object(&whole(asked(method, path, reply)))["status"].clone();
    for (state, expected) in
        [("queued", "queued"), ("running", "in_progress"), ("failed", "failed"), ("cancelled", "cancelled")]
    {
        assert_eq!(status("GET", ID, &told(state, "response", "", b"", "expired")), expected);
    }
    let answer = b"\0{\"object\":\"response\", \"id\" : \"resp_1\",\"status\":\"completed\"}";
    let done = whole(asked("GET", ID, &told("done", "response", "200", answer, "")));
    let expected = format!(r#"{{"object":"response", "id" : "resp_job_{ID}","status":"completed"}}"#);
    assert_eq!(String::from_utf8_lossy(&done.body), expected);
    let refusal = b"\0{\"error\":{\"code\":\"bad\",\"message\":\"No.\"}}";
    let failed = object(&whole(asked("GET", ID, &told("done", "response", "400", refusal, ""))));
    assert_eq!(
        (&failed["status"], &failed["error"]),
        (&json!("failed"), &json!({ "code": "bad", "message": "No." }))
    );
    let cancel = format!("{ID}/cancel");
    assert_eq!(status("POST", &cancel, &told("running", "response", "", b"", "")), "cancelled");
    assert_eq!(status("POST", &cancel, &told("done", "response", "200", answer, "")), "completed");
    let gone = object(&whole(asked("DELETE", ID, &told("done", "response", "200", answer, ""))));
    assert_eq!(gone["deleted"], true);
    assert_eq!(refused(asked("GET", ID, b"$-1\r\n+OK\r\n")), "404 id_not_found");
    assert_eq!(refused(asked("GET", "x", b"")), "404 id_not_found");
    assert_eq!(refused(asked("GET", &format!("{ID}/input_items"), b"")), "404 unknown_url");
}

#[test]
fn no_job_of_a_client_leaves_its_regions() {
    let bound = |region: &'static str| {
        move |config: &mut Value| {
            config["backends"][1]["region"] = json!(region);
            config["clients"][0]["regions"] = json!([region]);
        }
    };
    let background = r#"{"model":"gpt-4o","background":true,"input":"x"}"#;
    let respond = |region| {
        let mut run = Run::with(responses(bound(region)));
        let _ = run.head(&RESPONSES);
        run.body(background)
    };
    assert!(matches!(respond("eu"), Step::AskQueue));
    assert_eq!(refused(respond("us")), "403 queue_not_in_region");
    // A preference is passed over.
    let chat = |region| ask(&mut Run::with(queueing(bound(region))), &[PATIENT], PROMPT);
    assert!(matches!((chat("eu"), chat("us")), (Step::AskQueue, Step::Forward(_))));
}

/// Requests of a client that waits, or of one that does not: each is read, and then each is to go.
fn together(edit: fn(&mut Value), is_patient: bool) -> Vec<(Exchange, Step)> {
    let gateway = queueing(|config| {
        config["queue"]["when"] = json!("full");
        edit(config);
    });
    let (store, mut queue) = (MemoryStore::default(), capacity::Queue::default());
    let moment = || Moment::new(&store, NOW);
    // The other one has its share, or may be spilt to.
    let model = &gateway.models[0];
    let pausing = &model.targets[usize::from(model.spill.budget.is_none())];
    let pause = Cooldown { wait: Duration::from_secs(30), from_backend: true };
    Cooldowns::note(moment(), pausing, pause).unwrap();
    let head: Vec<_> = CHAT.into_iter().chain(is_patient.then_some(PATIENT)).collect();
    let read: Vec<_> = (0..6)
        .map(|_| {
            let mut exchange = Exchange::new(gateway.clone());
            let _ = exchange.request_head(&headers(&head), false, moment());
            let Step::Reserve(claim) = exchange.request_body(PROMPT.as_bytes(), moment()) else { panic!() };
            let Step::Admit(ask) = exchange.reserved(limits::reserve(moment(), claim)) else { panic!() };
            (exchange, ask)
        })
        .collect();
    let cooldowns = Cooldowns::load(&store).unwrap();
    let pause = |target| cooldowns.remaining(target, NOW);
    (0..)
        .zip(read)
        .map(|(id, (mut exchange, ask))| {
            let turn = queue.enter(id, ask, &pause, moment());
            let step = exchange.admitted(turn, moment());
            (exchange, step)
        })
        .collect()
}

#[test]
fn what_others_had_before_it_is_waited_for_in_the_queue() {
    let shared = |config: &mut Value| config["models"][0]["backends"][0]["share_max"] = json!(0.1);
    let spilling = |config: &mut Value| {
        config["models"][0]["backends"][1]["priority"] = json!(1);
        config["models"][0]["spill"] = json!({ "limits": [{ "tokens": 300, "per": "day" }] });
    };
    for (edit, code) in [
        (shared as fn(&mut Value), "429 backends_throttled"),
        (spilling as fn(&mut Value), "429 spill_limit_exceeded"),
    ] {
        let (exchange, step) = together(edit, true).pop().unwrap();
        assert!(matches!(step, Step::AskQueue), "{code}: {step:?}");
        assert!(exchange.draft.patient.is_none());
        assert_eq!(refused(together(edit, false).pop().unwrap().1), code);
    }
    // What goes is not kept for the queue.
    let (exchange, step) = together(shared, true).swap_remove(0);
    assert!(matches!(step, Step::Forward(_)) && exchange.draft.patient.is_none());
}

#[test]
fn a_backend_is_full_for_the_queue_from_its_share_on() {
    fn four_a_minute(config: &mut Value) {
        config["priorities"] = json!({ "normal": { "headroom_min": 0 } });
        for backend in config["backends"].as_array_mut().unwrap() {
            backend["requests_per_minute"] = json!(4);
            backend["requests_window_s"] = json!(60);
        }
    }
    fn from_half_on(config: &mut Value) {
        four_a_minute(config);
        config["queue"]["full_at"] = json!(0.5);
    }
    let sent = |edit: fn(&mut Value), is_patient| {
        together(edit, is_patient).iter().filter(|(_, step)| matches!(step, Step::Forward(_))).count()
    };
    assert_eq!((sent(four_a_minute, true), sent(from_half_on, true), sent(from_half_on, false)), (4, 2, 4));
    assert!(matches!(together(from_half_on, true)[2].1, Step::AskQueue));
}

#[test]
fn what_never_fits_a_limit_is_refused_and_not_queued() {
    let tight = |when: &'static str| {
        responses(move |config| {
            config["queue"]["when"] = json!(when);
            config["clients"][0]["limits"] = json!([{ "tokens": 10, "per": "minute" }]);
        })
    };
    let long = r#"{"model":"gpt-4o","max_tokens":11,"messages":[{"role":"user","content":"x"}]}"#;
    for when in ["always", "full"] {
        let step = ask(&mut Run::with(tight(when)), &[PATIENT], long);
        assert_eq!(refused(step), "429 request_exceeds_limit", "{when}");
    }
    let mut run = Run::with(tight("full"));
    let _ = run.head(&RESPONSES);
    let long = r#"{"model":"gpt-4o","background":true,"max_output_tokens":11,"input":"x"}"#;
    assert_eq!(refused(run.body(long)), "429 request_exceeds_limit");
    // What only has to wait is queued.
    let mut run = Run::with(tight("full"));
    let _ = run.head(&RESPONSES);
    let short = r#"{"model":"gpt-4o","background":true,"max_output_tokens":1,"input":"x"}"#;
    assert!(matches!(run.body(short), Step::AskQueue));
}

#[test]
fn a_preference_in_quotes_is_none() {
    for (prefer, is_queued) in [
        ("respond-async", true),
        ("x=\"a, b\", respond-async", true),
        ("x=\"a, respond-async; b\"", false),
        ("x=\"\\\", respond-async\"", false),
        ("respond-async=\"\"", true),
        ("respond-async=no", false),
    ] {
        let step = ask(&mut Run::with(queueing(|_| {})), &[("prefer", prefer)], PROMPT);
        assert_eq!(matches!(step, Step::AskQueue), is_queued, "{prefer}");
    }
}

#[test]
fn all_values_of_a_header_are_kept() {
    let mut run = Run::with(queueing(|_| {}));
    let betas = [("openai-beta", "one"), PATIENT, ("openai-beta", "two"), ("user-agent", "me")];
    assert!(matches!(ask(&mut run, &betas, PROMPT), Step::AskQueue));
    let (sent, _) = tell(&mut run, b"*2\r\n:1\r\n:0\r\n+OK\r\n");
    let kept = r#"{"openai-beta":"one, two","user-agent":"me"}"#;
    assert!(sent.iter().any(|word| word == kept), "{sent:?}");
}

/// None of its backends is where it may be served, and that lasts.
#[test]
fn what_no_wait_helps_is_not_queued() {
    let nowhere = |config: &mut Value| {
        config["queue"]["when"] = json!("always");
        config["store"]["redis"]["region"] = json!("eu");
        config["clients"][0]["regions"] = json!(["eu"]);
        config["backends"][1]["region"] = json!("eu");
        config["models"][0]["backends"] = json!([{ "backend": "a" }]);
    };
    let step = ask(&mut Run::with(queueing(nowhere)), &[PATIENT], PROMPT);
    assert_eq!(refused(step), "403 region_not_permitted");
    let mut run = Run::with(queueing(|config| {
        nowhere(config);
        config["queue"]["background"] = json!("queue");
    }));
    let _ = run.head(&RESPONSES);
    let background = r#"{"model":"gpt-4o","background":true,"input":"x"}"#;
    assert_eq!(refused(run.body(background)), "403 region_not_permitted");
}

/// A body of which nobody knows how long it is, of a client whose requests are counted: the limit is asked before it.
#[test]
fn a_long_body_is_awaited_where_its_refusal_is_over_in_time() {
    let counted = |when: &'static str| {
        queueing(move |config| {
            config["queue"]["when"] = json!(when);
            config["clients"][0]["limits"] = json!([{ "requests": 1, "per": "minute" }]);
        })
    };
    for when in ["full", "always"] {
        let mut run = Run::with(counted(when));
        let step = run.head(&[&CHAT[..3], &[PATIENT]].concat());
        assert!(matches!(step, Step::AwaitBody { .. }), "{when}: {step:?}");
        assert!(matches!(run.body(PROMPT), Step::AskQueue), "{when}");
        let (sent, _) = tell(&mut run, b"*2\r\n:1\r\n:0\r\n+OK\r\n");
        assert!(sent.contains(&format!("\0{PROMPT}")), "{sent:?}");
    }
    // Who does not wait is told before its body.
    let mut run = Run::with(counted("full"));
    assert_eq!(refused(run.head(&CHAT[..3])), "429 rate_limit_exceeded");
}

#[test]
fn a_call_is_lost_a_second_after_its_time_either_way() {
    let start = Duration::from_secs(100);
    let patience = Patience::new(start, Duration::from_millis(250));
    let longest = Duration::from_millis(1250);
    let moment = Duration::from_millis(1);
    for now in [start, start + longest, start - longest] {
        assert!(!patience.is_over(now), "{now:?}");
    }
    for now in [start + longest + moment, start - longest - moment, Duration::ZERO] {
        assert!(patience.is_over(now), "{now:?}");
    }
    assert!(!Patience::new(start, Duration::MAX).is_over(Duration::MAX));
}

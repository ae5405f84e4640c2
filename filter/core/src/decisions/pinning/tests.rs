use super::*;
use crate::sse::Output;
use proptest::prelude::*;
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn pinning_of(secrets: &[&str], bound_to: BoundTo, unsealed: Unsealed) -> Rc<Pinning> {
    let keys = secrets.iter().map(|secret| Key::new(secret.as_bytes()).unwrap()).collect();
    let backends = [("ptu", 0x1234_5678_9abc_def0), ("payg", 7)];
    let backends = backends.into_iter().map(|(name, number)| (Rc::from(name), number));
    Rc::new(Pinning::new(keys, backends, bound_to, unsealed).unwrap())
}

fn pinning() -> Rc<Pinning> {
    pinning_of(&["one"], BoundTo::Client, Unsealed::Pass)
}

fn seal(place: &str, id: &str) -> String {
    pinning().seal(Kind::Id, "web", place, id).unwrap()
}

fn open(id: &str) -> Opened {
    pinning().open(Kind::Id, "web", id)
}

#[test]
fn a_sealed_id_shows_its_prefix_and_nothing_else() {
    for (id, prefix, rest) in [
        ("resp_68a1f", "resp_tg_", "68a1f"),
        ("file-abc", "file-tg_", "abc"),
        ("assistant-abc", "assistant-tg_", "abc"),
        ("vs_1", "vs_tg_", "1"),
        ("550e8400-e29b-41d4", "tg_", "550e8400-e29b-41d4"),
        ("tg_x", "tg_", "tg_x"),
        ("resp_", "resp_tg_", ""),
        ("5", "tg_", "5"),
    ] {
        let sealed = seal("ptu", id);
        assert!(sealed.starts_with(prefix) && sealed.ends_with(rest), "{id}: {sealed}");
        assert_eq!(sealed.len(), prefix.len() + 20 + rest.len(), "{id}: {sealed}");
        assert!(is_path_segment(&sealed), "{sealed}");
        assert_eq!(open(&sealed), Opened::Of("ptu".into(), id.to_owned()));
        assert_eq!(seal("ptu", id), sealed);
    }
    // A gateway behind a gateway.
    let twice = seal("payg", &seal("ptu", "resp_1"));
    assert_eq!(open(&twice), Opened::Of("payg".into(), seal("ptu", "resp_1")));
    // The number of the backend is not seen: nothing is equal but by chance.
    let [one, other] = ["resp_1", "resp_2"].map(|id| seal("ptu", id));
    assert_eq!(one[..8], other[..8]);
    assert_ne!(one[8..18], other[8..18]);
    assert_ne!(one[18..28], other[18..28]);
}

#[test]
fn what_is_no_id_is_not_sealed() {
    let long = "x".repeat(ID_BYTES_MAX + 1);
    for id in ["", "call_1", "chatcmpl-1", "pmpt_1", "two words", "é", "a/b", "..", &long] {
        assert_eq!(pinning().seal(Kind::Id, "web", "ptu", id), None, "{id}");
    }
    assert!(pinning().seal(Kind::Id, "web", "ptu", &long[1..]).is_some());
    assert_eq!(pinning().seal(Kind::Id, "web", "nowhere", "resp_1"), None);
}

#[test]
fn an_id_is_only_good_where_and_for_whom_it_was_made() {
    let sealed = seal("ptu", "resp_1");
    let of = |pinning: &Pinning, client: &str| pinning.open(Kind::Id, client, &sealed);
    assert_eq!(of(&pinning(), "other"), Opened::Broken);
    let [old, new, both] = [&["one"][..], &["two"], &["two", "one"]]
        .map(|secrets| pinning_of(secrets, BoundTo::Client, Unsealed::Pass));
    let expected = Opened::Of("ptu".into(), "resp_1".to_owned());
    assert_eq!(
        [of(&old, "web"), of(&new, "web"), of(&both, "web")],
        [expected.clone(), Opened::Broken, expected.clone()]
    );
    // The first seals.
    assert_eq!(both.seal(Kind::Id, "web", "ptu", "resp_1"), new.seal(Kind::Id, "web", "ptu", "resp_1"));
    assert_ne!(both.seal(Kind::Id, "web", "ptu", "resp_1"), Some(sealed.clone()));
    // What a client was told is not what everybody was.
    let shared = pinning_of(&["one"], BoundTo::Anyone, Unsealed::Pass);
    assert_eq!(of(&shared, "web"), Opened::Broken);
    let sealed = shared.seal(Kind::Id, "web", "ptu", "resp_1").unwrap();
    assert_eq!(shared.open(Kind::Id, "other", &sealed), expected);
    // A backend that is not there any more.
    let gone = Pinning::new(
        vec![Key::new(b"one").unwrap()],
        [(Rc::from("payg"), 7)].into_iter(),
        BoundTo::Client,
        Unsealed::Pass,
    );
    assert_eq!(of(&gone.unwrap(), "web"), Opened::Broken);
    // An id is not what is sealed, and the other way round.
    assert_eq!(pinning().open(Kind::Sealed, "web", &seal("ptu", "x")), Opened::Broken);
}

#[test]
fn two_backends_with_one_number_are_told() {
    let backends = [("a", 5), ("b", 5)].into_iter().map(|(name, number)| (Rc::from(name), number));
    let found = Pinning::new(Vec::new(), backends, BoundTo::Client, Unsealed::Pass);
    assert_eq!(found.unwrap_err(), ("a".into(), "b".into()));
}

/// What a body is for the backend, and where it must go.
fn restored(pinning: &Pinning, body: &str) -> Result<(String, Option<Rc<str>>, bool), Denial> {
    let mut reading = pinning.reading("web");
    let mut out = body.to_owned();
    for (span, text) in reading.body(body)?.into_iter().rev() {
        out.replace_range(span, &text);
    }
    Ok((out, reading.place(), reading.is_foreign()))
}

#[track_caller]
fn check_body(body: &str, expected: &str, place: Option<&str>) {
    let body = body.replace("$1", &seal("ptu", "resp_1")).replace("$2", &seal("payg", "file-2"));
    let expected = expected.replace("$1", &seal("ptu", "resp_1"));
    let (found, at, _) = restored(&pinning(), &body).unwrap();
    assert_eq!((found, at.as_deref()), (expected, place));
}

#[test]
fn ids_are_restored_where_the_api_has_them() {
    check_body(
        r#"{ "previous_response_id" : "$1", "x":1}"#,
        r#"{ "previous_response_id" : "resp_1", "x":1}"#,
        Some("ptu"),
    );
    check_body(r#"{"conversation":{"id":"$1"}}"#, r#"{"conversation":{"id":"resp_1"}}"#, Some("ptu"));
    check_body(
        r#"{"tools":[{"vector_store_ids":["$2" , "vs_x", null]}]}"#,
        r#"{"tools":[{"vector_store_ids":["file-2" , "vs_x", null]}]}"#,
        Some("payg"),
    );
    check_body(r#"{"training_file":"$2"}"#, r#"{"training_file":"file-2"}"#, Some("payg"));
    check_body(r#"{"file_ids":[],"a":["file_id","$1"]}"#, r#"{"file_ids":[],"a":["file_id","$1"]}"#, None);
    check_body(r#"{"id":5,"a":"$1","b":["$1"]}"#, r#"{"id":5,"a":"$1","b":["$1"]}"#, None);
    // What is the user's own is left alone.
    check_body(
        r#"{"metadata":{"id":"$1","a":[{"id":"$1"}]},"id":"$1"}"#,
        r#"{"metadata":{"id":"$1","a":[{"id":"$1"}]},"id":"resp_1"}"#,
        Some("ptu"),
    );
    // Names and values in disguise are what they are.
    let escaped = seal("ptu", "resp_1").replacen('r', "\\u0072", 1);
    check_body(
        &format!(r#"{{"previous\u005fresponse_id":"{escaped}","Thread_ID":"$1"}}"#),
        r#"{"previous\u005fresponse_id":"resp_1","Thread_ID":"resp_1"}"#,
        Some("ptu"),
    );
    check_body(
        r#"{"a":"\"id\":\"$1\"","b\\":"x","id":"$1"}"#,
        r#"{"a":"\"id\":\"$1\"","b\\":"x","id":"resp_1"}"#,
        Some("ptu"),
    );
}

#[test]
fn an_id_that_a_client_copied_is_opened_and_never_sealed() {
    let sealed = seal("ptu", "fc_1");
    for name in ["call_id", "tool_call_id"] {
        let body = json!({ "input": [{ "type": "function_call_output", name: sealed }] }).to_string();
        let plain = body.replace(&sealed, "fc_1");
        assert_eq!(restored(&pinning(), &body), Ok((plain.clone(), Some("ptu".into()), false)));
        // Without a seal it is anybody's name.
        let strict = pinning_of(&["one"], BoundTo::Client, Unsealed::Refuse);
        assert_eq!(restored(&strict, &plain), Ok((plain.clone(), None, false)));
        let mut stamp = Stamp::new(pinning(), "web".into(), "ptu".into(), false);
        assert_eq!(stamp.push(plain.as_bytes(), true), crate::sse::Output::Same);
    }
}

#[test]
fn what_has_no_seal_passes_or_is_refused() {
    let strict = pinning_of(&["one"], BoundTo::Client, Unsealed::Refuse);
    for (body, is_foreign) in [
        (r#"{"previous_response_id":"resp_1"}"#, Some("resp_1")),
        (r#"{"file_ids":["file-1"]}"#, Some("file-1")),
        (r#"{"input":[{"type":"reasoning","encrypted_content":"gAAA"}]}"#, Some("gAAA")),
        (r#"{"id":"mine","call_id":"call_1","model":"gpt-4o"}"#, None),
        (r#"{"previous_response_id":null}"#, None),
    ] {
        let expected = Ok((body.to_owned(), None, is_foreign.is_some()));
        assert_eq!(restored(&pinning(), body), expected);
        match is_foreign {
            Some(id) => assert_eq!(restored(&strict, body), Err(Denial::UnknownId(id.to_owned()))),
            None => assert_eq!(restored(&strict, body), expected),
        }
    }
    // A path has words of the API in it as well.
    let path = "vector_stores/vs/file_batches/x/files/threads/conversations/input_items/submit_tool_outputs";
    assert_eq!(strict.reading("web").path(path), Ok(path.to_owned()));
    assert_eq!(strict.reading("web").path("files/file-1"), Err(Denial::UnknownId("file-1".to_owned())));
    assert_eq!(strict.reading("web").query("after=file%2d1"), Err(Denial::UnknownId("file-1".to_owned())));
}

#[test]
fn ids_of_two_backends_and_broken_ones_are_refused() {
    let mixed =
        format!(r#"{{"a":[{{"id":"{}"}}],"file_id":"{}"}}"#, seal("ptu", "resp_1"), seal("payg", "file-2"));
    assert_eq!(restored(&pinning(), &mixed), Err(Denial::MixedIds));
    let broken = seal("ptu", "resp_1").replace("_1", "_2");
    let broken = broken.replacen('1', "2", 1) + "x";
    let found = restored(&pinning(), &json!({ "id": broken }).to_string());
    assert_eq!(found, Err(Denial::UnknownId(broken)));
    for broken in ["resp_tg_", "resp_tg_short", "tg_ééééééééééééééééééééé"] {
        assert_eq!(open(broken), Opened::Broken, "{broken}");
    }
}

#[test]
fn paths_and_queries_are_restored() {
    let pinning = pinning();
    let mut reading = pinning.reading("web");
    let (thread, run) = (seal("ptu", "thread_1"), seal("ptu", "run_2"));
    assert_eq!(
        reading.path(&format!("threads/{thread}/runs/{run}/cancel")),
        Ok("threads/thread_1/runs/run_2/cancel".to_owned())
    );
    let query = format!("limit=2&after={run}&x&before={}&y=%zz%", run.replace('_', "%5F"));
    assert_eq!(reading.query(&query), Ok("limit=2&after=run_2&x&before=run_2&y=%zz%".to_owned()));
    assert_eq!(reading.query(""), Ok(String::new()));
    assert_eq!(reading.place(), Some("ptu".into()));
    assert_eq!(reading.path(&seal("payg", "file-1")), Err(Denial::MixedIds));
}

#[test]
fn what_only_its_backend_can_read_leads_there_and_hides_nothing() {
    let content = "gAAAA".to_owned() + &"b".repeat(200);
    let item = json!({ "type": "reasoning", "encrypted_content": content }).to_string();
    let sealed = stamped(&item, &[], false);
    assert_eq!(restored(&pinning(), &sealed), Ok((item, Some("ptu".into()), false)));
    // A short one is under the seal as a whole.
    let item = r#"{"encrypted_content":"gA"}"#;
    let sealed = stamped(item, &[], false);
    assert_eq!(restored(&pinning(), &sealed), Ok((item.to_owned(), Some("ptu".into()), false)));
    let longer = sealed.replace("gA\"", "gAB\"");
    assert!(matches!(restored(&pinning(), &longer), Err(Denial::UnknownId(_))));
    // What a client writes behind the seal stays inside of its string.
    let evil = stamped(&json!({ "encrypted_content": content }).to_string(), &[], false)
        .replace("bbb\"", r#"bbb\",\"model\":\"x""#);
    let (found, ..) = restored(&pinning(), &evil).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found.as_object().unwrap().len(), 1, "{found}");
    // Whoever writes it again may write its escapes in another way.
    let escaped = r#"{"encrypted_content":"a\/b"}"#;
    assert_eq!(stamped(escaped, &[], false), escaped);
}

/// What the client gets for an answer that is cut at these places.
fn stamped(text: &str, cuts: &[usize], is_events: bool) -> String {
    let mut stamp = Stamp::new(pinning(), "web".into(), "ptu".into(), is_events);
    let mut cuts = cuts.to_vec();
    cuts.push(text.len());
    cuts.sort_unstable();
    let (mut out, mut start) = (Vec::new(), 0);
    for (at, cut) in cuts.iter().enumerate() {
        let chunk = &text.as_bytes()[start..*cut];
        match stamp.push(chunk, at + 1 == cuts.len()) {
            Output::Same => out.extend_from_slice(chunk),
            Output::Replaced(bytes) => out.extend_from_slice(&bytes),
        }
        start = *cut;
    }
    String::from_utf8(out).unwrap()
}

/// The naive model: what a whole parse would do.
fn sealed_value(value: &mut Value, name: &str) {
    const IDS: [&str; 5] = ["id", "file_ids", "previous_response_id", "item_id", "conversation"];
    let seal_string = |value: &mut Value, kind| {
        if let Value::String(text) = value
            && let Some(sealed) = pinning().seal(kind, "web", "ptu", text)
        {
            *text = sealed;
        }
    };
    match value {
        Value::String(_) if IDS.contains(&name) => seal_string(value, Kind::Id),
        Value::String(_) if name == "encrypted_content" => seal_string(value, Kind::Sealed),
        Value::Array(items) => {
            for item in items {
                // Elements of a list have its name, if they are strings.
                let name = if item.is_string() { name } else { "" };
                sealed_value(item, name);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                if name != "metadata" || value.is_string() {
                    sealed_value(value, name);
                }
            }
        }
        _ => {}
    }
}

fn value() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("id"),
        Just("file_ids"),
        Just("previous_response_id"),
        Just("item_id"),
        Just("conversation"),
        Just("encrypted_content"),
        Just("metadata"),
        Just("text"),
        Just("i"),
        Just("\"id"),
    ];
    let texts = prop_oneof![
        "[a-z]{1,5}[_-][a-z0-9]{0,8}".prop_map(Value::from),
        "[a-z0-9]{60,70}".prop_map(Value::from),
        "[a-z]{254,258}".prop_map(Value::from),
        Just(json!("call_1")),
        Just(json!("a \"id\":\"resp_1\" \\ é")),
        Just(json!("")),
        any::<u8>().prop_map(Value::from),
        Just(Value::Null),
    ];
    texts.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            // Lists are of one kind, as the API's are.
            prop::collection::vec("[a-z]{1,5}_[a-z0-9]{0,8}".prop_map(Value::from), 0..4)
                .prop_map(Value::from),
            prop::collection::vec(
                prop::collection::vec(inner.clone(), 1).prop_map(|mut one| json!({ "x": one.pop() })),
                0..3
            )
            .prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn cuts_of(text: &str, seeds: &[usize]) -> Vec<usize> {
    seeds.iter().map(|seed| seed % (text.len() + 1)).collect()
}

#[test]
fn every_cut_gives_the_same_answer() {
    let answer = r#"{"id":"resp_1","object":"response","previous_response_id":"resp_0","output":[{"id":"msg_\"","type":"message","call_id":"call_1","file_ids":["file-1", "file-2"],"encrypted_content":"gAAAA"}],"metadata":{"id":"x_1"},"item_id":"msg_1"}"#;
    let whole = stamped(answer, &[], false);
    for (id, times) in [("resp_1", 1), ("resp_0", 1), ("file-1", 1), ("file-2", 1), ("msg_1", 1), ("x_1", 0)]
    {
        assert_eq!(whole.matches(&seal("ptu", id)).count(), times, "{id} {whole}");
    }
    for first in 0..answer.len() {
        for second in [first, first + 1, first + 7, answer.len()] {
            assert_eq!(stamped(answer, &[first, second.min(answer.len())], false), whole);
        }
    }
    let each: Vec<_> = (0..answer.len()).collect();
    assert_eq!(stamped(answer, &each, false), whole);
}

#[test]
fn in_events_only_data_is_looked_at() {
    let (one, two) = (seal("ptu", "resp_1"), seal("ptu", "msg_2"));
    for end in ["\n", "\r\n", "\r"] {
        let with = |one: &str, two: &str| {
            [
                "event: response.created",
                &format!(r#"data: {{"response":{{"id":"{one}"}}}}"#),
                "",
                r#"id: {"id":"resp_1"}"#,
                r#"datas: {"id":"resp_1"}"#,
                "data",
                // A broken one has no part in the next.
                r#"data: {"id":"resp_1"#,
                "",
                &format!(r#"data:{{"item_id":"{two}","delta":"\"id\":\"resp_1\""}}"#),
                "",
                // Several lines are one text.
                "data: {\"id\":",
                &format!("data: \"{two}\"}}"),
                "",
                "data: [DONE]",
                "",
            ]
            .join(end)
        };
        let (plain, sealed) = (with("resp_1", "msg_2"), with(&one, &two));
        assert_eq!(stamped(&plain, &[], true), sealed);
        for cut in 0..plain.len() {
            assert_eq!(stamped(&plain, &[cut], true), sealed, "{cut}");
        }
        let each: Vec<_> = (0..plain.len()).collect();
        assert_eq!(stamped(&plain, &each, true), sealed);
    }
}

#[test]
fn little_is_held_back() {
    let mut stamp = Stamp::new(pinning(), "web".into(), "ptu".into(), false);
    let (mut came, mut went) = (0, 0);
    let text = format!(
        r#"{{"id":"{}","encrypted_content":"{}","text":"{}"}}"#,
        "x".repeat(4000),
        "y".repeat(4000),
        "z".repeat(4000)
    );
    for byte in text.as_bytes() {
        came += 1;
        went += match stamp.push(&[*byte], false) {
            Output::Same => 1,
            Output::Replaced(bytes) => bytes.len(),
        };
        assert!(came <= went + ID_BYTES_MAX + 1, "{came} {went}");
    }
    assert!(went > came);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_id_comes_back_as_it_was(id in "[A-Za-z0-9_.~-]{1,256}", client in "[a-z]{1,8}") {
        let pinning = pinning();
        if let Some(sealed) = pinning.seal(Kind::Id, &client, "payg", &id) {
            prop_assert_eq!(pinning.open(Kind::Id, &client, &sealed), Opened::Of("payg".into(), id));
        }
    }

    #[test]
    fn any_change_of_an_id_is_noticed(
        id in "(resp_|file-)?[A-Za-z0-9]{1,40}", at in any::<usize>(), by in "[A-Za-z0-9_.~-]", how in 0..3,
    ) {
        let sealed = seal("ptu", &id);
        let at = at % sealed.len();
        let mut changed = sealed.clone();
        match how {
            0 => changed.replace_range(at..=at, &by),
            1 => changed.insert_str(at, &by),
            _ => drop(changed.remove(at)),
        }
        if changed != sealed {
            let found = open(&changed);
            prop_assert!(!matches!(found, Opened::Of(..)), "{sealed} {changed} {found:?}");
        }
    }

    /// Against a whole parse, however the network cuts; and what is sent back is what the backend said.
    #[test]
    fn cuts_do_not_matter_and_a_whole_parse_agrees(value in value(), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let text = value.to_string();
        let found = stamped(&text, &cuts_of(&text, &cuts), false);
        let mut expected = value;
        sealed_value(&mut expected, "");
        prop_assert_eq!(&found, &expected.to_string());
        let (back, ..) = restored(&pinning(), &found).unwrap();
        prop_assert_eq!(back, text);
    }

    #[test]
    fn any_bytes_pass_however_they_are_cut(
        text in "[\\[\\]{}:,\"\\\\a-z \r\n]{0,80}", cuts in prop::collection::vec(any::<usize>(), 0..6), is_events in any::<bool>(),
    ) {
        let found = stamped(&text, &cuts_of(&text, &cuts), is_events);
        prop_assert_eq!(found, stamped(&text, &[], is_events));
    }
}

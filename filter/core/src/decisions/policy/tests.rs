use super::*;
use crate::number::Decimal;
use crate::request::CapField;
use proptest::prelude::*;
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const CHAT: Asked = Asked { operation: Operation::ChatCompletions, family: Family::Gpt4, prompt_tokens: 10 };
const RESPONSES: Asked = Asked { operation: Operation::Responses, ..CHAT };
const COMPLETIONS: Asked = Asked { operation: Operation::Completions, ..CHAT };
const REASONING: Asked = Asked { family: Family::Gpt5, ..CHAT };

fn clamp(max: u32) -> Option<Bound> {
    Some(Bound { default: None, max: Some(max), over: Over::Clamp })
}

fn reject(max: u32) -> Option<Bound> {
    Some(Bound { over: Over::Reject, ..clamp(max).unwrap() })
}

fn efforts(allowed: &[&str], over: Over) -> Levels {
    Levels { order: words(&EFFORTS), allowed: words(allowed), over, default: None }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn decimal(value: f64) -> Option<Decimal> {
    Decimal::new(value)
}

/// What became of a request.
#[derive(Debug, PartialEq)]
struct Outcome {
    body: String,
    ceiling: Ceiling,
    /// What the client is told.
    told: Option<String>,
    /// What would have been done, as in `n reject`.
    would: Vec<String>,
}

fn outcome(policy: &Policy, asked: &Asked, body: &str) -> Result<Outcome, Denial> {
    let mut request = Request::read(body.as_bytes())?;
    let Verdict { ceiling, findings } =
        apply(policy, asked, &mut request).map_err(|refusal| refusal.denial)?;
    let mut after = body.to_owned();
    if let Some(patch) = request.patch() {
        after = String::from_utf8(patch.bytes).unwrap() + &body[patch.replaced..];
    }
    let would = findings.iter().filter_map(|finding| match finding.effect {
        Effect::Would(would) => Some(format!("{} {}", finding.rule, would.word())),
        Effect::Clamped(_) | Effect::Refused | Effect::WouldBeside(..) | Effect::Unknown(_) => None,
    });
    Ok(Outcome {
        body: after,
        ceiling,
        told: crate::finding::header_value(&findings),
        would: would.collect(),
    })
}

/// The body that goes upstream and what the client is told, or the sentence of the refusal.
#[track_caller]
fn check(policy: &Policy, asked: &Asked, body: &str, expected: Result<(&str, Option<&str>), &str>) {
    let found = outcome(policy, asked, body).map_err(|denial| sentence(&denial));
    let found = match &found {
        Ok(outcome) => Ok((outcome.body.as_str(), outcome.told.as_deref())),
        Err(sentence) => Err(sentence.as_str()),
    };
    assert_eq!(found, expected, "{body}");
}

fn sentence(denial: &Denial) -> String {
    let body: Value = serde_json::from_slice(&denial.answer().body).unwrap();
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// Passes as it is, and nobody is told anything.
#[track_caller]
fn check_same(policy: &Policy, asked: &Asked, body: &str) {
    check(policy, asked, body, Ok((body, None)));
}

#[track_caller]
fn check_ceiling(policy: &Policy, asked: &Asked, body: &str, tokens: u32, candidates: u32) {
    let found = outcome(policy, asked, body).unwrap().ceiling;
    assert_eq!(found, Ceiling { completion_tokens: tokens, candidates }, "{body}");
}

fn bounded() -> Policy {
    Policy {
        max_tokens: Some(Bound { default: Some(100), max: Some(500), over: Over::Clamp }),
        best_of: reject(4),
        n: clamp(3),
        ..Policy::default()
    }
}

#[test]
fn a_value_over_the_bound_is_clamped_or_refused() {
    let policy = bounded();
    check(&policy, &CHAT, r#"{"max_tokens":501}"#, Ok((r#"{"max_tokens":500}"#, Some("max_tokens=500"))));
    check_same(&policy, &CHAT, r#"{"max_tokens":500}"#);
    let after = r#"{"n":3,"max_completion_tokens":7}"#;
    check(&policy, &CHAT, r#"{"n":9,"max_completion_tokens":7}"#, Ok((after, Some("n=3"))));
    check_ceiling(&policy, &CHAT, r#"{"n":9,"max_completion_tokens":7}"#, 7, 3);
    let refused = "`best_of` is 5, but this client's policy allows at most 4.";
    check(&policy, &COMPLETIONS, r#"{"best_of":5,"max_tokens":1}"#, Err(refused));
    check_same(&policy, &COMPLETIONS, r#"{"best_of":4,"max_tokens":1}"#);
    let told = Ok((r#"{"max_output_tokens":500}"#, Some("max_output_tokens=500")));
    check(&policy, &RESPONSES, r#"{"max_output_tokens":900}"#, told);
}

#[test]
fn every_name_of_the_cap_is_held_whatever_the_operation() {
    let after = r#"{"max_output_tokens":500,"max_tokens":500}"#;
    let told = Some("max_tokens=500, max_output_tokens=500");
    check(&bounded(), &CHAT, r#"{"max_output_tokens":900,"max_tokens":600}"#, Ok((after, told)));
}

#[test]
fn an_absent_cap_gets_the_default_in_the_field_of_the_model() {
    use Operation::*;
    let policy = bounded();
    let with = |asked: Asked, body: &str, after: &str, tokens: u32, candidates: u32| {
        check(&policy, &asked, body, Ok((after, None)));
        check_ceiling(&policy, &asked, body, tokens, candidates);
    };
    let other = |operation| Asked { operation, ..CHAT };
    with(CHAT, "{}", r#"{"max_tokens":100}"#, 100, 1);
    with(REASONING, "{}", r#"{"max_completion_tokens":100}"#, 100, 1);
    with(COMPLETIONS, "{}", r#"{"max_tokens":100}"#, 100, 1);
    with(RESPONSES, "{}", r#"{"max_output_tokens":100}"#, 100, 1);
    with(other(Embeddings), "{}", "{}", 0, 1);
    with(other(ImageGenerations), r#"{"n":2}"#, r#"{"n":2}"#, 7024, 2);
    with(other(ImageEdits), r#"{"quality":"low"}"#, r#"{"quality":"low"}"#, 408, 1);
    with(other(ImageEdits), r#"{"size":7}"#, r#"{"size":7}"#, 7024, 1);
    with(other(Speech), "{}", "{}", 0, 1);
    with(CHAT, r#"{"max_tokens":null}"#, r#"{"max_tokens":100}"#, 100, 1);
}

#[test]
fn a_cap_that_the_operation_does_not_read_is_none() {
    let after = r#"{"max_tokens":100,"max_output_tokens":1}"#;
    check(&bounded(), &CHAT, r#"{"max_output_tokens":1}"#, Ok((after, None)));
    check(&bounded(), &COMPLETIONS, r#"{"max_output_tokens":1}"#, Ok((after, None)));
}

#[test]
fn a_cap_is_held_under_the_name_that_the_client_gave_it() {
    check_same(&Policy::default(), &REASONING, r#"{"max_tokens":9}"#);
    check_ceiling(&Policy::default(), &REASONING, r#"{"max_tokens":9}"#, 9, 1);
    let told = Ok((r#"{"max_tokens":500}"#, Some("max_tokens=500")));
    check(&bounded(), &REASONING, r#"{"max_tokens":501}"#, told);
}

#[test]
fn two_caps_for_one_model_are_refused() {
    let sentence = "`max_tokens` and `max_completion_tokens` cannot both be set.";
    check(&bounded(), &CHAT, r#"{"max_tokens":1,"max_completion_tokens":1}"#, Err(sentence));
}

#[test]
fn each_candidate_counts_and_best_of_is_never_below_n() {
    let policy = Policy::default();
    check_ceiling(&policy, &COMPLETIONS, r#"{"max_tokens":5,"n":2,"best_of":3}"#, 5, 3);
    check_ceiling(&policy, &COMPLETIONS, r#"{"max_tokens":5,"n":3}"#, 5, 3);
    check_ceiling(&policy, &COMPLETIONS, r#"{"max_tokens":5,"n":0,"best_of":0}"#, 5, 1);
    check_same(&policy, &COMPLETIONS, r#"{"best_of":0}"#);
    let refused = "`best_of` is 2, but must be at least `n`, which is 3.";
    check(&policy, &COMPLETIONS, r#"{"n":3,"best_of":2}"#, Err(refused));
    // Lowering the one lowers the other.
    let policy = Policy { best_of: clamp(2), ..Policy::default() };
    let after = r#"{"n":2,"best_of":2}"#;
    check(&policy, &COMPLETIONS, r#"{"n":3,"best_of":4}"#, Ok((after, Some("best_of=2, n=2"))));
    check_ceiling(&policy, &COMPLETIONS, r#"{"n":3,"best_of":4}"#, LEGACY_COMPLETION_TOKENS, 2);
}

#[test]
fn each_prompt_of_a_legacy_completion_is_completed() {
    for (prompt, prompts) in
        [(r#""a""#, 1), (r#"["a","b"]"#, 2), ("[1,2,3]", 1), ("[[1,2],[3]]", 2), ("[]", 1)]
    {
        let body = format!(r#"{{"max_tokens":5,"prompt":{prompt},"n":2}}"#);
        check_same(&bounded(), &COMPLETIONS, &body);
        check_ceiling(&bounded(), &COMPLETIONS, &body, 5, 2 * prompts);
    }
}

#[test]
fn without_a_policy_the_body_stays_and_the_reservation_assumes() {
    let body = r#"{"temperature":"hot","logprobs":7,"tools":1,"store":true,"stream":true,"seed":[]}"#;
    check_same(&Policy::default(), &CHAT, body);
    check_ceiling(&Policy::default(), &CHAT, body, COMPLETION_TOKENS_ASSUMED, 1);
}

#[test]
fn a_decimal_is_held_between_its_bounds() {
    let range = |over| Some(Range { min: decimal(0.1), max: decimal(1.0), over });
    let policy = Policy { temperature: range(Over::Clamp), top_p: range(Over::Reject), ..Policy::default() };
    for same in ["0.1", "1", "1.0", "0.7000000000000001", "7E-1", "null"] {
        check_same(&policy, &CHAT, &format!(r#"{{"temperature":{same},"top_p":{same}}}"#));
    }
    for (asked, bound) in
        [("1.5", "1"), ("1.0000000000000003", "1"), ("1e2", "1"), ("-5", "0.1"), ("0", "0.1")]
    {
        let after = format!(r#"{{"temperature":{bound}}}"#);
        let told = format!("temperature={bound}");
        check(&policy, &CHAT, &format!(r#"{{"temperature":{asked}}}"#), Ok((&after, Some(&told))));
    }
    let above = "`top_p` is 1.5, but this client's policy allows at most 1.";
    check(&policy, &CHAT, r#"{"top_p":1.5}"#, Err(above));
    let below = "`top_p` is 0.05, but this client's policy allows at least 0.1.";
    check(&policy, &CHAT, r#"{"top_p":5e-2}"#, Err(below));
    for wrong in [r#""0.5""#, "true", "[0.5]", "{}", "1e400"] {
        let sentence = "`temperature` must be a number that a 64-bit float holds.";
        check(&policy, &CHAT, &format!(r#"{{"temperature":{wrong}}}"#), Err(sentence));
    }
}

#[test]
fn a_forbidden_field_is_refused_or_dropped_whatever_it_says() {
    let forbid = Policy {
        echo: Permission::Forbid,
        seed: Permission::Forbid,
        logprobs: Permission::Forbid,
        store: Permission::Forbid,
        background: Permission::Forbid,
        ..Policy::default()
    };
    let fields = [("echo", "null"), ("seed", "null"), ("logprobs", "null"), ("top_logprobs", "null")];
    for (field, _) in fields.into_iter().chain([("store", ""), ("background", "")]) {
        for value in ["true", "0", "1", r#""true""#, "[]"] {
            let sentence = format!("`{field}` is not allowed by this client's policy.");
            check(&forbid, &CHAT, &format!(r#"{{"{field}":{value}}}"#), Err(&sentence));
        }
        check_same(&forbid, &CHAT, &format!(r#"{{"{field}":false}}"#));
        check_same(&forbid, &CHAT, &format!(r#"{{"{field}":null}}"#));
        let disguised = format!("`{field}` must be written plainly: lower case, without escapes.");
        check(&forbid, &CHAT, &format!(r#"{{"{}":true}}"#, field.to_uppercase()), Err(&disguised));
    }
    let drop = Policy {
        echo: Permission::Drop,
        seed: Permission::Drop,
        logprobs: Permission::Drop,
        store: Permission::Drop,
        background: Permission::Drop,
        ..Policy::default()
    };
    for (field, neutral) in fields.into_iter().chain([("store", "false"), ("background", "false")]) {
        let after = format!(r#"{{"{field}":{neutral}}}"#);
        let told = format!("{field}={neutral}");
        check(&drop, &CHAT, &format!(r#"{{"{field}":1}}"#), Ok((&after, Some(&told))));
    }
}

#[test]
fn responses_keeps_nothing_where_nothing_may_be_kept() {
    let policy = Policy { store: Permission::Forbid, ..Policy::default() };
    let told = Some("store=false");
    check(&policy, &RESPONSES, "{}", Ok((r#"{"store":false}"#, told)));
    check(&policy, &RESPONSES, r#"{"store":null}"#, Ok((r#"{"store":false}"#, told)));
    check_same(&policy, &RESPONSES, r#"{"store":false}"#);
    check_same(&policy, &CHAT, "{}");
}

#[test]
fn probabilities_are_bounded_under_each_of_their_names() {
    let policy = Policy { top_logprobs: clamp(5), ..Policy::default() };
    let told = Ok((r#"{"top_logprobs":5}"#, Some("top_logprobs=5")));
    check(&policy, &CHAT, r#"{"top_logprobs":20}"#, told);
    check_same(&policy, &CHAT, r#"{"logprobs":true,"top_logprobs":5}"#);
    let told = Ok((r#"{"logprobs":5}"#, Some("logprobs=5")));
    check(&policy, &COMPLETIONS, r#"{"logprobs":6}"#, told);
    let kind = "`logprobs` must be a whole number, written with digits only.";
    check(&policy, &COMPLETIONS, r#"{"logprobs":"6"}"#, Err(kind));
    // Responses asks for them by a word in a list.
    let body = r#"{"include":["a\"b","message.output_text.logprobs"]}"#;
    let forbid = Policy { logprobs: Permission::Forbid, ..Policy::default() };
    let sentence = "`message.output_text.logprobs` is not allowed by this client's policy.";
    check(&forbid, &RESPONSES, body, Err(sentence));
    check(&forbid, &RESPONSES, r#"{"include":7}"#, Err("`include` must be an array of strings."));
    let drop = Policy { logprobs: Permission::Drop, top_logprobs: reject(1), ..Policy::default() };
    let told = Some("message.output_text.logprobs=null");
    check(&drop, &RESPONSES, body, Ok((r#"{"include":["a\"b"]}"#, told)));
    check(
        &drop,
        &CHAT,
        r#"{"logprobs":true,"top_logprobs":9}"#,
        Ok((r#"{"logprobs":null,"top_logprobs":null}"#, Some("logprobs=null, top_logprobs=null"))),
    );
}

#[test]
fn there_may_be_so_many_of_a_thing_or_none() {
    let none = Policy { tools: Quota::Forbid, logit_bias: Quota::Forbid, ..Policy::default() };
    let some = Policy { tools: Quota::Max(2), logit_bias: Quota::Max(1), ..Policy::default() };
    for empty in [r#"{"tools":[]}"#, r#"{"tools":null,"logit_bias":{}}"#, "{}"] {
        check_same(&none, &CHAT, empty);
    }
    for (body, field) in [
        (r#"{"tools":[{}]}"#, "tools"),
        (r#"{"functions":[{}]}"#, "functions"),
        (r#"{"web_search_options":{}}"#, "web_search_options"),
        (r#"{"logit_bias":{"1":-100}}"#, "logit_bias"),
    ] {
        let sentence = format!("`{field}` is not allowed by this client's policy.");
        check(&none, &CHAT, body, Err(&sentence));
        check_same(&some, &CHAT, body);
    }
    let sentence = "`tools` has 3 entries, but this client's policy allows at most 2.";
    check(&some, &CHAT, r#"{"functions":[{}],"tools":[{},{}]}"#, Err(sentence));
    let sentence = "`logit_bias` has 2 entries, but this client's policy allows at most 1.";
    check(&some, &CHAT, r#"{"logit_bias":{"1":1,"2":1}}"#, Err(sentence));
    check(&some, &CHAT, r#"{"tools":"all"}"#, Err("`tools` must be an array or an object."));
}

#[test]
fn an_answer_comes_in_an_allowed_format() {
    let policy = Policy {
        response_format: Some(vec!["text".to_owned(), "json_object".to_owned()]),
        ..Policy::default()
    };
    check_same(&policy, &CHAT, r#"{"response_format":{"type":"text"}}"#);
    check_same(&policy, &CHAT, r#"{"response_format":null}"#);
    check_same(&policy, &RESPONSES, r#"{"text":{"verbosity":"low"}}"#);
    check_same(&policy, &RESPONSES, r#"{"text":{"format":{"type":"json_object"}}}"#);
    let only = |field: &str| {
        format!("`{field}` is `json_schema`, but this client's policy allows only `text`, `json_object`.")
    };
    check(
        &policy,
        &CHAT,
        r#"{"response_format":{"json_schema":{},"type":"json_schema"}}"#,
        Err(&only("response_format.type")),
    );
    check(
        &policy,
        &RESPONSES,
        r#"{"text":{"format":{"type":"json\u005fschema"}}}"#,
        Err(&only("text.format.type")),
    );
    for (body, sentence) in [
        (r#"{"response_format":{}}"#, "The request has no `response_format.type`."),
        (r#"{"response_format":"text"}"#, "`response_format` must be an object."),
        (r#"{"response_format":{"type":7}}"#, "`response_format.type` must be a string."),
        (
            r#"{"response_format":{"type":"text","type":"json_schema"}}"#,
            "`response_format.type` stands more than once in the request.",
        ),
        (
            r#"{"response_format":{"Type":"json_schema"}}"#,
            "`response_format.type` must be written plainly: lower case, without escapes.",
        ),
    ] {
        check(&policy, &CHAT, body, Err(sentence));
    }
    check(&policy, &RESPONSES, r#"{"text":{"format":[]}}"#, Err("`text.format` must be an object."));
    // Of speech the name means something else.
    let speech = Asked { operation: Operation::Speech, ..CHAT };
    check_same(&policy, &speech, r#"{"response_format":"mp3"}"#);
}

#[test]
fn a_prompt_is_held_to_its_length_and_its_kinds() {
    let long = |prompt| Policy { prompt, ..Policy::default() };
    let body = r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}],"tools":[1]}"#;
    let bounds = PromptBounds { bytes_max: Some(64), messages_max: Some(2), tokens_max: Some(10) };
    check_same(&long(bounds), &CHAT, body);
    let bytes = "`messages` has 64 bytes of prompt, but this client's policy allows at most 63.";
    check(&long(PromptBounds { bytes_max: Some(63), ..bounds }), &CHAT, body, Err(bytes));
    let messages = "`messages` has 2 messages, but this client's policy allows at most 1.";
    check(&long(PromptBounds { messages_max: Some(1), ..bounds }), &CHAT, body, Err(messages));
    let tokens = "`messages` has 10 tokens of prompt by estimate, but this client's policy allows at most 9.";
    check(&long(PromptBounds { tokens_max: Some(9), ..bounds }), &CHAT, body, Err(tokens));
    let items = "`input` has 2 messages, but this client's policy allows at most 1.";
    let one = long(PromptBounds { messages_max: Some(1), ..PromptBounds::default() });
    check(&one, &RESPONSES, r#"{"input":[{},{}]}"#, Err(items));
    check_same(&one, &RESPONSES, r#"{"input":"a, b"}"#);
    check_same(&one, &Asked { operation: Operation::Embeddings, ..CHAT }, r#"{"input":["a","b"]}"#);

    let quota =
        |quota| Policy { image_parts: quota, audio_parts: quota, file_parts: quota, ..Policy::default() };
    for (part, one, many) in [
        (r#"{"type":"image_url","image_url":{"url":"x"}}"#, "an image", "images"),
        (r#"{"type":"input_audio","input_audio":{}}"#, "audio", "audio parts"),
        (r#"{"type":"file","file":{}}"#, "a file", "files"),
    ] {
        let body = |parts: &[&str]| format!(r#"{{"messages":[{{"content":[{}]}}]}}"#, parts.join(","));
        let sentence = format!("`messages` has {one}, which this client's policy does not allow.");
        check(&quota(Quota::Forbid), &CHAT, &body(&[part]), Err(&sentence));
        check_same(&quota(Quota::Max(1)), &CHAT, &body(&[part]));
        let sentence = format!("`messages` has 2 {many}, but this client's policy allows at most 1.");
        check(&quota(Quota::Max(1)), &CHAT, &body(&[part, part]), Err(&sentence));
    }
    let sentence = "In `messages`, `type` stands more than once in one object.";
    let hidden = r#"{"messages":[{"content":[{"type":"image_url","type":"text"}]}]}"#;
    check(&quota(Quota::Forbid), &CHAT, hidden, Err(sentence));
}

#[test]
fn a_stream_may_be_forbidden_required_or_forced() {
    let with = |stream| Policy { stream, ..Policy::default() };
    let only =
        |asked: bool| format!("`stream` is `{asked}`, but this client's policy allows only `{}`.", !asked);
    let (yes, no) = (r#"{"stream":true}"#, r#"{"stream":false}"#);
    check(&with(Streaming::Forbid), &CHAT, yes, Err(&only(true)));
    check_same(&with(Streaming::Forbid), &CHAT, no);
    check_same(&with(Streaming::Require), &CHAT, yes);
    check(&with(Streaming::Require), &RESPONSES, "{}", Err(&only(false)));
    check_same(&with(Streaming::Force), &CHAT, yes);
    check(&with(Streaming::Force), &CHAT, no, Ok((yes, Some("stream=true"))));
    check(&with(Streaming::Force), &RESPONSES, "{}", Ok((yes, Some("stream=true"))));
    let embeddings = Asked { operation: Operation::Embeddings, ..CHAT };
    check_same(&with(Streaming::Force), &embeddings, "{}");
    check_same(&with(Streaming::Require), &embeddings, "{}");
}

#[test]
fn only_allowed_tiers_are_asked_for() {
    let policy =
        Policy { service_tier: Some(vec!["auto".to_owned(), "flex".to_owned()]), ..Policy::default() };
    check_same(&policy, &CHAT, r#"{"service_tier":"flex"}"#);
    check_same(&policy, &CHAT, r#"{"service_tier":null}"#);
    let sentence = "`service_tier` is `priority`, but this client's policy allows only `auto`, `flex`.";
    check(&policy, &CHAT, r#"{"service_tier":"priority"}"#, Err(sentence));
    check(&policy, &CHAT, r#"{"service_tier":["flex"]}"#, Err("`service_tier` must be a string."));
}

#[test]
fn an_effort_is_lowered_to_the_nearest_that_is_allowed() {
    let clamps = Levels { default: Some("low".to_owned()), ..efforts(&["low", "medium"], Over::Clamp) };
    let clamping = Policy { reasoning_effort: Some(clamps.clone()), ..Policy::default() };
    let rejects = Levels { over: Over::Reject, default: None, ..clamps };
    let rejecting = Policy { reasoning_effort: Some(rejects), ..Policy::default() };
    for (asked, to) in
        [("high", "medium"), ("xhigh", "medium"), ("max", "medium"), ("minimal", "low"), ("none", "low")]
    {
        let chat = |word: &str| format!(r#"{{"reasoning_effort":"{word}"}}"#);
        let told = format!("reasoning_effort={to}");
        check(&clamping, &CHAT, &chat(asked), Ok((&chat(to), Some(&told))));
        let responses = |word: &str| format!(r#"{{"reasoning":{{"summary":"auto", "effort": "{word}"}}}}"#);
        let told = format!("reasoning.effort={to}");
        check(&clamping, &RESPONSES, &responses(asked), Ok((&responses(to), Some(&told))));
        let sentence =
            format!("`reasoning.effort` is `{asked}`, but this client's policy allows only `low`, `medium`.");
        check(&rejecting, &RESPONSES, &responses(asked), Err(&sentence));
    }
    check_same(&clamping, &CHAT, r#"{"reasoning_effort":"medium"}"#);
    let sentence = "`reasoning_effort` is `most`, but this client's policy allows only `low`, `medium`.";
    check(&clamping, &CHAT, r#"{"reasoning_effort":"most"}"#, Err(sentence));
    check(&clamping, &RESPONSES, r#"{"reasoning":{"effort":"low","effort":"high"}}"#, {
        Err("`reasoning.effort` stands more than once in the request.")
    });
    // A default only for a model that reasons, where the operation reads it.
    let responses = Asked { operation: Operation::Responses, ..REASONING };
    for (body, after) in [
        ("{}", r#"{"reasoning":{"effort":"low"}}"#),
        (r#"{"reasoning":null}"#, r#"{"reasoning":{"effort":"low"}}"#),
        (r#"{"reasoning":{}}"#, r#"{"reasoning":{"effort":"low"}}"#),
        (r#"{"reasoning":{"effort":null}}"#, r#"{"reasoning":{"effort":"low"}}"#),
        (r#"{"reasoning":{"summary":"auto"}}"#, r#"{"reasoning":{"effort":"low","summary":"auto"}}"#),
    ] {
        check(&clamping, &responses, body, Ok((after, None)));
    }
    check(&clamping, &REASONING, "{}", Ok((r#"{"reasoning_effort":"low"}"#, None)));
    check_same(&clamping, &CHAT, "{}");
    check_same(&rejecting, &REASONING, "{}");
}

/// A policy with all the rules there are.
fn all() -> Policy {
    let range = Some(Range { min: decimal(0.1), max: decimal(1.0), over: Over::Clamp });
    Policy {
        temperature: range,
        top_p: range,
        top_logprobs: clamp(5),
        echo: Permission::Drop,
        logit_bias: Quota::Max(1),
        seed: Permission::Forbid,
        tools: Quota::Max(1),
        response_format: Some(vec!["text".to_owned()]),
        image_parts: Quota::Forbid,
        stream: Streaming::Force,
        store: Permission::Forbid,
        background: Permission::Drop,
        service_tier: Some(vec!["auto".to_owned()]),
        reasoning_effort: Some(Levels { default: Some("low".to_owned()), ..efforts(&["low"], Over::Clamp) }),
        prompt: PromptBounds { messages_max: Some(1), ..PromptBounds::default() },
        ..bounded()
    }
}

#[test]
fn an_audit_notes_everything_and_changes_nothing() {
    let policy = Policy { mode: Mode::Audit, ..all() };
    let body = r#"{"messages":[{"content":[{"image_url":""}]},{}],"n":9,"best_of":9,"temperature":3,"seed":1,"echo":true,"tools":[1,2],"response_format":{"type":"json_object"},"store":true,"service_tier":"flex","reasoning_effort":"high"}"#;
    let found = outcome(&policy, &CHAT, body).unwrap();
    assert_eq!(found.body, body);
    assert_eq!(found.told, None);
    // The reservation is for what goes upstream.
    assert_eq!(found.ceiling, Ceiling { completion_tokens: COMPLETION_TOKENS_ASSUMED, candidates: 9 });
    assert_eq!(
        found.would,
        [
            "prompt.messages_max reject",
            "image_parts reject",
            "n clamp",
            "max_tokens default",
            "best_of reject",
            "temperature clamp",
            "echo clamp",
            "seed reject",
            "tools reject",
            "response_format reject",
            "stream clamp",
            "store reject",
            "service_tier reject",
            "reasoning_effort clamp",
        ]
    );
    let sentence = "`temperature` must be a number that a 64-bit float holds.";
    check(&policy, &CHAT, r#"{"temperature":"3"}"#, Err(sentence));
}

fn any_body() -> impl Strategy<Value = (usize, Value)> {
    let count = || prop_oneof![Just(Value::Null), (0..8u32).prop_map(|count| json!(count))];
    let decimal = || prop_oneof![Just(Value::Null), (-1.0..3.0).prop_map(|decimal: f64| json!(decimal))];
    let flag = || prop_oneof![Just(json!(null)), Just(json!(false)), Just(json!(true))];
    let effort = prop::sample::select(vec!["none", "low", "high"]);
    (
        0..4usize,
        (count(), count(), 0..4usize, 0..900u32),
        (decimal(), decimal(), flag(), flag(), flag()),
        prop::option::of(effort),
        0..3usize,
    )
        .prop_map(
            |(asked, (n, best_of, cap, tokens), (temperature, top_p, stream, store, echo), effort, tools)| {
                let cap = ["max_tokens", "max_completion_tokens", "max_output_tokens", "x"][cap];
                let body = json!({
                    "n": n, "best_of": best_of, cap: tokens, "temperature": temperature, "top_p": top_p,
                    "stream": stream, "store": store, "echo": echo, "tools": vec![json!({}); tools],
                    "reasoning_effort": effort, "reasoning": { "effort": effort },
                });
                (asked, body)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What has been held to a policy keeps it: a second time nothing is found, and the ceiling is the same.
    #[test]
    fn what_goes_upstream_keeps_the_policy((asked, body) in any_body()) {
        let asked = [CHAT, REASONING, RESPONSES, COMPLETIONS][asked];
        let Ok(first) = outcome(&all(), &asked, &body.to_string()) else { return Ok(()) };
        let second = outcome(&all(), &asked, &first.body).unwrap();
        let quiet = Outcome { told: None, ..first };
        prop_assert_eq!(&second, &quiet);
        // And so says a whole parse.
        let sent: Value = serde_json::from_str(&quiet.body).unwrap();
        let count = |name: &str| sent[name].as_u64();
        let cap = CapField::ALL.into_iter().filter(|field| field.is_read_by(asked.operation));
        let cap = cap.filter_map(|field| count(field.name())).collect::<Vec<_>>();
        prop_assert_eq!(cap, [u64::from(quiet.ceiling.completion_tokens)]);
        let candidates = count("n").unwrap_or(1).max(count("best_of").unwrap_or(1)).max(1);
        prop_assert_eq!(candidates, u64::from(quiet.ceiling.candidates));
        prop_assert!(sent["temperature"].as_f64().is_none_or(|decimal| (0.1..=1.0).contains(&decimal)));
    }

    /// An audit sees what an enforcement would do first, and leaves the body to the byte.
    #[test]
    fn an_audit_finds_what_an_enforcement_refuses((asked, body) in any_body()) {
        let asked = [CHAT, RESPONSES, COMPLETIONS][asked % 3];
        let body = body.to_string();
        let audit = outcome(&Policy { mode: Mode::Audit, ..all() }, &asked, &body);
        let enforced = outcome(&all(), &asked, &body);
        match (audit, enforced) {
            (Ok(audit), Ok(enforced)) => {
                prop_assert_eq!(audit.body, body);
                prop_assert!(audit.would.iter().all(|would| !would.ends_with("reject")));
                let clamps = enforced.told.map_or(0, |told| told.split(", ").count());
                prop_assert_eq!(audit.would.iter().filter(|would| would.ends_with("clamp")).count(), clamps);
            }
            (Ok(audit), Err(denial)) => {
                prop_assert!(audit.would.iter().any(|would| would.ends_with("reject")), "{denial:?}");
            }
            // What no reader could make sense of is refused in either mode.
            (Err(audit), enforced) => prop_assert_eq!(Err(audit), enforced),
        }
    }
}

mod messages;
mod narrowed;
mod rows;

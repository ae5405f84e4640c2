//! What did the answer say it cost?
//!
//! Reads `usage` out of an answer as it streams by, in constant memory: from a JSON body at the top level, from a stream
//! in the one event that has it. Events are searched, not parsed; only one that has a usage object is. Not decided here:
//! who pays.

mod events;
mod progress;
mod scan;
mod wire;

use crate::endpoint::Operation;
use crate::failure::{FAILURE_BYTES_MAX, Failure};
use crate::sse::Output;
use crate::tokens::Usage;
use events::Events;
use scan::JsonScanner;

/// The longest usage object that is read.
const USAGE_BYTES_MAX: usize = 8 * 1024;

/// The longest model name that is read.
const MODEL_BYTES_MAX: usize = 128;

/// The longest id of an answer that is read.
const ID_BYTES_MAX: usize = 256;

/// The longest word for how far an answer is that is read.
const WORD_BYTES_MAX: usize = 32;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Server-sent events.
    Events,
    /// Compressed, though it was not asked to be.
    Compressed,
    /// Something else: audio, a file.
    Opaque,
}

impl Format {
    /// Reads `content-type` and `content-encoding`.
    #[must_use]
    pub fn of(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Self {
        let essence = content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
        match essence.trim_ascii().to_ascii_lowercase().as_slice() {
            _ if content_encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) => {
                Self::Compressed
            }
            b"application/json" => Self::Json,
            b"text/event-stream" => Self::Events,
            _ => Self::Opaque,
        }
    }
}

/// The members whose strings are the produced text.
const fn text_names(operation: Operation, format: Format) -> &'static [&'static str] {
    match (operation, format) {
        (Operation::ChatCompletions, _) => &["content", "arguments", "reasoning_content"],
        (Operation::Completions, _) => &["text"],
        (Operation::Responses | Operation::Compact, Format::Json) => &["text", "arguments"],
        (Operation::Transcriptions | Operation::Translations, Format::Json) => &["text"],
        (Operation::Responses | Operation::Transcriptions | Operation::Translations, _) => &["delta"],
        _ => &[],
    }
}

/// Whether the client is to see the usage event of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageEvent {
    /// It asked for it, or none was asked for.
    Show,
    /// We asked for it.
    Hide,
}

/// Reads one answer.
#[derive(Debug)]
pub struct Reader {
    kind: Kind,
    /// Whether what the answer produces is text, which can be measured; images are not.
    is_text: bool,
}

#[derive(Debug)]
enum Kind {
    Json {
        scanner: Box<JsonScanner>,
        found: Option<Usage>,
    },
    Events(Box<Events>),
    /// A 400, which may be a content filter's, as far as it has come.
    BadRequest(Vec<u8>),
    Error,
    Unread(Format),
}

impl Reader {
    /// For a good answer to `operation`.
    #[must_use]
    pub fn new(format: Format, operation: Operation, usage_event: UsageEvent) -> Self {
        Self {
            kind: match format {
                Format::Json => Kind::Json {
                    scanner: Box::new(JsonScanner::new(text_names(operation, format))),
                    found: None,
                },
                Format::Events => Kind::Events(Box::new(Events::new(operation, usage_event))),
                Format::Compressed | Format::Opaque => Kind::Unread(format),
            },
            is_text: !text_names(operation, format).is_empty(),
        }
    }

    /// For an error.
    #[must_use]
    pub fn of_error(status: u16) -> Self {
        let kind = if status == 400 { Kind::BadRequest(Vec::new()) } else { Kind::Error };
        Self { kind, is_text: false }
    }

    /// Takes the next chunk and answers what the client gets for it.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Output {
        match &mut self.kind {
            Kind::Unread(_) | Kind::Error => {}
            Kind::Json { scanner, found } => *found = scanner.push(chunk).or(*found),
            Kind::BadRequest(body) => {
                let room = FAILURE_BYTES_MAX.saturating_sub(body.len()).min(chunk.len());
                body.extend_from_slice(chunk.get(..room).unwrap_or_default());
            }
            Kind::Events(events) => return events.push(chunk, end),
        }
        Output::Same
    }

    /// What the answer said so far.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match &self.kind {
            Kind::Json { found, .. } => *found,
            Kind::Events(events) => events.seen().usage,
            Kind::BadRequest(_) | Kind::Error | Kind::Unread(_) => None,
        }
    }

    /// The model that answered, by its own word.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        match &self.kind {
            Kind::Json { scanner, .. } => scanner.model(),
            Kind::Events(events) => events.seen().model.as_deref(),
            Kind::BadRequest(_) | Kind::Error | Kind::Unread(_) => None,
        }
    }

    /// What the backend calls the answer: of a stream the response or the run that it is about, once it says so.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match &self.kind {
            Kind::Json { scanner, .. } => scanner.id(),
            Kind::Events(events) => events.progress()?.id.as_deref(),
            Kind::BadRequest(_) | Kind::Error | Kind::Unread(_) => None,
        }
    }

    /// How far it is, by its own word: `queued`, `completed`. Of a stream, as it was last said.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        match &self.kind {
            Kind::Json { scanner, .. } => scanner.status(),
            Kind::Events(events) => events.progress()?.status.as_deref(),
            Kind::BadRequest(_) | Kind::Error | Kind::Unread(_) => None,
        }
    }

    /// Whether a stream has produced any text yet.
    #[must_use]
    pub fn has_streamed_text(&self) -> bool {
        matches!(&self.kind, Kind::Events(events) if events.seen().produced_bytes > 0)
    }

    /// Bytes of text that were produced so far, escapes as they stand. `None` if they cannot be told.
    #[must_use]
    pub fn produced_bytes(&self) -> Option<u64> {
        match &self.kind {
            Kind::Json { scanner, .. } if self.is_text => Some(scanner.produced_bytes()),
            Kind::Events(events) if self.is_text => Some(events.seen().produced_bytes),
            _ => None,
        }
    }

    /// Why the usage could not be read, as a word for the metrics.
    #[must_use]
    pub fn unread(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Unread(Format::Compressed) => Some("compressed"),
            Kind::Unread(_) => Some("not_json"),
            Kind::Events(events) if events.unread() > 0 => Some("event_too_long"),
            _ => None,
        }
    }

    /// Whether this error is a content filter's, which is billed.
    #[must_use]
    pub fn is_content_filter(&self) -> bool {
        match &self.kind {
            Kind::BadRequest(body) => {
                Failure::of_error(body).is_some_and(|failure| failure.is_content_filter())
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    struct Read {
        usage: Option<Usage>,
        out: Vec<u8>,
        produced_bytes: Option<u64>,
    }

    fn read(format: Format, event: UsageEvent, chunks: &[&[u8]]) -> Read {
        let mut reader = Reader::new(format, Operation::ChatCompletions, event);
        let mut out = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            match reader.push(chunk, at + 1 == chunks.len()) {
                Output::Same => out.extend_from_slice(chunk),
                Output::Replaced(bytes) => out.extend_from_slice(&bytes),
            }
        }
        Read { usage: reader.usage(), out, produced_bytes: reader.produced_bytes() }
    }

    fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Option<Usage> {
        Some(Usage { prompt, cached, completion, reasoning, ..Usage::default() })
    }

    #[track_caller]
    fn check_json(body: &str, expected: Option<Usage>) {
        for cut in 0..=body.len() {
            let (head, tail) = body.as_bytes().split_at(cut);
            let found = read(Format::Json, UsageEvent::Show, &[head, tail]);
            assert_eq!(found.usage, expected, "cut at {cut}: {body}");
            assert_eq!(found.out, body.as_bytes());
        }
    }

    #[test]
    fn the_usage_of_a_json_answer_is_read_at_the_top_only() {
        check_json(
            r#"{"id":"x","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
            usage(3, 0, 4, 0),
        );
        check_json(
            r#"{"usage" : {"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":5}} , "x":1}"#,
            usage(3, 2, 9, 5),
        );
        check_json(
            r#"{"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":1},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":2}}}"#,
            usage(3, 1, 4, 2),
        );
        check_json(r#"{"usage":{"prompt_tokens":8,"total_tokens":8}}"#, usage(8, 0, 0, 0));
        check_json(r#"{"a":{"usage":{"prompt_tokens":3}},"b":[{"usage":{"prompt_tokens":3}}]}"#, None);
        check_json(r#"{"a":"\"usage\":{\"prompt_tokens\":3}","b":"usage","c":{"prompt_tokens":4}}"#, None);
        check_json(r#"{"usage":null,"a":{"prompt_tokens":4}}"#, None);
        check_json(r#"{"usage":"x","a":{"prompt_tokens":4}}"#, None);
        check_json(
            r#"{"usages":{"prompt_tokens":4},"usag":{"prompt_tokens":4},"\\usage":{"prompt_tokens":4}}"#,
            None,
        );
        check_json(r#"{"usage":{"prompt_tokens":"4"}}"#, None);
        check_json(r#"[{"usage":{"prompt_tokens":4}}]"#, None);
        check_json(r#"not json at all"#, None);
    }

    const ROLE: &str =
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n";
    const DELTA: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\\\"é\"}}],\"usage\":null}\n\n";
    const FIRST: &str = "data: {\"choices\":[],\"prompt_filter_results\":[{}],\"usage\":null}\n\n";
    const USAGE_EVENT: &str =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn exactly_the_usage_event_is_hidden() {
        let stream = [FIRST, ROLE, DELTA, DELTA, USAGE_EVENT, DONE].concat();
        let without = [FIRST, ROLE, DELTA, DELTA, DONE].concat();
        for cut in 0..=stream.len() {
            let (head, tail) = stream.as_bytes().split_at(cut);
            let hidden = read(Format::Events, UsageEvent::Hide, &[head, tail]);
            assert_eq!(hidden.usage, usage(5, 0, 6, 0));
            assert_eq!(String::from_utf8(hidden.out).unwrap(), without, "cut at {cut}");
            assert_eq!(hidden.produced_bytes, Some(10));
            let shown = read(Format::Events, UsageEvent::Show, &[head, tail]);
            assert_eq!(shown.usage, usage(5, 0, 6, 0));
            assert_eq!(String::from_utf8(shown.out).unwrap(), stream);
        }
    }

    #[track_caller]
    fn check_event(event: &str, expected: Option<Usage>, hidden: bool) {
        let found = read(Format::Events, UsageEvent::Hide, &[event.as_bytes()]);
        assert_eq!((found.usage, found.out.is_empty()), (expected, hidden), "{event}");
    }

    #[test]
    fn only_an_event_without_choices_is_the_usage_event() {
        let counted = "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}";
        check_event(&format!("data: {{\"choices\":[],{counted}}}\n\n"), usage(1, 0, 2, 0), true);
        check_event(&format!("data: {{\"choices\":[{{}}],{counted}}}\n\n"), usage(1, 0, 2, 0), false);
        check_event(&format!("data: {{{counted}}}\n\n"), usage(1, 0, 2, 0), false);
        check_event("data: {\"choices\":[],\"usage\":null}\n\n", None, false);
        check_event(
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
            usage(1, 0, 2, 0),
            false,
        );
        check_event("data: {\"response\":{\"usage\":null}}\n\n", None, false);
        check_event("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\"}}]}\n\n", None, false);
        check_event(&format!("data: broken {counted}\n\n"), None, false);
    }

    #[test]
    fn a_usage_that_comes_with_choices_is_cut_out_of_its_event() {
        let counted = "\"usage\" : {\"prompt_tokens\":1,\"completion_tokens\":2}";
        let cases = [
            (format!("data: {{\"choices\":[{{}}],{counted}}}\n\n"), "data: {\"choices\":[{}]}\n\n"),
            (format!("data: {{{counted} , \"choices\":[{{}}]}}\n\n"), "data: { \"choices\":[{}]}\n\n"),
            (
                format!("data: {{\"a\":1, {counted}, \"choices\":[{{}}]}}\r\n\r\n"),
                "data: {\"a\":1, \"choices\":[{}]}\r\n\r\n",
            ),
        ];
        for (event, expected) in cases {
            let hidden = read(Format::Events, UsageEvent::Hide, &[event.as_bytes()]);
            assert_eq!(hidden.usage, usage(1, 0, 2, 0));
            assert_eq!(String::from_utf8(hidden.out).unwrap(), expected);
            let shown = read(Format::Events, UsageEvent::Show, &[event.as_bytes()]);
            assert_eq!(String::from_utf8(shown.out).unwrap(), event);
        }
    }

    #[test]
    fn the_model_that_answered_is_read() {
        let model = |format, body: &str| {
            let mut reader = Reader::new(format, Operation::ChatCompletions, UsageEvent::Show);
            for byte in body.as_bytes() {
                let _ = reader.push(&[*byte], false);
            }
            reader.model().map(str::to_owned)
        };
        let json = r#"{"x":{"model":"no"},"model":"gpt-4o-2024-08-06","usage":{"prompt_tokens":1}}"#;
        assert_eq!(model(Format::Json, json).as_deref(), Some("gpt-4o-2024-08-06"));
        assert_eq!(model(Format::Json, r#"{"model":7}"#), None);
        let events = "data: {\"model\":\"\"}\n\ndata: {\"model\": \"gpt-4o\"}\n\ndata: {\"model\":\"x\"}\n\n";
        assert_eq!(model(Format::Events, events).as_deref(), Some("gpt-4o"));
    }

    #[track_caller]
    fn check_progress(format: Format, operation: Operation, body: &str, expected: (&str, &str)) {
        for cut in 0..=body.len() {
            let (head, tail) = body.as_bytes().split_at(cut);
            let mut reader = Reader::new(format, operation, UsageEvent::Show);
            let _ = reader.push(head, false);
            let _ = reader.push(tail, true);
            let found = (reader.id().unwrap_or_default(), reader.status().unwrap_or_default());
            assert_eq!(found, expected, "cut at {cut}: {body}");
        }
    }

    #[test]
    fn what_an_answer_is_called_and_how_far_it_is_are_read() {
        use Operation::{Other, Responses};
        let json = r#"{"output":[{"id":"msg_1","status":"completed"}],"id":"resp_1","status":"queued","usage":null,"error":{"id":"x"}}"#;
        check_progress(Format::Json, Responses, json, ("resp_1", "queued"));
        check_progress(Format::Json, Other, r#"{"id":7,"status":null}"#, ("", ""));
        let created = "data: {\"response\":{\"id\":\"resp_1\",\"status\":\"queued\"}}\n\n";
        let item = "data: {\"item\":{\"id\":\"msg_1\",\"status\":\"completed\"},\"id\":\"x\"}\n\n";
        check_progress(Format::Events, Responses, &[created, item].concat(), ("resp_1", "queued"));
        let failed = "data: {\"response\":{\"id\":\"resp_1\",\"status\":\"failed\",\"usage\":null}}\n\n";
        check_progress(Format::Events, Responses, &[created, item, failed].concat(), ("resp_1", "failed"));
        let thread = "data: {\"id\":\"thread_1\",\"object\":\"thread\"}\n\n";
        let run = "data: {\"id\":\"run_1\",\"object\":\"thread.run\",\"status\":\"in_progress\"}\n\n";
        let step = "data: {\"id\":\"step_1\",\"object\":\"thread.run.step\",\"status\":\"completed\",\"usage\":{\"prompt_tokens\":1}}\n\n";
        check_progress(Format::Events, Other, &[thread, run, step].concat(), ("run_1", "in_progress"));
        assert_eq!(read(Format::Events, UsageEvent::Show, &[step.as_bytes()]).usage, None);
    }

    #[test]
    fn the_text_of_a_json_answer_is_measured_wherever_it_stands() {
        let bytes = |operation, body: &str| {
            let mut reader = Reader::new(Format::Json, operation, UsageEvent::Show);
            for byte in body.as_bytes() {
                let _ = reader.push(&[*byte], false);
            }
            reader.produced_bytes()
        };
        use Operation::*;
        let chat = r#"{"choices":[{"message":{"role":"assistant","content":"ab\"c","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}},{"message":{"content":null}},{"message":{"content":"d"}}],"model":"content","usage":{"prompt_tokens":1,"content":"no"}}"#;
        assert_eq!(bytes(ChatCompletions, chat), Some(8));
        assert_eq!(bytes(Completions, r#"{"choices":[{"text":"abc"},{"text": "d"}],"x":"text"}"#), Some(4));
        let response = r#"{"output":[{"content":[{"type":"output_text","text":"abc"}]}],"text":{"format":{"type":"text"}}}"#;
        assert_eq!(bytes(Responses, response), Some(3));
        // What is no text cannot be measured, which is not the same as none.
        assert_eq!(bytes(ImageGenerations, r#"{"data":[{"b64_json":"abc"}]}"#), None);
        assert_eq!(bytes(Embeddings, r#"{"content":"abc"}"#), None);
    }

    #[test]
    fn the_deltas_of_every_choice_and_every_kind_are_counted() {
        let bytes = |event: &str| read(Format::Events, UsageEvent::Show, &[event.as_bytes()]).produced_bytes;
        assert_eq!(
            bytes(
                "data: {\"choices\":[{\"delta\":{\"content\":\"ab\"}},{\"delta\":{\"content\":\"c\"}}]}\n\n"
            ),
            Some(3)
        );
        assert_eq!(bytes("data: {\"function\":{\"arguments\":\"{\\\"a\\\"\"}}\n\n"), Some(6));
        assert_eq!(bytes("data: {\"delta\":{\"content\":null,\"reasoning_content\":\"xyz\"}}\n\n"), Some(3));
    }

    #[test]
    fn audio_tokens_and_those_of_images_and_transcriptions_are_read() {
        let json = |usage: &str| {
            read(Format::Json, UsageEvent::Show, &[format!("{{\"usage\":{usage}}}").as_bytes()])
                .usage
                .unwrap()
        };
        let chat = r#"{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":{"audio_tokens":7},"completion_tokens_details":{"audio_tokens":6}}"#;
        let expected =
            Usage { prompt: 9, completion: 8, prompt_audio: 7, completion_audio: 6, ..Usage::default() };
        assert_eq!(json(chat), expected);
        let transcript = r#"{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":5,"total_tokens":19}"#;
        let expected = Usage { prompt: 14, completion: 5, prompt_audio: 14, ..Usage::default() };
        assert_eq!(json(transcript), expected);
        let image = r#"{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":99,"output_tokens_details":{"image_tokens":90,"text_tokens":9}}"#;
        let expected =
            Usage { prompt: 50, prompt_image: 40, completion: 99, completion_image: 90, ..Usage::default() };
        assert_eq!(json(image), expected);
        let written = r#"{"prompt_tokens":50,"prompt_tokens_details":{"cached_tokens":7,"cache_write_tokens":40},"completion_tokens":1}"#;
        let expected = Usage { prompt: 50, cached: 7, cache_write: 40, completion: 1, ..Usage::default() };
        assert_eq!(json(written), expected);
    }

    #[test]
    fn a_content_filters_refusal_is_told_from_other_errors() {
        let is_filter = |body: &str| {
            let mut reader = Reader::of_error(400);
            for byte in body.as_bytes() {
                assert_eq!(reader.push(&[*byte], false), Output::Same);
            }
            reader.is_content_filter()
        };
        assert!(is_filter(
            r#"{"error":{"message":"x","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#
        ));
        assert!(!is_filter(r#"{"error":{"message":"content_filter","code":"429"}}"#));
        assert!(!is_filter(r#"{"error":{"code":429}}"#));
        assert!(!is_filter(r#"{"error":"content_filter"}"#));
        assert!(!is_filter(&format!(
            r#"{{"x":"{}","error":{{"code":"content_filter"}}}}"#,
            "a".repeat(20_000)
        )));
    }

    #[test]
    fn the_format_is_told_by_the_headers() {
        let of = |kind: &str, encoding: Option<&str>| {
            Format::of(Some(kind.as_bytes()), encoding.map(str::as_bytes))
        };
        assert_eq!(of("application/json; charset=utf-8", None), Format::Json);
        assert_eq!(of("Text/Event-Stream", Some("identity")), Format::Events);
        assert_eq!(of("application/json", Some("gzip")), Format::Compressed);
        assert_eq!(of("audio/mpeg", None), Format::Opaque);
        assert_eq!(Format::of(None, None), Format::Opaque);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The naive model: read the whole body with serde_json.
        #[test]
        fn the_scanner_agrees_with_a_whole_parse(
            text in "[\\PC\"\\\\{}\\[\\],:]{0,20}", name in "usage|usag|us\"age|x", nested in any::<bool>(),
            prompt in 0..1000u64, cut in any::<prop::sample::Index>(),
        ) {
            let inner = serde_json::json!({ "prompt_tokens": prompt, "note": text });
            let value = if nested { serde_json::json!([inner]) } else { inner };
            let body = serde_json::json!({ "a": [text, { "usage": { "prompt_tokens": 0 } }], name.clone(): value }).to_string();
            let expected = (name == "usage" && !nested).then_some(Usage { prompt, ..Usage::default() });
            let (head, tail) = body.as_bytes().split_at(cut.index(body.len()));
            prop_assert_eq!(read(Format::Json, UsageEvent::Show, &[head, tail]).usage, expected);
        }

        /// Whatever the line ends, the comments, the cuts: the client's bytes are the backend's less the one event.
        #[test]
        fn the_client_gets_every_byte_but_the_usage_event(
            kinds in prop::collection::vec(0..6usize, 0..12), at in any::<prop::sample::Index>(),
            line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]), bom in any::<bool>(), split in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let event = |lines: &[&str]| lines.iter().map(|line| format!("{line}{line_end}")).collect::<String>() + line_end;
            let others = [
                event(&["data: {\"choices\":[],\"prompt_filter_results\":[{}],\"usage\":null}"]),
                event(&["data: {\"choices\":[{\"delta\":{\"content\":\"é🦀\"}}],\"usage\":null}"]),
                event(&[": a comment", "data: {\"choices\":[{}],", "data: \"usage\":null}"]),
                event(&["event: ping"]),
                event(&["data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\"}}]}"]),
                event(&["id: 7", "data:[DONE]"]),
            ];
            let counted = if split {
                event(&["data: {\"choices\":[],", "data: \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}"])
            } else {
                event(&["data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}"])
            };
            let mut events: Vec<_> = kinds.iter().map(|kind| others[*kind].clone()).collect();
            let start = if bom { "\u{feff}" } else { "" };
            let without = if events.is_empty() { String::new() } else { start.to_owned() + &events.concat() };
            // A byte order mark belongs to the first event, and the usage event is never first in a stream that has others.
            let place = if events.is_empty() { 0 } else { 1 + at.index(events.len()) };
            events.insert(place, counted);
            let stream = start.to_owned() + &events.concat();
            let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            places.extend([0, stream.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
            let hidden = read(Format::Events, UsageEvent::Hide, &chunks);
            prop_assert_eq!(hidden.usage, usage(5, 0, 6, 0));
            prop_assert_eq!(String::from_utf8(hidden.out).unwrap(), without);
            let shown = read(Format::Events, UsageEvent::Show, &chunks);
            prop_assert_eq!(String::from_utf8(shown.out).unwrap(), stream);
        }

        #[test]
        fn no_bytes_whatever_trouble_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let found = read(Format::Json, UsageEvent::Show, &[&bytes]);
            prop_assert_eq!(found.out, bytes);
        }
    }
}

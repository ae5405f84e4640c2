//! What did the answer say it cost?
//!
//! Reads `usage` out of an answer as it streams by, in constant memory: from a JSON body at the top level, from a stream
//! in the one event that has it. Events are searched, not parsed; only one that has a usage object is. Not decided here:
//! who pays.

mod scan;
mod wire;

use crate::endpoint::Operation;
use crate::sse::{self, Mode, Output, Verdict};
use crate::tokens::Usage;
use memchr::memmem::Finder;
use scan::JsonScanner;
use wire::WireEvent;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Server-sent events.
    Events,
    /// Something we do not read: compressed, audio.
    Opaque,
}

impl Format {
    /// Reads `content-type` and `content-encoding`.
    #[must_use]
    pub fn of(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Self {
        let essence = content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
        match essence.trim_ascii().to_ascii_lowercase().as_slice() {
            _ if content_encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) => {
                Self::Opaque
            }
            b"application/json" => Self::Json,
            b"text/event-stream" => Self::Events,
            _ => Self::Opaque,
        }
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
    found: Option<Usage>,
    produced_bytes: u64,
}

#[derive(Debug)]
enum Kind {
    Json(JsonScanner),
    Events(Box<Events>),
    Opaque,
}

#[derive(Debug)]
struct Events {
    stream: sse::Stream,
    usage: Finder<'static>,
    deltas: Vec<Finder<'static>>,
}

impl Reader {
    /// For an answer to `operation` in `format`.
    #[must_use]
    pub fn new(format: Format, operation: Operation, usage_event: UsageEvent) -> Self {
        let kind = match format {
            Format::Json => Kind::Json(JsonScanner::default()),
            Format::Events => Kind::Events(Box::new(Events {
                stream: sse::Stream::new(match usage_event {
                    UsageEvent::Show => Mode::Watch,
                    UsageEvent::Hide => Mode::Edit,
                }),
                usage: Finder::new(b"\"usage\""),
                deltas: delta_names(operation).iter().map(Finder::new).collect(),
            })),
            Format::Opaque => Kind::Opaque,
        };
        Self { kind, found: None, produced_bytes: 0 }
    }

    /// Takes the next chunk and answers what the client gets for it.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Output {
        let (found, produced_bytes) = (&mut self.found, &mut self.produced_bytes);
        match &mut self.kind {
            Kind::Opaque => Output::Same,
            Kind::Json(scanner) => {
                *produced_bytes = produced_bytes.saturating_add(chunk.len() as u64);
                if let Some(usage) = scanner.push(chunk) {
                    *found = Some(usage);
                }
                Output::Same
            }
            Kind::Events(events) => {
                let Events { stream, usage, deltas } = &mut **events;
                stream.push(chunk, end, |event| {
                    for delta in deltas.iter() {
                        *produced_bytes = produced_bytes.saturating_add(delta_bytes(event, delta));
                    }
                    let Some((usage, verdict)) = usage_of_event(event, usage) else { return Verdict::Pass };
                    *found = Some(usage);
                    verdict
                })
            }
        }
    }

    /// What the answer said so far.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.found
    }

    /// Bytes of text that were produced so far; of a JSON answer, all its bytes. `None` if they cannot be told.
    #[must_use]
    pub fn produced_bytes(&self) -> Option<u64> {
        match self.kind {
            Kind::Opaque => None,
            Kind::Json(_) | Kind::Events(_) => Some(self.produced_bytes),
        }
    }
}

/// The members whose strings are the produced text.
const fn delta_names(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::ChatCompletions => &["\"content\"", "\"arguments\""],
        Operation::Completions => &["\"text\""],
        Operation::Responses => &["\"delta\""],
        Operation::Embeddings | Operation::Models => &[],
    }
}

/// What follows a member's name and colon.
fn value_of<'a>(event: &'a [u8], name: &Finder<'_>, from: usize) -> Option<(usize, &'a [u8])> {
    let at = from + name.find(event.get(from..)?)? + name.needle().len();
    let rest = event.get(at..)?.trim_ascii_start();
    Some((at, rest.strip_prefix(b":").map_or(&b""[..], <[u8]>::trim_ascii_start)))
}

/// The length of the first string under this name, escapes as they stand.
fn delta_bytes(event: &[u8], name: &Finder<'_>) -> u64 {
    let Some(text) = value_of(event, name, 0).and_then(|(_, value)| value.strip_prefix(b"\"")) else {
        return 0;
    };
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text.get(at) == Some(&b'"') {
            return at as u64;
        }
        at += 2;
    }
    text.len() as u64
}

fn usage_of_event(event: &[u8], name: &Finder<'_>) -> Option<(Usage, Verdict)> {
    let mut from = 0;
    // `"usage":null` stands on every event of a stream that was asked for its usage.
    while let Some((at, value)) = value_of(event, name, from) {
        if value.first() == Some(&b'{') {
            let event: WireEvent = serde_json::from_slice(&sse::data(event)?).ok()?;
            let (usage, alone) = event.usage()?;
            return Some((usage, if alone { Verdict::Hide } else { Verdict::Pass }));
        }
        from = at;
    }
    None
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
        Some(Usage { prompt, cached, completion, reasoning })
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
    fn the_format_is_told_by_the_headers() {
        let of = |kind: &str, encoding: Option<&str>| {
            Format::of(Some(kind.as_bytes()), encoding.map(str::as_bytes))
        };
        assert_eq!(of("application/json; charset=utf-8", None), Format::Json);
        assert_eq!(of("Text/Event-Stream", Some("identity")), Format::Events);
        assert_eq!(of("application/json", Some("gzip")), Format::Opaque);
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

        #[test]
        fn no_bytes_whatever_trouble_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let found = read(Format::Json, UsageEvent::Show, &[&bytes]);
            prop_assert_eq!(found.out, bytes);
        }
    }
}

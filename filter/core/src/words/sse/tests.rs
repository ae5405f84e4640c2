use super::*;
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Runs chunks through a stream that hides events containing "HIDE"; answers the events and what went out.
fn run(mode: Mode, chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut stream = Stream::new(mode);
    let (mut seen, mut out) = (Seen::default(), Vec::new());
    for chunk in chunks.iter().map(|chunk| (*chunk, false)).chain([(&b""[..], true)]) {
        match stream.push(chunk.0, chunk.1, &mut seen) {
            Output::Same => out.extend_from_slice(chunk.0),
            Output::Replaced(bytes) => out.extend_from_slice(&bytes),
        }
    }
    (seen.events, out)
}

/// Hides events that have HIDE in their first data line, and knows that behind it none will say so.
#[derive(Default)]
struct Seen {
    events: Vec<Vec<u8>>,
    pieces: Vec<u8>,
}

fn first_line(event: &[u8]) -> Option<&[u8]> {
    event.split(|byte| matches!(byte, b'\n' | b'\r')).find(|line| line.starts_with(b"data"))
}

impl Watch for Seen {
    fn event(&mut self, event: &[u8]) -> Verdict {
        self.events.push(event.to_vec());
        match first_line(event) {
            Some(line) if memchr::memmem::find(line, b"HIDE").is_some() => Verdict::Hide,
            _ => Verdict::Pass,
        }
    }

    fn piece(&mut self, piece: &[u8], ends: bool) {
        self.pieces.extend_from_slice(piece);
        if ends {
            self.events.push(format!("{} bytes", std::mem::take(&mut self.pieces).len()).into_bytes());
        }
    }

    fn passes(&self, beginning: &[u8]) -> bool {
        first_line(beginning).is_some_and(|line| memchr::memmem::find(line, b"HIDE").is_none())
    }
}

fn push(stream: &mut Stream, chunk: &[u8]) -> Output {
    stream.push(chunk, false, &mut Seen::default())
}

#[track_caller]
fn check(input: &str, events: &[&str], out: &str) {
    for cut in 0..=input.len() {
        let (head, tail) = input.as_bytes().split_at(cut);
        let (found, passed) = run(Mode::Edit, &[head, tail]);
        let found: Vec<_> = found.into_iter().map(|event| String::from_utf8(event).unwrap()).collect();
        // A cut between CR and LF leaves the LF to the next event, which it does not change.
        if !input.contains("\r\n\r\n") {
            assert_eq!(found, events, "cut at {cut}");
        }
        assert_eq!(String::from_utf8(passed).unwrap().replace('\r', ""), out, "cut at {cut}");
    }
}

#[test]
fn events_end_at_an_empty_line_of_any_kind() {
    check("data: a\n\ndata: b\n\n", &["data: a\n\n", "data: b\n\n"], "data: a\n\ndata: b\n\n");
    check("data: a\r\n\r\ndata: b\r\n\r\n", &[], "data: a\n\ndata: b\n\n");
    check(": c\ndata: é\n\n\n", &[": c\ndata: é\n\n", "\n"], ": c\ndata: é\n\n\n");
    check("data: a\n\ndata: b", &["data: a\n\n", "data: b"], "data: a\n\ndata: b");
}

#[test]
fn a_hidden_event_goes_and_nothing_else_does() {
    check(
        "data: a\n\ndata: HIDE\n\ndata: b\n\n",
        &["data: a\n\n", "data: HIDE\n\n", "data: b\n\n"],
        "data: a\n\ndata: b\n\n",
    );
    check("data: HIDE\n\n", &["data: HIDE\n\n"], "");
    check("data: HIDE", &["data: HIDE"], "");
}

/// Only an LF right behind the CR of an event's end belongs to that event.
#[test]
fn a_line_end_that_comes_later_is_not_the_last_events() {
    let (events, out) = run(Mode::Edit, &[b"data: HIDE\r\rdata: a", b"\n\n"]);
    assert_eq!(events, [&b"data: HIDE\r\r"[..], b"data: a\n\n"]);
    assert_eq!(out, b"data: a\n\n");
}

#[test]
fn whole_events_are_not_copied() {
    let mut stream = Stream::new(Mode::Edit);
    assert_eq!(push(&mut stream, b"data: a\n\ndata: b\n\n"), Output::Same);
    assert_eq!(push(&mut stream, b"data: c"), Output::Replaced(Vec::new()));
    assert_eq!(push(&mut stream, b"\n\n"), Output::Replaced(b"data: c\n\n".to_vec()));
}

#[test]
fn what_is_bound_to_pass_is_not_held_back() {
    let mut stream = Stream::new(Mode::Edit);
    assert_eq!(push(&mut stream, b": pi"), Output::Same);
    assert_eq!(push(&mut stream, b"ng\n"), Output::Replaced(b"ng\n".to_vec()));
    assert_eq!(push(&mut stream, b": ping\r\ndata: HI"), Output::Replaced(b": ping\r\n".to_vec()));
    assert_eq!(push(&mut stream, b"DE\n"), Output::Replaced(Vec::new()));
    assert_eq!(push(&mut stream, b"\ndata: a\n"), Output::Replaced(b"data: a\n".to_vec()));
    assert_eq!(push(&mut stream, b"data: HIDE"), Output::Replaced(b"data: HIDE".to_vec()));
    assert_eq!(push(&mut stream, b"\n\nid: 1\n"), Output::Replaced(b"\n\n".to_vec()));
}

#[test]
fn an_event_beyond_the_limit_passes_in_pieces_however_it_is_cut() {
    let long = [b"data: ", &*vec![b'x'; EVENT_BYTES_MAX], b"HIDE\n\n"].concat();
    let shown = format!("{} bytes", long.len()).into_bytes();
    let (stream, passed) =
        ([&long, &b"data: a\n\ndata: HIDE\n\n"[..]].concat(), [&long, &b"data: a\n\n"[..]].concat());
    for chunk in [3, 16_000, EVENT_BYTES_MAX, stream.len()] {
        let chunks: Vec<_> = stream.chunks(chunk).collect();
        let (events, out) = run(Mode::Edit, &chunks);
        assert_eq!(events, [&*shown, b"data: a\n\n", b"data: HIDE\n\n"]);
        assert!(out == passed, "{chunk}");
    }
}

#[test]
fn data_lines_are_joined() {
    let joined = |event: &'static str| {
        data(event.as_bytes()).map(|data| String::from_utf8(data.into_owned()).unwrap())
    };
    assert_eq!(joined("data: a\n\n").as_deref(), Some("a"));
    assert_eq!(joined("event: x\r\ndata:a\r\ndata:  b\r\n\r\n").as_deref(), Some("a\n b"));
    assert_eq!(joined("\u{feff}data: a\n\n").as_deref(), Some("a"));
    assert_eq!(joined("database: a\n\n"), None);
    assert_eq!(joined(": data: a\n\n"), None);
}

#[test]
fn an_error_is_known_by_its_events_name() {
    for (event, expected) in [
        ("event: error\ndata: a\n\n", true),
        ("event:error\r\ndata: a\r\n\r\n", true),
        ("data: a\nevent: error", true),
        ("\u{feff}event: error\n\n", true),
        ("event: a\nevent: error\n\n", true),
        ("event: error\nevent: a\n\n", false),
        ("event: error.a\n\n", false),
        ("events: error\n\n", false),
        ("data: event: error\n\n", false),
        (": event: error\n\n", false),
    ] {
        assert_eq!(is_error(event.as_bytes()), expected, "{event:?}");
    }
}

fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut chunks = Vec::new();
    let mut from = 0;
    for place in places.into_iter().chain([bytes.len()]) {
        chunks.push(&bytes[from..place]);
        from = place;
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn payloads_are_the_same_in_pieces(event in "((data|data:|data: |date: |: |)[da: ]{0,3}(\n|\r\n|\r)){0,6}",
                                       cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let whole = data(event.as_bytes()).unwrap_or_default();
        // A name without a colon has an empty payload, which is a line's end more.
        prop_assume!(!event.split(['\n', '\r']).any(|line| line == "data"));
        let (mut lines, mut found) = (DataLines::default(), Vec::new());
        for piece in cut(event.as_bytes(), &cuts) {
            lines.push(piece, |data| found.extend_from_slice(data));
        }
        prop_assert_eq!(found, whole.into_owned());
    }

    #[test]
    fn cuts_do_not_matter(lines in "(data: [aé]{0,3}|: c|data: HIDE|id: HIDE|)(\n|\n\n|\r\n){1,2}", repeat in 1..6usize,
                          cuts in prop::collection::vec(any::<usize>(), 0..12)) {
        let input = lines.repeat(repeat);
        let whole = run(Mode::Edit, &[input.as_bytes()]);
        let pieces = run(Mode::Edit, &cut(input.as_bytes(), &cuts));
        prop_assert_eq!(pieces.1, whole.1);
        // Where CR and LF are cut apart the LF counts to the event after: compare the events without.
        let plain = |events: Vec<Vec<u8>>| {
            events.concat().into_iter().filter(|byte| *byte != b'\n').collect::<Vec<_>>()
        };
        prop_assert_eq!(plain(pieces.0), plain(whole.0));
    }

    #[test]
    fn a_watched_stream_is_never_changed(input in prop::collection::vec(any::<u8>(), 0..64),
                                         cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let (events, out) = run(Mode::Watch, &cut(&input, &cuts));
        prop_assert_eq!(&out, &input);
        // An LF that was cut from its CR is in no event.
        let plain = |bytes: Vec<u8>| bytes.into_iter().filter(|byte| *byte != b'\n').collect::<Vec<_>>();
        prop_assert_eq!(plain(events.concat()), plain(input));
    }
}

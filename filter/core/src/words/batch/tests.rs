use super::*;
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The lines of a file that comes in these chunks, and what stopped it.
fn lines_of(chunks: &[&[u8]]) -> (Vec<(u64, String)>, Result<(), Denial>) {
    let (mut lines, mut found) = (Lines::default(), Vec::new());
    let mut take = |number: u64, line: &[u8]| {
        found.push((number, String::from_utf8_lossy(line).into_owned()));
        Ok(())
    };
    let pushed = chunks.iter().try_for_each(|chunk| lines.push(chunk, &mut take));
    let ended = pushed.and_then(|()| lines.end(&mut take));
    (found, ended)
}

const GOOD: &str = r#"{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}"#;

#[track_caller]
fn refused(line: &str, expected: &str) {
    let problem = Line::read(line.as_bytes()).unwrap_err();
    assert!(problem.contains(expected), "{line}\n{problem}");
}

#[test]
fn lines_have_their_numbers_and_empty_ones_count() {
    let (found, ended) = lines_of(&[b"a\r\n\nb\nc"]);
    let expected = [(1, "a"), (3, "b"), (4, "c")].map(|(number, line)| (number, line.to_owned()));
    assert_eq!((found, ended), (expected.to_vec(), Ok(())));
    assert_eq!(lines_of(&[b"\n"]).0, []);
}

#[test]
fn a_line_beyond_the_bound_is_refused_with_its_number() {
    let full = "x".repeat(LINE_BYTES_MAX);
    let (found, ended) = lines_of(&[b"a\n", full.as_bytes(), b"\n"]);
    assert_eq!((found.len(), ended), (2, Ok(())));
    for more in ["x", "x\n"] {
        let (found, ended) = lines_of(&[b"a\n", full.as_bytes(), more.as_bytes()]);
        let Err(Denial::BatchLine { line: 2, problem }) = ended else { panic!("{ended:?}") };
        assert!(problem.contains("1048576"), "{problem}");
        assert_eq!(found.len(), 1);
    }
}

#[test]
fn a_line_is_a_request_of_its_own() {
    let line = Line::read(GOOD.as_bytes()).unwrap();
    assert_eq!(line, Line { operation: Operation::ChatCompletions, body: r#"{"model":"m"}"# });
    for (url, operation) in [
        ("/v1/responses", Operation::Responses),
        ("/v1/embeddings", Operation::Embeddings),
        ("/completions", Operation::Completions),
        ("/chat/completions", Operation::ChatCompletions),
    ] {
        let line = GOOD.replace("/v1/chat/completions", url);
        assert_eq!(Line::read(line.as_bytes()).unwrap().operation, operation, "{url}");
    }
}

#[test]
fn what_readers_of_lines_differ_about_is_refused() {
    for (from, to, expected) in [
        ("\"1\"", "\"\"", "custom_id"),
        ("\"1\"", "1", "custom_id"),
        ("POST", "GET", "method"),
        ("/v1/chat/completions", "/v1/images/generations", "url"),
        ("/v1/chat/completions", "/v1/chat/completions?x", "url"),
        ("/v1/chat/completions", "https://a/v1/chat/completions", "url"),
        (r#"{"model":"m"}"#, "null", "body"),
        (r#"{"model":"m"}"#, "[]", "body"),
        ("\"custom_id\"", "\"Custom_Id\"", "custom_id"),
        ("\"body\":", "\"body\":{},\"body\":", "more than once"),
        ("\"body\":", "\"x\":1,\"body\":", "no member but"),
        ("{\"custom", "{\r\"custom", "end of a line"),
        ("\"1\"", "\"\u{2028}\"", "end of a line"),
        ("\"1\"", "\"\u{85}\"", "end of a line"),
        ("}}", "}} {}", "not valid JSON"),
        ("}}", "}", "not valid JSON"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        refused(&GOOD.replacen(from, to, 1), expected);
    }
    refused("[]", "object");
    assert!(Line::read(b"{\"custom_id\":\"\xff\"}").unwrap_err().contains("UTF-8"));
}

#[test]
fn a_batch_names_its_file_once_and_nothing_else() {
    const ORDER: &str = r#"{"input_file_id":"file-1","endpoint":"/v1/responses","completion_window":"24h","metadata":{"a":"b"}}"#;
    let order = Order { file: "file-1".to_owned(), operation: Operation::Responses };
    assert_eq!(Order::read(ORDER), Ok(order));
    for (from, to, code) in [
        ("\"input_file_id\"", "\"input_blob\"", "unknown_parameter"),
        ("\"endpoint\"", "\"input_blob\":\"x\",\"endpoint\"", "unknown_parameter"),
        ("\"endpoint\"", "\"input_file_id\":\"x\",\"endpoint\"", "ambiguous_parameter"),
        ("\"endpoint\"", "\"Input_File_Id\":\"x\",\"endpoint\"", "ambiguous_parameter"),
        ("\"input_file_id\":\"file-1\",", "", "missing_required_parameter"),
        (",\"endpoint\":\"/v1/responses\"", "", "missing_required_parameter"),
        ("\"file-1\"", "1", "invalid_type"),
        ("/v1/responses", "/v1/moderations", "invalid_type"),
    ] {
        assert!(ORDER.contains(from), "{from}");
        let denial = Order::read(&ORDER.replacen(from, to, 1)).unwrap_err();
        assert_eq!(denial.code(), code, "{from} {to}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sum_is_read_as_it_was_written(
        lines in 0..=LINES_MAX, at in 0..BATCHED.len(), name: [u8; 5], prompt in 0..1u64 << 48, completion in 0..1u64 << 48,
    ) {
        let sum = Sum { lines, operation: BATCHED[at], name, prompt, completion };
        prop_assert_eq!(Sum::of_bytes(sum.to_bytes()), Some(sum));
    }

    #[test]
    fn cuts_of_a_file_do_not_matter(
        file in "[ab\n\r]{0,40}", cuts in prop::collection::vec(0..41usize, 0..5),
    ) {
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(file.len())).collect();
        cuts.sort_unstable();
        let (mut chunks, mut from) = (Vec::new(), 0);
        for cut in cuts {
            chunks.push(&file.as_bytes()[from..cut]);
            from = cut;
        }
        chunks.push(&file.as_bytes()[from..]);
        prop_assert_eq!(lines_of(&chunks), lines_of(&[file.as_bytes()]));
    }
}

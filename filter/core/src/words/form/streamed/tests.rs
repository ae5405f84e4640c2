use super::*;
use crate::form::Form;
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// What a form says that comes in chunks of these lengths: fields as they are, a file as one text.
fn read(body: &[u8], lengths: &[usize]) -> Result<Vec<(String, String)>, Denial> {
    let (mut streamed, mut found) = (Streamed::new("xyz"), Vec::<(String, String)>::new());
    let mut rest = body;
    let mut lengths = lengths.iter();
    loop {
        let length = lengths.next().map_or(rest.len(), |length| (*length).min(rest.len()));
        let (chunk, after) = rest.split_at(length);
        rest = after;
        let end = rest.is_empty();
        streamed.push(chunk, end, &mut |piece| {
            match piece {
                Piece::Field { name, text } => found.push((name.to_owned(), text.to_owned())),
                Piece::FileBegins { name } => found.push((format!("file {name}"), String::new())),
                Piece::File(bytes) => {
                    found.last_mut().unwrap().1.push_str(std::str::from_utf8(bytes).unwrap());
                }
                Piece::FileEnds => found.last_mut().unwrap().0.push_str(" ends"),
            }
            Ok(())
        })?;
        if end {
            return Ok(found);
        }
        // Of a file nothing is held but what may be a delimiter.
        assert!(streamed.held_bytes() <= HEAD_BYTES_MAX + FIELD_BYTES_MAX);
    }
}

fn field(name: &str, text: &str) -> String {
    format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
}

fn file(more: &str, content: &str) -> String {
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"";
    format!("--xyz\r\n{head}{more}\r\n\r\n{content}\r\n")
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[track_caller]
fn refused(body: &str, expected: &str) {
    for lengths in [vec![], vec![1; body.len()]] {
        let sentence = read(body.as_bytes(), &lengths).unwrap_err().sentence();
        assert!(sentence.contains(expected), "{body}\n{sentence}");
    }
}

#[test]
fn fields_and_a_file_are_told_in_their_order() {
    let body =
        [&field("purpose", "batch"), &*file("", "a\r\n--xy\n"), &field("x[y]", ""), "--xyz--\r\n"].concat();
    let expected = pairs(&[("purpose", "batch"), ("file file ends", "a\r\n--xy\n"), ("x[y]", "")]);
    assert_eq!(read(body.as_bytes(), &[]), Ok(expected));
    let length = file("\r\nContent-Type: text/plain\r\nContent-Length: 2", "ab");
    assert_eq!(read(format!("{length}--xyz--").as_bytes(), &[]).unwrap(), pairs(&[("file file ends", "ab")]));
}

#[test]
fn what_readers_of_a_form_differ_about_is_refused() {
    let good = file("", "a");
    refused(&format!("x{good}--xyz--"), "begin with its boundary");
    refused(&good, "end with its boundary");
    refused(&format!("{good}--xyz--x"), "end with its boundary");
    refused(&format!("{good}--xyz--\r\n\r\n"), "end with its boundary");
    refused("--xyz--\r\n", "no part");
    refused(&format!("{good}--xyzz\r\n"), "alone on its line");
    refused(&format!("{}--xyz--", file("", "a\n--xyz\r\n")), "no CRLF before it");
    refused(&file("", "--xyz--"), "no line of its own");
    refused(&format!("{}--xyz--", file("\r\nContent-Length: 2", "a")), "Content-Length");
    refused(&format!("{}--xyz--", file("\r\nX: y", "a")), "no header but");
    refused(&format!("{}--xyz--", field("a", &"x".repeat(FIELD_BYTES_MAX + 1))), "4096 bytes");
    refused(&format!("--xyz\r\n{}", "x".repeat(HEAD_BYTES_MAX)), "4096 bytes");
    refused(&format!("{}--xyz--", field("a", "b").repeat(65)), "more than 64 parts");
}

#[test]
fn what_comes_behind_the_end_is_refused_and_not_held() {
    let mut form = Streamed::new("xyz");
    let take: TakePiece<'_> = &mut |_| Ok(());
    assert_eq!(form.push(format!("{}--xyz--", file("", "a")).as_bytes(), false, take), Ok(()));
    assert_eq!(form.push(b"\r", false, take), Ok(()));
    assert!(form.push(b"x", false, take).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_of_a_form_do_not_matter(
        contents in prop::collection::vec(("[a\r\n-]{0,12}", any::<bool>()), 0..3),
        near in prop::option::of(0..200usize),
        lengths in prop::collection::vec(0..9usize, 0..90),
    ) {
        let part = |(text, is_file): &(String, bool)| if *is_file { file("", text) } else { field("a", text) };
        let mut body: String = contents.iter().map(part).collect::<String>() + "--xyz--\r\n";
        // Some of them are not whole, or have a delimiter where none should be.
        if let Some(at) = near.filter(|at| *at < body.len()) {
            body.replace_range(at..=at, "\r\n--xyz");
        }
        prop_assert_eq!(read(body.as_bytes(), &lengths), read(body.as_bytes(), &[]));
    }

    /// What is read of a form that is held is what is read of one that goes by.
    #[test]
    fn the_two_readers_of_forms_agree(
        contents in prop::collection::vec("[a\r\n-]{0,12}(\r\n--xyz|--xyz|\n--xyz)?", 0..3),
    ) {
        let body: String = contents.iter().map(|text| field("a", text)).collect::<String>() + "--xyz--\r\n";
        let held = Form::read(body.as_bytes(), "xyz");
        let held = held.map(|form| form.fields().map(|(name, text)| (name.to_owned(), text.to_owned())).collect::<Vec<_>>());
        prop_assert_eq!(read(body.as_bytes(), &[]).ok(), held.ok());
    }
}

use super::*;
use crate::request::Request;
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Of parts, each its head and its value.
fn form(parts: &[(&str, &str)]) -> String {
    let parts: String =
        parts.iter().map(|(head, value)| format!("--xyz\r\n{head}\r\n\r\n{value}\r\n")).collect();
    format!("{parts}--xyz--\r\n")
}

/// Of fields, each its name and its value.
fn fields(fields: &[(&str, &str)]) -> String {
    let heads: Vec<_> =
        fields.iter().map(|(name, _)| format!("Content-Disposition: form-data; name=\"{name}\"")).collect();
    let parts: Vec<_> = heads.iter().zip(fields).map(|(head, (_, value))| (head.as_str(), *value)).collect();
    form(&parts)
}

#[track_caller]
fn check(body: &str, expected: Value) {
    let found = Form::read(body.as_bytes(), "xyz").unwrap_or_else(|denial| panic!("{denial:?}\n{body}"));
    assert_eq!(serde_json::from_str::<Value>(found.json()).unwrap(), expected, "{body}");
}

#[track_caller]
fn check_head(head: &str, expected: Value) {
    check(&form(&[(head, "a")]), expected);
}

#[track_caller]
fn refused(body: &str, expected: &str) {
    let denial = Form::read(body.as_bytes(), "xyz").unwrap_err();
    let sentence = String::from_utf8(denial.answer().body).unwrap();
    assert!(sentence.contains(expected), "{body}\n{sentence}");
}

#[track_caller]
fn refused_head(head: &str, expected: &str) {
    refused(&form(&[(head, "a")]), expected);
}

#[test]
fn a_form_says_what_json_would() {
    check(
        &fields(&[
            ("model", "gpt-image-1"),
            ("n", "2"),
            ("stream", "true"),
            ("size", "1024"),
            ("prompt", "\"é\"\n"),
        ]),
        json!({"model": "gpt-image-1", "n": 2, "stream": true, "size": "1024", "prompt": "\"é\"\n"}),
    );
    check(
        &fields(&[("include[]", "logprobs"), ("timestamp_granularities[]", "word"), ("x", "1"), ("x", "2")]),
        json!({"include": ["logprobs"], "timestamp_granularities": ["word"], "x": ["1", "2"]}),
    );
    check(&fields(&[("chunking_strategy[type]", "auto")]), json!({"chunking_strategy": ["auto"]}));
    check(&fields(&[("model", "")]), json!({"model": ""}));
    // A text is one though it looks like a number, and only plain JSON is a number.
    check(
        &fields(&[
            ("model", "1"),
            ("n", "02"),
            ("temperature", " 1"),
            ("top_p", "1 "),
            ("seed", "null"),
            ("echo", "True"),
        ]),
        json!({"model": "1", "n": "02", "temperature": " 1", "top_p": "1 ", "seed": "null", "echo": "True"}),
    );
}

#[test]
fn numbers_in_forms_are_plain_digits() {
    for value in ["02", "2.0", "2e0", "+2", "-2", "", " 2", "２", "0x2"] {
        let body = fields(&[("n", value)]);
        let form = Form::read(body.as_bytes(), "xyz").unwrap();
        let denial = Request::read(form.json().as_bytes()).unwrap_err();
        let expected = "a whole number, written with digits only";
        assert_eq!(denial, Denial::InvalidField { field: "n", expected }, "{value}");
    }
}

/// <https://github.com/dotnet/runtime/issues/72447>, <https://github.com/square/okhttp>, <https://github.com/dart-lang/http>
#[test]
fn what_clients_write_is_read() {
    let name = json!({"name": "a"});
    for head in [
        "Content-Disposition: form-data; name=\"name\"",
        "content-disposition: form-data;name=\"name\"",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=name",
        "Content-Disposition: form-data; name=\"name\"\r\nContent-Length: 1",
        "content-type: text/plain; charset=utf-8\r\ncontent-transfer-encoding: binary\r\ncontent-disposition: form-data; name=\"name\"",
        "Content-Disposition: form-data; name=\"name\"\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit",
        "Content-Disposition: form-data; name=\"name\"\r\nContent-Type: application/json",
    ] {
        check_head(head, name.clone());
    }
    for head in [
        "Content-Disposition: form-data; name=\"file\"; filename=\"a; b.wav\"\r\nContent-Type: audio/webm;codecs=opus",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=file; filename=a.wav; filename*=utf-8''a.wav",
        "Content-Disposition: form-data; name=\"file\"; filename=\"%22é中.wav\"\r\nContent-Type: application/octet-stream",
        "Content-Disposition: form-data; name=\"file\"; filename=\"=?utf-8?B?w6k=?=\"; filename*=utf-8''%C3%A9",
    ] {
        check_head(head, json!({"file": ""}));
    }
}

#[test]
fn a_second_spelling_of_a_governed_field_is_ambiguous() {
    let model = ("Content-Disposition: form-data; name=\"model\"", "a");
    let duplicate = "`model` stands more than once";
    let disguised = "`model` must be written plainly";
    for (head, expected) in [
        ("Content-Disposition: form-data; name=model", duplicate),
        ("Content-Disposition: form-data; name=\"model\"", duplicate),
        ("Content-Disposition: form-data; name=\"Model\"", disguised),
        ("Content-Disposition: form-data; name=\"model[]\"", disguised),
        ("Content-Disposition: form-data; name=\"model[0]\"", disguised),
        ("Content-Disposition: form-data; name=\"model\"; filename=\"x\"", "without a file name"),
    ] {
        refused(&form(&[model, (head, "b")]), expected);
    }
    for (name, expected) in
        [("N", "`n` must be"), ("include[0]", "`include` must be"), ("prompt[]", "`prompt` must be")]
    {
        refused(&fields(&[(name, "1")]), expected);
    }
    // What may stand again.
    let lists = fields(&[("include[]", "a"), ("include[]", "b"), ("image[]", "x"), ("image[]", "y")]);
    check(&lists, json!({"include": ["a", "b"], "image": ["x", "y"]}));
    check(&fields(&[("include", "a")]), json!({"include": ["a"]}));
    check(&fields(&[("include", "a"), ("include", "b")]), json!({"include": ["a", "b"]}));
}

#[test]
fn what_readers_of_forms_differ_about_is_refused() {
    let disposition = "Content-Disposition must be";
    for head in [
        "Content-Disposition: form-data; name = \"model\"",
        "Content-Disposition: form-data; name=\"mod\\el\"",
        "Content-Disposition: form-data; name=\"mod\\\"el\"",
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data; name*0=mod; name*1=el",
        "Content-Disposition: form-data; Name=\"model\"",
        "Content-Disposition: form-data; name=\"x\"; name=\"model\"",
        "Content-Disposition: form-data; name='model'",
        "Content-Disposition: form-data; name=\"x\"; size=1",
        "Content-Disposition: form-data; name=\"x\"; filename=\"\"",
        "Content-Disposition: form-data; name=\"x\"; filename*=utf-8''a",
        "Content-Disposition: form-data; name=\"x\"; filename=a; filename*=utf-7''a",
        "Content-Disposition: form-data; name=\"x\"; filename=a; filename*=utf-8''a'b",
        "Content-Disposition: form-data; name=\"x\"; filename=a; filename*=utf-8''%4",
        "Content-Disposition: form-data; name=\"x\"; filename=a; filename*=utf-8''",
        "Content-Disposition: form-data; name=\"x\"; filename=\"a\\\"; name=\\\"model\"",
        "Content-Disposition: form-data; name=\"x\"; filename=\"a; name=model\"",
        "Content-Disposition: form-data; name=\"x\"; FileName=\"a\"",
        "Content-Disposition: form-data; filename=\"model\"; name=\"x\"",
        "Content-Disposition: form-data; name=\"x\";",
        "Content-Disposition: form-data; name=",
        "Content-Disposition: form-data; name=\"\"",
        "Content-Disposition: form-data; name=\"model",
        "Content-Disposition: form-data; name=\"m\u{f6}del\"",
        "Content-Disposition: form-data; name=\"mod%65l\"",
        "Content-Disposition: form-data; name=\" model\"",
        "Content-Disposition: form-data; name=\"max.tokens\"",
        "Content-Disposition: form-data; name=\"[model]\"",
        "Content-Disposition: form-data; name=\"x[\"",
        "Content-Disposition: form-data; name=\"_charset_\"",
        "Content-Disposition: form-data",
        "Content-Disposition: Form-Data; name=\"model\"",
        "Content-Disposition: attachment; name=\"model\"",
        "Content-Type: text/plain",
    ] {
        refused_head(head, disposition);
    }
    let known = "no header but";
    for head in [
        "X-Name: filename\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition : form-data; name=\"model\"",
        "Content-Disposition: form-data;\r\n name=\"model\"",
        "Content-Disposition",
        "",
    ] {
        refused_head(head, known);
    }
    let control = "a control character";
    for head in [
        "Content-Disposition: form-data;\tname=\"model\"",
        "Content-Disposition: form-data; name=\"mod\0el\"",
        "X: y\nContent-Disposition: form-data; name=\"model\"",
        "X: y\rContent-Disposition: form-data; name=\"model\"",
    ] {
        refused_head(head, control);
    }
    let twice =
        "Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"";
    refused_head(twice, "a header twice");
}

#[test]
fn a_fields_type_and_coding_change_nothing() {
    let field = "Content-Disposition: form-data; name=\"model\"\r\n";
    for content_type in [
        "application/octet-stream",
        "text/plain; charset=utf-16le",
        "text/plain; charset=utf-7",
        "text/plain; format=flowed",
        "text/html",
        "",
    ] {
        refused_head(&format!("{field}Content-Type: {content_type}"), "the Content-Type of a field");
    }
    let latin = form(&[(&format!("{field}Content-Type: text/plain; charset=iso-8859-1"), "é")]);
    refused(&latin, "the Content-Type of a field");
    refused_head(&format!("{field}Content-Transfer-Encoding: base64"), "Content-Transfer-Encoding must be");
    refused_head(&format!("{field}Content-Length: 2"), "Content-Length is not its length");
    let nested = "Content-Disposition: form-data; name=\"x\"; filename=\"a\"\r\nContent-Type: multipart/mixed; boundary=y";
    refused_head(nested, "parts itself");
}

#[test]
fn a_delimiter_stands_alone_on_its_line() {
    let part = "--xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na";
    // In the middle of a line it is none.
    check(&format!("{part}--xyz\r\n--xyz--"), json!({"model": "a--xyz"}));
    for (body, expected) in [
        (format!("{part}\n--xyz--"), "no CRLF before it"),
        (format!("{part}\r--xyz--"), "no CRLF before it"),
        (format!("{part}\r\n--xyz \r\n--xyz--"), "alone on its line"),
        (format!("{part}\r\n--xyzz\r\n--xyz--"), "alone on its line"),
        (format!("{part}\r\n--xyz\n\r\n--xyz--"), "alone on its line"),
        (format!("{part}\r\n--xyz--\r\n{part}\r\n--xyz--"), "alone on its line"),
        (format!("{part}\r\n--xyz"), "does not end with"),
        (format!("{part}\r\n--xyz--\r\nepilogue"), "does not end with"),
        (format!("{part}\r\n--xyz--\r\n\r\n"), "does not end with"),
        (part.to_owned(), "does not end with"),
        (format!("\r\n{part}\r\n--xyz--"), "does not begin with"),
        (format!("preamble\r\n{part}\r\n--xyz--"), "does not begin with"),
        (String::new(), "does not begin with"),
        ("--xyz--\r\n".to_owned(), "no part"),
        // The blank line's end is no delimiter's.
        ("--xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n--xyz--".to_owned(), "no headers"),
        (fields(&[("a", "1"); 65]), "more than 64 parts"),
        (fields(&[("a", &"1".repeat(1_048_577))]), "more than 1048576 bytes"),
        (form(&[(&"x".repeat(HEAD_BYTES_MAX), "1")]), "more than 4096 bytes"),
    ] {
        refused(&body, expected);
    }
    let latin = b"--xyz\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\xe9\r\n--xyz--";
    assert_eq!(Form::read(latin, "xyz"), Err(Denial::InvalidForm("a field that is no file is not UTF-8")));
    assert!(Form::read(fields(&[("a", "1"); 64]).as_bytes(), "xyz").is_ok());
    assert!(Form::read(fields(&[("a", &"1".repeat(1_048_576))]).as_bytes(), "xyz").is_ok());
}

#[track_caller]
fn edited(body: &str, edit: impl FnOnce(&mut Request<'_>)) -> String {
    let form = Form::read(body.as_bytes(), "xyz").unwrap();
    let mut request = Request::read(form.json().as_bytes()).unwrap();
    edit(&mut request);
    let Some(patch) = form.edits(request.edits()).patch(body.as_bytes()) else { return body.to_owned() };
    String::from_utf8(patch.bytes).unwrap() + &body[patch.replaced..]
}

#[test]
fn edits_of_the_json_are_made_in_the_form() {
    let body =
        fields(&[("model", "a"), ("n", "9"), ("x", "\u{e9}"), ("include[]", "logprobs"), ("include[]", "b")]);
    let after = edited(&body, |request| {
        request.set_model("deployment");
        request.set(Field::N, "4".to_owned());
        request.set_words(Field::Include, &["b".to_owned()]);
    });
    assert_eq!(after, fields(&[("model", "deployment"), ("n", "4"), ("x", "\u{e9}"), ("include[]", "b")]));
    assert_eq!(edited(&body, |request| request.set_model("a")), body);
    // The head may tell the length of the old value.
    let told = form(&[("Content-Disposition: form-data; name=n\r\nContent-Length: 2", "10")]);
    let after = edited(&told, |request| request.set(Field::N, "4".to_owned()));
    assert_eq!(after, fields(&[("n", "4")]));
    // What is taken back is gone, what is new comes first.
    let after = edited(&fields(&[("seed", "7"), ("x", "1")]), |request| {
        request.set(Field::Seed, "null".to_owned());
        request.set_stream(true);
        request.set_model("deployment");
    });
    assert_eq!(after, fields(&[("model", "deployment"), ("stream", "true"), ("x", "1")]));
}

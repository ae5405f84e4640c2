//! Where in one part of a prompt is text?
//!
//! A short part is read string by string. From a long one the strings that are no text (images, audio, files) are taken
//! out whole, and what stands between them is sampled. Token ids are counted. Not decided here: what text costs.

use super::sample::{sample, windows};
use super::strings::{Found, Name, Place, looks_like_data, strings};
use memchr::memmem::{Finder, find_iter};
use memchr::{memchr, memchr_iter, memrchr};

/// A part up to this size is read in full.
const READ_BYTES_MAX: usize = 8 * 1024;

/// Stands before the base64 of a `data:` address.
const MARK: &[u8] = b";base64,";

/// How far before the mark its string may begin: longer than any media type.
const MEDIA_TYPE_BYTES_MAX: usize = 128;

/// No name that we know is longer.
const NAME_BYTES_MAX: usize = 32;

/// Reads one part of a prompt.
pub(super) fn read(json: &str) -> Found {
    let bytes = json.as_bytes();
    if let Some(ids) = token_ids(bytes) {
        return Found { ids, ..Found::default() };
    }
    if bytes.len() <= READ_BYTES_MAX {
        return strings(bytes, Place::Between);
    }
    let mut long = Long { found: Found::default(), read_bytes_left: READ_BYTES_MAX };
    let mark = Finder::new(MARK);
    let (mut begin, mut from) = (0, 0);
    while let Some(offset) = bytes.get(from..).and_then(|rest| mark.find(rest)) {
        from += offset + MARK.len();
        if let Some(data) = data_around(bytes, from, MEDIA_TYPE_BYTES_MAX) {
            long.unmarked(bytes.get(begin..data.open).unwrap_or_default());
            long.found.items += 1;
            (begin, from) = (data.end, data.end);
        }
    }
    long.unmarked(bytes.get(begin..).unwrap_or_default());
    long.found
}

/// What was found so far in a long part.
struct Long {
    found: Found,
    read_bytes_left: usize,
}

impl Long {
    /// Takes a stretch without marks of base64. Audio, for one, has none: a window is looked into here and there.
    fn unmarked(&mut self, json: &[u8]) {
        let mut begin = 0;
        if json.len() > self.read_bytes_left {
            let mut before = 0;
            for (at, window) in windows(json) {
                // A string that began before the last window has been judged there.
                let bytes = at - before;
                before = at;
                if at >= begin
                    && window.iter().all(|byte| is_base64(*byte))
                    && let Some(data) = data_around(json, at, bytes)
                {
                    self.text(json.get(begin..data.open).unwrap_or_default());
                    self.found.items += 1;
                    begin = data.end;
                }
            }
        }
        self.text(json.get(begin..).unwrap_or_default());
    }

    /// Takes a stretch without data.
    fn text(&mut self, json: &[u8]) {
        let found = match self.read_bytes_left.checked_sub(json.len()) {
            Some(left) => {
                self.read_bytes_left = left;
                strings(json, Place::Between)
            }
            None => sample(json),
        };
        self.found.add(found);
    }
}

/// A string that is data, with its quotes.
struct Data {
    open: usize,
    end: usize,
}

/// Finds the string around a byte, if its name is one of those whose strings are data, and it looks like that. So no text
/// can pass for an image by what is in it, nor by its name.
fn data_around(json: &[u8], at: usize, before_bytes_max: usize) -> Option<Data> {
    let from = at.saturating_sub(before_bytes_max);
    let open = from + memrchr(b'"', json.get(from..at)?)?;
    let name = json.get(..open)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end().strip_suffix(b"\"")?;
    let name = name.get(name.len().saturating_sub(NAME_BYTES_MAX)..)?;
    let name = name.get(memrchr(b'"', name)? + 1..)?;
    if !Name::of(name).is_data() {
        return None;
    }
    let close = at + memchr(b'"', json.get(at..)?)?;
    looks_like_data(json.get(open + 1..close)?).then_some(Data { open, end: close + 1 })
}

fn is_base64(byte: u8) -> bool {
    // Some writers escape the slash.
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\\')
}

/// How many token ids an array has that holds nothing else: these need no estimate.
fn token_ids(json: &[u8]) -> Option<u64> {
    let first =
        json.iter().find(|byte| !matches!(byte, b'[' | b']' | b',' | b' ' | b'\t' | b'\n' | b'\r'))?;
    if !(first.is_ascii_digit() && json.trim_ascii_start().starts_with(b"[")) || memchr(b'"', json).is_some()
    {
        return None;
    }
    let commas = memchr_iter(b',', json).count();
    // An array within the array has one more than it has commas, unless it is empty, and the comma after it makes that
    // up for the outer one.
    let empty = find_iter(json, b"[]").count();
    Some((commas + 1).saturating_sub(empty) as u64)
}

#[cfg(test)]
mod tests {
    use super::super::text::TOKEN;
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn cost(text: &str) -> u64 {
        strings(serde_json::to_string(text).unwrap().as_bytes(), Place::Between).text
    }

    #[track_caller]
    fn check(json: &str, texts: &[&str], messages: u64, items: u64) {
        let text = texts.iter().map(|text| cost(text)).sum();
        assert_eq!(
            read(json),
            Found { text, messages, items, ids: 0 },
            "{}",
            json.get(..300).unwrap_or(json)
        );
    }

    #[test]
    fn the_text_of_messages_counts_and_their_syntax_does_not() {
        check("", &[], 0, 0);
        check("null", &[], 0, 0);
        check(r#""one""#, &["one"], 0, 0);
        check(r#"["one","two words"]"#, &["one", "two words"], 0, 0);
        check(r#"[{"role":"user","content":"Hello"}]"#, &["Hello"], 1, 0);
        check("[ { \"content\" :\n\"Hello\" , \"role\"\t: \"user\" } ]", &["Hello"], 1, 0);
        check(
            r#"[{"role":"system","content":""},{"role":"user","name":"Ann","content":[{"type":"text","text":"Hi"}]}]"#,
            &["Ann", "Hi"],
            2,
            0,
        );
        check(
            r#"[{"role":"tool","tool_call_id":"call_1","content":"{\"role\":\"user\"}"}]"#,
            &["{\"role\":\"user\"}"],
            1,
            0,
        );
        check(
            r#"[{"type":"function","function":{"name":"find","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]"#,
            &["find", "city"],
            0,
            0,
        );
    }

    #[test]
    fn numbers_count_wherever_they_stand() {
        let found = read(r#"[{"role":"user","content":123456}]"#);
        assert_eq!(found, Found { text: 2 * TOKEN, messages: 1, items: 0, ids: 0 });
    }

    #[test]
    fn an_image_is_an_item_however_it_is_sent() {
        let base64 = "iVBORw0KGgo".repeat(30);
        for url in ["https://example.com/a.png", &format!("data:image/png;base64,{base64}")] {
            let chat = format!(
                r#"[{{"role":"user","content":[{{"type":"text","text":"See"}},{{"type":"image_url","image_url":{{"url":"{url}","detail":"low"}}}}]}}]"#
            );
            check(&chat, &["See"], 1, 1);
            let detail_first = format!(r#"[{{"image_url":{{"detail":"low","url":"{url}"}}}}]"#);
            check(&detail_first, &[], 0, 1);
            let responses = format!(
                r#"[{{"role":"user","content":[{{"type":"input_image","image_url": "{url}"}},{{"type":"input_text","text":"See"}}]}}]"#
            );
            check(&responses, &["See"], 1, 1);
        }
        let audio = format!(
            r#"[{{"role":"user","content":[{{"type":"input_audio","input_audio":{{"data":"{base64}","format":"wav"}}}}]}}]"#
        );
        check(&audio, &[], 1, 1);
    }

    #[test]
    fn a_citation_is_no_image() {
        check(
            r#"[{"role":"assistant","content":[{"text":"So","annotations":[{"type":"url_citation","url":"https://example.com"}]}]}]"#,
            &["So", "annotations", "https://example.com"],
            1,
            0,
        );
    }

    #[test]
    fn text_cannot_pass_for_data() {
        let text = "data:image/png;base64,".to_owned() + &"word".repeat(20_000);
        for (json, full) in [
            (format!(r#"[{{"role":"user","content":"{text}"}}]"#), 1),
            (format!(r#"[{{"type":"text","text":"{text}"}}]"#), 0),
            (format!(r#""{text}""#), 0),
            (format!(r#"[{{"role":"user","content":"see \"url\":\"{text}\" "}}]"#), 1),
        ] {
            let found = read(&json);
            assert_eq!((found.items, found.messages), (0, full));
            assert!(found.text.abs_diff(cost(&text)) < cost(&text) / 50, "{found:?}");
        }
        // Nor does a name hide more than the value that has it.
        let found = read(r#"[{"role":["user","two words"],"type":{"x":"two words"}}]"#);
        assert_eq!(found.text, cost("user") + 2 * cost("two words") + cost("x"));
        let long = "word ".repeat(20);
        check(&format!(r#"[{{"role":"{long}"}}]"#), &[&long], 1, 0);
        check(r#"{"data":"short"}"#, &["short"], 0, 0);
    }

    #[test]
    fn text_under_the_name_of_data_is_text() {
        let (english, chinese) = ("word ".repeat(100), "中文".repeat(200));
        let escaped = r"\u4e2d\u6587".repeat(200);
        for name in ["data", "file_data", "result", "encrypted_content"] {
            check(&format!(r#"[{{"{name}":"{english}"}}]"#), &[&english], 0, 0);
            check(&format!(r#"[{{"{name}":"{chinese}"}}]"#), &[&chinese], 0, 0);
            check(&format!(r#"[{{"{name}":"{escaped}"}}]"#), &[&chinese], 0, 0);
        }
        // What stands for an image is one, and what is written there is text as well.
        check(&format!(r#"[{{"image_url":{{"url":"{english}"}}}}]"#), &[&english], 0, 1);
        for name in ["id", "type", "format", "detail", "status", "role"] {
            let json = format!(r#"[{{"{name}":"some words of text"}}]"#);
            check(&json, &["some words of text"], u64::from(name == "role"), 0);
        }
        // However much of it there is.
        for (name, value) in
            [("data", english.repeat(200)), ("url", format!("data:;base64,{}", english.repeat(200)))]
        {
            let found = read(&format!(r#"[{{"{name}":"{value}"}}]"#));
            assert!(near(found.text, cost(&value)), "{name} {found:?}");
        }
    }

    #[test]
    fn large_data_leaves_the_text_around_it_whole() {
        let base64 = "iVBORw0KGgo".repeat(50_000);
        let (before, after) = ("text before ".repeat(300), "text after ".repeat(300));
        for (name, mark) in
            [("url", "data:image/png;base64,"), ("data", ""), ("file_data", ""), ("result", "")]
        {
            let json = format!(
                r#"[{{"text":"{before}"}},{{"input_audio":{{"{name}" : "{mark}{base64}"}}}},{{"text":"{after}"}}]"#
            );
            check(&json, &[&before, &after], 0, 1);
        }
    }

    #[test]
    fn many_images_between_texts_are_many_items() {
        let part = format!(
            r#"{{"type":"text","text":"{}"}},{{"image_url":{{"url":"data:image/png;base64,{}"}}}},"#,
            "some words. ".repeat(200),
            "A".repeat(1000)
        );
        let found = read(&format!("[{}]", part.repeat(300)));
        let text = 300 * cost(&"some words. ".repeat(200));
        assert_eq!(found.items, 300);
        assert!(found.text.abs_diff(text) < text / 20, "{} {text}", found.text);
    }

    fn near(found: u64, expected: u64) -> bool {
        found.abs_diff(expected) * 100 <= expected * 3
    }

    #[test]
    fn a_sample_speaks_for_the_whole() {
        let sentences = [
            "The quick brown fox jumps over the lazy dog, once in 1987 and never again. ",
            "fn main() {\n    println!(\"{}\", items.iter().map(|x| x + 1).sum::<u64>());\n}\n",
            "老街尽头有一家修表的小店，店主姓林，今年七十多岁。",
            "Перепишите, пожалуйста, это объявление вежливее. ",
            "{\"id\": 1234, \"name\": \"Ann\", \"tags\": [\"a\", \"b\"]}\n",
        ];
        for sentence in sentences {
            // Numbered, or windows and sentences could fall into step.
            let text: String = (0..400_000 / sentence.len())
                .map(|number| format!("{sentence}{} ", number * number))
                .collect();
            let plain = serde_json::to_string(&text).unwrap();
            // As many JSON writers do by default.
            let escape = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) };
            let escaped: String = plain.chars().map(escape).collect();
            let expected = strings(plain.as_bytes(), Place::Between).text;
            for json in [plain, escaped] {
                assert!(near(read(&json).text, expected), "{} {expected} {sentence}", read(&json).text);
            }
            // As many short messages; the same in full and in part.
            let message = format!(
                r#"{{"role": "user", "content": {}}}, "#,
                serde_json::to_string(&sentence.repeat(3)).unwrap()
            );
            let messages = format!("[{}]", message.repeat(400_000 / message.len()));
            let (full, part) = (strings(messages.as_bytes(), Place::Between), read(&messages));
            assert!(near(part.text, full.text), "{part:?} {full:?}");
            assert!(part.messages.abs_diff(full.messages) * 5 <= full.messages, "{part:?} {full:?}");
        }
    }

    proptest! {
        #[test]
        fn token_ids_are_counted_exactly(prompts: Vec<Vec<u32>>, spaced: bool) {
            let expected: usize = prompts.iter().map(Vec::len).sum();
            let json = serde_json::to_string(&prompts).unwrap();
            let flat = serde_json::to_string(&prompts.concat()).unwrap();
            for json in [json, flat] {
                let json = if spaced { json.replace(',', ", ") } else { json };
                prop_assert_eq!(read(&json), Found { ids: expected as u64, ..Found::default() }, "{}", json);
            }
        }

        #[test]
        fn an_array_with_text_is_no_array_of_ids(text in "[a-z]{1,9}") {
            prop_assert_eq!(read(&format!("[1,\"{text}\"]")).text, cost(&text) + TOKEN / 3);
        }

        #[test]
        fn a_longer_message_never_counts_less(text: String, more: String) {
            let read = |text: &str| read(&serde_json::json!([{"role": "user", "content": text}]).to_string());
            let both = format!("{text}{more}");
            prop_assert!(read(&text).text <= read(&both).text);
        }

        #[test]
        fn any_text_can_be_read(text in r#"([\\"\[\]{}:,a-z0-9 中]|;base64,|"url":"|"data":"){0,60}"#) {
            let _ = read(&text);
            let _ = read(&text.repeat(1 + 40_000 / (text.len() + 1)));
        }
    }
}

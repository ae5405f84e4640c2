//! Bodies that are made to be misread.

use tollgate::digest::{MIX_STEP, mix};
use tollgate::request::Field;

use super::policies;

/// Throws that come out alike for the same seed and case.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, case: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(MIX_STEP) ^ case.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(MIX_STEP);
        number
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

/// The body of a case, as `run` makes it.
pub fn of(seed: u64, case: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed, case);
    policies::pick(&mut dice);
    policies::asked(&mut dice);
    dice.one_in(2);
    body(&mut dice)
}

/// How often something hostile stands where something plain could. A body with more than one is refused for the first.
const HOSTILE: usize = 24;

pub fn body(dice: &mut Dice) -> Vec<u8> {
    let members = (0..dice.below(9))
        .map(|_| {
            let field = dice.pick(Field::ALL).name();
            let value = value(dice, field);
            (name(dice, field), value)
        })
        .collect();
    let mut body = object(dice, members);
    if dice.one_in(6) {
        damage(dice, &mut body);
    }
    body
}

fn object(dice: &mut Dice, mut members: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    // Most have a member once; some have one again.
    let mut seen = Vec::new();
    members.retain(|(name, _)| {
        let is_new = !seen.contains(name);
        seen.push(name.clone());
        is_new
    });
    if dice.one_in(HOSTILE) && !members.is_empty() {
        let (name, _) = dice.pick(&members);
        let value = value(dice, std::str::from_utf8(&name).unwrap_or_default().trim_matches('"'));
        members.push((name, value));
    }
    let mut json = space(dice);
    json.push(b'{');
    for (at, (name, value)) in members.into_iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        json.extend(space(dice));
        json.extend(name);
        json.extend(space(dice));
        json.push(b':');
        json.extend(space(dice));
        json.extend(value);
        json.extend(space(dice));
    }
    json.push(b'}');
    json.extend(space(dice));
    json
}

fn space(dice: &mut Dice) -> Vec<u8> {
    const ODD: [&str; 9] = ["\u{c}", "\u{b}", "\u{a0}", "\u{feff}", "\0", "/**/", "//\n", "#\n", "\u{2028}"];
    if dice.one_in(HOSTILE * 12) {
        return dice.pick(&ODD).into();
    }
    dice.pick(&["", "", "", "", " ", "\n", "\r\n\t "]).into()
}

/// A name in quotes, plainly or in disguise.
fn name(dice: &mut Dice, name: &str) -> Vec<u8> {
    if !dice.one_in(HOSTILE) {
        return format!("\"{name}\"").into();
    }
    let at = dice.below(name.len());
    let (before, letter, after) = (&name[..at], &name[at..=at], &name[at + 1..]);
    let other = match dice.below(12) {
        0 => format!("\\u{:04x}", letter.as_bytes()[0]),
        1 => format!("\\u{:04X}", letter.as_bytes()[0]),
        2 => letter.to_uppercase(),
        3 => return format!("\"{}\"", name.to_uppercase()).into(),
        4 => return format!("\"{}\"", in_other_letters(dice, name)).into(),
        5 => format!("{letter}\u{301}"),
        6 => format!("{letter} "),
        7 => format!("{letter}\\u0000"),
        8 => format!("{letter}\u{200b}"),
        9 => return format!("'{name}'").into(),
        10 => return name.into(),
        _ => format!("\\{letter}"),
    };
    format!("\"{before}{other}{after}\"").into()
}

/// With a letter that is not ASCII, but is to those who ignore letter case.
fn in_other_letters(dice: &mut Dice, name: &str) -> String {
    const PAIRS: [(&str, &str); 7] =
        [("k", "\u{212a}"), ("s", "ſ"), ("i", "ı"), ("i", "İ"), ("ss", "ß"), ("st", "ﬆ"), ("fi", "ﬁ")];
    let fitting: Vec<_> = PAIRS.into_iter().filter(|(plain, _)| name.contains(plain)).collect();
    if fitting.is_empty() {
        return name.to_uppercase();
    }
    let (plain, other) = dice.pick(&fitting);
    name.replacen(plain, other, 1)
}

/// A value that mostly is one of the field's kind.
fn value(dice: &mut Dice, field: &str) -> Vec<u8> {
    if dice.one_in(HOSTILE) {
        return hostile(dice);
    }
    let plain = |dice: &mut Dice, list: &[&str]| dice.pick(list).into();
    let word = |dice: &mut Dice, words: &[&str]| {
        let word = dice.pick(words);
        let word = if dice.one_in(10) {
            format!("\\u{:04x}{}", word.as_bytes()[0], &word[1..])
        } else {
            word.into()
        };
        format!("\"{word}\"").into()
    };
    match field {
        "tools" => match dice.below(3) {
            0 => plain(dice, &["null", "[]", "[{}]", "[[1,2],{},3]", r#"[{"a":1,"a":2}]"#]),
            _ => tools(dice, 3),
        },
        "data_sources" => {
            let sources: Vec<_> = (0..dice.below(3))
                .map(|_| nested(dice, &["type", "type", "parameters"], &["\"azure_search\"", "\"mongo_db\""]))
                .collect();
            list(&sources)
        }
        "max_tool_calls" => plain(dice, &["0", "1", "5", "6", "null"]),
        "verbosity" => word(dice, &["low", "medium", "high"]),
        "prompt_cache_retention" => word(dice, &["in_memory", "24h"]),
        "prompt_cache_options" => plain(dice, &["null", "{}", r#"{"mode":"explicit"}"#]),
        "n" | "best_of" => plain(dice, &["0", "1", "2", "3", "4", "9", "null", "4294967295"]),
        "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
            plain(dice, &["0", "1", "100", "500", "501", "9000", "null", "4294967295"])
        }
        "top_logprobs" => plain(dice, &["0", "5", "6", "20", "null"]),
        "temperature" | "top_p" => plain(
            dice,
            &[
                "0",
                "1",
                "2",
                "0.5",
                "0.7000000000000001",
                "1.0",
                "1.0000000000000002",
                "-0.0",
                "-1",
                "7e-1",
                "1E0",
                "0.1e1",
                "1e-9",
                "5e-324",
                "1e-999",
                "null",
                "1e22",
                "123456789012345678901234567890",
                "0.30000000000000004",
                "0.89999999999999999999999999999",
                "0.1000000000000000055511151231257827",
            ],
        ),
        "logprobs" => plain(dice, &["true", "false", "null", "0", "3", "7"]),
        "stream" | "echo" | "store" | "background" => plain(dice, &["true", "false", "null"]),
        "seed" => plain(dice, &["null", "null", "7", "-7", "99999999999999999999"]),
        "stream_options" => nested(dice, &["include_usage"], &["true", "false", "null"]),
        "response_format" => nested(
            dice,
            &["type", "type", "json_schema"],
            &["\"text\"", "\"json_object\"", "\"json\\u005fobject\""],
        ),
        "text" if dice.one_in(2) => {
            nested(dice, &["verbosity", "x"], &["\"low\"", "\"high\"", "\"me\\u0064ium\"", "null"])
        }
        "text" => {
            let format = nested(dice, &["type"], &["\"text\"", "\"json_object\""]);
            let name = name(dice, "format");
            object(dice, vec![(name, format)])
        }
        "reasoning" if dice.one_in(2) => {
            nested(dice, &["mode", "summary"], &["\"standard\"", "\"standard\"", "\"pro\"", "null"])
        }
        "reasoning" => nested(dice, &["effort", "summary"], &["\"low\"", "\"high\"", "\"medium\"", "null"]),
        "reasoning_effort" => word(dice, &["low", "medium", "high", "minimal", "none"]),
        "service_tier" => word(dice, &["auto", "default", "flex", "priority"]),
        "model" => word(dice, &["gpt-4o", "deployment", "o3"]),
        "include" => plain(
            dice,
            &[
                "null",
                "[]",
                r#"["a"]"#,
                r#"["message.output_text.logprobs"]"#,
                r#"["b","message.output\u005ftext.logprobs"]"#,
            ],
        ),
        "functions" => plain(dice, &["null", "[]", "[{}]", "[{},{}]", "[[1,2],{},3]", r#"[{"a":1,"a":2}]"#]),
        "logit_bias" => {
            plain(dice, &["null", "{}", r#"{"1":1}"#, r#"{"1":1,"2":-100}"#, r#"{"1":1,"1":2,"\u0031":3}"#])
        }
        "messages" | "input" => messages(dice),
        "prompt" => {
            plain(dice, &[r#""a""#, r#"["a","b"]"#, "[1,2,3]", "[[1,2],[3]]", "[]", "null", r#"{"id":"x"}"#])
        }
        _ => plain(dice, &["null", "{}", r#""text""#, "[1, 2]"]),
    }
}

fn nested(dice: &mut Dice, names: &[&str], values: &[&str]) -> Vec<u8> {
    let members = (0..1 + dice.below(2))
        .map(|_| {
            let field = dice.pick(names);
            let value = if dice.one_in(HOSTILE) { hostile(dice) } else { dice.pick(values).into() };
            (name(dice, field), value)
        })
        .collect();
    object(dice, members)
}

fn list(elements: &[Vec<u8>]) -> Vec<u8> {
    [b"[", elements.join(&b","[..]).as_slice(), b"]"].concat()
}

/// Tools, some of them with tools.
fn tools(dice: &mut Dice, depth: usize) -> Vec<u8> {
    let tools: Vec<_> = (0..dice.below(3))
        .map(|_| {
            let kinds =
                ["\"function\"", "\"function\"", "\"web_search\"", "\"mcp\"", "\"m\\u0063p\"", "null"];
            let mut members = vec![(name(dice, "type"), dice.pick(&kinds).into())];
            let others = [
                ("server_url", r#""https://a.com/sse""#),
                ("server_url", r#""https://x.b.com""#),
                ("server_url", r#""https://a.com@evil.com""#),
                ("connector_id", r#""connector_gmail""#),
                ("tunnel_id", r#""t""#),
                ("parameters", r#"{"type":"mcp","tools":[{"type":"mcp"}]}"#),
            ];
            if dice.one_in(2) {
                let (member, value) = dice.pick(&others);
                members.push((name(dice, member), value.into()));
            }
            if depth > 0 && dice.one_in(4) {
                let tools = tools(dice, depth - 1);
                members.push((name(dice, "tools"), tools));
            }
            object(dice, members)
        })
        .collect();
    list(&tools)
}

/// An item of an input that hands in tools, or says how much to think.
fn item(dice: &mut Dice) -> Vec<u8> {
    let kinds =
        ["\"additional_tools\"", "\"tool_search_output\"", "\"mcp_list_tools\"", "\"configuration_update\""];
    let mut members = vec![(name(dice, "type"), dice.pick(&kinds).into())];
    if dice.one_in(2) {
        let tools = tools(dice, 1);
        members.push((name(dice, "tools"), tools));
    } else {
        let reasoning = nested(dice, &["effort", "x"], &["\"low\"", "\"max\"", "\"l\\u006fw\"", "null"]);
        members.push((name(dice, "reasoning"), reasoning));
    }
    object(dice, members)
}

fn messages(dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(4) {
        return dice.pick(&[r#""hello""#, "[]", "null", r#"["a","b"]"#]).into();
    }
    let messages: Vec<_> = (0..1 + dice.below(3))
        .map(|_| {
            if dice.one_in(5) {
                return item(dice);
            }
            let parts: Vec<_> = (0..dice.below(4)).map(|_| part(dice)).collect();
            let content = [b"[", parts.join(&b","[..]).as_slice(), b"]"].concat();
            let members = vec![(name(dice, "role"), b"\"user\"".to_vec()), (name(dice, "content"), content)];
            object(dice, members)
        })
        .collect();
    list(&messages)
}

fn part(dice: &mut Dice) -> Vec<u8> {
    let kinds = [
        ("text", "text"),
        ("image_url", "image_url"),
        ("input_image", "image_url"),
        ("input_audio", "input_audio"),
        ("file", "file"),
        ("input_file", "file_id"),
        ("refusal", "refusal"),
        ("", "image_url"),
        ("im\\u0061ge_url", "x"),
        ("text", "file"),
    ];
    let (kind, member) = if dice.one_in(2) { ("text", "text") } else { dice.pick(&kinds) };
    let texts = [
        r#""hi""#,
        r#""{\"type\":\"image_url\"}""#,
        r#""\\""#,
        r#""\"image_url\":""#,
        r#"{"url":"data:image/png;base64,AAAA"}"#,
        r#"{"type":"image_url"}"#,
        r#"["image_url",{"file":null}]"#,
        "null",
        r#""\ud83d\ude00""#,
        r#""é中""#,
    ];
    let mut members = vec![(name(dice, member), dice.pick(&texts).into())];
    if !kind.is_empty() {
        let at = dice.below(2);
        members.insert(at, (name(dice, "type"), format!("\"{kind}\"").into()));
    }
    object(dice, members)
}

/// What some readers take and others do not, or take otherwise.
fn hostile(dice: &mut Dice) -> Vec<u8> {
    let texts = [
        r#""9999""#,
        "1e9",
        "1E+2",
        "-1",
        "4096.0",
        "00",
        "01",
        "+1",
        ".5",
        "1.",
        "1e400",
        "-1e400",
        "-0",
        "1e",
        "0x10",
        "1_000",
        "99999999999999999999",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "true",
        "True",
        "TRUE",
        "null",
        "None",
        "nul",
        "undefined",
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\u0031""#,
        "'x'",
        "[]",
        "{}",
        "[1]",
        r#"{"a":1,"a":2}"#,
        r#"{"n":1,"max_tokens":2,"stream":true}"#,
        "\"\u{1}\"",
        "\"\n\"",
        "\"\\x41\"",
        "\"\\'\"",
        "\"",
        "/*1*/1",
        "1//",
        "１２",
        "٣",
        "\"é\"",
        "[1,]",
        "{,}",
        r#"{"a":}"#,
        "1 2",
        "\"a\" \"b\"",
        "\u{feff}1",
        "-",
        "--1",
        "\"\\u00\"",
        "\"\\u+123\"",
        "1e-400",
        "0e0",
        "1E400",
    ];
    match dice.below(20) {
        0 => {
            let depth = dice.pick(&[10, 99, 100, 101, 127, 128, 129, 900, 1100]);
            format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into()
        }
        1 => "9".repeat(dice.pick(&[19, 20, 309, 400, 4299, 4301])).into(),
        2 => format!("0.{}1", "0".repeat(dice.pick(&[16, 17, 300, 330, 800]))).into(),
        3 => b"\"\xff\"".to_vec(),
        4 => b"\"\xed\xa0\x80\"".to_vec(),
        5 => b"\"\xc0\xaf\"".to_vec(),
        _ => dice.pick(&texts).into(),
    }
}

/// Changes bytes without regard to what they are.
fn damage(dice: &mut Dice, body: &mut Vec<u8>) {
    let at = dice.below(body.len() + 1);
    match dice.below(12) {
        0 => body.truncate(at),
        1 => body.extend_from_slice(dice.pick(&[
            &b"x"[..],
            b"{}",
            b",",
            b"}",
            b"\0",
            b"\n\n",
            b"{\"n\":9}",
            b"]",
        ])),
        2 => drop(body.splice(
            0..0,
            dice.pick(&[&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"x", b"\0", b"[", b"//\n"]).iter().copied(),
        )),
        3 => *body = body.iter().flat_map(|byte| [*byte, 0]).collect(),
        4 => {
            let end = (at + dice.below(12)).min(body.len());
            let part = body[at..end].to_vec();
            drop(body.splice(at..at, part));
        }
        5 if at < body.len() => body[at] ^= 1 << dice.below(8),
        6 if at < body.len() => drop(body.remove(at)),
        7 => *body = String::from_utf8_lossy(body).replace('"', "'").into_bytes(),
        8 => *body = [b"[", body.as_slice(), b"]"].concat(),
        _ => body.insert(at, dice.pick(b"\"\\{}[],:0e-. \t\x0c\x80\xff/*tn")),
    }
}

//! Is what the policy saw of a form what three real readers make of the forwarded bytes?
//!
//! Starlette (python-multipart), Werkzeug and busboy must see the same fields with the same values, in the same number of
//! parts, as the JSON has that our own reading of the forwarded form says.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;
use tollgate::endpoint::{BodyKind, Operation};
use tollgate::form::Form;
use tollgate::media::{self, Media};
use tollgate::policy::{self, Asked};
use tollgate::request::{Family, Field, Request};

use crate::bodies::Dice;
use crate::policies;
use crate::reader::Reader;
use crate::{Tally, alone, in_batches, shown};

/// How often something hostile stands where something plain could.
const HOSTILE: usize = 16;

/// One form that goes on.
struct Forwarded {
    case: u64,
    content_type: Vec<u8>,
    body: Vec<u8>,
    seen: Seen,
}

/// The values of each name without its brackets, sorted, for Werkzeug tells files apart from fields; a file is empty.
type Seen = BTreeMap<String, Vec<String>>;

/// One form, from its case's number alone: its `content-type` and its body.
fn form(dice: &mut Dice) -> (Vec<u8>, Vec<u8>) {
    let boundary =
        dice.pick(&["b", "xyz", "----WebKitFormBoundary7MA4", "a'b", "--", "-", "(x)", "1=2", "a/b:c,d?"]);
    let quoted = format!("\"{boundary}\"");
    let written =
        if boundary.contains(['(', '=', '/']) || dice.one_in(2) { quoted.as_str() } else { boundary };
    let mut content_type = format!("multipart/form-data; boundary={written}");
    if dice.one_in(HOSTILE) {
        let odd = dice.pick(&[
            "; charset=utf-8",
            "; charset=utf-16",
            "; boundary=c",
            ";boundary=b",
            "; Boundary=xyz",
            "; boundary*=utf-8''c",
            ";",
            " ",
            "; x",
            "; x=\"\\\"; boundary=c\"",
            ", multipart/form-data; boundary=c",
        ]);
        content_type.push_str(odd);
    }
    let parts = (0..1 + dice.below(5)).map(|_| part(dice, boundary)).collect::<Vec<_>>();
    let mut body = Vec::new();
    if dice.one_in(HOSTILE * 4) {
        body.extend_from_slice(dice.pick(&[&b"\r\n"[..], b"\n", b"preamble\r\n", b"--", b" "]));
    }
    for part in parts {
        body.extend(delimiter(dice, boundary));
        body.extend(line_end(dice));
        body.extend(part);
        body.extend(line_end(dice));
    }
    body.extend(delimiter(dice, boundary));
    body.extend_from_slice(dice.pick(&[&b"--\r\n"[..], b"--", b"--\r\n"]));
    if dice.one_in(HOSTILE * 2) {
        body.extend_from_slice(dice.pick(&[&b"\r\n"[..], b"epilogue", b"\n", b" ", b"--", b"\0"]));
    }
    if dice.one_in(6) {
        damage(dice, &mut body, boundary);
    }
    (content_type.into_bytes(), body)
}

fn delimiter(dice: &mut Dice, boundary: &str) -> Vec<u8> {
    let plain = format!("--{boundary}");
    if !dice.one_in(HOSTILE * 8) {
        return plain.into();
    }
    match dice.below(6) {
        0 => format!("{plain} "),
        1 => format!("{plain}\t"),
        2 => format!("-{plain}"),
        3 => format!("{plain}x"),
        4 => format!("--{plain}"),
        _ => format!("--{}", boundary.to_uppercase()),
    }
    .into()
}

fn line_end(dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(HOSTILE * 12) {
        return dice.pick(&[&b"\n"[..], b"\r", b"\r\n\r\n", b"", b"\n\r", b" \r\n"]).into();
    }
    b"\r\n".to_vec()
}

/// A part, from its head to the end of its value.
fn part(dice: &mut Dice, boundary: &str) -> Vec<u8> {
    let governed = dice.pick(Field::ALL).name();
    let name = dice.pick(&[
        "model",
        "prompt",
        "n",
        "stream",
        "response_format",
        "temperature",
        "size",
        "file",
        "image[]",
        "include[]",
        "x",
        governed,
    ]);
    let is_file = matches!(name, "file" | "image[]");
    let mut lines = vec![disposition(dice, name, is_file)];
    if dice.one_in(3) {
        let plain = if is_file {
            [
                "Content-Type: audio/wav",
                "Content-Type: audio/webm;codecs=opus",
                "content-type: application/octet-stream",
            ]
        } else {
            [
                "Content-Type: text/plain",
                "Content-Type: text/plain; charset=utf-8",
                "Content-Type: application/json",
            ]
        };
        lines.push(dice.pick(&plain).to_owned());
    }
    if dice.one_in(HOSTILE) {
        lines.push(
            dice.pick(&[
                "Content-Transfer-Encoding: binary",
                "Content-Transfer-Encoding: base64",
                "Content-Length: 1",
                "X-A: filename",
                "Content-Type: application/octet-stream",
                "Content-Type: text/plain; charset=utf-16le",
                "Content-Type: text/plain; charset=iso-8859-1",
                "Content-Disposition: form-data; name=\"model\"",
                " folded",
                "\tname=\"model\"",
                "content-disposition: form-data; name=n",
                "Content-Type: multipart/mixed; boundary=c",
            ])
            .to_owned(),
        );
    }
    if dice.one_in(4) {
        lines.reverse();
    }
    let mut part = lines.join("\r\n").into_bytes();
    part.extend(if dice.one_in(HOSTILE * 8) {
        dice.pick(&[&b"\n\n"[..], b"\r\n\n", b"\r\r", b"\r\n", b"\n\r\n"]).to_vec()
    } else {
        b"\r\n\r\n".to_vec()
    });
    part.extend(if is_file { b"RIFF\0\xff\r\n\r\nname=\"model\"".to_vec() } else { value(dice, boundary) });
    part
}

fn disposition(dice: &mut Dice, name: &str, is_file: bool) -> String {
    let is_token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let mut line = match dice.below(3) {
        0 if is_token => format!("Content-Disposition: form-data; name={name}"),
        1 => format!("content-disposition: form-data;name=\"{name}\""),
        _ => format!("Content-Disposition: form-data; name=\"{name}\""),
    };
    if is_file && !dice.one_in(HOSTILE) {
        line.push_str(dice.pick(&[
            "; filename=\"a.wav\"",
            "; filename=a.wav; filename*=utf-8''a.wav",
            "; filename=\"a; b.wav\"",
            "; filename=\"é中.wav\"",
            "; filename=\"%22a.wav\"",
            "; filename=\"a'b.wav\"",
            "; filename=\"C:/a\"",
            "; filename=\"=?utf-8?B?w6k=?=\"",
        ]));
    }
    if !dice.one_in(HOSTILE) {
        return line;
    }
    let at = dice.below(name.len());
    let (before, after) = name.split_at(at);
    match dice.below(8) {
        0 => line.replace("name=", "name = "),
        1 => line.replace("name=", "Name="),
        2 => line.replace("name=", "name*=utf-8''"),
        3 => line.replace(name, &format!("{before}\\{after}")),
        4 => line.replace(name, &name.to_uppercase()),
        5 => line.replace("form-data", dice.pick(&["Form-Data", "attachment", "form-data ", "form-data; x"])),
        6 => line.replace(
            name,
            &format!(
                "{before}{}{after}",
                dice.pick(&["%6d", "\u{e9}", "\0", "\t", " ", "[]", "\"", ";", "."])
            ),
        ),
        _ => {
            line + dice.pick(&[
                "; filename=\"\"",
                "; filename=x",
                "; filename*=utf-8''x",
                "; name=\"model\"",
                "; name*0=mo; name*1=del",
                ";",
                "; filename=\"x\\\"; name=\\\"model\"",
                "; filename=\"x; name=model\"",
                "; size=1",
                "; filename=\"\\\\x\"",
                " ",
                "; filename=\"/\"",
                "; filename=\".\"",
                "; filename=\"a/\"",
                "; filename=\"a\\",
                "\r\n ; name=\"model\"",
            ])
        }
    }
}

fn value(dice: &mut Dice, boundary: &str) -> Vec<u8> {
    if dice.one_in(HOSTILE) {
        return match dice.below(8) {
            0 => format!("a--{boundary}\r\nb").into(),
            1 => format!("a\n--{boundary}--").into(),
            2 => format!("a\r--{boundary}\r\n").into(),
            3 => format!("--{boundary}--").into(),
            4 => format!("\r\n--{boundary}x").into(),
            5 => b"\xff\xfe".to_vec(),
            6 => b"a\r".to_vec(),
            _ => b"\r\n".to_vec(),
        };
    }
    let plain = [
        "1",
        "2",
        "9",
        "gpt-4o",
        "true",
        "false",
        "0.5",
        "",
        "text",
        "a crab\r\nand \"é\"\n",
        "logprobs",
        "02",
        "1e1",
        "\r\n",
        "-",
    ];
    dice.pick(&plain).as_bytes().to_vec()
}

/// Changes bytes without regard to what they are.
fn damage(dice: &mut Dice, body: &mut Vec<u8>, boundary: &str) {
    let at = dice.below(body.len() + 1);
    match dice.below(6) {
        0 => body.truncate(at),
        1 if at < body.len() => body[at] ^= 1 << dice.below(8),
        2 if at < body.len() => drop(body.remove(at)),
        3 => drop(body.splice(at..at, format!("\r\n--{boundary}\r\n").into_bytes())),
        4 => {
            let end = (at + dice.below(40)).min(body.len());
            let part = body[at..end].to_vec();
            drop(body.splice(at..at, part));
        }
        _ => body.insert(at, dice.pick(b"\"\\;=*-\r\n\0 \tn\x80")),
    }
}

/// Does with a form what the exchange does. `Ok(None)` if it is refused.
fn run(seed: u64, case: u64) -> Result<Option<Forwarded>, String> {
    let mut dice = Dice::new(seed, case);
    let policy = policies::pick(&mut dice);
    let operation = dice.pick(&[Operation::ImageEdits, Operation::Transcriptions, Operation::Translations]);
    let rename = dice.one_in(2);
    let (content_type, body) = form(&mut dice);
    let headers = [("content-type".to_owned(), content_type.clone())];
    let Ok(said) = media::said(BodyKind::Form, &headers) else { return Ok(None) };
    let Media::Form(boundary) = &said.media else { return Err("no form".to_owned()) };
    let Ok(form) = Form::read(&body, boundary) else { return Ok(None) };
    let Ok(mut request) = Request::read(form.json().as_bytes()) else { return Ok(None) };
    let asked = Asked { operation, family: Family::Gpt4, prompt_tokens: 0 };
    let Ok(verdict) = policy::apply(&policy, &asked, &mut request) else { return Ok(None) };
    if rename {
        request.set_model("deployment");
    }
    let edits = request.edits();
    if form.is_emptied_by(edits.clone()) {
        return Ok(None);
    }
    let json = edits.clone().patch(form.json().as_bytes()).map_or_else(
        || form.json().to_owned(),
        |patch| String::from_utf8(patch.bytes).unwrap() + &form.json()[patch.replaced..],
    );
    let forwarded = match form.edits(edits).patch(&body) {
        Some(patch) => [&patch.bytes, &body[patch.replaced..]].concat(),
        None => body.clone(),
    };
    let content_type = said.content_type.map_or(content_type, String::into_bytes);
    // What goes on says what was decided, and keeps the policy: held to it again, it passes as it is.
    let again =
        Form::read(&forwarded, boundary).map_err(|denial| format!("cannot be read again: {denial:?}"))?;
    let seen = seen(again.json());
    if seen != self::seen(&json) {
        return Err(format!("{json} became {}", again.json()));
    }
    let mut request = Request::read(again.json().as_bytes()).map_err(|denial| format!("{denial:?}"))?;
    let second = policy::apply(&policy, &asked, &mut request);
    let second = second.map_err(|denial| format!("does not keep the policy: {denial:?}"))?;
    if second.ceiling != verdict.ceiling || second.findings.iter().any(|finding| finding.clamped().is_some())
    {
        return Err(format!("{verdict:?} became {second:?}"));
    }
    Ok(Some(Forwarded { case, content_type, body: forwarded, seen }))
}

/// What the JSON of a form says. What was taken back is not there.
fn seen(json: &str) -> Seen {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json).unwrap();
    let values = |value: &str| match serde_json::from_str::<Value>(value).unwrap() {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text],
        Value::Array(words) => words.iter().map(|word| word.as_str().unwrap().to_owned()).collect(),
        _ => vec![value.to_owned()],
    };
    let members = members.into_iter().map(|(name, value)| (name, values(value.get())));
    sorted(members.filter(|(_, values)| !values.is_empty()).collect())
}

/// What a reader has written; `None` if it refused the form.
fn of_reader(parts: &Value) -> Option<Seen> {
    let mut seen = Seen::new();
    for part in parts.as_array()? {
        let name = part[0].as_str().unwrap();
        let value = if part[1] == true {
            String::new()
        } else {
            String::from_utf8_lossy(&hex::decode(part[2].as_str().unwrap()).unwrap()).into_owned()
        };
        let base = name.split('[').next().unwrap_or_default();
        // A governed field that is a file to anybody has nothing in common with ours.
        let is_odd = part[1] == true && Field::ALL.iter().any(|field| field.name() == base);
        seen.entry(if is_odd { format!("{base} as a file") } else { base.to_owned() })
            .or_default()
            .push(value);
    }
    Some(sorted(seen))
}

fn sorted(mut seen: Seen) -> Seen {
    seen.values_mut().for_each(|values| values.sort_unstable());
    seen
}

/// The body of a case that was run.
fn body_of(seed: u64, case: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed, case);
    policies::pick(&mut dice);
    dice.below(3);
    dice.one_in(2);
    form(&mut dice).1
}

/// Runs some cases; the first disagreement is an error.
pub fn check(seed: u64, cases: Range<u64>) -> Result<Tally, String> {
    let (mut python, mut node) = (Reader::forms_in_python(), Reader::forms_in_node());
    in_batches(seed, cases, run, body_of, |forwarded| {
        let texts: Vec<_> =
            forwarded.iter().flat_map(|one| [one.content_type.as_slice(), one.body.as_slice()]).collect();
        let in_python = python.read(&texts, forwarded.len());
        let in_node = node.read(&texts, forwarded.len());
        let mut compared = 0;
        for (one, (in_python, in_node)) in forwarded.iter().zip(in_python.iter().zip(&in_node)) {
            let in_python: [Value; 2] = serde_json::from_str(in_python).unwrap();
            let [in_node]: [Value; 1] = serde_json::from_str(in_node).unwrap();
            let [starlette, werkzeug] = in_python;
            let readers = [("Starlette", starlette), ("Werkzeug", werkzeug), ("busboy", in_node)];
            let seen = readers.map(|(reader, parts)| (reader, of_reader(&parts)));
            compared += u64::from(seen.iter().all(|(_, seen)| seen.is_some()));
            for (reader, seen) in seen {
                if let Some(seen) = seen.filter(|seen| *seen != one.seen) {
                    return Err(format!(
                        "{}\n{reader} sees {seen:?}\nwe saw {:?}\ncontent-type: {}\nforwarded: {}",
                        alone(seed, one.case),
                        one.seen,
                        shown(&one.content_type),
                        shown(&one.body),
                    ));
                }
            }
        }
        Ok(compared)
    })
}

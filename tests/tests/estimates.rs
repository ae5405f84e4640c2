//! How far off are the estimates? Measured against a real tokenizer, o200k_base, over texts of several kinds.
//!
//! The table stands in docs/estimates.md; `UPDATE_DOCS=1 cargo test --package tollgate-tests --test estimates` writes it
//! anew. Of each kind every other text teaches and the others measure, so that no estimate is of a text learnt from.

use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use std::rc::Rc;
use tiktoken_rs::CoreBPE;
use tollgate::estimate::{self, Learnt, Observed, Produced, Sketch, Subject};
use tollgate::store::MemoryStore;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/estimates.md");
const MODEL: &str = "gpt-4o";
const ANSWERS: usize = 100;
const LONG_BYTES: usize = 64 * 1024;
const SYSTEM: &str = "You are a helpful assistant.";

/// How a client's JSON writer treats what is not ASCII.
#[derive(Clone, Copy, PartialEq)]
enum Writer {
    Plain,
    /// As Python's `json.dumps` does by default.
    Escaping,
}

#[derive(Clone, Copy, PartialEq)]
enum Image {
    None,
    /// Beside the text, as base64.
    Inline,
}

struct Kind {
    name: &'static str,
    texts: &'static str,
    writer: Writer,
    image: Image,
}

const fn kind(name: &'static str, texts: &'static str) -> Kind {
    Kind { name, texts, writer: Writer::Plain, image: Image::None }
}

const CHINESE: &str = include_str!("../fixtures/estimates/chinese.txt");
const ENGLISH: &str = include_str!("../fixtures/estimates/english.txt");

const KINDS: [Kind; 8] = [
    kind("English prose", ENGLISH),
    kind("source code", include_str!("../fixtures/estimates/code.txt")),
    kind("JSON documents", include_str!("../fixtures/estimates/json.txt")),
    kind("Chinese", CHINESE),
    Kind { writer: Writer::Escaping, ..kind("Chinese as `\\u4e2d`", CHINESE) },
    kind("Russian", include_str!("../fixtures/estimates/russian.txt")),
    kind("mixed in one prompt", include_str!("../fixtures/estimates/mixed.txt")),
    Kind { image: Image::Inline, ..kind("English and an image", ENGLISH) },
];

/// A request, what it truly costs, and the same text as an answer.
struct Sample {
    sketch: Sketch,
    prompt_tokens: u64,
    prompt_bytes: u64,
    produced: Produced,
}

impl Sample {
    fn observed(&self) -> Observed {
        Observed { prompt_tokens: self.prompt_tokens, produced: Some(self.produced) }
    }
}

impl Kind {
    fn samples(&self, bpe: &CoreBPE) -> Vec<Sample> {
        let texts = self.texts.split("\n%%\n").enumerate();
        texts.map(|(number, text)| self.sample(bpe, number, text.trim_end())).collect()
    }

    fn sample(&self, bpe: &CoreBPE, number: usize, text: &str) -> Sample {
        let tokens = |text: &str| bpe.encode_ordinary(text).len() as u64;
        // Each of the two messages: three tokens and its role; three for the beginning of the answer.
        let mut prompt_tokens = 2 * (3 + 1) + tokens(SYSTEM) + tokens(text) + 3;
        let content = match self.image {
            Image::None => json!(text),
            Image::Inline => {
                let (url, image_tokens) = image(number);
                prompt_tokens += image_tokens;
                json!([{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}])
            }
        };
        let messages =
            json!([{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]).to_string();
        let messages = self.written(messages);
        let produced = self.written(json!(text).to_string());
        Sample {
            sketch: estimate::sketch([&*messages]),
            prompt_tokens,
            prompt_bytes: messages.len() as u64,
            produced: Produced { text_bytes: produced.len() as u64 - 2, completion_tokens: tokens(text) },
        }
    }

    fn written(&self, json: String) -> String {
        if self.writer == Writer::Plain {
            return json;
        }
        let mut escaped = String::new();
        for unit in json.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => escaped.push(byte.into()),
                _ => write!(escaped, "\\u{unit:04x}").unwrap(),
            }
        }
        escaped
    }
}

/// Conversations of some 64 KB, of texts of all kinds, each in an order of its own.
fn conversations(bpe: &CoreBPE) -> Vec<Sample> {
    let texts: Vec<String> = KINDS
        .iter()
        .filter(|kind| kind.image == Image::None)
        .flat_map(|kind| {
            kind.texts.split("\n%%\n").map(|text| kind.written(json!(text.trim_end()).to_string()))
        })
        .collect();
    let mut dice = 1u64;
    let mut draw = move || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize
    };
    let conversation = |_| {
        let (mut messages, mut prompt_tokens) = (String::from("["), 3);
        while messages.len() < LONG_BYTES {
            let text = &texts[draw() % texts.len()];
            let separator = if messages.len() > 1 { "," } else { "" };
            write!(messages, r#"{separator}{{"role":"user","content":{text}}}"#).unwrap();
            let text: String = serde_json::from_str(text).unwrap();
            prompt_tokens += 4 + bpe.encode_ordinary(&text).len() as u64;
        }
        messages.push(']');
        let produced = Produced { text_bytes: messages.len() as u64, completion_tokens: prompt_tokens };
        let (sketch, prompt_bytes) = (estimate::sketch([&*messages]), messages.len() as u64);
        Sample { sketch, prompt_tokens, prompt_bytes, produced }
    };
    (0..40).map(conversation).collect()
}

/// An image of some size, and its tokens by OpenAI's formula for gpt-4o in high detail: fitted into 2048 x 2048, its
/// short side brought down to 768, 170 for each tile of 512 x 512, and 85.
fn image(number: usize) -> (String, u64) {
    const SIZES: [(f64, f64); 5] =
        [(1024.0, 1024.0), (800.0, 600.0), (1920.0, 1080.0), (512.0, 512.0), (3024.0, 4032.0)];
    let (width, height) = SIZES[number % SIZES.len()];
    let scale = (2048.0 / width.max(height)).min(1.0);
    let scale = scale.min(768.0 / width.min(height));
    let tiles = |side: f64| (side * scale / 512.0).ceil() as u64;
    let data = "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAADwf7zU".repeat((width * height / 500.0) as usize);
    (format!("data:image/png;base64,{data}"), 85 + 170 * tiles(width) * tiles(height))
}

/// Sizes of relative errors, in percent.
struct Errors(Vec<f64>);

impl Errors {
    fn of<'a>(samples: impl Iterator<Item = &'a Sample>, pair: impl Fn(&Sample) -> (u64, u64)) -> Self {
        let error = |(estimate, truth): (u64, u64)| (estimate as f64 / truth as f64 - 1.0).abs() * 100.0;
        let mut errors: Vec<f64> = samples.map(|sample| error(pair(sample))).collect();
        errors.sort_by(f64::total_cmp);
        Self(errors)
    }

    fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    fn text(&self) -> String {
        format!("{:.0} ({:.0})", self.median(), self.0[self.0.len() * 9 / 10])
    }
}

/// What is learnt from these, in this order.
fn learnt<'a>(answers: impl Iterator<Item = &'a Sample>) -> Learnt {
    let store = MemoryStore::default();
    let subject = Subject { model: MODEL, client: &Rc::from("web-shop") };
    for answer in answers.take(ANSWERS) {
        Learnt::learn(&store, subject, &[(answer.sketch, answer.observed())]).unwrap();
    }
    Learnt::load(&store, subject).unwrap()
}

struct Row {
    prompt_cold: Errors,
    prompt_learnt: Errors,
    prompt_mixed: Errors,
    produced_cold: Errors,
    produced_learnt: Errors,
    naive: Errors,
}

impl Row {
    fn of(samples: &[Sample], mixed: &Learnt) -> Self {
        let own = learnt(samples.iter().step_by(2).cycle());
        let cold = Learnt::default();
        let measured = || samples.iter().skip(1).step_by(2);
        let prompt = |learnt: &Learnt| {
            Errors::of(measured(), |sample| (learnt.prompt_tokens(&sample.sketch), sample.prompt_tokens))
        };
        let produced = |learnt: &Learnt| {
            Errors::of(measured(), |Sample { produced, .. }| {
                (learnt.produced_tokens(produced.text_bytes), produced.completion_tokens)
            })
        };
        Self {
            prompt_cold: prompt(&cold),
            prompt_learnt: prompt(&own),
            prompt_mixed: prompt(mixed),
            produced_cold: produced(&cold),
            produced_learnt: produced(&own),
            naive: Errors::of(measured(), |sample| (sample.prompt_bytes / 4, sample.prompt_tokens)),
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.naive.text(),
            self.prompt_cold.text(),
            self.prompt_learnt.text(),
            self.prompt_mixed.text(),
            self.produced_cold.text(),
            self.produced_learnt.text(),
        ]
    }
}

fn rows() -> Vec<Row> {
    let bpe = tiktoken_rs::o200k_base().unwrap();
    let samples: Vec<Vec<Sample>> = KINDS.iter().map(|kind| kind.samples(&bpe)).collect();
    // One model with all kinds of traffic, in turn.
    let in_turn = (0..)
        .step_by(2)
        .flat_map(|number| samples.iter().map(move |samples| &samples[number % samples.len() / 2 * 2]));
    let mixed = learnt(in_turn);
    samples.iter().map(|samples| Row::of(samples, &mixed)).collect()
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| kind | prompt, bytes / 4 | prompt, cold | prompt, learnt | prompt, learnt from all kinds | produced, cold | \
         produced, learnt |\n|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (kind, row) in KINDS.iter().zip(rows) {
        writeln!(table, "| {} | {} |", kind.name, row.cells().join(" | ")).unwrap();
    }
    table
}

#[test]
fn an_estimate_is_within_a_third_and_once_learnt_a_tenth() {
    for (kind, row) in KINDS.iter().zip(rows()) {
        let name = kind.name;
        if kind.image == Image::None {
            assert!(row.prompt_cold.median() <= 35.0, "{name}: {}", row.prompt_cold.median());
            assert!(row.prompt_mixed.median() <= 20.0, "{name}: {}", row.prompt_mixed.median());
            assert!(row.prompt_learnt.median() <= 10.0, "{name}: {}", row.prompt_learnt.median());
        }
        // Of an answer only the bytes are known, not their classes.
        assert!(row.produced_learnt.median() <= 20.0, "{name}: {}", row.produced_learnt.median());
    }
}

#[test]
fn a_long_prompt_is_estimated_as_well_by_a_part_of_it() {
    let samples = conversations(&tiktoken_rs::o200k_base().unwrap());
    let errors = |learnt: &Learnt| {
        let measured = samples.iter().skip(1).step_by(2);
        Errors::of(measured, |sample| (learnt.prompt_tokens(&sample.sketch), sample.prompt_tokens))
    };
    let (cold, learnt) = (errors(&Learnt::default()), errors(&learnt(samples.iter().step_by(2).cycle())));
    assert!(cold.median() <= 6.0 && learnt.median() <= 2.0, "{} {}", cold.text(), learnt.text());
}

#[test]
fn the_table_in_the_document_is_current() {
    let table = table(&rows());
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once("| kind |").expect("the table begins with its kinds");
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let current = format!("{before}{table}\n{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(Path::new(DOCUMENT), &current).unwrap();
    } else {
        assert_eq!(document, current, "UPDATE_DOCS=1 writes the table anew");
    }
}

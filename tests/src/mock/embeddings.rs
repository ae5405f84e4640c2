//! Embeddings: small vectors of unit length, the same for the same text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::answer::{Answer, Content, Request, fingerprint, json};
use super::endpoint::Operation;
use super::refusal::Refusal;
use super::settings::Settings;
use super::tokens::Prompt;
use super::usage::{EmbeddingsUsage, Usage};

const DIMENSIONS: u64 = 8;
/// The largest model's.
const DIMENSIONS_MAX: u64 = 3072;
/// OpenAI's own bound.
const INPUTS_MAX: usize = 2048;

pub(super) fn answer(request: &Request, settings: &Settings) -> Result<Answer, Refusal> {
    let fields = &request.fields;
    fields.refuse(&[
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n",
        "best_of",
        "stream",
        "stream_options",
        "messages",
        "prompt",
    ])?;
    let inputs = Prompt::list("input", fields.required("input")?)?;
    if inputs.len() > INPUTS_MAX {
        let message = format!(
            "Invalid 'input': array too long. Expected an array with maximum length {INPUTS_MAX}, but got an array with \
             length {} instead.",
            inputs.len()
        );
        return Err(Refusal::invalid(400, &message, Some("input"), Some("array_above_max_length")));
    }
    if inputs.contains(&Prompt::Text(String::new())) {
        return Err(Refusal::invalid(400, "'$.input' is invalid: an input is empty.", Some("input"), None));
    }
    let dimensions = fields.integer("dimensions", 1..=DIMENSIONS_MAX)?.unwrap_or(DIMENSIONS);
    let base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("Invalid value: '{other}'. Supported values are: 'float' and 'base64'.");
            return Err(Refusal::invalid(400, &message, Some("encoding_format"), Some("invalid_value")));
        }
    };

    let prompt = inputs.iter().map(Prompt::tokens).sum();
    // Nothing is cached here, and nothing generated.
    let usage = Usage { prompt, ..Usage::of_prompt(0, settings) };
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(input, dimensions);
        let embedding = if base64 { Embedding::Base64(encode(&vector)) } else { Embedding::Float(vector) };
        Datum { object: "embedding", index, embedding }
    });
    let content = Content::Json(json(&Body {
        object: "list",
        data: data.collect(),
        model: &request.model,
        usage: usage.for_embeddings(),
    }));
    Ok(Answer {
        operation: Operation::Embeddings,
        model: request.model.clone(),
        usage,
        cost: prompt,
        content,
    })
}

fn vector(input: &Prompt, dimensions: u64) -> Vec<f32> {
    let seed = match input {
        Prompt::Text(text) => fingerprint(text.as_bytes()),
        Prompt::Tokens(ids) => fingerprint(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>()),
    };
    let raw: Vec<f32> = (0..dimensions)
        .map(|at| {
            let [low, high, ..] = fingerprint(&(seed ^ at).to_le_bytes()).to_le_bytes();
            // Odd, so that no vector is all zeros.
            f32::from(i16::from_le_bytes([low | 1, high]))
        })
        .collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    raw.iter().map(|value| value / length).collect()
}

/// As OpenAI packs them: little-endian 32-bit floats.
fn encode(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

#[derive(Serialize)]
struct Body<'a> {
    object: &'static str,
    data: Vec<Datum>,
    model: &'a str,
    usage: EmbeddingsUsage,
}

#[derive(Serialize)]
struct Datum {
    object: &'static str,
    index: usize,
    embedding: Embedding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding {
    Float(Vec<f32>),
    Base64(String),
}

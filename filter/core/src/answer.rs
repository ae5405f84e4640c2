//! What do we answer in a backend's place?
//!
//! The shape, and the list of models; refusals are worded in `denial`.

use serde::Serialize;

/// A whole answer that no backend gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, `content-type` among them.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// The header of all our bodies.
pub const JSON: (&str, &str) = ("content-type", "application/json");

/// A list of models, as OpenAI writes it.
/// <https://platform.openai.com/docs/api-reference/models/list>
pub fn models<'a>(names: impl Iterator<Item = &'a str>) -> Answer {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'a str,
        data: Vec<Model<'a>>,
    }
    #[derive(Serialize)]
    struct Model<'a> {
        id: &'a str,
        object: &'a str,
        created: u32,
        owned_by: &'a str,
    }
    let data = names.map(|id| Model { id, object: "model", created: 0, owned_by: "tollgate" }).collect();
    Answer {
        status: 200,
        headers: vec![(JSON.0, JSON.1.to_owned())],
        // Writing strings to memory cannot fail.
        body: serde_json::to_vec(&List { object: "list", data }).unwrap_or_default(),
    }
}

//! Which models are there? Lists them, and refuses the others.

use serde::Serialize;

use super::answer::{Answer, CREATED, Content, json};
use super::endpoint::{Dialect, Endpoint, Operation};
use super::refusal::Refusal;
use super::settings::Settings;
use super::usage::Usage;

/// What is listed where any name will do.
const LISTED: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small"];

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

pub(super) fn answer(endpoint: &Endpoint, settings: &Settings) -> Result<Answer, Refusal> {
    let body = match &endpoint.model {
        Some(model) => {
            check(model, endpoint, settings)?;
            json(&entry(model))
        }
        None => {
            let data = match &settings.models {
                Some(models) => models.iter().map(|model| entry(model)).collect(),
                None => LISTED.into_iter().map(entry).collect(),
            };
            json(&List { object: "list", data })
        }
    };
    let model = endpoint.model.clone().unwrap_or_default();
    Ok(Answer {
        operation: Operation::Models,
        model,
        usage: Usage::default(),
        cost: 0,
        content: Content::Json(body),
    })
}

pub(super) fn check(model: &str, endpoint: &Endpoint, settings: &Settings) -> Result<(), Refusal> {
    let Some(models) = &settings.models else { return Ok(()) };
    if models.iter().any(|known| known == model) {
        return Ok(());
    }
    Err(match endpoint.dialect {
        Dialect::Azure => Refusal::azure(
            404,
            "DeploymentNotFound",
            "The API deployment for this resource does not exist. If you created the deployment within the last 5 \
             minutes, please wait a moment and try again.",
        ),
        Dialect::OpenAi | Dialect::Anthropic => Refusal::invalid(
            404,
            &format!("The model `{model}` does not exist or you do not have access to it."),
            None,
            Some("model_not_found"),
        ),
    })
}

/// The families that know `max_completion_tokens` only, told by their names.
pub(super) fn reasons(model: &str) -> bool {
    ["o1", "o3", "o4", "gpt-5"].iter().any(|family| model.starts_with(family))
}

fn entry(model: &str) -> Model<'_> {
    Model { id: model, object: "model", created: CREATED, owned_by: "mock" }
}

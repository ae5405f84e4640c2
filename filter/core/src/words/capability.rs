//! What does a backend understand: which operations, which fields, and the cap under which name?
//!
//! A server answers what it does not know with 400, and of Azure's dated API versions the older know less. Every such fact
//! stands in this file and nowhere else. Azure's v1 and servers that speak OpenAI's API know everything: they have no
//! version to tell by. What a model refuses wherever it is served, as a reasoning model does `temperature`, is the
//! backend's to say. Not decided here: what becomes of a request that a backend does not understand.

use crate::endpoint::{Operation, Style};
use crate::request::{CapField, CapNames, Family, Field, Request};

/// Something that a backend may not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A path.
    Operation(Operation),
    /// A member of a body, for one operation.
    Field(Operation, Field),
}

/// A feature, and the first of Azure's dated API versions that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// What.
    pub feature: Feature,
    /// The version.
    pub version: &'static str,
}

/// Azure's dated API versions of inference, which ended with the last of them: what comes after is v1, without a date. No backend is
/// refused for another one.
/// <https://github.com/Azure/azure-rest-api-specs/tree/main/specification/cognitiveservices/data-plane/AzureOpenAI/inference>
pub const AZURE_VERSIONS: [&str; 27] = [
    "2022-03-01-preview",
    "2022-06-01-preview",
    "2022-12-01",
    "2023-03-15-preview",
    "2023-05-15",
    "2023-06-01-preview",
    "2023-07-01-preview",
    "2023-08-01-preview",
    "2023-09-01-preview",
    "2023-10-01-preview",
    "2023-12-01-preview",
    "2024-02-01",
    "2024-02-15-preview",
    "2024-03-01-preview",
    "2024-04-01-preview",
    "2024-05-01-preview",
    "2024-06-01",
    "2024-07-01-preview",
    "2024-08-01-preview",
    "2024-09-01-preview",
    "2024-10-01-preview",
    "2024-10-21",
    "2024-12-01-preview",
    "2025-01-01-preview",
    "2025-02-01-preview",
    "2025-03-01-preview",
    "2025-04-01-preview",
];

const fn since(version: &'static str, feature: Feature) -> Since {
    Since { feature, version }
}

const fn chat(field: Field) -> Feature {
    Feature::Field(Operation::ChatCompletions, field)
}

/// What Azure's dated versions learnt, the oldest first. What they all know is not here.
/// <https://learn.microsoft.com/azure/ai-services/openai/api-version-lifecycle>
static AZURE: [Since; 17] = [
    since("2023-09-01-preview", Feature::Operation(Operation::Transcriptions)),
    since("2023-09-01-preview", Feature::Operation(Operation::Translations)),
    since("2023-12-01-preview", Feature::Operation(Operation::ImageGenerations)),
    since("2024-02-15-preview", Feature::Operation(Operation::Speech)),
    since("2024-09-01-preview", chat(Field::MaxCompletionTokens)),
    since("2024-09-01-preview", chat(Field::ParallelToolCalls)),
    since("2024-09-01-preview", chat(Field::StreamOptions)),
    since("2024-09-01-preview", Feature::Field(Operation::Completions, Field::StreamOptions)),
    since("2024-10-01-preview", Feature::Operation(Operation::Realtime)),
    since("2024-12-01-preview", chat(Field::Store)),
    since("2024-12-01-preview", chat(Field::Metadata)),
    since("2024-12-01-preview", chat(Field::ReasoningEffort)),
    since("2025-01-01-preview", chat(Field::Prediction)),
    since("2025-03-01-preview", Feature::Operation(Operation::Responses)),
    since("2025-03-01-preview", Feature::Operation(Operation::Compact)),
    since("2025-03-01-preview", Feature::Operation(Operation::InputTokens)),
    since("2025-04-01-preview", Feature::Operation(Operation::ImageEdits)),
];

/// What a backend of this style does not know, of what its API has.
#[must_use]
pub fn unknown(style: &Style) -> &'static [Since] {
    let Style::Azure(version) = style else { return &[] };
    let known = AZURE.partition_point(|since| version.is_since(since.version));
    AZURE.get(known..).unwrap_or_default()
}

fn knows(style: &Style, feature: Feature) -> bool {
    unknown(style).iter().all(|since| since.feature != feature)
}

/// Whether a stream may be asked for its usage; elsewhere it comes by itself, or not at all.
#[must_use]
pub fn takes_stream_options(style: &Style, operation: Operation) -> bool {
    operation.takes_stream_options() && knows(style, Feature::Field(operation, Field::StreamOptions))
}

/// Under which names chat takes its cap. Reasoning models refuse `max_tokens` wherever they are served.
/// <https://learn.microsoft.com/azure/ai-services/openai/how-to/reasoning>
#[must_use]
pub fn cap_names(style: &Style, family: Family) -> CapNames {
    match (family.reasons(), knows(style, chat(Field::MaxCompletionTokens))) {
        (true, true) => CapNames::MaxCompletionTokens,
        (true, false) => CapNames::Neither,
        (false, true) => CapNames::Either,
        (false, false) => CapNames::MaxTokens,
    }
}

/// The first thing that a request needs and a backend does not know, where no other word would do.
#[must_use]
pub fn missing(style: &Style, family: Family, operation: Operation, request: &Request<'_>) -> Option<Since> {
    let needs = |since: &&Since| match since.feature {
        Feature::Operation(other) => other == operation,
        Feature::Field(other, field) => {
            other == operation
                && match field {
                    Field::MaxCompletionTokens => {
                        // Elsewhere it goes as `max_tokens`.
                        family.reasons()
                            && (request.cap(CapField::MaxTokens).is_some() || request.carries(field))
                    }
                    field => request.carries(field),
                }
        }
    };
    unknown(style).iter().find(needs).copied()
}

#[cfg(test)]
mod tests;

//! What does a backend understand: which operations, which fields, and the cap under which name?
//!
//! A server answers what it does not know with 400, and of Azure's dated API versions the older know less. Every such fact
//! stands in this file and nowhere else. Azure's v1 and servers that speak OpenAI's API know everything: they have no
//! version to tell by. What a model refuses wherever it is served, as a reasoning model does `temperature`, is the
//! backend's to say. Not decided here: what becomes of a request that a backend does not understand.

use crate::endpoint::{ApiVersion, Operation, Style};
use crate::request::{CapField, CapNames, Family, Field, Request};

/// Something that a backend may not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A path.
    Operation(Operation),
    /// A member of a body, for one operation.
    Field(Operation, Field),
}

/// A feature, and which of Azure's dated API versions have it. Previews and versions proper (GA) are two rows: a version proper lacks
/// what only the previews before it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// What.
    pub feature: Feature,
    /// The first preview that has it.
    pub preview: &'static str,
    /// The first version proper that has it, or of which no source says that it has not; `None` if none of them has.
    pub proper: Option<&'static str>,
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

const fn since(preview: &'static str, proper: Option<&'static str>, feature: Feature) -> Since {
    Since { feature, preview, proper }
}

const fn chat(field: Field) -> Feature {
    Feature::Field(Operation::ChatCompletions, field)
}

const STREAMED_COMPLETIONS: Feature = Feature::Field(Operation::Completions, Field::StreamOptions);

/// The last of the versions proper.
const LAST: Option<&str> = Some("2024-10-21");

/// What Azure's dated versions learnt, the oldest first. What they all know is not here.
///
/// Previews are by the list of changes, <https://learn.microsoft.com/azure/ai-services/openai/api-version-lifecycle>. Versions proper are
/// by `stable/VERSION/inference.yaml` beside [`AZURE_VERSIONS`]' source, where nothing else is said.
static AZURE: [Since; 17] = [
    // The examples of stable/2024-02-01 have both.
    since("2023-09-01-preview", Some("2024-02-01"), Feature::Operation(Operation::Transcriptions)),
    since("2023-09-01-preview", Some("2024-02-01"), Feature::Operation(Operation::Translations)),
    // In stable/2024-10-21 and the examples of 2024-06-01; of 2024-02-01 no source was found.
    since("2023-12-01-preview", Some("2024-02-01"), Feature::Operation(Operation::ImageGenerations)),
    // stable/2024-10-21 has no such path. There are examples beside it, which are generated for all versions after the preview.
    since("2024-02-15-preview", None, Feature::Operation(Operation::Speech)),
    since("2024-09-01-preview", LAST, chat(Field::MaxCompletionTokens)),
    // By Azure.AI.OpenAI 2.1.0, of this version: <https://newreleases.io/project/github/Azure/azure-sdk-for-net/release/Azure.AI.OpenAI_2.1.0>
    since("2024-09-01-preview", LAST, chat(Field::ParallelToolCalls)),
    since("2024-09-01-preview", LAST, chat(Field::StreamOptions)),
    since("2024-09-01-preview", LAST, STREAMED_COMPLETIONS),
    // No description has its path, of previews neither.
    since("2024-10-01-preview", LAST, Feature::Operation(Operation::Realtime)),
    since("2024-12-01-preview", None, chat(Field::Store)),
    since("2024-12-01-preview", None, chat(Field::Metadata)),
    since("2024-12-01-preview", None, chat(Field::ReasoningEffort)),
    since("2025-01-01-preview", None, chat(Field::Prediction)),
    since("2025-03-01-preview", None, Feature::Operation(Operation::Responses)),
    since("2025-03-01-preview", None, Feature::Operation(Operation::Compact)),
    since("2025-03-01-preview", None, Feature::Operation(Operation::InputTokens)),
    since("2025-04-01-preview", None, Feature::Operation(Operation::ImageEdits)),
];

impl Since {
    /// Which versions have it.
    #[must_use]
    pub fn words(&self) -> String {
        let later = if self.proper.is_some() { "or later" } else { "or a later preview" };
        format!("{} {later}", self.preview)
    }

    /// Of a version that Azure is not known to have nothing is known, so it may have all.
    fn is_in(&self, version: &ApiVersion) -> bool {
        if !AZURE_VERSIONS.contains(&version.text()) {
            return true;
        }
        // Dates in this form sort as text.
        let first = if version.is_preview() { Some(self.preview) } else { self.proper };
        first.is_some_and(|first| version.text() >= first)
    }
}

/// What a backend of this style does not know, of what its API has.
fn unknown(style: &Style) -> impl Iterator<Item = Since> + '_ {
    let version = if let Style::Azure(version) = style { Some(version) } else { None };
    AZURE.iter().copied().filter(move |since| version.is_some_and(|version| !since.is_in(version)))
}

fn knows(style: &Style, feature: Feature) -> bool {
    unknown(style).all(|since| since.feature != feature)
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
    let needs = |since: &Since| match since.feature {
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
    unknown(style).find(needs)
}

#[cfg(test)]
mod tests;

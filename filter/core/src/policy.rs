//! May the client ask for this much?
//!
//! Bounds `n`, `best_of` and the three names of `max_tokens`: a value over the bound is clamped or refused, an absent one
//! gets the default. Not decided here: whether there is budget for it.

use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::request::{CapField, Ceiling, Count, Family, Request};

/// What a request that names no cap is taken to produce at the most, when the policy sets no default either. An
/// assumption for the reservation only: nothing is written into the body.
pub const COMPLETION_TOKENS_ASSUMED: u32 = 1024;

/// The same for legacy completions, whose API has a default of its own.
/// <https://platform.openai.com/docs/api-reference/completions/create#completions-create-max_tokens>
pub const LEGACY_COMPLETION_TOKENS: u32 = 16;

/// What an image is taken to produce: that of gpt-image-1 in high quality, square.
/// <https://platform.openai.com/docs/guides/image-generation#cost-and-latency>
pub const IMAGE_TOKENS: u32 = 4160;

/// The longest body a client may send if its policy does not say.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What happens to a value over its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It is lowered to the bound.
    Clamp,
    /// The request is refused.
    Reject,
}

/// A bound on one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Written into a request that does not say.
    pub default: Option<u32>,
    /// The most that is allowed.
    pub max: Option<u32>,
    /// What happens above it.
    pub over: Over,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Completion tokens of one candidate, whichever name the field has.
    pub max_tokens: Option<Bound>,
    /// Candidates generated, all billed.
    pub best_of: Option<Bound>,
    /// Choices.
    pub n: Option<Bound>,
    /// Length of a body.
    pub request_bytes_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { max_tokens: None, best_of: None, n: None, request_bytes_max: REQUEST_BYTES_MAX }
    }
}

/// Holds a request to a policy, editing it where the policy says so.
pub fn apply(
    policy: &Policy,
    operation: Operation,
    family: Family,
    request: &mut Request<'_>,
) -> Result<Ceiling, Denial> {
    let (n, best_of) = (request.n.clone(), request.best_of.clone());
    let n = bound(policy.n, request, &n)?.unwrap_or(1);
    if !CapField::ALL.iter().any(|field| field.is_read_by(operation)) {
        return Ok(Ceiling { candidates: n.max(1), ..unread_ceiling(operation) });
    }
    if request.cap(CapField::MaxTokens).value.is_some()
        && request.cap(CapField::MaxCompletionTokens).value.is_some()
    {
        return Err(Denial::Exclusive(CapField::MaxTokens.name(), CapField::MaxCompletionTokens.name()));
    }
    // Every name is held to the bound, for a server might read any of them; what is produced is decided by those that
    // the operation documents.
    let mut cap = None;
    for field in CapField::ALL {
        let count = request.cap(field).clone();
        if count.value.is_some() {
            let bounded = bound(policy.max_tokens, request, &count)?;
            if field.is_read_by(operation) {
                cap = bounded;
            }
        }
    }
    if cap.is_none() {
        let count = request.cap(family.cap_field(operation)).clone();
        cap = bound(policy.max_tokens, request, &count)?;
    }
    let best_of = if operation == Operation::Completions || best_of.value.is_some() {
        bound(policy.best_of, request, &best_of)?.unwrap_or(1)
    } else {
        1
    };
    let (assumed, prompts) = match operation {
        Operation::Completions => (LEGACY_COMPLETION_TOKENS, request.prompts()?),
        _ => (COMPLETION_TOKENS_ASSUMED, 1),
    };
    Ok(Ceiling {
        completion_tokens: cap.unwrap_or(assumed),
        candidates: n.max(best_of).max(1).saturating_mul(prompts),
    })
}

/// The ceiling of an operation that reads no cap.
#[must_use]
pub fn unread_ceiling(operation: Operation) -> Ceiling {
    let completion_tokens = match operation {
        Operation::ImageGenerations | Operation::ImageEdits => IMAGE_TOKENS,
        Operation::Transcriptions | Operation::Translations => COMPLETION_TOKENS_ASSUMED,
        _ => 0,
    };
    Ceiling { completion_tokens, candidates: 1 }
}

/// The value that goes upstream, if one is known.
fn bound<'a>(
    bound: Option<Bound>,
    request: &mut Request<'a>,
    count: &Count<'a>,
) -> Result<Option<u32>, Denial> {
    let Some(bound) = bound else { return Ok(count.value) };
    let max = bound.max.unwrap_or(u32::MAX);
    match (count.value, bound.over) {
        (Some(asked), Over::Reject) if asked > max => {
            Err(Denial::AboveMax { field: count.field, max, asked })
        }
        (Some(asked), Over::Clamp) if asked > max => {
            request.set_count(count, max);
            Ok(Some(max))
        }
        (Some(asked), _) => Ok(Some(asked)),
        (None, _) => {
            if let Some(default) = bound.default {
                request.set_count(count, default);
            }
            Ok(bound.default)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn policy() -> Policy {
        Policy {
            max_tokens: Some(Bound { default: Some(100), max: Some(500), over: Over::Clamp }),
            best_of: Some(Bound { default: None, max: Some(2), over: Over::Reject }),
            n: Some(Bound { default: None, max: Some(3), over: Over::Clamp }),
            ..Policy::default()
        }
    }

    /// The body after the policy, its ceiling in tokens × candidates, or the code of the refusal.
    fn outcome(operation: Operation, family: Family, body: &str) -> Result<(String, u32, u32), &'static str> {
        let mut request = Request::read(body.as_bytes()).unwrap();
        let ceiling = apply(&policy(), operation, family, &mut request).map_err(|denial| denial.code())?;
        let mut after = body.to_owned();
        if let Some(patch) = request.patch() {
            after = String::from_utf8(patch.bytes).unwrap() + &body[patch.replaced..];
        }
        Ok((after, ceiling.completion_tokens, ceiling.candidates))
    }

    #[track_caller]
    fn check(
        operation: Operation,
        family: Family,
        body: &str,
        expected: Result<(&str, u32, u32), &'static str>,
    ) {
        let found = outcome(operation, family, body);
        assert_eq!(found, expected.map(|(body, tokens, candidates)| (body.to_owned(), tokens, candidates)));
    }

    #[test]
    fn a_value_over_the_bound_is_clamped_or_refused() {
        use Operation::*;
        let gpt4 = Family::Gpt4;
        check(ChatCompletions, gpt4, r#"{"max_tokens":501}"#, Ok((r#"{"max_tokens":500}"#, 500, 1)));
        check(ChatCompletions, gpt4, r#"{"max_tokens":500}"#, Ok((r#"{"max_tokens":500}"#, 500, 1)));
        check(
            ChatCompletions,
            gpt4,
            r#"{"n":9,"max_completion_tokens":7}"#,
            Ok((r#"{"n":3,"max_completion_tokens":7}"#, 7, 3)),
        );
        check(Completions, gpt4, r#"{"best_of":3,"max_tokens":1}"#, Err("parameter_above_maximum"));
        check(
            Completions,
            gpt4,
            r#"{"best_of":2,"max_tokens":1}"#,
            Ok((r#"{"best_of":2,"max_tokens":1}"#, 1, 2)),
        );
        check(Responses, gpt4, r#"{"max_output_tokens":900}"#, Ok((r#"{"max_output_tokens":500}"#, 500, 1)));
    }

    #[test]
    fn every_name_of_the_cap_is_held_whatever_the_operation() {
        let body = r#"{"max_output_tokens":900,"max_tokens":600}"#;
        let after = r#"{"max_output_tokens":500,"max_tokens":500}"#;
        check(Operation::ChatCompletions, Family::Gpt4, body, Ok((after, 500, 1)));
    }

    #[test]
    fn an_absent_cap_gets_the_default_under_the_name_the_model_reads() {
        use Operation::*;
        check(ChatCompletions, Family::Gpt4, "{}", Ok((r#"{"max_tokens":100}"#, 100, 1)));
        check(ChatCompletions, Family::Gpt5, "{}", Ok((r#"{"max_completion_tokens":100}"#, 100, 1)));
        check(ChatCompletions, Family::OSeries, "{}", Ok((r#"{"max_completion_tokens":100}"#, 100, 1)));
        check(Completions, Family::Gpt5, "{}", Ok((r#"{"max_tokens":100}"#, 100, 1)));
        check(Responses, Family::Gpt4, "{}", Ok((r#"{"max_output_tokens":100}"#, 100, 1)));
        check(Embeddings, Family::Gpt4, "{}", Ok(("{}", 0, 1)));
        check(ImageGenerations, Family::Gpt4, r#"{"n":2}"#, Ok((r#"{"n":2}"#, IMAGE_TOKENS, 2)));
        check(Speech, Family::Gpt4, "{}", Ok(("{}", 0, 1)));
        check(ChatCompletions, Family::Gpt4, r#"{"max_tokens":null}"#, Ok((r#"{"max_tokens":100}"#, 100, 1)));
    }

    #[test]
    fn a_cap_that_the_operation_does_not_read_is_none() {
        let body = r#"{"max_output_tokens":1}"#;
        let after = r#"{"max_tokens":100,"max_output_tokens":1}"#;
        check(Operation::ChatCompletions, Family::Gpt4, body, Ok((after, 100, 1)));
        check(Operation::Completions, Family::Gpt4, body, Ok((after, 100, 1)));
    }

    #[test]
    fn each_prompt_of_a_legacy_completion_is_completed() {
        for (prompt, prompts) in
            [(r#""a""#, 1), (r#"["a","b"]"#, 2), ("[1,2,3]", 1), ("[[1,2],[3]]", 2), ("[]", 1)]
        {
            let body = format!(r#"{{"max_tokens":5,"prompt":{prompt},"n":2}}"#);
            check(Operation::Completions, Family::Gpt4, &body, Ok((&body, 5, 2 * prompts)));
        }
    }

    #[test]
    fn two_caps_for_one_model_are_refused() {
        let body = r#"{"max_tokens":1,"max_completion_tokens":1}"#;
        check(Operation::ChatCompletions, Family::Gpt4, body, Err("mutually_exclusive_parameters"));
    }

    #[test]
    fn without_a_policy_the_body_stays_and_the_reservation_assumes() {
        let mut request = Request::read(b"{}").unwrap();
        let ceiling =
            apply(&Policy::default(), Operation::ChatCompletions, Family::Gpt4, &mut request).unwrap();
        assert_eq!(ceiling, Ceiling { completion_tokens: COMPLETION_TOKENS_ASSUMED, candidates: 1 });
        assert_eq!(request.patch(), None);
    }
}

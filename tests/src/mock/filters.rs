//! What Azure's content filter found: nothing, every time. It is here because a gateway must read past it.

use serde::Serialize;

/// `content_filter_results` of a choice.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Findings {
    hate: Finding,
    self_harm: Finding,
    sexual: Finding,
    violence: Finding,
}

/// An element of `prompt_filter_results`.
#[derive(Clone, Copy, Serialize)]
pub(super) struct PromptFindings {
    prompt_index: u64,
    content_filter_results: Findings,
}

/// `content_filter_results` of a choice in a stream: empty where there is nothing new to judge.
#[derive(Clone, Copy, Serialize)]
pub(super) struct NoFindings {}

#[derive(Clone, Copy, Serialize)]
struct Finding {
    filtered: bool,
    severity: &'static str,
}

const SAFE: Finding = Finding { filtered: false, severity: "safe" };

pub(super) const CHOICE: Findings = Findings { hate: SAFE, self_harm: SAFE, sexual: SAFE, violence: SAFE };

pub(super) const PROMPT: [PromptFindings; 1] =
    [PromptFindings { prompt_index: 0, content_filter_results: CHOICE }];

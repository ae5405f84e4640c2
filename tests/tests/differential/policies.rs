//! Which policies and requests are tried.

use tollgate::endpoint::Operation;
use tollgate::number::Decimal;
use tollgate::policy::{
    Asked, Bound, EFFORTS, Levels, Mode, Over, Permission, Policy, PromptBounds, Quota, Range, Streaming,
    VERBOSITIES,
};
use tollgate::request::{CapNames, Family};

use super::bodies::Dice;

/// Every rule there is, each of a kind that is thrown for.
pub fn pick(dice: &mut Dice) -> Policy {
    if dice.one_in(8) {
        return Policy { mode: dice.pick(&[Mode::Enforce, Mode::Audit]), ..Policy::default() };
    }
    let over = dice.pick(&[Over::Clamp, Over::Clamp, Over::Reject]);
    let bound = |default, max| Some(Bound { default, max: Some(max), over });
    let range = |min, max| Some(Range { min: Decimal::new(min), max: Decimal::new(max), over });
    let permission = dice.pick(&[Permission::Drop, Permission::Drop, Permission::Forbid]);
    let quota = dice.pick(&[Quota::Max(2), Quota::Max(2), Quota::Forbid]);
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let words = |words: &[&str]| Some(list(words));
    Policy {
        mode: dice.pick(&[Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Audit]),
        max_tokens: bound(Some(100), 500),
        best_of: bound(dice.pick(&[None, Some(1)]), 4),
        n: bound(None, 3),
        temperature: range(0.0, 1.0),
        top_p: range(0.1, 0.9),
        logprobs: dice.pick(&[Permission::Allow, permission]),
        top_logprobs: bound(None, 5),
        echo: permission,
        logit_bias: quota,
        seed: permission,
        tools: quota,
        response_format: words(&["text", "json_object"]),
        image_parts: quota,
        audio_parts: Quota::Max(2),
        file_parts: Quota::Max(2),
        stream: dice.pick(&[Streaming::Allow, Streaming::Allow, Streaming::Force, Streaming::Forbid]),
        store: permission,
        background: Permission::Drop,
        service_tier: words(&["auto", "default", "flex"]),
        reasoning_effort: Some(Levels {
            order: list(&EFFORTS),
            allowed: list(&["low", "medium"]),
            over,
            default: dice.pick(&[None, Some("low".to_owned())]),
        }),
        verbosity: Some(Levels {
            order: list(&VERBOSITIES),
            allowed: list(&["low"]),
            over,
            default: dice.pick(&[None, Some("low".to_owned())]),
        }),
        tool_types: dice.pick(&[None, words(&["function", "web_search", "mcp", "namespace"])]),
        mcp_hosts: dice.pick(&[None, words(&["a.com", "*.b.com"])]),
        mcp_connectors: dice.pick(&[None, words(&["connector_gmail"])]),
        data_sources: dice.pick(&[Permission::Allow, permission]),
        data_source_types: dice.pick(&[None, words(&["azure_search"])]),
        max_tool_calls: bound(dice.pick(&[None, Some(1)]), 5),
        reasoning_mode: words(&["standard"]),
        prompt_cache_retention: words(&["in_memory"]),
        context_management: permission,
        safety_identifier: permission,
        prompt_cache_key: Permission::Drop,
        prompt_cache_options: Permission::Drop,
        prompt: PromptBounds { messages_max: Some(3), ..PromptBounds::default() },
        ..Policy::default()
    }
}

/// For which operation and model, and under which names that takes its cap.
pub fn asked(dice: &mut Dice) -> (Asked, CapNames) {
    use Operation::{ChatCompletions, Completions, Embeddings, Responses};
    let (family, cap_names) = dice.pick(&[
        (Family::Gpt4, CapNames::Either),
        (Family::Gpt4, CapNames::MaxTokens),
        (Family::Gpt5, CapNames::MaxCompletionTokens),
    ]);
    let operation = dice.pick(&[ChatCompletions, ChatCompletions, Responses, Completions, Embeddings]);
    (Asked { operation, family, prompt_tokens: 0 }, cap_names)
}

//! Anthropic's Messages: whole, as a stream, and counted only.
//!
//! <https://platform.claude.com/docs/en/api/messages>, <https://platform.claude.com/docs/en/build-with-claude/streaming>.
//! What was cached is no part of `input_tokens` there.

use serde_json::{Value, json};

use super::answer::{self, Answer, Content, Event, Produced, Request, Script};
use super::endpoint::Operation;
use super::fields::kind;
use super::limiter;
use super::refusal::Refusal;
use super::settings::Settings;
use super::tokens::{self, Completion};
use super::usage::Usage;

pub(super) fn answer(request: &Request, settings: &Settings) -> Result<Answer, Refusal> {
    let fields = &request.fields;
    // It takes no field that it does not know.
    fields.refuse(&["n", "best_of", "max_completion_tokens", "stream_options", "prompt", "input", "user"])?;
    let messages = messages(request)?;
    fields.required("max_tokens")?;
    let cap = fields.integer("max_tokens", 1..=u64::from(u32::MAX))?;
    if let (Some(cap), Some(budget)) =
        (cap, fields.value("thinking").and_then(|it| it["budget_tokens"].as_u64()))
        && budget >= cap
    {
        let message = "`max_tokens` must be greater than `thinking.budget_tokens`.";
        return Err(Refusal::invalid(400, message, None, None));
    }
    let completion = tokens::completion(cap, settings);
    let reasoning = completion.reasoning(settings);
    let prompt = tokens::chat(&messages);
    let usage = Usage { completion: completion.tokens, reasoning, ..Usage::of_prompt(prompt, settings) };
    let words = tokens::echo(&tokens::last_user_text(&messages), completion.tokens - reasoning);
    let message = Message { request, completion, words, usage };
    let content = match fields.boolean("stream")? {
        true => Content::Stream(message.stream()),
        false => Content::Json(answer::json(&message.whole())),
    };
    let cost = limiter::cost(prompt, cap);
    Ok(Answer { operation: Operation::Messages, model: request.model.clone(), usage, cost, content })
}

/// How long a prompt is; it costs nothing.
pub(super) fn count(request: &Request, _: &Settings) -> Result<Answer, Refusal> {
    let counted = json!({ "input_tokens": tokens::chat(&messages(request)?) });
    Ok(Answer {
        operation: Operation::CountTokens,
        model: request.model.clone(),
        usage: Usage::default(),
        cost: 0,
        content: Content::Json(answer::json(&counted)),
    })
}

/// What a chat would call its messages: `system` is the first of them.
fn messages(request: &Request) -> Result<Vec<Value>, Refusal> {
    let fields = &request.fields;
    let system = fields.value("system").map(|system| json!({ "role": "system", "content": system }));
    let Value::Array(messages) = fields.required("messages")? else {
        return Err(Refusal::wrong_type("messages", "an array", kind(fields.required("messages")?)));
    };
    Ok(system.into_iter().chain(messages.iter().cloned()).collect())
}

/// All that an answer says, in whichever form.
struct Message<'a> {
    request: &'a Request,
    completion: Completion,
    words: Vec<String>,
    usage: Usage,
}

impl Message<'_> {
    fn stop_reason(&self) -> &'static str {
        if self.completion.cut { "max_tokens" } else { "end_turn" }
    }

    fn usage(&self, output_tokens: u64) -> Value {
        let Usage { prompt, cached, .. } = self.usage;
        json!({
            "input_tokens": prompt - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        })
    }

    fn object(&self, content: &Value, stop_reason: Option<&str>, output_tokens: u64) -> Value {
        json!({
            "id": format!("msg_{}", self.request.id),
            "type": "message",
            "role": "assistant",
            "model": self.request.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "usage": self.usage(output_tokens),
        })
    }

    fn whole(&self) -> Value {
        let content = json!([{ "type": "text", "text": self.words.concat() }]);
        let mut whole = self.object(&content, Some(self.stop_reason()), self.usage.completion);
        whole["usage"]["output_tokens_details"] = json!({ "thinking_tokens": self.usage.reasoning });
        whole
    }

    fn stream(&self) -> Vec<Event> {
        let mut script = Script::default();
        let event = |script: &mut Script, data: &Value| {
            script.named_event(data["type"].as_str().unwrap_or_default(), data);
        };
        // A token has been produced when the first event is sent, by what the API says.
        let start = json!({ "type": "message_start", "message": self.object(&json!([]), None, 1) });
        event(&mut script, &start);
        let block = json!({ "type": "text", "text": "" });
        event(&mut script, &json!({ "type": "content_block_start", "index": 0, "content_block": block }));
        event(&mut script, &json!({ "type": "ping" }));
        script.produce(Produced { completion: self.usage.reasoning, reasoning: self.usage.reasoning });
        for word in &self.words {
            script.produce(Produced { completion: 1, reasoning: 0 });
            let delta = json!({ "type": "text_delta", "text": word });
            event(&mut script, &json!({ "type": "content_block_delta", "index": 0, "delta": delta }));
        }
        event(&mut script, &json!({ "type": "content_block_stop", "index": 0 }));
        let details = json!({ "thinking_tokens": self.usage.reasoning });
        let usage = json!({ "output_tokens": self.usage.completion, "output_tokens_details": details });
        let delta = json!({ "stop_reason": self.stop_reason(), "stop_sequence": null });
        event(&mut script, &json!({ "type": "message_delta", "delta": delta, "usage": usage }));
        event(&mut script, &json!({ "type": "message_stop" }));
        script.end()
    }
}

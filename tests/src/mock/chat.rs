//! Chat completions.

use serde::Serialize;
use serde_json::Value;

use super::answer::{Answer, CREATED, Content, Event, Produced, Request, Script, json};
use super::endpoint::{Dialect, Operation};
use super::fields::{Delivery, Fields, kind};
use super::filters::{self, Findings, NoFindings, PromptFindings};
use super::limiter;
use super::models;
use super::refusal::Refusal;
use super::settings::Settings;
use super::tokens::{self, Completion};
use super::usage::{ChatUsage, Usage};

/// OpenAI's own bound for `n`.
const N_MAX: u64 = 128;

pub(super) fn answer(request: &Request, settings: &Settings) -> Result<Answer, Refusal> {
    let fields = &request.fields;
    fields.refuse(&["best_of", "max_output_tokens", "prompt", "input"])?;
    let messages = messages(fields)?;
    let cap = cap(request)?;
    let n = fields.integer("n", 1..=N_MAX)?.unwrap_or(1);
    let delivery = fields.delivery(&request.endpoint)?;

    let completion = tokens::completion(cap, settings);
    let reasoning = completion.reasoning(settings);
    let prompt = tokens::chat(messages);
    let usage = Usage {
        completion: n * completion.tokens,
        reasoning: n * reasoning,
        ..Usage::of_prompt(prompt, settings)
    };
    let words = tokens::echo(&tokens::last_user_text(messages), completion.tokens - reasoning);
    let chat = Chat { request, n, completion, reasoning, words, usage };
    let content = match delivery {
        Delivery::Whole => Content::Json(chat.whole()),
        Delivery::Stream { include_usage } => Content::Stream(chat.stream(include_usage)),
    };
    let cost = limiter::cost(prompt, cap);
    Ok(Answer { operation: Operation::Chat, model: request.model.clone(), usage, cost, content })
}

fn messages(fields: &Fields) -> Result<&[Value], Refusal> {
    let value = fields.required("messages")?;
    let Value::Array(messages) = value else {
        return Err(Refusal::wrong_type("messages", "an array of objects", kind(value)));
    };
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty \
                       array instead.";
        return Err(Refusal::invalid(400, message, Some("messages"), Some("empty_array")));
    }
    for (at, message) in messages.iter().enumerate() {
        if !message.is_object() {
            return Err(Refusal::wrong_type(&format!("messages[{at}]"), "an object", kind(message)));
        }
        if !message["role"].is_string() {
            let field = format!("messages[{at}].role");
            return Err(Refusal::wrong_type(&field, "a string", kind(&message["role"])));
        }
    }
    Ok(messages)
}

/// Which of its two names a model's cap has is the model's affair, and the version's.
fn cap(request: &Request) -> Result<Option<u64>, Refusal> {
    let fields = &request.fields;
    let old = fields.integer("max_tokens", 1..=u64::from(u32::MAX))?;
    let new = fields.integer("max_completion_tokens", 1..=u64::from(u32::MAX))?;
    if new.is_some() && request.endpoint.predates_stream_options() {
        return Err(Refusal::unrecognized("max_completion_tokens"));
    }
    match (old, new) {
        (Some(_), Some(_)) => Err(Refusal::invalid(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            Some("max_tokens"),
            Some("invalid_parameter_combination"),
        )),
        (Some(_), None) if models::reasons(&request.model) => Err(Refusal::invalid(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' \
             instead.",
            Some("max_tokens"),
            Some("unsupported_parameter"),
        )),
        (old, new) => Ok(old.or(new)),
    }
}

/// All that an answer says, in whichever form.
struct Chat<'a> {
    request: &'a Request,
    n: u64,
    /// Of each choice.
    completion: Completion,
    reasoning: u64,
    words: Vec<String>,
    usage: Usage,
}

impl Chat<'_> {
    fn whole(&self) -> bytes::Bytes {
        let azure = self.request.endpoint.dialect == Dialect::Azure;
        let text = self.words.concat();
        let choices = (0..self.n).map(|index| Choice {
            index,
            message: Message { role: "assistant", content: &text, refusal: None },
            logprobs: None,
            finish_reason: self.completion.finish_reason(),
            content_filter_results: azure.then_some(filters::CHOICE),
        });
        json(&Whole {
            id: &format!("chatcmpl-{}", self.request.id),
            object: "chat.completion",
            created: CREATED,
            model: &self.request.model,
            prompt_filter_results: azure.then_some(&filters::PROMPT),
            choices: choices.collect(),
            usage: self.usage.for_chat(),
            system_fingerprint: FINGERPRINT,
        })
    }

    fn stream(&self, include_usage: bool) -> Vec<Event> {
        let azure = self.request.endpoint.dialect == Dialect::Azure;
        let id = format!("chatcmpl-{}", self.request.id);
        let chunk =
            |choices, usage: Option<ChatUsage>| self.chunk(&id, choices, include_usage.then_some(usage));
        let choice = |index, delta, finish_reason| ChunkChoice {
            index,
            delta,
            logprobs: None,
            finish_reason,
            content_filter_results: azure.then_some(NoFindings {}),
        };

        let mut script = Script::default();
        if azure {
            script.event(&Chunk {
                id: "",
                object: "",
                created: 0,
                model: "",
                prompt_filter_results: Some(&filters::PROMPT),
                choices: Vec::new(),
                system_fingerprint: None,
                usage: include_usage.then_some(None),
            });
        }
        for index in 0..self.n {
            // Reasoning is hidden: it is over before anything is seen.
            script.produce(Produced { completion: self.reasoning, reasoning: self.reasoning });
            let delta = Delta { role: Some("assistant"), content: Some("") };
            script.event(&chunk(vec![choice(index, delta, None)], None));
        }
        for word in &self.words {
            for index in 0..self.n {
                script.produce(Produced { completion: 1, reasoning: 0 });
                let delta = Delta { role: None, content: Some(word) };
                script.event(&chunk(vec![choice(index, delta, None)], None));
            }
        }
        for index in 0..self.n {
            let end = choice(index, Delta::default(), Some(self.completion.finish_reason()));
            script.event(&chunk(vec![end], None));
        }
        if include_usage {
            script.event(&chunk(Vec::new(), Some(self.usage.for_chat())));
        }
        script.done()
    }

    /// Where usage is asked for, every chunk has the field, and only one has something in it.
    fn chunk<'b>(
        &'b self,
        id: &'b str,
        choices: Vec<ChunkChoice<'b>>,
        usage: Option<Option<ChatUsage>>,
    ) -> Chunk<'b> {
        Chunk {
            id,
            object: "chat.completion.chunk",
            created: CREATED,
            model: &self.request.model,
            prompt_filter_results: None,
            choices,
            system_fingerprint: Some(FINGERPRINT),
            usage,
        }
    }
}

const FINGERPRINT: &str = "fp_mock";

#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_filter_results: Option<&'static [PromptFindings; 1]>,
    choices: Vec<Choice<'a>>,
    usage: ChatUsage,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_filter_results: Option<Findings>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_filter_results: Option<&'static [PromptFindings; 1]>,
    choices: Vec<ChunkChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<ChatUsage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u64,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_filter_results: Option<NoFindings>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

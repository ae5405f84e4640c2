//! The Responses API: what is generated. That what a request refers to is there has been seen by then.

use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{self, Answer, Background, CREATED, Content, Event, Produced, Request, Script};
use super::endpoint::Operation;
use super::fields::kind;
use super::kept;
use super::limiter;
use super::refusal::Refusal;
use super::settings::Settings;
use super::tokens::{self, Completion};
use super::usage::{ResponsesUsage, Usage};

/// OpenAI's own bound.
const MAX_OUTPUT_TOKENS_MIN: u64 = 16;

pub(super) fn answer(request: &Request, settings: &Settings) -> Result<Answer, Refusal> {
    let fields = &request.fields;
    for (field, instead) in [
        ("max_tokens", "max_output_tokens"),
        ("max_completion_tokens", "max_output_tokens"),
        ("messages", "input"),
    ] {
        if fields.value(field).is_some() {
            let message = format!(
                "Unsupported parameter: '{field}'. In the Responses API, this parameter has moved to '{instead}'. Try \
                 again with the new parameter."
            );
            return Err(Refusal::invalid(400, &message, Some(field), Some("unsupported_parameter")));
        }
    }
    for field in ["n", "best_of"] {
        if fields.value(field).is_some() {
            return Err(unknown(field));
        }
    }
    if fields.value("stream_options").is_some_and(|options| options.get("include_usage").is_some()) {
        return Err(unknown("stream_options.include_usage"));
    }
    let messages = messages(request)?;
    let cap = fields.integer("max_output_tokens", MAX_OUTPUT_TOKENS_MIN..=u64::from(u32::MAX))?;
    let stream = fields.boolean("stream")?;

    let completion = tokens::completion(cap, settings);
    let reasoning = completion.reasoning(settings);
    let prompt = tokens::chat(&messages);
    let usage = Usage { completion: completion.tokens, reasoning, ..Usage::of_prompt(prompt, settings) };
    let words = tokens::echo(&tokens::last_user_text(&messages), completion.tokens - reasoning);
    let response = Reply { request, cap, completion, words, usage };
    let content = if stream {
        Content::Stream(response.stream())
    } else if fields.boolean("background")? {
        let object = |state| answer::json(&response.object(state));
        Content::Begun(Background {
            queued: object(State::Queued),
            ahead: vec![object(State::InProgress), object(State::ended(completion))],
            events: response.stream(),
        })
    } else {
        Content::Json(answer::json(&response.object(State::ended(completion))))
    };
    let cost = limiter::cost(prompt, cap);
    Ok(Answer { operation: Operation::Responses, model: request.model.clone(), usage, cost, content })
}

fn unknown(field: &str) -> Refusal {
    Refusal::invalid(400, &format!("Unknown parameter: '{field}'."), Some(field), Some("unknown_parameter"))
}

/// What a chat would call its messages.
fn messages(request: &Request) -> Result<Vec<Value>, Refusal> {
    let fields = &request.fields;
    let mut messages = Vec::new();
    if let Some(instructions) = fields.text("instructions")? {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    match fields.required("input")? {
        Value::String(input) => messages.push(json!({"role": "user", "content": input})),
        Value::Array(items) => messages.extend(items.iter().cloned()),
        other => return Err(Refusal::wrong_type("input", "a string or an array of items", kind(other))),
    }
    Ok(messages)
}

struct Reply<'a> {
    request: &'a Request,
    cap: Option<u64>,
    completion: Completion,
    words: Vec<String>,
    usage: Usage,
}

/// How far a response has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    InProgress,
    Completed,
    Incomplete,
}

impl State {
    fn ended(completion: Completion) -> Self {
        if completion.cut { Self::Incomplete } else { Self::Completed }
    }

    fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Incomplete)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

impl Reply<'_> {
    /// The response object as it stands in this state: usage is null until the end is known.
    fn object(&self, state: State) -> Response<'_> {
        let ended = state.is_end();
        Response {
            id: format!("resp_{}", self.request.id),
            object: "response",
            created_at: CREATED,
            status: state.name(),
            error: None,
            incomplete_details: (state == State::Incomplete)
                .then_some(Incomplete { reason: "max_output_tokens" }),
            instructions: self.request.fields.value("instructions"),
            max_output_tokens: self.cap,
            model: &self.request.model,
            output: if ended { self.output(state) } else { Vec::new() },
            parallel_tool_calls: true,
            previous_response_id: self.request.fields.value("previous_response_id"),
            conversation: self.conversation(),
            store: self.request.fields.value("store") != Some(&json!(false)),
            temperature: 1.0,
            tool_choice: "auto",
            tools: [],
            top_p: 1.0,
            truncation: "disabled",
            usage: ended.then(|| self.usage.for_responses()),
            metadata: Metadata {},
        }
    }

    fn conversation(&self) -> Option<Value> {
        let asked = self.request.fields.value("conversation")?;
        Some(if asked.is_string() { json!({ "id": asked }) } else { asked.clone() })
    }

    fn output(&self, state: State) -> Vec<Value> {
        self.reasoning().into_iter().chain([self.item(state)]).collect()
    }

    /// What the client keeps of its reasoning, and only this mock can read.
    fn reasoning(&self) -> Option<Value> {
        let asked = self.request.fields.value("include").and_then(Value::as_array);
        let is_asked = asked.is_some_and(|asked| asked.contains(&json!("reasoning.encrypted_content")));
        let Request { id, name, .. } = self.request;
        is_asked.then(|| {
            json!({
                "id": format!("rs_{id}"), "type": "reasoning", "summary": [],
                "encrypted_content": kept::blob(name, id),
            })
        })
    }

    fn item(&self, state: State) -> Value {
        let content = if state == State::InProgress { json!([]) } else { json!([self.part()]) };
        json!({
            "id": self.item_id(), "type": "message", "status": state.name(), "role": "assistant", "content": content,
        })
    }

    fn part(&self) -> Value {
        json!({"type": "output_text", "text": self.words.concat(), "annotations": []})
    }

    fn item_id(&self) -> String {
        format!("msg_{}", self.request.id)
    }

    fn stream(&self) -> Vec<Event> {
        let ended = State::ended(self.completion);
        let item_id = self.item_id();
        let mut script = Script::default();
        let mut sequence_number = 0_u64;
        let mut write = |script: &mut Script, name: &str, body: Body<'_>| {
            script.named_event(name, &Envelope { kind: name, sequence_number, body });
            sequence_number += 1;
        };
        write(
            &mut script,
            "response.created",
            Body::Response { response: Box::new(self.object(State::InProgress)) },
        );
        write(
            &mut script,
            "response.in_progress",
            Body::Response { response: Box::new(self.object(State::InProgress)) },
        );
        let reasoning = self.usage.reasoning;
        script.produce(Produced { completion: reasoning, reasoning });
        let mut output_index = 0;
        if let Some(item) = self.reasoning() {
            write(&mut script, "response.output_item.added", Body::Item { output_index, item: item.clone() });
            write(&mut script, "response.output_item.done", Body::Item { output_index, item });
            output_index += 1;
        }
        let item = self.item(State::InProgress);
        write(&mut script, "response.output_item.added", Body::Item { output_index, item });
        let part = json!({"type": "output_text", "text": "", "annotations": []});
        let place = Place { item_id: &item_id, output_index, content_index: 0 };
        write(&mut script, "response.content_part.added", Body::Part { place, part });
        for delta in &self.words {
            script.produce(Produced { completion: 1, reasoning: 0 });
            write(&mut script, "response.output_text.delta", Body::Delta { place, delta });
        }
        let text = self.words.concat();
        write(&mut script, "response.output_text.done", Body::Text { place, text: &text });
        write(&mut script, "response.content_part.done", Body::Part { place, part: self.part() });
        write(&mut script, "response.output_item.done", Body::Item { output_index, item: self.item(ended) });
        let last = format!("response.{}", ended.name());
        write(&mut script, &last, Body::Response { response: Box::new(self.object(ended)) });
        script.end()
    }
}

#[derive(Serialize)]
struct Response<'a> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    error: Option<()>,
    incomplete_details: Option<Incomplete>,
    instructions: Option<&'a Value>,
    max_output_tokens: Option<u64>,
    model: &'a str,
    output: Vec<Value>,
    parallel_tool_calls: bool,
    previous_response_id: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<Value>,
    store: bool,
    temperature: f32,
    tool_choice: &'static str,
    tools: [(); 0],
    top_p: f32,
    truncation: &'static str,
    usage: Option<ResponsesUsage>,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct Metadata {}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    sequence_number: u64,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Response {
        response: Box<Response<'a>>,
    },
    Item {
        output_index: u64,
        item: Value,
    },
    Part {
        #[serde(flatten)]
        place: Place<'a>,
        part: Value,
    },
    Delta {
        #[serde(flatten)]
        place: Place<'a>,
        delta: &'a str,
    },
    Text {
        #[serde(flatten)]
        place: Place<'a>,
        text: &'a str,
    },
}

/// Where in the response a text is.
#[derive(Clone, Copy, Serialize)]
struct Place<'a> {
    item_id: &'a str,
    output_index: u64,
    content_index: u64,
}

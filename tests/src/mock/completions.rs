//! Legacy completions: several prompts, several candidates, the best of them returned and all of them billed.

use serde::Serialize;

use super::answer::{Answer, CREATED, Content, Event, Produced, Request, Script, json};
use super::endpoint::Operation;
use super::fields::Delivery;
use super::limiter;
use super::refusal::Refusal;
use super::settings::Settings;
use super::tokens::{self, COMPLETIONS_MAX_TOKENS, Completion, Prompt};
use super::usage::{ChatUsage, Usage};

/// OpenAI's own bounds.
const N_MAX: u64 = 128;
const BEST_OF_MAX: u64 = 20;

pub(super) fn answer(request: &Request, settings: &Settings) -> Result<Answer, Refusal> {
    let fields = &request.fields;
    fields.refuse(&["max_completion_tokens", "max_output_tokens", "messages", "input"])?;
    let prompts = match fields.value("prompt") {
        Some(prompt) => Prompt::list("prompt", prompt)?,
        // The model then starts from its end-of-text token.
        None => vec![Prompt::Tokens(vec![0])],
    };
    let cap = fields.integer("max_tokens", 0..=u64::from(u32::MAX))?;
    let n = fields.integer("n", 1..=N_MAX)?.unwrap_or(1);
    let asked_best_of = fields.integer("best_of", 1..=BEST_OF_MAX)?;
    let best_of = asked_best_of.unwrap_or(n);
    let echo = fields.boolean("echo")?;
    let delivery = fields.delivery(&request.endpoint)?;
    if best_of < n {
        let message = format!(
            "You requested that the server return more choices than it will generate (n={n}, \
                               best_of={best_of}). Set 'best_of' to be greater than or equal to 'n'."
        );
        return Err(Refusal::invalid(400, &message, Some("best_of"), None));
    }
    if delivery != Delivery::Whole && asked_best_of.is_some_and(|best_of| best_of > 1) {
        return Err(Refusal::invalid(400, "Cannot stream results with best_of > 1.", Some("best_of"), None));
    }

    let completion = tokens::completion(Some(cap.unwrap_or(COMPLETIONS_MAX_TOKENS)), settings);
    let prompt = prompts.iter().map(Prompt::tokens).sum();
    let candidates = prompts.len() as u64 * best_of;
    let usage = Usage { completion: candidates * completion.tokens, ..Usage::of_prompt(prompt, settings) };
    let texts = prompts
        .iter()
        .flat_map(|prompt| {
            let text = Text {
                echo: if echo { prompt.text().to_owned() } else { String::new() },
                words: tokens::echo(prompt.text(), completion.tokens),
            };
            std::iter::repeat_n(text, usize::try_from(n).unwrap_or(0))
        })
        .collect();
    let completions = Completions { request, completion, texts, usage };
    let content = match delivery {
        Delivery::Whole => Content::Json(completions.whole()),
        Delivery::Stream { include_usage } => Content::Stream(completions.stream(include_usage)),
    };
    let cost = limiter::cost(prompt, cap);
    Ok(Answer { operation: Operation::Completions, model: request.model.clone(), usage, cost, content })
}

struct Completions<'a> {
    request: &'a Request,
    /// Of each candidate.
    completion: Completion,
    /// Of each choice, the first prompt's before the second's.
    texts: Vec<Text>,
    usage: Usage,
}

#[derive(Clone)]
struct Text {
    echo: String,
    words: Vec<String>,
}

impl Completions<'_> {
    fn whole(&self) -> bytes::Bytes {
        let texts: Vec<String> =
            self.texts.iter().map(|text| text.echo.clone() + &text.words.concat()).collect();
        let choices = texts.iter().enumerate().map(|(index, text)| Choice {
            text,
            index,
            logprobs: None,
            finish_reason: Some(self.completion.finish_reason()),
        });
        json(&self.body(&self.id(), choices.collect(), Some(Some(self.usage.for_chat()))))
    }

    fn stream(&self, include_usage: bool) -> Vec<Event> {
        let id = self.id();
        let chunk = |index, text, finish_reason| {
            let choice = Choice { text, index, logprobs: None, finish_reason };
            self.body(&id, vec![choice], include_usage.then_some(None))
        };
        let mut script = Script::default();
        for (index, text) in self.texts.iter().enumerate().filter(|(_, text)| !text.echo.is_empty()) {
            script.event(&chunk(index, &text.echo, None));
        }
        let length = self.texts.first().map_or(0, |text| text.words.len());
        for at in 0..length {
            for (index, word) in
                self.texts.iter().enumerate().filter_map(|(index, text)| Some((index, text.words.get(at)?)))
            {
                script.produce(Produced { completion: 1, reasoning: 0 });
                script.event(&chunk(index, word, None));
            }
        }
        for index in 0..self.texts.len() {
            script.event(&chunk(index, "", Some(self.completion.finish_reason())));
        }
        if include_usage {
            script.event(&self.body(&id, Vec::new(), Some(Some(self.usage.for_chat()))));
        }
        script.done()
    }

    fn id(&self) -> String {
        format!("cmpl-{}", self.request.id)
    }

    fn body<'b>(
        &'b self,
        id: &'b str,
        choices: Vec<Choice<'b>>,
        usage: Option<Option<ChatUsage>>,
    ) -> Body<'b> {
        Body { id, object: "text_completion", created: CREATED, model: &self.request.model, choices, usage }
    }
}

/// Whole answers and chunks look alike.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    /// In a stream: absent if not asked for, null except in the last chunk if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<ChatUsage>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    text: &'a str,
    index: usize,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

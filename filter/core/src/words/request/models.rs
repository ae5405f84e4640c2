//! Which models does a request name besides its own?
//!
//! A tool may name the model that it works with, a grader the one that grades, an index the one that embeds. So a member
//! that is called as those are names a model wherever it stands, but for what is the user's own: texts, schemas, data, and
//! the functions that only the client can call. What names several, of which a server takes whichever it likes, is
//! refused. Not decided here: whether the client may use them.
//!
//! OpenAI: `tools[].model`, `tools[].svg.model`, `svg.model`, `moderation.model`, and in what evaluates and trains
//! `data_source.model`, `testing_criteria[].model`, `method.reinforcement.grader.model`
//! (<https://github.com/openai/openai-python/tree/main/src/openai/types>, 3.57.0). Azure On Your Data:
//! `data_sources[].parameters.embedding_dependency.deployment_name`
//! (<https://learn.microsoft.com/azure/ai-foundry/openai/references/on-your-data>). Lists of models:
//! <https://openrouter.ai/docs/guides/routing/model-fallbacks>,
//! <https://docs.litellm.ai/docs/proxy/client_side_fallbacks>.

use super::{Field, Request, string, there};
use crate::denial::Denial;
use crate::json::{self, Fault, Found, Member, Names};
use memchr::{memchr, memchr_iter};
use std::borrow::Cow;

/// How deep a model is looked for.
const DEPTH_MAX: usize = 32;

/// The longest way to write a name that we look for, every letter escaped.
const WRITTEN_BYTES_MAX: usize = 6 * 32;

/// Members that name one model, and then those that name several.
static NAMES: Names<6> =
    Names::new(["model", "deployment_name", "models", "fallbacks", "fallback_models", "model_list"]);

/// How many of [`NAMES`] name one.
const ONE: usize = 2;

/// The same, and what tells a function from another tool.
static WITH_TYPE: Names<7> =
    Names::new(["model", "deployment_name", "models", "fallbacks", "fallback_models", "model_list", "type"]);

/// Members at the top of a body, and parameters of a query, that say to some server which model or which backend it is to use: OpenAI's older SDKs,
/// LiteLLM (<https://docs.litellm.ai/docs/proxy/clientside_auth>), OpenRouter
/// (<https://openrouter.ai/docs/guides/features/presets>), Azure's agents
/// (<https://learn.microsoft.com/azure/ai-foundry/agents/>), Anthropic, which is told a region
/// (<https://platform.claude.com/docs/en/build-with-claude/data-residency>).
static ELSEWHERE: Names<11> = Names::new([
    "agent",
    "agent_reference",
    "api_base",
    "base_url",
    "content_policy_fallbacks",
    "context_window_fallbacks",
    "deployment_id",
    "engine",
    "inference_geo",
    "preset",
    "user_config",
]);

/// Members that are the user's own.
const FOREIGN: [&str; 23] = [
    "attributes",
    "chat_template_kwargs",
    "content",
    "documents",
    "functions",
    "guided_json",
    "input_examples",
    "input_schema",
    "item",
    "item_schema",
    "json_schema",
    "messages",
    "metadata",
    "output",
    "prediction",
    "prompt",
    "properties",
    "sample",
    "schema",
    "structured_outputs",
    "svg_usage",
    "usage",
    "variables",
];

/// A tool of these types is the client's own.
const OWN_TOOLS: [&str; 2] = ["function", "custom"];

/// A model that is named somewhere in a body.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// Where.
    pub member: Member<'a>,
    /// As it is named there.
    pub name: Cow<'a, str>,
    /// Whether it is the model that is asked, at the top of the body.
    pub is_own: bool,
}

impl<'a> Request<'a> {
    /// The models that it names besides its own. `allowed` are members that may name any.
    pub fn named(&self, allowed: &[String]) -> Result<Vec<Named<'a>>, Denial> {
        let mut search = Search { body: self.body, found: Vec::new() };
        for field in Field::ALL {
            // What was written in its place is ours.
            let value = self.raw(*field).filter(|_| self.written & (1 << *field as u64) == 0);
            search.look_into(field.name(), value.unwrap_or_default())?;
        }
        for member in self.ungoverned.iter().filter(|member| allowed.iter().all(|name| *name != member.name))
        {
            check_top(&member.name, member.value)?;
            search.look_into(&member.name, member.value)?;
        }
        Ok(search.found)
    }
}

/// All models that a body names of which nothing else is read, its own first.
pub fn models_of(body: &str) -> Result<Vec<Named<'_>>, Denial> {
    let mut search = Search { body, found: Vec::new() };
    if may_have(body, may_name_models) {
        search.value(body.trim_ascii(), 0)?;
    }
    Ok(search.found)
}

/// The models that a field of a form names: by the brackets of its name, or by the JSON in it.
pub fn models_of_field(name: &str, text: &str) -> Result<Vec<String>, Denial> {
    let base = name.split('[').next().unwrap_or_default();
    if FOREIGN.contains(&base) {
        return Ok(Vec::new());
    }
    for word in name.split(['[', ']']).skip(1) {
        match NAMES.find(word) {
            Found::Nothing => {}
            Found::Plain(at) if at < ONE => return Ok(vec![text.to_owned()]),
            Found::Plain(at) => return Err(Denial::Forbidden(NAMES.at(at))),
            Found::Disguised(at) => return Err(Fault::Disguised(NAMES.at(at)).into()),
        }
    }
    let json = text.trim_ascii();
    let is_json = json.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok();
    if !is_json {
        return Ok(Vec::new());
    }
    // It is no body of its own, so it goes nowhere else.
    let mut search = Search { body: json, found: Vec::new() };
    search.value(json, 1)?;
    Ok(search.found.into_iter().map(|named| named.name.into_owned()).collect())
}

/// The model that a query names: some servers read there what else stands in a body. It may name one once.
pub fn model_of_query<'q>(
    parameters: impl Iterator<Item = (Cow<'q, str>, Cow<'q, str>)>,
) -> Result<Option<String>, Denial> {
    let mut model = None;
    for (name, value) in parameters {
        let base = name.split('[').next().unwrap_or_default();
        if FOREIGN.contains(&base) {
            continue;
        }
        check_elsewhere(base)?;
        for word in name.split(['[', ']']) {
            match NAMES.find(word) {
                Found::Nothing => {}
                Found::Plain(at) if at < ONE => {
                    if model.replace(value.to_string()).is_some() {
                        return Err(Fault::Duplicate(NAMES.at(at)).into());
                    }
                }
                Found::Plain(at) => return Err(Denial::Forbidden(NAMES.at(at))),
                Found::Disguised(at) => return Err(Fault::Disguised(NAMES.at(at)).into()),
            }
        }
    }
    Ok(model)
}

/// Refuses what says at the top of a body that it goes elsewhere.
fn check_top(name: &str, value: &str) -> Result<(), Denial> {
    if value == "null" {
        return Ok(());
    }
    match NAMES.find(name) {
        Found::Plain(at) | Found::Disguised(at) => Err(Denial::Forbidden(NAMES.at(at))),
        Found::Nothing => check_elsewhere(name),
    }
}

fn check_elsewhere(name: &str) -> Result<(), Denial> {
    match ELSEWHERE.find(name) {
        Found::Plain(at) | Found::Disguised(at) => Err(Denial::Forbidden(ELSEWHERE.at(at))),
        Found::Nothing => Ok(()),
    }
}

/// Whether a member that is called so says to some server which model is meant.
#[must_use]
pub fn may_name_models(name: &str) -> bool {
    is_among(&NAMES, name) || is_among(&ELSEWHERE, name)
}

fn is_among<const N: usize>(names: &Names<N>, word: &str) -> bool {
    !matches!(names.find(word), Found::Nothing)
}

/// Whether a text of JSON may have a name that we look for, in whatever letters: from quote to quote, which is what most
/// requests cost.
fn may_name(json: &str) -> bool {
    may_have(json, |word| is_among(&NAMES, word))
}

fn may_have(json: &str, is_named: impl Fn(&str) -> bool) -> bool {
    let mut from = 0;
    memchr_iter(b'"', json.as_bytes()).any(|at| {
        let word = json.get(from..at).unwrap_or_default();
        from = at + 1;
        let is_escaped = || word.len() <= WRITTEN_BYTES_MAX && memchr(b'\\', word.as_bytes()).is_some();
        is_named(word) || is_escaped() && word.contains("\\u")
    })
}

struct Search<'a> {
    body: &'a str,
    found: Vec<Named<'a>>,
}

impl<'a> Search<'a> {
    /// Looks into a member at the top of a body.
    fn look_into(&mut self, name: &str, value: &'a str) -> Result<(), Denial> {
        if FOREIGN.contains(&name) || !value.starts_with(['{', '[']) || !may_name(value) {
            return Ok(());
        }
        self.value(value, 1)
    }

    fn value(&mut self, value: &'a str, depth: usize) -> Result<(), Denial> {
        const DEEP: Denial = Denial::InvalidField { field: "model", expected: "at most 32 levels deep" };
        match value.as_bytes().first() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => Err(DEEP),
            Some(b'{') => self.object(value, depth),
            Some(b'[') => {
                let elements = json::elements(value, &mut |element| self.value(element, depth + 1));
                elements.map_err(|denial| denial.unwrap_or(DEEP))
            }
            _ => Ok(()),
        }
    }

    fn object(&mut self, object: &'a str, depth: usize) -> Result<(), Denial> {
        let (object, ungoverned) = json::find_all(self.body, object, &WITH_TYPE).map_err(Denial::from)?;
        let [.., kind] = &object.members;
        let kind = kind.as_ref().and_then(|kind| serde_json::from_str::<Cow<'_, str>>(kind.value).ok());
        let is_body = depth == 0;
        if !is_body && kind.is_some_and(|kind| OWN_TOOLS.contains(&&*kind)) {
            return Ok(());
        }
        if is_body {
            ungoverned.iter().try_for_each(|member| check_top(&member.name, member.value))?;
        }
        let [model, deployment, lists @ .., _] = object.members;
        for (at, member) in lists.iter().enumerate() {
            if there(member).is_some() {
                return Err(Denial::Forbidden(NAMES.at(ONE + at)));
            }
        }
        for (at, member) in [model, deployment].into_iter().enumerate() {
            if let Some(member) = there(&member) {
                let name = string(member.value, NAMES.at(at))?;
                self.found.push(Named { member: member.clone(), name, is_own: is_body && at == 0 });
            }
        }
        for other in ungoverned.iter().filter(|other| !FOREIGN.contains(&&*other.name)) {
            self.value(other.value, depth + 1)?;
        }
        Ok(())
    }
}

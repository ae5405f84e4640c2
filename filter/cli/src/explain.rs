//! What becomes of a request?
//!
//! The request is put through the exchange that serves, with its client as the only one there is and a store that has nothing in
//! it: no budget is used, no backend pauses.

use crate::arguments::Explain;
use crate::paint::{Look, paint, print, print_json};
use crate::source::Found;
use crate::{End, check, keys, source};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::rc::Rc;
use std::time::Duration;
use tollgate::capacity::Turn;
use tollgate::endpoint::{BodyKind, Operation};
use tollgate::exchange::{Exchange, Forward, Interruption, Step};
use tollgate::finding::{Effect, Would};
use tollgate::gateway::{Client, Gateway, StoreTrouble};
use tollgate::gauge::Gauge;
use tollgate::identity::Directory;
use tollgate::ledger::Record;
use tollgate::limits;
use tollgate::prices::DEFAULT_TIER;
use tollgate::store::{MemoryStore, Moment};

/// Any time will do.
const NOW: Duration = Duration::from_secs(1_700_000_000);

/// Tells it, or why it would be refused.
pub(crate) fn explain(arguments: &Explain) -> Result<End, String> {
    let mut found = source::find(&arguments.file)?;
    let found =
        if found.len() == 1 { found.remove(0) } else { return Err("the file has more than one".to_owned()) };
    let mut gateway = match found.load().gateway {
        Ok(gateway) => gateway,
        Err(errors) => return Ok(check::refused(&found, &errors)),
    };
    let name = arguments.client.as_str();
    let client = gateway.roster.iter().find(|client| &*client.name.text == name).cloned();
    let client = client.ok_or_else(|| {
        let names: Vec<_> = gateway.roster.iter().map(|client| &*client.name.text).collect();
        format!("there is no client {name:?}: expected one of {}", names.join(", "))
    })?;
    let keyed = arguments.key.as_deref().map(|words| keys::keyed(&gateway, name, words)).transpose()?;
    let (client, key) = keyed.map_or((client, None), |(client, key)| (client, Some(key)));
    let operation = operation(arguments)?;
    let body = body(arguments, operation)?;
    let mut only = Directory::new(Vec::new());
    only.enter_anonymous(client.clone());
    gateway.clients = only;
    let asked = Asked { client: &client, key: key.as_ref(), operation, body: &body };
    let explained = put_through(&found, Rc::new(gateway), &asked);
    if arguments.json {
        print_json(&explained);
    } else {
        print(&explained.text());
    }
    Ok(if explained.refused.is_none() { End::Well } else { End::Found })
}

/// What becomes of a request.
#[derive(Default, Serialize)]
struct Explained {
    client: String,
    /// The only ones; none is anywhere.
    regions: Option<Vec<String>>,
    priority: &'static str,
    spills: bool,
    limits: Vec<String>,
    model: Option<String>,
    /// Where that is another name of the model's.
    asked_as: Option<String>,
    policy: Option<String>,
    audits: Vec<String>,
    refused: Option<Refused>,
    rules: Vec<Finding>,
    edits: Vec<Edit>,
    reserves: u64,
    backends: Vec<Candidate>,
    passed_over: Vec<Passed>,
}

/// What the client is told.
#[derive(Serialize)]
struct Refused {
    status: u16,
    code: String,
    message: String,
}

/// What comes of a rule.
#[derive(Serialize)]
struct Finding {
    rule: String,
    effect: String,
}

/// A member that is written, changed or taken out.
#[derive(Serialize)]
struct Edit {
    member: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// Where it may go.
#[derive(Serialize)]
struct Candidate {
    backend: String,
    cluster: String,
    region: Option<String>,
    path: String,
    priority: u32,
    weight: Option<u32>,
    /// The most of the model's requests that go there, in millionths of them.
    share_max_parts: Option<u32>,
    /// Whether the weight draws for the client, and not for each request.
    is_sticky: bool,
    takes: Vec<Takes>,
    /// Whether it is asked for the default tier, once those before it have refused the one that the request names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    as_default_tier: bool,
    cost_max_micros: Option<u64>,
}

/// What a request takes of a declared capacity.
#[derive(Serialize)]
struct Takes {
    /// Of what.
    unit: &'static str,
    amount: u64,
    /// So much fits in a window.
    of: u32,
    window_s: u64,
}

/// A backend that is left out.
#[derive(Serialize)]
struct Passed {
    backend: String,
    why: String,
}

struct Asked<'a> {
    client: &'a Client,
    /// What its key was issued with.
    key: Option<&'a Value>,
    operation: Operation,
    body: &'a [u8],
}

fn operation(arguments: &Explain) -> Result<Operation, String> {
    let word = arguments.endpoint.as_str();
    // A conversation has many bodies.
    let is_asked = |operation: &Operation| operation.body() == BodyKind::Json && !operation.is_socket();
    let known = || Operation::NAMED.into_iter().filter(is_asked);
    known().find(|operation| operation.word() == word).ok_or_else(|| {
        let words: Vec<_> = known().map(Operation::word).collect();
        format!("--endpoint {word}: expected one of {}", words.join(", "))
    })
}

/// The body of the file, or a small one for the model.
fn body(arguments: &Explain, operation: Operation) -> Result<Vec<u8>, String> {
    let model = arguments.model.as_deref();
    let Some(file) = &arguments.body else {
        let model = model.ok_or("--model or --body is needed")?;
        let body = match operation {
            Operation::ChatCompletions | Operation::CountTokens => {
                json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }] })
            }
            Operation::Messages => {
                let messages = [json!({ "role": "user", "content": "Hello" })];
                json!({ "model": model, "max_tokens": 256, "messages": messages })
            }
            Operation::Embeddings | Operation::Speech => json!({ "model": model, "input": "Hello" }),
            operation if operation.is_of_responses() => {
                json!({ "model": model, "input": "Hello" })
            }
            _ => json!({ "model": model, "prompt": "Hello" }),
        };
        return Ok(body.to_string().into_bytes());
    };
    let body = source::bytes(file)?;
    let in_body = object(&body).get("model").cloned();
    match (model, in_body) {
        (Some(model), Some(other)) if other != model => {
            Err(format!("--model {model} is not the body's, which is {other}"))
        }
        (Some(model), None) => Err(format!("the body has no model: expected \"model\": \"{model}\" in it")),
        _ => Ok(body),
    }
}

/// Puts it through, and says what came of it.
fn put_through(found: &Found, gateway: Rc<Gateway>, asked: &Asked<'_>) -> Explained {
    let store = MemoryStore::default();
    let mut exchange = Exchange::new(Rc::clone(&gateway));
    let path = format!("/v1/{}", asked.operation.path());
    let headers = [(":method", "POST"), (":path", path.as_str())];
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let mut step = exchange.request_head(&headers, false, Moment::new(&store, NOW));
    let forward = loop {
        step = match step {
            Step::AwaitBody { .. } => match exchange.request_body_grows(asked.body.len()) {
                Some(refused) => refused,
                None => exchange.request_body(asked.body, Moment::new(&store, NOW)),
            },
            Step::Reserve(claim) => exchange.reserved(limits::reserve(Moment::new(&store, NOW), claim)),
            // Nothing that may be answered later is asked here.
            Step::AskQueue => exchange.queue_answered(Err(StoreTrouble::Unreached), Moment::new(&store, NOW)),
            Step::ReadLimits(inquiry) => {
                exchange.limits_read(limits::read(Moment::new(&store, NOW), &inquiry), NOW)
            }
            // Nobody else is there: the first has room.
            Step::Admit(_) => {
                exchange.admitted(Ok(Turn::Goes { place: 0, seat: None }), Moment::new(&store, NOW))
            }
            Step::Forward(forward) => break Ok(forward),
            Step::Answer(answer) => break Err(answer),
            // Nothing that it could wait for will come.
            Step::Wait => exchange.wake(Moment::new(&store, Duration::MAX)).unwrap_or(Step::Wait),
        };
    };
    let record = exchange.finish(Moment::new(&store, NOW), || Interruption::Other).record;
    let mut explained = head(found, asked, &record);
    match forward {
        Ok(forward) => sent(&mut explained, asked, &gateway, &record, &forward),
        Err(answer) => {
            let error = object(&answer.body).remove("error").unwrap_or_default();
            let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
            let (code, message) = (text("code"), text("message"));
            explained.refused = Some(Refused { status: answer.status, code, message });
        }
    }
    explained
}

/// Who asks for what, and by which rules.
fn head(found: &Found, asked: &Asked<'_>, record: &Record) -> Explained {
    let Asked { client, key, .. } = *asked;
    let written = found.value["clients"].as_array().into_iter().flatten();
    let written = written.into_iter().find(|one| one["name"] == *client.name.text).unwrap_or(&Value::Null);
    let model = record.model.as_ref().map(|model| &*model.text);
    let by_model = written["policy_by_model"].as_object().into_iter().flatten();
    let asked = record.asked.as_deref();
    let mut by_model =
        by_model.filter(|(name, _)| Some(name.as_str()) == model || Some(name.as_str()) == asked);
    let policy = by_model.next().map_or(&written["policy"], |(_, policy)| policy).as_str();
    let policies: Vec<_> = policy.into_iter().chain(key.and_then(|key| key["policy"].as_str())).collect();
    let regions = client.regions.as_deref();
    Explained {
        client: client.name.text.to_string(),
        regions: regions.map(|regions| regions.iter().map(ToString::to_string).collect()),
        priority: client.priority.word(),
        spills: client.spills,
        limits: limits(found, written, key),
        model: model.map(str::to_owned),
        asked_as: asked.filter(|asked| model.is_some_and(|model| *asked != model)).map(str::to_owned),
        policy: (model.is_some() && !policies.is_empty()).then(|| policies.join(" and ")),
        audits: client
            .audits
            .iter()
            .filter(|_| model.is_some())
            .map(|audit| audit.name.to_string())
            .collect(),
        ..Explained::default()
    }
}

/// What is changed, and where it goes.
fn sent(explained: &mut Explained, asked: &Asked<'_>, gateway: &Gateway, record: &Record, forward: &Forward) {
    let findings = record.findings.iter();
    explained.rules = findings
        .map(|finding| Finding { rule: finding.rule.to_owned(), effect: effect(&finding.effect) })
        .collect();
    let before = object(asked.body);
    let after = match &forward.patch {
        Some(patch) => {
            let rest = asked.body.get(patch.replaced..).unwrap_or_default();
            object(&[patch.bytes.as_slice(), rest].concat())
        }
        None => before.clone(),
    };
    explained.edits = edits(&before, &after);
    explained.reserves = record.reserved;
    let tier = after.get("service_tier").and_then(Value::as_str);
    let is_sticky =
        gateway.models.iter().any(|model| model.is_sticky && Some(&model.name) == record.model.as_ref());
    let flight = &forward.flight;
    let candidates = flight.candidates().iter().enumerate().map(|(at, target)| Candidate {
        backend: target.word.to_string(),
        cluster: target.backend.cluster.to_string(),
        region: target.backend.region.as_deref().map(str::to_owned),
        path: target.backend.path(asked.operation, &target.deployment),
        priority: target.priority,
        weight: target.weight,
        share_max_parts: target.share_max,
        is_sticky,
        takes: flight.takes_of(target).map(takes).collect(),
        as_default_tier: flight.is_as_default(at),
        cost_max_micros: flight
            .costs_at(target, if flight.is_as_default(at) { Some(DEFAULT_TIER) } else { tier }),
    });
    explained.backends = candidates.collect();
    let passed = record.passed_over.iter();
    explained.passed_over = passed
        .map(|passed| Passed { backend: passed.backend.to_string(), why: passed.why.word().to_owned() })
        .collect();
}

fn takes((gauge, amount): (Gauge, u64)) -> Takes {
    Takes { unit: gauge.unit.word(), amount, of: gauge.size.get(), window_s: gauge.window.as_secs() }
}

impl Explained {
    fn text(&self) -> String {
        let regions = self.regions.as_ref().map_or("anywhere".to_owned(), |regions| regions.join(", "));
        let mut text = format!("client    {}\n", paint(Look::Title, &self.client));
        text += &format!("regions   {regions}\n");
        let spills = if self.spills { "" } else { ", never spills" };
        text += &format!("priority  {}{spills}\n", self.priority);
        for limit in &self.limits {
            text += &format!("limit     {limit}\n");
        }
        if let Some(model) = &self.model {
            let alias = self.asked_as.as_ref().map(|asked| format!(", asked for as {asked}"));
            text += &format!("model     {}{}\n", paint(Look::Title, model), alias.unwrap_or_default());
            text += &format!("policy    {}\n", self.policy.as_deref().unwrap_or("none"));
            for audit in &self.audits {
                text += &format!("audit     {audit}\n");
            }
        }
        if let Some(Refused { status, code, message }) = &self.refused {
            let refused = paint(Look::Bad, &format!("{status} {code}"));
            return text + &format!("refused   {refused}: {message}\n");
        }
        for Finding { rule, effect } in &self.rules {
            text += &format!("rule      {rule}: {effect}\n");
        }
        text += &self.edits.iter().map(Edit::text).collect::<String>();
        text += &format!("reserves  {} tokens, by estimate\n", self.reserves);
        for (at, candidate) in self.backends.iter().enumerate() {
            text += &candidate.text(at + 1);
        }
        for Passed { backend, why } in &self.passed_over {
            text += &format!("not       {backend}: {why}\n");
        }
        text
    }
}

/// What comes of a rule, in words.
fn effect(effect: &Effect) -> String {
    let would = |would: &Would| match would {
        Would::Reject => "would refuse the request",
        Would::Clamp => "would change the value to what is allowed",
        Would::Default => "would write a value, for there is none",
    };
    match effect {
        Effect::Clamped(to) => format!("changed to {to}"),
        Effect::Refused => "refuses the request".to_owned(),
        Effect::Would(known) => format!("only audited: it {}", would(known)),
        Effect::WouldBeside(known, policy) => format!("only audited by {policy}: it {}", would(known)),
        Effect::Unknown(field) => format!("does not know the field {field}"),
    }
}

/// A value as one says it: texts without quotes, lists without brackets.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        _ => value.to_string(),
    }
}

/// Each limit of the client and of its group, as they are written.
fn limits(found: &Found, written: &Value, key: Option<&Value>) -> Vec<String> {
    let line = |limit: &Value, of: &str| {
        let members = limit.as_object()?;
        let unit =
            ["tokens", "requests", "cost", "concurrent"].into_iter().find(|unit| members.contains_key(*unit));
        let unit = unit.unwrap_or_default();
        let amount = members.get(unit).map(plain).unwrap_or_default();
        let per = members.get("per").map_or(String::new(), |per| format!(" per {}", plain(per)));
        let more = members.iter().filter(|(name, _)| *name != unit && *name != "per");
        let more: String = more.map(|(name, value)| format!(", {name} {}", plain(value))).collect();
        Some(format!("{amount} {unit}{per}{more}{of}"))
    };
    let of = |owner: &Value, of: &str| -> Vec<String> {
        owner["limits"].as_array().into_iter().flatten().filter_map(|limit| line(limit, of)).collect()
    };
    let groups = found.value["groups"].as_array().into_iter().flatten();
    let group = written["group"].as_str();
    let group =
        group.and_then(|name| groups.into_iter().find(|one| one["name"] == name).map(|one| (name, one)));
    let of_group = group.map_or(Vec::new(), |(name, group)| of(group, &format!(", of group {name}")));
    let of_key = key.map_or(Vec::new(), |key| of(key, ", of the key"));
    [of(written, ""), of_group, of_key].concat()
}

/// Each member that is written, changed or taken out.
fn edits(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Edit> {
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let edit = |name: &String| {
        let (before, after) = (before.get(name).cloned(), after.get(name).cloned());
        (before != after).then(|| Edit { member: name.clone(), before, after })
    };
    names.into_iter().filter_map(edit).collect()
}

impl Edit {
    fn text(&self) -> String {
        let name = &self.member;
        match (&self.before, &self.after) {
            (Some(old), Some(new)) => format!("edit      {name}: {old} becomes {new}\n"),
            (None, Some(new)) => format!("edit      {name}: {new} is written\n"),
            (Some(old), None) => format!("edit      {name}: {old} is taken out\n"),
            (None, None) => String::new(),
        }
    }
}

impl Candidate {
    fn text(&self, at: usize) -> String {
        let region = self.region.as_ref().map_or(String::new(), |region| format!(", region {region}"));
        let drawn = if self.is_sticky { "once for the client" } else { "for each request" };
        let weight = self.weight.map_or(String::new(), |weight| format!(", weight {weight}: drawn {drawn}"));
        let share = self
            .share_max_parts
            .map_or(String::new(), |parts| format!(", share_max {}", currency(parts.into())));
        let takes = self.takes.iter().map(|Takes { unit, amount, of, window_s }| {
            format!(", takes {amount} of its {of} {unit} in {window_s} s")
        });
        let capacity = takes.collect::<String>();
        let cost = self
            .cost_max_micros
            .map_or(String::new(), |micros| format!(", costs {} at most", currency(micros)));
        let again = if self.as_default_tier { ", as the default tier once its own is refused" } else { "" };
        let name = paint(Look::Title, &self.backend);
        let Self { cluster, path, priority, .. } = self;
        format!(
            "{at:<9} {name}: cluster {cluster}{region}, {path}, priority {priority}{weight}{share}{capacity}{cost}{again}\n"
        )
    }
}

/// Millionths as the currency's own, without zeros that say nothing.
fn currency(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn object(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).unwrap_or_default()
}

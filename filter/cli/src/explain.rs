//! What becomes of a request?
//!
//! The request is put through the exchange that serves, with its client as the only one there is and a store that has nothing in
//! it: no budget is used, no backend pauses.

use crate::arguments::Explain;
use crate::paint::{Look, paint, print};
use crate::source::Found;
use crate::{End, check, source};
use serde_json::{Map, Value, json};
use std::rc::Rc;
use std::time::Duration;
use tollgate::capacity::Turn;
use tollgate::endpoint::{BodyKind, Operation};
use tollgate::exchange::{Exchange, Forward, Interruption, Step};
use tollgate::finding::{Effect, Would};
use tollgate::gateway::{Client, Gateway};
use tollgate::identity::Directory;
use tollgate::ledger::Record;
use tollgate::limits;
use tollgate::route::Target;
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
    let operation = operation(arguments)?;
    let body = body(arguments, operation)?;
    let mut only = Directory::new(Vec::new());
    only.enter_anonymous(client.clone());
    gateway.clients = only;
    let asked = Asked { client: &client, operation, body: &body };
    let (text, is_served) = put_through(&found, Rc::new(gateway), &asked);
    print(&text);
    Ok(if is_served { End::Well } else { End::Found })
}

struct Asked<'a> {
    client: &'a Client,
    operation: Operation,
    body: &'a [u8],
}

fn operation(arguments: &Explain) -> Result<Operation, String> {
    let word = arguments.endpoint.as_str();
    let known = || Operation::NAMED.into_iter().filter(|operation| operation.body() == BodyKind::Json);
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
            Operation::ChatCompletions => {
                json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }] })
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

/// Puts it through, and says what came of it; the second value is whether it would be sent.
fn put_through(found: &Found, gateway: Rc<Gateway>, asked: &Asked<'_>) -> (String, bool) {
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
    let head = head(found, asked.client, &record);
    match forward {
        Ok(forward) => (head + &sent(asked, &gateway, &record, &forward), true),
        Err(answer) => {
            let error = object(&answer.body).remove("error").unwrap_or_default();
            let (code, message) = (error["code"].as_str(), error["message"].as_str());
            let refused = paint(Look::Bad, &format!("{} {}", answer.status, code.unwrap_or_default()));
            (format!("{head}refused   {refused}: {}\n", message.unwrap_or_default()), false)
        }
    }
}

/// Who asks for what, and by which rules.
fn head(found: &Found, client: &Client, record: &Record) -> String {
    let written = found.value["clients"].as_array().into_iter().flatten();
    let written = written.into_iter().find(|one| one["name"] == *client.name.text).unwrap_or(&Value::Null);
    let model = record.model.as_ref().map(|model| &*model.text);
    let by_model = written["policy_by_model"].as_object().into_iter().flatten();
    let asked = record.asked.as_deref();
    let mut by_model =
        by_model.filter(|(name, _)| Some(name.as_str()) == model || Some(name.as_str()) == asked);
    let policy = by_model.next().map_or(&written["policy"], |(_, policy)| policy).as_str();
    let regions = client.regions.as_deref().map_or("anywhere".to_owned(), |regions| regions.join(", "));
    let mut text = format!("client    {}\n", paint(Look::Title, &client.name.text));
    text += &format!("regions   {regions}\n");
    let spills = if client.spills { "" } else { ", never spills" };
    text += &format!("priority  {}{spills}\n", client.priority.word());
    text += &limits(found, written);
    if let Some(model) = model {
        let alias = asked.filter(|asked| *asked != model).map(|asked| format!(", asked for as {asked}"));
        text += &format!("model     {}{}\n", paint(Look::Title, model), alias.unwrap_or_default());
        text += &format!("policy    {}\n", policy.unwrap_or("none"));
        for audit in &client.audits {
            text += &format!("audit     {}\n", audit.name);
        }
    }
    text
}

/// What is changed, and where it goes.
fn sent(asked: &Asked<'_>, gateway: &Gateway, record: &Record, forward: &Forward) -> String {
    let mut text = String::new();
    for finding in &record.findings {
        text += &format!("rule      {}: {}\n", finding.rule, effect(&finding.effect));
    }
    let before = object(asked.body);
    let after = match &forward.patch {
        Some(patch) => {
            let rest = asked.body.get(patch.replaced..).unwrap_or_default();
            object(&[patch.bytes.as_slice(), rest].concat())
        }
        None => before.clone(),
    };
    text += &edits(&before, &after);
    text += &format!("reserves  {} tokens, by estimate\n", record.reserved);
    let tier = after.get("service_tier").and_then(Value::as_str);
    let is_sticky =
        gateway.models.iter().any(|model| model.is_sticky && Some(&model.name) == record.model.as_ref());
    let drawn = if is_sticky { "once for the client" } else { "for each request" };
    for (at, target) in forward.flight.candidates().iter().enumerate() {
        let cost = forward.flight.costs_at(target, tier);
        text += &candidate(at + 1, target, asked.operation, drawn, forward.flight.takes_of(target), cost);
    }
    for passed in &record.passed_over {
        text += &format!("not       {}: {}\n", passed.backend, passed.why.word());
    }
    text
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

/// One line for each limit of the client and of its group, as they are written.
fn limits(found: &Found, written: &Value) -> String {
    let line = |limit: &Value, of: &str| {
        let Some(members) = limit.as_object() else { return String::new() };
        let unit =
            ["tokens", "requests", "cost", "concurrent"].into_iter().find(|unit| members.contains_key(*unit));
        let unit = unit.unwrap_or_default();
        let amount = members.get(unit).map(plain).unwrap_or_default();
        let per = members.get("per").map_or(String::new(), |per| format!(" per {}", plain(per)));
        let more = members.iter().filter(|(name, _)| *name != unit && *name != "per");
        let more: String = more.map(|(name, value)| format!(", {name} {}", plain(value))).collect();
        format!("limit     {amount} {unit}{per}{more}{of}\n")
    };
    let of = |owner: &Value, of: &str| -> String {
        owner["limits"].as_array().into_iter().flatten().map(|limit| line(limit, of)).collect()
    };
    let groups = found.value["groups"].as_array().into_iter().flatten();
    let group = written["group"].as_str();
    let group =
        group.and_then(|name| groups.into_iter().find(|one| one["name"] == name).map(|one| (name, one)));
    of(written, "") + &group.map_or(String::new(), |(name, group)| of(group, &format!(", of group {name}")))
}

/// One line for each member that is written, changed or taken out.
fn edits(before: &Map<String, Value>, after: &Map<String, Value>) -> String {
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let mut text = String::new();
    for name in names {
        text += &match (before.get(name), after.get(name)) {
            (Some(old), Some(new)) if old != new => format!("edit      {name}: {old} becomes {new}\n"),
            (None, Some(new)) => format!("edit      {name}: {new} is written\n"),
            (Some(old), None) => format!("edit      {name}: {old} is taken out\n"),
            _ => String::new(),
        };
    }
    text
}

fn candidate(
    at: usize,
    target: &Target,
    operation: Operation,
    drawn: &str,
    takes: Option<u64>,
    cost: Option<u64>,
) -> String {
    let backend = &target.backend;
    let path = backend.style.path(operation, &target.deployment);
    let region = backend.region.as_deref().map_or(String::new(), |region| format!(", region {region}"));
    let weight = target.weight.map_or(String::new(), |weight| format!(", weight {weight}: drawn {drawn}"));
    let capacity = takes.zip(target.gauge).map_or(String::new(), |(takes, gauge)| {
        format!(", takes {takes} of its {} tokens in {} s", gauge.tokens, gauge.window.as_secs())
    });
    let cost = cost.map_or(String::new(), |micros| format!(", costs {} at most", currency(micros)));
    let name = paint(Look::Title, &backend.name);
    format!(
        "{at:<9} {name}: cluster {}{region}, {path}, priority {}{weight}{capacity}{cost}\n",
        backend.cluster, target.priority
    )
}

/// Millionths as the currency's own, without zeros that say nothing.
fn currency(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn object(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).unwrap_or_default()
}

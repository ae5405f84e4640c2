//! What do we answer in a backend's place?
//!
//! The shape, the list of models, and the list of a client's limits; refusals are worded in `denial`.

use crate::allowance::{Allowance, Unit, Weights, Whose};
use crate::calendar;
use serde::Serialize;
use serde_json::{Number, Value as Json, json};
use std::time::Duration;

/// A whole answer that no backend gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, `content-type` among them.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// The header of all our bodies.
pub const JSON: (&str, &str) = ("content-type", "application/json");

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'a str,
    created: u32,
    owned_by: &'a str,
}

impl<'a> Model<'a> {
    fn new(id: &'a str) -> Self {
        Self { id, object: "model", created: 0, owned_by: "tollgate" }
    }
}

/// By which methods a path may be asked. That is all that a preflight learns here: without CORS headers a browser goes
/// no further. <https://www.rfc-editor.org/rfc/rfc9110#section-9.3.7>
#[must_use]
pub fn methods(methods: &[&str]) -> Answer {
    Answer { status: 204, headers: vec![("allow", methods.join(", "))], body: Vec::new() }
}

/// Which configuration runs, by its fingerprint, and since when; and which release of Tollgate.
#[must_use]
pub fn configuration(sha256: &str, since: Duration, now: Duration) -> Answer {
    #[derive(Serialize)]
    struct Configuration<'a> {
        object: &'a str,
        sha256: &'a str,
        since: String,
        age_s: u64,
        version: &'a str,
    }
    unstored(&Configuration {
        object: "config",
        sha256,
        since: calendar::rfc3339(since.as_secs()),
        age_s: now.saturating_sub(since).as_secs(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// A list of models, as OpenAI writes it.
/// <https://platform.openai.com/docs/api-reference/models/list>
pub fn models<'a>(names: impl Iterator<Item = &'a str>) -> Answer {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'a str,
        data: Vec<Model<'a>>,
    }
    json(&List { object: "list", data: names.map(Model::new).collect() })
}

/// One model. <https://platform.openai.com/docs/api-reference/models/retrieve>
#[must_use]
pub fn model(name: &str) -> Answer {
    json(&Model::new(name))
}

/// In which order an operator has a model's backends asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Ordered<'a> {
    /// The model.
    pub model: &'a str,
    /// Those that come first.
    pub order: Vec<&'a str>,
    /// How long that still holds.
    pub remaining: Duration,
}

#[derive(Serialize)]
struct Order<'a> {
    object: &'a str,
    model: &'a str,
    order: Vec<&'a str>,
    ends_at: String,
    ends_in_s: u64,
}

impl<'a> Order<'a> {
    fn new(Ordered { model, order, remaining }: Ordered<'a>, now: Duration) -> Self {
        Self {
            object: "order",
            model,
            order,
            ends_at: time(now.saturating_add(remaining)),
            ends_in_s: seconds_up(remaining),
        }
    }
}

/// An order that holds.
#[must_use]
pub fn order(ordered: Ordered<'_>, now: Duration) -> Answer {
    unstored(&Order::new(ordered, now))
}

/// All that hold.
pub fn orders<'a>(ordered: impl Iterator<Item = Ordered<'a>>, now: Duration) -> Answer {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'a str,
        data: Vec<Order<'a>>,
    }
    unstored(&List { object: "list", data: ordered.map(|ordered| Order::new(ordered, now)).collect() })
}

/// That no order holds any more for a model, and whether one did.
#[must_use]
pub fn no_order(model: &str, deleted: bool) -> Answer {
    #[derive(Serialize)]
    struct Gone<'a> {
        object: &'a str,
        model: &'a str,
        deleted: bool,
    }
    unstored(&Gone { object: "order", model, deleted })
}

/// Its seconds, rounded up.
pub(crate) fn seconds_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A time, rounded up to a second.
pub(crate) fn time(at: Duration) -> String {
    calendar::rfc3339(seconds_up(at))
}

/// What holds now, and is to be asked for anew.
fn unstored(body: &impl Serialize) -> Answer {
    let mut answer = json(body);
    answer.headers.push(("cache-control", "no-store".to_owned()));
    answer
}

fn json(body: &impl Serialize) -> Answer {
    Answer {
        status: 200,
        headers: vec![(JSON.0, JSON.1.to_owned())],
        // Writing strings and numbers to memory cannot fail.
        body: serde_json::to_vec(body).unwrap_or_default(),
    }
}

/// Where a limit stands, for the list of them.
pub struct Standing<'a> {
    /// Which.
    pub allowance: &'a Allowance,
    /// What is used of it.
    pub used: u64,
    /// What is left.
    pub remaining: u64,
    /// Until all of it is there again; `None` where that does not depend on time.
    pub reset: Option<Duration>,
}

#[derive(Serialize)]
struct Limit<'a> {
    unit: &'a str,
    per: Option<&'a str>,
    limit: Number,
    used: Number,
    remaining: Number,
    resets_at: Option<String>,
    resets_in_s: Option<u64>,
    models: Option<Vec<&'a str>>,
    endpoints: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Weighed>,
    group: Option<&'a str>,
    /// What each has one of its own by, and this is the asker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Json>,
    shared: bool,
    shadow: bool,
}

#[derive(Serialize)]
struct Weighed {
    prompt: Number,
    cached: Number,
    completion: Number,
}

/// Millionths as a number with a point.
fn decimal(millionths: u64) -> Number {
    // Up to 2^53 of them, far beyond any limit, this is exact; a float that is finite always is a number.
    Number::from_f64(millionths as f64 / 1e6).unwrap_or_else(|| Number::from(0))
}

impl<'a> Limit<'a> {
    fn of(standing: &Standing<'a>, now: Duration) -> Self {
        let Standing { allowance, used, remaining, reset } = *standing;
        let unit = allowance.measure.unit();
        let number =
            |amount: u64| if unit == Some(Unit::Cost) { decimal(amount) } else { Number::from(amount) };
        let (models, endpoints) = (allowance.scope.models.as_ref(), allowance.scope.endpoints.as_ref());
        let group = match &allowance.whose {
            Whose::Client | Whose::Spill(_) => None,
            Whose::Group(name) => Some(&**name),
        };
        Self {
            unit: allowance.measure.unit_word(),
            per: allowance.measure.per(),
            limit: number(allowance.amount.get()),
            used: number(used),
            remaining: number(remaining),
            resets_at: reset.map(|reset| time(now.saturating_add(reset))),
            resets_in_s: reset.map(seconds_up),
            models: models.map(|names| names.iter().map(|name| &**name).collect()),
            endpoints: endpoints.map(|endpoints| endpoints.iter().map(|endpoint| endpoint.word()).collect()),
            weights: match unit {
                Some(Unit::Tokens(weights)) if weights != Weights::PLAIN => Some(Weighed {
                    prompt: decimal(weights.prompt),
                    cached: decimal(weights.cached),
                    completion: decimal(weights.completion),
                }),
                _ => None,
            },
            group,
            by: allowance.by.as_ref().map(|by| match by.name() {
                Some(name) => json!({ by.word(): name }),
                None => by.word().into(),
            }),
            shared: group.is_some(),
            shadow: allowance.shadow,
        }
    }
}

/// The limits that a client meets, and where they stand.
pub fn limits<'a>(client: &str, limits: impl Iterator<Item = Standing<'a>>, now: Duration) -> Answer {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'a str,
        client: &'a str,
        limits: Vec<Limit<'a>>,
    }
    let limits = limits.map(|standing| Limit::of(&standing, now)).collect();
    unstored(&List { object: "usage", client, limits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowance::{Flow, Measure, Scope};
    use crate::calendar::Span;
    use crate::endpoint::Operation;
    use serde_json::{Value, json};
    use std::num::NonZeroU64;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_list_of_limits_says_what_each_is_and_where_it_stands() {
        let now = Duration::from_millis(1_795_490_661_500);
        let amount = |amount| NonZeroU64::new(amount).unwrap();
        let weights = Weights { cached: 250_000, ..Weights::PLAIN };
        let weighted = Measure::Rate(Unit::Tokens(weights), Flow::Minute);
        let own = Allowance::new(Whose::Client, weighted, amount(600), Scope::default(), true);
        let scope = Scope { models: Some(vec!["m".into()]), endpoints: Some(vec![Operation::Embeddings]) };
        let group = Whose::Group("sales".into());
        let month = Measure::Quota(Unit::Cost, Span::Month);
        let shared = Allowance::new(group, month, amount(50_000_000), scope, false);
        let slots = Allowance::new(Whose::Client, Measure::Concurrent, amount(4), Scope::default(), false);
        let standings = [
            Standing { allowance: &own, used: 7, remaining: 593, reset: Some(Duration::from_millis(700)) },
            Standing {
                allowance: &shared,
                used: 1_234_567,
                remaining: 48_765_433,
                reset: Some(Duration::from_millis(592_538_500)),
            },
            Standing { allowance: &slots, used: 1, remaining: 3, reset: None },
        ];
        let answer = limits("web", standings.into_iter(), now);
        let plain = json!({ "models": null, "endpoints": null, "group": null, "shared": false });
        let with = |mut object: Value| {
            let (Value::Object(members), Value::Object(plain)) = (&mut object, plain.clone()) else {
                panic!()
            };
            members.extend(plain);
            object
        };
        let expected = json!({
            "object": "usage",
            "client": "web",
            "limits": [
                with(json!({
                    "unit": "tokens", "per": "minute", "limit": 600, "used": 7, "remaining": 593,
                    "resets_at": "2026-11-24T03:24:23Z", "resets_in_s": 1, "shadow": true,
                    "weights": { "prompt": 1.0, "cached": 0.25, "completion": 1.0 },
                })),
                {
                    "unit": "cost", "per": "month", "limit": 50.0, "used": 1.234567, "remaining": 48.765433,
                    "resets_at": "2026-12-01T00:00:00Z", "resets_in_s": 592_539, "shadow": false,
                    "models": ["m"], "endpoints": ["embeddings"], "group": "sales", "shared": true,
                },
                with(json!({
                    "unit": "concurrent", "per": null, "limit": 4, "used": 1, "remaining": 3,
                    "resets_at": null, "resets_in_s": null, "shadow": false,
                })),
            ],
        });
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), expected);
    }
}

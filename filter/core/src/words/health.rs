//! Is there a backend that can be asked for a model, and if not, when again?
//!
//! The words for it, and the answer to those who ask, such as a load balancer in front. Not decided here: what is known
//! against a backend.

use crate::answer::{Answer, JSON, Ordered, seconds_up, time};
use serde::Serialize;
use std::time::Duration;

/// How a backend stands, or all those of a model; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Nothing is known against it.
    Healthy,
    /// It is to be left alone for so long.
    Throttled(Duration),
    /// Of late it failed, time after time.
    Down,
}

impl Condition {
    /// The word in the answer.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Throttled(_) => "throttled",
            Self::Down => "down",
        }
    }

    /// That of several together: one that is well is enough, and the shortest wait counts. With none there is nothing to
    /// be had.
    #[must_use]
    pub fn of_all(conditions: impl Iterator<Item = Self>) -> Self {
        conditions.min().unwrap_or(Self::Down)
    }

    fn wait(self) -> Option<Duration> {
        match self {
            Self::Throttled(wait) => Some(wait),
            Self::Healthy | Self::Down => None,
        }
    }
}

/// What serves one model.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool<'a> {
    /// The model.
    pub model: &'a str,
    /// How all its backends stand together.
    pub condition: Condition,
    /// In which order an operator has them asked, for the same.
    pub order: Option<Ordered<'a>>,
    /// Each of them, for those who may know.
    pub backends: Option<Vec<Member<'a>>>,
}

/// One backend of a model.
#[derive(Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Which.
    pub backend: &'a str,
    /// What the model is called there.
    pub deployment: &'a str,
    /// Where it is.
    pub region: Option<&'a str>,
    /// How it stands.
    pub condition: Condition,
}

/// One shape for all three levels, each with what it has.
#[derive(Serialize)]
struct State<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_ends_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<State<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backends: Option<Vec<State<'a>>>,
}

fn millis_up(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl<'a> State<'a> {
    fn of(condition: Condition, now: Duration) -> Self {
        let wait = condition.wait();
        Self {
            object: None,
            model: None,
            backend: None,
            deployment: None,
            region: None,
            status: condition.word(),
            throttled_until: wait.map(|wait| time(now.saturating_add(wait))),
            wait_ms: wait.map(millis_up),
            order: None,
            order_ends_at: None,
            models: None,
            backends: None,
        }
    }

    fn of_member(member: Member<'a>, now: Duration) -> Self {
        let Member { backend, deployment, region, condition } = member;
        let state = Self::of(condition, now);
        Self { backend: Some(backend), deployment: Some(deployment), region, ..state }
    }

    fn of_pool(pool: Pool<'a>, now: Duration) -> Self {
        let Pool { model, condition, order, backends } = pool;
        let order_ends_at = order.as_ref().map(|order| time(now.saturating_add(order.remaining)));
        let members =
            |members: Vec<_>| members.into_iter().map(|member| Self::of_member(member, now)).collect();
        Self {
            model: Some(model),
            order: order.map(|order| order.order),
            order_ends_at,
            backends: backends.map(members),
            ..Self::of(condition, now)
        }
    }
}

/// The answer: 200 if anything can be asked, else 503 with the wait where it is known. `lists` says whether the models are
/// named.
#[must_use]
pub fn answer(pools: Vec<Pool<'_>>, lists: bool, now: Duration) -> Answer {
    let condition = Condition::of_all(pools.iter().map(|pool| pool.condition));
    let mut headers = vec![(JSON.0, JSON.1.to_owned()), ("cache-control", "no-store".to_owned())];
    if let Some(wait) = condition.wait() {
        headers.push(("retry-after", seconds_up(wait).to_string()));
        headers.push(("retry-after-ms", millis_up(wait).to_string()));
    }
    let models = lists.then(|| pools.into_iter().map(|pool| State::of_pool(pool, now)).collect());
    let health = State { object: Some("health"), models, ..State::of(condition, now) };
    Answer {
        status: if condition == Condition::Healthy { 200 } else { 503 },
        headers,
        // Writing names and numbers to memory cannot fail.
        body: serde_json::to_vec(&health).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::Condition::{Down, Healthy, Throttled};
    use super::*;
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_millis(1_795_490_661_500);

    #[test]
    fn one_that_is_well_is_enough_and_the_shortest_wait_counts() {
        let wait = Duration::from_secs;
        for (all, expected) in [
            (vec![Down, Throttled(wait(2)), Healthy], Healthy),
            (vec![Throttled(wait(3)), Down, Throttled(wait(2))], Throttled(wait(2))),
            (vec![Down, Down], Down),
            (vec![], Down),
        ] {
            assert_eq!(Condition::of_all(all.iter().copied()), expected, "{all:?}");
        }
    }

    #[track_caller]
    fn check(condition: Condition, status: u16, headers: &[(&str, &str)], body: &Value) {
        let member = Member { backend: "b", deployment: "d", region: Some("eu"), condition };
        let pools = vec![Pool { model: "m", condition, order: None, backends: Some(vec![member]) }];
        let answer = answer(pools, true, NOW);
        let told: Vec<_> =
            answer.headers.iter().skip(2).map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!((answer.status, &told[..]), (status, headers));
        assert_eq!(&serde_json::from_slice::<Value>(&answer.body).unwrap(), body);
    }

    #[test]
    fn health_is_200_or_503_with_the_wait() {
        let whole = |state: Value| {
            let with = |more: Value| {
                let mut object = state.clone();
                object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                object
            };
            let backend = with(json!({ "backend": "b", "deployment": "d", "region": "eu" }));
            let model = with(json!({ "model": "m", "backends": [backend] }));
            with(json!({ "object": "health", "models": [model] }))
        };
        check(Healthy, 200, &[], &whole(json!({ "status": "healthy" })));
        check(Down, 503, &[], &whole(json!({ "status": "down" })));
        let throttled =
            json!({ "status": "throttled", "throttled_until": "2026-11-24T03:24:23Z", "wait_ms": 1499 });
        let wait = Duration::from_micros(1_498_001);
        let headers = [("retry-after", "2"), ("retry-after-ms", "1499")];
        check(Throttled(wait), 503, &headers, &whole(throttled));
    }

    #[test]
    fn models_are_only_named_to_those_who_may_know_them() {
        let pools = vec![Pool { model: "m", condition: Healthy, order: None, backends: None }];
        assert_eq!(answer(pools, false, NOW).body, br#"{"object":"health","status":"healthy"}"#);
    }
}

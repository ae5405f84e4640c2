//! Envoys that share the budgets of a Redis, what they are asked, and what their store says of it.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tollgate::resp::Reply;
use tollgate_tests::harness::{Answer, Gateway, Redis, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{CHAT, chat, prompt_estimate, with};

pub const PASSWORD: &str = "fleet-password";

/// What seals jobs where a configuration names the variable `QUEUE_KEY`.
pub const QUEUE_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// How long it may take until the leases of an Envoy that died are over, on a busy machine.
pub const RECLAIMED_WITHIN: Duration = Duration::from_secs(180);

/// How long a request may be held at a backend: longer than anything takes that it is held for.
const HELD_WITHIN: Duration = Duration::from_secs(900);

/// How often something is looked at that nothing announces.
const POLL: Duration = Duration::from_millis(20);

/// Where in the store's line of a limit it says how much is used, and when the window begins.
const USED: usize = 3;
const BEGINS: usize = 4;

/// How many requests each budget of [`KINDS`] holds.
pub const FIT: usize = 40;

/// Clients with a budget for each kind of limit; two that share a group's amounts, two that share its places, and one whose
/// requests spill. The name is the key.
pub const KINDS: [&str; 12] = [
    "tokens-day",
    "tokens-minute",
    "requests-month",
    "requests-minute",
    "cost-week",
    "concurrent",
    "several",
    "member-a",
    "member-b",
    "crew-a",
    "crew-b",
    "spill",
];

/// Whose budget a client of [`KINDS`] spends, as the store names it.
pub fn budget_of(name: &str) -> &str {
    match name {
        "member-a" | "member-b" => "group/team",
        "crew-a" | "crew-b" => "group/crew",
        "spill" => "spill/overflow",
        "tokens-day" => "client/tokens-day",
        "tokens-minute" => "client/tokens-minute",
        "requests-month" => "client/requests-month",
        "requests-minute" => "client/requests-minute",
        "cost-week" => "client/cost-week",
        "concurrent" => "client/concurrent",
        "several" => "client/several",
        other => panic!("{other} is no client"),
    }
}

/// Whether a budget is of places, which come back.
pub fn has_places(budget: &str) -> bool {
    ["client/concurrent", "group/crew"].contains(&budget)
}

/// A client whose key is its name.
pub fn client(name: &str, limits: Value) -> Value {
    let sha256 = hex::encode(Sha256::digest(name));
    json!({ "name": name, "api_keys": [ { "sha256": sha256 } ], "models": ["*"], "limits": limits })
}

pub fn small_chat() -> Value {
    with(chat("hello"), json!({ "max_tokens": 10 }))
}

/// A request of a client. The user tells the backend whose it is, and costs nothing.
fn request_of(name: &str) -> Value {
    let model = if name == "spill" { "overflow" } else { "gpt-4o" };
    with(small_chat(), json!({ "model": model, "user": name }))
}

/// Limits of each kind that hold [`FIT`] requests as they are reserved.
fn one_of_each_kind(config: &mut Value) {
    let reserved = prompt_estimate(&small_chat()) + 10;
    let tokens = reserved * FIT as u64;
    // The most that one costs anywhere, in millionths: a prompt token 2.5, another 10.
    let cost = (prompt_estimate(&small_chat()) as f64 * 2.5 + 100.0).ceil() * FIT as f64 / 1e6;
    let limits = |name: &str| match name {
        "tokens-day" => json!([ { "tokens": tokens, "per": "day" } ]),
        "tokens-minute" => json!([ { "tokens": tokens, "per": "minute" } ]),
        "requests-month" => json!([ { "requests": FIT, "per": "month" } ]),
        "requests-minute" => json!([ { "requests": FIT, "per": "minute" } ]),
        "cost-week" => json!([ { "cost": cost, "per": "week" } ]),
        "concurrent" => json!([ { "concurrent": FIT } ]),
        "several" => json!([ { "tokens": tokens, "per": "week" }, { "concurrent": FIT + 20 },
                             { "requests": FIT * 2, "per": "day" } ]),
        _ => json!([]),
    };
    let clients = KINDS.iter().map(|name| match budget_of(name).strip_prefix("group/") {
        Some(group) => with(client(name, json!([])), json!({ "group": group })),
        None => client(name, limits(name)),
    });
    config["clients"] = json!(clients.collect::<Vec<_>>());
    config["groups"] = json!([
        { "name": "team", "limits": [ { "tokens": tokens, "per": "day" } ] },
        { "name": "crew", "limits": [ { "concurrent": FIT } ] },
    ]);
    config["models"] = json!([
        { "name": "gpt-4o", "prices": { "prompt": 2.5, "completion": 10 },
          "backends": [ { "backend": "ptu", "deployment": "gpt-4o-ptu" } ] },
        // The first one is busy, so all of them spill.
        { "name": "overflow", "prices": { "prompt": 2.5, "completion": 10 },
          "backends": [ { "backend": "payg-b", "priority": 0 },
                        { "backend": "ptu", "deployment": "gpt-4o-ptu", "priority": 1 } ],
          "spill": { "limits": [ { "requests": FIT, "per": "day" } ] } },
    ]);
}

/// Lets midnight pass if it is near, at which budgets of days and weeks begin anew.
pub async fn midnight_is_far() {
    const DAY: u64 = 86_400;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let left = DAY - now % DAY;
    if left < 300 {
        tokio::time::sleep(Duration::from_secs(left + 1)).await;
    }
}

/// Waits until something holds, and fails with what is so instead if that takes too long.
pub async fn until(mut holds: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    while let Err(problem) = holds() {
        assert!(Instant::now() < deadline, "{problem}");
        tokio::time::sleep(POLL).await;
    }
}

/// The same of what has to be asked for.
pub async fn until_async(mut holds: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    while let Err(problem) = holds().await {
        assert!(Instant::now() < deadline, "{problem}");
        tokio::time::sleep(POLL).await;
    }
}

/// Envoys that share the budgets of a Redis.
pub struct Fleet(pub Vec<Gateway>);

impl Fleet {
    pub async fn start(redis: &Redis, envoys: usize, config: impl Fn(&mut Value), mock: &Settings) -> Self {
        Self::start_at(redis.address(), envoys, config, mock).await
    }

    /// The same, where something stands between them and Redis.
    pub async fn start_at(
        store: std::net::SocketAddr,
        envoys: usize,
        config: impl Fn(&mut Value),
        mock: &Settings,
    ) -> Self {
        midnight_is_far().await;
        let start = |_| {
            let mut whole = Value::Null;
            let setup =
                Setup::new().redis(store, PASSWORD).env("QUEUE_KEY", QUEUE_KEY).mock("ptu", mock.clone());
            // The closure is called while the setup is made, for what it is given lives no longer.
            let changed = {
                whole["store"] = json!({ "redis": {
                    "cluster": "tollgate-store", "password_env": "REDIS_PASSWORD",
                    // Nearly as long as a lease, so that a busy machine is not taken for a store that is gone.
                    "timeout_ms": 2500 } });
                config(&mut whole);
                whole
            };
            let setup = setup.edit(move |gateway| {
                for (field, value) in changed.as_object().unwrap() {
                    gateway[field] = value.clone();
                }
            });
            Gateway::start(setup)
        };
        Self(join_all((0..envoys).map(start)).await.into_iter().map(Result::unwrap).collect())
    }

    /// Three with budgets of [`KINDS`]. What is admitted is held at the backend, so nothing is settled: as much is admitted as
    /// is reserved.
    pub async fn of_each_kind(redis: &Redis, change: impl Fn(&mut Value)) -> Self {
        let config = |config: &mut Value| {
            one_of_each_kind(config);
            change(config);
        };
        let hold = Settings { hold: true, ..Settings::default() };
        let fleet = Self::start(redis, 3, config, &hold).await;
        let busy = Fault::answer(429).header("retry-after", "300").always();
        for gateway in &fleet.0 {
            gateway.mock("payg-b").update(|settings| settings.faults = [busy.clone()].into());
        }
        fleet
    }

    /// Asks so many times at once at each Envoy.
    pub fn ask(&self, key: &str, each: usize) -> JoinSet<Answer> {
        let mut asked = JoinSet::new();
        for gateway in self.0.iter().flat_map(|gateway| std::iter::repeat_n(gateway, each)) {
            let sent = send(gateway, key);
            asked.spawn(async move { sent.await.unwrap() });
        }
        asked
    }

    /// How many of so many requests at each Envoy were admitted; all others must have been refused by these.
    pub async fn admitted(&self, key: &str, each: usize, refusals: &[u16]) -> usize {
        let answers = self.ask(key, each).join_all().await;
        for answer in &answers {
            let is_known = answer.status == 200 || refusals.contains(&answer.status);
            assert!(is_known, "{} {}", answer.status, answer.text());
        }
        answers.iter().filter(|answer| answer.status == 200).count()
    }

    /// Has each Envoy serve so many, and answers how many these are. To whom a busy machine makes the store seem gone asks again.
    pub async fn serve(&self, key: &str, each: usize) -> usize {
        let deadline = Instant::now() + RECLAIMED_WITHIN;
        let gateways = self.0.iter().flat_map(|gateway| std::iter::repeat_n(gateway, each));
        let served = gateways.map(|gateway| async move {
            loop {
                let answer = send(gateway, key).await.unwrap();
                if answer.status == 200 {
                    return;
                }
                assert_eq!(answer.status, 503, "{}", answer.text());
                assert!(Instant::now() < deadline, "{}", answer.text());
                tokio::time::sleep(POLL).await;
            }
        });
        join_all(served).await.len()
    }

    /// Asks until so many were admitted in all, `before` of them already; and then that no more are. Answers how many were.
    pub async fn use_up(
        &self,
        redis: &Redis,
        key: &str,
        (before, all): (usize, usize),
        refusals: &[u16],
    ) -> usize {
        let deadline = Instant::now() + RECLAIMED_WITHIN;
        let shared = self.shared().await;
        let mut admitted = before;
        while admitted < all {
            assert!(Instant::now() < deadline, "{admitted} of {all} were admitted");
            admitted += self.admitted(key, 4, refusals).await;
        }
        admitted += self.admitted(key, 4, refusals).await;
        if admitted > all {
            // Whom a busy machine cut off from the store may have spent what others were granted; nothing else may.
            assert!(self.0.len() > 1, "{admitted} of {all} were admitted");
            until_async(async || {
                let is_cut_off = lapses(redis) > 0 || self.shared().await > shared;
                if is_cut_off { Ok(()) } else { Err(format!("{admitted} of {all} were admitted")) }
            })
            .await;
        }
        admitted
    }

    /// How many requests were served without the store.
    async fn shared(&self) -> f64 {
        let outcome = [("outcome", "shared")];
        let counts =
            self.0.iter().map(|gateway| gateway.metric("tollgate_store_uncovered_requests", &outcome));
        join_all(counts).await.into_iter().map(Result::unwrap).sum()
    }

    /// Waits until the store knows that so much is used of a client's only limit, and each Envoy what the others hold. An Envoy
    /// that nobody asks for ten seconds listens no longer.
    pub async fn settled(&self, redis: &Redis, client: &str, used: usize) {
        let key = format!("tollgate:{{client/{client}}}");
        until(|| {
            let told = last_replies(&redis.ask(&["HGETALL", &key]).unwrap());
            // The numbers of a reply: revision, time, holders; granted, kept, used, held.
            let knows = |reply: &Vec<i64>| {
                reply[2] == self.0.len() as i64 && reply[5] == used as i64 && reply[6] == told[0][6]
            };
            let is_settled = told.len() == self.0.len() && told.iter().all(knows);
            if is_settled { Ok(()) } else { Err(format!("{used} are used: {told:?}")) }
        })
        .await;
    }

    /// How many requests have reached the backends.
    pub fn received(&self) -> usize {
        self.0.iter().map(|gateway| gateway.mock("ptu").received().len()).sum()
    }

    /// The same of a budget of [`KINDS`].
    pub fn received_of(&self, budget: &str) -> usize {
        self.0.iter().map(|gateway| received_of(gateway, budget)).sum()
    }

    pub fn release(&self) {
        for gateway in &self.0 {
            gateway.mock("ptu").update(|settings| settings.hold = false);
            gateway.mock("ptu").release();
        }
    }
}

/// Sends a request of a client; an error is an Envoy that is gone.
fn send(gateway: &Gateway, key: &str) -> impl Future<Output = Result<Answer>> + use<> {
    let request =
        gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(key).json(&request_of(key));
    async move { Answer::read(request.timeout(HELD_WITHIN).send().await?).await }
}

/// How many requests of a budget of [`KINDS`] have reached the backend that holds them.
pub fn received_of(gateway: &Gateway, budget: &str) -> usize {
    let names: Vec<_> = KINDS.into_iter().filter(|name| budget_of(name) == budget).collect();
    names.iter().map(|name| received_from(gateway, name)).sum()
}

/// The same of a client.
pub fn received_from(gateway: &Gateway, name: &str) -> usize {
    gateway.mock("ptu").received().iter().filter(|received| received.json()["user"] == name).count()
}

/// Requests each of which is refused, or held at the backend.
#[derive(Default)]
pub struct Held(JoinSet<Result<Answer>>);

impl Held {
    /// Asks so many times at once for each of these clients at each of these Envoys.
    pub fn ask(&mut self, gateways: &[Gateway], names: &[&str], each: usize) {
        for gateway in gateways {
            for name in names.iter().flat_map(|name| std::iter::repeat_n(name, each)) {
                self.0.spawn(send(gateway, name));
            }
        }
    }

    /// Waits until all of them are decided. `gateways` are those that all of them were asked of, and nobody else asks these.
    pub async fn are_decided(&mut self, gateways: &[Gateway]) {
        let is_decided = || {
            while let Some(answer) = self.0.try_join_next() {
                let answer = answer.unwrap().unwrap();
                assert!([429, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
            }
            let received: usize = gateways.iter().map(|gateway| gateway.mock("ptu").received().len()).sum();
            if self.0.len() == received {
                Ok(())
            } else {
                Err(format!("{} wait, {received} are held", self.0.len()))
            }
        };
        until(is_decided).await;
    }

    /// Asks for clients until each budget is used up. Who is refused asks again: an Envoy may be late to return what it
    /// holds idle.
    pub async fn use_up(&mut self, gateways: &[Gateway], is_used_up: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + RECLAIMED_WITHIN;
        loop {
            self.are_decided(gateways).await;
            let short: Vec<_> = KINDS.into_iter().filter(|name| !is_used_up(budget_of(name))).collect();
            if short.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "there is more of {short:?}");
            self.ask(gateways, &short, 2);
        }
    }

    /// Takes the answers of those that are held no longer.
    pub async fn are_answered(self) {
        for answer in self.0.join_all().await {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}

/// How much of a budget of [`KINDS`] is used by the store's book, in requests. Of several limits the one with the least left.
pub fn booked(redis: &Redis, budget: &str) -> f64 {
    let lines = fields_of(redis, &format!("tollgate:{{{budget}}}"), "l:");
    // The words of a limit: kind, span, size, used, and of places all that are held and those of them that are idle.
    let part = |line: &String| {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<f64>().unwrap();
        let used = if words[0] == "s" { number(6) - number(7) } else { number(3) };
        used / number(2)
    };
    lines.iter().map(part).fold(0.0, f64::max) * FIT as f64
}

/// Waits until the store's book says that so much is used of an account's only limit, which is a window of the calendar.
pub async fn charged(redis: &Redis, key: &str, used: usize) {
    let expected = used.to_string();
    until(|| {
        let lines = fields_of(redis, key, "l:");
        let is_charged = |line: &String| line.split(' ').nth(USED) == Some(expected.as_str());
        let is_so = lines.len() == 1 && lines.iter().all(is_charged);
        if is_so { Ok(()) } else { Err(format!("{used} are used: {lines:?}")) }
    })
    .await;
}

/// How much the store's book says is used of an account's only limit.
pub fn used_of(redis: &Redis, key: &str) -> usize {
    let lines = fields_of(redis, key, "l:");
    lines.iter().filter_map(|line| line.split(' ').nth(USED)?.parse::<usize>().ok()).sum()
}

/// Has the window of an account's only limit end, in the store: the one that begins so many seconds later is there, and so much of it
/// is used.
pub fn begins_anew(redis: &Redis, key: &str, later_s: i64, used: usize) {
    let Reply::Array(fields) = redis.ask(&["HKEYS", key]).unwrap() else { panic!("no record") };
    let names = fields.into_iter().filter_map(|field| match field {
        Reply::Bulk(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    });
    let name = names.into_iter().find(|name| name.starts_with("l:")).unwrap();
    let line = fields_of(redis, key, &name).remove(0);
    let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    words[USED] = used.to_string();
    words[BEGINS] = (words[BEGINS].parse::<i64>().unwrap() + later_s).to_string();
    redis.ask(&["HSET", key, &name, &words.join(" ")]).unwrap();
}

/// Waits until the store knows what was asked of an Envoy by now: what came before the first of two calls is told in the second.
pub async fn all_is_told(gateway: &Gateway) {
    let ok = async || gateway.metric("tollgate_store_calls", &[("outcome", "ok")]).await.unwrap();
    let before = ok().await;
    until_async(async || {
        let now = ok().await;
        if now >= before + 2.0 { Ok(()) } else { Err(format!("{before} calls and then {now}")) }
    })
    .await;
}

/// How often the store has given back what an Envoy held of an account, because it had not heard of it for three seconds: the
/// script takes nothing else out of a record. A store that is restarted counts anew.
pub fn lapses(redis: &Redis) -> usize {
    let Reply::Bulk(stats) = redis.ask(&["INFO", "commandstats"]).unwrap() else { panic!("no statistics") };
    let stats = String::from_utf8(stats).unwrap();
    let calls = stats.split("cmdstat_hdel:calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// Waits until so many Envoys have told a store that began anew of an account, and answers whether all did within the half
/// second in which it grants nothing.
pub async fn told_in_time(redis: &Redis, key: &str, envoys: usize) -> bool {
    let mut is_in_time = false;
    until(|| {
        let told = last_replies(&redis.ask(&["HGETALL", key]).unwrap());
        if told.len() < envoys {
            return Err(format!("{} of {envoys} have told", told.len()));
        }
        let Reply::Bulk(base) = redis.ask(&["HGET", key, "base"]).unwrap() else { panic!("no base") };
        let base: i64 = String::from_utf8(base).unwrap().parse().unwrap();
        is_in_time = told.iter().all(|reply| reply[1] < base + 500_000);
        Ok(())
    })
    .await;
    is_in_time
}

/// What the store has told each holder last.
pub fn last_replies(record: &Reply) -> Vec<Vec<i64>> {
    let numbers = |line: &String| line.split(' ').map(|number| number.parse().unwrap()).collect();
    fields_that(record, "r:").iter().map(numbers).collect()
}

fn fields_of(redis: &Redis, key: &str, prefix: &str) -> Vec<String> {
    fields_that(&redis.ask(&["HGETALL", key]).unwrap(), prefix)
}

/// The values of a record whose names begin so.
fn fields_that(record: &Reply, prefix: &str) -> Vec<String> {
    let Reply::Array(fields) = record else { panic!("{record:?}") };
    let text = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    let fields = fields.chunks(2).filter(|field| text(&field[0]).starts_with(prefix));
    fields.map(|field| text(&field[1])).collect()
}

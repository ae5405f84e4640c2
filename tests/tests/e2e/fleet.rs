//! Do several Envoys share one budget, exactly, whatever dies?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tollgate::gateway::{PAUSES_SHA1, SCRIPT_SHA1};
use tollgate::limits::leases::SCRIPT;
use tollgate::resp::Reply;
use tollgate::route;
use tollgate_tests::harness::{Answer, Gateway, Redis, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{CHAT, chat, prompt_estimate, with};

const PASSWORD: &str = "fleet-password";

/// How long it may take until the leases of an Envoy that died are over, on a busy machine.
const RECLAIMED_WITHIN: Duration = Duration::from_secs(60);

/// A client whose key is its name.
fn client(name: &str, limits: Value) -> Value {
    let sha256 = hex::encode(Sha256::digest(name));
    json!({ "name": name, "api_keys": [ { "sha256": sha256 } ], "models": ["gpt-4o"], "limits": limits })
}

fn small_chat() -> Value {
    with(chat("hello"), json!({ "max_tokens": 10 }))
}

/// Envoys that share the budgets of a Redis.
struct Fleet(Vec<Gateway>);

impl Fleet {
    async fn start(redis: &Redis, envoys: usize, config: impl Fn(&mut Value), mock: &Settings) -> Self {
        let start = |_| {
            let mut whole = Value::Null;
            let setup = Setup::new().redis(redis.address(), PASSWORD).mock("ptu", mock.clone());
            // The closure is called while the setup is made, for what it is given lives no longer.
            let changed = {
                whole["store"] = json!({ "redis": {
                    "cluster": "tollgate-store", "password_env": "REDIS_PASSWORD", "timeout_ms": 1000 } });
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

    /// Asks so many times at once at each Envoy.
    fn ask(&self, key: &str, each: usize) -> JoinSet<Answer> {
        let mut asked = JoinSet::new();
        for gateway in self.0.iter().flat_map(|gateway| std::iter::repeat_n(gateway, each)) {
            let (url, http, key) =
                (format!("{}{CHAT}", gateway.url()), gateway.http().clone(), key.to_owned());
            asked.spawn(async move {
                let request = http.post(url).bearer_auth(key).json(&small_chat());
                Answer::read(request.send().await.unwrap()).await.unwrap()
            });
        }
        asked
    }

    /// How many of so many requests at each Envoy were admitted; all others must have been refused by these.
    async fn admitted(&self, key: &str, each: usize, refusals: &[u16]) -> usize {
        let answers = self.ask(key, each).join_all().await;
        for answer in &answers {
            let is_known = answer.status == 200 || refusals.contains(&answer.status);
            assert!(is_known, "{} {}", answer.status, answer.text());
        }
        answers.iter().filter(|answer| answer.status == 200).count()
    }

    /// Asks until so many were admitted in all, `before` of them already; and then that no more are.
    async fn use_up(&self, key: &str, before: usize, all: usize, refusals: &[u16]) {
        let deadline = Instant::now() + RECLAIMED_WITHIN;
        let mut admitted = before;
        while admitted < all {
            assert!(Instant::now() < deadline, "{admitted} of {all} were admitted");
            admitted += self.admitted(key, 4, refusals).await;
        }
        assert_eq!(admitted + self.admitted(key, 4, refusals).await, all);
    }

    /// Waits until the store knows that so much is used of a client's only limit, and each Envoy what the others hold.
    async fn settled(&self, redis: &Redis, client: &str, used: i64) {
        let key = format!("tollgate:{{client/{client}}}");
        let deadline = Instant::now() + RECLAIMED_WITHIN;
        loop {
            let told = last_replies(&redis.ask(&["HGETALL", &key]).unwrap());
            // The numbers of a reply: revision, time, holders; granted, kept, used, held.
            let knows = |reply: &Vec<i64>| {
                reply[2] == self.0.len() as i64 && reply[5] == used && reply[6] == told[0][6]
            };
            if told.len() == self.0.len() && told.iter().all(knows) {
                return;
            }
            assert!(Instant::now() < deadline, "{used} used: {told:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many requests have reached the backends.
    fn received(&self) -> usize {
        self.0.iter().map(|gateway| gateway.mock("ptu").received().len()).sum()
    }

    fn release(&self) {
        for gateway in &self.0 {
            gateway.mock("ptu").update(|settings| settings.hold = false);
            gateway.mock("ptu").release();
        }
    }
}

/// What the store has told each holder last.
fn last_replies(record: &Reply) -> Vec<Vec<i64>> {
    let Reply::Array(fields) = record else { panic!("{record:?}") };
    let text = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    let numbers = |reply: &Reply| text(reply).split(' ').map(|number| number.parse().unwrap()).collect();
    fields
        .chunks(2)
        .filter(|field| text(&field[0]).starts_with("r:"))
        .map(|field| numbers(&field[1]))
        .collect()
}

#[tokio::test]
async fn three_envoys_admit_what_one_budget_holds_of_each_kind() {
    const EACH: usize = 30;
    const FIT: u64 = 40;
    let Some(redis) =
        Redis::or_skip("three_envoys_admit_what_one_budget_holds_of_each_kind", Some(PASSWORD), &[])
    else {
        return;
    };
    let reserved = prompt_estimate(&small_chat()) + 10;
    // The most that one costs anywhere, in millionths: a prompt token 2.5, another 10.
    let cost = (prompt_estimate(&small_chat()) as f64 * 2.5 + 100.0).ceil();
    let kinds = [
        ("tokens-day", json!([ { "tokens": reserved * FIT, "per": "day" } ])),
        ("tokens-minute", json!([ { "tokens": reserved * FIT, "per": "minute" } ])),
        ("requests-month", json!([ { "requests": FIT, "per": "month" } ])),
        ("requests-minute", json!([ { "requests": FIT, "per": "minute" } ])),
        ("cost-week", json!([ { "cost": cost * FIT as f64 / 1e6, "per": "week" } ])),
        ("concurrent", json!([ { "concurrent": FIT } ])),
        (
            "several",
            json!([ { "tokens": reserved * FIT, "per": "hour" }, { "concurrent": FIT + 20 },
            { "requests": FIT * 2, "per": "day" } ]),
        ),
    ];
    let config = |config: &mut Value| {
        let mut clients: Vec<_> = kinds.iter().map(|(name, limits)| client(name, limits.clone())).collect();
        for name in ["member-a", "member-b"] {
            clients.push(with(client(name, json!([])), json!({ "group": "team" })));
        }
        config["clients"] = json!(clients);
        config["groups"] =
            json!([ { "name": "team", "limits": [ { "tokens": reserved * FIT, "per": "day" } ] } ]);
    };
    let hold = Settings { hold: true, ..Settings::default() };
    let fleet = Fleet::start(&redis, 3, config, &hold).await;

    // What is admitted is held at the backend, so nothing is settled: as much is admitted as is reserved.
    let before = Instant::now();
    let mut waiting = Vec::new();
    let names = kinds.iter().map(|(name, _)| *name).chain(["member-a", "member-b"]);
    for name in names {
        waiting.push((name, fleet.ask(name, EACH)));
    }
    let mut admitted: BTreeMap<&str, usize> = BTreeMap::new();
    // Who is refused asks again: an Envoy may be late to return what it holds idle.
    let mut kept = Vec::new();
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    loop {
        let sent: usize = waiting.iter().map(|(_, asked)| asked.len()).sum();
        let (received, mut answered) = (fleet.received(), 0);
        let before = kept.iter().map(|(_, asked): &(&str, JoinSet<Answer>)| asked.len()).sum::<usize>();
        while fleet.received() - before + answered < sent {
            assert!(Instant::now() < deadline, "{received} received, {answered} answered of {sent}");
            for (name, asked) in &mut waiting {
                while let Some(answer) = asked.try_join_next() {
                    let answer = answer.unwrap();
                    assert_eq!(answer.status, 429, "{name}: {}", answer.text());
                    answered += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        kept.append(&mut waiting);
        let has = |name: &str| {
            let of_name = kept.iter().filter(|(other, _)| other.starts_with(name));
            of_name.map(|(_, asked)| asked.len()).sum::<usize>()
        };
        let short =
            kinds.iter().map(|(name, _)| *name).chain(["member-"]).filter(|name| has(name) < FIT as usize);
        waiting = short
            .map(|name| if name == "member-" { "member-a" } else { name })
            .map(|name| (name, fleet.ask(name, 2)))
            .collect();
        if waiting.is_empty() {
            break;
        }
    }
    let earned = before.elapsed().as_secs_f64() / 60.0 * FIT as f64;
    fleet.release();
    for (name, asked) in kept {
        for answer in asked.join_all().await {
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            *admitted.entry(name).or_default() += 1;
        }
    }
    let team = admitted.remove("member-a").unwrap_or(0) + admitted.remove("member-b").unwrap_or(0);
    admitted.insert("team", team);
    for (name, admitted) in &admitted {
        let most =
            if name.ends_with("minute") { FIT as usize + earned.ceil() as usize } else { FIT as usize };
        assert!((FIT as usize..=most).contains(admitted), "{name}: {admitted}, expected {FIT} to {most}");
    }
    assert_eq!(admitted.len(), kinds.len() + 1);
    // Places are free again, at every Envoy.
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    while fleet.admitted("concurrent", 10, &[429]).await < 30 {
        assert!(Instant::now() < deadline, "places are missing");
    }
}

#[test]
fn the_store_knows_each_script_by_its_name() {
    let Some(redis) = Redis::or_skip("the_store_knows_each_script_by_its_name", Some(PASSWORD), &[]) else {
        return;
    };
    for (script, name) in [(SCRIPT, SCRIPT_SHA1), (route::SCRIPT, PAUSES_SHA1)] {
        assert_eq!(redis.ask(&["SCRIPT", "LOAD", script]).unwrap(), Reply::Bulk(name.into()));
    }
}

#[tokio::test]
async fn a_month_goes_on_when_all_envoys_are_new() {
    let Some(redis) = Redis::or_skip("a_month_goes_on_when_all_envoys_are_new", Some(PASSWORD), &[]) else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("monthly", json!([ { "requests": 20, "per": "month" } ]))]);
    };
    let fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    assert_eq!(fleet.admitted("monthly", 6, &[]).await, 12);
    fleet.settled(&redis, "monthly", 12).await;
    drop(fleet);
    let fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    fleet.use_up("monthly", 12, 20, &[429]).await;
}

#[tokio::test]
async fn a_redis_that_dies_loses_no_budget_and_gives_none_twice() {
    let Some(mut redis) =
        Redis::or_skip("a_redis_that_dies_loses_no_budget_and_gives_none_twice", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "requests": 120, "per": "day" } ]))]);
        config["on_store_failure"] = json!("deny");
    };
    let fleet = Fleet::start(&redis, 3, config, &Settings::default()).await;
    let mut admitted = fleet.admitted("daily", 10, &[]).await;
    assert_eq!(admitted, 30);
    let load = fleet.ask("daily", 20);
    redis.kill();
    admitted += load.join_all().await.iter().filter(|answer| answer.status == 200).count();
    admitted += fleet.admitted("daily", 5, &[429, 503]).await;
    redis.restart().unwrap();
    fleet.use_up("daily", admitted, 120, &[429, 503]).await;
}

#[tokio::test]
async fn what_is_shared_without_a_store_is_charged_when_it_is_back() {
    let Some(mut redis) =
        Redis::or_skip("what_is_shared_without_a_store_is_charged_when_it_is_back", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "requests": 120, "per": "day" } ]))]);
    };
    let fleet = Fleet::start(&redis, 3, config, &Settings::default()).await;
    let mut admitted = fleet.admitted("daily", 4, &[]).await;
    fleet.settled(&redis, "daily", 12).await;
    redis.kill();
    // Each has its part, and no more: all of it together is what was left.
    for _ in 0..4 {
        admitted += fleet.admitted("daily", 15, &[429]).await;
    }
    assert!((13..=120).contains(&admitted), "{admitted}");
    redis.restart().unwrap();
    // Until each has said what it owes, the store does not know of it.
    fleet.settled(&redis, "daily", i64::try_from(admitted).unwrap()).await;
    fleet.use_up("daily", admitted, 120, &[429]).await;
}

#[tokio::test]
async fn the_places_of_an_envoy_that_is_killed_are_free_again() {
    let Some(redis) =
        Redis::or_skip("the_places_of_an_envoy_that_is_killed_are_free_again", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("few", json!([ { "concurrent": 6 } ]))]);
    };
    let hold = Settings { hold: true, ..Settings::default() };
    let mut dying = Fleet::start(&redis, 1, config, &hold).await;
    let fleet = Fleet::start(&redis, 1, config, &hold).await;
    let mut held = dying.ask("few", 6);
    dying.0[0].mock("ptu").wait_for_requests(6).await;
    assert_eq!(fleet.admitted("few", 2, &[429]).await, 0);
    drop(dying.0.pop());
    held.abort_all();
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    let mut kept = Vec::new();
    while fleet.received() < 6 {
        assert!(Instant::now() < deadline, "{} of 6 places", fleet.received());
        let (before, count) = (fleet.received(), 6 - fleet.received());
        let (mut asked, mut refused) = (fleet.ask("few", count), 0);
        while fleet.received() - before + refused < count {
            if let Some(answer) = asked.try_join_next() {
                assert_eq!(answer.unwrap().status, 429);
                refused += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        kept.push(asked);
    }
    fleet.release();
    for asked in kept {
        assert!(asked.join_all().await.iter().all(|answer| answer.status == 200));
    }
}

#[tokio::test]
async fn a_pause_that_one_envoy_is_told_holds_for_all() {
    let Some(redis) = Redis::or_skip("a_pause_that_one_envoy_is_told_holds_for_all", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "requests": 100000, "per": "day" } ]))]);
    };
    let fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    let [told, hears] = &fleet.0[..] else { panic!("two") };
    // Each has backends of its own, and that of the other is not busy: so it knows by the store alone.
    let busy = Fault::answer(429).header("retry-after", "60").always();
    told.mock("ptu").update(|settings| settings.faults = [busy].into());
    let is_served_by_ptu = async |gateway: &Gateway| {
        let before = gateway.mock("ptu").received().len();
        assert_eq!(gateway.post(CHAT, "daily", &small_chat()).await.unwrap().status, 200);
        gateway.mock("ptu").received().len() > before
    };
    assert!(is_served_by_ptu(hears).await);
    assert!(is_served_by_ptu(told).await, "it is asked, and refuses");
    let deadline = Instant::now() + RECLAIMED_WITHIN / 2;
    while is_served_by_ptu(hears).await {
        assert!(Instant::now() < deadline, "nobody has told it");
    }
    assert!(!is_served_by_ptu(hears).await);
}

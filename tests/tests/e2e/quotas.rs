//! Are requests, money and places under way limited as tokens are, for a client and for its group, and is it told?

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_tests::harness::{Answer, Gateway, Setup, tools};
use tollgate_tests::mock::{Settings, tokens};

use crate::metering::{load_module, served_again, trapping_module};
use crate::requests::{
    BATCH, CHAT, INSTRUCT, WEB_SHOP, chat, details, prompt_estimate, record_of, refusal, with,
};

const USAGE: &str = "/tollgate/v1/usage";
const MODELS: &str = "/v1/models";

/// A change of the configuration: these are the only limits of `web-shop`.
fn web_shop_has(limits: Value) -> impl FnOnce(&mut Value) + Send {
    move |config| config["clients"][0]["limits"] = limits
}

/// A change of the configuration: both clients are in a group with these limits.
fn both_share(limits: Value) -> impl FnOnce(&mut Value) + Send {
    move |config| {
        config["groups"] = json!([ { "name": "sales", "limits": limits } ]);
        for client in config["clients"].as_array_mut().unwrap() {
            client["group"] = json!("sales");
        }
    }
}

/// Connections are dealt out evenly. Without this the kernel does as it likes, perhaps all to one worker.
fn to_both_workers(envoy: &mut Value) {
    envoy["static_resources"]["listeners"][0]["connection_balance_config"] = json!({ "exact_balance": {} });
}

fn held() -> Settings {
    Settings { hold: true, ..Settings::default() }
}

/// Asks on a connection of its own.
async fn fetch(gateway: &Gateway, path: &str, key: &str) -> Answer {
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let request = http.get(format!("{}{path}", gateway.url())).bearer_auth(key);
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// What is used of each limit, under its unit and period.
async fn used(gateway: &Gateway, key: &str) -> BTreeMap<String, f64> {
    let answer = fetch(gateway, USAGE, key).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let name = |limit: &Value| match limit["per"].as_str() {
        Some(per) => format!("{} per {per}", limit["unit"].as_str().unwrap()),
        None => limit["unit"].as_str().unwrap().to_owned(),
    };
    let limits = answer.json()["limits"].as_array().unwrap().clone();
    limits.iter().map(|limit| (name(limit), limit["used"].as_f64().unwrap())).collect()
}

/// Sends so many at once, by turns as each of the keys; the answers that come while `enough` does not.
fn send_at_once(
    gateway: &Gateway,
    requests: usize,
    keys: &[&'static str],
) -> JoinSet<(&'static str, Answer)> {
    let mut asked = JoinSet::new();
    for at in 0..requests {
        let (url, http) = (format!("{}{CHAT}", gateway.url()), gateway.http().clone());
        let key = keys[at % keys.len()];
        asked.spawn(async move {
            let request =
                http.post(url).bearer_auth(key).json(&with(chat("hello"), json!({ "max_tokens": 5 })));
            (key, Answer::read(request.send().await.unwrap()).await.unwrap())
        });
    }
    asked
}

#[tokio::test]
async fn two_workers_never_exceed_the_places_and_each_comes_back() {
    const REQUESTS: usize = 200;
    const PLACES: usize = 7;
    let limits = web_shop_has(json!([ { "concurrent": PLACES } ]));
    let setup = Setup::new().workers(2).patch(to_both_workers).edit(limits).mock("ptu", held());
    let gateway = Gateway::start(setup).await.unwrap();
    for round in 1..=2 {
        let mut asked = send_at_once(&gateway, REQUESTS, &[WEB_SHOP]);
        for _ in PLACES..REQUESTS {
            let (_, answer) = asked.join_next().await.unwrap().unwrap();
            let message = format!(
                "This client's limit of {PLACES} concurrent requests is reached. Try again when one of them has ended."
            );
            let expected = refusal(&message, "rate_limit_error", None, "concurrency_limit_exceeded");
            assert_eq!((answer.status, answer.json()), (429, expected));
            let header = |name| answer.header(name).to_owned();
            assert_eq!((header("retry-after"), header("retry-after-ms")), ("1".to_owned(), String::new()));
            assert_eq!(header("x-should-retry"), "");
        }
        // Those that are left hold all the places, and no other ever had one.
        gateway.mock("ptu").wait_for_requests(round * PLACES).await;
        assert_eq!(gateway.mock("ptu").received().len(), round * PLACES);
        assert_eq!(used(&gateway, WEB_SHOP).await["concurrent"] as usize, PLACES);
        if round == 1 {
            // However they end: here their clients hang up.
            asked.shutdown().await;
            gateway.mock("ptu").wait_for_disconnects(PLACES).await;
        } else {
            gateway.mock("ptu").release();
            while let Some(answer) = asked.join_next().await {
                assert_eq!(answer.unwrap().1.status, 200);
            }
        }
        // The records are written when the places have been returned.
        gateway.wait_for_log_where(|log| of_chats(log) == round * REQUESTS).await.unwrap();
        assert_eq!(used(&gateway, WEB_SHOP).await["concurrent"], 0.0);
    }
    let labels = [("client", "web-shop"), ("limit", "concurrent")];
    let refused = (2 * (REQUESTS - PLACES)) as f64;
    gateway.wait_for_metric("tollgate_limit_refusals", &labels, refused).await.unwrap();
}

/// How many lines are about chats.
fn of_chats(log: &[Value]) -> usize {
    let is_chat = |line: &&Value| details(line)["operation"] == "chat/completions";
    log.iter().filter(is_chat).count()
}

#[tokio::test]
async fn a_group_serves_exactly_its_quota_of_many_at_once() {
    const REQUESTS: usize = 200;
    const QUOTA: usize = 30;
    let own = |config: &mut Value| {
        for client in config["clients"].as_array_mut().unwrap() {
            client["limits"] = json!([ { "requests": 1000, "per": "month" } ]);
        }
    };
    let shared = both_share(json!([ { "requests": QUOTA, "per": "week" } ]));
    let gateway =
        Gateway::start(Setup::new().workers(2).patch(to_both_workers).edit(own).edit(shared)).await.unwrap();
    let mut asked = send_at_once(&gateway, REQUESTS, &[WEB_SHOP, BATCH]);
    let mut served = BTreeMap::from([(WEB_SHOP, 0), (BATCH, 0)]);
    while let Some(answer) = asked.join_next().await {
        let (key, answer) = answer.unwrap();
        if answer.status == 200 {
            *served.get_mut(key).unwrap() += 1;
            continue;
        }
        let error = &answer.json()["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("insufficient_quota"), &json!("insufficient_quota"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("The limit of group `sales` of 30 requests per week is reached."),
            "{message}"
        );
    }
    assert_eq!(served.values().sum::<usize>(), QUOTA);
    gateway.wait_for_log(REQUESTS).await.unwrap();
    // What a client's own limit had given when the group's refused, it has back.
    for (key, served) in served {
        let used = used(&gateway, key).await;
        assert_eq!(
            (used["requests per month"] as usize, used["requests per week"] as usize),
            (served, QUOTA)
        );
    }
}

#[tokio::test]
async fn every_answer_to_a_known_client_tells_where_its_limits_stand() {
    let limits = json!([ { "tokens": 5000, "per": "minute" }, { "requests": 9, "per": "minute" }, { "requests": 50, "per": "day" } ]);
    let gateway = Gateway::start(Setup::new().workers(1).edit(web_shop_has(limits))).await.unwrap();
    let stream = with(chat("hello"), json!({ "stream": true }));
    let forbidden = with(chat("hello"), json!({ "model": INSTRUCT }));
    let too_much = with(chat(&"word ".repeat(9000)), json!({}));
    let broken = with(chat("hello"), json!({ "max_tokens": "many" }));
    let mut answers = Vec::new();
    for (body, status) in
        [(chat("hello"), 200), (stream, 200), (forbidden, 403), (too_much, 429), (broken, 400)]
    {
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        answers.push(answer);
    }
    answers.push(fetch(&gateway, MODELS, WEB_SHOP).await);
    answers.push(fetch(&gateway, USAGE, WEB_SHOP).await);
    for answer in answers {
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), "5000", "{answer:?}");
        assert_eq!(answer.header("x-ratelimit-limit-requests"), "9");
        for what in ["tokens", "requests"] {
            let remaining = answer.header(&format!("x-ratelimit-remaining-{what}"));
            assert!(remaining.parse::<u64>().is_ok(), "{remaining}");
            let reset = answer.header(&format!("x-ratelimit-reset-{what}"));
            assert!(reset.ends_with('s'), "{reset}");
        }
    }
    // Who is not known is told nothing.
    let answer = fetch(&gateway, USAGE, "nobody").await;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit-tokens")), (401, ""));
}

#[tokio::test]
async fn money_is_charged_by_what_the_backend_that_served_costs() {
    // A day's worth of pay-as-you-go prompts; the first backend takes no money for them.
    let limits = json!([ { "cost": 0.01, "per": "day", "models": ["gpt-4o"] } ]);
    let free_of_prices = |config: &mut Value| {
        config["models"][0]["prices"] = json!({ "prompt": 100, "completion": 400 });
        config["models"][0]["backends"][0]["prices"] = json!({ "prompt": 0, "completion": 100 });
    };
    let setup = Setup::new().workers(1).edit(free_of_prices).edit(web_shop_has(limits));
    let gateway = Gateway::start(setup).await.unwrap();
    let body = with(chat("hello"), json!({ "max_tokens": 20 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let price = details(&record_of(&gateway, &answer).await)["price_micros"].as_u64().unwrap();
    assert_eq!(price, 20 * 100);
    assert_eq!(used(&gateway, WEB_SHOP).await["cost per day"], 0.002);
    // The next may cost as much as at the dearest backend: 400 for a token of the answer, 100 for one of the prompt.
    let may_cost = (prompt_estimate(&body) * 100 + 20 * 400) as f64 / 1e6;
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 429);
    let error = &answer.json()["error"];
    let message = error["message"].as_str().unwrap();
    let expected = format!(
        "This client's limit of 0.01 in money per day for gpt-4o is reached: the request may cost {may_cost}, 0.008 are \
         left. Try again in "
    );
    assert!(message.starts_with(&expected), "{message} is not {expected}");
    assert_eq!(error["code"], "insufficient_quota");
    let wait_ms: u64 = answer.header("retry-after-ms").parse().unwrap();
    assert!(wait_ms <= 86_400_000);
    assert_eq!(answer.header("x-should-retry") == "false", wait_ms > 60_000);
}

#[tokio::test]
async fn a_shadow_limit_reports_and_refuses_nothing() {
    let limits = json!([ { "requests": 1, "per": "month", "shadow": true } ]);
    let gateway = Gateway::start(Setup::new().workers(1).edit(web_shop_has(limits))).await.unwrap();
    for shadow in [Value::Null, json!(["requests/month"]), json!(["requests/month"])] {
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
        assert_eq!((answer.status, answer.header("x-ratelimit-limit-requests")), (200, ""));
        assert_eq!(details(&record_of(&gateway, &answer).await)["shadow_refusals"], shadow);
    }
    let labels = [("client", "web-shop"), ("limit", "requests/month")];
    gateway.wait_for_metric("tollgate_limit_shadow_refusals", &labels, 2.0).await.unwrap();
    assert_eq!(gateway.metric("tollgate_limit_refusals", &labels).await.unwrap(), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_of_a_request_whose_vm_traps_is_returned_by_another() {
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    let limits = web_shop_has(json!([ { "concurrent": 1 }, { "tokens": 100_000, "per": "month" } ]));
    let setup = Setup::new()
        .workers(1)
        .edit(limits)
        .edit(both_share(json!([ { "concurrent": 9 } ])))
        .patch(move |envoy| load_module(envoy, &module))
        .mock("ptu", held());
    let gateway = std::sync::Arc::new(Gateway::start(setup).await.unwrap());
    let body = chat("hello");
    let in_flight = tokio::spawn({
        let (gateway, body) = (std::sync::Arc::clone(&gateway), body.clone());
        async move { gateway.post(CHAT, WEB_SHOP, &body).await }
    });
    gateway.mock("ptu").wait_for_requests(1).await;
    let url = format!("{}{CHAT}", gateway.url());
    let trap = gateway.http().post(url).bearer_auth(BATCH).header("x-trap", "1").json(&body);
    let _ = trap.send().await;
    // What was under way stays open until its backend is done.
    gateway.mock("ptu").release();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), in_flight).await;
    gateway.mock("ptu").update(|settings| settings.hold = false);
    // A request makes Envoy start another VM, which finds what the first left.
    let again = with(body.clone(), json!({ "max_tokens": 9 }));
    served_again(&gateway, BATCH, &again).await;
    let lost = [("client", "web-shop"), ("outcome", "lost")];
    gateway.wait_for_metric("tollgate_requests", &lost, 1.0).await.unwrap();
    let found = used(&gateway, WEB_SHOP).await;
    let reserved = (prompt_estimate(&body) + 256) as f64;
    assert_eq!((found["concurrent"], found["tokens per month"]), (0.0, reserved), "{found:?}");
    assert_eq!(gateway.post(CHAT, WEB_SHOP, &body).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_push_keeps_what_is_spent_and_what_is_under_way() {
    let dir = tempfile::tempdir_in(tools::target_dir()).unwrap();
    let file = dir.path().join("listeners.json");
    let before = json!([ { "concurrent": 2 }, { "tokens": 100_000, "per": "month" } ]);
    let from_file = {
        let file = file.clone();
        move |envoy: &mut Value| {
            let listener = envoy["static_resources"]["listeners"][0].take();
            envoy["static_resources"].as_object_mut().unwrap().remove("listeners");
            envoy["node"] = json!({ "id": "tollgate", "cluster": "tollgate" });
            envoy["dynamic_resources"] = json!({ "lds_config": { "path_config_source": { "path": file } } });
            write_listener(&file, listener);
        }
    };
    let setup = Setup::new().workers(2).edit(web_shop_has(before)).patch(from_file).mock("ptu", held());
    let gateway = std::sync::Arc::new(Gateway::start(setup).await.unwrap());
    let body = with(chat("hello"), json!({ "max_tokens": 20 }));
    let ask = |body: &Value| {
        let (gateway, body) = (std::sync::Arc::clone(&gateway), body.clone());
        tokio::spawn(async move { gateway.post(CHAT, WEB_SHOP, &body).await.unwrap() })
    };
    let first = ask(&body);
    gateway.mock("ptu").wait_for_requests(1).await;

    // Other sizes, another order, one more and a place less.
    let mut listeners: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut listener = listeners["resources"][0].take();
    *limits_in(&mut listener).unwrap() = json!([ { "requests": 50, "per": "day" }, { "tokens": 200_000, "per": "month" }, { "concurrent": 2 } ]);
    write_listener(&file, listener);
    let updated = |answer: &Answer| answer.json()["limits"][0]["unit"] == "requests";
    while !updated(&fetch(&gateway, USAGE, WEB_SHOP).await) {
        tokio::task::yield_now().await;
    }
    let reserved = (prompt_estimate(&body) + 20) as f64;
    let found = used(&gateway, WEB_SHOP).await;
    let values = |found: &BTreeMap<String, f64>| {
        ["requests per day", "tokens per month", "concurrent"].map(|name| found[name])
    };
    assert_eq!(values(&found), [0.0, reserved, 1.0]);
    let second = ask(&body);
    gateway.mock("ptu").wait_for_requests(2).await;
    let refused = ask(&body).await.unwrap();
    assert_eq!(refused.json()["error"]["code"], "concurrency_limit_exceeded");
    gateway.mock("ptu").release();
    for answer in [first.await.unwrap(), second.await.unwrap()] {
        assert_eq!(answer.status, 200);
        record_of(&gateway, &answer).await;
    }
    // The first was sent under the old configuration and is settled in the new one's record.
    let charged = 2 * (tokens::chat(body["messages"].as_array().unwrap()) + 20);
    assert_eq!(values(&used(&gateway, WEB_SHOP).await), [1.0, charged as f64, 0.0]);
}

/// Puts a listener where Envoy watches for it: it sees only files that are moved into place.
fn write_listener(file: &std::path::Path, mut listener: Value) {
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    let half = file.with_extension("new");
    std::fs::write(&half, json!({ "resources": [listener] }).to_string()).unwrap();
    std::fs::rename(half, file).unwrap();
}

/// The limits of the first client, wherever they are.
fn limits_in(value: &mut Value) -> Option<&mut Value> {
    match value {
        Value::Object(members) => {
            if members.contains_key("clients") {
                return members["clients"].get_mut(0)?.get_mut("limits");
            }
            members.values_mut().find_map(limits_in)
        }
        Value::Array(items) => items.iter_mut().find_map(limits_in),
        _ => None,
    }
}

#[tokio::test]
async fn what_is_used_of_a_limit_is_alerted_once_in_its_window() {
    let limits = web_shop_has(json!([ { "requests": 4, "per": "month", "alerts": [0.5, 1.0] } ]));
    let gateway = Gateway::start(Setup::new().workers(2).edit(limits)).await.unwrap();
    let told = |percent: u32| {
        let log = gateway.log_text().unwrap();
        log.matches(&format!("alert of {percent} % for client/web-shop: ")).count()
    };
    let is_told = async |percent: f64| {
        let labels = [("client", "web-shop"), ("limit", "requests/month")];
        gateway.wait_for_metric("tollgate_limit_alert_percent", &labels, percent).await.unwrap();
    };
    let ask = async || gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status;
    assert_eq!(ask().await, 200);
    is_told(0.0).await;
    assert_eq!(ask().await, 200);
    is_told(50.0).await;
    for _ in 0..2 {
        assert_eq!(ask().await, 200);
    }
    is_told(100.0).await;
    assert_eq!(ask().await, 429);
    assert_eq!((told(50), told(100)), (1, 1));
    let line = "alert of 50 % for client/web-shop: 2 of 4 used of its limit requests/month";
    assert!(gateway.log_text().unwrap().contains(line));
}

#[tokio::test]
async fn a_limit_that_refuses_is_alerted_as_used_up() {
    let limits = web_shop_has(json!([ { "tokens": 5000, "per": "month", "alerts": [1.0] } ]));
    let gateway = Gateway::start(Setup::new().workers(1).edit(limits)).await.unwrap();
    // Of which little is used, so the next one does not fit.
    let of = |cap: u64| with(chat("hello"), json!({ "max_tokens": cap }));
    assert_eq!(gateway.post(CHAT, WEB_SHOP, &of(500)).await.unwrap().status, 200);
    let mut refused = gateway.post(CHAT, WEB_SHOP, &of(500)).await.unwrap();
    while refused.status == 200 {
        refused = gateway.post(CHAT, WEB_SHOP, &of(500)).await.unwrap();
    }
    assert_eq!(refused.status, 429, "{}", refused.text());
    let labels = [("client", "web-shop"), ("limit", "tokens/month")];
    gateway.wait_for_metric("tollgate_limit_alert_percent", &labels, 100.0).await.unwrap();
}

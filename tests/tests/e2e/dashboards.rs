//! Do the dashboards and alerts ask for metrics that there are, and does Prometheus understand them?
//!
//! A real Prometheus reads a real Envoy's page under traffic that meets everything they are about. Every query of every
//! panel must then have an answer; what no query asks for any more is the author's to see.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate_tests::harness::tools::{self, workspace};
use tollgate_tests::harness::{Gateway, Prometheus, Setup, promtool};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{CHAT, COMPLETIONS, EMBEDDINGS};

/// How long all queries may take to have an answer: a rate needs two readings.
const WITHIN: Duration = Duration::from_secs(180);

/// They count faults that the traffic here does not have, or are a worker's of the queue; that they exist, [`known_metrics`] says.
const FAULTS: [&str; 21] = [
    "tollgate_backend_auth_failures",
    "tollgate_broker_messages",
    "tollgate_directory_fetches",
    "tollgate_key_lookups",
    "tollgate_limit_alert_percent",
    "tollgate_limit_values_forgotten",
    "tollgate_missing_links",
    "tollgate_queue_dead",
    "tollgate_queue_depth",
    "tollgate_queue_jobs",
    "tollgate_queue_later",
    "tollgate_queue_oldest_seconds",
    "tollgate_queue_outcomes",
    "tollgate_queue_running",
    "tollgate_spend_merged",
    "tollgate_store_calls",
    "tollgate_store_faults",
    "tollgate_store_losses",
    "tollgate_store_recalls",
    "tollgate_store_uncovered_requests",
    "tollgate_worker_jobs_total",
];

/// The clients' names are their keys too.
const SHOP: &str = "web-shop";
const SUPPORT: &str = "support";
const LAB: &str = "lab";
const VISITOR: &str = "visitor";

fn dashboards() -> Vec<(PathBuf, Value)> {
    let folder = workspace().join("examples/grafana/dashboards");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            (file, serde_json::from_str(&text).unwrap())
        })
        .collect();
    found.sort_by_key(|(file, _)| file.clone());
    found
}

/// Its panels, without the headlines between them.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A query of a panel.
#[derive(Debug)]
struct Query {
    /// Where it stands.
    place: String,
    expression: String,
    legend: String,
}

/// Every query, with what Grafana would put in place of its variables.
fn queries() -> Vec<Query> {
    let mut found = Vec::new();
    for (file, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().unwrap() {
                let mut expression =
                    text(&target["expr"]).replace("$__rate_interval", "1m").replace("$__range", "5m");
                for variable in variables {
                    let value = if variable["multi"] == true { text(&variable["allValue"]) } else { SHOP };
                    expression = expression.replace(&format!("${}", text(&variable["name"])), value);
                }
                assert!(!expression.contains('$'), "no such variable: {expression}");
                let (file, title) = (file.file_name().unwrap().display(), text(&panel["title"]));
                found.push(Query {
                    place: format!("{file}, {title:?}"),
                    expression,
                    legend: text(&target["legendFormat"]).to_owned(),
                });
            }
        }
    }
    found
}

/// The words of an expression: names of metrics, and names of labels.
#[derive(Debug, Default, PartialEq)]
struct Names {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

fn names(expression: &str) -> Names {
    const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "vector"];
    let mut found = Names::default();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = expression;
    // The last list that was announced, and the bracket that we are in.
    let (mut announced, mut within) = (false, ' ');
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        if length == 0 {
            rest = &rest[first.len_utf8()..];
            match first {
                '"' => rest = rest.split_once('"').map_or("", |(_, after)| after),
                '[' => rest = rest.split_once(']').map_or("", |(_, after)| after),
                '{' => within = '{',
                '(' if announced => within = '(',
                '}' | ')' => within = ' ',
                _ => {}
            }
            announced &= first.is_whitespace();
            continue;
        }
        let word = &rest[..length];
        rest = &rest[length..];
        let is_called = ["(", "by (", "without ("].iter().any(|next| rest.trim_start().starts_with(next));
        match within {
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => {}
            '{' | '(' => drop(found.labels.insert(word.to_owned())),
            _ if LISTS.contains(&word) => announced = true,
            _ if is_called || WORDS.contains(&word) => {}
            _ => drop(found.metrics.insert(word.to_owned())),
        }
    }
    found
}

#[test]
fn names_are_told_from_functions_and_words() {
    let found = names(
        r#"sum by (le, model) (rate(a_bucket{x=~"b c", y!="{"}[5m])) * on (z) group_left (g) topk by (k) (1, max(d[1h:1m])) > 0.9e2 or vector(0) unless e offset 15m"#,
    );
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(
        found,
        Names {
            metrics: set(&["a_bucket", "d", "e"]),
            labels: set(&["g", "k", "le", "model", "x", "y", "z"])
        }
    );
}

/// How much there is in a minute.
#[derive(Clone, Copy)]
struct Size {
    /// Tokens in the limit of `web-shop`, and requests in that of `support`.
    shop: u32,
    support: u32,
    /// Tokens at the first backend, and at the one that requests wait for.
    ptu: u32,
    payg_b: u32,
}

/// Everything is full after a moment.
const SMALL: Size = Size { shop: 600, support: 120, ptu: 3000, payg_b: 6000 };
/// It is at times.
const LARGE: Size = Size { shop: 4500, support: 280, ptu: 16_000, payg_b: 48_000 };

/// What the filter may count, by its source.
fn known_metrics() -> String {
    let files = ["filter/core/src/decisions/ledger/series.rs", "filter/cli/src/work/counts.rs"];
    files.map(|file| fs::read_to_string(workspace().join(file)).unwrap()).concat()
}

fn config(size: Size) -> Value {
    let client = |name: &str, more: Value| {
        let keys = json!([ { "sha256": hex::encode(Sha256::digest(name)) } ]);
        crate::requests::with(json!({ "name": name, "api_keys": keys, "models": ["*"] }), more)
    };
    json!({
        // The last one has no label value of its own.
        "metrics": { "clients_max": 3 },
        "clients": [
            client(SHOP, json!({
                "group": "sales", "policy": "interactive", "priority": "high",
                "limits": [ { "tokens": size.shop, "per": "minute" }, { "cost": 0.4, "per": "day" },
                            { "tokens": 100, "per": "hour", "shadow": true } ],
            })),
            client(SUPPORT, json!({ "group": "sales", "limits": [ { "requests": size.support, "per": "minute" } ] })),
            client(LAB, json!({ "group": "research", "policy": "tried", "priority": "low",
                                "endpoints": ["chat/completions", "completions"] })),
            client(VISITOR, json!({})),
        ],
        "groups": [
            { "name": "sales", "limits": [ { "cost": 1.5, "per": "month" } ] },
            { "name": "research", "limits": [ { "tokens": 250_000, "per": "day" } ] },
        ],
        "policies": [
            { "name": "interactive", "max_tokens": { "max": 40, "over": "clamp" }, "best_of": { "max": 1 } },
            { "name": "tried", "mode": "audit", "n": { "max": 1 } },
        ],
        "priorities": { "low": { "wait_ms": 300 } },
        "models": [
            { "name": "gpt-4o", "prices": { "prompt": 2.5, "cached": 1.25, "completion": 10 }, "backends": [
                { "backend": "ptu", "priority": 0 }, { "backend": "payg-a", "priority": 1 },
            ] },
            // Whoever asks for it waits for room, for there is nowhere else.
            { "name": "gpt-4o-mini", "prices": { "prompt": 0.15, "completion": 0.6 }, "backends": [
                { "backend": "payg-b", "tokens_per_minute": size.payg_b },
            ] },
            { "name": "ghost", "prices": { "prompt": 1 }, "backends": [ { "backend": "payg-b", "deployment": "ghost" }, { "backend": "payg-a" } ] },
            { "name": "flexible", "tiers": { "flex": "default" }, "prices": { "prompt": 1 }, "backends": [ { "backend": "ptu" } ] },
            { "name": "text-embedding-3-small", "prices": { "prompt": 0.02 }, "backends": [ { "backend": "payg-a" } ] },
        ],
        "backends": [
            backend("ptu"),
            backend("payg-a"),
            crate::requests::with(backend("payg-b"), json!({ "window_s": 1, "provisioned": true })),
        ],
    })
}

fn backend(name: &str) -> Value {
    let env = format!("{}_KEY", name.to_uppercase().replace('-', "_"));
    json!({ "name": name, "cluster": name, "style": "azure-v1", "credential": { "header": "api-key", "env": env } })
}

async fn scene(size: Size) -> Gateway {
    let ptu = Settings { tpm: Some(size.ptu), window_ms: 1000.try_into().unwrap(), ..answering() };
    let payg = Settings { models: Some(vec!["gpt-4o-mini".to_owned()]), ..answering() };
    // Listeners come from a file, because a refused one is counted only then.
    let setup = Setup::new().from_files().config(config(size));
    let setup = setup.mock("ptu", ptu).mock("payg-a", answering()).mock("payg-b", payg);
    Gateway::start(setup).await.unwrap()
}

fn answering() -> Settings {
    Settings {
        latency_ms: 20,
        chunk_delay_ms: 2,
        cached_tokens: 3,
        reasoning_tokens: 2,
        record: false,
        ..Settings::default()
    }
}

/// Requests that meet everything that is counted, all at once.
async fn round(gateway: &Gateway, number: usize) {
    let chat = |model: &str, more: Value| {
        let question =
            json!([ { "role": "user", "content": "What did we sell on Tuesday? ".repeat(1 + number % 7) } ]);
        crate::requests::with(json!({ "model": model, "messages": question }), more)
    };
    let stream = json!({ "stream": true });
    gateway.mock("payg-a").update(|payg| payg.faults = [Fault::reset_after(5)].into());
    let mut requests = vec![
        (SHOP, CHAT, chat("gpt-4o", stream.clone())),
        (SHOP, CHAT, chat("gpt-4o", json!({ "max_tokens": 4000 }))),
        (SHOP, COMPLETIONS, json!({ "model": "gpt-4o", "prompt": "Once", "best_of": 20 })),
        (SHOP, EMBEDDINGS, json!({ "model": "text-embedding-3-small", "input": "a red shirt" })),
        (SUPPORT, CHAT, chat("gpt-4o", stream.clone())),
        (SUPPORT, CHAT, chat("ghost", json!({}))),
        (SUPPORT, CHAT, chat("gpt-5", json!({}))),
        (LAB, CHAT, chat("gpt-4o", json!({ "n": 3 }))),
        (LAB, EMBEDDINGS, json!({ "model": "text-embedding-3-small", "input": "a red shirt" })),
        (VISITOR, CHAT, chat("gpt-4o", json!({ "max_tokens": 16 }))),
        (VISITOR, CHAT, chat("flexible", json!({ "max_tokens": 16, "service_tier": "flex" }))),
        ("nobody", CHAT, chat("gpt-4o", json!({}))),
    ];
    for _ in 0..4 {
        requests.push((LAB, CHAT, chat("gpt-4o-mini", json!({ "max_tokens": 60 }))));
        requests.push((SUPPORT, CHAT, chat("gpt-4o-mini", json!({ "max_tokens": 30, "stream": true }))));
    }
    join_all(requests.iter().map(|(client, path, body)| async move {
        let sent =
            gateway.http().post(format!("{}{path}", gateway.url())).bearer_auth(client).json(body).send();
        // That a stream breaks off is a part of it.
        let _ = sent.await.unwrap().bytes().await;
    }))
    .await;
}

/// Why a query has no good answer, if it has none.
async fn fault(prometheus: &Prometheus, query: &Query) -> Option<String> {
    let answer = match prometheus.ask("query", &[("query", &query.expression)]).await {
        Ok(answer) => answer,
        // No traffic makes it better.
        Err(problem) => panic!("{}: {problem:#}", query.place),
    };
    let series = answer["result"].as_array().unwrap();
    let numbers: Vec<f64> =
        series.iter().map(|one| text(&one["value"][1]).parse().expect("a number")).collect();
    if !numbers.iter().any(|number| number.is_finite()) {
        return Some(format!("{}: {}: {numbers:?}", query.place, query.expression));
    }
    let labels = query.legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap());
    let missing = labels.into_iter().find(|label| series.iter().all(|one| one["metric"][label].is_null()));
    missing.map(|label| format!("{}: the legend's {label} is not in {}", query.place, query.expression))
}

async fn words_of(prometheus: &Prometheus, path: &str) -> BTreeSet<String> {
    let words = prometheus.ask(path, &[]).await.unwrap();
    words.as_array().unwrap().iter().map(|word| text(word).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_every_panel_has_an_answer() {
    if let Err(why) = tokio::task::spawn_blocking(tools::prometheus).await.unwrap() {
        return tools::skip("every_query_of_every_panel_has_an_answer", &why);
    }
    let gateway = scene(SMALL).await;
    let prometheus = Prometheus::start(&Prometheus::reading(gateway.admin_url(), "500ms")).await.unwrap();
    let deadline = Instant::now() + WITHIN;
    // What the traffic here does not have may have no answer; that it is a query is seen by asking.
    let has_traffic =
        |query: &Query| names(&query.expression).metrics.iter().any(|one| !FAULTS.contains(&one.as_str()));
    let (mut open, others): (Vec<_>, Vec<_>) = queries().into_iter().partition(has_traffic);
    assert!(open.len() > 50);
    for query in &others {
        let _ = fault(&prometheus, query).await;
    }
    for number in 0.. {
        round(&gateway, number).await;
        let mut faults = Vec::new();
        for query in open {
            if let Some(fault) = fault(&prometheus, &query).await {
                faults.push((query, fault));
            }
        }
        if faults.is_empty() {
            break;
        }
        let problems: Vec<_> = faults.iter().map(|(_, fault)| fault.as_str()).collect();
        assert!(Instant::now() < deadline, "after {number} rounds:\n{}", problems.join("\n"));
        open = faults.into_iter().map(|(query, _)| query).collect();
    }

    let metrics = words_of(&prometheus, "label/__name__/values").await;
    let labels = words_of(&prometheus, "labels").await;
    let known = known_metrics();
    for Query { place, expression, .. } in queries().into_iter().chain(rules()) {
        let names = names(&expression);
        for metric in &names.metrics {
            let is_there = match FAULTS.contains(&metric.as_str()) {
                true => known.contains(&format!("\"{metric}")),
                false => metrics.contains(metric),
            };
            assert!(is_there, "{place}: there is no metric {metric}");
        }
        for label in &names.labels {
            assert!(labels.contains(label), "{place}: there is no label {label}");
        }
    }
    for (file, dashboard) in dashboards() {
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let asked = text(&variable["query"]["query"]);
            let (metric, label) =
                asked.strip_prefix("label_values(").unwrap().trim_end_matches(')').split_once(", ").unwrap();
            let values =
                prometheus.ask(&format!("label/{label}/values"), &[("match[]", metric)]).await.unwrap();
            assert!(!values.as_array().unwrap().is_empty(), "{}: {asked}", file.display());
        }
    }
}

fn alerts() -> Value {
    let file = workspace().join("examples/prometheus/alerts.yml");
    serde_yaml_ng::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// What the alerts ask.
fn rules() -> Vec<Query> {
    let alerts = alerts();
    let groups = alerts["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| Query {
            place: text(&rule["alert"]).to_owned(),
            expression: text(&rule["expr"]).to_owned(),
            legend: String::new(),
        })
        .collect()
}

#[test]
fn the_dashboards_are_whole() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        let place = file.display();
        assert!(uids.insert(text(&dashboard["uid"]).to_owned()), "{place}: another has this uid");
        assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36, "{place}");
        assert!(text(&dashboard["description"]).ends_with('.'), "{place}");
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = text(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{place}: {title} has another's id");
            let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            for (x, y) in (side("x")..side("x") + side("w"))
                .flat_map(|x| (side("y")..side("y") + side("h")).map(move |y| (x, y)))
            {
                assert!(x < 24 && taken.insert((x, y)), "{place}: {title} stands on another");
            }
        }
        for panel in panels(&dashboard) {
            let title = text(&panel["title"]);
            assert!(text(&panel["description"]).ends_with('.'), "{place}: {title} has no description");
            assert!(
                !text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(),
                "{place}: {title} has no unit"
            );
            let targets = panel["targets"].as_array().unwrap();
            let mut letters = BTreeSet::new();
            assert!(!targets.is_empty(), "{place}: {title} asks nothing");
            for target in targets {
                assert!(letters.insert(text(&target["refId"])), "{place}: {title}");
                assert_eq!(target["datasource"]["uid"], source()["uid"], "{place}: {title}");
                let legend = text(&target["legendFormat"]);
                let is_one = panel["type"] == "stat" || targets.len() == 1 && panel["type"] == "table";
                assert!(is_one || !legend.is_empty(), "{place}: {title} has a nameless line");
            }
        }
    }
    assert_eq!(uids.len(), 3);
}

/// The data source that Grafana is given.
fn source() -> Value {
    let file = workspace().join("examples/grafana/provisioning/datasources/prometheus.yaml");
    let file: Value = serde_yaml_ng::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    file["datasources"][0].clone()
}

#[test]
fn the_alerts_fire_when_they_should() {
    if let Err(why) = tools::prometheus() {
        return tools::skip("the_alerts_fire_when_they_should", &why);
    }
    let folder = workspace().join("examples/prometheus");
    for words in [&["check", "config", "prometheus.yml"][..], &["test", "rules", "alerts_test.yml"]] {
        check(&folder, words);
    }
    let tested = fs::read_to_string(folder.join("alerts_test.yml")).unwrap();
    for Query { place, .. } in rules() {
        assert!(tested.contains(&format!("alertname: {place}")), "no test is about {place}");
    }
}

#[track_caller]
fn check(folder: &Path, words: &[&str]) {
    let output = promtool(folder, words).unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {words:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gauges_follow_the_configuration_and_what_is_used() {
    let gateway = scene(SMALL).await;
    let group = |name| [("client", SUPPORT), ("group", name)];
    let limit = |name| [("client", SUPPORT), ("limit", name)];
    gateway.wait_for_metric("tollgate_client_info", &group("sales"), 1.0).await.unwrap();
    gateway.wait_for_metric("tollgate_limit_size", &limit("requests/minute"), 120.0).await.unwrap();
    gateway.wait_for_metric("tollgate_limit_size", &limit("group/cost/month"), 1.5e6).await.unwrap();
    // The last client shares its label with all beyond the bound, whose limits are nobody's.
    assert_eq!(gateway.metric("tollgate_client_info", &[("client", "other")]).await.unwrap(), 0.0);

    let pushed = gateway.push(|whole| {
        let config = whole.gateway_mut().unwrap();
        config["clients"][1]["group"] = json!("research");
        config["clients"][1]["limits"] = json!([ { "requests": 7, "per": "month" } ]);
    });
    pushed.unwrap();
    gateway.wait_for_metric("tollgate_client_info", &group("research"), 1.0).await.unwrap();
    gateway.wait_for_metric("tollgate_client_info", &group("sales"), 0.0).await.unwrap();
    gateway.wait_for_metric("tollgate_limit_size", &limit("requests/minute"), 0.0).await.unwrap();
    gateway.wait_for_metric("tollgate_limit_size", &limit("requests/month"), 7.0).await.unwrap();

    let body = json!({ "model": "gpt-4o", "messages": [ { "role": "user", "content": "Hello" } ] });
    assert_eq!(gateway.post(CHAT, SUPPORT, &body).await.unwrap().status, 200);
    gateway.wait_for_metric("tollgate_limit_used", &limit("requests/month"), 1.0).await.unwrap();
}

/// Not a test: it makes the pictures in `docs/pictures`, of some minutes of this traffic in waves.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; run it by `cargo pictures`"]
async fn pictures() {
    const LASTS: Duration = Duration::from_secs(270);
    const WAVE: Duration = Duration::from_secs(90);
    // First, so that what is drawn ends in the midst of it.
    let python = tokio::task::spawn_blocking(tools::drawing);
    let python = python.await.unwrap().unwrap();
    let gateway = scene(LARGE).await;
    let prometheus = Prometheus::start(&Prometheus::reading(gateway.admin_url(), "1s")).await.unwrap();
    let start = tokio::time::Instant::now();
    let mut next = start;
    for number in 0.. {
        let time = next - start;
        if time > LASTS {
            break;
        }
        round(&gateway, number).await;
        let height = (time.as_secs_f64() / WAVE.as_secs_f64() * std::f64::consts::TAU).sin();
        next += Duration::from_secs_f64(1.6 - 0.8 * height);
        tokio::time::sleep_until(next).await;
    }
    let drawn = std::process::Command::new(python)
        .arg(workspace().join("tests/python/draw_dashboards.py"))
        .args([prometheus.url(), &LASTS.as_secs().to_string()])
        .arg(workspace().join("examples/grafana/dashboards"))
        .arg(workspace().join("docs/pictures"))
        .status();
    assert!(drawn.unwrap().success());
}

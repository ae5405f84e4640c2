//! Do the books balance after a few thousand requests with everything going wrong that can?
//!
//! Seeded: the seed is printed, and `SOAK_SEED` takes another.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tollgate_tests::fleet::histories::Dice;
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Gzip, Settings};

use crate::requests::{
    BATCH, CHAT, COMPLETIONS, EMBEDDING, EMBEDDINGS, INSTRUCT, RESPONSES, WEB_SHOP, chat, details,
    nobody_is_limited, with,
};

const REQUESTS: u64 = 2500;
const AT_ONCE: usize = 24;

/// One request, and what its client does.
struct Plan {
    key: &'static str,
    path: &'static str,
    body: Value,
    /// The client goes away after so many pieces of the answer.
    leaves_after: Option<u64>,
}

fn plan(dice: &mut Dice) -> Plan {
    let words =
        "the quick brown fox jumps over a lazy dog ".repeat(1 + dice.below(20).unsigned_abs() as usize);
    let (path, body) = match dice.below(6) {
        0 => (
            COMPLETIONS,
            json!({ "model": INSTRUCT, "prompt": [words, "x"], "max_tokens": 1 + dice.below(30) }),
        ),
        1 => (EMBEDDINGS, json!({ "model": EMBEDDING, "input": [words] })),
        2 => (RESPONSES, json!({ "model": "gpt-4o", "input": words })),
        _ => (CHAT, with(chat(&words), json!({ "max_tokens": 1 + dice.below(60) }))),
    };
    let streams = path != EMBEDDINGS && dice.one_of(2);
    let body = match dice.below(4) {
        0 if streams && path != RESPONSES => {
            with(body, json!({ "stream": true, "stream_options": { "include_usage": dice.one_of(2) } }))
        }
        _ if streams => with(body, json!({ "stream": true })),
        _ => body,
    };
    let key = if path == COMPLETIONS { BATCH } else { dice.pick(&[WEB_SHOP, BATCH]) };
    Plan {
        key,
        path,
        body,
        leaves_after: (streams && dice.one_of(5)).then(|| 1 + dice.below(6).unsigned_abs()),
    }
}

/// Something goes wrong with a backend, or goes right again.
fn disturb(dice: &mut Dice, gateway: &Gateway) {
    let backend = dice.pick(&["ptu", "payg-a", "payg-b"]);
    let fault = match dice.below(7) {
        0 => Fault::answer(429).header("retry-after-ms", "1"),
        1 => Fault::answer(500),
        2 => Fault::answer(503),
        3 => Fault::close(),
        4 => Fault::reset_after(dice.below(12).unsigned_abs() as usize),
        5 => Fault::answer(400).body(json!({ "error": { "message": "no", "code": "content_filter" } })),
        _ => Fault::answer(404),
    };
    let cut = dice.pick(&[None, None, Some(1), Some(7), Some(61), Some(997)]);
    let gzip = if dice.one_of(12) { Gzip::Always } else { Gzip::Never };
    gateway.mock(backend).update(|settings| {
        settings.faults = [fault].into();
        settings.cut_bytes = cut.and_then(std::num::NonZeroUsize::new);
        settings.gzip = gzip;
    });
}

async fn carry_out(gateway: &Gateway, plan: Plan) {
    let url = format!("{}{}", gateway.url(), plan.path);
    let sent = gateway.http().post(url).bearer_auth(plan.key).json(&plan.body).send().await;
    // A backend that breaks off before its head is Envoy's to answer for; the client always gets an answer.
    let mut pieces = sent.unwrap().bytes_stream();
    let mut seen = 0;
    while let Some(piece) = pieces.next().await {
        seen += 1;
        // An answer that breaks off ends in an error, which is as good an end as any here.
        if piece.is_err() || Some(seen) == plan.leaves_after {
            return;
        }
    }
}

/// What the backends billed for each request of a client, by the id that Envoy gave it.
fn bills(gateway: &Gateway) -> BTreeMap<String, [u64; 4]> {
    let mut bills: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for backend in gateway.backends().keys() {
        let mock = gateway.mock(backend);
        let received: BTreeMap<_, _> =
            mock.received().into_iter().map(|request| (request.serial, request)).collect();
        for bill in mock.billed() {
            let id = received[&bill.serial].header("x-request-id").unwrap().to_owned();
            let usage = bill.usage;
            let sum = bills.entry(id).or_default();
            for (sum, tokens) in
                sum.iter_mut().zip([usage.prompt, usage.cached, usage.completion, usage.reasoning])
            {
                *sum += tokens;
            }
        }
    }
    bills
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_after_a_soak_with_faults() {
    let seed = std::env::var("SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
    println!("SOAK_SEED={seed}");
    let mut dice = Dice::new(seed);
    let slow = Settings { reasoning_tokens: 3, cached_tokens: 2, chunk_delay_ms: 1, ..Settings::default() };
    let setup = Setup::new()
        .edit(nobody_is_limited)
        .edit(|config| config["backends"][0]["api_version"] = json!("2025-03-01-preview"))
        .edit(|config| config["clients"][1]["policy"] = json!("interactive"))
        .mock("ptu", slow.clone())
        .mock("payg-a", slow.clone())
        .mock("payg-b", slow);
    let gateway = Arc::new(Gateway::start(setup).await.unwrap());

    let mut under_way = futures_util::stream::FuturesUnordered::new();
    for _ in 0..REQUESTS {
        if dice.one_of(4) {
            disturb(&mut dice, &gateway);
        }
        let plan = plan(&mut dice);
        let gateway = Arc::clone(&gateway);
        under_way.push(tokio::spawn(async move { carry_out(&gateway, plan).await }));
        if under_way.len() >= AT_ONCE {
            under_way.next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = under_way.next().await {
        done.unwrap();
    }
    let log = gateway.wait_for_log(REQUESTS as usize).await.unwrap();
    assert_eq!(log.len() as u64, REQUESTS, "one record for each request");

    // The mock's bill = the record, to the token, wherever the record is no estimate.
    let bills = bills(&gateway);
    let (mut exact, mut estimated, mut estimated_bill) = (0, 0, 0);
    let mut sums: BTreeMap<(String, String, &str), u64> = BTreeMap::new();
    for line in &log {
        let count = |field: &str| line[field].as_str().unwrap().parse::<u64>().unwrap();
        let details = details(line);
        let detail = |field: &str| details[field].as_u64().unwrap();
        let record = [
            count("prompt_tokens"),
            detail("cached_tokens"),
            count("completion_tokens"),
            detail("reasoning_tokens"),
        ];
        let bill = bills.get(line["request_id"].as_str().unwrap()).copied().unwrap_or_default();
        if line["estimated"] == "false" {
            assert_eq!(record, bill, "{line:#}");
            exact += 1;
        } else {
            estimated += record[2];
            estimated_bill += bill[2];
        }
        for (kind, tokens) in ["prompt", "cached", "completion", "reasoning"].into_iter().zip(record) {
            let name = |field: &str| line[field].as_str().unwrap_or("none").to_owned();
            *sums.entry((name("client"), name("model"), kind)).or_default() += tokens;
        }
    }
    println!(
        "{exact} of {} records exact; estimates: {estimated} completion tokens, billed {estimated_bill}",
        log.len()
    );
    assert!(exact > log.len() / 2, "{exact} of {} are exact", log.len());
    assert!(exact < log.len(), "nothing had to be estimated");

    // The record = the metrics, estimates and all.
    for ((client, model, kind), tokens) in &sums {
        let labels = [("client", client.as_str()), ("model", model), ("kind", kind)];
        gateway.wait_for_metric("tollgate_tokens", &labels, *tokens as f64).await.unwrap();
    }
    let total: u64 = sums.values().sum();
    gateway.wait_for_metric("tollgate_tokens", &[], total as f64).await.unwrap();
    gateway.wait_for_metric("tollgate_requests", &[], REQUESTS as f64).await.unwrap();
    assert_eq!(gateway.metric("tollgate_store_faults", &[]).await.unwrap() + 0.0, 0.0);
}

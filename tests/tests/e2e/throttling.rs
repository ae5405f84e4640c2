//! How many clients are refused when backends throttle now and then?

use std::num::NonZeroU64;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings, tokens};

use crate::requests::{CHAT, WEB_SHOP, chat, nobody_is_limited, with};

const BACKENDS: [&str; 3] = ["ptu", "payg-a", "payg-b"];
const MAX_TOKENS: u32 = 40;

fn body() -> Value {
    with(chat("one of very many"), json!({ "max_tokens": MAX_TOKENS }))
}

fn quiet() -> Settings {
    Settings { record: false, ..Settings::default() }
}

/// Of those who ask at once, how many are refused?
async fn ask(gateway: &Gateway, at_once: usize) -> usize {
    let mut asking = JoinSet::new();
    for _ in 0..at_once {
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
        let request = request.json(&body());
        asking.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    asking.join_all().await.into_iter().filter(|status| *status != 200).count()
}

/// A third of the pool is always there.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_and_five_throttled_answers_refuse_no_client() {
    let throttles = |times| Settings {
        faults: [Fault::answer(429).header("retry-after-ms", "20").times(times)].into(),
        ..quiet()
    };
    let setup = Setup::new()
        .edit(nobody_is_limited)
        .mock("ptu", throttles(60))
        .mock("payg-a", throttles(45))
        .mock("payg-b", quiet());
    let gateway = Gateway::start(setup).await.unwrap();
    let (mut asked, mut refused) = (0, 0);
    let throttled = |gateway: &Gateway| BACKENDS.map(|backend| gateway.mock(backend).load().refused);
    while throttled(&gateway) != [60, 45, 0] {
        assert!(asked < 20_000, "{:?}", throttled(&gateway));
        refused += ask(&gateway, 3).await;
        asked += 3;
    }
    assert_eq!(refused, 0, "of {asked}");
    assert!(asked > 105, "{asked}");
}

/// Each backend takes so much in a second; what is offered is one and a half of that, so half of the pool.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_used_pool_refuses_nobody_though_backends_throttle() {
    const CAPACITY: u32 = 40;
    const OFFERED: u32 = 60;
    const SECONDS: u32 = 6;
    let prompt = tokens::chat(body()["messages"].as_array().unwrap());
    let cost = u32::try_from(prompt).unwrap() + MAX_TOKENS;
    let limited =
        || Settings { tpm: Some(60 * CAPACITY * cost), window_ms: NonZeroU64::new(2000).unwrap(), ..quiet() };
    let mut setup = Setup::new().edit(nobody_is_limited);
    for backend in BACKENDS {
        setup = setup.mock(backend, limited());
    }
    let gateway = Gateway::start(setup).await.unwrap();
    let start = Instant::now();
    let mut asking = JoinSet::new();
    for at in 0..OFFERED * SECONDS {
        sleep_until(start + Duration::from_secs(1) * at / OFFERED).await;
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
        let request = request.json(&body());
        asking.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    let refused = asking.join_all().await.into_iter().filter(|status| *status != 200).count();
    let loads = BACKENDS.map(|backend| gateway.mock(backend).load());
    assert_eq!(refused, 0, "{loads:#?}");
    assert_eq!(loads.iter().map(|load| load.admitted).sum::<u64>(), u64::from(OFFERED * SECONDS));
    // They did throttle: that is what was to be got over.
    assert!(loads[0].refused > 0, "{loads:#?}");
}

//! Who is served when everybody together asks for more than there is?
//!
//! One backend has a capacity that is used up within a second, and takes requests that all cost the same. Each client
//! offers requests evenly, whatever becomes of those before: what is offered does not depend on the gateway. The capacity's
//! use is the mock's to measure, by its own clock.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Load, Settings, tokens};

use crate::requests::{CHAT, chat, with};

/// The requests that the backend takes in a second.
const CAPACITY: u32 = 60;
/// What the two clients offer in a second: one alone fits, both are twice the capacity. A thousandth of what the first
/// offers in all is one request.
const HIGH: Offer = Offer { client: "high", per_second: 50 };
const LOW: Offer = Offer { client: "low", per_second: 70 };
/// The backend's window.
const WINDOW_S: u32 = 6;
/// How long they offer. It is more than is measured, because the first window begins with the first admission.
const SECONDS: u32 = 26;
/// What a busy machine may delay a request by, from when it was due to its answer. The window's hundredths that are held
/// back for the important are longer; by more than those the backend's window and the gateway's tell different things.
const DELAY_MAX: Duration = Duration::from_millis(100);
/// The share of the important that are served.
const SHARE_MIN: f64 = 0.999;
/// How often a measurement is made that the machine disturbed.
const MEASUREMENTS: u32 = 4;
/// How long an answer takes the backend, so that there is something under way.
const LATENCY: Duration = Duration::from_millis(20);
/// The tokens of each answer: as many as its request allows.
const COMPLETION_TOKENS: u32 = 40;
/// What takes longer hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Requests of one client, evenly spaced.
#[derive(Clone, Copy)]
struct Offer {
    /// Its name, which is its key too.
    client: &'static str,
    per_second: u32,
}

/// What became of a client's requests.
#[derive(Debug, Default)]
struct Served {
    asked: u64,
    served: u64,
    /// By status and code.
    refused: BTreeMap<(u16, String), u64>,
    /// The longest that one took from when it was due, beyond the backend's latency.
    delay_max: Duration,
}

/// What became of all of it.
#[derive(Debug)]
struct Overload {
    clients: BTreeMap<&'static str, Served>,
    /// The backend's load while there were offers, and not when they ceased.
    load: Load,
}

impl Served {
    fn share(&self) -> f64 {
        self.served as f64 / self.asked as f64
    }

    fn count(&mut self, (answer, took): &(Answer, Duration)) {
        self.asked += 1;
        self.delay_max = self.delay_max.max(took.saturating_sub(LATENCY));
        match answer.status {
            200 => self.served += 1,
            status => {
                let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
                *self.refused.entry((status, code)).or_default() += 1;
            }
        }
    }
}

fn request() -> Value {
    with(chat("one of very many"), json!({ "max_tokens": COMPLETION_TOKENS }))
}

/// What a request costs, before and after.
fn cost() -> u32 {
    let prompt = tokens::chat(request()["messages"].as_array().unwrap());
    u32::try_from(prompt).unwrap() + COMPLETION_TOKENS
}

/// What [`CAPACITY`] is in a minute.
fn tokens_per_minute() -> u32 {
    60 * CAPACITY * cost()
}

/// A client for each offer, and one backend.
fn config() -> Value {
    let client = |offer: Offer| {
        let keys = json!([ { "sha256": hex::encode(Sha256::digest(offer.client)) } ]);
        json!({ "name": offer.client, "api_keys": keys, "models": ["*"] })
    };
    json!({
        "clients": [client(HIGH), client(LOW)],
        "models": [ { "name": "gpt-4o", "backends": [ { "backend": "ptu" } ] } ],
        "backends": [ {
            "name": "ptu", "cluster": "ptu", "style": "azure-v1",
            "credential": { "header": "api-key", "env": "PTU_KEY" },
        } ],
    })
}

/// A backend with that capacity, in short windows.
fn backend() -> Settings {
    Settings {
        tpm: Some(tokens_per_minute()),
        window_ms: NonZeroU64::new(u64::from(WINDOW_S) * 1000).unwrap(),
        completion_tokens: COMPLETION_TOKENS,
        latency_ms: LATENCY.as_millis() as u64,
        record: false,
        ..Settings::default()
    }
}

/// Makes all offers, and waits until the last is answered.
async fn overload(gateway: &Gateway, offers: &[Offer]) -> Overload {
    gateway.mock("ptu").forget();
    let mut offering = JoinSet::new();
    for offer in offers {
        offering.spawn(make(*offer, gateway.http().clone(), format!("{}{CHAT}", gateway.url())));
    }
    let answering = offering.join_all().await;
    let load = gateway.mock("ptu").load();
    let mut clients: BTreeMap<_, Served> = BTreeMap::new();
    for (client, answers) in answering {
        let served = clients.entry(client).or_default();
        answers.join_all().await.iter().for_each(|answer| served.count(answer));
    }
    Overload { clients, load }
}

/// Makes all offers, anew if the important were refused something while the machine did something else.
async fn undisturbed(config: &Value, backend: &Settings) -> Overload {
    let mut measurements = 0;
    loop {
        let setup = Setup::new().config(config.clone()).mock("ptu", backend.clone());
        let gateway = Gateway::start(setup).await.unwrap();
        let found = overload(&gateway, &[HIGH, LOW]).await;
        measurements += 1;
        let high = &found.clients["high"];
        // Hardly anybody waits who is important: what took long is the machine's doing.
        let is_disturbed = high.delay_max > DELAY_MAX;
        if !is_disturbed || high.share() >= SHARE_MIN || measurements == MEASUREMENTS {
            break found;
        }
        eprintln!("disturbed: {found:#?}");
    }
}

/// Sends one client's requests, each at its time; the answers may still be to come.
async fn make(
    offer: Offer,
    http: reqwest::Client,
    url: String,
) -> (&'static str, JoinSet<(Answer, Duration)>) {
    let start = Instant::now();
    let mut answers = JoinSet::new();
    for at in 0..offer.per_second * SECONDS {
        // Of one who is late the next are early: what is offered in all stays the same.
        let due = start + Duration::from_secs(1) * at / offer.per_second;
        sleep_until(due).await;
        let asked = http.post(&url).bearer_auth(offer.client).timeout(ANSWER_WITHIN).json(&request()).send();
        answers.spawn(async move {
            let answer = Answer::read(asked.await.unwrap()).await.unwrap();
            (answer, due.elapsed())
        });
    }
    (offer.client, answers)
}

/// The backend's capacity is declared, and one client goes before the other.
#[tokio::test(flavor = "multi_thread")]
async fn at_twice_the_capacity_all_important_requests_are_served() {
    let mut config = config();
    config["clients"][0]["priority"] = json!("high");
    config["clients"][1]["priority"] = json!("low");
    config["priorities"] = json!({ "low": { "headroom_min": 0.03, "wait_ms": 500 } });
    config["backends"][0]["tokens_per_minute"] = json!(tokens_per_minute());
    config["backends"][0]["window_s"] = json!(WINDOW_S);
    let found = undisturbed(&config, &backend()).await;

    let (high, low) = (&found.clients["high"], &found.clients["low"]);
    assert!(high.share() >= SHARE_MIN, "{found:#?}");
    assert!(found.load.used_median().unwrap() > 0.95, "{found:#?}");
    // What is left is a fifth of the capacity, and less than that of what they ask.
    assert!((0.05..0.3).contains(&low.share()), "{found:#?}");
}

/// A backend that counts requests over ten seconds, as Azure does.
#[tokio::test(flavor = "multi_thread")]
async fn at_twice_the_requests_no_important_one_is_refused() {
    const REQUESTS_WINDOW_S: u32 = 10;
    let mut config = config();
    config["clients"][0]["priority"] = json!("high");
    config["clients"][1]["priority"] = json!("low");
    config["priorities"] = json!({ "low": { "headroom_min": 0.03, "wait_ms": 500 } });
    config["backends"][0]["requests_per_minute"] = json!(60 * CAPACITY);
    config["backends"][0]["requests_window_s"] = json!(REQUESTS_WINDOW_S);
    let backend = Settings {
        tpm: None,
        rpm: Some(60 * CAPACITY),
        window_ms: NonZeroU64::new(u64::from(REQUESTS_WINDOW_S) * 1000).unwrap(),
        ..backend()
    };
    let found = undisturbed(&config, &backend).await;

    let (high, low) = (&found.clients["high"], &found.clients["low"]);
    assert!(high.share() >= SHARE_MIN, "{found:#?}");
    let fits = u64::from(REQUESTS_WINDOW_S * CAPACITY * cost());
    let load = Load { window_tokens_max: Some(fits), ..found.load.clone() };
    assert!(load.used_median().unwrap() > 0.9, "{found:#?}");
    assert!((0.05..0.3).contains(&low.share()), "{found:#?}");
}

/// Where nobody has a priority: what the same offers come to with one is to be seen beside this.
#[tokio::test(flavor = "multi_thread")]
async fn at_twice_the_capacity_equals_are_refused_alike() {
    let setup = Setup::new().config(config()).mock("ptu", backend());
    let gateway = Gateway::start(setup).await.unwrap();
    let found = overload(&gateway, &[HIGH, LOW]).await;

    for offer in [HIGH, LOW] {
        let served = &found.clients[offer.client];
        assert_eq!(served.asked, u64::from(offer.per_second * SECONDS));
        assert_eq!(served.served + served.refused.values().sum::<u64>(), served.asked, "{found:#?}");
        // A half, more or less: neither is spared, and neither starves.
        assert!((0.3..0.7).contains(&served.share()), "{found:#?}");
        let known = [(429, "429"), (429, "backends_throttled")];
        let mut refused = served.refused.keys();
        assert!(refused.all(|(status, code)| known.contains(&(*status, code))), "{found:#?}");
    }
    assert_eq!(found.load.window_tokens_max, Some((WINDOW_S * CAPACITY * cost()).into()));
    assert!(found.load.used().unwrap() <= 1.0, "{found:#?}");
    assert!(found.load.used_median().unwrap() > 0.95, "{found:#?}");

    // Both sides have counted the same.
    let total = gateway.mock("ptu").load();
    let sum = |count: fn(&Served) -> u64| found.clients.values().map(count).sum::<u64>();
    let of_backend = |served: &Served| served.refused.get(&(429, "429".to_owned())).copied().unwrap_or(0);
    assert_eq!(total.admitted, sum(|served| served.served));
    assert_eq!(total.refused, sum(of_backend));
    assert_eq!(total.tokens, total.admitted * u64::from(cost()));
}

//! Is a budget never overspent, and charged for what was used and nothing else?

use std::time::Instant;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Outcome, Settings, stream_events, tokens};

use crate::requests::{
    BATCH, CHAT, WEB_SHOP, chat, check_record, prompt_estimate, record_of, record_where, refusal,
    web_shop_has, with,
};

/// A budget as a client sees it: a size, and what time may have given back.
struct Budget {
    tokens_per_minute: u32,
    since: Instant,
}

impl Budget {
    /// Full, or fuller than that: it is still to be touched for the first time.
    fn of(tokens_per_minute: u32) -> Self {
        Self { tokens_per_minute, since: Instant::now() }
    }

    fn size(&self) -> u64 {
        self.tokens_per_minute.into()
    }

    /// The most that time has given back so far.
    fn earned_max(&self) -> u64 {
        let per_ms = self.since.elapsed().as_millis() * u128::from(self.tokens_per_minute);
        u64::try_from(per_ms / 60_000 + 1).unwrap()
    }

    /// What an answer says is left is what is left after `spent`.
    #[track_caller]
    fn check_left(&self, answer: &Answer, spent: u64) {
        let left: u64 = answer.header("x-ratelimit-remaining-tokens").parse().unwrap();
        let exact = self.size() - spent;
        let most = self.size().min(exact + self.earned_max());
        assert!((exact..=most).contains(&left), "{left} left, expected {exact} to {most}");
    }
}

/// Request `at` and what it reserves: of many sizes, so that what fits is not a matter of counting.
fn varied(at: u64) -> (Value, u64) {
    let cap = 10 + at % 7 * 5;
    let body = with(chat(&"word ".repeat((at % 5) as usize)), json!({ "max_tokens": cap }));
    let reserved = prompt_estimate(&body) + cap;
    (body, reserved)
}

#[tokio::test]
async fn two_workers_admit_exactly_what_fits_in_the_budget() {
    const REQUESTS: u64 = 200;
    let hold = Settings { hold: true, ..Settings::default() };
    // Without this the kernel deals connections out as it likes, perhaps all to one worker.
    let share = |envoy: &mut Value| {
        envoy["static_resources"]["listeners"][0]["connection_balance_config"] =
            json!({ "exact_balance": {} });
    };
    let setup = Setup::new().workers(2).patch(share).edit(web_shop_has(1000)).mock("ptu", hold);
    let gateway = Gateway::start(setup).await.unwrap();

    let budget = Budget::of(1000);
    let mut asked = JoinSet::new();
    for at in 0..REQUESTS {
        let (url, http) = (format!("{}{CHAT}", gateway.url()), gateway.http().clone());
        asked.spawn(async move {
            let request = http.post(url).bearer_auth(WEB_SHOP).json(&varied(at).0);
            (at, Answer::read(request.send().await.unwrap()).await.unwrap())
        });
    }
    // Whoever is admitted waits at the backend, so nothing is settled; the others have their answer.
    let mut refused = Vec::new();
    loop {
        tokio::select! {
            Some(answer) = asked.join_next() => refused.push(answer.unwrap()),
            () = gateway.mock("ptu").wait_for_requests((REQUESTS as usize) - refused.len()) => break,
        }
    }
    let earned = budget.earned_max();

    let admitted: Vec<Value> =
        gateway.mock("ptu").received().iter().map(|received| received.json()).collect();
    let reserved: u64 =
        admitted.iter().map(|body| prompt_estimate(body) + body["max_tokens"].as_u64().unwrap()).sum();
    assert_eq!(admitted.len() + refused.len(), REQUESTS as usize);
    assert!(reserved <= budget.size() + earned, "{reserved} reserved of {} + {earned}", budget.size());
    let least_refused = refused.iter().map(|(at, _)| varied(*at).1).min().unwrap();
    assert!(budget.size() < reserved + least_refused, "{least_refused} would fit beside {reserved}");
    for (at, answer) in &refused {
        assert_eq!(answer.status, 429);
        assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
        let needed = format!("the request may cost {},", varied(*at).1);
        assert!(answer.text().contains(&needed), "{needed} {}", answer.text());
    }
    // Both workers had their part in it.
    let stats = gateway.admin("/stats?filter=worker_.*downstream_cx_total").await.unwrap();
    let of_workers: Vec<u64> = stats
        .lines()
        .filter(|line| line.starts_with("listener.127"))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(of_workers.len(), 2, "{stats}");
    assert!(of_workers.iter().all(|connections| *connections > 0), "{stats}");

    // What was not used comes back: then only what the backend billed is gone.
    gateway.mock("ptu").release();
    gateway.mock("ptu").update(|settings| settings.hold = false);
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap().1.status, 200);
    }
    gateway.wait_for_log(REQUESTS as usize).await.unwrap();
    let billed: u64 = gateway.mock("ptu").billed().iter().map(|bill| bill.usage.total()).sum();
    let (body, next) = varied(0);
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    budget.check_left(&answer, billed + next);
}

#[tokio::test]
async fn what_was_reserved_and_not_used_is_put_back() {
    let gateway = Gateway::start(Setup::new().edit(web_shop_has(600))).await.unwrap();
    let budget = Budget::of(600);
    let mut spent = 0;
    for stream in [false, true, false, true] {
        let body = with(chat("put it back"), json!({ "max_tokens": 400, "stream": stream }));
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), "600");
        budget.check_left(&answer, spent + prompt_estimate(&body) + 400);
        spent += tokens::chat(body["messages"].as_array().unwrap()) + 24;
        record_of(&gateway, &answer).await;
    }
}

#[tokio::test]
async fn a_spent_budget_is_refused_with_the_wait_for_its_client_only() {
    // What is missing takes forty seconds to come back: whoever is slow here still finds it missing.
    let spender = Settings { completion_tokens: 500, ..Settings::default() };
    let setup = Setup::new().workers(1).edit(web_shop_has(600)).mock("ptu", spender);
    let gateway = Gateway::start(setup).await.unwrap();
    let budget = Budget::of(600);
    let body = with(chat("all of it"), json!({ "max_tokens": 500 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 200);
    let spent = tokens::chat(body["messages"].as_array().unwrap()) + 500;
    record_of(&gateway, &answer).await;

    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    let missing_max = spent + prompt_estimate(&body) + 500 - 600;
    let missing_min = missing_max - budget.earned_max();
    assert_eq!(answer.status, 429);
    let wait_ms: u64 = answer.header("retry-after-ms").parse().unwrap();
    assert!((missing_min * 100..=missing_max * 100).contains(&wait_ms), "{wait_ms}");
    assert_eq!(answer.header("retry-after"), wait_ms.div_ceil(1000).to_string());
    assert_eq!(answer.header("x-should-retry"), "");
    let error = &answer.json()["error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("This client's limit of 600 tokens per minute is reached: "), "{message}");
    assert_eq!(answer.json(), refusal(message, "rate_limit_error", None, "rate_limit_exceeded"));
    assert_eq!(gateway.mock("ptu").received().len(), 1);

    let other = with(chat("not mine"), json!({ "max_tokens": 128 }));
    assert_eq!(gateway.post(CHAT, BATCH, &other).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_request_beyond_the_whole_budget_is_not_told_to_wait() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(web_shop_has(100))).await.unwrap();
    let body = with(chat("too much"), json!({ "max_tokens": 512 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 429);
    let message = format!(
        "The request may cost {} tokens, more than this client's limit of 100 per minute. Ask for fewer completion \
         tokens or send a shorter prompt.",
        prompt_estimate(&body) + 512
    );
    assert_eq!(answer.json(), refusal(&message, "rate_limit_error", None, "request_exceeds_limit"));
    assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), ("false", ""));
    assert_eq!(gateway.mock("ptu").received(), []);
}

#[tokio::test]
async fn a_client_that_hangs_up_in_mid_stream_pays_for_what_came() {
    const EVENTS: usize = 9;
    let settings = Settings { hold_after_events: Some(EVENTS), ..Settings::default() };
    let setup = Setup::new().workers(1).edit(web_shop_has(600)).mock("ptu", settings.clone());
    let gateway = Gateway::start(setup).await.unwrap();
    let budget = Budget::of(600);
    let body = with(chat("some longer words are charged"), json!({ "max_tokens": 100, "stream": true }));
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
    let mut answer = request.send().await.unwrap().bytes_stream();
    gateway.mock("ptu").wait_for_requests(1).await;
    let received = gateway.mock("ptu").received().remove(0);
    let events = stream_events(&received.path, &received.body, &settings).unwrap();
    let expected = events[..EVENTS].concat();
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        seen.extend_from_slice(&answer.next().await.unwrap().unwrap());
    }
    assert_eq!(seen, expected);
    drop(answer);
    gateway.mock("ptu").wait_for_disconnects(1).await;

    let deltas: u64 = events[..EVENTS].iter().map(|event| delta(event)).sum();
    let (prompt, completion) = (prompt_estimate(&body), deltas.div_ceil(4));
    assert!(completion > 0);
    let record = record_where(&gateway, |line| line["outcome"] == "client_gone").await;
    check_record(
        &record,
        &json!({
            "client": "web-shop", "model": "gpt-4o", "backend": "ptu", "estimated": "true",
            "prompt_tokens": prompt.to_string(), "completion_tokens": completion.to_string(),
        }),
    );
    assert_eq!(gateway.mock("ptu").billed()[0].outcome, Outcome::Abandoned);

    let next = with(chat("next"), json!({ "max_tokens": 100 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &next).await.unwrap();
    budget.check_left(&answer, prompt + completion + prompt_estimate(&next) + 100);
}

/// The bytes of text in an event's first choice.
fn delta(event: &[u8]) -> u64 {
    let event: Value = serde_json::from_slice(event.strip_prefix(b"data: ").unwrap()).unwrap();
    event["choices"][0]["delta"]["content"].as_str().map_or(0, |text| text.len() as u64)
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_pays_as_reserved() {
    let hold = Settings { hold: true, ..Settings::default() };
    let setup = Setup::new().workers(1).edit(web_shop_has(600)).mock("ptu", hold);
    let gateway = Gateway::start(setup).await.unwrap();
    let budget = Budget::of(600);
    let body = with(chat("never mind"), json!({ "max_tokens": 100, "n": 2 }));
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
    tokio::select! {
        answer = request.send() => panic!("{answer:?}"),
        () = gateway.mock("ptu").wait_for_requests(1) => {}
    }
    gateway.mock("ptu").wait_for_disconnects(1).await;
    let record = record_where(&gateway, |line| line["outcome"] == "client_gone").await;
    let prompt = prompt_estimate(&body);
    let (prompt_tokens, completion_tokens) = (prompt.to_string(), "200");
    check_record(
        &record,
        &json!({ "estimated": "true", "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens }),
    );
    gateway.mock("ptu").update(|settings| settings.hold = false);
    let next = with(chat("next"), json!({ "max_tokens": 100 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &next).await.unwrap();
    budget.check_left(&answer, prompt + 200 + prompt_estimate(&next) + 100);
}

#[tokio::test]
async fn a_request_that_no_backend_served_costs_nothing() {
    let setup = Setup::new().workers(1).edit(web_shop_has(600));
    let gateway = Gateway::start(setup).await.unwrap();
    let budget = Budget::of(600);
    gateway.mock("ptu").update(|settings| settings.faults.push_back(Fault::answer(400)));
    let body = with(chat("for nothing"), json!({ "max_tokens": 512 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 400);
    check_record(
        &record_of(&gateway, &answer).await,
        &json!({ "outcome": "backend_error", "prompt_tokens": "0", "completion_tokens": "0", "estimated": "false" }),
    );
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    budget.check_left(&answer, prompt_estimate(&body) + 512);
}

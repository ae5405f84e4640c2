//! Who is told where a request went and why, how the backends are, and which configuration runs?

use serde_json::{Value, json};
use tollgate_tests::harness::bootstrap::Bootstrap;
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{BATCH, CHAT, WEB_SHOP, chat, details, nobody_is_limited, record_of};

/// `web-shop` is of the operators, `batch` is not.
fn operators(config: &mut Value) {
    nobody_is_limited(config);
    config["clients"][0]["operator"] = json!(true);
}

/// Ejections are Envoy's own judgement, which is not what is asked about here.
fn nobody_is_ejected(envoy: &mut Value) {
    for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
        cluster.as_object_mut().unwrap().remove("outlier_detection");
    }
}

async fn ask(gateway: &Gateway, key: &str, explain: Option<&str>) -> Answer {
    let mut request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(key);
    if let Some(value) = explain {
        request = request.header("tollgate-explain", value);
    }
    let body = crate::requests::with(chat("why there"), json!({ "max_tokens": 8 }));
    Answer::read(request.json(&body).send().await.unwrap()).await.unwrap()
}

async fn get(gateway: &Gateway, path: &str, key: Option<&str>) -> Answer {
    let mut request = gateway.http().get(format!("{}{path}", gateway.url()));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// A JSON value whose waits, which pass while the test looks on, are replaced once they are found to be no longer than so many
/// milliseconds.
fn without_waits(mut value: Value, ms_max: u64) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.remove("throttled_until");
            for (name, member) in members {
                let taken = member.take();
                *member = match taken.as_u64() {
                    Some(ms) if name == "wait_ms" => json!(ms > 0 && ms <= ms_max),
                    _ => without_waits(taken, ms_max),
                };
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|one| *one = without_waits(one.take(), ms_max)),
        _ => {}
    }
    value
}

#[tokio::test]
async fn an_operator_is_told_the_decision_and_nobody_else_is() {
    let throttled = Settings { faults: [Fault::throttle_ms(60_000)].into(), ..Settings::default() };
    let setup = Setup::new().workers(1).edit(operators).mock("ptu", throttled);
    let gateway = Gateway::start(setup).await.unwrap();
    let decision = |answer: &Answer| {
        without_waits(serde_json::from_str(answer.header("x-tollgate-decision")).unwrap(), 60_000)
    };
    let first = ask(&gateway, WEB_SHOP, Some("true")).await;
    assert_eq!(first.status, 200);
    let attempts = json!([{ "backend": "ptu", "status": 429 }, { "backend": "payg-a", "status": 200 }]);
    let all = json!(["ptu", "payg-a", "payg-b"]);
    assert_eq!(decision(&first), json!({ "candidates": all, "passed_over": [], "attempts": attempts }));
    // The next one does not go to the backend that pauses.
    let second = ask(&gateway, WEB_SHOP, Some("true")).await;
    let candidates = json!(["payg-a", "payg-b"]);
    let passed_over = json!([{ "backend": "ptu", "why": "cooldown", "wait_ms": true }]);
    let expected = json!({
        "candidates": candidates, "passed_over": passed_over,
        "attempts": [{ "backend": "payg-a", "status": 200 }],
    });
    assert_eq!(decision(&second), expected);
    // Nobody is told who has not asked, or may not know; the record has it all the same.
    for (key, asks) in [(WEB_SHOP, None), (WEB_SHOP, Some("yes")), (BATCH, Some("true"))] {
        let answer = ask(&gateway, key, asks).await;
        assert_eq!((answer.status, answer.header("x-tollgate-decision")), (200, ""), "{key} {asks:?}");
        let details = without_waits(details(&record_of(&gateway, &answer).await), 60_000);
        assert_eq!((&details["candidates"], &details["passed_over"]), (&candidates, &passed_over));
    }
    // Where nobody was passed over, the record has only the tries.
    let details = details(&record_of(&gateway, &first).await);
    assert_eq!((&details["passed_over"], &details["tries"]), (&Value::Null, &attempts));
    // The question goes no further.
    for backend in ["ptu", "payg-a"] {
        let received = gateway.mock(backend).received();
        assert!(!received.is_empty() && received.iter().all(|one| one.header("tollgate-explain").is_none()));
    }
}

#[tokio::test]
async fn health_tells_a_load_balancer_whether_a_model_is_served() {
    let setup = Setup::new()
        .workers(2)
        .edit(operators)
        .edit(|config| config["health"] = json!("open"))
        .patch(nobody_is_ejected);
    let gateway = Gateway::start(setup).await.unwrap();
    let of_model = "/tollgate/health?model=gpt-35-turbo-instruct";
    let state = |answer: Answer| {
        let status = answer.json()["status"].as_str().unwrap_or_default().to_owned();
        (answer.status, status)
    };
    assert_eq!(state(get(&gateway, of_model, None).await), (200, "healthy".to_owned()));
    let unknown = get(&gateway, "/tollgate/health?model=nothing", None).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (403, &json!("model_not_allowed")));

    // Only `payg-a` serves that model, and now asks for a pause.
    gateway.mock("payg-a").update(|settings| settings.faults = [Fault::throttle_ms(60_000)].into());
    for backend in ["ptu", "payg-b"] {
        gateway.mock(backend).update(|settings| settings.faults = [Fault::answer(500)].into());
    }
    let body = json!({ "model": "gpt-35-turbo-instruct", "prompt": "hello", "max_tokens": 8 });
    let refused = gateway.post("/v1/completions", BATCH, &body).await.unwrap();
    assert_eq!(refused.status, 429);
    let health = get(&gateway, of_model, None).await;
    let wait_ms: u64 = health.header("retry-after-ms").parse().unwrap();
    assert!(health.status == 503 && wait_ms > 0 && wait_ms <= 60_000, "{health:?}");
    let told = without_waits(health.json(), 60_000);
    assert_eq!(told, json!({ "object": "health", "status": "throttled", "wait_ms": true }));
    // Others have backends still, which is all that an answer about all of them says.
    assert_eq!(state(get(&gateway, "/tollgate/health", None).await), (200, "healthy".to_owned()));

    // A client is told about its models, an operator's about the backends too.
    let models = |answer: Answer| without_waits(answer.json()["models"].clone(), 60_000);
    let shop = models(get(&gateway, "/tollgate/health?model=text-embedding-3-small", Some(WEB_SHOP)).await);
    let payg_a = json!({ "backend": "payg-a", "deployment": "text-embedding-3-small", "status": "healthy" });
    let payg_b = json!({ "backend": "payg-b", "deployment": "text-embedding-3-small", "status": "healthy" });
    let expected = json!([{
        "model": "text-embedding-3-small", "status": "healthy", "backends": [payg_a, payg_b],
    }]);
    assert_eq!(shop, expected);
    let batch = models(get(&gateway, "/tollgate/health", Some(BATCH)).await);
    let expected = json!([
        { "model": "gpt-4o", "status": "healthy" },
        { "model": "gpt-35-turbo-instruct", "status": "throttled", "wait_ms": true },
        { "model": "text-embedding-3-small", "status": "healthy" },
    ]);
    assert_eq!(batch, expected);
    assert_eq!(get(&gateway, "/tollgate/health", Some("a stranger")).await.status, 401);
}

#[tokio::test]
async fn a_model_whose_backends_do_not_answer_is_down_until_one_does() {
    // One worker, for it takes back what it noted itself. Nobody listens at `ptu`; `payg-a` answers 500 and `payg-b` hangs up.
    let setup = Setup::new()
        .workers(1)
        .edit(operators)
        .patch(nobody_is_ejected)
        .backend("ptu", "http://127.0.0.1:9")
        .env("PTU_KEY", "unused");
    let gateway = Gateway::start(setup).await.unwrap();
    gateway.mock("payg-a").update(|settings| settings.faults = [Fault::answer(500).always()].into());
    gateway.mock("payg-b").update(|settings| settings.faults = [Fault::close().always()].into());
    let path = "/tollgate/health?model=gpt-4o";
    for _ in 0..3 {
        assert_eq!(get(&gateway, path, Some(WEB_SHOP)).await.status, 200);
        let answer = ask(&gateway, WEB_SHOP, None).await;
        assert_eq!(answer.status, 503);
        // The last attempt is noted when the stream is over.
        record_of(&gateway, &answer).await;
    }
    let health = get(&gateway, path, Some(WEB_SHOP)).await;
    let states = |answer: &Answer| {
        let backends = answer.json()["models"][0]["backends"].clone();
        backends.as_array().unwrap().iter().map(|one| one["status"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((health.status, states(&health)), (503, vec![json!("down"); 3]));
    // One answers again.
    gateway.mock("payg-a").update(|settings| settings.faults = [].into());
    assert_eq!(ask(&gateway, WEB_SHOP, None).await.status, 200);
    let expected = ["down", "healthy", "down"].map(|state| json!(state)).to_vec();
    let health = get(&gateway, path, Some(WEB_SHOP)).await;
    assert_eq!((health.status, states(&health)), (200, expected));
}

#[tokio::test]
async fn an_operator_is_told_which_configuration_runs() {
    let gateway = Gateway::start(Setup::new().edit(operators)).await.unwrap();
    let mut written = Bootstrap::load().unwrap().gateway_mut().unwrap().clone();
    operators(&mut written);
    let loaded = tollgate::config::from_value(written, &|_| Some("key".to_owned())).unwrap();
    let answer = get(&gateway, "/tollgate/config", Some(WEB_SHOP)).await;
    assert_eq!((answer.status, &answer.json()["sha256"]), (200, &json!(loaded.sha256)));
    assert!(answer.json()["age_s"].as_u64().unwrap() < 600, "{}", answer.text());
    assert_eq!(get(&gateway, "/tollgate/config", Some(BATCH)).await.status, 403);
    assert_eq!(get(&gateway, "/tollgate/config", None).await.status, 401);
}

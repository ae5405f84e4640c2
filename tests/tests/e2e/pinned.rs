//! Does a request go back to the backend that keeps what it refers to, on whichever Envoy it comes?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Mock, Settings};

use crate::drivers::{Call, SDKS, outcomes};
use crate::requests::{
    BATCH, GPT_4O, RESPONSES, WEB_SHOP, check_record, details, nobody_is_limited, record_of, refusal, with,
};

pub const BACKENDS: [(&str, &str); 3] =
    [("ptu", "PTU_KEY"), ("payg-a", "PAYG_A_KEY"), ("payg-b", "PAYG_B_KEY")];

/// Ids are sealed, and every client may ask for anything.
pub fn pinning(config: &mut Value) {
    config["pinning"] = json!({ "secret_envs": ["TOLLGATE_IDS"] });
    for client in config["clients"].as_array_mut().unwrap() {
        client["endpoints"] = json!(["*", "other"]);
    }
    config["other_endpoints"] = json!(["payg-b", "payg-a"]);
    config["backends"][0]["api_version"] = json!("2025-03-01-preview");
    for backend in config["models"][0]["backends"].as_array_mut().unwrap() {
        backend["deployment"] = json!("gpt-4o");
    }
}

/// The secret reaches the filter through Envoy's environment.
pub fn passes_the_secret(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "host_env_keys" => value.as_array_mut().unwrap().push(json!("TOLLGATE_IDS")),
                    _ => passes_the_secret(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(passes_the_secret),
        _ => {}
    }
}

/// One Envoy of a fleet, with these backends.
pub async fn envoy(mocks: &[Mock]) -> Gateway {
    envoy_with(mocks, |_| {}).await
}

/// The same, with a change of its configuration.
pub async fn envoy_with(mocks: &[Mock], change: impl FnOnce(&mut Value) + Send + 'static) -> Gateway {
    let mut setup = Setup::new().workers(1).edit(nobody_is_limited).edit(pinning).edit(change);
    setup = setup.patch(passes_the_secret);
    setup = setup.env("TOLLGATE_IDS", "the same secret for all of a fleet");
    for ((name, env), mock) in BACKENDS.iter().zip(mocks) {
        setup = setup.backend(name, &mock.url()).env(env, "unused");
    }
    Gateway::start(setup).await.unwrap()
}

/// Without the seals.
pub fn unsealed(text: &str) -> String {
    let mut parts = text.split("tg_");
    let first = parts.next().unwrap().to_owned();
    first + &parts.map(|part| &part[20..]).collect::<String>()
}

fn asked(mocks: &[Mock]) -> Vec<usize> {
    mocks.iter().map(|mock| mock.received().len()).collect()
}

#[tokio::test]
async fn a_follow_up_goes_back_to_its_backend_on_any_envoy_of_a_fleet() {
    let mut mocks = Vec::new();
    for (name, _) in BACKENDS {
        mocks.push(Mock::start(name, Settings::default()).await.unwrap());
    }
    let (one, other) = (envoy(&mocks).await, envoy(&mocks).await);
    // The first backend cannot: the id is of the second.
    mocks[0].update(|settings| settings.faults = [Fault::answer(500)].into());
    let body = json!({ "model": GPT_4O, "input": "remember me", "max_output_tokens": 16 });
    let answer = one.post(RESPONSES, WEB_SHOP, &body).await.unwrap();
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("resp_tg_"), "{id}");
    assert_eq!(asked(&mocks), [1, 1, 0]);
    assert_eq!(unsealed(&answer.text()).as_bytes(), &mocks[1].received()[0].response[..]);
    assert_eq!(answer.header("content-length"), "");

    // On another Envoy that has never seen it, as a stream that is cut anywhere.
    mocks[1].update(|settings| settings.cut_bytes = std::num::NonZeroUsize::new(7));
    let follow_up = with(body, json!({ "previous_response_id": id }));
    let stream = with(follow_up.clone(), json!({ "stream": true }));
    let answer = other.post(RESPONSES, WEB_SHOP, &stream).await.unwrap();
    assert_eq!((answer.status, asked(&mocks)), (200, vec![1, 2, 0]));
    let sent = &mocks[1].received()[1];
    assert_eq!(sent.json()["previous_response_id"], unsealed(&id));
    assert_eq!(unsealed(&answer.text()).as_bytes(), &sent.response[..]);
    assert!(answer.text().contains(&format!("\"previous_response_id\":\"{id}\"")));
    assert!(!answer.text().contains(&format!("\"{}\"", unsealed(&id))));
    let record = record_of(&other, &answer).await;
    check_record(&record, &json!({ "backend": "payg-a", "attempts": 1, "completion_tokens": "16" }));
    assert_eq!(details(&record)["pinned"], "followed");
    other.wait_for_metric("tollgate_pinned_requests", &[("result", "followed")], 1.0).await.unwrap();

    // In a path; the endpoints without a name go elsewhere else.
    let url = format!("{}/v1/responses/{id}/input_items?after={id}", other.url());
    let request = other.http().get(url).bearer_auth(WEB_SHOP).send().await.unwrap();
    assert_eq!(Answer::read(request).await.unwrap().status, 200);
    let raw = unsealed(&id);
    assert_eq!(mocks[1].received()[2].path, format!("/openai/v1/responses/{raw}/input_items?after={raw}"));
    assert_eq!(asked(&mocks), [1, 3, 0]);

    // It is not moved.
    mocks[1]
        .update(|settings| settings.faults = [Fault::answer(429).header("retry-after-ms", "300000")].into());
    let answer = one.post(RESPONSES, WEB_SHOP, &follow_up).await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after-ms")), (429, "300000"));
    let answer = one.post(RESPONSES, WEB_SHOP, &follow_up).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &json!("backends_throttled")));
    assert_eq!(asked(&mocks), [1, 4, 0]);

    // Nobody else's, and nothing that was changed.
    for (key, id) in [(BATCH, id.clone()), (WEB_SHOP, format!("{id}0"))] {
        let body = with(follow_up.clone(), json!({ "previous_response_id": id }));
        let answer = other.post(RESPONSES, key, &body).await.unwrap();
        let message = format!("Nothing with the id `{id}` is known here.");
        assert_eq!(answer.json(), refusal(&message, "invalid_request_error", None, "id_not_found"));
        assert_eq!((answer.status, asked(&mocks)), (404, vec![1, 4, 0]));
    }
}

#[tokio::test]
async fn the_sdks_follow_up_without_noticing() {
    let mut mocks = Vec::new();
    for (name, _) in BACKENDS {
        mocks.push(Mock::start(name, Settings::default()).await.unwrap());
    }
    let gateway = envoy(&mocks).await;
    for (at, sdk) in SDKS.into_iter().enumerate() {
        // Each is first served by a backend that is not the first.
        mocks[0].update(|settings| settings.faults = [Fault::answer(500)].into());
        let body = json!({ "model": GPT_4O, "input": "remember me", "max_output_tokens": 16 });
        let first =
            &outcomes(&gateway, &[Call::new(sdk, WEB_SHOP, "responses.create", body.clone())]).await[0];
        let id = &first["answer"]["id"];
        let [whole, stream] = [false, true].map(|stream| {
            let more = json!({ "previous_response_id": id, "stream": stream });
            Call::new(sdk, WEB_SHOP, "responses.create", with(body.clone(), more))
        });
        let found = outcomes(&gateway, &[whole, stream]).await;
        assert_eq!(&found[0]["answer"]["previous_response_id"], id, "{sdk:?} {found:?}");
        for event in [0, 1] {
            assert_eq!(
                &found[1]["answer"][event]["response"]["previous_response_id"], id,
                "{sdk:?} {found:?}"
            );
        }
        assert_eq!(asked(&mocks), [at + 1, 3 * (at + 1), 0]);
        let raw = unsealed(id.as_str().unwrap());
        assert_eq!(mocks[1].received().pop().unwrap().json()["previous_response_id"], raw);
    }
}

//! Do the official SDKs work with the queue as their users know them: responses in the background, and chats that may wait?

use serde_json::{Value, json};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Gateway, Redis};
use tollgate_tests::mock::{Settings, stream_events};

use crate::drivers::{Call, SDKS, Sdk, outcomes};
use crate::fleets::{PASSWORD, until};
use crate::requests::{RESPONSES, with};
use crate::worked_off::{fetched, start, worker};

fn create(sdk: Sdk) -> Call {
    let body = json!({ "model": "writer", "input": "hello", "background": true });
    Call::new(sdk, "shop", "responses.create", body)
}

/// A chat whose answer may come later.
fn patient(sdk: Sdk, more: Value) -> Call {
    let patience = json!({ "extra_headers": { "Prefer": "respond-async" } });
    Call::chat(sdk, "shop", with(patience, more))
}

/// What stands where a 202 has led.
fn at(sdk: Sdk, key: &str, gateway: &Gateway, path: &str) -> Call {
    Call::new(sdk, key, "get", json!({ "url": format!("{}{path}", gateway.url()) }))
}

fn calls(call: impl Fn(Sdk) -> Call) -> Vec<Call> {
    SDKS.map(call).into()
}

/// What each call is answered: this field of it is a text.
async fn texts(gateway: &Gateway, calls: Vec<Call>, pointer: &str) -> Vec<String> {
    let found = outcomes(gateway, &calls).await;
    let texts = found.iter().zip(&calls).map(|(found, call)| match found.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        _ => panic!("{call:?} {found}"),
    });
    texts.collect()
}

/// Calls of each SDK in turn, about the id that it has got.
fn about(ids: &[String], call: impl Fn(Sdk, &str) -> Call) -> Vec<Call> {
    SDKS.iter().zip(ids).map(|(sdk, id)| call(*sdk, id)).collect()
}

#[tokio::test]
async fn sdks_poll_cancel_and_delete_responses_of_the_queue() {
    let name = "sdks_poll_cancel_and_delete_responses_of_the_queue";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |_| {}).await;
    let gateway = &fleet.0[0];
    let status = async |ids: &[String], method: &'static str| {
        texts(gateway, about(ids, |sdk, id| Call::by_id(sdk, "shop", method, id)), "/answer/status").await
    };
    let all = |word: &str| vec![word.to_owned(); SDKS.len()];
    let made = outcomes(gateway, &[calls(create), calls(create)].concat()).await;
    let ids: Vec<_> = made
        .iter()
        .map(|made| {
            assert_eq!(made["answer"]["status"], "queued", "{made}");
            made["answer"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let (kept, dropped) = ids.split_at(SDKS.len());
    assert_eq!(status(kept, "responses.retrieve").await, all("queued"));
    assert_eq!(status(dropped, "responses.cancel").await, all("cancelled"));
    assert_eq!(status(dropped, "responses.retrieve").await, all("cancelled"));

    let _worker = worker(&redis, gateway);
    for id in kept {
        fetched(gateway, &format!("{RESPONSES}/{id}")).await;
    }
    let reads = about(kept, |sdk, id| Call::by_id(sdk, "shop", "responses.retrieve", id));
    for (read, id) in outcomes(gateway, &reads).await.iter().zip(kept) {
        let answer = &read["answer"];
        assert_eq!((&answer["status"], &answer["id"]), (&json!("completed"), &json!(id)), "{read}");
        let text = answer["output"][0]["content"][0]["text"].as_str().unwrap_or_default();
        assert!(text.starts_with("hello hello"), "{read}");
    }
    // What its client has cancelled is asked of nobody.
    assert_eq!(gateway.mock("payg-b").received().len(), SDKS.len());
    for ids in [kept, dropped] {
        let deleted = about(ids, |sdk, id| Call::by_id(sdk, "shop", "responses.delete", id));
        for deleted in outcomes(gateway, &deleted).await {
            assert!(deleted.get("answer").is_some(), "{deleted}");
        }
        let reads = about(ids, |sdk, id| Call::by_id(sdk, "shop", "responses.retrieve", id));
        assert_eq!(texts(gateway, reads, "/code").await, all("id_not_found"));
    }
}

#[tokio::test]
async fn sdks_cancel_a_response_that_a_worker_has() {
    let name = "sdks_cancel_a_response_that_a_worker_has";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |_| {}).await;
    let gateway = &fleet.0[0];
    gateway.mock("payg-b").update(|settings| settings.hold = true);
    let _worker = worker(&redis, gateway);
    let ids = texts(gateway, calls(create), "/answer/id").await;
    until(|| match gateway.mock("payg-b").received().len() {
        4.. => Ok(()),
        some => Err(format!("{some} are sent")),
    })
    .await;
    let expected = ["in_progress", "cancelled", "cancelled"].map(|word| vec![word.to_owned(); SDKS.len()]);
    for (method, expected) in
        ["responses.retrieve", "responses.cancel", "responses.retrieve"].into_iter().zip(expected)
    {
        let calls = about(&ids, |sdk, id| Call::by_id(sdk, "shop", method, id));
        assert_eq!(texts(gateway, calls, "/answer/status").await, expected, "{method}");
    }
    // The worker lets go of them, and takes the next ones: those are answered.
    gateway.mock("payg-b").update(|settings| settings.hold = false);
    for id in texts(gateway, calls(create), "/answer/id").await {
        let answer = fetched(gateway, &format!("{RESPONSES}/{id}")).await;
        assert_eq!(answer.json()["status"], "completed", "{}", answer.text());
    }
    for id in &ids {
        let answer = fetched(gateway, &format!("{RESPONSES}/{id}")).await;
        assert_eq!(answer.json()["status"], "cancelled", "{}", answer.text());
    }
}

#[tokio::test]
async fn an_sdk_is_led_to_the_answer_of_a_chat_that_may_wait() {
    let name = "an_sdk_is_led_to_the_answer_of_a_chat_that_may_wait";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |_| {}).await;
    let gateway = &fleet.0[0];
    let streams = json!({ "stream": true, "stream_options": { "include_usage": true } });
    for more in [json!({}), streams] {
        let is_stream = more["stream"] == true;
        let taken = outcomes(gateway, &calls(|sdk| patient(sdk, more.clone()))).await;
        let places: Vec<_> = taken
            .iter()
            .map(|taken| {
                assert_eq!(taken["headers"]["preference-applied"], "respond-async", "{taken}");
                let answer = &taken["answer"];
                // Of a stream it finds no event in what is none.
                let is_it = if is_stream { answer == &json!([]) } else { answer["state"] == json!("queued") };
                assert!(is_it, "{taken}");
                taken["headers"]["location"].as_str().unwrap().to_owned()
            })
            .collect();
        let fetch = || about(&places, |sdk, path| at(sdk, "shop", gateway, path));
        for waits in outcomes(gateway, &fetch()).await {
            assert_eq!(waits["status"], 202, "{waits}");
        }
        gateway.mock("ptu").forget();
        let worker = worker(&redis, gateway);
        for path in &places {
            fetched(gateway, path).await;
        }
        let received = gateway.mock("ptu").received();
        assert_eq!(received.len(), SDKS.len());
        for found in outcomes(gateway, &fetch()).await {
            assert_eq!(found["status"], 200, "{found}");
            let answer = found["answer"].as_str().unwrap();
            let kind = found["headers"]["content-type"].as_str().unwrap();
            if is_stream {
                assert!(kind.starts_with("text/event-stream"), "{kind}");
                // All SDKs have asked for the same, so each event is that of any of them.
                let is_sent = received.iter().any(|asked| {
                    let events =
                        stream_events(&asked.path, &asked.body, &Settings::default()).unwrap().concat();
                    String::from_utf8_lossy(&events) == answer
                });
                assert!(is_sent, "{answer}");
            } else {
                let answer: Value = serde_json::from_str(answer).unwrap();
                let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
                assert!(text.starts_with("tell me something"), "{kind} {answer}");
            }
        }
        drop(worker);
    }
}

#[tokio::test]
async fn no_sdk_reads_or_ends_a_job_that_is_not_its_own() {
    let name = "no_sdk_reads_or_ends_a_job_that_is_not_its_own";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |_| {}).await;
    let gateway = &fleet.0[0];
    let sdk = SDKS[0];
    let id = texts(gateway, vec![create(sdk)], "/answer/id").await.remove(0);
    let path = texts(gateway, vec![patient(sdk, json!({}))], "/headers/location").await.remove(0);
    let (_, job) = path.rsplit_once('/').unwrap();
    // Another digit at its end, what is no name, and a job's name that is taken for a response.
    let last = if id.ends_with('0') { "1" } else { "0" };
    let forged = [
        ("shop", format!("{}{last}", &id[..id.len() - 1])),
        ("shop", "resp_job_forged".to_owned()),
        ("shop", format!("resp_job_{job}")),
        ("other", id.clone()),
        ("worker", id.clone()),
    ];
    let methods = ["responses.retrieve", "responses.cancel", "responses.delete"];
    let mut asked: Vec<_> = SDKS
        .into_iter()
        .flat_map(|sdk| methods.map(|method| (sdk, method)))
        .flat_map(|(sdk, method)| forged.each_ref().map(|(key, id)| Call::by_id(sdk, key, method, id)))
        .collect();
    let response = id.strip_prefix("resp_job_").unwrap();
    let paths =
        [("other", path.clone()), ("shop", format!("{path}0")), ("shop", path.replace(job, response))];
    asked.extend(
        SDKS.into_iter().flat_map(|sdk| paths.each_ref().map(|(key, path)| at(sdk, key, gateway, path))),
    );
    for (found, call) in outcomes(gateway, &asked).await.iter().zip(&asked) {
        let told = (&found["exception"], &found["status"], &found["code"]);
        assert_eq!(told, (&json!("NotFoundError"), &json!(404), &json!("id_not_found")), "{call:?} {found}");
    }
    // Nothing of that has ended one.
    let own = [Call::by_id(sdk, "shop", "responses.retrieve", &id), at(sdk, "shop", gateway, &path)];
    let own = outcomes(gateway, &own).await;
    assert_eq!((&own[0]["answer"]["status"], &own[1]["status"]), (&json!("queued"), &json!(202)), "{own:?}");
}

#[tokio::test]
async fn a_job_that_came_too_late_says_so_to_each_sdk() {
    let name = "a_job_that_came_too_late_says_so_to_each_sdk";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |config| config["queue"]["age_s"] = json!(1)).await;
    let gateway = &fleet.0[0];
    let id = texts(gateway, vec![create(SDKS[0])], "/answer/id").await.remove(0);
    let path = texts(gateway, vec![patient(SDKS[0], json!({}))], "/headers/location").await.remove(0);
    let (_, job) = path.rsplit_once('/').unwrap();
    // By the clock of Redis, which is the one that counts.
    let age = "return redis.call('TIME')[1] * 1000 - redis.call('HGET', KEYS[1], 'until')";
    until(|| match redis.ask(&["EVAL", age, "1", &format!("tollgate:{{jobs}}:job:{job}")]).unwrap() {
        Reply::Integer(over) if over > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let _worker = worker(&redis, gateway);
    for path in [path.clone(), format!("{RESPONSES}/{id}")] {
        fetched(gateway, &path).await;
    }
    let asked = calls(|sdk| at(sdk, "shop", gateway, &path));
    for found in outcomes(gateway, &asked).await {
        let told = (&found["exception"], &found["status"], &found["code"]);
        assert_eq!(told, (&json!("InternalServerError"), &json!(502), &json!("job_failed")), "{found}");
        assert!(found["message"].as_str().unwrap().contains("expired"), "{found}");
    }
    let asked = calls(|sdk| Call::by_id(sdk, "shop", "responses.retrieve", &id));
    for found in outcomes(gateway, &asked).await {
        assert_eq!(found["answer"]["status"], "failed", "{found}");
        assert_eq!(found["answer"]["error"]["code"], "job_failed", "{found}");
    }
    for backend in gateway.backends().keys() {
        assert_eq!(gateway.mock(backend).received(), []);
    }
}

#[tokio::test]
async fn an_answer_is_kept_as_long_as_is_said_and_no_longer() {
    let name = "an_answer_is_kept_as_long_as_is_said_and_no_longer";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |config| config["queue"]["keep_s"] = json!(1)).await;
    let gateway = &fleet.0[0];
    let id = texts(gateway, vec![create(SDKS[0])], "/answer/id").await.remove(0);
    let path = texts(gateway, vec![patient(SDKS[0], json!({}))], "/headers/location").await.remove(0);
    let _worker = worker(&redis, gateway);
    until(|| {
        let (_, job) = path.rsplit_once('/').unwrap();
        let keys = [job, id.strip_prefix("resp_job_").unwrap()];
        let left = keys.map(|id| redis.ask(&["EXISTS", &format!("tollgate:{{jobs}}:job:{id}")]).unwrap());
        if left == [Reply::Integer(0), Reply::Integer(0)] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    // They were answered, and it was not for their age that they went.
    assert_eq!((gateway.mock("ptu").received().len(), gateway.mock("payg-b").received().len()), (1, 1));
    let reads = calls(|sdk| Call::by_id(sdk, "shop", "responses.retrieve", &id))
        .into_iter()
        .chain(calls(|sdk| at(sdk, "shop", gateway, &path)));
    let reads: Vec<_> = reads.collect();
    assert!(texts(gateway, reads, "/code").await.iter().all(|code| code == "id_not_found"));
}

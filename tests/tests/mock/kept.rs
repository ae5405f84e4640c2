//! What is made at one mock can be used there, and nowhere else.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use tollgate_tests::mock::{Mock, Settings};

use crate::{Got, RESPONSES, post, request, start};

async fn two() -> [Mock; 2] {
    [start(Settings::default()).await, Mock::start("us", Settings::default()).await.expect("a free port")]
}

#[track_caller]
fn id(got: &Got) -> String {
    assert_eq!(got.status, 200, "{got:?}");
    got.json()["id"].as_str().expect("an id").to_owned()
}

async fn made(mock: &Mock, path: &str, body: &Value) -> String {
    id(&post(mock, path, body).await)
}

async fn uploaded(mock: &Mock, content: &str) -> String {
    let body = format!(
        "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"a.jsonl\"\r\nContent-Type: text/plain\r\n\r\n{content}\r\n--x--\r\n"
    );
    let headers = [("content-type", "multipart/form-data; boundary=x")];
    let got = request(mock, Method::POST, "/v1/files", &headers, body.as_bytes()).await;
    let file = got.json();
    assert_eq!((&file["filename"], &file["purpose"]), (&json!("a.jsonl"), &json!("batch")));
    id(&got)
}

/// The answers at both, which are good at the first and say at the other that there is no such thing.
async fn check(mocks: &[Mock; 2], method: Method, path: &str, body: &Value) -> Bytes {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let other = request(&mocks[1], method.clone(), path, &[], body.as_bytes()).await;
    let error = &other.json()["error"];
    assert_eq!((other.status, &error["type"]), (404, &json!("invalid_request_error")), "{path} {error}");
    assert!(error["message"].as_str().is_some_and(|message| message.ends_with(" not found.")), "{error}");
    let got = request(&mocks[0], method, path, &[], body.as_bytes()).await;
    assert_eq!(got.status, 200, "{path} {got:?}");
    got.body
}

#[tokio::test]
async fn what_was_made_is_only_there() {
    let (mocks, none) = (two().await, Value::Null);
    let one = &mocks[0];
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let file = uploaded(one, "a\r\n-x inside\r\nb").await;
    let content = check(&mocks, get.clone(), &format!("/v1/files/{file}/content"), &none).await;
    assert_eq!(&content[..], b"a\r\n-x inside\r\nb");

    let store = made(one, "/v1/vector_stores", &json!({ "file_ids": [file] })).await;
    let files = check(&mocks, get.clone(), &format!("/openai/v1/vector_stores/{store}/files"), &none).await;
    let files: Value = serde_json::from_slice(&files).expect("JSON");
    assert_eq!((&files["data"][0]["id"], &files["first_id"]), (&json!(file), &json!(file)));

    let assistant = made(one, "/v1/assistants", &json!({ "model": "m" })).await;
    let thread = made(one, "/openai/threads?api-version=2024-10-21", &json!({})).await;
    let messages = format!("/v1/threads/{thread}/messages");
    check(&mocks, post.clone(), &messages, &json!({ "role": "user", "content": "a b c" })).await;
    let asked = json!({ "assistant_id": assistant, "stream": true });
    let events = check(&mocks, post.clone(), &format!("/v1/threads/{thread}/runs"), &asked).await;
    let events = String::from_utf8(events.to_vec()).expect("UTF-8");
    assert!(events.starts_with("event: thread.run.created\n"), "{events}");
    assert!(events.ends_with("event: done\ndata: [DONE]\n\n"), "{events}");
    let said = check(&mocks, get.clone(), &messages, &none).await;
    let said: Value = serde_json::from_slice(&said).expect("JSON");
    assert_eq!(said["data"][1]["content"][0]["text"]["value"], "a b c a");

    let asked = json!({ "input_file_id": file, "endpoint": "/v1/responses", "completion_window": "24h" });
    let batch = check(&mocks, post.clone(), "/v1/batches", &asked).await;
    let batch: Value = serde_json::from_slice(&batch).expect("JSON");
    let output = batch["output_file_id"].as_str().expect("an id");
    check(&mocks, get.clone(), &format!("/v1/files/{output}/content"), &none).await;

    check(&mocks, delete, &format!("/v1/files/{file}"), &none).await;
    let gone = request(one, get, &format!("/v1/files/{file}"), &[], b"").await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_response_is_kept_with_what_went_into_it() {
    let (mocks, none) = (two().await, Value::Null);
    let one = &mocks[0];
    for stream in [false, true] {
        let conversation = made(one, "/v1/conversations", &json!({})).await;
        let asked = json!({ "model": "m", "input": "a b", "conversation": conversation, "stream": stream });
        let answer = check(&mocks, Method::POST, RESPONSES, &asked).await;
        let text = String::from_utf8(answer.to_vec()).expect("UTF-8");
        let id = format!(
            "resp_{}",
            text.split_once("\"resp_").expect("an id").1.split_once('"').expect("its end").0
        );
        for path in ["", "/input_items"] {
            check(&mocks, Method::GET, &format!("{RESPONSES}/{id}{path}"), &none).await;
        }
        check(&mocks, Method::POST, &format!("{RESPONSES}/{id}/cancel"), &none).await;
        let items =
            check(&mocks, Method::GET, &format!("/v1/conversations/{conversation}/items"), &none).await;
        let items: Value = serde_json::from_slice(&items).expect("JSON");
        assert_eq!(items["data"].as_array().map(Vec::len), Some(2), "{items}");
        let more = json!({ "model": "m", "input": "c", "previous_response_id": id });
        check(&mocks, Method::POST, RESPONSES, &more).await;
        check(&mocks, Method::DELETE, &format!("{RESPONSES}/{id}"), &none).await;
        assert_eq!(post(one, RESPONSES, &more).await.status, 404);
    }
    let lost = made(one, RESPONSES, &json!({ "model": "m", "input": "a", "store": false })).await;
    let more = json!({ "model": "m", "input": "c", "previous_response_id": lost });
    assert_eq!(post(one, RESPONSES, &more).await.status, 404);
}

#[tokio::test]
async fn only_who_wrote_hidden_reasoning_can_read_it() {
    let mocks = two().await;
    let asked =
        json!({ "model": "m", "input": "a", "include": ["reasoning.encrypted_content"], "store": false });
    let reasoning = post(&mocks[0], RESPONSES, &asked).await.json()["output"][0].clone();
    assert_eq!(reasoning["type"], "reasoning");
    let more = json!({ "model": "m", "input": [reasoning, { "role": "user", "content": "b" }] });
    assert_eq!(post(&mocks[0], RESPONSES, &more).await.status, 200);
    let got = post(&mocks[1], RESPONSES, &more).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (400, &json!("invalid_encrypted_content")));
}

//! Good answers: their shape, their content, and what they cost.

use serde_json::{Value, json};
use tollgate_tests::mock::{Content, Mock, Operation, Outcome, Settings, Usage, answer, tokens};

use crate::{AZURE_CHAT, CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, chat, get, post, request, start, with};

#[tokio::test]
async fn a_chat_answer_has_all_its_fields() {
    let mock = start(Settings { cached_tokens: 2, reasoning_tokens: 1, ..Settings::default() }).await;
    let got = post(&mock, CHAT, &chat(&json!({"max_tokens": 5}))).await;
    let mut json = got.json();
    assert!(json["id"].take().as_str().is_some_and(|id| id.starts_with("chatcmpl-")));
    assert_eq!(
        json,
        json!({
            "id": null, "object": "chat.completion", "created": 1_700_000_000, "model": "m",
            "choices": [{
                "index": 0, "logprobs": null, "finish_reason": "length",
                "message": {"role": "assistant", "content": "a b c a", "refusal": null},
            }],
            "usage": {
                "prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13,
                "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 1, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
                },
            },
            "system_fingerprint": "fp_mock",
        })
    );
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.header("x-ms-region"), Some("eu"));
    assert_eq!(got.header("apim-request-id"), Some("00000000-0000-4000-8000-000000000000"));
    assert_eq!(got.header("x-request-id"), Some("req_00000000000000000000000000000000"));
    assert_eq!(got.header("x-ratelimit-remaining-tokens"), Some("1000000"));
    assert_eq!(got.header("x-ratelimit-remaining-requests"), Some("10000"));
}

#[tokio::test]
async fn azure_says_what_its_content_filter_found() {
    let mock = start(Settings::default()).await;
    let safe = json!({"filtered": false, "severity": "safe"});
    let findings = json!({"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe});
    for path in [AZURE_CHAT, "/openai/v1/chat/completions"] {
        let json = post(&mock, path, &chat(&json!({}))).await.json();
        let prompt = json!([{"prompt_index": 0, "content_filter_results": findings}]);
        assert_eq!(json["prompt_filter_results"], prompt, "{path}");
        assert_eq!(json["choices"][0]["content_filter_results"], findings, "{path}");
    }
}

#[tokio::test]
async fn the_model_stands_in_a_deployments_path_or_in_the_body() {
    let mock = start(Settings::default()).await;
    let dated = "?api-version=2025-04-01-preview";
    let table = [
        ("/v1/chat/completions".to_owned(), "m"),
        ("/openai/v1/chat/completions".to_owned(), "m"),
        ("/openai/v1/chat/completions?api-version=preview".to_owned(), "m"),
        (format!("/openai/deployments/d/chat/completions{dated}"), "d"),
        (format!("/openai/deployments/gpt%2D4o/chat/completions{dated}"), "gpt-4o"),
        (format!("/openai/deployments/d/completions{dated}"), "d"),
        (format!("/openai/deployments/d/embeddings{dated}"), "d"),
        (format!("/openai/responses{dated}"), "m"),
        ("/openai/v1/responses".to_owned(), "m"),
    ];
    for (path, model) in table {
        let body = match path.as_str() {
            path if path.contains("/chat/") => chat(&json!({})),
            path if path.contains("/completions") => json!({"model": "m", "prompt": "a"}),
            _ => json!({"model": "m", "input": "a"}),
        };
        let got = post(&mock, &path, &body).await;
        assert_eq!((got.status, &got.json()["model"]), (200, &json!(model)), "{path}");
    }
    // In the path it needs no second name.
    let body = json!({"messages": [{"role": "user", "content": "a"}]});
    assert_eq!(post(&mock, AZURE_CHAT, &body).await.json()["model"], "d");
}

/// (operation, body, prompt tokens, completion tokens)
fn costs() -> Vec<(&'static str, Value, u64, u64)> {
    let messages = |messages: Value| json!({"model": "m", "messages": messages});
    let prompt = |prompt: Value| json!({"model": "m", "prompt": prompt});
    let input = |input: Value| json!({"model": "m", "input": input});
    vec![
        (CHAT, chat(&json!({})), 2 + 3 + 3, 24),
        (CHAT, chat(&json!({"n": 3})), 8, 72),
        (CHAT, chat(&json!({"n": 128, "max_tokens": 1})), 8, 128),
        (CHAT, chat(&json!({"max_tokens": 5})), 8, 5),
        (CHAT, chat(&json!({"max_completion_tokens": 23, "n": 2})), 8, 46),
        (CHAT, chat(&json!({"max_tokens": 24})), 8, 24),
        (CHAT, chat(&json!({"max_tokens": 1000, "max_completion_tokens": null})), 8, 24),
        // Characters, not bytes.
        (
            CHAT,
            messages(json!([{"role": "system", "content": "ééééé"}, {"role": "user", "content": ""}])),
            2 + 6 + 3,
            24,
        ),
        (
            CHAT,
            messages(json!([{"role": "user", "content": [
                {"type": "text", "text": "12345"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "text", "text": "1"},
            ]}, {"role": "assistant", "content": null}])),
            2 + 85 + 1 + 6 + 3,
            24,
        ),
        (COMPLETIONS, prompt(json!("12345")), 2, 16),
        (COMPLETIONS, with(prompt(json!("12345")), &json!({"max_tokens": 100})), 2, 24),
        (COMPLETIONS, prompt(json!(["12345", "1"])), 3, 32),
        (COMPLETIONS, prompt(json!([1, 2, 3])), 3, 16),
        (COMPLETIONS, prompt(json!([[1, 2, 3], [4]])), 4, 32),
        (COMPLETIONS, json!({"model": "m"}), 1, 16),
        (COMPLETIONS, with(prompt(json!("a")), &json!({"n": 2, "max_tokens": 3})), 1, 6),
        (COMPLETIONS, with(prompt(json!("a")), &json!({"n": 2, "best_of": 5, "max_tokens": 3})), 1, 15),
        (COMPLETIONS, with(prompt(json!(["a", "b"])), &json!({"best_of": 5, "max_tokens": 3})), 2, 30),
        (COMPLETIONS, with(prompt(json!("a")), &json!({"max_tokens": 0, "echo": true})), 1, 0),
        (EMBEDDINGS, input(json!("12345")), 2, 0),
        (EMBEDDINGS, input(json!(["12345", "1"])), 3, 0),
        (EMBEDDINGS, input(json!([7, 8])), 2, 0),
        (EMBEDDINGS, input(json!([[7, 8], [9]])), 3, 0),
        (RESPONSES, input(json!("12345")), 2 + 3 + 3, 24),
        (
            RESPONSES,
            with(input(json!("12345")), &json!({"instructions": "1", "max_output_tokens": 16})),
            3 + 6 + 3,
            16,
        ),
        (
            RESPONSES,
            input(json!([{"role": "user", "content": [
                {"type": "input_text", "text": "12345"}, {"type": "input_image", "image_url": "data:"},
            ]}])),
            2 + 85 + 3 + 3,
            24,
        ),
    ]
}

#[tokio::test]
async fn usage_can_be_predicted_is_reported_and_is_billed() {
    let mock = start(Settings::default()).await;
    for (path, body, prompt, completion) in costs() {
        mock.forget();
        let usage = Usage { prompt, completion, ..Usage::default() };
        let predicted =
            answer("POST", path, body.to_string().as_bytes(), &Settings::default()).expect("an answer");
        assert_eq!(predicted.usage, usage, "{path} {body}");

        let reported = &post(&mock, path, &body).await.json()["usage"];
        let fields = match path {
            RESPONSES => ["input_tokens", "output_tokens", "total_tokens"],
            _ => ["prompt_tokens", "completion_tokens", "total_tokens"],
        };
        let total = prompt + completion;
        let expected = [Some(prompt), (path != EMBEDDINGS).then_some(completion), Some(total)];
        assert_eq!(fields.map(|field| reported[field].as_u64()), expected, "{path} {body}");

        let billed: Vec<(Usage, Outcome)> =
            mock.billed().iter().map(|bill| (bill.usage, bill.outcome)).collect();
        assert_eq!(billed, [(usage, Outcome::Complete)], "{path} {body}");
    }
}

#[test]
fn the_limiter_takes_the_cap_for_the_cost() {
    let cost = |path, body: Value| {
        answer("POST", path, body.to_string().as_bytes(), &Settings::default()).expect("an answer").cost
    };
    assert_eq!(cost(CHAT, chat(&json!({}))), 8 + 16);
    assert_eq!(cost(CHAT, chat(&json!({"max_tokens": 500}))), 8 + 500);
    assert_eq!(cost(COMPLETIONS, json!({"model": "m", "prompt": "12345", "max_tokens": 7})), 2 + 7);
    assert_eq!(cost(RESPONSES, json!({"model": "m", "input": "12345", "max_output_tokens": 70})), 8 + 70);
    assert_eq!(cost(EMBEDDINGS, json!({"model": "m", "input": "12345"})), 2);
}

#[test]
fn an_answer_echoes_words() {
    let table: [(&str, u64, &str); 6] = [
        ("a b c", 5, "a b c a b"),
        ("a b c", 2, "a b"),
        (" é\n\tß ", 3, "é ß é"),
        ("", 2, "mock mock"),
        ("a", 0, ""),
        ("0123456789012345678901234567890123456789", 1, "01234567890123456789012345678901"),
    ];
    for (source, count, expected) in table {
        assert_eq!(tokens::echo(source, count).concat(), expected, "{source:?} {count}");
    }
}

#[tokio::test]
async fn the_last_user_message_is_echoed() {
    let mock = start(Settings { completion_tokens: 3, ..Settings::default() }).await;
    let user = |content: Value| json!({"role": "user", "content": content});
    let parts = json!([{"type": "text", "text": "x"}, {"type": "image_url"}, {"type": "text", "text": "y"}]);
    let table = [
        (
            json!([user(json!("no")), user(json!("yes")), {"role": "assistant", "content": "z"}]),
            "yes yes yes",
        ),
        (json!([user(parts)]), "x y x"),
        (json!([{"role": "system", "content": "z"}]), "mock mock mock"),
    ];
    for (messages, expected) in table {
        let body = json!({"model": "m", "messages": messages});
        let choice = &post(&mock, CHAT, &body).await.json()["choices"][0];
        assert_eq!(
            (&choice["message"]["content"], &choice["finish_reason"]),
            (&json!(expected), &json!("stop"))
        );
    }
}

#[tokio::test]
async fn completions_return_n_choices_for_each_prompt() {
    let mock = start(Settings::default()).await;
    let table = [
        (json!({"prompt": "a b", "n": 2, "best_of": 3, "max_tokens": 3}), vec!["a b a", "a b a"]),
        (json!({"prompt": ["a", "b"], "n": 2, "max_tokens": 2}), vec!["a a", "a a", "b b", "b b"]),
        (json!({"prompt": "a b ", "max_tokens": 1, "echo": true}), vec!["a b a"]),
        (json!({"prompt": [5, 6], "max_tokens": 1, "echo": true}), vec!["mock"]),
    ];
    for (body, texts) in table {
        let json = post(&mock, COMPLETIONS, &with(json!({"model": "m"}), &body)).await.json();
        let expected: Vec<Value> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| json!({"text": text, "index": index, "logprobs": null, "finish_reason": "length"}))
            .collect();
        assert_eq!(json["choices"], json!(expected), "{body}");
    }
}

#[tokio::test]
async fn embeddings_depend_on_their_text_alone() {
    use base64::Engine as _;
    let mock = start(Settings::default()).await;
    let embed = async |more: Value| {
        let data = post(&mock, EMBEDDINGS, &with(json!({"model": "m"}), &more)).await.json()["data"].take();
        let list = data.as_array().expect("a list").clone();
        list.into_iter().map(|mut datum| datum["embedding"].take()).collect::<Vec<Value>>()
    };
    let floats = |vector: &Value| -> Vec<f32> { serde_json::from_value(vector.clone()).expect("numbers") };

    let two = embed(json!({"input": ["a", "b"]})).await;
    assert_ne!(two[0], two[1]);
    assert_eq!(embed(json!({"input": "b", "encoding_format": "float"})).await, [two[1].clone()]);
    let vector = floats(&two[1]);
    assert_eq!(vector.len(), 8);
    assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!(floats(&embed(json!({"input": [7], "dimensions": 3})).await[0]).len(), 3);

    let packed = embed(json!({"input": "b", "encoding_format": "base64"})).await;
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(packed[0].as_str().expect("text")).expect("base64");
    let unpacked: Vec<f32> =
        bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect();
    assert_eq!(unpacked, vector);
}

#[tokio::test]
async fn a_response_says_whether_it_was_cut() {
    let mock = start(Settings { cached_tokens: 100, reasoning_tokens: 2, ..Settings::default() }).await;
    let first = post(&mock, RESPONSES, &json!({"model": "m", "input": "a"})).await.json();
    let body =
        json!({"model": "m", "input": "a b", "max_output_tokens": 16, "previous_response_id": first["id"]});
    let json = post(&mock, RESPONSES, &body).await.json();
    assert_eq!(json["status"], "incomplete");
    assert_eq!(json["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(json["previous_response_id"], first["id"]);
    assert_eq!(json["output"][0]["content"][0]["text"], "a b a b a b a b a b a b a b");
    assert_eq!(
        json["usage"],
        json!({
            "input_tokens": 7, "input_tokens_details": {"cached_tokens": 7},
            "output_tokens": 16, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 23,
        })
    );
    let json = post(&mock, RESPONSES, &json!({"model": "m", "input": "a"})).await.json();
    assert_eq!((&json["status"], &json["incomplete_details"]), (&json!("completed"), &Value::Null));
}

#[tokio::test]
async fn models_are_listed() {
    let listed = async |mock: &Mock, path: &str| {
        let json = get(mock, path).await.json();
        let data = json["data"].as_array().expect("a list").clone();
        data.iter().map(|model| model["id"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let any = start(Settings::default()).await;
    let some = ["gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small"];
    assert_eq!(listed(&any, "/v1/models").await, some);
    let mock = start(Settings { models: Some(vec!["m".to_owned()]), ..Settings::default() }).await;
    for path in ["/v1/models", "/openai/v1/models", "/openai/models?api-version=2024-10-21"] {
        assert_eq!(listed(&mock, path).await, ["m"], "{path}");
    }
    let model = json!({"id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "mock"});
    assert_eq!(get(&mock, "/v1/models/m").await.json(), model);
    // They cost nothing, but they are received.
    assert_eq!(mock.received().len(), 4);
    assert!(mock.billed().iter().all(|bill| bill.operation == Operation::Models && bill.usage.total() == 0));
}

#[tokio::test]
async fn a_key_is_asked_for_if_one_is_set() {
    let mock = start(Settings { require_key: Some("k".to_owned()), ..Settings::default() }).await;
    let body = chat(&json!({})).to_string();
    let status = async |path: &str, headers: &[(&str, &str)]| {
        request(&mock, reqwest::Method::POST, path, headers, body.as_bytes()).await.status
    };
    for path in [CHAT, AZURE_CHAT] {
        assert_eq!(status(path, &[("api-key", "k")]).await, 200, "{path}");
        assert_eq!(status(path, &[("authorization", "Bearer k")]).await, 200, "{path}");
        assert_eq!(status(path, &[("authorization", "bearer k"), ("api-key", "x")]).await, 200, "{path}");
        assert_eq!(status(path, &[("api-key", "kk")]).await, 401, "{path}");
        assert_eq!(status(path, &[("authorization", "k")]).await, 401, "{path}");
        assert_eq!(status(path, &[]).await, 401, "{path}");
    }
    assert_eq!(mock.billed().len(), 6);
}

#[tokio::test]
async fn gzip_is_a_matter_of_settings_and_of_what_is_accepted() {
    use std::io::Read as _;
    use tollgate_tests::mock::Gzip;
    let table = [
        (Gzip::Never, "gzip", false),
        (Gzip::Accepted, "", false),
        (Gzip::Accepted, "identity, gzip;q=0", false),
        (Gzip::Accepted, "br, gzip", true),
        (Gzip::Accepted, "gzip;q=0.5", true),
        (Gzip::Accepted, "*", true),
        (Gzip::Always, "", true),
    ];
    let body = chat(&json!({})).to_string();
    let Content::Json(plain) =
        answer("POST", CHAT, body.as_bytes(), &Settings::default()).expect("an answer").content
    else {
        panic!("not a stream")
    };
    for (gzip, accepted, compressed) in table {
        let mock = start(Settings { gzip, ..Settings::default() }).await;
        let headers = [("accept-encoding", accepted)];
        let got = request(&mock, reqwest::Method::POST, CHAT, &headers, body.as_bytes()).await;
        assert_eq!(got.header("content-encoding"), compressed.then_some("gzip"), "{gzip:?} {accepted}");
        assert_eq!(got.header("content-length"), Some(got.body.len().to_string().as_str()));
        assert_eq!(mock.received()[0].response, got.body);
        let mut read = Vec::new();
        if compressed {
            flate2::read::GzDecoder::new(&*got.body).read_to_end(&mut read).expect("gzip");
        } else {
            read.extend(&got.body);
        }
        assert_eq!(read, plain, "{gzip:?} {accepted}");
    }
}

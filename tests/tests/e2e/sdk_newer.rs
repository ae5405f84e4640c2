//! Do the newer methods of the official SDKs work as their users know them: work in the background, shapes, forms with
//! several files, and what Codex sends?

use serde_json::{Value, json};
use tollgate_tests::harness::Gateway;

use crate::drivers::{Call, Language, SDKS, Sdk, outcomes};
use crate::provider::{FILE, OPEN, PROMPT, Provider, REQUEST_ID, SECRET, TEXT, UNCAPPED, check_log, line};
use crate::requests::{GPT_4O, check_record, with};

fn call(sdk: Sdk, method: &'static str, arguments: Value) -> Call {
    Call { max_retries: 2, ..Call::new(sdk, OPEN, method, arguments) }
}

fn by_id(sdk: Sdk, method: &'static str, id: &str) -> Call {
    Call { max_retries: 2, ..Call::by_id(sdk, OPEN, method, id) }
}

/// What each of these is answered, which is good.
async fn answers(gateway: &Gateway, calls: &[Call]) -> Vec<Value> {
    let found = outcomes(gateway, calls).await;
    for (call, found) in calls.iter().zip(&found) {
        assert!(found.get("answer").is_some(), "{call:?} {found}");
    }
    found
}

#[tokio::test]
async fn the_sdks_newer_methods_work_as_their_users_know_them() {
    let provider = Provider::start().await;
    let gateway = provider.gateway().await;
    for sdk in SDKS {
        check_background(&provider, &gateway, sdk).await;
        check_shapes(&provider, &gateway, sdk).await;
        check_forms(&provider, &gateway, sdk).await;
        check_codex(&provider, &gateway, sdk).await;
        check_headers(&provider, &gateway, sdk).await;
        check_refusals(&provider, &gateway, sdk).await;
    }
}

async fn check_background(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let create = json!({ "model": GPT_4O, "input": "Think.", "background": true });
    let made = answers(gateway, &[call(sdk, "responses.create", create)]).await.remove(0);
    assert_eq!(made["answer"]["status"], "queued", "{sdk:?} {made}");
    let id = made["answer"]["id"].as_str().unwrap();
    let calls = [by_id(sdk, "responses.retrieve", id), by_id(sdk, "responses.retrieve", id)];
    for read in answers(gateway, &calls).await {
        assert_eq!(read["answer"]["output"][0]["content"][0]["text"], TEXT, "{sdk:?} {read}");
        // So often it may be asked.
        assert_eq!(read["headers"]["openai-poll-after-ms"], "250", "{sdk:?} {read}");
    }
    let cancelled = answers(gateway, &[by_id(sdk, "responses.cancel", id)]).await.remove(0);
    assert_eq!(cancelled["answer"]["status"], "cancelled", "{sdk:?} {cancelled}");
    assert_eq!(provider.take().len(), 4);
    // It is charged by the first answer that says that it is done.
    let lines = [(0, 0), (PROMPT, UNCAPPED), (0, 0), (0, 0)];
    let lines = lines.map(|(prompt, completion)| line(OPEN, "served", prompt, completion));
    check_log(gateway, before, &lines).await;
}

async fn check_shapes(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let responses = json!({ "model": GPT_4O, "input": "Which city?", "text_format": "Place" });
    let messages = json!([{ "role": "user", "content": "Which city?" }]);
    let chat = json!({ "model": GPT_4O, "messages": messages, "response_format": "Place" });
    let calls = [
        call(sdk, "responses.parse", responses.clone()),
        call(sdk, "responses.stream", responses),
        call(sdk, "chat.completions.parse", chat.clone()),
        call(sdk, "chat.completions.stream", chat),
    ];
    for (at, found) in answers(gateway, &calls).await.iter().enumerate() {
        let answer = &found["answer"];
        let parsed = if at < 2 {
            &answer["output"][0]["content"][0]["parsed"]
        } else {
            &answer["choices"][0]["message"]["parsed"]
        };
        assert_eq!(parsed, &json!({ "city": "Oslo" }), "{sdk:?} {found}");
    }
    for (at, asked) in provider.take().iter().enumerate() {
        let body = asked.json();
        let format = if at < 2 { &body["text"]["format"] } else { &body["response_format"] };
        assert_eq!(format["type"], "json_schema", "{body}");
    }
    check_log(gateway, before, &vec![line(OPEN, "served", PROMPT, 256); 4]).await;
}

async fn check_forms(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let sound = json!({ "model": "gpt-4o-transcribe", "file": ["a.wav", "sound"] });
    let words = json!({ "timestamp_granularities": ["word", "segment"], "response_format": "verbose_json" });
    let images = json!({
        "model": "gpt-image-1", "prompt": "Both.", "image": [["a.png", "one"], ["b.png", "two"]],
        "mask": ["m.png", "mask"],
    });
    let calls = [
        call(sdk, "audio.transcriptions.create", sound.clone()),
        call(sdk, "audio.transcriptions.create", with(sound.clone(), words)),
        call(sdk, "audio.translations.create", sound),
        call(sdk, "images.edit", images),
        call(sdk, "files.create", json!({ "file": ["a.jsonl", "{}\n"], "purpose": "batch" })),
        call(sdk, "files.list", json!({})),
    ];
    let found = answers(gateway, &calls).await;
    for transcription in &found[..3] {
        assert_eq!(transcription["answer"]["text"], TEXT, "{sdk:?} {transcription}");
    }
    assert_eq!(found[3]["answer"]["data"].as_array().unwrap().len(), 1, "{sdk:?} {}", found[3]);
    assert_eq!(found[4]["answer"]["id"], FILE, "{sdk:?} {}", found[4]);
    assert_eq!(found[5]["answer"]["data"][0]["id"], FILE, "{sdk:?} {}", found[5]);
    let asked = provider.take();
    assert_eq!(asked.len(), calls.len());
    let sent = |at: usize, part: &str| asked[at].text().matches(part).count();
    assert_eq!(sent(1, "name=\"timestamp_granularities[]\""), 2, "{}", asked[1].text());
    assert_eq!((sent(3, "name=\"image[]\""), sent(3, "name=\"mask\"")), (2, 1), "{}", asked[3].text());
    let mut lines: Vec<_> =
        [4, 4, 4, 40].iter().map(|completion| line(OPEN, "served", PROMPT, *completion)).collect();
    lines.extend(vec![json!({ "client": OPEN, "outcome": "served", "prompt_tokens": "0" }); 2]);
    check_log(gateway, before, &lines).await;
}

/// What Codex sends, whole and as a stream: nothing is kept, and what the model has thought goes along with the next turn.
async fn check_codex(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let text = |role: &str, text: &str| json!({ "type": "message", "role": role, "content": [{ "type": "input_text", "text": text }] });
    let shell = json!({ "type": "object", "properties": { "command": { "type": "array", "items": { "type": "string" } } } });
    let grammar = json!({ "type": "grammar", "syntax": "lark", "definition": "start: \"x\"" });
    let tools = json!([
        { "type": "function", "name": "shell", "description": "Runs.", "strict": false, "parameters": shell },
        { "type": "local_shell" },
        { "type": "web_search" },
        { "type": "custom", "name": "apply_patch", "description": "Patches.", "format": grammar },
    ]);
    let turn = json!({
        "model": GPT_4O, "instructions": "You are Codex.", "tools": tools, "tool_choice": "auto",
        "parallel_tool_calls": false, "reasoning": { "effort": "medium", "summary": "auto" }, "store": false,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199-thread", "text": { "verbosity": "low" },
        "input": [text("developer", "Sandboxed."), text("user", "List.")],
    });
    let headers = json!({
        "originator": "codex_cli_rs", "session_id": "0199", "conversation_id": "0199", "version": "0.60.0",
        "x-codex-turn-metadata": "{}", "chatgpt-account-id": "an-account",
    });
    let turn = with(turn, json!({ "extra_headers": headers }));
    let first = answers(gateway, &[call(sdk, "responses.create", turn.clone())]).await.remove(0);
    let output = first["answer"]["output"].as_array().unwrap().clone();
    assert_eq!(output[0]["encrypted_content"], SECRET, "{sdk:?} {first}");
    let mut input = turn["input"].as_array().unwrap().clone();
    input.extend(output);
    input.push(json!({ "type": "function_call_output", "call_id": "call_1", "output": "a b c" }));
    let next = with(turn.clone(), json!({ "input": input, "stream": true }));
    let compact = json!({ "model": GPT_4O, "input": input, "instructions": "You are Codex." });
    let calls = [call(sdk, "responses.create", next.clone()), call(sdk, "responses.compact", compact)];
    let found = answers(gateway, &calls).await;
    let last = found[0]["answer"].as_array().unwrap().last().unwrap();
    assert_eq!(last["response"]["output"][1]["content"][0]["text"], TEXT, "{sdk:?} {last}");
    assert_eq!(found[1]["answer"]["output"][0]["type"], "compaction", "{sdk:?} {}", found[1]);

    let asked = provider.take();
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    let [make, compact] = ["/openai/v1/responses", "/openai/v1/responses/compact"];
    assert_eq!(paths, [make, make, compact]);
    for (asked, sent) in asked.iter().zip([turn, next]) {
        let mut expected = with(sent, json!({ "max_output_tokens": 256 }));
        expected.as_object_mut().unwrap().remove("extra_headers");
        assert_eq!(asked.json(), expected, "{sdk:?}");
        // They are of OpenAI's own product, and tell who the user is.
        assert_eq!((asked.header("chatgpt-account-id"), asked.header("session_id")), ("", ""));
    }
    let lines = [256, 256, UNCAPPED].map(|completion| line(OPEN, "served", PROMPT, completion));
    check_log(gateway, before, &lines).await;
}

async fn check_headers(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let chat = call(sdk, "chat.completions.create", json!({ "model": GPT_4O, "messages": messages }));
    let count = if sdk.language == Language::Node {
        "responses.inputTokens.count"
    } else {
        "responses.input_tokens.count"
    };
    let count = call(sdk, count, json!({ "model": GPT_4O, "input": "hello" }));
    let before = gateway.access_log().unwrap().len();
    let found = answers(gateway, &[chat, count]).await;
    assert_eq!(found[1]["answer"]["input_tokens"], PROMPT, "{sdk:?} {}", found[1]);
    assert_eq!(provider.take().len(), 2);
    let log = gateway.wait_for_log(before + 2).await.unwrap().split_off(before);
    let headers = &found[0]["headers"];
    let expected = json!({
        "x-request-id": log[0]["request_id"], "x-tollgate-provider-request-id": REQUEST_ID,
        "x-ratelimit-limit-tokens": "1000000", "x-ratelimit-limit-requests": "10000",
    });
    check_record(headers, &expected);
    for name in ["remaining-tokens", "reset-tokens", "remaining-requests", "reset-requests"] {
        assert!(headers[format!("x-ratelimit-{name}")].is_string(), "{sdk:?} {name} {headers}");
    }
    check_record(&log[0], &line(OPEN, "served", PROMPT, 256));
    check_record(&log[1], &line(OPEN, "served", 0, 0));
}

async fn check_refusals(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let plain = json!({
        "model": GPT_4O, "messages": [{ "role": "user", "content": "a" }],
        "extra_headers": { "content-type": "text/plain" },
    });
    let stream = json!({ "model": GPT_4O, "input": "a" });
    let calls = [
        call(sdk, "chat.completions.create", plain),
        Call { key: "nobody".to_owned(), ..call(sdk, "responses.stream", stream) },
    ];
    let found = outcomes(gateway, &calls).await;
    let refused = [(OPEN, 415, "unsupported_media_type"), ("", 401, "invalid_api_key")];
    for (found, (_, status, code)) in found.iter().zip(refused) {
        check_record(found, &json!({ "status": status, "code": code, "retries": 0 }));
    }
    assert_eq!(provider.take().len(), 0);
    check_log(gateway, before, &refused.map(|(client, _, code)| line(client, code, 0, 0))).await;
}

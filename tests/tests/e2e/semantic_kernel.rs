//! Do users of Semantic Kernel get what they would get from Azure?
//!
//! Its classes for Azure take https only: Envoy has a certificate that the test makes.

use rcgen::SanType;
use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::tokens;

use crate::drivers::{Call, Language, Sdk, outcomes_at};
use crate::langchain::wants_the_temperature;
use crate::requests::{BATCH, EMBEDDING, GPT_4O, WEB_SHOP, check_record, nobody_is_limited, with};
use crate::terminator::Authority;
use crate::tls_listener::{listen_with_tls, tls_port};

const SDK: Sdk = Sdk { language: Language::SemanticKernel, class: "AzureOpenAI" };
const TEXT: &str = "tell me something";

#[tokio::test]
async fn semantic_kernel_gets_answers_streams_functions_and_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authorities = write("authorities.pem", authority.pem());
    let localhost = SanType::DnsName("localhost".try_into().unwrap());
    let server = write("server.pem", authority.pem_for(localhost));
    let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(listen_with_tls(server, None));
    let gateway = Gateway::start(setup).await.unwrap();
    let url = format!("https://localhost:{}", tls_port(&gateway).await);
    let call = |key: &str, method, more: Value| {
        let arguments = json!({ "model": GPT_4O, "text": TEXT, "max_tokens": 6, "authorities": authorities });
        let at = json!({ "url": url });
        Call::new(SDK, key, method, with(with(arguments, at), more))
    };
    gateway.mock("ptu").update(|settings| settings.faults.push_back(wants_the_temperature()));
    let calls = [
        call(WEB_SHOP, "call_function", json!({})),
        call(WEB_SHOP, "chat", json!({})),
        call(WEB_SHOP, "stream", json!({})),
        call(WEB_SHOP, "embed", json!({ "model": EMBEDDING, "texts": ["a", "b c"] })),
        call("nobody", "chat", json!({})),
        call(BATCH, "chat", json!({ "max_tokens": 4096 })),
        call(WEB_SHOP, "chat", json!({ "authorities": null })),
        call(WEB_SHOP, "chat", json!({ "url": gateway.url() })),
    ];
    let found = outcomes_at(&url, &calls).await;

    let called = gateway.mock("ptu").received().remove(1).json();
    let result = json!({ "role": "tool", "tool_call_id": "call_1", "content": "12 degrees in Oslo" });
    check_record(&called["messages"][2], &result);
    let said = tokens::echo(TEXT, 6);
    let prompts = [&called["messages"], &json!([{ "role": "user", "content": TEXT }])];
    let prompts = prompts.map(|messages| tokens::chat(messages.as_array().unwrap()));
    for (at, prompt) in [(0, prompts[0]), (1, prompts[1])] {
        let expected = json!({
            "class": "ChatMessageContent", "text": said.concat(), "usage": { "prompt": prompt, "completion": 6 },
            "finish_reason": "length", "model": "gpt-4o-ptu",
        });
        assert_eq!(found[at]["answer"], expected, "{}", found[at]);
    }
    let streamed = json!({
        "text": said.concat(), "texts": said, "usage": { "prompt": prompts[1], "completion": 6 },
    });
    assert_eq!(found[2]["answer"], streamed, "{}", found[2]);
    let vectors = found[3]["answer"].as_array().unwrap();
    assert_eq!((vectors.len(), vectors[0].as_array().unwrap().len()), (2, 8));

    let refused = |cause: &str, status: u16, code: &str, param: Value| json!({ "exception": "ServiceResponseException", "cause": cause, "status": status, "code": code, "param": param });
    check_record(&found[4], &refused("AuthenticationError", 401, "invalid_api_key", Value::Null));
    check_record(&found[5], &refused("BadRequestError", 400, "parameter_above_maximum", json!("max_tokens")));
    // Whom it has no reason to trust it sends nothing.
    check_record(&found[6], &json!({ "cause": "APIConnectionError", "status": null }));
    assert!(found[6]["reasons"].as_str().unwrap().contains("CERTIFICATE_VERIFY_FAILED"), "{}", found[6]);
    check_record(&found[7], &json!({ "exception": "ServiceInitializationError" }));
    assert!(found[7]["message"].as_str().unwrap().contains("URL scheme should be 'https'"), "{}", found[7]);

    let log = gateway.wait_for_log(7).await.unwrap();
    let expected = [
        // The mock's function call says 15, more than the cap of 6: what is charged is the cap, and it is flagged.
        ("web-shop", "served", 70, 6),
        ("web-shop", "served", prompts[0], 6),
        ("web-shop", "served", prompts[1], 6),
        ("web-shop", "served", prompts[1], 6),
        ("web-shop", "served", 2, 0),
        ("", "invalid_api_key", 0, 0),
        ("batch", "parameter_above_maximum", 0, 0),
    ];
    assert_eq!(log.len(), expected.len());
    for (at, (line, (client, outcome, prompt, completion))) in log.iter().zip(expected).enumerate() {
        let record = json!({
            "outcome": outcome, "prompt_tokens": prompt.to_string(), "completion_tokens": completion.to_string(),
            "estimated": (at == 0).to_string(),
        });
        check_record(line, &record);
        assert_eq!(line["client"].as_str().unwrap_or_default(), client);
    }
}

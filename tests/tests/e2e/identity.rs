//! Who may ask, and for which model?

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};

use crate::requests::{
    BATCH, CHAT, EMBEDDING, EMBEDDINGS, GPT_4O, INSTRUCT, WEB_SHOP, chat, check_record, record_of, refusal,
    with,
};

async fn ask(
    gateway: &Gateway,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect();
    let mut request = gateway.http().request(method, format!("{}{path}", gateway.url())).headers(headers);
    if let Some(body) = body {
        request = request.json(body);
    }
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// No backend was asked anything.
#[track_caller]
fn check_unasked(gateway: &Gateway) {
    for backend in gateway.backends().keys() {
        assert_eq!(gateway.mock(backend).received(), [], "{backend}");
    }
}

#[tokio::test]
async fn a_caller_without_a_key_is_refused_and_no_backend_is_asked() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let missing = (
        "missing_api_key",
        "No API key was sent. Send it as `api-key: KEY` or as `Authorization: Bearer KEY`.",
    );
    let unknown = ("invalid_api_key", "The API key is not known here.");
    let ambiguous = ("ambiguous_api_key", "More than one API key was sent. Send one.");
    let cases: [(&[(&str, &str)], _); 8] = [
        (&[], missing),
        (&[("api-key", "")], missing),
        (&[("authorization", "Basic ZGVtby13ZWItc2hvcDo=")], missing),
        (&[("x-api-key", WEB_SHOP)], missing),
        (&[("api-key", "demo-web-shop2")], unknown),
        (&[("authorization", "Bearer DEMO-WEB-SHOP")], unknown),
        // The hash in the configuration is not a key.
        (&[("api-key", "d25609d3ba89bdec4185a20547540e43ceb6b59e433558321254efe37ae4ec98")], unknown),
        (&[("api-key", WEB_SHOP), ("authorization", "Bearer demo-batch")], ambiguous),
    ];
    for (headers, (code, message)) in cases {
        let answer = ask(&gateway, Method::POST, CHAT, headers, Some(&chat("hello"))).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.json(), refusal(message, "authentication_error", None, code), "{headers:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-should-retry"), "false");
        let nobody =
            json!({ "status": 401, "client": null, "model": null, "backend": null, "outcome": code });
        check_record(&record_of(&gateway, &answer).await, &nobody);
    }
    check_unasked(&gateway);
}

#[tokio::test]
async fn a_key_is_taken_from_either_header_and_both_url_styles() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let azure = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let cases = [
        (CHAT, ("authorization", "Bearer demo-web-shop"), "web-shop"),
        (CHAT, ("api-key", WEB_SHOP), "web-shop"),
        ("/openai/v1/chat/completions", ("authorization", "bearer demo-web-shop"), "web-shop"),
        (azure, ("api-key", WEB_SHOP), "web-shop"),
        (azure, ("authorization", "Bearer demo-batch"), "batch"),
    ];
    for (path, header, client) in cases {
        let answer = ask(&gateway, Method::POST, path, &[header], Some(&chat("hello"))).await;
        assert_eq!(answer.status, 200, "{path} {header:?}: {}", answer.text());
        let served = json!({ "client": client, "model": GPT_4O, "backend": "ptu", "outcome": "served" });
        check_record(&record_of(&gateway, &answer).await, &served);
    }
}

#[tokio::test]
async fn a_model_of_others_looks_like_one_that_does_not_exist() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    for model in [INSTRUCT, "gpt-5", "GPT-4o", ""] {
        let body = with(chat("hello"), json!({ "model": model }));
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(answer.status, 403, "{model}");
        let message = format!("The model `{model}` does not exist, or this client may not use it.");
        assert_eq!(answer.json(), refusal(&message, "permission_error", Some("model"), "model_not_allowed"));
        // A client's words are not a label.
        let record = json!({ "client": "web-shop", "model": null, "outcome": "model_not_allowed" });
        check_record(&record_of(&gateway, &answer).await, &record);
    }
    check_unasked(&gateway);
}

#[tokio::test]
async fn a_model_has_aliases_and_the_path_counts_before_the_body() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let alias = with(chat("hello"), json!({ "model": "gpt-4o-2024-08-06" }));
    let deployment = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let other = with(chat("hello"), json!({ "model": "gpt-5" }));
    for (path, body) in [(CHAT, &alias), (deployment, &other)] {
        let answer = gateway.post(path, WEB_SHOP, body).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        check_record(&record_of(&gateway, &answer).await, &json!({ "model": GPT_4O }));
    }
    let embedding =
        gateway.post(EMBEDDINGS, WEB_SHOP, &json!({ "model": EMBEDDING, "input": "hello" })).await;
    assert_eq!(embedding.unwrap().status, 200);
    assert_eq!(gateway.mock("payg-a").received()[0].json()["model"], EMBEDDING);
}

#[tokio::test]
async fn a_client_is_told_of_its_models_and_no_backend_is_asked() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let all = [GPT_4O, INSTRUCT, EMBEDDING];
    for (key, names) in [(WEB_SHOP, &[GPT_4O, EMBEDDING][..]), (BATCH, &all)] {
        for path in ["/v1/models", "/openai/v1/models", "/openai/models?api-version=2024-10-21"] {
            let answer = ask(&gateway, Method::GET, path, &[("api-key", key)], None).await;
            assert_eq!(answer.status, 200);
            let data: Vec<_> = names
                .iter()
                .map(|name| json!({ "id": name, "object": "model", "created": 0, "owned_by": "tollgate" }))
                .collect();
            assert_eq!(answer.json(), json!({ "object": "list", "data": data }), "{key} {path}");
            check_record(&record_of(&gateway, &answer).await, &json!({ "outcome": "answered" }));
        }
    }
    check_unasked(&gateway);
}

#[tokio::test]
async fn what_is_no_endpoint_is_not_passed_on() {
    let none = |config: &mut Value| config["other_endpoints"] = json!([]);
    let gateway = Gateway::start(Setup::new().workers(1).edit(none)).await.unwrap();
    let body = chat("hello");
    let cases = [
        (Method::GET, CHAT),
        (Method::POST, "/v1/models"),
        (Method::POST, "/v1/chat/completions/x/y"),
        (Method::POST, "/v1/files"),
        (Method::POST, "/"),
        (Method::POST, "/_mock/settings"),
        (Method::DELETE, "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
    ];
    for (method, path) in cases {
        let answer = ask(&gateway, method.clone(), path, &[("api-key", WEB_SHOP)], Some(&body)).await;
        assert_eq!(answer.status, 404, "{method} {path}");
        let message = "This path and method are not served here.";
        assert_eq!(answer.json(), refusal(message, "invalid_request_error", None, "unknown_url"));
    }
    check_unasked(&gateway);
}

//! Is a request held to its client's policy, and nothing else about it changed?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::tokens;

use crate::requests::{
    BATCH, CHAT, COMPLETIONS, GPT_4O, INSTRUCT, RESPONSES, WEB_SHOP, chat, details, nobody_is_limited,
    record_of, refusal, with,
};

async fn post_bytes(gateway: &Gateway, path: &str, key: &str, body: &str) -> Answer {
    let request = gateway.http().post(format!("{}{path}", gateway.url())).bearer_auth(key);
    let request = request.header("content-type", "application/json").body(body.to_owned());
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_value_over_the_bound_is_lowered_and_a_default_filled_in() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let cases = [
        // What web-shop asks beside the message, and what the backend gets.
        (json!({}), json!({ "max_tokens": 256 })),
        (json!({ "max_tokens": 9000 }), json!({ "max_tokens": 512 })),
        (json!({ "max_tokens": 512 }), json!({ "max_tokens": 512 })),
        (json!({ "max_tokens": null }), json!({ "max_tokens": 256 })),
        (json!({ "max_completion_tokens": 513 }), json!({ "max_completion_tokens": 512 })),
        (json!({ "max_tokens": 5, "n": 100 }), json!({ "max_tokens": 5, "n": 2 })),
    ];
    for (at, (asked, expected)) in cases.into_iter().enumerate() {
        let answer = gateway.post(CHAT, WEB_SHOP, &with(chat("one two"), asked.clone())).await.unwrap();
        assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
        assert_eq!(gateway.mock("ptu").received()[at].json(), with(chat("one two"), expected.clone()));
        // It is the lowered request that is answered.
        let choices = expected["n"].as_u64().unwrap_or(1) as usize;
        let tokens = expected["max_tokens"].as_u64().unwrap_or(24).min(24);
        let said: Vec<_> = answer.json()["choices"].as_array().unwrap().clone();
        assert_eq!(said.len(), choices);
        for choice in said {
            assert_eq!(choice["message"]["content"], tokens::echo("one two", tokens).concat());
        }
    }
}

#[tokio::test]
async fn what_is_over_the_bound_is_refused_where_the_policy_says_so() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let complete = json!({ "model": INSTRUCT, "prompt": "hello" });
    let cases = [
        (CHAT, chat("hello"), "max_tokens", 129, 128),
        (CHAT, chat("hello"), "max_completion_tokens", u32::MAX, 128),
        (CHAT, chat("hello"), "n", 2, 1),
        (COMPLETIONS, complete.clone(), "best_of", 20, 1),
        (COMPLETIONS, complete.clone(), "max_tokens", 4096, 128),
        (COMPLETIONS, complete.clone(), "n", 3, 1),
    ];
    for (path, body, field, asked, max) in cases {
        let answer = gateway.post(path, BATCH, &with(body, json!({ field: asked }))).await.unwrap();
        assert_eq!(answer.status, 400, "{field}");
        let message = format!("`{field}` is {asked}, but this client's policy allows at most {max}.");
        let expected = refusal(&message, "invalid_request_error", Some(field), "parameter_above_maximum");
        assert_eq!(answer.json(), expected);
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    // The cap is one rule, whichever of its names a client uses.
    for (rule, times) in [("max_tokens", 3.0), ("n", 2.0), ("best_of", 1.0)] {
        let labels = [("client", "batch"), ("rule", rule)];
        gateway.wait_for_metric("tollgate_policy_refusals", &labels, times).await.unwrap();
    }
    assert_eq!(gateway.mock("ptu").received(), []);
    assert_eq!(gateway.mock("payg-a").received(), []);

    // At the bound it passes.
    let body = with(complete, json!({ "max_tokens": 128, "best_of": 1, "n": 1 }));
    assert_eq!(gateway.post(COMPLETIONS, BATCH, &body).await.unwrap().status, 200);
    assert_eq!(gateway.mock("payg-a").received()[0].json(), body);
}

#[tokio::test]
async fn what_was_changed_is_told_counted_and_written_down() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let body = with(chat("one two"), json!({ "n": 9, "max_tokens": 9000 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-clamped"), "n=2, max_tokens=512");
    let record = record_of(&gateway, &answer).await;
    assert_eq!(details(&record)["clamped"], json!(["n=2", "max_tokens=512"]));
    for rule in ["n", "max_tokens"] {
        let labels = [("client", "web-shop"), ("rule", rule)];
        gateway.wait_for_metric("tollgate_policy_clamps", &labels, 1.0).await.unwrap();
    }
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("one two")).await.unwrap();
    assert_eq!(answer.header("x-tollgate-clamped"), "");
}

#[tokio::test]
async fn an_audit_counts_and_logs_and_lets_everything_through() {
    let audit = |config: &mut Value| {
        config["policies"][0]["mode"] = json!("audit");
        config["policies"][0]["seed"] = json!("forbid");
    };
    let setup = Setup::new().workers(1).edit(audit).edit(nobody_is_limited);
    let gateway = Gateway::start(setup).await.unwrap();
    let asked = with(chat("one two"), json!({ "n": 3, "seed": 7 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &asked).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-clamped"), "");
    assert_eq!(answer.json()["choices"].as_array().unwrap().len(), 3);
    assert_eq!(gateway.mock("ptu").received()[0].json(), asked);
    let record = details(&record_of(&gateway, &answer).await);
    let found = [&record["would_refuse"], &record["would_clamp"], &record["would_default"]];
    assert_eq!(found, [&json!(["seed"]), &json!(["n"]), &json!(["max_tokens"])]);
    for (rule, effect) in [("seed", "reject"), ("n", "clamp"), ("max_tokens", "default")] {
        let labels = [("client", "web-shop"), ("rule", rule), ("effect", effect)];
        gateway.wait_for_metric("tollgate_policy_audits", &labels, 1.0).await.unwrap();
    }
    // What cannot be read without doubt is refused all the same.
    let twice = r#"{"model":"gpt-4o","seed":1,"seed":2}"#;
    assert_eq!(post_bytes(&gateway, CHAT, WEB_SHOP, twice).await.status, 400);
}

#[tokio::test]
async fn a_second_policy_only_counts_beside_the_first() {
    let audited = |config: &mut Value| {
        let stricter = json!({ "name": "stricter", "max_tokens": { "max": 100, "over": "reject" } });
        config["policies"].as_array_mut().unwrap().push(stricter);
        config["clients"][0]["audit_policy"] = json!(["stricter"]);
    };
    let gateway = Gateway::start(Setup::new().workers(1).edit(audited)).await.unwrap();
    let asked = with(chat("one two"), json!({ "max_tokens": 9000 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &asked).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    // What is done is what the first says.
    assert_eq!(answer.header("x-tollgate-clamped"), "max_tokens=512");
    let record = details(&record_of(&gateway, &answer).await);
    let found = [&record["clamped"], &record["would_refuse"]];
    assert_eq!(found, [&json!(["max_tokens=512"]), &json!(["stricter/max_tokens"])]);
    let labels = [("client", "web-shop"), ("rule", "stricter/max_tokens"), ("effect", "reject")];
    gateway.wait_for_metric("tollgate_policy_audits", &labels, 1.0).await.unwrap();
}

#[tokio::test]
async fn a_cap_goes_upstream_under_the_name_that_the_model_takes() {
    let reasoning = |config: &mut Value| config["models"][0]["family"] = json!("gpt-5");
    let gateway = Gateway::start(Setup::new().workers(1).edit(reasoning)).await.unwrap();
    let cases = [
        (json!({ "max_tokens": 5 }), json!({ "max_completion_tokens": 5 }), ""),
        (json!({ "max_tokens": 9000 }), json!({ "max_completion_tokens": 512 }), "max_tokens=512"),
        (json!({}), json!({ "max_completion_tokens": 256 }), ""),
    ];
    for (at, (asked, expected, told)) in cases.into_iter().enumerate() {
        let answer = gateway.post(CHAT, WEB_SHOP, &with(chat("one two"), asked.clone())).await.unwrap();
        assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
        assert_eq!(answer.header("x-tollgate-clamped"), told);
        assert_eq!(gateway.mock("ptu").received()[at].json(), with(chat("one two"), expected));
    }
}

#[tokio::test]
async fn a_rule_reaches_into_objects_and_a_models_policy_wins() {
    let thrifty = |config: &mut Value| {
        let thrifty = json!({
            "name": "thrifty",
            "reasoning_effort": { "allowed": ["low"], "over": "clamp" },
            "response_format": ["text"],
            "store": "forbid",
        });
        config["policies"].as_array_mut().unwrap().push(thrifty);
        config["clients"][0]["policy_by_model"] = json!({ GPT_4O: "thrifty" });
        config["backends"][0]["api_version"] = json!("2025-03-01-preview");
    };
    let gateway = Gateway::start(Setup::new().workers(1).edit(thrifty)).await.unwrap();
    let respond = json!({ "model": GPT_4O, "input": "one two" });
    let asked = with(respond.clone(), json!({ "reasoning": { "summary": "auto", "effort": "high" } }));
    let answer = gateway.post(RESPONSES, WEB_SHOP, &asked).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-clamped"), "store=false, reasoning.effort=low");
    let received = gateway.mock("ptu").received()[0].json();
    assert_eq!(received["reasoning"], json!({ "summary": "auto", "effort": "low" }));
    assert_eq!(received["store"], json!(false));

    let asked = with(respond, json!({ "text": { "format": { "type": "json_object" } } }));
    let answer = gateway.post(RESPONSES, WEB_SHOP, &asked).await.unwrap();
    assert_eq!(answer.status, 400);
    let message = "`text.format.type` is `json_object`, but this client's policy allows only `text`.";
    let kind = "invalid_request_error";
    let expected = refusal(message, kind, Some("text.format.type"), "parameter_value_not_allowed");
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn a_body_that_two_readers_may_read_differently_is_refused() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let invalid = "invalid_request_error";
    let twice = "`max_tokens` stands more than once in the request.";
    let disguised = "`max_tokens` must be written plainly: lower case, without escapes.";
    let digits = "`max_tokens` must be a whole number, written with digits only.";
    let cases = [
        (
            r#"{"model":"gpt-4o","max_tokens":1,"max_tokens":9999}"#,
            twice,
            Some("max_tokens"),
            "ambiguous_parameter",
        ),
        (
            r#"{"model":"gpt-4o","max\u005ftokens":9999}"#,
            disguised,
            Some("max_tokens"),
            "ambiguous_parameter",
        ),
        (r#"{"model":"gpt-4o","Max_Tokens":9999}"#, disguised, Some("max_tokens"), "ambiguous_parameter"),
        (r#"{"model":"gpt-4o","max_tokens":"9999"}"#, digits, Some("max_tokens"), "invalid_type"),
        (r#"{"model":"gpt-4o","max_tokens":1e3}"#, digits, Some("max_tokens"), "invalid_type"),
        (r#"["model"]"#, "The request body must be a JSON object.", None, "invalid_json"),
        (
            r#"{"model":"gpt-4o"} {"max_tokens":9999}"#,
            "The request body is not valid JSON: trailing characters at line 1 column 20.",
            None,
            "invalid_json",
        ),
        (r#"{"messages":[]}"#, "The request has no `model`.", Some("model"), "missing_required_parameter"),
    ];
    for (body, message, param, code) in cases {
        let answer = post_bytes(&gateway, CHAT, WEB_SHOP, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json(), refusal(message, invalid, param, code), "{body}");
    }
    assert_eq!(gateway.mock("ptu").received(), []);
}

#[tokio::test]
async fn a_model_must_be_the_clients_wherever_a_request_names_it() {
    let two = |config: &mut Value| {
        config["clients"][1]["models"] = json!([GPT_4O]);
        let secret =
            json!({ "name": "o1-pro", "backends": [{ "backend": "payg-a" }, { "backend": "payg-b" }] });
        config["models"].as_array_mut().unwrap().push(secret);
        config["backends"][0]["api_version"] = json!("2025-03-01-preview");
    };
    let gateway = Gateway::start(Setup::new().workers(1).edit(two).edit(nobody_is_limited)).await.unwrap();
    let tool = |name: &str| json!([{ "type": "image_generation", "model": name }]);
    let asks = |name: &str| json!({ "model": GPT_4O, "input": "x", "tools": tool(name) });
    let form = |path: &'static str, name: &str| {
        let part = |field: &str, value: &str| {
            format!("--x\r\ncontent-disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n")
        };
        let body = format!("{}{}--x--\r\n", part("prompt", "a crab"), part("model", name));
        let request = gateway.http().post(format!("{}{path}", gateway.url())).bearer_auth(BATCH);
        let request = request.header("content-type", "multipart/form-data; boundary=x").body(body).send();
        async { Answer::read(request.await.unwrap()).await.unwrap() }
    };
    let named = [
        gateway.post(RESPONSES, BATCH, &asks("o1-pro")).await.unwrap(),
        gateway
            .post(CHAT, BATCH, &with(chat("x"), json!({ "moderation": { "model": "o1-pro" } })))
            .await
            .unwrap(),
        gateway
            .post("/v1/evals", BATCH, &json!({ "testing_criteria": [{ "model": "o1-pro" }] }))
            .await
            .unwrap(),
        form("/v1/videos", "o1-pro").await,
    ];
    for answer in named {
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (403, &json!("model_not_allowed")));
    }
    let several = with(chat("x"), json!({ "models": [GPT_4O, "o1-pro"] }));
    let answer = gateway.post(CHAT, BATCH, &several).await.unwrap();
    let message = "`models` is not allowed by this client's policy.";
    let refused = refusal(message, "invalid_request_error", Some("models"), "parameter_not_allowed");
    assert_eq!((answer.status, answer.json()), (400, refused));
    for mock in ["ptu", "payg-a", "payg-b"] {
        assert_eq!(gateway.mock(mock).received(), [], "{mock}");
    }
    // Its own are called as the backend does, whose length is right.
    let answer = gateway.post(RESPONSES, BATCH, &asks("gpt-4o-2024-08-06")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = gateway.mock("ptu").received()[0].json();
    assert_eq!((&received["model"], &received["tools"]), (&json!("gpt-4o-ptu"), &tool("gpt-4o-ptu")));
    form("/v1/videos", "gpt-4o-2024-08-06").await;
    let received = &gateway.mock("payg-b").received()[0];
    assert!(String::from_utf8_lossy(&received.body).contains("\r\n\r\ngpt-4o\r\n--x--\r\n"));
    assert_eq!(received.header("content-length"), Some(received.body.len().to_string().as_str()));
}

#[tokio::test]
async fn every_byte_that_is_not_governed_reaches_the_backend() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited)).await.unwrap();
    // Order, spaces, escapes and numbers that a reader and writer of JSON would change.
    let rest = r#""temperature": 1.0e0 ,"seed":12345678901234567890123,
 "messages" :[ {"role":"user" , "content":"\u00e9\/ \ud83d\ude00 \"max_tokens\": 1"} ],"user":"","z":{"max_tokens":7}"#;
    let cases = [
        (format!("{{\"max_tokens\" : 100000,{rest}}}"), format!("{{\"max_tokens\" : 512,{rest}}}")),
        (format!("\n{{ {rest}\r\n}}\n"), format!("\n{{\"max_tokens\":256, {rest}\r\n}}\n")),
        (format!("{{{rest}, \"max_tokens\":9 }}"), format!("{{{rest}, \"max_tokens\":9 }}")),
    ];
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    for (at, (asked, expected)) in cases.iter().enumerate() {
        // The path names the deployment, but payg-a, which may have to serve this, reads it in the body.
        let answer = post_bytes(&gateway, path, WEB_SHOP, asked).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = &gateway.mock("ptu").received()[at];
        let model_added = expected.replacen('{', "{\"model\":\"gpt-4o\",", 1);
        assert_eq!(String::from_utf8_lossy(&received.body), model_added);
        assert_eq!(received.header("content-length"), Some(received.body.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn the_answer_reaches_the_client_byte_for_byte() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("né \"quoted\" \u{1f600}")).await.unwrap();
    let received = &gateway.mock("ptu").received()[0];
    assert_eq!(answer.body, received.response);
    assert_eq!(answer.json()["model"], "gpt-4o-ptu");
    assert_eq!(received.json()["model"], GPT_4O);
    let usage =
        json!({ "prompt_tokens": tokens::chat(&messages(&received.json())), "completion_tokens": 24 });
    for (name, tokens) in usage.as_object().unwrap() {
        assert_eq!(&answer.json()["usage"][name], tokens);
    }
}

fn messages(body: &Value) -> Vec<Value> {
    body["messages"].as_array().unwrap().clone()
}

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[track_caller]
fn check(method: &str, path: &str, expected: Option<(Operation, Option<&str>)>) {
    let asked = Asked::read(method.as_bytes(), path.as_bytes());
    let found = asked.as_ref().and_then(|asked| asked.endpoint(&["extra".to_owned()]));
    assert_eq!(found.map(|endpoint| (endpoint.operation, endpoint.deployment)), expected, "{method} {path}");
}

#[test]
fn every_url_style_is_recognised() {
    use Operation::*;
    check("POST", "/v1/chat/completions", Some((ChatCompletions, None)));
    check("POST", "/v1/completions", Some((Completions, None)));
    check("POST", "/v1/embeddings?x=1", Some((Embeddings, None)));
    check("POST", "/v1/responses", Some((Responses, None)));
    check("GET", "/v1/models", Some((Models, None)));
    check("GET", "/v1/models/gpt-4o", Some((Models, Some("gpt-4o"))));
    check("GET", "/openai/models/ft:a/b?api-version=2024-10-21", Some((Models, Some("ft:a/b"))));
    check("HEAD", "/v1/models", Some((Models, None)));
    check("HEAD", "/v1/models/gpt-4o", Some((Models, Some("gpt-4o"))));
    check("POST", "/openai/v1/chat/completions", Some((ChatCompletions, None)));
    check("POST", "/openai/responses?api-version=2025-03-01-preview", Some((Responses, None)));
    check("POST", "/v1/responses?beta=true", Some((Responses, None)));
    check("POST", "/openai/deployments/gpt-4o/responses?api-version=1", Some((Responses, Some("gpt-4o"))));
    for prefix in ["/v1", "/openai/v1", "/openai"] {
        check("POST", &format!("{prefix}/responses/compact"), Some((Compact, None)));
        check("POST", &format!("{prefix}/responses/input_tokens"), Some((InputTokens, None)));
    }
    check("POST", "/openai/deployments/d/responses/compact", Some((Compact, Some("d"))));
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    check("POST", path, Some((ChatCompletions, Some("gpt-4o"))));
    check("GET", "/tollgate/v1/usage", Some((Limits, None)));
    check("GET", "/tollgate/health", Some((Health, None)));
    check("HEAD", "/tollgate/health?x=1&model=ft%3Aa&model=b", Some((Health, Some("ft%3Aa"))));
    check("GET", "/tollgate/config?model=a", Some((Config, None)));
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        check(method, "/tollgate/v1/order?model=a", Some((Order, Some("a"))));
    }
    for prefix in ["/v1", "/anthropic/v1"] {
        check("POST", &format!("{prefix}/messages"), Some((Messages, None)));
        check("POST", &format!("{prefix}/messages?beta=true"), Some((Messages, None)));
        check("POST", &format!("{prefix}/messages/count_tokens"), Some((CountTokens, None)));
    }
    check("POST", "/v1/images/generations", Some((ImageGenerations, None)));
    check("POST", "/openai/deployments/w/audio/transcriptions", Some((Transcriptions, Some("w"))));
}

#[test]
fn a_slash_too_many_says_nothing() {
    use Operation::*;
    for path in [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1///chat//completions//",
    ] {
        check("POST", path, Some((ChatCompletions, None)));
    }
    check(
        "POST",
        "/openai//deployments/gpt-4o//chat/completions/?x=1",
        Some((ChatCompletions, Some("gpt-4o"))),
    );
    check("GET", "/v1/models/", Some((Models, None)));
    check("GET", "/tollgate/health/", Some((Health, None)));
    check("GET", "/v1/files//file-1/", Some((Other, None)));
    // What goes on is one way to write it, and the query is no path.
    let asked = Asked::read(b"GET", b"//v1//files/file-1/?after=a//b/").unwrap();
    assert_eq!(asked.endpoint(&[]).unwrap().rest, Some(("files/file-1", "after=a//b/")));
    for path in ["/", "//", "", "/openai/deployments//chat/completions"] {
        check("POST", path, None);
    }
}

#[test]
fn anything_else_is_not() {
    check("POST", "/v1/models", None);
    check("HEAD", "/v1/chat/completions", None);
    check("OPTIONS", "/v1/chat/completions", None);
    check("CONNECT", "/v1/responses", None);
    check("POST", "/tollgate/v1/usage", None);
    check("GET", "/tollgate/v1/models", None);
    check("POST", "/tollgate/health", None);
    check("PUT", "/tollgate/v1/order", None);
    check("GET", "/tollgate/", None);
    check("POST", "/v2/chat/completions", None);
    check("POST", "/V1/chat/completions", None);
    check("POST", "/openai/deployments/gpt-4o", None);
    check("GET", "/openai/deployments/gpt-4o/models", None);
    check("GET", "/openai/deployments/gpt-4o/extensions", None);
    check("GET", "/openai/deployments/gpt-4o/files", None);
    check("GET", "/v1/messages", None);
    check("POST", "/v1/messages/batches", None);
    check("POST", "/openai/v1/messages", None);
    check("POST", "/openai/deployments/d/messages", None);
    check("POST", "/anthropic/v1/chat/completions", None);
    check("GET", "/anthropic/v1/files", None);
    assert!(Asked::read(b"POST", b"/v1/chat/\xff").is_none());
}

#[test]
fn a_path_may_be_asked_by_these_methods() {
    let methods = |path: &str| -> Vec<_> {
        let asked = Asked::read(b"OPTIONS", path.as_bytes()).unwrap();
        asked.by_any_method(&[]).map(|(method, _)| method).collect()
    };
    assert_eq!(methods("/v1/chat/completions"), ["GET", "POST"]);
    assert_eq!(methods("/v1/models"), ["GET", "HEAD"]);
    assert_eq!(methods("/v1/threads/thread_1"), ["GET", "POST", "DELETE"]);
    assert!(methods("/v1/Responses").is_empty());
    let realtime = |path: &str| Asked::read(b"GET", path.as_bytes()).unwrap().is_realtime();
    for path in
        ["/v1/realtime?model=m", "/openai/realtime?deployment=d", "/openai/v1/realtime", "/v1/realtime/calls"]
    {
        assert!(realtime(path), "{path}");
    }
    assert!(!realtime("/realtime") && !realtime("/v1/realtimes"));
}

#[test]
fn each_style_writes_its_own_path() {
    let azure = Style::Azure(ApiVersion::parse("2024-10-21").unwrap());
    let chat = Operation::ChatCompletions;
    assert_eq!(
        azure.path(azure.base(), chat, "d"),
        "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    );
    assert_eq!(
        azure.path(azure.base(), Operation::Responses, "d"),
        "/openai/responses?api-version=2024-10-21"
    );
    assert_eq!(
        azure.path(azure.base(), Operation::Compact, "d"),
        "/openai/responses/compact?api-version=2024-10-21"
    );
    assert_eq!(Style::AzureV1.path(Style::AzureV1.base(), chat, "d"), "/openai/v1/chat/completions");
    assert_eq!(Style::OpenAi.path(Style::OpenAi.base(), chat, "d"), "/v1/chat/completions");
    let query = "limit=2&api-version=2020-01-01";
    assert_eq!(
        azure.other_path(azure.base(), "files", query),
        "/openai/files?api-version=2024-10-21&limit=2"
    );
    assert_eq!(Style::AzureV1.other_path(Style::AzureV1.base(), "files", query), "/openai/v1/files?limit=2");
    assert_eq!(Style::OpenAi.other_path(Style::OpenAi.base(), "files/f", ""), "/v1/files/f");
    // Azure reads names of either case, and decodes them first.
    for version in ["api-version=1", "Api-Version=1", "api%2Dversion=1", "%61pi-version=1", "api-version"] {
        let query = format!("{version}&limit=2&x=api-version");
        let expected = "/openai/files?api-version=2024-10-21&limit=2&x=api-version";
        assert_eq!(azure.other_path(azure.base(), "files", &query), expected);
    }
}

#[test]
fn an_api_version_is_a_date() {
    for (text, is_preview) in [
        ("2024-10-21", Some(false)),
        ("2024-09-01-preview", Some(true)),
        ("latest", None),
        ("2024-1-21", None),
        ("2024-10-21&x=1", None),
        ("2024-10-21-beta", None),
    ] {
        let found = ApiVersion::parse(text).map(|version| version.is_preview());
        assert_eq!(found, is_preview, "{text}");
    }
}

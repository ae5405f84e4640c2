//! Which endpoints are `other`: what a backend keeps for its clients, and the jobs that work on it?
//!
//! A list of all that passes, so that a path which is not in it names no deployment, no operation under policy and nothing
//! that a later API brings. Not in it: what mints credentials (`realtime/client_secrets`, `chatkit/sessions`), what
//! belongs to an account (`organization/…`), and what lets a model work at once without being an operation here
//! (`images/variations`, `fine_tuning/alpha/graders/run`).
//!
//! Sources: the methods of OpenAI's API in <https://github.com/openai/openai-python/blob/main/api.md>; what only Azure has
//! (`files/import`, deleting a fine-tuning job, copying its checkpoints, `video/generations`) in
//! <https://github.com/Azure/azure-rest-api-specs/tree/main/specification/cognitiveservices/data-plane/AzureOpenAI> and
//! <https://learn.microsoft.com/azure/ai-services/openai/reference-preview>.

use super::Operation;

/// Methods, and the path after the style's prefix. `*` is any one segment.
const LISTED: [(&str, &str); 85] = [
    ("GET POST", "assistants"),
    ("GET POST DELETE", "assistants/*"),
    ("GET POST", "batches"),
    ("GET", "batches/*"),
    ("POST", "batches/*/cancel"),
    ("GET", "chat/completions"),
    ("GET POST DELETE", "chat/completions/*"),
    ("GET", "chat/completions/*/messages"),
    ("GET POST", "containers"),
    ("GET DELETE", "containers/*"),
    ("GET POST", "containers/*/files"),
    ("GET DELETE", "containers/*/files/*"),
    ("GET", "containers/*/files/*/content"),
    ("POST", "conversations"),
    ("GET POST DELETE", "conversations/*"),
    ("GET POST", "conversations/*/items"),
    ("GET DELETE", "conversations/*/items/*"),
    ("GET POST", "evals"),
    ("GET POST DELETE", "evals/*"),
    ("GET POST", "evals/*/runs"),
    ("GET POST DELETE", "evals/*/runs/*"),
    ("POST", "evals/*/runs/*/cancel"),
    ("GET", "evals/*/runs/*/output_items"),
    ("GET", "evals/*/runs/*/output_items/*"),
    ("GET POST", "files"),
    ("POST", "files/import"),
    ("GET DELETE", "files/*"),
    ("GET", "files/*/content"),
    ("GET POST", "fine_tuning/checkpoints/*/permissions"),
    ("DELETE", "fine_tuning/checkpoints/*/permissions/*"),
    ("GET POST", "fine_tuning/jobs"),
    ("GET DELETE", "fine_tuning/jobs/*"),
    ("POST", "fine_tuning/jobs/*/cancel"),
    ("GET", "fine_tuning/jobs/*/checkpoints"),
    ("GET POST", "fine_tuning/jobs/*/checkpoints/*/copy"),
    ("GET", "fine_tuning/jobs/*/events"),
    ("POST", "fine_tuning/jobs/*/pause"),
    ("POST", "fine_tuning/jobs/*/resume"),
    ("DELETE", "models/*"),
    ("POST", "moderations"),
    ("GET DELETE", "responses/*"),
    ("POST", "responses/*/cancel"),
    ("GET", "responses/*/input_items"),
    ("GET POST", "skills"),
    ("GET POST DELETE", "skills/*"),
    ("GET", "skills/*/content"),
    ("GET POST", "skills/*/versions"),
    ("GET DELETE", "skills/*/versions/*"),
    ("GET", "skills/*/versions/*/content"),
    ("POST", "threads"),
    ("POST", "threads/runs"),
    ("GET POST DELETE", "threads/*"),
    ("GET POST", "threads/*/messages"),
    ("GET POST DELETE", "threads/*/messages/*"),
    ("GET POST", "threads/*/runs"),
    ("GET POST", "threads/*/runs/*"),
    ("POST", "threads/*/runs/*/cancel"),
    ("GET", "threads/*/runs/*/steps"),
    ("GET", "threads/*/runs/*/steps/*"),
    ("POST", "threads/*/runs/*/submit_tool_outputs"),
    ("POST", "uploads"),
    ("POST", "uploads/*/cancel"),
    ("POST", "uploads/*/complete"),
    ("POST", "uploads/*/parts"),
    ("GET POST", "vector_stores"),
    ("GET POST DELETE", "vector_stores/*"),
    ("POST", "vector_stores/*/file_batches"),
    ("GET", "vector_stores/*/file_batches/*"),
    ("POST", "vector_stores/*/file_batches/*/cancel"),
    ("GET", "vector_stores/*/file_batches/*/files"),
    ("GET POST", "vector_stores/*/files"),
    ("GET POST DELETE", "vector_stores/*/files/*"),
    ("GET", "vector_stores/*/files/*/content"),
    ("POST", "vector_stores/*/search"),
    ("GET POST", "video/generations/jobs"),
    ("GET DELETE", "video/generations/jobs/*"),
    ("GET", "video/generations/*/content/*"),
    ("GET POST", "videos"),
    ("POST", "videos/characters"),
    ("GET", "videos/characters/*"),
    ("POST", "videos/edits"),
    ("POST", "videos/extensions"),
    ("GET DELETE", "videos/*"),
    ("GET", "videos/*/content"),
    ("POST", "videos/*/remix"),
];

/// Those whose forms pass unread: what is uploaded there may be large, and no field of theirs names a model.
const UPLOADS: [&str; 5] = ["containers/*/files", "files", "skills", "skills/*/versions", "uploads/*/parts"];

/// What an operator may not add: in these a deployment, an operation under policy or a socket may be named.
const NEVER: [&str; 5] = ["deployments", "engines", "openai", "realtime", "v1"];

/// Whether a path after the style's prefix is `other`. `added` are first segments that the operator vouches for.
pub(super) fn is_other(method: &str, path: &str, added: &[String]) -> bool {
    if !path.split('/').all(is_segment) {
        return false;
    }
    let first = path.split('/').next().unwrap_or_default();
    if added.iter().any(|added| added == first) {
        return matches!(method, "GET" | "POST" | "PUT" | "PATCH" | "DELETE");
    }
    let takes = |methods: &str| methods.split(' ').any(|other| other == method);
    // What a `*` stands for is a name that somebody gave: never an operation's, in either case.
    let is_named = Operation::NAMED.iter().any(|operation| operation.path().eq_ignore_ascii_case(path));
    LISTED
        .iter()
        .any(|(methods, listed)| takes(methods) && (*listed == path || !is_named && fits(listed, path)))
}

/// Whether a form at such a path passes unread. What an operator has added does.
#[must_use]
pub fn takes_uploads(path: &str) -> bool {
    UPLOADS.iter().any(|listed| fits(listed, path)) || LISTED.iter().all(|(_, listed)| !fits(listed, path))
}

/// The model that such a path names: one to be deleted, or a checkpoint of one.
#[must_use]
pub fn model_of_path(path: &str) -> Option<&str> {
    let mut segments = path.split('/');
    match (segments.next(), segments.next(), segments.next()) {
        (Some("models"), model, None) => model,
        (Some("fine_tuning"), Some("checkpoints"), model) => model,
        _ => None,
    }
}

fn fits(listed: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    listed.split('/').all(|part| segments.next().is_some_and(|segment| part == "*" || part == segment))
        && segments.next().is_none()
}

/// Whether an operator may vouch for all that begins with this segment.
#[must_use]
pub fn may_be_added(segment: &str) -> bool {
    let first = |operation: Operation| operation.path().split('/').next().unwrap_or_default();
    let is_governed = |name: &str| name.eq_ignore_ascii_case(segment);
    is_segment(segment)
        && !Operation::NAMED.map(first).into_iter().any(is_governed)
        && !NEVER.into_iter().any(is_governed)
}

/// Whether it can stand in a path as it is, and every server reads the same in it. Fine-tuned models have colons.
fn is_segment(segment: &str) -> bool {
    // Windows leaves out dots at the end.
    !segment.is_empty()
        && !segment.ends_with('.')
        && segment.split(':').all(|part| part.is_empty() || super::is_path_segment(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{ApiVersion, Asked, Style};
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn added() -> Vec<String> {
        vec!["extra".to_owned()]
    }

    /// What operation a path is, if it is an endpoint.
    fn operation(method: &str, path: &str) -> Option<Operation> {
        let asked = Asked::read(method.as_bytes(), path.as_bytes())?;
        asked.endpoint(&added()).map(|endpoint| endpoint.operation)
    }

    #[track_caller]
    fn check(method: &str, path: &str, is_listed: bool) {
        for prefix in ["/v1", "/openai/v1", "/openai"] {
            let found = operation(method, &format!("{prefix}/{path}"));
            assert_eq!(found, is_listed.then_some(Operation::Other), "{method} {prefix}/{path}");
        }
    }

    #[test]
    fn what_backends_keep_is_listed_with_its_methods() {
        for (method, path) in [
            ("GET", "files?limit=2"),
            ("GET", "files/file-1/content"),
            ("DELETE", "files/file-1"),
            ("POST", "uploads/upload_1/parts"),
            ("POST", "batches"),
            ("POST", "batches/batch_1/cancel"),
            ("GET", "responses/resp_1"),
            ("DELETE", "responses/resp_1"),
            ("POST", "responses/resp_1/cancel"),
            ("GET", "responses/resp_1/input_items"),
            ("GET", "chat/completions?limit=2"),
            ("GET", "chat/completions/chatcmpl-1"),
            ("POST", "chat/completions/chatcmpl-1"),
            ("DELETE", "chat/completions/chatcmpl-1"),
            ("GET", "chat/completions/chatcmpl-1/messages"),
            ("DELETE", "models/ft:gpt-4o-mini:org::id"),
            ("POST", "threads/thread_1/runs/run_1/submit_tool_outputs"),
            ("POST", "threads/runs"),
            ("POST", "evals/eval_1/runs/evalrun_1/cancel"),
            ("GET", "fine_tuning/checkpoints/ft:gpt-4o:org::id:step-1/permissions"),
            ("PATCH", "extra/anything/below"),
        ] {
            check(method, path, true);
        }
    }

    #[test]
    fn what_is_not_listed_is_no_endpoint() {
        for (method, path) in [
            ("PUT", "files"),
            ("HEAD", "files"),
            ("OPTIONS", "files"),
            ("POST", "responses/resp_1"),
            ("DELETE", "responses/compact"),
            ("DELETE", "responses/Compact"),
            ("GET", "responses/INPUT_tokens"),
            ("DELETE", "responses/compact."),
            ("GET", "responses/input_tokens"),
            ("HEAD", "responses"),
            ("GET", "files/%2e%2e"),
            ("GET", "files/../models"),
            ("GET", "files/file-1;x=1"),
            ("GET", "files\\file-1"),
            ("GET", "files/file-1/content/more"),
            ("GET", "Files"),
            ("POST", "realtime/client_secrets"),
            ("GET", "organization/usage/completions"),
            ("POST", "images/variations"),
            ("TRACE", "extra/x"),
        ] {
            check(method, path, false);
        }
    }

    /// Ways to write an operation or a deployment that some server might read as one.
    const DOORS: [&str; 26] = [
        "deployments/any/chat/completions",
        "Deployments/any/chat/completions",
        "DEPLOYMENTS/any/responses",
        "deployments",
        "deployments/any",
        "engines/any/completions",
        "v1/chat/completions",
        "openai/v1/chat/completions",
        "openai/deployments/any/chat/completions",
        "Chat/Completions",
        "chat/Completions",
        "CHAT/COMPLETIONS",
        "Responses",
        "Embeddings",
        "chat%2fcompletions",
        "chat%2Fcompletions",
        "%63hat/completions",
        "chat/completions;x=1",
        "chat;x/completions",
        "chat/./completions",
        "files/../chat/completions",
        "files/%2e%2e/chat/completions",
        "chat\\completions",
        "chat/completions%20",
        "chat/completions.",
        "extra/../chat/completions",
    ];

    #[test]
    fn no_other_path_names_a_deployment_or_an_operation() {
        for door in DOORS {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                for prefix in
                    ["/v1/", "/openai/v1/", "/v1//", "//v1/", "/v1/./", "/openai/v1/v1/", "/V1/", "/OpenAI/"]
                {
                    let path = format!("{prefix}{door}");
                    assert_eq!(operation(method, &path), None, "{method} {path}");
                }
            }
        }
        check("POST", "v1/v1/chat/completions", false);
    }

    proptest! {
        /// Whatever is `other`: its path is for no style that of an operation, and names no deployment.
        #[test]
        fn what_is_other_reaches_no_operation(
            method in "GET|POST|PUT|PATCH|DELETE",
            segments in prop::collection::vec(
                "deployments|Deployments|engines|v1|openai|chat|Chat|completions|responses|compact|input_tokens|\
                 embeddings|images|generations|audio|speech|models|files|threads|runs|extra|x|%2e%2e|\\.\\.|;|",
                0..6,
            ),
            prefix in "/v1/|/openai/|/openai/v1/",
        ) {
            let path = format!("{prefix}{}", segments.join("/"));
            let asked = Asked::read(method.as_bytes(), path.as_bytes());
            let endpoint = asked.as_ref().and_then(|asked| asked.endpoint(&[]));
            if let Some((rest, query)) = endpoint.and_then(|endpoint| endpoint.rest) {
                // A list of stored chats has an operation's path, and not its method.
                let is_list = method == "GET" && rest == "chat/completions";
                for style in [Style::OpenAi, Style::AzureV1, Style::Azure(ApiVersion::parse("2024-10-21").unwrap())] {
                    let sent = style.other_path(style.base(), rest, query).to_ascii_lowercase();
                    prop_assert!(!sent.contains("//") && !sent.contains(['%', ';', '\\']), "{}", sent);
                    for prefix in ["/v1/", "/openai/v1/", "/openai/"] {
                        let below = sent.split('?').next().and_then(|path| path.strip_prefix(prefix));
                        let Some(below) = below else { continue };
                        let first = below.split('/').next().unwrap();
                        prop_assert!(!["deployments", "engines", "openai"].contains(&first), "{}", sent);
                        let is_operation = Operation::NAMED.iter().any(|operation| operation.path() == below);
                        prop_assert!(is_list || !is_operation, "{} {}", method, sent);
                    }
                }
            }
        }
    }

    #[test]
    fn an_operator_may_add_what_names_neither() {
        for segment in ["rerank", "organization", "images2", "files"] {
            assert!(may_be_added(segment), "{segment}");
        }
        for segment in [
            "",
            "a/b",
            "..",
            "%2e",
            "deployments",
            "Engines",
            "V1",
            "openai",
            "chat",
            "Responses",
            "models",
            "realtime",
        ] {
            assert!(!may_be_added(segment), "{segment}");
        }
    }
}

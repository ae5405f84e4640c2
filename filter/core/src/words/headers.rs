//! Which headers pass the gateway, and what do they say?
//!
//! Those that are listed here pass, with those that the configuration adds; all others stay. Names in lower case, as
//! Envoy has them. Not decided here: what is put in their place.

/// Headers as they came, names in lower case.
pub type Headers = [(String, Vec<u8>)];

/// The value of a header; of several with this name, the first.
#[must_use]
pub fn find<'h>(headers: &'h Headers, name: &str) -> Option<&'h [u8]> {
    headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice())
}

/// The same, of one that is text.
#[must_use]
pub fn text<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    std::str::from_utf8(find(headers, name)?).ok()
}

/// The status of an answer, 0 if it has none.
#[must_use]
pub fn status(headers: &Headers) -> u16 {
    text(headers, ":status").and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// Names that the configuration adds to a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passing {
    names: Vec<String>,
    prefixes: Vec<String>,
}

/// Why a name cannot be added to a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no name, and no beginning of names before a `*`.
    NoName,
    /// This name may never pass.
    Never(String, &'static str),
}

/// Which way a header goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a client to a backend.
    ToBackends,
    /// From a backend to a client.
    ToClients,
}

/// What never passes, and why: names, or beginnings of names before a `*`.
type Never = [(&'static [&'static str], &'static str)];

const NEVER_TO_BACKENDS: &Never = &[
    (
        &[
            "anthropic-user-profile-id",
            "anthropic-workspace-id",
            "api-key",
            "authorization",
            "cookie",
            "ocp-apim-subscription-key",
            "openai-organization",
            "openai-project",
            "proxy-*",
            "x-api-key",
            "x-auth-token",
            "x-goog-api-key",
            "x-litellm-api-key",
        ],
        "it carries a credential or an account",
    ),
    (&["tollgate-*", "x-envoy-*", "x-priority", "x-tollgate-*"], "it is Tollgate's or Envoy's own"),
    (
        &[
            ":*",
            "apim-*",
            "azureml-*",
            "forwarded",
            "host",
            "x-forwarded-*",
            "x-host",
            "x-http-method*",
            "x-method-override",
            "x-ms-oai-*",
            "x-ms-spillover-*",
            "x-original-*",
            "x-rewrite-*",
        ],
        "it chooses at the backend where a request goes, or who asks",
    ),
    (
        &[
            "accept-encoding",
            "connection",
            "content-length",
            "expect",
            "http2-settings",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ],
        "it is of the connection, or of what the gateway reads",
    ),
];

const NEVER_TO_CLIENTS: &Never = &[
    (&["proxy-*", "set-cookie*", "www-authenticate"], "it is about the backend's credential"),
    (
        &["access-control-*", "x-envoy-*", "x-ratelimit-*", "x-rate-limit-*", "x-request-id", "x-tollgate-*"],
        "the gateway has its own",
    ),
    (&["alt-svc", "content-location", "location", "operation-location"], "it leads past the gateway"),
    (
        &[
            ":*",
            "connection",
            "content-length",
            "grpc-*",
            "keep-alive",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ],
        "it is of the connection",
    ),
];

impl Passing {
    /// Adds a name, or all that begin like it where it ends with `*`.
    pub fn add(&mut self, name: &str, way: Way) -> Result<(), Fault> {
        let name = name.to_ascii_lowercase();
        let (start, is_prefix) = match name.strip_suffix('*') {
            Some(start) => (start, true),
            None => (name.as_str(), false),
        };
        // <https://www.rfc-editor.org/rfc/rfc9110#section-5.1>
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
        if start.is_empty() || !start.bytes().all(is_token) {
            return Err(Fault::NoName);
        }
        let never = match way {
            Way::ToBackends => NEVER_TO_BACKENDS,
            Way::ToClients => NEVER_TO_CLIENTS,
        };
        for (names, why) in never {
            let meets = |never: &&&str| match never.strip_suffix('*') {
                Some(never) => start.starts_with(never) || (is_prefix && never.starts_with(start)),
                None => start == **never || (is_prefix && never.starts_with(start)),
            };
            if let Some(never) = names.iter().find(meets) {
                return Err(Fault::Never((*never).to_owned(), why));
            }
        }
        if is_prefix { &mut self.prefixes } else { &mut self.names }.push(start.to_owned());
        Ok(())
    }

    /// Whether the configuration has added this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

/// Whether a header of a request goes to a backend. A compressed answer could not be read, so none is asked for.
#[must_use]
pub fn passes_to_backends(name: &str, more: &Passing) -> bool {
    let is_listed = match name {
        // What HTTP needs.
        "accept"
        | "accept-language"
        | "cache-control"
        | "content-disposition"
        | "content-encoding"
        | "content-language"
        | "content-length"
        | "content-type"
        | "expect"
        | "host"
        | "if-match"
        | "if-modified-since"
        | "if-none-match"
        | "if-range"
        | "if-unmodified-since"
        | "range"
        | "te"
        | "transfer-encoding"
        | "user-agent" => true,
        // Envoy adds them itself and needs them; its route takes them out.
        "x-forwarded-for" | "x-forwarded-proto" => true,
        // What SDKs send. Node's `fetch` sends the last one always.
        "idempotency-key" | "openai-beta" | "x-ms-useragent" | "sec-fetch-mode" => true,
        // Tracing. <https://www.w3.org/TR/trace-context/>, <https://www.w3.org/TR/baggage/>,
        // <https://github.com/openzipkin/b3-propagation>,
        // <https://learn.microsoft.com/azure/ai-services/openai/reference#request-headers>
        "b3"
        | "baggage"
        | "sentry-trace"
        | "traceparent"
        | "tracestate"
        | "uber-trace-id"
        | "x-client-request-id"
        | "x-cloud-trace-context"
        | "x-ms-client-request-id"
        | "x-request-id" => true,
        _ => ["x-stainless-", ":", "x-b3-", "x-datadog-"].iter().any(|prefix| name.starts_with(prefix)),
    };
    is_listed || more.has(name)
}

/// What a request that is answered later keeps of its headers, of those that pass.
pub const REPLAYED: [&str; 5] = ["accept", "content-type", "idempotency-key", "openai-beta", "user-agent"];

/// Whether a header of a request goes to backends that speak Anthropic's API, besides those that go to all: which version of
/// it is meant. What `anthropic-beta` turns on may be read by no policy, so whoever wants it adds it to the configuration.
/// <https://platform.claude.com/docs/en/api/versioning>, <https://platform.claude.com/docs/en/api/beta-headers>
#[must_use]
pub fn passes_to_anthropic(name: &str) -> bool {
    name == "anthropic-version"
}

/// The protocols that a socket is asked with.
pub const PROTOCOLS: &str = "sec-websocket-protocol";

/// What a key begins with that stands among them.
pub const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// Whether a header of a handshake goes on, besides those that do anyway. No extension does: what is compressed could not be read.
#[must_use]
pub fn passes_with_socket(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "upgrade"
            | "sec-websocket-accept"
            | "sec-websocket-key"
            | PROTOCOLS
            | "sec-websocket-version"
    )
}

/// What no protocol begins with that goes on: the key, the account, and the beta, whose events are of other shapes.
const OWN_PROTOCOLS: [&str; 4] = [KEY_PROTOCOL, "openai-organization.", "openai-project.", "openai-beta."];

/// The protocols that a socket is asked with, of all lines that have them.
pub fn protocols(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    let lines = headers.iter().filter(|(name, _)| name == PROTOCOLS);
    lines.flat_map(|(_, line)| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The protocols that a socket is asked with in one line, without those that go no further; `None` if it is one line without any.
#[must_use]
pub fn protocols_without_key(headers: &Headers) -> Option<String> {
    let stays = |protocol: &&[u8]| !OWN_PROTOCOLS.iter().any(|begin| protocol.starts_with(begin.as_bytes()));
    let lines = headers.iter().filter(|(name, _)| name == PROTOCOLS).count();
    if lines < 2 && protocols(headers).all(|protocol| stays(&protocol)) {
        return None;
    }
    let staying: Vec<_> = protocols(headers).filter(stays).map(String::from_utf8_lossy).collect();
    Some(staying.join(", "))
}

/// Whether a header of an answer goes to the client. What is not listed may tell of the backend, of a proxy before it, or
/// of limits that are not the client's. A cookie would come back to another backend, and where a path leads is found out
/// by asking the gateway for it.
#[must_use]
pub fn passes_to_clients(name: &str, value: &[u8], more: &Passing) -> bool {
    match name {
        ":status"
        | "accept-ranges"
        | "age"
        | "cache-control"
        | "content-disposition"
        | "content-encoding"
        | "content-language"
        | "content-length"
        | "content-range"
        | "content-type"
        | "date"
        | "etag"
        | "expires"
        | "last-modified"
        // How soon SDKs ask again for work that is not done.
        | "openai-poll-after-ms"
        | "openai-processing-ms"
        | "openai-version"
        | "pragma"
        | "retry-after"
        | "retry-after-ms"
        | "transfer-encoding"
        | "vary"
        | "x-accel-buffering"
        | "x-content-type-options"
        | "x-should-retry" => true,
        _ if REFERENCES.contains(&name) => is_path(value),
        _ => more.has(name),
    }
}

/// A header of an answer by which Envoy goes to no other backend, whatever its status is.
/// <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-ratelimited>
pub const STAY: &str = "x-envoy-ratelimited";

/// Whether a header of a backend's answer steers the proxy, which reads it before any client gets the answer:
/// `x-envoy-ratelimited` forbids a retry, `x-envoy-immediate-health-check-fail` takes the backend's address for dead,
/// `x-envoy-upstream-canary` and `x-envoy-decorator-operation` rename what is counted and traced, `grpc-status` is the status
/// of a call that calls itself gRPC, and `x-tollgate-elsewhere` is an attempt's own word. No backend has a say in these, so
/// all of their kind go.
/// <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#http-headers-consumed-from-upstream-calls>
#[must_use]
pub fn steers_proxy(name: &str) -> bool {
    ["grpc-", "x-envoy-", "x-tollgate-"].iter().any(|prefix| name.starts_with(prefix))
}

/// The headers that lead to what was made.
pub const REFERENCES: [&str; 3] = ["content-location", "location", "operation-location"];

/// Whether a reference stays on its host.
fn is_path(reference: &[u8]) -> bool {
    reference.starts_with(b"/") && !reference.starts_with(b"//") && !reference.starts_with(b"/\\")
}

/// By which an answer's headers name it to its provider's support, the best known first: OpenAI's, Azure's, others'.
pub const PROVIDER_REQUEST_IDS: [&str; 4] =
    ["x-request-id", "apim-request-id", "x-ms-request-id", "request-id"];

/// What the client is told of it.
pub const PROVIDER_REQUEST_ID: &str = "x-tollgate-provider-request-id";

/// The longest that is told.
const PROVIDER_REQUEST_ID_BYTES_MAX: usize = 128;

/// The name that an answer has at its provider.
#[must_use]
pub fn provider_request_id(headers: &Headers) -> Option<String> {
    let values = PROVIDER_REQUEST_IDS.iter().filter_map(|name| find(headers, name));
    let sound = |value: &&[u8]| {
        !value.is_empty()
            && value.len() <= PROVIDER_REQUEST_ID_BYTES_MAX
            && value.iter().all(u8::is_ascii_graphic)
    };
    values.filter(sound).find_map(|value| String::from_utf8(value.to_vec()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn none() -> Passing {
        Passing::default()
    }

    #[test]
    fn what_backends_and_sdks_need_goes_to_backends() {
        for name in [
            ":path",
            "host",
            "accept",
            "content-type",
            "content-length",
            "user-agent",
            "x-request-id",
            "traceparent",
            "x-b3-sampled",
            "x-ms-client-request-id",
            "x-stainless-retry-count",
            "openai-beta",
            "idempotency-key",
            "range",
        ] {
            assert!(passes_to_backends(name, &none()), "{name}");
        }
    }

    #[test]
    fn a_header_that_is_not_listed_goes_to_no_backend() {
        for name in [
            "authorization",
            "api-key",
            "api-keys",
            "x-api-key",
            "cookie",
            "accept-encoding",
            "x-tollgate-candidates",
            "tollgate-explain",
            "x-priority",
            "x-envoy-max-retries",
            "x-ms-spillover-deployment",
            "x-ms-oai-image-generation-deployment",
            "azureml-model-deployment",
            "x-http-method-override",
            "x-original-url",
            "x-rewrite-url",
            "x-forwarded-host",
            "x-forwarded-client-cert",
            "forwarded",
            "cf-connecting-ip",
            "x-real-ip",
            "true-client-ip",
            "apim-debug",
            "ocp-apim-subscription-key",
            "x-litellm-api-key",
            "openai-organization",
            "openai-project",
            "referer",
            "upgrade",
        ] {
            assert!(!passes_to_backends(name, &none()), "{name}");
        }
    }

    #[test]
    fn a_header_that_is_not_listed_goes_to_no_client() {
        for name in [
            "x-ms-region",
            "apim-request-id",
            "x-ratelimit-remaining-tokens",
            "set-cookie",
            "www-authenticate",
            "alt-svc",
            "via",
            "cf-ray",
            "link",
            "refresh",
            "server",
            "x-served-by",
            "x-backend",
            "x-azure-ref",
            "x-powered-by",
            "x-litellm-model-api-base",
            "llm_provider-server",
            "ms-azureml-model-error-reason",
            "report-to",
            "nel",
            "openai-organization",
            "x-envoy-decorator-operation",
            "x-request-id",
            "access-control-allow-origin",
            "strict-transport-security",
        ] {
            assert!(!passes_to_clients(name, b"x", &none()), "{name}");
        }
        for name in [
            "content-type",
            "retry-after",
            "retry-after-ms",
            "openai-processing-ms",
            "openai-poll-after-ms",
            "date",
        ] {
            assert!(passes_to_clients(name, b"x", &none()), "{name}");
        }
    }

    #[test]
    fn a_header_that_steers_the_proxy_is_known() {
        for name in [
            "x-envoy-ratelimited",
            "x-envoy-overloaded",
            "x-envoy-immediate-health-check-fail",
            "x-envoy-degraded",
            "x-envoy-upstream-canary",
            "x-envoy-decorator-operation",
            "x-tollgate-elsewhere",
            "grpc-status",
            "grpc-message",
        ] {
            assert!(steers_proxy(name), "{name}");
        }
        for name in [":status", "content-type", "retry-after", "x-ratelimit-remaining-tokens", "x-request-id"]
        {
            assert!(!steers_proxy(name), "{name}");
        }
    }

    #[test]
    fn a_location_goes_to_clients_if_it_stays_on_its_host() {
        for (value, passes) in [
            ("https://eu-ptu.openai.azure.com/openai/operations/1", false),
            ("//eu-ptu/openai", false),
            ("/\\eu-ptu/openai", false),
            ("/v1/realtime/calls/rtc_1", true),
        ] {
            for name in ["location", "operation-location", "content-location"] {
                assert_eq!(passes_to_clients(name, value.as_bytes(), &none()), passes, "{name}: {value}");
            }
        }
    }

    #[test]
    fn the_configuration_adds_names_but_none_that_never_pass() {
        let add = |name: &str, way| {
            let mut passing = Passing::default();
            passing.add(name, way).map(|()| passing)
        };
        let never = |name: &str, way| match add(name, way) {
            Err(Fault::Never(never, _)) => never,
            other => panic!("{name}: {other:?}"),
        };
        let found = add("X-Corp-*", Way::ToBackends).unwrap();
        assert!(passes_to_backends("x-corp-team", &found) && !passes_to_backends("x-corps", &found));
        let found = add("x-real-ip", Way::ToBackends).unwrap();
        assert!(passes_to_backends("x-real-ip", &found) && !passes_to_backends("x-real-ips", &found));
        assert!(passes_to_clients("x-azure-ref", b"", &add("x-azure-ref", Way::ToClients).unwrap()));
        for name in ["", "*", "a b", "x-*-id", "é"] {
            assert_eq!(add(name, Way::ToBackends), Err(Fault::NoName), "{name}");
        }
        assert_eq!(add(":path", Way::ToBackends), Err(Fault::NoName));
        for (name, expected) in [
            ("Authorization", "authorization"),
            ("x-*", "x-api-key"),
            ("x-ap*", "x-api-key"),
            ("x-ms-*", "x-ms-oai-*"),
            ("x-tollgate-cluster", "x-tollgate-*"),
            ("x-envoy-*", "x-envoy-*"),
            ("x-priority", "x-priority"),
            ("x-pri*", "x-priority"),
            ("x-forwarded-host", "x-forwarded-*"),
            ("host", "host"),
            ("x-http-method-override", "x-http-method*"),
        ] {
            assert_eq!(never(name, Way::ToBackends), expected, "{name}");
        }
        for (name, expected) in [
            ("set-cookie", "set-cookie*"),
            ("x-ratelimit-limit-tokens", "x-ratelimit-*"),
            ("x-tollgate-*", "x-tollgate-*"),
            ("location", "location"),
            ("access-control-allow-origin", "access-control-*"),
        ] {
            assert_eq!(never(name, Way::ToClients), expected, "{name}");
        }
    }

    #[test]
    fn the_providers_id_is_the_best_known_that_is_sound() {
        let long = "x".repeat(129);
        for (headers, expected) in [
            (vec![("apim-request-id", "a"), ("x-request-id", "req_1")], Some("req_1")),
            (vec![("apim-request-id", "a")], Some("a")),
            (vec![("x-request-id", long.as_str()), ("request-id", "b")], Some("b")),
            (vec![("x-request-id", "a b")], None),
            (vec![("x-request-id", "")], None),
            (vec![], None),
        ] {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
            assert_eq!(provider_request_id(&headers).as_deref(), expected, "{headers:?}");
        }
    }
}

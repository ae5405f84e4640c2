//! Which headers end at the gateway?
//!
//! Names in lower case, as Envoy has them. Not decided here: what is put in their place.

use crate::decision::EXPLAIN;

/// Headers by which a backend, or a proxy before it, tells about itself or about limits that are not the client's. A
/// cookie would come back to another backend, and where a path leads is found out by asking the gateway for it.
#[must_use]
pub fn reveals_backend(name: &str, value: &[u8]) -> bool {
    const NAMES: [&str; 8] = [
        "alt-svc",
        "apim-request-id",
        "azure-openai-deployment-utilization",
        "openai-organization",
        "openai-project",
        "set-cookie",
        "via",
        "www-authenticate",
    ];
    const PREFIXES: [&str; 7] =
        ["azureml-", "cf-", "x-envoy-", "x-ms-", "x-ratelimit-", "x-rate-limit-", "x-tollgate-"];
    const LOCATIONS: [&str; 3] = ["content-location", "location", "operation-location"];
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || (LOCATIONS.contains(&name) && names_a_host(value))
}

/// Whether a reference is more than a path.
fn names_a_host(reference: &[u8]) -> bool {
    !reference.starts_with(b"/") || reference.starts_with(b"//")
}

/// Headers of a request that end here: the client's credentials and account, and what only we and Envoy may set. A
/// compressed answer could not be read, so none is asked for.
#[must_use]
pub fn ends_here(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        EXPLAIN,
        "accept-encoding",
        "cookie",
        "openai-organization",
        "openai-project",
        "x-forwarded-client-cert",
    ];
    const PREFIXES: [&str; 2] = ["x-tollgate-", "x-envoy-"];
    NAMES.contains(&name) || is_credential(name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a header is one that clients send credentials in. It ends here: none of them goes to a backend.
fn is_credential(name: &str) -> bool {
    matches!(name, "api-key" | "authorization" | "x-api-key" | "proxy-authorization")
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn credentials_and_internal_headers_go_no_further() {
        let ends = [
            "authorization",
            "api-key",
            "x-api-key",
            "cookie",
            "x-tollgate-candidates",
            "tollgate-explain",
            "x-envoy-max-retries",
        ];
        assert!(ends.into_iter().all(ends_here));
        let passes = ["content-type", "user-agent", "x-request-id", "api-keys", ":path"];
        assert!(!passes.into_iter().any(ends_here));
    }

    #[test]
    fn what_tells_of_the_backend_is_not_told_to_the_client() {
        let reveals = [
            "x-ms-region",
            "apim-request-id",
            "x-ratelimit-remaining-tokens",
            "x-ms-deployment-name",
            "set-cookie",
            "www-authenticate",
            "alt-svc",
            "via",
            "cf-ray",
            "x-envoy-decorator-operation",
        ];
        for name in reveals {
            assert!(reveals_backend(name, b"x"), "{name}");
        }
        for name in ["content-type", "retry-after", "retry-after-ms", "x-request-id"] {
            assert!(!reveals_backend(name, b"x"), "{name}");
        }
        for (value, reveals) in [
            ("https://eu-ptu.openai.azure.com/openai/operations/1", true),
            ("//eu-ptu/openai", true),
            ("/v1/realtime/calls/rtc_1", false),
        ] {
            for name in ["location", "operation-location", "content-location"] {
                assert_eq!(reveals_backend(name, value.as_bytes()), reveals, "{name}: {value}");
            }
        }
    }
}

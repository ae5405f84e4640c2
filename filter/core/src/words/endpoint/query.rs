//! What of a query is nobody's but the gateway's?
//!
//! What clients show who they are by, and an `api-version`, which is the backend's own. Names as Azure reads them: of
//! either case, decoded once.

use super::decoded;
use std::borrow::Cow;

/// The name of the parameter that a key is read from, where the configuration says so.
const API_KEY: &str = "api-key";

/// Names of credentials; whether one is read or not, none goes on.
const CREDENTIALS: [&str; 6] =
    ["access_token", API_KEY, "api_key", "ocp-apim-subscription-key", "subscription-key", "x-api-key"];

/// The keys in a query, decoded, each time that the parameter stands there. A `+` is a `+`: no key has a space.
pub fn api_keys(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    query.split('&').filter(|part| named(part).eq_ignore_ascii_case(API_KEY)).map(value)
}

/// What a parameter of this name says, each time that it stands in a query.
pub fn values<'q>(query: &'q str, name: &str) -> impl Iterator<Item = Cow<'q, str>> {
    query.split('&').filter(move |part| named(part) == name).map(value)
}

/// A query without the parameters of this name.
#[must_use]
pub fn without(query: &str, name: &str) -> String {
    let parts: Vec<_> = query.split('&').filter(|part| named(part) != name).collect();
    parts.join("&")
}

fn value(part: &str) -> Cow<'_, str> {
    decoded(part.split_once('=').map_or("", |(_, value)| value))
}

/// The names and values in a query, decoded. A name may also begin behind a `;`, which some servers read as `&`; a value
/// goes on to the next `&`.
pub fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let parts = query.split('&').filter(|part| !part.is_empty()).flat_map(|part| {
        let behind = part.match_indices(';').filter_map(|(at, _)| part.get(at + 1..));
        std::iter::once(part).chain(behind)
    });
    parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    })
}

/// A request's path and query without credentials, if there are any in it: as it may be logged and traced.
#[must_use]
pub fn without_credentials(path: &[u8]) -> Option<String> {
    // What is no text is no endpoint: it goes nowhere as it is.
    let path = String::from_utf8_lossy(path);
    let (path, query) = path.split_once('?')?;
    if !query.split('&').any(is_credential) {
        return None;
    }
    let parts: Vec<_> = query.split('&').filter(|part| !is_credential(part)).collect();
    let mark = if parts.is_empty() { "" } else { "?" };
    Some(format!("{path}{mark}{}", parts.join("&")))
}

/// Whether a part of a query goes to no backend.
#[must_use]
pub fn ends_here(part: &str) -> bool {
    is_credential(part) || named(part).eq_ignore_ascii_case("api-version")
}

fn is_credential(part: &str) -> bool {
    let name = named(part);
    CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn named(part: &str) -> Cow<'_, str> {
    decoded(part.split('=').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_parameter_is_read_and_taken_out() {
        for (query, said, rest) in [
            ("", &[][..], ""),
            ("p=low", &["low"], ""),
            ("a=1&p=low&%70=hi%67h&b", &["low", "high"], "a=1&b"),
            ("P=low&p", &[""], "P=low"),
            ("a=1;p=low", &[], "a=1;p=low"),
        ] {
            assert_eq!(values(query, "p").collect::<Vec<_>>(), said, "{query}");
            assert_eq!(without(query, "p"), rest, "{query}");
        }
    }

    #[test]
    fn a_query_has_each_key_that_stands_in_it() {
        for (query, keys) in [
            ("", &[][..]),
            ("a=api-key&b=1", &[]),
            ("api-key=k", &["k"]),
            ("a=1&API-Key=k&api%2Dkey=l", &["k", "l"]),
            ("%61pi-key=a%2Bb+c%3D=", &["a+b+c=="]),
            ("api-key", &[""]),
            ("api-key=", &[""]),
            ("api_key=k&key=k&x-api-key=k", &[]),
            // Decoded once, and separated by nothing else.
            ("api%252Dkey=k", &[]),
            ("a=1;api-key=k", &[]),
        ] {
            assert_eq!(api_keys(query).collect::<Vec<_>>(), keys, "{query}");
        }
    }

    #[test]
    fn credentials_are_taken_out_and_all_else_stays() {
        for (path, expected) in [
            ("/v1/models", None),
            ("/v1/models?", None),
            ("/v1/models?a=api-key&&b", None),
            ("/v1/models?api-version=1", None),
            ("/v1/api-key=k", None),
            ("/v1/models?api-key=k", Some("/v1/models")),
            ("/v1//x?a=1&API%2dKEY=k&&b=%41&api_key=l&access_token", Some("/v1//x?a=1&&b=%41")),
            ("/v1/models?x-api-key=k&a=?&subscription-key=l", Some("/v1/models?a=?")),
        ] {
            assert_eq!(without_credentials(path.as_bytes()).as_deref(), expected, "{path}");
        }
        assert_eq!(without_credentials(b"/\xff?api-key=k").as_deref(), Some("/\u{fffd}"));
    }
}

//! Which backends came into question for a request, which were passed over, and why?
//!
//! The words for it in records and in a header of the answer, for those who may know what is behind the gateway. Not
//! decided here: where a request goes.

use crate::json::JsonWriter;
use std::rc::Rc;
use std::time::Duration;

/// The header by which an operator's client asks for [`HEADER`]; its value is `true`. It goes no further.
pub const EXPLAIN: &str = "tollgate-explain";

/// The header that tells of the decision.
pub const HEADER: &str = "x-tollgate-decision";

/// Why a backend was not the next one to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client must not be served there.
    Region,
    /// What the request refers to is kept at another one.
    Pinned,
    /// It does not understand what the request asks for.
    Unsupported,
    /// There is no token now that lets the gateway in.
    Credential,
    /// It is to be left alone for so long; for no time, if somebody else just went to see whether its pause is over.
    Pausing(Duration),
    /// It is of a lower priority, and the client's requests do not go there.
    Spill,
    /// It has had its share of the model's requests.
    Share,
    /// It had no room, where its capacity was declared. It stays at the end of the order, for fail-over.
    Capacity,
}

impl Why {
    /// The word in records and in the header.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Pinned => "pinned",
            Self::Unsupported => "unsupported",
            Self::Credential => "credential",
            Self::Pausing(_) => "cooldown",
            Self::Spill => "spill",
            Self::Share => "share",
            Self::Capacity => "capacity",
        }
    }

    /// How long it lasts, in milliseconds and rounded up, where that is known.
    #[must_use]
    pub fn wait_ms(self) -> Option<u64> {
        match self {
            Self::Pausing(wait) => {
                Some(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
            }
            Self::Region
            | Self::Pinned
            | Self::Unsupported
            | Self::Credential
            | Self::Spill
            | Self::Share
            | Self::Capacity => None,
        }
    }
}

/// A backend that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Which.
    pub backend: Rc<str>,
    /// Why.
    pub why: Why,
}

impl PassedOver {
    /// Writes it as a JSON object.
    pub(crate) fn write(&self, json: &mut JsonWriter) {
        json.open(b'{');
        json.member("backend");
        json.text(&self.backend);
        json.member("why");
        json.text(self.why.word());
        if let Some(wait) = self.why.wait_ms() {
            json.member("wait_ms");
            json.count(wait);
        }
        json.close(b'}');
    }
}

/// Writes, as a JSON object, what a backend that was asked has answered, if it has.
pub(crate) fn write_attempt(json: &mut JsonWriter, backend: &str, status: Option<u16>) {
    json.open(b'{');
    json.member("backend");
    json.text(backend);
    json.member("status");
    match status {
        Some(status) => json.count(status.into()),
        None => json.flag(None),
    }
    json.close(b'}');
}

/// The header's value: the candidates in their order, who was passed over, whether the order is an operator's, and the attempts
/// with their status so far. It is JSON, and ASCII, for names are.
pub fn header_value<'a>(
    candidates: impl Iterator<Item = &'a str>,
    passed_over: &'a [PassedOver],
    is_ordered: bool,
    attempts: impl Iterator<Item = (&'a str, Option<u16>)>,
) -> String {
    let mut json = JsonWriter::default();
    json.open(b'{');
    json.list("candidates", candidates, JsonWriter::text);
    json.list("passed_over", passed_over.iter(), |json, passed| passed.write(json));
    if is_ordered {
        json.member("ordered");
        json.flag(Some(true));
    }
    json.list("attempts", attempts, |json, (backend, status)| write_attempt(json, backend, status));
    json.close(b'}');
    json.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_decision_is_told_in_one_line_of_json() {
        let passed = |backend: &str, why| PassedOver { backend: backend.into(), why };
        let passed_over = [
            passed("us", Why::Region),
            passed("ptu", Why::Pausing(Duration::from_micros(1_498_001))),
            passed("full", Why::Capacity),
            passed("other", Why::Pinned),
            passed("old", Why::Unsupported),
            passed("keyless", Why::Credential),
            passed("dear", Why::Spill),
            passed("new", Why::Share),
        ];
        let value = header_value(
            ["a", "full"].into_iter(),
            &passed_over,
            false,
            [("a", Some(429)), ("full", None)].into_iter(),
        );
        let expected = r#"{"candidates":["a","full"],"passed_over":[{"backend":"us","why":"region"},{"backend":"ptu","why":"cooldown","wait_ms":1499},{"backend":"full","why":"capacity"},{"backend":"other","why":"pinned"},{"backend":"old","why":"unsupported"},{"backend":"keyless","why":"credential"},{"backend":"dear","why":"spill"},{"backend":"new","why":"share"}],"attempts":[{"backend":"a","status":429},{"backend":"full","status":null}]}"#;
        assert_eq!(value, expected);
        let value = header_value(["a"].into_iter(), &[], true, [("a", Some(200))].into_iter());
        let expected = r#"{"candidates":["a"],"passed_over":[],"ordered":true,"attempts":[{"backend":"a","status":200}]}"#;
        assert_eq!(value, expected);
    }
}

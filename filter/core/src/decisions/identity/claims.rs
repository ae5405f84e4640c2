//! What does a token claim, and is it the claim that was asked for?
//!
//! Claims are JSON of which no reader may make two things: a name that stands twice in an object is an error. Not decided
//! here: whether what is claimed is true.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::time::Duration;

/// The most members of one object: looking for a duplicate compares each with all before it.
const MEMBERS_MAX: usize = 256;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Flag(bool),
    /// Any number.
    Number(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object, its names all different.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads an object, and nothing after it.
    #[must_use]
    pub fn object(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|json| matches!(json, Self::Object(_)))
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(other, _)| other == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// What is at the end of a path.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<&Self> {
        path.names.iter().try_fold(self, |json, name| json.member(name))
    }

    /// A string's text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member as a time: seconds since the epoch, whole or not. `Err` if it is something else.
    /// <https://www.rfc-editor.org/rfc/rfc7519#section-2> (NumericDate)
    pub fn time(&self, name: &str) -> Result<Option<Duration>, NoTime> {
        match self.member(name) {
            None => Ok(None),
            Some(Self::Number(seconds)) => {
                Duration::try_from_secs_f64(*seconds).map(Some).map_err(|_| NoTime)
            }
            Some(_) => Err(NoTime),
        }
    }
}

/// A value that should be a time and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTime;

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    // Nothing here tells numbers apart that a double cannot.
    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if members.len() == MEMBERS_MAX {
                return Err(A::Error::custom("too many members"));
            }
            if members.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom("a name stands twice"));
            }
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }
}

/// Where a claim stands: the names on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    names: Vec<String>,
}

impl Path {
    /// Reads `azp`, `realm_access.roles` (a member of a member), `https://corp.example/roles` (one name: it has `://`)
    /// or, for any other name, a JSON pointer such as `/a.b/c~1d`.
    /// <https://www.rfc-editor.org/rfc/rfc6901>
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let names: Vec<String> = if let Some(pointer) = text.strip_prefix('/') {
            pointer.split('/').map(unescape).collect::<Option<_>>()?
        } else if text.contains("://") {
            vec![text.to_owned()]
        } else {
            text.split('.').map(str::to_owned).collect()
        };
        names.iter().all(|name| !name.is_empty()).then_some(Self { names })
    }

    /// Scopes are one string with spaces between. <https://www.rfc-editor.org/rfc/rfc8693#section-4.2>; Entra names it `scp`.
    fn has_words(&self) -> bool {
        matches!(self.names.as_slice(), [name] if name == "scope" || name == "scp")
    }
}

fn unescape(segment: &str) -> Option<String> {
    let mut parts = segment.split('~');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        name.push(match part.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        name.push_str(part.get(1..)?);
    }
    Some(name)
}

/// A claim that a client's tokens have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// Where it stands.
    pub path: Path,
    /// The string that it is, or that is in its list.
    pub value: String,
}

impl Matcher {
    /// Whether the claims have it.
    #[must_use]
    pub fn holds(&self, claims: &Json) -> bool {
        match claims.at(&self.path) {
            Some(Json::Text(text)) if self.path.has_words() => text.split(' ').any(|word| word == self.value),
            Some(Json::Text(text)) => *text == self.value,
            Some(Json::List(list)) => list.iter().any(|entry| entry.text() == Some(&self.value)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const CLAIMS: &str = r#"{
        "azp": "app", "roles": ["ai.user", "other"], "realm_access": {"roles": ["x"]}, "scp": "read write",
        "https://corp.example/roles": ["url"], "a.b": {"c/d~e": "odd"}, "n": 1, "words": "one two"
    }"#;

    #[track_caller]
    fn check(path: &str, value: &str, expected: bool) {
        let claims = Json::object(CLAIMS.as_bytes()).unwrap();
        let matcher = Matcher { path: Path::parse(path).unwrap(), value: value.to_owned() };
        assert_eq!(matcher.holds(&claims), expected, "{path} {value}");
    }

    #[test]
    fn a_claim_matches_as_a_string_in_a_list_and_in_depth() {
        check("azp", "app", true);
        check("azp", "App", false);
        check("azp", "ap", false);
        check("roles", "ai.user", true);
        check("roles", "ai", false);
        check("realm_access.roles", "x", true);
        check("/realm_access/roles", "x", true);
        check("realm_access", "x", false);
        check("https://corp.example/roles", "url", true);
        check("/https:~1~1corp.example~1roles", "url", true);
        check("/a.b/c~1d~0e", "odd", true);
        check("a.b", "odd", false);
        check("n", "1", false);
        check("missing.roles", "x", false);
    }

    #[test]
    fn scopes_are_words_and_other_strings_are_whole() {
        check("scp", "read", true);
        check("scp", "read write", false);
        check("scp", "rea", false);
        check("words", "one", false);
    }

    #[test]
    fn a_path_has_no_empty_name() {
        for wrong in ["", ".", "a.", ".a", "a..b", "/", "//a", "/a~2", "/a~"] {
            assert_eq!(Path::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_an_error_at_any_depth() {
        for wrong in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
            r#"{"a":1} {}"#,
            r#"["a"]"#,
            r#""a""#,
            "",
            "\u{feff}{}",
        ] {
            assert_eq!(Json::object(wrong.as_bytes()), None, "{wrong}");
        }
        let many: Vec<_> = (0..=MEMBERS_MAX).map(|at| format!("\"{at}\":0")).collect();
        assert_eq!(Json::object(format!("{{{}}}", many.join(",")).as_bytes()), None);
        assert!(Json::object(format!("{{{}}}", many[1..].join(",")).as_bytes()).is_some());
    }

    #[test]
    fn a_time_is_a_number_of_seconds_that_is_one() {
        let claims = |value: &str| Json::object(format!("{{\"exp\":{value}}}").as_bytes()).unwrap();
        assert_eq!(claims("1.5").time("exp"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(claims("1").time("nbf"), Ok(None));
        for wrong in ["\"1\"", "-1", "1e300", "null", "true", "[1]"] {
            assert_eq!(claims(wrong).time("exp"), Err(NoTime), "{wrong}");
        }
    }
}

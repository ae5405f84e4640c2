//! Where in a JSON object are the few members we govern, and how is it edited without writing it anew?
//!
//! One pass by serde_json finds the spans; [`Edits`] are spliced in place, so every byte that is not edited reaches the
//! backend as the client sent it. What two readers could understand differently is a [`Fault`]: a governed name that
//! stands twice, or has escapes or other letter case; bytes after the end; text that is not UTF-8. Not decided here:
//! what the members mean.

mod edits;
mod names;
mod walks;
mod writer;

pub use edits::{Edits, Patch};
pub use names::{Found, Names};
pub use walks::elements;
pub use writer::JsonWriter;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Why a body cannot be read without doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not JSON, or more than one value; the sentence says what and where.
    Syntax(String),
    /// JSON, but not an object.
    NotAnObject,
    /// A governed member stands twice.
    Duplicate(&'static str),
    /// A governed member's name is written with escapes or in other letter case.
    Disguised(&'static str),
}

/// One governed member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The value as it stands in the body.
    pub value: &'a str,
    /// Where the value begins, in bytes of the whole body.
    start: usize,
    /// Where the name begins, after its quote.
    name_start: usize,
}

impl Member<'_> {
    /// Where the value stands in the body.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.start..self.start + self.value.len()
    }
}

/// A member that is not governed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ungoverned<'a> {
    /// Its name, without escapes.
    pub name: Cow<'a, str>,
    /// The value as it stands in the body.
    pub value: &'a str,
}

/// An object's place, and its governed members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object<'a, const N: usize> {
    /// Just after the opening brace.
    pub open: usize,
    /// Whether it has no member at all.
    pub is_empty: bool,
    /// In the order of the names asked for.
    pub members: [Option<Member<'a>>; N],
}

/// Checks that `bytes` are text: serde_json does not look at the inside of strings it skips.
pub fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes)
        .map_err(|error| Fault::Syntax(format!("invalid UTF-8 at byte {}", error.valid_up_to())))
}

/// Finds the members called `names` of the object that `object` is: a part of `body`, or all of it.
pub fn find<'a, const N: usize>(
    body: &'a str,
    object: &'a str,
    names: &'static Names<N>,
) -> Result<Object<'a, N>, Fault> {
    walk(body, object, names, None)
}

/// Finds the same, and all members that are not governed.
pub fn find_all<'a, const N: usize>(
    body: &'a str,
    object: &'a str,
    names: &'static Names<N>,
) -> Result<(Object<'a, N>, Vec<Ungoverned<'a>>), Fault> {
    let mut ungoverned = Vec::new();
    let object = walk(body, object, names, Some(&mut ungoverned))?;
    Ok((object, ungoverned))
}

fn walk<'a, const N: usize>(
    body: &'a str,
    object: &'a str,
    names: &'static Names<N>,
    ungoverned: Option<&mut Vec<Ungoverned<'a>>>,
) -> Result<Object<'a, N>, Fault> {
    let padding = object.len() - object.trim_ascii_start().len();
    if object.as_bytes().get(padding) != Some(&b'{') {
        // Not an object; but say first if it is no JSON at all.
        serde_json::from_str::<IgnoredAny>(object).map_err(|error| Fault::Syntax(plain(&error)))?;
        return Err(Fault::NotAnObject);
    }
    let mut fault = None;
    let visitor = ObjectVisitor { base: offset(body, object), names, fault: &mut fault, body, ungoverned };
    let mut json = serde_json::Deserializer::from_str(object);
    let found = json.deserialize_map(visitor).and_then(|found| json.end().map(|()| found));
    match (found, fault) {
        (_, Some(fault)) => Err(fault),
        (Ok((is_empty, members)), None) => {
            Ok(Object { open: offset(body, object) + padding + 1, is_empty, members })
        }
        (Err(error), None) => Err(Fault::Syntax(plain(&error))),
    }
}

/// Where `part`, which borrows from `whole`, begins in it.
fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// serde_json's sentence; it says where, and quotes nothing of the body.
fn plain(error: &serde_json::Error) -> String {
    error.to_string()
}

struct ObjectVisitor<'a, 'f, const N: usize> {
    body: &'a str,
    base: usize,
    names: &'static Names<N>,
    fault: &'f mut Option<Fault>,
    ungoverned: Option<&'f mut Vec<Ungoverned<'a>>>,
}

impl<'a, const N: usize> Visitor<'a> for ObjectVisitor<'a, '_, N> {
    type Value = (bool, [Option<Member<'a>>; N]);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        debug_assert!(self.base <= self.body.len());
        let mut members = [const { None }; N];
        let mut is_empty = true;
        while let Some(key) = map.next_key_seed(NameSeed { names: self.names })? {
            is_empty = false;
            match key {
                Name::Ungoverned(name) => match &mut self.ungoverned {
                    Some(ungoverned) => {
                        let value = map.next_value::<&RawValue>()?.get();
                        ungoverned.push(Ungoverned { name, value });
                    }
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
                Name::Disguised(name) => {
                    *self.fault = Some(Fault::Disguised(name));
                    return Err(A::Error::custom(""));
                }
                Name::Governed(at, name) => {
                    let value = map.next_value::<&RawValue>()?.get();
                    let (start, name_start) = (offset(self.body, value), offset(self.body, name));
                    if let Some(slot) = members.get_mut(at)
                        && slot.replace(Member { value, start, name_start }).is_some()
                    {
                        *self.fault = Some(Fault::Duplicate(self.names.at(at)));
                        return Err(A::Error::custom(""));
                    }
                }
            }
        }
        Ok((is_empty, members))
    }
}

enum Name<'a> {
    Governed(usize, &'a str),
    Disguised(&'static str),
    Ungoverned(Cow<'a, str>),
}

struct NameSeed<const N: usize> {
    names: &'static Names<N>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for NameSeed<N> {
    type Value = Name<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for NameSeed<N> {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    /// A name without escapes.
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
        Ok(match self.names.find(text) {
            Found::Plain(at) => Name::Governed(at, text),
            Found::Disguised(at) => Name::Disguised(self.names.at(at)),
            Found::Nothing => Name::Ungoverned(Cow::Borrowed(text)),
        })
    }

    /// A name that had escapes, now without.
    fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
        Ok(match self.names.find(text) {
            Found::Plain(at) | Found::Disguised(at) => Name::Disguised(self.names.at(at)),
            Found::Nothing => Name::Ungoverned(Cow::Owned(text.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    static NAMES: Names<2> = Names::new(["max_tokens", "model"]);

    fn values(body: &str) -> Result<[Option<&str>; 2], Fault> {
        find(body, body, &NAMES).map(|object| object.members.map(|member| member.map(|member| member.value)))
    }

    #[track_caller]
    fn check(body: &str, expected: Result<[Option<&str>; 2], Fault>) {
        assert_eq!(values(body), expected, "{body}");
    }

    #[track_caller]
    fn check_syntax(body: &[u8], expected: &str) {
        let found = text(body).and_then(values);
        assert_eq!(found, Err(Fault::Syntax(expected.to_owned())));
    }

    #[test]
    fn governed_members_are_found_at_the_top_only() {
        check("{}", Ok([None, None]));
        check(r#" {"model": "m" , "x":{"max_tokens":1,"model":2}} "#, Ok([None, Some("\"m\"")]));
        check(r#"{"x":[{"model":1}],"max_tokens":12}"#, Ok([Some("12"), None]));
        check(r#"{"model":{"a":[1, 2]}}"#, Ok([None, Some(r#"{"a":[1, 2]}"#)]));
    }

    #[test]
    fn what_two_readers_may_read_differently_is_refused() {
        check(r#"{"model":1,"model":1}"#, Err(Fault::Duplicate("model")));
        check(r#"{"m\u006fdel":1}"#, Err(Fault::Disguised("model")));
        check(r#"{"Max_Tokens":1}"#, Err(Fault::Disguised("max_tokens")));
        check("[]", Err(Fault::NotAnObject));
        check("12", Err(Fault::NotAnObject));
    }

    #[test]
    fn what_is_not_json_is_refused_with_the_place() {
        check_syntax(br#"{"model":"m"} x"#, "trailing characters at line 1 column 15");
        check_syntax(br#"{"model":"m""#, "EOF while parsing an object at line 1 column 12");
        check_syntax(b"", "EOF while parsing a value at line 1 column 0");
        check_syntax(b"{\"x\":\"\xff\"}", "invalid UTF-8 at byte 6");
        check_syntax(b"nope", "expected ident at line 1 column 2");
        check_syntax(br#"{"x":01}"#, "invalid number at line 1 column 7");
    }

    fn edited(body: &str, edit: impl FnOnce(&mut Edits, &Object<'_, 2>)) -> String {
        let object = find(body, body, &NAMES).unwrap();
        let mut edits = Edits::default();
        edit(&mut edits, &object);
        let Some(patch) = edits.patch(body.as_bytes()) else { return body.to_owned() };
        let mut bytes = patch.bytes.clone();
        bytes.extend_from_slice(&body.as_bytes()[patch.replaced..]);
        assert_eq!(bytes.len(), patch.patched_len(body.len()));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_edit_changes_its_value_and_no_other_byte() {
        let body = r#"{ "model":"m", "max_tokens" : 12 , "x":"é" }"#;
        let after = edited(body, |edits, object| {
            edits.replace(object.members[0].as_ref().unwrap(), "7".to_owned());
            edits.replace(object.members[1].as_ref().unwrap(), "\"other\"".to_owned());
        });
        assert_eq!(after, r#"{ "model":"other", "max_tokens" : 7 , "x":"é" }"#);
    }

    #[test]
    fn a_renamed_member_keeps_its_place_and_its_value() {
        let body = r#"{ "model" : "m","max_tokens" : 12}"#;
        let after = edited(body, |edits, object| {
            let member = object.members[0].as_ref().unwrap();
            edits.replace(member, "7".to_owned());
            edits.rename(member, "max_tokens", "max_completion_tokens");
            edits.replace(member, "8".to_owned());
        });
        assert_eq!(after, r#"{ "model" : "m","max_completion_tokens" : 8}"#);
    }

    #[test]
    fn insertions_leave_valid_json_in_an_empty_object_too() {
        for body in ["{}", " { } ", r#"{"x":1}"#] {
            let after = edited(body, |edits, object| {
                edits.insert(object, "max_tokens", "1");
                edits.insert(object, "model", "\"m\"");
            });
            let value: Value = serde_json::from_str(&after).unwrap();
            assert_eq!((&value["max_tokens"], &value["model"]), (&json!(1), &json!("m")), "{after}");
        }
    }

    #[test]
    fn no_edit_is_no_patch() {
        assert_eq!(Edits::default().patch(b"{}"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The naive model: parse to a `Value`, set the member, compare.
        #[test]
        fn edits_do_what_they_would_do_to_a_value(
            text in "\\PC*", before in any::<bool>(), number in any::<u32>(), present in any::<bool>(),
        ) {
            let other = json!({ "k": [text.clone(), { "max_tokens": 0 }] }).to_string();
            let member = "\"max_tokens\" : 5";
            let parts = match (present, before) {
                (true, true) => format!("{{{member},\"o\":{other}}}"),
                (true, false) => format!("{{\"o\":{other},{member}}}"),
                (false, _) => format!("{{\"o\":{other}}}"),
            };
            let after = edited(&parts, |edits, object| match object.members[0].as_ref() {
                Some(member) => edits.replace(member, number.to_string()),
                None => edits.insert(object, "max_tokens", &number.to_string()),
            });
            let mut expected: Value = serde_json::from_str(&parts).unwrap();
            expected["max_tokens"] = json!(number);
            prop_assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), expected);
        }
    }
}

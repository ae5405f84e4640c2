//! How much may a request of Anthropic's API think, of what it may produce?
//!
//! `thinking.budget_tokens` is part of `max_tokens` and must be less: whoever lowers the one has to look at the other.
//! <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>

use super::{Field, Request, string};
use crate::denial::{Ambiguity, Denial};
use crate::json::{self, Fault, Member, Names};
use std::borrow::Cow;

/// The least that the API takes.
pub const BUDGET_TOKENS_MIN: u32 = 1024;

/// Where it stands.
pub const BUDGET: &str = "thinking.budget_tokens";

static BUDGET_TOKENS: Names<1> = Names::new(["budget_tokens"]);
static TYPE: Names<1> = Names::new(["type"]);
static USER_ID: Names<1> = Names::new(["user_id"]);

/// What may be thought.
#[derive(Clone, Debug)]
pub struct Budget<'a> {
    /// So many tokens.
    pub tokens: u32,
    member: Member<'a>,
}

impl<'a> Request<'a> {
    /// The budget, if there is one.
    pub fn thinking_budget(&self) -> Result<Option<Budget<'a>>, Denial> {
        let Some(thinking) = self.raw(Field::Thinking).filter(|thinking| thinking.starts_with('{')) else {
            return Ok(None);
        };
        let object = json::find(self.body, thinking, &BUDGET_TOKENS).map_err(|fault| match fault {
            Fault::Duplicate(_) => Denial::AmbiguousField { field: BUDGET, problem: Ambiguity::Duplicate },
            Fault::Disguised(_) => Denial::AmbiguousField { field: BUDGET, problem: Ambiguity::Disguised },
            other => other.into(),
        })?;
        let [member] = object.members;
        let Some(member) = member.filter(|member| member.value != "null") else { return Ok(None) };
        let digits = member.value;
        let expected = "a whole number up to 4294967295, written with digits only";
        let wrong = Denial::InvalidField { field: BUDGET, expected };
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let tokens = digits.parse().ok().filter(|_| is_plain).ok_or(wrong)?;
        Ok(Some(Budget { tokens, member }))
    }

    /// Whether the model is asked to think, of which it may show nothing.
    #[must_use]
    pub fn thinks(&self) -> bool {
        let Some(thinking) = self.raw(Field::Thinking) else { return false };
        // What cannot be read is the backend's to refuse.
        json::find(self.body, thinking, &TYPE).is_ok_and(|object| {
            let [kind] = object.members;
            kind.is_some_and(|kind| matches!(kind.value, "\"enabled\"" | "\"adaptive\""))
        })
    }

    /// Who asks, by the client's word: `metadata.user_id`.
    #[must_use]
    pub fn user_of_metadata(&self) -> Option<Cow<'a, str>> {
        let [user] = json::find(self.body, self.raw(Field::Metadata)?, &USER_ID).ok()?.members;
        string(user?.value, "").ok()
    }

    /// Writes a smaller one in its place.
    pub fn set_thinking_budget(&mut self, budget: &Budget<'_>, tokens: u32) {
        self.edits.splice(budget.member.span(), &tokens.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(body: &str, expected: Result<Option<u32>, &str>) {
        let request = Request::read(body.as_bytes()).unwrap();
        let found = request.thinking_budget().map(|budget| budget.map(|budget| budget.tokens));
        let found = found.map_err(|denial| String::from_utf8(denial.answer().body).unwrap());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{body}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{body}\n{found}"),
            (found, _) => panic!("{body}: {found:?}"),
        }
    }

    #[test]
    fn who_thinks_and_who_asks_is_read() {
        let read = |body: &'static str| Request::read(body.as_bytes()).unwrap();
        for (body, expected) in [
            ("{}", false),
            (r#"{"thinking":{"type":"disabled"}}"#, false),
            (r#"{"thinking":{"type":"adaptive","display":"omitted"}}"#, true),
            (r#"{"thinking":{"type":"enabled","budget_tokens":1024}}"#, true),
            (r#"{"thinking":"enabled"}"#, false),
        ] {
            assert_eq!(read(body).thinks(), expected, "{body}");
        }
        for (body, expected) in [
            ("{}", None),
            (r#"{"metadata":{"user_id":"ann"}}"#, Some("ann")),
            (r#"{"metadata":{"user_id":null}}"#, None),
            (r#"{"metadata":"x"}"#, None),
        ] {
            assert_eq!(read(body).user_of_metadata().as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_budget_is_read_where_it_stands() {
        check("{}", Ok(None));
        check(r#"{"thinking":null}"#, Ok(None));
        check(r#"{"thinking":{"type":"adaptive"}}"#, Ok(None));
        check(r#"{"thinking":true}"#, Ok(None));
        check(r#"{"thinking":{"budget_tokens":null}}"#, Ok(None));
        check(r#"{"thinking":{"type":"enabled","budget_tokens": 2048}}"#, Ok(Some(2048)));
        let number = "`thinking.budget_tokens` must be a whole number";
        for budget in ["\"9\"", "9.0", "-9", "1e3", "[9]", "4294967296"] {
            check(&format!(r#"{{"thinking":{{"budget_tokens":{budget}}}}}"#), Err(number));
        }
        check(r#"{"thinking":{"budget_tokens":1,"budget_tokens":9}}"#, Err("stands more than once"));
        check(r#"{"thinking":{"Budget_Tokens":1}}"#, Err("must be written plainly"));
    }
}

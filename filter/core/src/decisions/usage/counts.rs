//! What do a backend's counts come to?
//!
//! Each member is read by itself: what is no count is passed over and noted, and the others hold. Zeros never replace what
//! was counted. Not decided here: what is charged where nothing was.

use crate::tokens::Usage;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The counts of an answer, as far as they have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cached: u64,
    cache_write: u64,
    prompt_audio: u64,
    prompt_image: u64,
    reasoning: u64,
    completion_audio: u64,
    completion_image: u64,
    /// Cached and written tokens by names that some backends use for what the prompt does not count.
    beside: u64,
    /// The prompt is told without what was cached and written.
    excludes_cache: bool,
    is_odd: bool,
}

/// What the counts come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The tokens, with `prompt` for all of them if only the total was told.
    pub usage: Usage,
    /// Only the total was told.
    pub is_total_only: bool,
    /// What was produced is to be told later, and was not.
    pub is_unfinished: bool,
    /// A member was no count, or more than the whole it is part of.
    pub is_odd: bool,
}

/// What a member says.
enum Count {
    /// Nothing: it is null.
    Absent,
    Sound(u64),
    Odd,
}

impl Count {
    /// Reads a number as backends write it: some have a fraction, some stand in quotes.
    fn read(json: &str) -> Self {
        let text = json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(json).trim();
        if json == "null" {
            return Self::Absent;
        }
        // What Rust reads besides as a float is no number of JSON.
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return Self::Odd;
        }
        match (text.parse::<u64>(), text.parse::<f64>()) {
            (Ok(count), _) => Self::Sound(count),
            // From a float that is too large comes the largest integer.
            (_, Ok(count)) => Self::Sound(count.round() as u64),
            _ => Self::Odd,
        }
    }
}

/// Of two words for one thing, the greater.
fn raise(to: &mut Option<u64>, count: u64) {
    *to = Some(to.unwrap_or(0).max(count));
}

impl Counts {
    /// Reads a usage object; `None` if it cannot be read at all.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let mut counts = serde_json::from_slice::<Self>(json).ok()?;
        // They are part of the prompt unless they are more than it.
        if counts.total.is_none() && counts.beside > counts.prompt.unwrap_or(0) {
            counts.prompt = Some(counts.prompt.unwrap_or(0).saturating_add(counts.beside));
        }
        Some(counts)
    }

    /// The same in Anthropic's API, where what was cached or written is never part of the prompt.
    /// <https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance>
    pub(super) fn read_of_anthropic(json: &[u8]) -> Option<Self> {
        Some(Self { excludes_cache: true, ..serde_json::from_slice::<Self>(json).ok()? })
    }

    /// What was told before anything was produced says nothing of that, though Anthropic's first event has a number there.
    pub(super) fn before_production(self) -> Self {
        Self { completion: None, reasoning: 0, ..self }
    }

    fn take(&mut self, name: &str, json: &str) {
        match name {
            "prompt_tokens_details" | "input_tokens_details" | "input_token_details" => {
                return self.details(json, Self::take_of_prompt);
            }
            "completion_tokens_details" | "output_tokens_details" | "output_token_details" => {
                return self.details(json, Self::take_of_completion);
            }
            _ => {}
        }
        self.put(
            json,
            match name {
                "prompt_tokens" | "input_tokens" => |counts, count| raise(&mut counts.prompt, count),
                "completion_tokens" | "output_tokens" => |counts, count| raise(&mut counts.completion, count),
                "total_tokens" => |counts, count| counts.total = Some(count),
                // DeepSeek's word, and Moonshot's. <https://api-docs.deepseek.com/guides/kv_cache>
                "prompt_cache_hit_tokens" | "cached_tokens" => {
                    |counts, count| counts.cached = counts.cached.max(count)
                }
                // Anthropic's words, which proxies keep.
                // <https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance>
                "cache_read_input_tokens" => |counts, count| {
                    counts.cached = counts.cached.max(count);
                    counts.beside = counts.beside.saturating_add(count);
                },
                "cache_creation_input_tokens" => |counts, count| {
                    counts.cache_write = counts.cache_write.max(count);
                    counts.beside = counts.beside.saturating_add(count);
                },
                "cache_write_tokens" => |counts, count| counts.cache_write = counts.cache_write.max(count),
                "reasoning_tokens" => |counts, count| counts.reasoning = counts.reasoning.max(count),
                _ => return,
            },
        );
    }

    fn take_of_prompt(&mut self, name: &str, json: &str) {
        self.put(
            json,
            match name {
                "cached_tokens" | "cache_read_tokens" => {
                    |counts, count| counts.cached = counts.cached.max(count)
                }
                "cache_write_tokens" | "cache_creation_tokens" => {
                    |counts, count| counts.cache_write = counts.cache_write.max(count)
                }
                "audio_tokens" => |counts, count| counts.prompt_audio = count,
                "image_tokens" => |counts, count| counts.prompt_image = count,
                _ => return,
            },
        );
    }

    fn take_of_completion(&mut self, name: &str, json: &str) {
        self.put(
            json,
            match name {
                "reasoning_tokens" | "thinking_tokens" => {
                    |counts, count| counts.reasoning = counts.reasoning.max(count)
                }
                "audio_tokens" => |counts, count| counts.completion_audio = count,
                "image_tokens" => |counts, count| counts.completion_image = count,
                _ => return,
            },
        );
    }

    fn put(&mut self, json: &str, put: fn(&mut Self, u64)) {
        match Count::read(json) {
            Count::Sound(count) => put(self, count),
            Count::Absent => {}
            Count::Odd => self.is_odd = true,
        }
    }

    fn details(&mut self, json: &str, take: fn(&mut Self, &str, &str)) {
        let mut members = Members { counts: self, take };
        let read = serde_json::Deserializer::from_str(json).deserialize_any(&mut members);
        self.is_odd |= json != "null" && read.is_err();
    }

    /// Takes a later usage object: each of its counts that is not zero holds from here on.
    pub(super) fn merge(&mut self, later: Self) {
        let whole = |to: &mut Option<u64>, later: Option<u64>| {
            *to = later.filter(|count| *count > 0).or(*to).or(later);
        };
        let part = |to: &mut u64, later: u64| {
            if later > 0 {
                *to = later;
            }
        };
        // A total belongs to what was told with it.
        if [later.prompt, later.completion].into_iter().flatten().any(|count| count > 0) {
            self.total = None;
        }
        whole(&mut self.prompt, later.prompt);
        whole(&mut self.completion, later.completion);
        whole(&mut self.total, later.total);
        part(&mut self.cached, later.cached);
        part(&mut self.cache_write, later.cache_write);
        part(&mut self.prompt_audio, later.prompt_audio);
        part(&mut self.prompt_image, later.prompt_image);
        part(&mut self.reasoning, later.reasoning);
        part(&mut self.completion_audio, later.completion_audio);
        part(&mut self.completion_image, later.completion_image);
        self.excludes_cache |= later.excludes_cache;
        self.is_odd |= later.is_odd;
    }

    /// What they come to; `None` if no whole was told.
    pub(super) fn reported(&self) -> Option<Reported> {
        let beside = if self.excludes_cache { self.cached.saturating_add(self.cache_write) } else { 0 };
        let whole = self.prompt.map(|prompt| prompt.saturating_add(beside));
        let (prompt, told, total) = match (whole, self.completion, self.total) {
            (None, None, None) => return None,
            (None, Some(completion), Some(total)) => (total.saturating_sub(completion), completion, total),
            (None, None, Some(total)) => (total, 0, total),
            (prompt, completion, total) => (prompt.unwrap_or(0), completion.unwrap_or(0), total.unwrap_or(0)),
        };
        // What the total has beyond both was produced unseen: Gemini and Grok count what they thought nowhere else.
        // <https://docs.x.ai/docs/guides/reasoning>
        let unseen = total.saturating_sub(prompt.saturating_add(told));
        let completion = told.saturating_add(unseen);
        let mut usage = Usage {
            prompt,
            cached: self.cached,
            cache_write: self.cache_write,
            prompt_audio: self.prompt_audio,
            prompt_image: self.prompt_image,
            completion,
            // Of an embedding, too, a total has no more than the prompt.
            reasoning: self.reasoning.max(if told > 0 { unseen } else { 0 }),
            completion_audio: self.completion_audio,
            completion_image: self.completion_image,
        };
        let is_cut = usage.cut_to_whole();
        Some(Reported {
            usage,
            is_total_only: self.prompt.is_none() && self.completion.is_none(),
            is_unfinished: self.excludes_cache && self.completion.is_none(),
            is_odd: self.is_odd || is_cut,
        })
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut counts = Self::default();
        deserializer.deserialize_map(&mut Members { counts: &mut counts, take: Self::take })?;
        Ok(counts)
    }
}

/// Goes through an object, member by member, though a name stands twice.
struct Members<'c> {
    counts: &'c mut Counts,
    take: fn(&mut Counts, &str, &str),
}

impl<'de> Visitor<'de> for &mut Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some((Name(name), value)) = members.next_entry::<Name<'de>, &'de RawValue>()? {
            (self.take)(self.counts, &name, value.get());
        }
        Ok(())
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn of(usages: &[&str]) -> Option<Reported> {
        let mut counts = Counts::default();
        for usage in usages {
            counts.merge(Counts::read(usage.as_bytes())?);
        }
        counts.reported()
    }

    #[track_caller]
    fn check(usage: &str, expected: Usage, is_odd: bool) {
        let is_total_only = false;
        assert_eq!(
            of(&[usage]),
            Some(Reported { usage: expected, is_total_only, is_unfinished: false, is_odd }),
            "{usage}"
        );
    }

    fn both(prompt: u64, completion: u64) -> Usage {
        Usage { prompt, completion, ..Usage::default() }
    }

    #[test]
    fn counts_are_read_however_they_are_written() {
        check(r#"{"prompt_tokens":11.0,"completion_tokens":7.0}"#, both(11, 7), false);
        check(
            r#"{"input_tokens":12,"output_tokens":14417.92,"total_tokens":14429.92}"#,
            both(12, 14418),
            false,
        );
        check(r#"{"prompt_tokens":"11","completion_tokens":"7.0"}"#, both(11, 7), false);
        check(r#"{"prompt_tokens":1e2,"completion_tokens":1e13}"#, both(100, 10_000_000_000_000), false);
        check(r#"{"prompt_tokens":11,"completion_tokens":1e400}"#, both(11, u64::MAX), false);
        check(r#"{"prompt_tokens":11,"prompt_tokens":7}"#, both(11, 0), false);
        check(
            r#"{"prompt_tokens":0,"input_tokens":5,"output_tokens":6,"completion_tokens":0}"#,
            both(5, 6),
            false,
        );
        check(
            r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":null,"cost":[0.1,{}]}"#,
            both(11, 7),
            false,
        );
    }

    #[test]
    fn one_odd_member_spoils_no_other() {
        for odd in [r#""x""#, "-1", "true", "[1]", "{}", r#""""#, r#""NaN""#] {
            check(&format!(r#"{{"prompt_tokens":11,"completion_tokens":{odd}}}"#), both(11, 0), true);
            check(
                &format!(
                    r#"{{"prompt_tokens":11,"completion_tokens":7,"prompt_tokens_details":{{"cached_tokens":{odd},"audio_tokens":3}}}}"#
                ),
                Usage { prompt_audio: 3, ..both(11, 7) },
                true,
            );
        }
        for odd in ["7", "[]", r#""x""#] {
            check(&format!(r#"{{"prompt_tokens":11,"prompt_tokens_details":{odd}}}"#), both(11, 0), true);
        }
        check(r#"{"prompt_tokens":11,"prompt_tokens_details":null,"note":-1}"#, both(11, 0), false);
    }

    #[test]
    fn a_part_is_never_more_than_its_whole() {
        let usage = r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":8,"cache_write_tokens":9},"completion_tokens_details":{"reasoning_tokens":6}}"#;
        check(usage, Usage { cached: 8, cache_write: 2, reasoning: 5, ..both(10, 5) }, true);
    }

    #[test]
    fn every_word_for_the_cache_is_known() {
        let cached = |cached, cache_write| Usage { cached, cache_write, ..both(100, 10) };
        let with = |members: &str| format!(r#"{{"prompt_tokens":100,"completion_tokens":10,{members}}}"#);
        check(&with(r#""prompt_cache_hit_tokens":80,"prompt_cache_miss_tokens":20"#), cached(80, 0), false);
        check(&with(r#""cached_tokens":80"#), cached(80, 0), false);
        check(
            &with(r#""cache_read_input_tokens":60,"cache_creation_input_tokens":30"#),
            cached(60, 30),
            false,
        );
        check(
            &with(r#""prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":30}"#),
            cached(60, 30),
            false,
        );
        check(&with(r#""prompt_tokens_details":{"cache_creation_tokens":30}"#), cached(0, 30), false);
        // Anthropic's own count of what was sent has neither what was read nor what was written.
        let beside = r#"{"input_tokens":3,"cache_read_input_tokens":2000,"cache_creation_input_tokens":100,"output_tokens":7}"#;
        check(beside, Usage { cached: 2000, cache_write: 100, ..both(2103, 7) }, false);
    }

    #[test]
    fn what_only_the_total_has_was_produced_unseen() {
        check(
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115}"#,
            Usage { reasoning: 100, ..both(10, 105) },
            false,
        );
        check(
            r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}"#,
            Usage { reasoning: 94, ..both(32, 103) },
            false,
        );
        check(r#"{"prompt_tokens":10,"total_tokens":30}"#, both(10, 20), false);
        check(r#"{"completion_tokens":10,"total_tokens":30}"#, both(20, 10), false);
        check(r#"{"prompt_tokens":8,"completion_tokens":7,"total_tokens":8}"#, both(8, 7), false);
        let only = Reported { usage: both(8, 0), is_total_only: true, is_unfinished: false, is_odd: false };
        assert_eq!(of(&[r#"{"total_tokens":8}"#]), Some(only));
        assert_eq!(of(&["{}"]), None);
        assert_eq!(of(&[r#"{"prompt_tokens":null}"#]), None);
        assert_eq!(of(&["[]"]), None);
    }

    #[test]
    fn of_several_usages_the_last_that_counted_holds() {
        let usages = |usages: &[&str]| of(usages).unwrap().usage;
        let (good, zeros) = (
            r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}"#,
            r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#,
        );
        assert_eq!(usages(&[good, zeros]), both(11, 7));
        assert_eq!(usages(&[zeros, good]), both(11, 7));
        assert_eq!(usages(&[zeros]), both(0, 0));
        let rising = [1, 2, 3]
            .map(|n| format!(r#"{{"prompt_tokens":11,"completion_tokens":{n},"total_tokens":{}}}"#, 11 + n));
        assert_eq!(usages(&rising.each_ref().map(String::as_str)), both(11, 3));
        // A correction holds, and an older total says nothing about it.
        let high = r#"{"prompt_tokens":11,"completion_tokens":50,"total_tokens":61}"#;
        assert_eq!(usages(&[high, r#"{"prompt_tokens":11,"completion_tokens":7}"#]), both(11, 7));
        // One tells what was sent, the other what was produced.
        assert_eq!(
            usages(&[r#"{"input_tokens":11,"output_tokens":1}"#, r#"{"output_tokens":7}"#]),
            both(11, 7)
        );
    }
}

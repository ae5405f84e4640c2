//! What an answer says of itself at its top, found as it streams by, and how much text it produced.
//!
//! One pass in constant memory. A whole parse would find the same; what is broken behind a member does not undo it.

use super::counts::Counts;
use super::texts::{Name, Texts};
use super::{ID_BYTES_MAX, USAGE_BYTES_MAX, WORD_BYTES_MAX};
use crate::endpoint::Api;
use crate::prices::DEFAULT_TIER;
use serde::Deserialize;

/// What an answer, or one event of it, says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) counts: Counts,
    /// A usage object was too long, or broken.
    pub(super) is_unreadable: bool,
    /// The last usage object at the top, as it stands.
    pub(super) usage_text: Option<Vec<u8>>,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
    pub(super) status: Option<String>,
    pub(super) service_tier: Option<String>,
    pub(super) object: Option<String>,
    /// Of a batch, how many of its requests came to an answer.
    pub(super) answered_requests: Option<u64>,
    /// It is about a response, which it has.
    pub(super) has_response: bool,
    /// There is an error.
    pub(super) has_error: bool,
    /// There is a choice.
    pub(super) has_choice: bool,
    /// A choice ended by an error.
    pub(super) has_broken_choice: bool,
    pub(super) texts: Texts,
}

/// Reads a JSON object that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct JsonScanner {
    texts: &'static [Name],
    /// Texts count at the top only: what is below tells them again.
    texts_at_top: bool,
    /// Whose API it is an answer of.
    api: Api,
    depth: u32,
    /// The object has ended: what follows is no part of it.
    has_ended: bool,
    /// What we are in, below the top.
    within: Within,
    text: Text,
    /// The string that was just read, as far as it could still be a name we look for.
    name: Vec<u8>,
    /// The member whose value comes next.
    next: Option<Member>,
    /// The value that is being read.
    value: Option<Value>,
    /// The string that is being read is produced text.
    counts: Option<super::texts::Text>,
    facts: Facts,
}

#[derive(Debug)]
struct Value {
    member: Member,
    /// How deep it stands.
    depth: u32,
    bytes: Vec<u8>,
}

/// Whether we are inside a string.
#[derive(Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// Behind a backslash.
    Escape,
}

/// What at the top holds what is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Other,
    /// The response of an event.
    Response,
    /// What Groq adds.
    XGroq,
    Choices,
}

/// A member that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Usage,
    Model,
    Id,
    Status,
    ServiceTier,
    Object,
    /// How a batch's requests stand.
    RequestCounts,
    Error,
    FinishReason,
    /// It is gone into.
    Holder(Within),
    /// Its string is not kept, only measured.
    ProducedText(super::texts::Text),
}

impl Member {
    const fn is_word(self) -> bool {
        matches!(
            self,
            Self::Model
                | Self::Id
                | Self::Status
                | Self::ServiceTier
                | Self::Object
                | Self::Error
                | Self::FinishReason
        )
    }
}

/// The length of the longest name that is looked for.
const NAME_BYTES: usize = 17;

const fn is_structure(byte: &u8) -> bool {
    matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b':' | b',')
}

impl JsonScanner {
    /// A scanner for answers whose text stands under these names.
    pub(super) fn new(texts: &'static [Name], texts_at_top: bool, api: Api) -> Self {
        Self { texts, texts_at_top, api, ..Self::default() }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty() && !self.has_ended) {
            let step = match self.text {
                // An escaped byte is skipped whatever it is.
                Text::Escape => Some(0),
                Text::Inside => memchr::memchr2(b'"', b'\\', rest),
                Text::Outside => rest.iter().position(is_structure),
            };
            let skipped = step.unwrap_or(rest.len());
            self.keep(rest.get(..skipped).unwrap_or_default());
            at += skipped;
            if let Some(byte) = chunk.get(at).filter(|_| step.is_some()) {
                self.byte(*byte);
                at += 1;
            }
        }
    }

    /// What has been found so far.
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn into_facts(self) -> Facts {
        self.facts
    }

    /// Whether the object has come to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn named(&self) -> Option<Member> {
        let is_at_top = self.depth == 1;
        let found = match (&*self.name, self.depth, self.within) {
            (b"response", 1, _) => Some(Member::Holder(Within::Response)),
            // The first event of a stream has the message that it begins.
            (b"message", 1, _) if self.api == Api::Anthropic => Some(Member::Holder(Within::Response)),
            (b"x_groq", 1, _) => Some(Member::Holder(Within::XGroq)),
            (b"choices", 1, _) => Some(Member::Holder(Within::Choices)),
            (b"request_counts", 1, _) => Some(Member::RequestCounts),
            (b"object", 1, _) | (b"object", 2, Within::Response) => Some(Member::Object),
            // Moonshot tells the usage of a stream in its choice.
            // <https://platform.moonshot.ai/docs/guide/utilize-the-streaming-output-feature-of-kimi-api>
            (b"usage", 1, _)
            | (b"usage", 2, Within::Response | Within::XGroq)
            | (b"usage", 3, Within::Choices) => Some(Member::Usage),
            (b"finish_reason", 3, Within::Choices) => Some(Member::FinishReason),
            (name, 1, _) | (name, 2, Within::Response) => match name {
                b"model" => Some(Member::Model),
                b"id" => Some(Member::Id),
                b"status" => Some(Member::Status),
                b"service_tier" => Some(Member::ServiceTier),
                b"error" => Some(Member::Error),
                _ => None,
            },
            _ => None,
        };
        found.or_else(|| {
            let is_text = |name: &&Name| name.0.as_bytes() == self.name;
            let texts = self.texts.iter().filter(|_| is_at_top || !self.texts_at_top);
            texts.clone().find(is_text).map(|(_, text)| Member::ProducedText(*text))
        })
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(text) = self.counts {
            self.facts.texts.add(text, bytes.len() as u64);
        } else if let Some(Value { member, bytes: value, .. }) = &mut self.value {
            let bytes_max = match member {
                Member::Usage => USAGE_BYTES_MAX,
                Member::Id => ID_BYTES_MAX,
                _ => WORD_BYTES_MAX,
            };
            if value.len().saturating_add(bytes.len()) > bytes_max {
                self.facts.is_unreadable |= *member == Member::Usage;
                self.facts.has_error |= *member == Member::Error;
                self.value = None;
            } else {
                value.extend_from_slice(bytes);
            }
        } else if self.text != Text::Outside && self.name.len() <= NAME_BYTES {
            self.name.extend_from_slice(bytes.get(..=NAME_BYTES).unwrap_or(bytes));
        }
    }

    fn byte(&mut self, byte: u8) {
        match (&self.text, byte) {
            (Text::Escape, _) => {
                self.text = Text::Inside;
                self.keep(&[byte]);
            }
            (Text::Inside, b'\\') => {
                self.text = Text::Escape;
                self.keep(b"\\");
            }
            (Text::Inside, b'"') => {
                self.text = Text::Outside;
                if self.counts.take().is_some() {
                    return;
                }
                match self.value.take_if(|value| value.member.is_word()) {
                    Some(value) => self.word(value),
                    None => self.keep_value(byte),
                }
            }
            (Text::Inside, _) => self.keep(&[byte]),
            (Text::Outside, b'"') => {
                self.keep_value(byte);
                if self.value.is_none() {
                    self.name.clear();
                    match self.next.take() {
                        Some(Member::ProducedText(text)) => self.counts = Some(text),
                        Some(member) if member.is_word() => self.begin(member),
                        _ => {}
                    }
                }
                self.text = Text::Inside;
            }
            (Text::Outside, b':') if self.value.is_none() => self.next = self.named(),
            (Text::Outside, b'{' | b'[') => self.open(byte),
            (Text::Outside, b'}' | b']') => self.close(byte),
            (Text::Outside, _) => {
                if byte == b',' {
                    self.next = None;
                }
                self.keep_value(byte);
            }
        }
    }

    fn begin(&mut self, member: Member) {
        self.value = Some(Value { member, depth: self.depth, bytes: Vec::new() });
    }

    fn open(&mut self, byte: u8) {
        // Only an object has members.
        if self.depth == 0 && byte == b'[' {
            self.has_ended = true;
        }
        if self.value.is_none() {
            self.facts.has_choice |= self.depth == 2 && self.within == Within::Choices;
            match self.next.take() {
                Some(member @ (Member::Usage | Member::RequestCounts)) if byte == b'{' => self.begin(member),
                Some(Member::Error) if byte == b'{' => self.facts.has_error = true,
                Some(Member::Holder(within)) => {
                    self.within = within;
                    self.facts.has_response |= within == Within::Response && byte == b'{';
                }
                _ if self.depth == 1 => self.within = Within::Other,
                _ => {}
            }
        }
        self.depth = self.depth.saturating_add(1);
        self.keep_value(byte);
    }

    fn close(&mut self, byte: u8) {
        self.depth = self.depth.saturating_sub(1);
        self.keep_value(byte);
        let ended = self.value.take_if(|value| value.depth == self.depth);
        if let Some(Value { member: Member::RequestCounts, bytes, .. }) = &ended {
            self.facts.answered_requests = answered_requests(bytes);
        } else if let Some(Value { depth, bytes, .. }) = ended {
            let counts = match self.api {
                Api::OpenAi => Counts::read(&bytes),
                Api::Anthropic if depth == 1 => Counts::read_of_anthropic(&bytes),
                Api::Anthropic => Counts::read_of_anthropic(&bytes).map(Counts::before_production),
            };
            if self.api == Api::Anthropic
                && let Some(tier) = tier_of_anthropic(&bytes)
            {
                self.facts.service_tier = Some(tier);
            }
            match counts {
                Some(counts) => self.facts.counts.merge(counts),
                None => self.facts.is_unreadable = true,
            }
            if depth == 1 {
                self.facts.usage_text = Some(bytes);
            }
        }
        match self.depth {
            0 => self.has_ended = true,
            1 => self.within = Within::Other,
            _ => {}
        }
        self.next = None;
    }

    /// Takes a whole string. What is empty says nothing: Azure's first event names no model.
    fn word(&mut self, Value { member, bytes, .. }: Value) {
        let Some(word) = String::from_utf8(bytes).ok().filter(|word| !word.is_empty()) else { return };
        let facts = &mut self.facts;
        match member {
            Member::Model => facts.model = Some(word),
            Member::Id => facts.id = Some(word),
            Member::Status => facts.status = Some(word),
            Member::ServiceTier => facts.service_tier = Some(word),
            Member::Object => facts.object = Some(word),
            Member::Error => facts.has_error = true,
            Member::FinishReason => facts.has_broken_choice |= word == "error",
            _ => {}
        }
    }

    fn keep_value(&mut self, byte: u8) {
        if self.value.is_some() {
            self.keep(&[byte]);
        }
    }
}

/// <https://platform.openai.com/docs/api-reference/batch/object#batch/object-request_counts>
fn answered_requests(counts: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Told {
        completed: u64,
    }
    Some(serde_json::from_slice::<Told>(counts).ok()?.completed)
}

/// The tier that served, which Anthropic tells with the tokens, in the words that prices have.
/// <https://platform.claude.com/docs/en/api/service-tiers>
fn tier_of_anthropic(usage: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        service_tier: Option<String>,
    }
    match serde_json::from_slice::<Told>(usage).ok()?.service_tier?.as_str() {
        "standard" => Some(DEFAULT_TIER.to_owned()),
        other => Some(other.to_owned()),
    }
}

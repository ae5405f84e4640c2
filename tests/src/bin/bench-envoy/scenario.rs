//! What is asked, and what is answered? The same for every Envoy.

use clap::ValueEnum;
use serde_json::{Value, json};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 2 KB of chat, answered with JSON.
    #[value(name = "2kb")]
    Small,
    /// 64 KB of chat, answered with JSON.
    #[value(name = "64kb")]
    Large,
    /// 2 KB of chat, answered with a stream of 100 events, 1 ms or more apart.
    #[value(name = "stream")]
    Stream,
}

/// The deployment that the path names. In Azure's style, so that the backend answers all Envoys in the same shape: what
/// it writes to a client of OpenAI's style is shorter.
pub(crate) const PATH: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";

/// Of a stream, the first two, the finish and `[DONE]`: events that are no token.
const EVENTS_BESIDES_TOKENS: usize = 4;

impl Scenario {
    pub(crate) const ALL: [Self; 3] = [Self::Small, Self::Large, Self::Stream];

    /// As the command line has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Small => "2kb",
            Self::Large => "64kb",
            Self::Stream => "stream",
        }
    }

    /// For the reader.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Small => "2 KB request, JSON answer",
            Self::Large => "64 KB request, JSON answer",
            Self::Stream => "2 KB request, stream of 100 events, 1 ms or more apart",
        }
    }

    /// Enough to keep a worker busy; streams wait most of their time.
    pub(crate) const fn connections(self) -> usize {
        match self {
            Self::Small | Self::Large => 16,
            Self::Stream => 64,
        }
    }

    /// Events that the client is to see; `None` where the answer is no stream.
    pub(crate) const fn events(self) -> Option<usize> {
        match self {
            Self::Small | Self::Large => None,
            Self::Stream => Some(100),
        }
    }

    /// Tokens in an answer: of a JSON answer, as many as make 2 KB.
    pub(crate) const fn completion_tokens(self) -> usize {
        match self.events() {
            Some(events) => events - EVENTS_BESIDES_TOKENS,
            None => 200,
        }
    }

    /// The settings of the mock.
    pub(crate) fn mock(self) -> Value {
        // One event at a time, as a model produces them: in a burst, Envoy would see many in one read.
        let chunk_delay_ms = u8::from(self.events().is_some());
        json!({ "completion_tokens": self.completion_tokens(), "chunk_delay_ms": chunk_delay_ms, "record": false })
    }

    /// The body, as the official Python SDK orders it: an edit of what follows the messages is the dearest.
    pub(crate) fn body(self) -> String {
        let bytes = match self {
            Self::Small | Self::Stream => 2 << 10,
            Self::Large => 64 << 10,
        };
        let stream = if self.events().is_some() { r#","stream":true"# } else { "" };
        let tail = format!(r#"],"model":"gpt-4o","max_tokens":4096{stream}}}"#);
        let mut body = r#"{"messages":[{"role":"system","content":"Answer in one sentence."}"#.to_owned();
        while body.len() + tail.len() < bytes {
            let message = json!({ "role": "user", "content": PROSE }).to_string();
            body.push(',');
            body.push_str(&message);
        }
        body + &tail
    }
}

/// About 500 bytes, with what JSON must escape and with letters outside ASCII.
const PROSE: &str = "The gateway counts what was asked for, and what came back. \"Why?\", asked the café's owner.\n\
    Because somebody pays for it: every token has its price, and every budget its end. A request that may not go on is \
    refused before it costs anything, and one that may is charged what the backend says it used, no more and no less. \
    What nobody said is estimated, and marked as such.\nSo much for the theory; in practice, a stream breaks off in the \
    middle, and someone has to decide.";

//! What can be set on a mock, at its start and while it runs.
//!
//! In JSON every field may be left out. A request is treated by the settings that stood when it arrived.

use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU64, NonZeroUsize};

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What limits are counted in.
pub(super) const MINUTE_MS: NonZeroU64 = NonZeroU64::new(60_000).unwrap();

/// How the mock behaves. The default answers at once, without limits, and records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The wait before anything is answered, refusals included.
    pub latency_ms: u64,
    /// The wait between two events of a stream.
    pub chunk_delay_ms: u64,
    /// How many tokens each choice of an answer wants to have; the request's own cap may allow fewer.
    pub completion_tokens: u32,
    /// How many of a choice's tokens are hidden reasoning, at most all of them. Not for legacy completions.
    pub reasoning_tokens: u32,
    /// How many tokens of a prompt are said to have come from the cache, at most all of them.
    pub cached_tokens: u32,
    /// Tokens per minute, over a sliding window, for the whole mock; see [`super::limiter`].
    pub tpm: Option<u32>,
    /// Requests per minute, likewise.
    pub rpm: Option<u32>,
    /// How long their window is; a shorter one holds as much less. A change of it or of a limit opens a new one.
    pub window_ms: NonZeroU64,
    /// The same for requests alone, which Azure counts over ten seconds where it counts tokens over a minute. None: as `window_ms`.
    pub requests_window_ms: Option<NonZeroU64>,
    /// Be a deployment with provisioned throughput: a request's cost is corrected when its answer ends, and answers tell
    /// the deployment's utilization, not what is left.
    pub provisioned: bool,
    /// The only key accepted, as `api-key` or as a Bearer token. None: nobody is asked.
    pub require_key: Option<String>,
    /// The only models (or deployments) there are. None: any name will do.
    pub models: Option<Vec<String>>,
    /// When answers are compressed.
    pub gzip: Gzip,
    /// Cut answers into writes of this many bytes, wherever in an event or a character that falls.
    pub cut_bytes: Option<NonZeroUsize>,
    /// Requests wait, before anything is answered, for a release that comes after their arrival.
    pub hold: bool,
    /// Streams wait after this many events (0: after the headers) for a release after their arrival; with `hold`,
    /// for the second one.
    pub hold_after_events: Option<usize>,
    /// Keep bodies, of requests and of answers. Switch it off for benchmarks.
    pub record: bool,
    /// What goes wrong, one entry after another.
    pub faults: VecDeque<Fault>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            chunk_delay_ms: 0,
            completion_tokens: 24,
            reasoning_tokens: 0,
            cached_tokens: 0,
            tpm: None,
            rpm: None,
            window_ms: MINUTE_MS,
            requests_window_ms: None,
            provisioned: false,
            require_key: None,
            models: None,
            gzip: Gzip::Never,
            cut_bytes: None,
            hold: false,
            hold_after_events: None,
            record: true,
            faults: VecDeque::new(),
        }
    }
}

impl Settings {
    /// These settings with the fields of a JSON object put in their place; the rest stays. `null` empties an
    /// optional field.
    ///
    /// # Errors
    /// A sentence for whoever wrote the JSON.
    pub fn patched(&self, patch: &[u8]) -> Result<Self, String> {
        let patch: serde_json::Map<String, Value> =
            serde_json::from_slice(patch).map_err(|error| format!("not a JSON object: {error}"))?;
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self) else {
            return Err("the present settings cannot be written as JSON".to_owned());
        };
        fields.extend(patch);
        let settings: Self =
            serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
        settings.faults.iter().try_for_each(Fault::check)?;
        Ok(settings)
    }

    /// The effect the next request meets, if any; it counts as met.
    pub(super) fn take_fault(&mut self) -> Option<Effect> {
        while let Some(fault) = self.faults.front_mut() {
            if fault.times == 0 {
                self.faults.pop_front();
                continue;
            }
            let effect = fault.effect.clone();
            if fault.times != Fault::ALWAYS {
                fault.times -= 1;
            }
            if fault.times == 0 {
                self.faults.pop_front();
            }
            return Some(effect);
        }
        None
    }
}

/// When an answer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gzip {
    /// Never.
    #[default]
    Never,
    /// If the request's `accept-encoding` allows it.
    Accepted,
    /// Always, as a server might that cares little for what it was asked.
    Always,
}

/// Something that goes wrong with the next so many requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub effect: Effect,
    /// With how many requests; [`Fault::ALWAYS`] stands for all there will ever be.
    #[serde(default = "once")]
    pub times: u32,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// The answer is this one.
    Answer {
        /// From 200 to 599.
        status: u16,
        /// More headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body; without one, an error object in Azure's shape.
        #[serde(default)]
        body: Option<Value>,
    },
    /// The connection is closed without an answer.
    Close,
    /// There is never an answer.
    Hang,
    /// The connection is closed after so many events of a stream (0: after the headers). An answer that is not a
    /// stream is closed in its middle.
    Reset {
        /// How many events get through; with more than there are, nothing goes wrong.
        after_events: usize,
    },
    /// From this request on, and for so long, everybody gets Azure's 429 that says how much longer to wait. Nothing
    /// ends it earlier but a change of the limits.
    Throttle {
        /// How long.
        for_ms: u64,
    },
}

impl Fault {
    /// A number of times that never runs out.
    pub const ALWAYS: u32 = u32::MAX;

    /// An answer with this status.
    #[must_use]
    pub fn answer(status: u16) -> Self {
        Self::once(Effect::Answer { status, headers: BTreeMap::new(), body: None })
    }

    /// A connection closed without an answer.
    #[must_use]
    pub fn close() -> Self {
        Self::once(Effect::Close)
    }

    /// A request that is never answered.
    #[must_use]
    pub fn hang() -> Self {
        Self::once(Effect::Hang)
    }

    /// A connection closed in the middle of the answer.
    #[must_use]
    pub fn reset_after(events: usize) -> Self {
        Self::once(Effect::Reset { after_events: events })
    }

    /// A 429 for everybody, for so long.
    #[must_use]
    pub fn throttle_ms(for_ms: u64) -> Self {
        Self::once(Effect::Throttle { for_ms })
    }

    /// The same, with one more header. Only an answer has headers: anything else stays as it is.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Effect::Answer { headers, .. } = &mut self.effect {
            headers.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// The same, with this body. Only an answer has one: anything else stays as it is.
    #[must_use]
    pub fn body(mut self, json: Value) -> Self {
        if let Effect::Answer { body, .. } = &mut self.effect {
            *body = Some(json);
        }
        self
    }

    /// The same, for so many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// The same, for all requests to come.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(Self::ALWAYS)
    }

    fn once(effect: Effect) -> Self {
        Self { effect, times: once() }
    }

    /// HTTP has opinions that the types here don't.
    fn check(&self) -> Result<(), String> {
        let Effect::Answer { status, headers, .. } = &self.effect else { return Ok(()) };
        if !(200..=599).contains(status) || StatusCode::from_u16(*status).is_err() {
            return Err(format!("faults: status {status}: expected 200 to 599"));
        }
        for (name, value) in headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                return Err(format!("faults: {name:?}: {value:?}: not an HTTP header"));
            }
        }
        Ok(())
    }
}

/// serde takes a function for a default.
const fn once() -> u32 {
    1
}

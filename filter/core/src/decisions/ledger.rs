//! What do we write down?
//!
//! One record per exchange, whatever happened; what it adds to the metrics, and the fields it leaves for the access log.
//! Not decided here: where they are written.

mod details;
mod metrics;
mod series;
mod words;

use crate::caller::Caller;
use crate::decision::PassedOver;
use crate::finding::Finding;
use crate::tokens::Usage;
use std::rc::Rc;
use std::time::Duration;

pub use details::RecordForm;
pub(crate) use series::NONE;
pub use series::{Kind, Series};
pub use words::{AtQueue, Cause, Outcome, Pin, Stored, Wait};

/// Where the number of tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The backend reported it, or nothing was billed.
    Reported,
    /// Nobody reported it.
    Estimated,
}

/// A name of the configuration, and the label value that stands for it.
///
/// They differ where there are more names than the configuration allows as label values: the rest share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As it stands in the configuration and in logs.
    pub text: Rc<str>,
    /// As it stands in metrics.
    pub label: Rc<str>,
}

impl Name {
    /// A name that is its own label.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text: Rc<str> = text.into();
        Self { label: text.clone(), text }
    }
}

/// One try at one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Which.
    pub backend: Rc<str>,
    /// What it answered; `None` if it did not.
    pub status: Option<u16>,
}

/// How an exchange waited for room at a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// How important it was.
    pub priority: &'static str,
    /// How that ended.
    pub wait: Wait,
    /// How long it took.
    pub time: Duration,
}

/// A request that was served by, or tried last at, a backend of a lower priority than where it would have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// Where it would have gone.
    pub from: Rc<str>,
    /// Where it went.
    pub to: Rc<str>,
    /// Why.
    pub cause: Cause,
}

/// Where an exchange was served, or tried last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The backend.
    pub backend: Rc<str>,
    /// What the model is called there.
    pub deployment: Rc<str>,
    /// Where that is.
    pub region: Option<Rc<str>>,
}

/// Who pays in the place of whoever asks: the one who made what an answer tells the end of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Who made it.
    pub client: Name,
    /// Whose limits that one shares with others.
    pub group: Option<Rc<str>>,
    /// For which model; `None` if not known.
    pub model: Option<Name>,
    /// What it costs, in millionths of the currency; `None` without configured prices.
    pub price_micros: Option<u64>,
}

/// What the turns of a connection came to. Each has been counted by itself; the log has one line for them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// How many there were.
    pub count: u64,
    /// How many of them were refused.
    pub refused: u64,
    /// Their tokens.
    pub usage: Usage,
    /// What they cost, in millionths of the currency; `None` without configured prices.
    pub price_micros: Option<u64>,
    /// Whether any of that is by estimate.
    pub is_estimated: bool,
}

impl Turns {
    /// Adds one.
    pub fn add(&mut self, record: &Record, is_refused: bool) {
        self.count = self.count.saturating_add(1);
        self.refused = self.refused.saturating_add(u64::from(is_refused));
        self.usage = self.usage.with(record.usage);
        self.is_estimated |= record.source == Source::Estimated;
        if let Some(price) = record.price_micros {
            self.price_micros = Some(self.price_micros.unwrap_or(0).saturating_add(price));
        }
    }
}

/// One exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was asked for; `none` if it was no endpoint of ours.
    pub operation: &'static str,
    /// Who asked; `None` if unknown.
    pub client: Option<Name>,
    /// The group of whoever asked.
    pub group: Option<Rc<str>>,
    /// Who asked in vain, if it is no client.
    pub refused_caller: Option<Box<Caller>>,
    /// Which job it is, if a worker asks for the client.
    pub replay: Option<Box<Replay>>,
    /// For which model, as configured; `None` if not known or not allowed.
    pub model: Option<Name>,
    /// For which model, in the client's own word.
    pub asked: Option<String>,
    /// Which model answered, by its own word.
    pub answered: Option<String>,
    /// The name of the answer at its provider.
    pub provider_request_id: Option<String>,
    /// Where.
    pub served: Option<Served>,
    /// All tries, in their order.
    pub tries: Vec<Try>,
    /// Whether the answer was to come as a stream.
    pub stream: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// What the client was charged.
    pub usage: Usage,
    /// By whose word.
    pub source: Source,
    /// What had been reserved.
    pub reserved: u64,
    /// What was estimated for the prompt, where the backend then reported it.
    pub estimated_prompt: Option<u64>,
    /// What it costs, in millionths of the currency; `None` without configured prices.
    pub price_micros: Option<u64>,
    /// The tier of service, by the backend's word.
    pub service_tier: Option<String>,
    /// Whether another deployment of the backend's own served it, as Azure's do.
    pub served_by_spillover: bool,
    /// Until the first text of a stream came.
    pub first_token: Option<Duration>,
    /// From the first header to the end.
    pub duration: Duration,
    /// Why the usage is not what the answer reports, or not all of that.
    pub unread: Option<&'static str>,
    /// How it waited for room at a backend, if it did.
    pub queued: Option<Queued>,
    /// What came of what the queue was asked.
    pub at_queue: Option<AtQueue>,
    /// What came of the ids in it, if it had any.
    pub pin: Option<Pin>,
    /// What the client's policy changed, or would have.
    pub findings: Vec<Finding>,
    /// The label of the limit that refused it.
    pub limit: Option<Rc<str>>,
    /// The labels of the limits that would have, if they were not only to report that.
    pub shadow_refusals: Vec<Rc<str>>,
    /// How many users' limits had to be forgotten for it.
    pub forgotten: u64,
    /// What tells the user from the client's others, where limits depend on it.
    pub users: Vec<String>,
    /// The backends in their order, if any was passed over or the order is an operator's.
    pub candidates: Vec<Rc<str>>,
    /// The backends that were passed over, and why.
    pub passed_over: Vec<PassedOver>,
    /// Whether the order is an operator's.
    pub is_ordered: bool,
    /// Whether it went to a backend of a lower priority.
    pub spill: Option<Spill>,
    /// The tier of service that was refused to it, where it was then asked again as the default one.
    pub refused_tier: Option<&'static str>,
    /// What became of work that goes on after its exchange.
    pub stored: Option<Stored>,
    /// Who pays in the client's place.
    pub charge: Option<Charge>,
    /// Of a connection, its turns.
    pub turns: Option<Turns>,
}

/// A job that a worker has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its name, by the worker's word.
    pub job: String,
    /// Who works it off.
    pub worker: Name,
}

impl Record {
    /// A record of nothing but how it ended.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self {
            operation: NONE,
            client: None,
            group: None,
            refused_caller: None,
            replay: None,
            model: None,
            asked: None,
            answered: None,
            provider_request_id: None,
            served: None,
            tries: Vec::new(),
            stream: false,
            outcome,
            usage: Usage::default(),
            source: Source::Reported,
            reserved: 0,
            estimated_prompt: None,
            price_micros: None,
            service_tier: None,
            served_by_spillover: false,
            first_token: None,
            duration: Duration::ZERO,
            unread: None,
            queued: None,
            at_queue: None,
            pin: None,
            findings: Vec::new(),
            limit: None,
            shadow_refusals: Vec::new(),
            forgotten: 0,
            users: Vec::new(),
            candidates: Vec::new(),
            passed_over: Vec::new(),
            is_ordered: false,
            spill: None,
            refused_tier: None,
            stored: None,
            charge: None,
            turns: None,
        }
    }
}

#[cfg(test)]
mod tests;

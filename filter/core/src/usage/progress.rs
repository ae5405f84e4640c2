//! What is a stream about, and how far is that?
//!
//! A stream of a response, or of a run, says so when it begins and when it ends: in events that have the whole of it. Those
//! between are not read.

use super::{ID_BYTES_MAX, WORD_BYTES_MAX};
use crate::sse;
use serde::Deserialize;
use std::borrow::Cow;

/// So many events at the start are read for what the stream is about: a run may follow the thread that it is of.
const FIRST_EVENTS: u8 = 4;

/// What the events said so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    events: u8,
    pub(super) id: Option<String>,
    pub(super) status: Option<String>,
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(borrow)]
    response: Option<WireWork<'a>>,
    #[serde(borrow)]
    object: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct WireWork<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
}

impl Progress {
    /// Takes an event. `has_usage` says that it has a member of this name, if only `null`: the whole of a response has.
    pub(super) fn read(&mut self, event: &[u8], has_usage: bool) {
        let is_first = self.id.is_none() && self.events < FIRST_EVENTS;
        self.events = self.events.saturating_add(1);
        if !is_first && !has_usage {
            return;
        }
        let Some(data) = sse::data(event) else { return };
        let Ok(event) = serde_json::from_slice::<WireEvent<'_>>(&data) else { return };
        let work = match event {
            WireEvent { response: Some(response), .. } => response,
            WireEvent { object: Some(object), id, status, .. } if object == "thread.run" => {
                WireWork { id, status }
            }
            _ => return,
        };
        let known = |text: Option<Cow<'_, str>>, bytes_max| {
            text.filter(|text| text.len() <= bytes_max).map(Cow::into_owned)
        };
        self.id = known(work.id, ID_BYTES_MAX).or(self.id.take());
        self.status = known(work.status, WORD_BYTES_MAX).or(self.status.take());
    }
}

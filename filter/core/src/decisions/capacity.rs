//! Is there room for this at a backend now, and who goes first when there is not?
//!
//! A backend that declares its capacity has a window in the store: what was sent to it of late, and what others are
//! known to have sent. A request takes its tokens there before it goes; where there is no room it waits in a [`Queue`],
//! the more important first, and is refused when its time is up. Pure arithmetic over the store, with time as an
//! argument. Not decided here: which backends may serve it, and in which order.

mod queue;
pub mod shared;
mod window;

pub use queue::{Ask, Place, Queue, Turn};

use crate::gauge::{Gauge, RoomLeft};
use crate::store::{self, Moment, StoreFault};
use crate::tokens::Usage;
use std::time::Duration;
use window::Window;

/// A share of a whole is counted in millionths.
pub const WHOLE: u32 = 1_000_000;

/// How important a client's requests are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Goes first.
    High,
    /// Goes next.
    #[default]
    Normal,
    /// Gets what is left.
    Low,
}

impl Priority {
    /// All of them, the first first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// That of a request which names one itself: never above its client's. What is no priority says nothing.
    #[must_use]
    pub fn lowered_to(self, word: Option<&[u8]>) -> Self {
        let asked = Self::ALL.into_iter().find(|priority| word == Some(priority.word().as_bytes()));
        // The least important is the last.
        asked.map_or(self, |asked| self.max(asked))
    }

    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// What a priority means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precedence {
    /// A request goes only while this share of a backend's capacity stays free, in millionths of it.
    pub headroom_min: u32,
    /// How long it waits for that.
    pub wait_max: Duration,
}

fn key(gauge: Gauge) -> String {
    format!("tollgate/capacity/{:x}", gauge.id)
}

/// The tokens that may be in use once somebody is in who must leave a share free.
fn room(gauge: Gauge, headroom_min: u32) -> u64 {
    u64::from(gauge.tokens.get()) * u64::from(WHOLE.saturating_sub(headroom_min)) / u64::from(WHOLE)
}

/// Tokens taken at a backend. Not `Clone`: they are given back once at the most.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Seat {
    gauge: Gauge,
    tokens: u64,
    /// When they were taken.
    at: Duration,
}

impl Seat {
    /// Whose capacity it is at.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        self.gauge
    }

    /// How many.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

/// Takes what a request may use if there is room and `headroom_min` stays free; else answers how long it takes until there is, if
/// nobody else comes. What is more than the whole window takes the whole window.
pub fn take(
    moment: Moment<'_>,
    gauge: Gauge,
    usage: Usage,
    headroom_min: u32,
) -> Result<Result<Seat, Duration>, StoreFault> {
    let tokens = gauge.weights.tokens_max(usage);
    let room = room(gauge, headroom_min);
    store::update(moment.store, &key(gauge), |record| {
        let mut window = Window::read(record, gauge.window, moment.now);
        let wait = window.wait(tokens.min(room), room);
        if wait > Duration::ZERO {
            return (None, Err(wait));
        }
        window.add(tokens);
        (Some(window.write()), Ok(Seat { gauge, tokens, at: moment.now }))
    })
}

/// How long it takes until there is room, if nobody else comes.
pub fn wait(
    moment: Moment<'_>,
    gauge: Gauge,
    tokens: u64,
    headroom_min: u32,
) -> Result<Duration, StoreFault> {
    let room = room(gauge, headroom_min);
    let record = moment.store.load(&key(gauge))?.value;
    Ok(Window::read(&record, gauge.window, moment.now).wait(tokens.min(room), room))
}

/// Takes what a request may use whether there is room or not, for one that goes there anyhow.
pub fn take_anyhow(moment: Moment<'_>, gauge: Gauge, usage: Usage) -> Result<Seat, StoreFault> {
    let tokens = gauge.weights.tokens_max(usage);
    store::update(moment.store, &key(gauge), |record| {
        let mut window = Window::read(record, gauge.window, moment.now);
        window.add(tokens);
        (Some(window.write()), ())
    })?;
    Ok(Seat { gauge, tokens, at: moment.now })
}

/// Gives a seat back but for what was used. What was taken a window ago is gone by itself.
pub fn give_back(moment: Moment<'_>, seat: &Seat, used: Usage) -> Result<(), StoreFault> {
    let back = seat.tokens.saturating_sub(seat.gauge.weights.tokens(used));
    if back == 0 {
        return Ok(());
    }
    store::update(moment.store, &key(seat.gauge), |record| {
        let mut window = Window::read(record, seat.gauge.window, moment.now);
        window.take_out(back, seat.at);
        (Some(window.write()), ())
    })
}

/// Believes a backend that has less room than was reckoned: others use it too.
pub fn learn(moment: Moment<'_>, gauge: Gauge, room: RoomLeft) -> Result<(), StoreFault> {
    let whole = u64::from(gauge.tokens.get());
    let left = match room {
        RoomLeft::Tokens(tokens) => tokens,
        RoomLeft::Utilization(share) => whole.saturating_sub(whole * u64::from(share) / u64::from(WHOLE)),
    };
    store::update(moment.store, &key(gauge), |record| {
        let mut window = Window::read(record, gauge.window, moment.now);
        let reckoned = whole.saturating_sub(window.used());
        // More room than was reckoned is not believed: requests that are on their way are not counted there yet.
        let changed = window.others_use(reckoned.saturating_sub(left));
        (changed.then(|| window.write()), ())
    })
}

#[cfg(test)]
mod tests;

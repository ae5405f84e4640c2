//! Is there room for this at a backend now, and who goes first when there is not?
//!
//! A backend that declares how many tokens it takes, or how many requests, has a window in the store for each: what was sent
//! to it of late, and what others are known to have sent. A request takes its part there before it goes; where there is no
//! room it waits in a [`Queue`], the more important first, and is refused when its time is up. Pure arithmetic over the
//! store, with time as an argument. Not decided here: which backends may serve it, and in which order.

mod equals;
mod queue;
pub mod shared;
mod window;

pub use queue::{Ask, Place, Queue, Turn};

use crate::gauge::{Gauge, Gauges, RoomLeft, Unit};
use crate::store::{self, Moment, StoreFault};
use crate::tokens::Usage;
use std::time::Duration;
use window::Window;

/// A share of a whole is counted in millionths.
pub const WHOLE: u32 = 1_000_000;

/// How long it is believed that so few requests are left: the least that any backend counts them over. Azure takes 1 or 10 seconds, typically.
/// <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota#understanding-rate-limits>
const REQUESTS_LEFT_FOR: Duration = Duration::from_secs(1);

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

/// What a request leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yields {
    /// To those that are more important it leaves as much as they have taken of late.
    pub priority: Priority,
    /// This share of the capacity stays free, in millionths of it.
    pub headroom_min: u32,
}

impl Yields {
    /// Nothing.
    pub const NOTHING: Self = Self { priority: Priority::High, headroom_min: 0 };

    /// Until there is room for `amount` when `ahead` has gone.
    fn wait(self, window: &Window, gauge: Gauge, amount: u64, ahead: u64) -> Duration {
        let (room, size) = (room(gauge, self.headroom_min), gauge.size.get().into());
        let amount = amount.saturating_add(ahead).min(room);
        window.wait(amount, room).max(window.wait_behind(self.priority, amount, size))
    }
}

/// Until `amount` may go at the pace that was shown, when `ahead` has gone.
fn wait_for_pace(window: &Window, gauge: Gauge, amount: u64, ahead: u64) -> Duration {
    window.wait_for_pace(amount, ahead, gauge.size.get().into())
}

fn key(gauge: Gauge) -> String {
    format!("tollgate/capacity/{:x}", gauge.id)
}

/// What keeps the pace of one deployment, where several share a capacity: a refusal tells of one, and holds back no other.
fn apart(gauge: Gauge) -> Option<Gauge> {
    gauge.pace_id.map(|id| Gauge { id, pace_id: None, ..gauge })
}

/// The records in which it is counted.
fn counted_in(gauge: Gauge) -> impl Iterator<Item = Gauge> {
    [Some(gauge), apart(gauge)].into_iter().flatten()
}

fn read(moment: Moment<'_>, gauge: Gauge) -> Result<Window, StoreFault> {
    let record = moment.store.load(&key(gauge))?.value;
    Ok(Window::read(&record, gauge.window, moment.now))
}

/// What may be in use once somebody is in who must leave a share free.
fn room(gauge: Gauge, headroom_min: u32) -> u64 {
    u64::from(gauge.size.get()) * u64::from(WHOLE.saturating_sub(headroom_min)) / u64::from(WHOLE)
}

/// What was taken at a backend. Not `Clone`: it is given back once at the most.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Seat {
    gauges: Gauges,
    /// Of the tokens, where those are counted.
    tokens: u64,
    /// Whose they are.
    priority: Priority,
    /// When it was taken.
    at: Duration,
}

impl Seat {
    /// Whose capacity it is at.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        self.gauges
    }

    fn new(gauges: Gauges, usage: Usage, priority: Priority, at: Duration) -> Self {
        Self { gauges, tokens: gauges.tokens.map_or(0, |gauge| gauge.takes_max(usage)), priority, at }
    }

    /// What was taken of this one.
    fn amount(&self, gauge: Gauge) -> u64 {
        match gauge.unit {
            Unit::Tokens(_) => self.tokens,
            Unit::Requests => 1,
        }
    }
}

/// Takes what a request may use if there is room in all that was declared and its share stays free; else answers how long
/// it takes until there is, if nobody else comes. What is more than a whole window takes the whole window.
pub fn take(
    moment: Moment<'_>,
    gauges: Gauges,
    usage: Usage,
    yields: Yields,
) -> Result<Result<Seat, Duration>, StoreFault> {
    if gauges.iter().count() > 1 {
        let mut wait = Duration::ZERO;
        for gauge in gauges.iter() {
            wait = wait.max(self::wait(moment, gauge, gauge.takes_max(usage), 0, yields)?);
        }
        // Where one has no room nothing is taken of the other, not even for a moment: somebody else might wait for it.
        if wait > Duration::ZERO {
            return Ok(Err(wait));
        }
    }
    let mut seat =
        Seat { gauges: Gauges::default(), ..Seat::new(gauges, usage, yields.priority, moment.now) };
    for gauge in gauges.iter() {
        match take_of(moment, gauge, usage, yields) {
            Ok(wait) if wait.is_zero() => seat.gauges.insert(gauge),
            // Another worker came between.
            Ok(wait) => return undo(moment, &seat).map(|()| Err(wait)),
            Err(fault) => {
                // One fault is told; what was taken leaves with its window.
                let _ = undo(moment, &seat);
                return Err(fault);
            }
        }
    }
    Ok(Ok(seat))
}

/// Takes what a request may use of one capacity; answers how long it takes until there is room if there is none.
fn take_of(moment: Moment<'_>, gauge: Gauge, usage: Usage, yields: Yields) -> Result<Duration, StoreFault> {
    let amount = gauge.takes_max(usage);
    let apart = apart(gauge);
    if let Some(own) = apart {
        let wait = wait_for_pace(&read(moment, own)?, own, amount, 0);
        if wait > Duration::ZERO {
            return Ok(wait);
        }
    }
    let wait = store::update(moment.store, &key(gauge), |record| {
        let mut window = Window::read(record, gauge.window, moment.now);
        let pace = apart.map_or_else(|| wait_for_pace(&window, gauge, amount, 0), |_| Duration::ZERO);
        let wait = yields.wait(&window, gauge, amount, 0).max(pace);
        if wait > Duration::ZERO {
            return (None, wait);
        }
        window.add(yields.priority, amount);
        (Some(window.write()), wait)
    })?;
    if let (Some(own), true) = (apart, wait.is_zero()) {
        add(moment, own, yields.priority, amount)?;
    }
    Ok(wait)
}

fn add(moment: Moment<'_>, gauge: Gauge, priority: Priority, amount: u64) -> Result<(), StoreFault> {
    store::update(moment.store, &key(gauge), |record| {
        let mut window = Window::read(record, gauge.window, moment.now);
        window.add(priority, amount);
        (Some(window.write()), ())
    })
}

/// How long it takes until there is room for so much and for what is ahead of it, if nobody else comes.
pub fn wait(
    moment: Moment<'_>,
    gauge: Gauge,
    amount: u64,
    ahead: u64,
    yields: Yields,
) -> Result<Duration, StoreFault> {
    let window = read(moment, gauge)?;
    let pace = match apart(gauge) {
        Some(own) => wait_for_pace(&read(moment, own)?, own, amount, ahead),
        None => wait_for_pace(&window, gauge, amount, ahead),
    };
    Ok(yields.wait(&window, gauge, amount, ahead).max(pace))
}

/// Whether there is room for so much in what several share, so that whoever waits there waits for the pace of his own.
fn has_room(moment: Moment<'_>, gauge: Gauge, amount: u64, yields: Yields) -> Result<bool, StoreFault> {
    Ok(gauge.pace_id.is_some() && yields.wait(&read(moment, gauge)?, gauge, amount, 0).is_zero())
}

/// Takes what a request may use whether there is room or not, for one that goes there anyhow. Nobody expects more of it.
pub fn take_anyhow(moment: Moment<'_>, gauges: Gauges, usage: Usage) -> Result<Seat, StoreFault> {
    for gauge in gauges.iter() {
        let amount = gauge.takes_max(usage);
        counted_in(gauge).try_for_each(|gauge| add(moment, gauge, Priority::Low, amount))?;
    }
    Ok(Seat::new(gauges, usage, Priority::Low, moment.now))
}

/// Gives a seat back but for what was used by its request, which was sent. What was taken a window ago is gone by itself.
pub fn give_back(moment: Moment<'_>, seat: &Seat, used: Usage) -> Result<(), StoreFault> {
    return_but(moment, seat, |gauge| gauge.took(used))
}

/// Gives all of a seat back: the backend has not counted its request.
pub fn undo(moment: Moment<'_>, seat: &Seat) -> Result<(), StoreFault> {
    return_but(moment, seat, |_| 0)
}

/// Gives all of a seat back, for the backend refused its request, and takes note of the pace at which it took those before it: that holds
/// when the pause is over that it asked for, which ends at `until`. A capacity of which it `lacks` nothing shows none.
pub fn refused(
    moment: Moment<'_>,
    seat: &Seat,
    until: Duration,
    lacks: &dyn Fn(Gauge) -> bool,
) -> Result<(), StoreFault> {
    for gauge in seat.gauges.iter() {
        let (amount, shows) = (seat.amount(gauge), apart(gauge).unwrap_or(gauge).id);
        for counted in counted_in(gauge) {
            store::update(moment.store, &key(counted), |record| {
                let mut window = Window::read(record, counted.window, moment.now);
                window.take_out(seat.priority, amount, seat.at);
                if counted.id == shows && lacks(gauge) {
                    window.refused(amount, until, counted.size.get().into());
                }
                (Some(window.write()), ())
            })?;
        }
    }
    Ok(())
}

fn return_but(moment: Moment<'_>, seat: &Seat, kept: impl Fn(Gauge) -> u64) -> Result<(), StoreFault> {
    for gauge in seat.gauges.iter() {
        let back = seat.amount(gauge).saturating_sub(kept(gauge));
        if back == 0 {
            continue;
        }
        for counted in counted_in(gauge) {
            store::update(moment.store, &key(counted), |record| {
                let mut window = Window::read(record, counted.window, moment.now);
                window.take_out(seat.priority, back, seat.at);
                (Some(window.write()), ())
            })?;
        }
    }
    Ok(())
}

/// Believes a backend that has less room than was reckoned: others use it too.
pub fn learn(moment: Moment<'_>, gauge: Gauge, room: RoomLeft) -> Result<(), StoreFault> {
    let whole = u64::from(gauge.size.get());
    let left = match room {
        RoomLeft::Amount(amount) => amount,
        RoomLeft::Utilization(share) => whole.saturating_sub(whole * u64::from(share) / u64::from(WHOLE)),
    };
    let lasts = match gauge.unit {
        Unit::Tokens(_) => gauge.window,
        // If it counts them over less than was declared, they are there again long before. If not, it will say so.
        Unit::Requests => gauge.window.min(REQUESTS_LEFT_FOR),
    };
    store::update(moment.store, &key(gauge), |record| {
        let mut window = Window::read(record, gauge.window, moment.now);
        let reckoned = whole.saturating_sub(window.used());
        // More room than was reckoned is not believed: requests that are on their way are not counted there yet.
        let changed = window.others_use(reckoned.saturating_sub(left), lasts);
        (changed.then(|| window.write()), ())
    })
}

#[cfg(test)]
mod tests;

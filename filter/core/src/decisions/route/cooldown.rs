//! Which targets have asked for a pause?
//!
//! All pauses stand in one record that all workers share, so that routing costs one read however many backends a model
//! has. A tier of service that is refused by itself has pauses of its own in it, which nobody else waits for; what an
//! operator says about their order stands there too. A pause whose length the backend told ends when it ends. One whose length
//! was guessed ends with a question: one request goes first, and the others follow when it was answered.

mod shared;

pub use shared::{SCRIPT, Shared};

use super::Order;
use crate::codec::{self, Reader, Stored, Writer};
use crate::store::{self, Moment, Store, StoreFault};
use crate::tier::Lane;
use crate::time::nanos;
use std::time::Duration;

/// The longest pause that is taken from an answer: whatever a backend says, it is asked again after this.
pub const COOLDOWN_MAX: Duration = Duration::from_secs(600);

/// The pause after a 429 that names none, or none that is still to come, before it is jittered.
pub const COOLDOWN_DEFAULT: Duration = Duration::from_secs(1);

/// For so long the others wait for the one that was sent to ask; then another one is.
const PROBE_LEASE: Duration = Duration::from_secs(2);

/// A guessed pause that nobody has asked about for so long after its end is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Where the pauses are kept.
const KEY: &str = "tollgate/cooldowns";

/// A pause that a backend wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// How long.
    pub wait: Duration,
    /// Whether the backend said so, or we have guessed.
    pub from_backend: bool,
}

/// Where a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may be asked.
    Open,
    /// It is to be left alone for so long.
    Pausing(Duration),
    /// Whoever [claims](Cooldowns::claim) it first may ask it. If it still pauses, for so long: only if there is no
    /// other.
    Claimable(Duration),
}

impl State {
    /// Where it stands for whoever needs both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open, state) | (state, Self::Open) => state,
            (Self::Claimable(one), Self::Claimable(other)) => Self::Claimable(one.max(other)),
            (Self::Pausing(one) | Self::Claimable(one), Self::Pausing(other) | Self::Claimable(other)) => {
                Self::Pausing(one.max(other))
            }
        }
    }
}

/// The pauses as read at one moment, and the orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cooldowns {
    pauses: Vec<Pause>,
    pub(super) orders: Vec<Order>,
}

impl Stored for Cooldowns {
    const VERSION: u8 = 2;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { pauses: from.values()?, orders: from.values()? })
    }

    fn write(&self, to: &mut Writer) {
        to.values(&self.pauses);
        to.values(&self.orders);
    }
}

/// Times are in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    target: u64,
    until: u64,
    /// Until when somebody is asking; `None` where the end was told.
    asking_until: Option<u64>,
}

impl Stored for Pause {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (target, until, asking) = (from.u64()?, from.u64()?, from.u64()?);
        Some(Self { target, until, asking_until: (asking != Self::TOLD).then_some(asking) })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.target);
        to.u64(self.until);
        to.u64(self.asking_until.unwrap_or(Self::TOLD));
    }
}

impl Pause {
    /// No time: the end was told.
    const TOLD: u64 = u64::MAX;

    fn is_over(&self, now: u64) -> bool {
        let lasts = if self.asking_until.is_some() { nanos(FORGOTTEN_AFTER) } else { 0 };
        // No pause is longer than the longest: one that ends later was noted before the clock was set back.
        self.until.saturating_add(lasts) <= now || self.until > now.saturating_add(nanos(COOLDOWN_MAX))
    }

    fn state(&self, now: u64) -> State {
        let left = |until: u64| Duration::from_nanos(until.saturating_sub(now));
        match self.asking_until {
            _ if self.is_over(now) => State::Open,
            None => State::Pausing(left(self.until)),
            Some(asking_until)
                if asking_until > now && asking_until <= now.saturating_add(nanos(PROBE_LEASE)) =>
            {
                State::Pausing(left(asking_until.max(self.until)))
            }
            Some(_) => State::Claimable(left(self.until)),
        }
    }
}

impl Cooldowns {
    /// Reads them.
    pub fn load(store: &dyn Store) -> Result<Self, StoreFault> {
        Ok(codec::decode(&store.load(KEY)?.value).unwrap_or_default())
    }

    /// Reads them as this worker has last seen them: one that another worker has noted just now may be missing.
    pub fn glance(moment: Moment<'_>) -> Result<Self, StoreFault> {
        Ok(codec::decode(&moment.store.glance(KEY, moment.now)?).unwrap_or_default())
    }

    /// Writes that a target, or a tier there, wants a pause. A longer one that is known already stands.
    pub fn note(moment: Moment<'_>, lane: impl Into<Lane>, cooldown: Cooldown) -> Result<(), StoreFault> {
        let until = nanos(moment.now).saturating_add(nanos(cooldown.wait.min(COOLDOWN_MAX)));
        let target = lane.into().number();
        let noted = Pause { target, until, asking_until: (!cooldown.from_backend).then_some(0) };
        Self::note_pause(moment, noted).map(|_| ())
    }

    /// Writes a pause, unless a longer one is known. Answers with the end that holds.
    fn note_pause(moment: Moment<'_>, noted: Pause) -> Result<u64, StoreFault> {
        let now = nanos(moment.now);
        Self::change(moment.store, |known| {
            let pauses = &mut known.pauses;
            pauses.retain(|pause| !pause.is_over(now));
            match pauses.iter_mut().find(|pause| pause.target == noted.target) {
                Some(pause) if pause.until >= noted.until => {
                    return (false, pause.until);
                }
                Some(pause) => *pause = noted,
                None => pauses.push(noted),
            }
            (true, noted.until)
        })
    }

    /// Claims to be the one that asks. False if somebody else is.
    pub fn claim(moment: Moment<'_>, lane: impl Into<Lane>) -> Result<bool, StoreFault> {
        let (lane, now) = (lane.into(), nanos(moment.now));
        Self::change(moment.store, |known| match known.state(lane, moment.now) {
            State::Claimable(_) => {
                let is_asked = |pause: &&mut Pause| lane.numbers().any(|number| number == pause.target);
                for pause in known.pauses.iter_mut().filter(is_asked) {
                    if let State::Claimable(_) = pause.state(now) {
                        pause.asking_until = Some(now.saturating_add(nanos(PROBE_LEASE)));
                    }
                }
                (true, true)
            }
            State::Pausing(_) => (false, false),
            State::Open => (false, true),
        })
    }

    /// Lets another one ask whether the pause of a target is over: whoever claimed it was told of its tier only.
    pub fn unclaim(store: &dyn Store, target: u64) -> Result<(), StoreFault> {
        Self::change(store, |known| {
            let asked = known.pauses.iter_mut().find(|pause| pause.target == target);
            let asking = asked.and_then(|pause| pause.asking_until.as_mut());
            (asking.map(|asking| *asking = 0).is_some(), ())
        })
    }

    /// Forgets the pauses of what was asked and has answered well.
    pub fn end(store: &dyn Store, lane: impl Into<Lane>) -> Result<(), StoreFault> {
        let lane = lane.into();
        Self::change(store, |known| {
            let before = known.pauses.len();
            let is_over = |pause: &Pause| lane.numbers().any(|number| number == pause.target);
            known.pauses.retain(|pause| !is_over(pause) || pause.asking_until.is_none());
            (known.pauses.len() < before, ())
        })
    }

    /// Where a target, or a tier there, stands.
    #[must_use]
    pub fn state(&self, lane: impl Into<Lane>, now: Duration) -> State {
        let of = |number| {
            let pause = self.pauses.iter().find(|pause| pause.target == number);
            pause.map_or(State::Open, |pause| pause.state(nanos(now)))
        };
        lane.into().numbers().map(of).fold(State::Open, State::and)
    }

    /// Whether its pause is one that it did not ask for, or of which it did not say how long.
    pub(super) fn is_guessed(&self, target: u64) -> bool {
        self.pauses.iter().any(|pause| pause.target == target && pause.asking_until.is_some())
    }

    /// How long a target, or a tier there, is still to be left alone.
    #[must_use]
    pub fn remaining(&self, lane: impl Into<Lane>, now: Duration) -> Duration {
        match self.state(lane, now) {
            State::Open => Duration::ZERO,
            State::Pausing(left) | State::Claimable(left) => left,
        }
    }

    /// Changes the record; `change` says whether it did, and what the caller is answered.
    pub(super) fn change<T>(
        store: &dyn Store,
        mut change: impl FnMut(&mut Self) -> (bool, T),
    ) -> Result<T, StoreFault> {
        store::update(store, KEY, |record| {
            let mut known: Self = codec::decode(record).unwrap_or_default();
            let (is_changed, answer) = change(&mut known);
            (is_changed.then(|| codec::encode(&known)), answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn whoever_is_told_of_a_tier_lets_another_one_ask() {
        let (store, now) = (crate::store::MemoryStore::default(), Duration::from_secs(1_795_000_000));
        let at = |seconds| Moment::new(&store, now + Duration::from_secs(seconds));
        let guess = Cooldown { wait: Duration::from_secs(1), from_backend: false };
        Cooldowns::note(at(0), 7, guess).unwrap();
        let flex = Lane { target: 7, tier: Some(crate::tier::Tier::Flex) };
        assert_eq!(Cooldowns::claim(at(2), flex), Ok(true));
        assert_eq!(Cooldowns::claim(at(2), 7), Ok(false));
        Cooldowns::note(at(2), flex, guess).unwrap();
        Cooldowns::unclaim(&store, 7).unwrap();
        assert_eq!(Cooldowns::claim(at(2), 7), Ok(true));
    }

    #[test]
    fn the_law_of_stored_values_holds() {
        let pause = |asking_until| Pause { target: 7, until: 1_795_000_000_000_000_000, asking_until };
        let pauses = vec![pause(None), pause(Some(0)), pause(Some(1_795_000_002_000_000_000))];
        codec::law::holds("pause", &[Cooldowns { pauses, orders: vec![Order::example()] }]);
    }
}

//! Which pauses does this process tell the others of a fleet, and which does it take from them?
//!
//! Each is told once and taken once: what this process has ended since, its own question answered, is not begun again.

use super::{Cooldowns, Pause};
use crate::store::{Moment, StoreFault};
use crate::time::nanos;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the store runs for them.
pub const SCRIPT: &str = include_str!("../pauses.lua");

/// A pause that ends this much later than the one that is known is the same: it was on its way for so long.
const SAME: u64 = 100_000_000;

/// The numbers of a reply for each pause.
const PAUSE_NUMBERS: usize = 4;

/// What a VM has told the others and heard from them: until when each target pauses.
#[derive(Debug, Default)]
pub struct Shared {
    /// By our clock, in nanoseconds.
    told: BTreeMap<u64, u64>,
    /// By the store's clock, in microseconds.
    heard: BTreeMap<u64, u64>,
}

impl Shared {
    /// What the script is told: the pauses that the others do not know yet, in words.
    pub fn say(&mut self, moment: Moment<'_>) -> Result<String, StoreFault> {
        let now = nanos(moment.now);
        let mut said = String::new();
        self.told.retain(|_, until| *until > now);
        for Pause { target, until, asking_until } in Cooldowns::load(moment.store)?.pauses {
            let told = self.told.get(&target).copied().unwrap_or(0);
            if until <= now || until <= told {
                continue;
            }
            let (high, low) = (target >> 32, target & u64::from(u32::MAX));
            let (wait_us, guessed) = ((until - now).div_ceil(1000), u8::from(asking_until.is_some()));
            let between = if said.is_empty() { "" } else { " " };
            // Into a string nothing fails.
            let _ = write!(said, "{between}{high} {low} {wait_us} {guessed}");
            self.told.insert(target, until);
        }
        Ok(said)
    }

    /// Nobody knows whether what was said has arrived.
    pub fn failed(&mut self) {
        self.told.clear();
    }

    /// Takes the pauses that others have told. False if that is no reply of the script.
    pub fn hear(&mut self, moment: Moment<'_>, reply: &[i64]) -> Result<bool, StoreFault> {
        let now = nanos(moment.now);
        let numbers: Option<Vec<u64>> = reply.iter().map(|number| u64::try_from(*number).ok()).collect();
        let Some((store_now, pauses)) = numbers.as_deref().and_then(<[u64]>::split_first) else {
            return Ok(false);
        };
        if pauses.len() % PAUSE_NUMBERS != 0 {
            return Ok(false);
        }
        self.heard.retain(|_, until| *until > *store_now);
        for pause in pauses.chunks_exact(PAUSE_NUMBERS) {
            let &[high, low, until_us, guessed] = pause else { continue };
            let target = high << 32 | low & u64::from(u32::MAX);
            if until_us <= self.heard.get(&target).copied().unwrap_or(*store_now) {
                continue;
            }
            self.heard.insert(target, until_us);
            let left = until_us.saturating_sub(*store_now).saturating_mul(1000);
            let asking_until = (guessed == 1).then_some(0);
            let noted = Pause { target, until: now.saturating_add(left), asking_until };
            let until = Cooldowns::note_pause(moment, noted, SAME)?;
            self.told.insert(target, until);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::State;
    use crate::store::MemoryStore;
    use std::time::Duration;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_secs(1_795_000_000);
    const TARGET: u64 = 0x1234_5678_9abc_def0;
    const HALVES: [i64; 2] = [0x1234_5678, 0x9abc_def0];

    /// A process of the fleet.
    #[derive(Default)]
    struct Process {
        store: MemoryStore,
        shared: Shared,
    }

    impl Process {
        fn pauses(&self, seconds: u64, is_told: bool) {
            let until = nanos(NOW + Duration::from_secs(seconds));
            let pause = Pause { target: TARGET, until, asking_until: (!is_told).then_some(0) };
            let moment = Moment { store: &self.store, now: NOW };
            Cooldowns::note_pause(moment, pause, 0).unwrap();
        }

        fn says(&mut self, now: Duration) -> String {
            self.shared.say(Moment { store: &self.store, now }).unwrap()
        }

        fn hears(&mut self, now: Duration, reply: &[i64]) -> bool {
            self.shared.hear(Moment { store: &self.store, now }, reply).unwrap()
        }

        fn state(&self, now: Duration) -> State {
            Cooldowns::load(&self.store).unwrap().state(TARGET, now)
        }
    }

    /// The store's clock is another one; so many microseconds of the pause are left.
    fn reply(left_us: i64, guessed: i64) -> Vec<i64> {
        vec![5_000_000, HALVES[0], HALVES[1], 5_000_000 + left_us, guessed]
    }

    #[test]
    fn a_pause_is_told_once_and_a_longer_one_again() {
        let mut process = Process::default();
        assert_eq!(process.says(NOW), "");
        process.pauses(3, true);
        assert_eq!(process.says(NOW), format!("{} {} 3000000 0", HALVES[0], HALVES[1]));
        assert_eq!(process.says(NOW), "");
        process.pauses(5, true);
        let later = NOW + Duration::from_secs(1);
        assert_eq!(process.says(later), format!("{} {} 4000000 0", HALVES[0], HALVES[1]));
        process.shared.failed();
        assert_eq!(process.says(later), format!("{} {} 4000000 0", HALVES[0], HALVES[1]));
    }

    #[test]
    fn a_pause_that_is_over_is_not_told() {
        let mut process = Process::default();
        process.pauses(3, false);
        assert_eq!(process.says(NOW + Duration::from_secs(3)), "");
    }

    #[test]
    fn a_pause_that_was_heard_holds_and_is_not_told_back() {
        let mut process = Process::default();
        assert!(process.hears(NOW, &reply(2_000_000, 0)));
        assert_eq!(process.state(NOW), State::Pausing(Duration::from_secs(2)));
        assert_eq!(process.says(NOW), "");
    }

    #[test]
    fn what_comes_back_makes_a_pause_no_longer() {
        let mut process = Process::default();
        process.pauses(3, true);
        process.says(NOW);
        // 20 ms on its way.
        assert!(process.hears(NOW + Duration::from_millis(20), &reply(3_000_000, 0)));
        assert_eq!(process.state(NOW), State::Pausing(Duration::from_secs(3)));
        assert_eq!(process.says(NOW), "");
    }

    #[test]
    fn a_guessed_pause_that_was_ended_is_not_begun_again() {
        let mut process = Process::default();
        assert!(process.hears(NOW, &reply(1_000_000, 1)));
        assert_eq!(process.state(NOW), State::Claimable(Duration::from_secs(1)));
        Cooldowns::end_of(&process.store, TARGET).unwrap();
        assert!(process.hears(NOW, &reply(1_000_000, 1)));
        assert_eq!(process.state(NOW), State::Open);
        // A later one is another one.
        assert!(process.hears(NOW, &reply(1_500_000, 1)));
        assert_eq!(process.state(NOW), State::Claimable(Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_no_reply_changes_nothing() {
        let mut process = Process::default();
        for reply in [&[][..], &[-1], &[5, 1], &[5, 1, 1, -9, 0]] {
            assert!(!process.hears(NOW, reply), "{reply:?}");
        }
        assert!(process.hears(NOW, &[5]));
        assert_eq!(process.state(NOW), State::Open);
    }
}

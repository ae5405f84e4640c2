//! Which pauses does this process tell the others of a fleet, and which does it take from them?
//!
//! Those that a backend has asked for. What was guessed, each finds out by itself: were it told, all would ask again at the same
//! moment, and one that is refused would begin it anew for all.

use super::{Cooldowns, Pause};
use crate::store::{Moment, StoreFault};
use crate::time::nanos;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What the store runs for them.
pub const SCRIPT: &str = include_str!("../pauses.lua");

/// The numbers of a reply for each pause.
const PAUSE_NUMBERS: usize = 3;

/// The pauses that the others know of, as far as this VM has told them or heard from them: until when, by our clock, in
/// nanoseconds.
#[derive(Debug, Default)]
pub struct Shared {
    known: BTreeMap<u64, u64>,
}

impl Shared {
    /// What the script is told: the pauses that the others do not know yet, in words.
    pub fn say(&mut self, moment: Moment<'_>) -> Result<String, StoreFault> {
        let now = nanos(moment.now);
        let mut said = String::new();
        self.known.retain(|_, until| *until > now);
        for pause in Cooldowns::load(moment.store)?.pauses {
            let Pause { target, until, asking_until } = pause;
            let known = self.known.get(&target).copied().unwrap_or(0);
            if pause.is_over(now) || asking_until.is_some() || until <= known {
                continue;
            }
            let (high, low) = (target >> 32, target & u64::from(u32::MAX));
            let wait_us = until.saturating_sub(now).div_ceil(1000);
            let between = if said.is_empty() { "" } else { " " };
            // Into a string nothing fails.
            let _ = write!(said, "{between}{high} {low} {wait_us}");
            self.known.insert(target, until);
        }
        Ok(said)
    }

    /// Nobody knows whether what was said has arrived.
    pub fn failed(&mut self) {
        self.known.clear();
    }

    /// Takes the pauses that others have told. `sent` is when they were asked for: reckoned from then none ends later here than
    /// there, so that none grows on its way. False if that is no reply of the script.
    pub fn hear(&mut self, moment: Moment<'_>, sent: Duration, reply: &[i64]) -> Result<bool, StoreFault> {
        let numbers: Option<Vec<u64>> = reply.iter().map(|number| u64::try_from(*number).ok()).collect();
        let Some((store_now, pauses)) = numbers.as_deref().and_then(<[u64]>::split_first) else {
            return Ok(false);
        };
        if pauses.len() % PAUSE_NUMBERS != 0 {
            return Ok(false);
        }
        for pause in pauses.chunks_exact(PAUSE_NUMBERS) {
            let &[high, low, until_us] = pause else { continue };
            let target = high << 32 | low & u64::from(u32::MAX);
            let left = until_us.saturating_sub(*store_now).saturating_mul(1000);
            let until = nanos(sent).saturating_add(left);
            if until <= self.known.get(&target).copied().unwrap_or(0) {
                continue;
            }
            let noted = Pause { target, until, asking_until: None };
            let until = Cooldowns::note_pause(moment, noted)?;
            self.known.insert(target, until);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::State;
    use crate::store::MemoryStore;
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
        fn pauses(&self, seconds: u64, from_backend: bool) {
            let until = nanos(NOW + Duration::from_secs(seconds));
            let pause = Pause { target: TARGET, until, asking_until: (!from_backend).then_some(0) };
            Cooldowns::note_pause(Moment::new(&self.store, NOW), pause).unwrap();
        }

        fn says(&mut self, now: Duration) -> String {
            self.shared.say(Moment::new(&self.store, now)).unwrap()
        }

        /// The reply comes 300 ms after it was asked for.
        fn hears(&mut self, sent: Duration, reply: &[i64]) -> bool {
            let moment = Moment::new(&self.store, sent + Duration::from_millis(300));
            self.shared.hear(moment, sent, reply).unwrap()
        }

        fn state(&self, now: Duration) -> State {
            Cooldowns::load(&self.store).unwrap().state(TARGET, now)
        }
    }

    /// The store's clock is another one; so many microseconds of the pause are left.
    fn reply(left_us: i64) -> Vec<i64> {
        vec![5_000_000, HALVES[0], HALVES[1], 5_000_000 + left_us]
    }

    #[test]
    fn a_pause_is_told_once_and_a_longer_one_again() {
        let mut process = Process::default();
        assert_eq!(process.says(NOW), "");
        process.pauses(3, true);
        assert_eq!(process.says(NOW), format!("{} {} 3000000", HALVES[0], HALVES[1]));
        assert_eq!(process.says(NOW), "");
        process.pauses(5, true);
        let later = NOW + Duration::from_secs(1);
        assert_eq!(process.says(later), format!("{} {} 4000000", HALVES[0], HALVES[1]));
        process.shared.failed();
        assert_eq!(process.says(later), format!("{} {} 4000000", HALVES[0], HALVES[1]));
    }

    #[test]
    fn a_pause_that_is_over_or_was_guessed_is_not_told() {
        let mut process = Process::default();
        process.pauses(3, false);
        assert_eq!(process.says(NOW), "");
        let mut process = Process::default();
        process.pauses(3, true);
        assert_eq!(process.says(NOW + Duration::from_secs(3)), "");
        // Noted before the clock was set back: nobody is to wait for that.
        assert_eq!(process.says(NOW - Duration::from_secs(3600)), "");
    }

    #[test]
    fn a_pause_that_was_heard_holds_and_is_not_told_back() {
        let mut process = Process::default();
        assert!(process.hears(NOW, &reply(2_000_000)));
        assert_eq!(process.state(NOW), State::Pausing(Duration::from_secs(2)));
        assert_eq!(process.says(NOW), "");
    }

    #[test]
    fn what_comes_back_makes_a_pause_no_longer() {
        let mut process = Process::default();
        process.pauses(3, true);
        process.says(NOW);
        assert!(process.hears(NOW, &reply(3_000_000)));
        process.shared.failed();
        assert!(process.hears(NOW, &reply(3_000_000)));
        assert_eq!(process.state(NOW), State::Pausing(Duration::from_secs(3)));
    }

    #[test]
    fn what_is_no_reply_changes_nothing() {
        let mut process = Process::default();
        for reply in [&[][..], &[-1], &[5, 1], &[5, 1, 1, -9]] {
            assert!(!process.hears(NOW, reply), "{reply:?}");
        }
        assert!(process.hears(NOW, &[5]));
        assert_eq!(process.state(NOW), State::Open);
    }
}

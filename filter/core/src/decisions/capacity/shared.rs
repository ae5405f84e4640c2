//! What does this process tell the others of a fleet of the capacity that it uses, and what does it take from them?
//!
//! It says all that it has sent within the window, each time: a call that is lost, late or repeated is put right by the next
//! one. What the others have sent counts as used here until they say something else, for a window at the most.

use super::key;
use super::window::Window;
use crate::gauge::Gauge;
use crate::store::{self, Moment, StoreFault};
use std::fmt::Write as _;
use std::time::Duration;

/// What the store runs for it.
pub const SCRIPT: &str = include_str!("capacity.lua");

/// What this process says.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// The script's arguments, with a space between two.
    pub words: String,
    /// Whether somebody uses one of these capacities, as far as this process knows.
    pub is_in_use: bool,
}

/// What the script is told about these capacities. `holder` is the name of this process.
pub fn say(moment: Moment<'_>, holder: &str, gauges: &[Gauge]) -> Result<Said, StoreFault> {
    let (mut words, mut is_in_use) = (holder.to_owned(), false);
    for gauge in gauges {
        let record = moment.store.load(&key(*gauge))?.value;
        let window = Window::read(&record, gauge.window, moment.now);
        is_in_use |= window.used_by_all() > 0;
        let (high, low) = (gauge.id >> 32, gauge.id & u64::from(u32::MAX));
        let (used, window_ms) = (window.used(), gauge.window.as_millis());
        // Into a string nothing fails.
        let _ = write!(words, " {high} {low} {used} {window_ms}");
    }
    Ok(Said { words, is_in_use })
}

/// Takes what the others use of these capacities. `sent` is when it was asked for. False if that is no reply of the script.
pub fn hear(moment: Moment<'_>, sent: Duration, gauges: &[Gauge], reply: &[i64]) -> Result<bool, StoreFault> {
    let numbers: Option<Vec<u64>> = reply.iter().map(|number| u64::try_from(*number).ok()).collect();
    let Some(numbers) = numbers.filter(|numbers| numbers.len() == gauges.len()) else { return Ok(false) };
    for (gauge, used) in gauges.iter().zip(numbers) {
        store::update(moment.store, &key(*gauge), |record| {
            let mut window = Window::read(record, gauge.window, moment.now);
            let is_news = window.fleet_uses(used, sent);
            (is_news.then(|| window.write()), ())
        })?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowance::Weights;
    use crate::capacity::{Yields, learn, take};
    use crate::gauge::{Gauges, RoomLeft, Unit};
    use crate::store::MemoryStore;
    use crate::tokens::Usage;
    use std::num::NonZeroU32;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_secs(1_795_000_000);
    const GAUGE: Gauge = Gauge {
        id: 7 << 32 | 9,
        pace_id: None,
        size: NonZeroU32::new(100).unwrap(),
        window: Duration::from_secs(60),
        is_provisioned: false,
        unit: Unit::Tokens(Weights::UNCACHED),
    };

    fn says(store: &MemoryStore, seconds: u64) -> Said {
        say(Moment::new(store, NOW + Duration::from_secs(seconds)), "a", &[GAUGE]).unwrap()
    }

    fn hears(store: &MemoryStore, reply: &[i64]) -> bool {
        hear(Moment::new(store, NOW), NOW, &[GAUGE], reply).unwrap()
    }

    /// The tokens that were taken, or how long that takes.
    fn takes(store: &MemoryStore, prompt: u64, seconds: u64) -> Result<u64, Duration> {
        let moment = Moment::new(store, NOW + Duration::from_secs(seconds));
        let usage = Usage { prompt, ..Usage::default() };
        let gauges = Gauges { tokens: Some(GAUGE), requests: None };
        take(moment, gauges, usage, Yields::NOTHING).unwrap().map(|_| prompt)
    }

    #[test]
    fn what_was_sent_within_the_window_is_said_each_time() {
        let store = MemoryStore::default();
        assert_eq!(says(&store, 0), Said { words: "a 7 9 0 60000".into(), is_in_use: false });
        assert_eq!(takes(&store, 40, 0), Ok(40));
        for seconds in [0, 60] {
            assert_eq!(says(&store, seconds), Said { words: "a 7 9 40 60000".into(), is_in_use: true });
        }
        assert!(!says(&store, 61).is_in_use);
    }

    #[test]
    fn what_others_use_is_used_here_for_a_window_at_most() {
        let store = MemoryStore::default();
        assert!(hears(&store, &[70]));
        assert_eq!(says(&store, 0), Said { words: "a 7 9 0 60000".into(), is_in_use: true });
        assert_eq!(takes(&store, 30, 0), Ok(30));
        assert!(takes(&store, 1, 59).is_err());
        // It is not told any more, and that of ours leaves a second later.
        assert_eq!(takes(&store, 70, 60), Ok(70));
        let store = MemoryStore::default();
        assert!(hears(&store, &[70]) && hears(&store, &[0]));
        assert_eq!(takes(&store, 100, 0), Ok(100));
    }

    #[test]
    fn what_the_backend_tells_of_others_is_not_counted_twice() {
        let store = MemoryStore::default();
        let backend_tells = |left| learn(Moment::new(&store, NOW), GAUGE, RoomLeft::Amount(left)).unwrap();
        assert!(hears(&store, &[50]));
        backend_tells(60);
        assert_eq!(takes(&store, 50, 0), Ok(50));
        backend_tells(0);
        assert!(takes(&store, 1, 0).is_err());
    }

    #[test]
    fn who_waits_for_others_waits_as_if_they_came_evenly() {
        let store = MemoryStore::default();
        assert!(hears(&store, &[61]));
        assert_eq!(takes(&store, 41, 0), Err(Duration::from_secs(2)));
        // Where they are fewer than the window has parts, too.
        let store = MemoryStore::default();
        assert!(hears(&store, &[6]));
        assert_eq!(takes(&store, 95, 0), Err(Duration::from_secs(11)));
    }

    #[test]
    fn what_is_no_reply_changes_nothing() {
        let store = MemoryStore::default();
        for reply in [&[][..], &[-1], &[5, 5]] {
            assert!(!hears(&store, reply), "{reply:?}");
        }
        assert_eq!(takes(&store, 100, 0), Ok(100));
    }
}

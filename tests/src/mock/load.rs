//! How much was admitted, how much was refused, and how much of the capacity was that?
//!
//! Use is measured in windows of the limiter's own length, one after the other from the first admission on. Each of them
//! holds at most what the limit allows, so a share is never more than the whole; a window that has not ended is not counted.

use std::time::{Duration, Instant};

use serde::Serialize;

/// So many windows are counted; what comes later is in the sums only.
const WINDOWS_MAX: usize = 100_000;

/// What the limiter had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Requests admitted.
    pub admitted: u64,
    /// Requests answered 429, whether for a limit or as a fault.
    pub refused: u64,
    /// The tokens of those admitted: what the limiter took them to cost, or has been corrected to.
    pub tokens: u64,
    /// The most tokens that a window holds, if that is limited.
    pub window_tokens_max: Option<u64>,
    /// The tokens admitted in each window that has ended, the first beginning with the first admission.
    pub windows: Vec<u64>,
}

impl Load {
    /// Which part of the capacity was used in all windows together; none if there is no limit or no window has ended.
    #[must_use]
    pub fn used(&self) -> Option<f64> {
        let capacity = self.window_tokens_max?.checked_mul(self.windows.len() as u64)?;
        (capacity > 0).then(|| self.windows.iter().sum::<u64>() as f64 / capacity as f64)
    }

    /// Which part was used in the median window. Unlike [`Load::used`], it does not depend on a moment in which the machine
    /// had something else to do.
    #[must_use]
    pub fn used_median(&self) -> Option<f64> {
        let mut windows = self.windows.clone();
        windows.sort_unstable();
        let capacity = self.window_tokens_max.filter(|capacity| *capacity > 0)?;
        // Of two in the middle the lower.
        let middle = windows.len().checked_sub(1)? / 2;
        Some(*windows.get(middle)? as f64 / capacity as f64)
    }
}

/// The count as it goes on.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Admissions before this one were of another count.
    since_serial: u64,
    /// When the first window began, and how long each is.
    first: Option<(Instant, Duration)>,
    admitted: u64,
    refused: u64,
    tokens: u64,
    windows: Vec<u64>,
}

impl Tally {
    /// Nothing yet; the next admission has this serial.
    pub(super) fn since(serial: u64) -> Self {
        Self { since_serial: serial, ..Self::default() }
    }

    pub(super) fn admitted(&mut self, cost: u64, window: Duration, now: Instant) {
        self.first.get_or_insert((now, window));
        self.admitted += 1;
        self.tokens = self.tokens.saturating_add(cost);
        if let Some(tokens) = self.window(now) {
            *tokens = tokens.saturating_add(cost);
        }
    }

    pub(super) fn settled(&mut self, serial: u64, cost: u64, used: u64, admitted_at: Instant) {
        if serial < self.since_serial {
            return;
        }
        let correct = |tokens: &mut u64| *tokens = tokens.saturating_sub(cost).saturating_add(used);
        correct(&mut self.tokens);
        if let Some(tokens) = self.window(admitted_at) {
            correct(tokens);
        }
    }

    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    pub(super) fn load(&self, window_tokens_max: Option<u64>, window: Duration, now: Instant) -> Load {
        let ended = self.first.map_or(0, |(first, _)| index(first, window, now)).min(WINDOWS_MAX);
        let mut windows = self.windows.clone();
        // Those in which nothing was admitted are windows too.
        windows.resize(ended, 0);
        let Self { admitted, refused, tokens, .. } = *self;
        Load { admitted, refused, tokens, window_tokens_max, windows }
    }

    /// The window of that time, if it is counted.
    fn window(&mut self, at: Instant) -> Option<&mut u64> {
        let (first, window) = self.first?;
        let index = index(first, window, at);
        if index >= WINDOWS_MAX {
            return None;
        }
        if index >= self.windows.len() {
            self.windows.resize(index + 1, 0);
        }
        self.windows.get_mut(index)
    }
}

/// How many windows have ended between `first` and `now`.
fn index(first: Instant, window: Duration, now: Instant) -> usize {
    let ended = now.saturating_duration_since(first).as_nanos() / window.as_nanos().max(1);
    usize::try_from(ended).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(2000);

    /// Admissions as their costs and times, and the windows and shares that are told at a time.
    #[track_caller]
    fn check(admissions: &[(u64, u64)], at_ms: u64, expected: (&[u64], Option<f64>, Option<f64>)) {
        let start = Instant::now();
        let mut tally = Tally::default();
        for (cost, ms) in admissions {
            tally.admitted(*cost, WINDOW, start + Duration::from_millis(*ms));
        }
        let load = tally.load(Some(100), WINDOW, start + Duration::from_millis(at_ms));
        assert_eq!((load.windows.as_slice(), load.used(), load.used_median()), expected);
        assert_eq!(load.tokens, admissions.iter().map(|(cost, _)| cost).sum::<u64>());
        assert_eq!(load.admitted, admissions.len() as u64);
    }

    #[test]
    fn use_is_that_of_the_windows_that_have_ended() {
        check(&[], 10_000, (&[], None, None));
        check(&[(60, 500)], 2499, (&[], None, None));
        check(&[(60, 500)], 2500, (&[60], Some(0.6), Some(0.6)));
        check(&[(60, 500), (40, 2499), (90, 2500)], 2500, (&[100], Some(1.0), Some(1.0)));
        check(&[(60, 0), (40, 1999), (90, 2000)], 4000, (&[100, 90], Some(0.95), Some(0.9)));
        // Where nothing came, nothing was used.
        check(&[(100, 0), (80, 4000)], 6000, (&[100, 0, 80], Some(0.6), Some(0.8)));
        check(&[(100, 0)], 6000, (&[100, 0, 0], Some(100.0 / 300.0), Some(0.0)));
    }

    #[test]
    fn without_a_limit_there_is_no_share() {
        let start = Instant::now();
        let mut tally = Tally::default();
        tally.admitted(5, WINDOW, start);
        for capacity in [None, Some(0)] {
            let load = tally.load(capacity, WINDOW, start + WINDOW);
            assert_eq!((load.windows.as_slice(), load.used(), load.used_median()), (&[5][..], None, None));
        }
    }

    #[test]
    fn what_was_used_counts_in_the_window_in_which_it_was_admitted() {
        let start = Instant::now();
        let mut tally = Tally::since(7);
        tally.admitted(60, WINDOW, start);
        tally.admitted(90, WINDOW, start + WINDOW);
        tally.settled(7, 60, 20, start);
        // Of the count before.
        tally.settled(6, 60, 20, start);
        tally.refused();
        let load = tally.load(Some(100), WINDOW, start + 2 * WINDOW);
        let expected = Load {
            admitted: 2,
            refused: 1,
            tokens: 110,
            window_tokens_max: Some(100),
            windows: vec![20, 90],
        };
        assert_eq!(load, expected);
    }

    #[test]
    fn windows_are_bounded_and_sums_are_not() {
        let start = Instant::now();
        let mut tally = Tally::default();
        let window = Duration::from_millis(1);
        let late = start + window * WINDOWS_MAX as u32;
        tally.admitted(1, window, start);
        tally.admitted(1, window, late);
        let load = tally.load(None, window, late + WINDOW);
        assert_eq!((load.tokens, load.windows.len(), load.windows.iter().sum()), (2, WINDOWS_MAX, 1_u64));
    }
}

//! What is a stored time worth, once the clock was set?
//!
//! Time here is that of the system's clock, and it can be set forward or back. A time that lies ahead of now was written
//! before the clock was put back. Whoever stores a time asks here whether it does, and then takes it for what harms least:
//! whatever it is, it must not hold until the clock comes there again. Not decided here: what harms least.

use std::time::Duration;

/// Two workers that look at the same clock may see moments that differ by this, for a callback's time is read when it
/// begins. What lies ahead by no more is not of a clock that was set.
pub const SKEW: Duration = Duration::from_secs(1);

/// A moment as it is stored, in nanoseconds since the epoch: good until the year 2554.
#[must_use]
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether a stored moment has not come yet, so that the clock was put back since. Both in nanoseconds.
#[must_use]
pub fn is_ahead(stored: u64, now: u64) -> bool {
    stored > now.saturating_add(nanos(SKEW))
}

/// Whether something is over that began at one moment and was to last until another. It is, too, where it has not begun:
/// nobody knows how much of it is left.
#[must_use]
pub fn is_over(began: Duration, until: Duration, now: Duration) -> bool {
    now >= until || began > now.saturating_add(SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_moment_is_ahead_only_beyond_what_workers_differ_by() {
        let now = nanos(Duration::from_secs(1_795_000_000));
        for (stored, ahead) in [
            (0, false),
            (now, false),
            (now + nanos(SKEW), false),
            (now + nanos(SKEW) + 1, true),
            (u64::MAX, true),
        ] {
            assert_eq!(is_ahead(stored, now), ahead, "{stored}");
        }
        assert!(!is_ahead(u64::MAX, u64::MAX));
    }

    #[test]
    fn a_wait_is_over_at_its_end_and_before_it_began() {
        let s = Duration::from_secs;
        for (now, over) in [(10, false), (19, false), (20, true), (9, false), (8, true), (0, true)] {
            assert_eq!(is_over(s(10), s(20), s(now)), over, "{now}");
        }
    }
}

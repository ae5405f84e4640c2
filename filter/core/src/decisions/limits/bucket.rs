//! A bucket that flows full in its time: how much is in it, and how long until there is enough?

use crate::allowance::Flow;
use std::time::Duration;

/// The size of a bucket, and the time it flows full in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) amount: u64,
    pub(super) per: Flow,
}

/// What is in a bucket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Units times the nanoseconds of the period: what flows in during one nanosecond is then a whole number, and no
    /// fraction of a unit is ever rounded away. Below zero after a request that cost more than it had reserved.
    pub(super) credit: i128,
    /// When that was true, in nanoseconds since the epoch.
    pub(super) at: u64,
}

impl Size {
    fn credit(self, amount: i128) -> i128 {
        amount.saturating_mul(self.per.nanos().into())
    }

    /// What of a unit has flowed in, where the rest of it takes `next` nanoseconds; 0 says that none flows in.
    pub(super) fn flowed(self, next: u64) -> i128 {
        let rest = i128::from(next).saturating_mul(self.amount.into());
        if next == 0 { 0 } else { self.credit(1).saturating_sub(rest).max(0) }
    }

    fn brim(self) -> i128 {
        self.credit(self.amount.into())
    }
}

impl Bucket {
    pub(super) fn full(size: Size, now: u64) -> Self {
        Self { credit: size.brim(), at: now }
    }

    pub(super) fn refill(self, size: Size, now: u64) -> Self {
        // Nobody waits longer than a period because the clock was set back: it begins anew.
        if self.at > now.saturating_add(size.per.nanos()) {
            return Self::full(size, now);
        }
        // A clock that was set back earns nothing, and the same time is not earned twice.
        let elapsed = i128::from(now.saturating_sub(self.at));
        let earned = elapsed.saturating_mul(size.amount.into());
        Self { credit: self.credit.saturating_add(earned).min(size.brim()), at: now.max(self.at) }
    }

    /// Whole units that are there.
    pub(super) fn remaining(self, size: Size) -> u64 {
        let nanos = size.per.nanos();
        match u64::try_from(self.credit) {
            Ok(credit) => credit / nanos,
            Err(_) => u64::try_from(self.credit.max(0) / i128::from(nanos)).unwrap_or(u64::MAX),
        }
    }

    /// What is missing to the brim, in whole units, rounded up.
    pub(super) fn used(self, size: Size) -> u64 {
        let missing = size.brim().saturating_sub(self.credit).max(0);
        u64::try_from(-(-missing).div_euclid(size.per.nanos().into())).unwrap_or(u64::MAX)
    }

    pub(super) fn take(self, size: Size, amount: i128) -> Self {
        Self { credit: self.credit.saturating_sub(size.credit(amount)), ..self }
    }

    /// Until there is `amount`, if nothing is taken meanwhile.
    pub(super) fn wait(self, size: Size, amount: u64, now: u64) -> Duration {
        let missing = size.credit(amount.into()).saturating_sub(self.credit);
        if missing <= 0 {
            return Duration::ZERO;
        }
        let rate = size.amount.max(1);
        // The wide division is slow, and seldom needed.
        let takes = match u64::try_from(missing) {
            Ok(missing) => missing.div_ceil(rate).into(),
            Err(_) => missing / i128::from(rate) + i128::from(missing % i128::from(rate) != 0),
        };
        let ready = i128::from(self.at).saturating_add(takes);
        Duration::from_nanos(u64::try_from(ready - i128::from(now)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const START: u64 = 1_795_000_000_000_000_000;

    #[test]
    fn a_clock_that_was_set_back_holds_a_bucket_for_a_period() {
        const SECOND: u64 = 1_000_000_000;
        let size = Size { amount: 60, per: Flow::Minute };
        for (ahead, wait_s) in [(0, 1), (30, 31), (60, 61), (61, 0), (3 * 86_400, 0)] {
            let empty = Bucket { credit: 0, at: START + ahead * SECOND };
            let found = empty.refill(size, START);
            assert_eq!(found.wait(size, 1, START), Duration::from_secs(wait_s), "{ahead} s");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn asking_often_earns_as_much_as_asking_once(
            amount in 1..5000u64,
            asks in prop::collection::vec(1..500_000u64, 1..100),
        ) {
            let size = Size { amount, per: Flow::Minute };
            let empty = Bucket { credit: 0, at: START };
            let (mut often, mut now) = (empty, START);
            for step in asks {
                now += step * 1000;
                often = often.refill(size, now);
            }
            prop_assert_eq!(often, empty.refill(size, now));
        }

        #[test]
        fn what_is_used_and_what_remains_are_the_whole(amount in 1..5000u64, taken in 0..9000i128, ns in 0..100_000_000_000u64) {
            let size = Size { amount, per: Flow::Minute };
            let bucket = Bucket::full(size, START).take(size, taken).refill(size, START + ns);
            let (used, remaining) = (bucket.used(size), bucket.remaining(size));
            prop_assert!(used + remaining == amount || (remaining == 0 && used > amount));
        }
    }
}

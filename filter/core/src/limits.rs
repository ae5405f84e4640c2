//! Is there budget left for this?
//!
//! Token buckets: a reservation takes what a request may cost before it is sent, the settlement puts back what it did
//! not. Several limits of one client stand in one record, so a reservation takes from all of them or from none. Pure
//! arithmetic over the [`Store`], with time as an argument. Not decided here: what a request may cost.

use crate::denial::{Denial, TokenRate};
use crate::store::{self, Store, StoreFault};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

/// How long a bucket takes from empty to full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// One second.
    Second,
    /// Sixty.
    Minute,
}

impl Period {
    const fn nanos(self) -> u64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Second => b's',
            Self::Minute => b'm',
        }
    }
}

/// So many tokens in a period, as a bucket that holds as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The bucket's size, and what flows in during a period.
    pub tokens: NonZeroU32,
    /// The period.
    pub per: Period,
}

impl Limit {
    fn rate(self) -> TokenRate {
        TokenRate { tokens: self.tokens.get(), per: self.per.name() }
    }

    fn credit(self, tokens: i128) -> i128 {
        tokens.saturating_mul(self.per.nanos().into())
    }
}

/// All limits of one client, and where their state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    key: String,
    limits: Vec<Limit>,
}

impl Budget {
    /// The budget of the client of this name.
    #[must_use]
    pub fn new(client: &str, limits: Vec<Limit>) -> Self {
        Self { key: format!("tollgate/budget/{client}"), limits }
    }
}

/// What is asked of the store: take so many tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// From which budget.
    pub budget: Rc<Budget>,
    /// How many.
    pub tokens: u64,
}

/// Tokens taken, to be settled once. Not `Clone`: whoever has it owes the settlement.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    budget: Rc<Budget>,
    tokens: u64,
}

impl Reservation {
    /// How many were taken.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Turns it into the debt that the store is to be told, once the real cost is known.
    pub fn settle(self, used: u64) -> Settlement {
        Settlement { budget: self.budget, reserved: self.tokens, used }
    }
}

/// What is asked of the store: put back what was taken and not used, or take what was used beyond.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    budget: Rc<Budget>,
    reserved: u64,
    used: u64,
}

/// Where the tightest limit stands, for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its size.
    pub limit: u32,
    /// What is left.
    pub remaining: u64,
    /// Until it is full again.
    pub reset: Duration,
}

impl Standing {
    /// As OpenAI's headers tell it, which its SDKs read.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let reset_ms = self.reset.as_nanos().div_ceil(1_000_000);
        [
            ("x-ratelimit-limit-tokens", self.limit.to_string()),
            ("x-ratelimit-remaining-tokens", self.remaining.to_string()),
            ("x-ratelimit-reset-tokens", format!("{reset_ms}ms")),
        ]
    }
}

/// A store's answer to a [`Claim`].
#[derive(Debug, PartialEq, Eq)]
pub enum Grant {
    /// Taken; with where the tightest limit stands, if there is any.
    Granted(Reservation, Option<Standing>),
    /// Not taken.
    Refused(Denial),
}

/// One bucket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// Tokens times the nanoseconds of the period: what flows in during one nanosecond is then a whole number, and no
    /// fraction of a token is ever rounded away. Below zero after a request that cost more than it had reserved.
    credit: i128,
    /// When that was true, in nanoseconds since the epoch.
    at: u64,
}

impl Bucket {
    const BYTES: usize = 25;

    fn full(limit: Limit, now: u64) -> Self {
        Self { credit: limit.credit(limit.tokens.get().into()), at: now }
    }

    fn refill(self, limit: Limit, now: u64) -> Self {
        // A clock that was set back earns nothing, and the same time is not earned twice.
        let elapsed = i128::from(now.saturating_sub(self.at));
        let earned = elapsed * i128::from(limit.tokens.get());
        let brim = Self::full(limit, now).credit;
        Self { credit: self.credit.saturating_add(earned).min(brim), at: now.max(self.at) }
    }

    /// Whole tokens that are there.
    fn tokens(self, limit: Limit) -> u64 {
        u64::try_from(self.credit.div_euclid(i128::from(limit.per.nanos()))).unwrap_or(0)
    }

    fn take(self, limit: Limit, tokens: i128) -> Self {
        Self { credit: self.credit.saturating_sub(limit.credit(tokens)), ..self }
    }

    /// Until there are `tokens`, if nothing is taken meanwhile.
    fn wait(self, limit: Limit, tokens: u64, now: u64) -> Duration {
        let missing = limit.credit(tokens.into()).saturating_sub(self.credit);
        if missing <= 0 {
            return Duration::ZERO;
        }
        let rate = i128::from(limit.tokens.get());
        let takes = missing / rate + i128::from(missing % rate != 0);
        let ready = i128::from(self.at).saturating_add(takes);
        Duration::from_nanos(u64::try_from(ready - i128::from(now)).unwrap_or(u64::MAX))
    }

    fn read(bytes: &[u8], limit: Limit) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let (credit, at) = rest.split_at_checked(16)?;
        (*tag == limit.per.tag()).then_some(Self {
            credit: i128::from_le_bytes(credit.try_into().ok()?),
            at: u64::from_le_bytes(at.try_into().ok()?),
        })
    }

    fn write(self, limit: Limit, out: &mut Vec<u8>) {
        out.push(limit.per.tag());
        out.extend_from_slice(&self.credit.to_le_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
    }
}

/// The buckets of a budget as they are now. One that the record does not have, or has for another period (the
/// configuration changed), begins full.
fn buckets<'a>(budget: &'a Budget, record: &'a [u8], now: u64) -> impl Iterator<Item = (Limit, Bucket)> + 'a {
    let mut places = record.chunks_exact(Bucket::BYTES);
    budget.limits.iter().map(move |limit| {
        let found = places.next().and_then(|bytes| Bucket::read(bytes, *limit));
        (*limit, found.unwrap_or_else(|| Bucket::full(*limit, now)).refill(*limit, now))
    })
}

fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Takes the tokens of a claim from all limits of its budget, or from none.
pub fn reserve(store: &dyn Store, claim: Claim, now: Duration) -> Result<Grant, StoreFault> {
    let now = nanos(now);
    let Claim { budget, tokens } = claim;
    if budget.limits.is_empty() {
        return Ok(Grant::Granted(Reservation { budget, tokens }, None));
    }
    let outcome = store::update(store, &budget.key, |record| {
        let mut after = Vec::with_capacity(budget.limits.len() * Bucket::BYTES);
        let mut standing: Option<Standing> = None;
        let mut refusal: Option<(Limit, Bucket, Duration)> = None;
        for (limit, bucket) in buckets(&budget, record, now) {
            if tokens > limit.tokens.get().into() {
                return (None, Err(Denial::NeverFits { limit: limit.rate(), needed: tokens }));
            }
            let wait = bucket.wait(limit, tokens, now);
            if wait > Duration::ZERO && refusal.is_none_or(|(_, _, longest)| wait > longest) {
                refusal = Some((limit, bucket, wait));
            }
            let left = bucket.take(limit, tokens.into());
            left.write(limit, &mut after);
            let found = Standing {
                limit: limit.tokens.get(),
                remaining: left.tokens(limit),
                reset: left.wait(limit, limit.tokens.get().into(), now),
            };
            if standing.is_none_or(|tightest| found.remaining < tightest.remaining) {
                standing = Some(found);
            }
        }
        match refusal {
            None => (Some(after), Ok(standing)),
            Some((limit, bucket, wait)) => {
                let remaining = bucket.tokens(limit);
                (None, Err(Denial::TokensExhausted { limit: limit.rate(), needed: tokens, remaining, wait }))
            }
        }
    })?;
    Ok(match outcome {
        Ok(standing) => Grant::Granted(Reservation { budget, tokens }, standing),
        Err(denial) => Grant::Refused(denial),
    })
}

/// Corrects a budget by what a request really cost.
pub fn settle(store: &dyn Store, settlement: &Settlement, now: Duration) -> Result<(), StoreFault> {
    let now = nanos(now);
    let back = i128::from(settlement.reserved) - i128::from(settlement.used);
    if back == 0 || settlement.budget.limits.is_empty() {
        return Ok(());
    }
    store::update(store, &settlement.budget.key, |record| {
        let mut after = Vec::with_capacity(settlement.budget.limits.len() * Bucket::BYTES);
        for (limit, bucket) in buckets(&settlement.budget, record, now) {
            // Filled beyond the brim it loses the rest at once.
            bucket.take(limit, -back).refill(limit, now).write(limit, &mut after);
        }
        (Some(after), ())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Loaded, MemoryStore, Swap, Version};
    use proptest::prelude::*;
    use std::cell::RefCell;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn limit(tokens: u32, per: Period) -> Limit {
        Limit { tokens: NonZeroU32::new(tokens).unwrap(), per }
    }

    fn budget(limits: &[Limit]) -> Rc<Budget> {
        Rc::new(Budget::new("c", limits.to_vec()))
    }

    /// A day in 2026: real times are large numbers.
    const START: Duration = Duration::from_secs(1_795_000_000);

    fn ms(ms: u64) -> Duration {
        START + Duration::from_millis(ms)
    }

    /// Takes and answers what is left, or refuses and answers the wait.
    fn take(
        store: &MemoryStore,
        budget: &Rc<Budget>,
        tokens: u64,
        now: Duration,
    ) -> Result<(Reservation, u64), Duration> {
        match reserve(store, Claim { budget: budget.clone(), tokens }, now).unwrap() {
            Grant::Granted(reservation, standing) => Ok((reservation, standing.unwrap().remaining)),
            Grant::Refused(Denial::TokensExhausted { wait, .. }) => Err(wait),
            Grant::Refused(denial) => panic!("{denial:?}"),
        }
    }

    #[test]
    fn a_bucket_is_emptied_and_flows_full() {
        let (store, budget) = (MemoryStore::default(), budget(&[limit(600, Period::Minute)]));
        assert_eq!(take(&store, &budget, 600, ms(0)).unwrap().1, 0);
        assert_eq!(take(&store, &budget, 10, ms(0)).unwrap_err(), Duration::from_secs(1));
        assert_eq!(take(&store, &budget, 10, ms(999)).unwrap_err(), Duration::from_millis(1));
        assert_eq!(take(&store, &budget, 10, ms(1000)).unwrap().1, 0);
        assert_eq!(take(&store, &budget, 600, ms(100_000)).unwrap().1, 0);
    }

    #[test]
    fn the_settlement_puts_back_what_was_not_used_and_takes_what_was_used_beyond() {
        let (store, budget) = (MemoryStore::default(), budget(&[limit(100, Period::Minute)]));
        let (reservation, _) = take(&store, &budget, 80, ms(0)).unwrap();
        settle(&store, &reservation.settle(30), ms(0)).unwrap();
        let (reservation, left) = take(&store, &budget, 70, ms(0)).unwrap();
        assert_eq!(left, 0);
        settle(&store, &reservation.settle(90), ms(0)).unwrap();
        // 20 in debt: the first token comes after 21 have flowed in, at 0.6 s each.
        assert_eq!(take(&store, &budget, 1, ms(0)).unwrap_err(), Duration::from_millis(12_600));
    }

    #[test]
    fn a_settlement_never_fills_beyond_the_brim() {
        let (store, budget) = (MemoryStore::default(), budget(&[limit(100, Period::Minute)]));
        let (reservation, _) = take(&store, &budget, 100, ms(0)).unwrap();
        settle(&store, &reservation.settle(0), ms(60_000)).unwrap();
        assert_eq!(take(&store, &budget, 100, ms(60_000)).unwrap().1, 0);
        assert!(take(&store, &budget, 1, ms(60_000)).is_err());
    }

    #[test]
    fn all_limits_give_or_none() {
        let (store, budget) =
            (MemoryStore::default(), budget(&[limit(100, Period::Minute), limit(10, Period::Second)]));
        assert_eq!(take(&store, &budget, 10, ms(0)).unwrap().1, 0);
        // The second is empty for 0.5 s; the minute must not have been touched by this.
        assert_eq!(take(&store, &budget, 5, ms(0)).unwrap_err(), Duration::from_millis(500));
        for second in 1..10 {
            let _ = take(&store, &budget, 10, ms(second * 1000)).unwrap();
        }
        let _ = take(&store, &budget, 10, ms(10_000)).unwrap();
        // 110 are taken from the minute, which has twenty back after twelve seconds.
        assert_eq!(take(&store, &budget, 10, ms(11_000)).unwrap_err(), Duration::from_secs(1));
    }

    #[test]
    fn what_exceeds_the_bucket_is_never_promised() {
        let (store, budget) = (MemoryStore::default(), budget(&[limit(10, Period::Minute)]));
        let grant = reserve(&store, Claim { budget, tokens: 11 }, ms(0)).unwrap();
        let rate = TokenRate { tokens: 10, per: "minute" };
        assert_eq!(grant, Grant::Refused(Denial::NeverFits { limit: rate, needed: 11 }));
    }

    #[test]
    fn a_clock_set_back_earns_nothing() {
        let (store, budget) = (MemoryStore::default(), budget(&[limit(10, Period::Second)]));
        let _ = take(&store, &budget, 10, ms(5000)).unwrap();
        assert_eq!(take(&store, &budget, 1, ms(1000)).unwrap_err(), Duration::from_millis(4100));
        assert_eq!(take(&store, &budget, 1, ms(5100)).unwrap().1, 0);
    }

    #[test]
    fn a_new_configuration_keeps_what_is_spent() {
        let store = MemoryStore::default();
        let _ = take(&store, &budget(&[limit(100, Period::Minute)]), 90, ms(0)).unwrap();
        // Smaller: what is there is cut to the new size. Another period: begins full.
        assert_eq!(take(&store, &budget(&[limit(50, Period::Minute)]), 10, ms(0)).unwrap().1, 0);
        assert_eq!(take(&store, &budget(&[limit(50, Period::Second)]), 50, ms(0)).unwrap().1, 0);
    }

    /// A store in which somebody else takes from the same budget just before the first write.
    struct Raced {
        store: MemoryStore,
        other: RefCell<Option<Claim>>,
    }

    impl Store for Raced {
        fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
            self.store.load(key)
        }
        fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
            if let Some(claim) = self.other.take() {
                let grant = reserve(&self.store, claim, START).unwrap();
                assert!(matches!(grant, Grant::Granted(..)));
            }
            self.store.swap(key, value, version)
        }
        fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
            self.store.put(key, value)
        }
    }

    #[test]
    fn who_is_overtaken_sees_what_was_taken() {
        let budget = budget(&[limit(100, Period::Minute)]);
        let claim = |tokens| Claim { budget: budget.clone(), tokens };
        for (tokens, admitted) in [(40, true), (41, false)] {
            let store = Raced { store: MemoryStore::default(), other: RefCell::new(Some(claim(60))) };
            let grant = reserve(&store, claim(tokens), START).unwrap();
            assert_eq!(matches!(grant, Grant::Granted(..)), admitted, "{grant:?}");
        }
        // Put back at the same moment as somebody takes: neither is lost.
        let store = Raced { store: MemoryStore::default(), other: RefCell::new(None) };
        let Grant::Granted(reservation, _) = reserve(&store, claim(100), START).unwrap() else { panic!() };
        settle(&store, &reservation.settle(30), START).unwrap();
        let Grant::Granted(reservation, _) = reserve(&store, claim(10), START).unwrap() else { panic!() };
        store.other.replace(Some(claim(50)));
        settle(&store, &reservation.settle(0), START).unwrap();
        assert!(take(&store.store, &budget, 21, START).is_err());
        assert!(take(&store.store, &budget, 20, START).is_ok());
    }

    #[test]
    fn a_broken_store_is_an_error_not_a_grant() {
        let (store, budget) = (MemoryStore::default(), budget(&[limit(10, Period::Second)]));
        store.break_with(Some(StoreFault::Unavailable));
        let found = reserve(&store, Claim { budget, tokens: 1 }, ms(0));
        assert_eq!(found, Err(StoreFault::Unavailable));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_grants_more_than_time_allows(
            size in 1..5000u32, minute in any::<bool>(),
            asks in prop::collection::vec((0..3000u64, 1..200u64), 1..60),
        ) {
            let per = if minute { Period::Minute } else { Period::Second };
            let (store, budget) = (MemoryStore::default(), budget(&[limit(size, per)]));
            let (mut now, mut granted) = (START, 0u128);
            for (step_ms, tokens) in asks {
                now += Duration::from_millis(step_ms);
                if tokens <= u64::from(size) && take(&store, &budget, tokens, now).is_ok() {
                    granted += u128::from(tokens);
                }
            }
            let flowed = (now - START).as_nanos() * u128::from(size) / u128::from(per.nanos());
            prop_assert!(granted <= u128::from(size) + flowed, "{granted} of {size} + {flowed}");
        }

        #[test]
        fn asking_often_earns_as_much_as_asking_once(size in 1..5000u32, asks in prop::collection::vec(1..500_000u64, 1..100)) {
            let limit = limit(size, Period::Minute);
            let empty = Bucket { credit: 0, at: nanos(START) };
            let (mut often, mut now) = (empty, nanos(START));
            for step in asks {
                now += step * 1000;
                often = often.refill(limit, now);
            }
            prop_assert_eq!(often, empty.refill(limit, now));
        }

        #[test]
        fn the_promised_wait_is_exact(size in 1..5000u32, first in 1..5000u64, second in 1..5000u64, pause_ms in 0..70_000u64) {
            let (store, budget) = (MemoryStore::default(), budget(&[limit(size, Period::Minute)]));
            let (first, second) = (first.min(u64::from(size)), second.min(u64::from(size)));
            let _ = take(&store, &budget, first, START).unwrap();
            let now = ms(pause_ms);
            if let Err(wait) = take(&store, &budget, second, now) {
                prop_assert!(take(&store, &budget, second, now + wait - Duration::from_nanos(1)).is_err());
                prop_assert!(take(&store, &budget, second, now + wait).is_ok());
            }
        }
    }
}

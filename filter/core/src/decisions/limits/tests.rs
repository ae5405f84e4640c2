use super::*;
use crate::allowance::{Flow, Scope, Unit, Weights, Whose};
use crate::calendar::Span;
use crate::endpoint::Operation;
use crate::store::{Loaded, MemoryStore, Moment, Store, Swap, Version};
use crate::tokens::Usage;
use proptest::prelude::*;
use std::cell::RefCell;
use std::num::NonZeroU64;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A Tuesday in 2026: real times are large numbers.
const START: Duration = Duration::from_secs(1_795_490_661);

const TOKENS: Unit = Unit::Tokens(Weights::PLAIN);
const MINUTE: Measure = Measure::Rate(TOKENS, Flow::Minute);
const SECOND: Measure = Measure::Rate(TOKENS, Flow::Second);
const REQUESTS: Measure = Measure::Rate(Unit::Requests, Flow::Minute);
const DAY: Measure = Measure::Quota(TOKENS, Span::Day);
const MONTH: Measure = Measure::Quota(TOKENS, Span::Month);
const MONEY: Measure = Measure::Quota(Unit::Cost, Span::Day);

fn ms(ms: u64) -> Duration {
    START + Duration::from_millis(ms)
}

fn of(whose: Whose, measure: Measure, amount: u64) -> Allowance {
    Allowance::new(whose, measure, NonZeroU64::new(amount).unwrap(), Scope::default(), false)
}

fn allow(measure: Measure, amount: u64) -> Allowance {
    of(Whose::Client, measure, amount)
}

fn shadow(measure: Measure, amount: u64) -> Allowance {
    Allowance { shadow: true, ..allow(measure, amount) }
}

fn budget(limits: &[(Measure, u64)]) -> Rc<Budget> {
    named("c", limits.iter().map(|(measure, amount)| allow(*measure, *amount)).collect())
}

fn named(name: &str, allowances: Vec<Allowance>) -> Rc<Budget> {
    Rc::new(Budget::new([Rc::new(Account::of_client(name, allowances))]))
}

/// A client with limits of its own and those of its group.
fn member(name: &str, own: &[(Measure, u64)], shared: &[(Measure, u64)]) -> Rc<Budget> {
    let own = own.iter().map(|(measure, amount)| allow(*measure, *amount)).collect();
    let group = Whose::Group("g".into());
    let shared = shared.iter().map(|(measure, amount)| of(group.clone(), *measure, *amount)).collect();
    Rc::new(Budget::new([Rc::new(Account::of_client(name, own)), Rc::new(Account::of_group("g", shared))]))
}

fn usage(prompt: u64) -> Usage {
    Usage { prompt, ..Usage::default() }
}

/// So many tokens at that price each.
fn claim(budget: &Rc<Budget>, tokens: u64) -> Claim {
    let budget = budget.clone();
    let (operation, part) = (Operation::ChatCompletions, Part::All);
    Claim { budget, part, model: Some("m".into()), operation, usage: usage(tokens), cost: tokens }
}

fn spent(tokens: u64) -> Spent {
    Spent { usage: usage(tokens), cost: tokens, requests: 1 }
}

/// Takes, or refuses and answers the wait; none where nobody knows.
fn ask_for(
    store: &dyn Store,
    budget: &Rc<Budget>,
    tokens: u64,
    now: Duration,
) -> Result<Granted, Option<Duration>> {
    match reserve(Moment::new(store, now), claim(budget, tokens)).unwrap() {
        Grant::Granted(granted) => Ok(granted),
        Grant::Refused(Denial::RateExhausted { wait, .. } | Denial::QuotaExhausted { wait, .. }, ..) => {
            Err(Some(wait))
        }
        Grant::Refused(..) => Err(None),
    }
}

/// Takes and answers what is left of the tokens, or refuses and answers the wait.
fn take(
    store: &MemoryStore,
    budget: &Rc<Budget>,
    tokens: u64,
    now: Duration,
) -> Result<(Reservation, u64), Duration> {
    match ask_for(store, budget, tokens, now) {
        Ok(granted) => Ok((granted.reservation, granted.standing.tokens.unwrap().remaining)),
        Err(wait) => Err(wait.unwrap()),
    }
}

/// What is used of each limit.
fn used(store: &dyn Store, budget: &Rc<Budget>, now: Duration) -> Vec<u64> {
    let inquiry = Inquiry { budget: budget.clone(), model: None, operation: Operation::ChatCompletions };
    read(Moment::new(store, now), &inquiry).unwrap().states.iter().map(|state| state.used).collect()
}

fn code(store: &dyn Store, claim: Claim, now: Duration) -> String {
    match reserve(Moment::new(store, now), claim).unwrap() {
        Grant::Granted(_) => "granted".to_owned(),
        Grant::Refused(denial, ..) => format!("{} {}", denial.code(), denial.limit().unwrap().word),
    }
}

#[test]
fn a_bucket_is_emptied_and_flows_full() {
    let (store, budget) = (MemoryStore::default(), budget(&[(MINUTE, 600)]));
    assert_eq!(take(&store, &budget, 600, ms(0)).unwrap().1, 0);
    assert_eq!(take(&store, &budget, 10, ms(0)).unwrap_err(), Duration::from_secs(1));
    assert_eq!(take(&store, &budget, 10, ms(999)).unwrap_err(), Duration::from_millis(1));
    assert_eq!(take(&store, &budget, 10, ms(1000)).unwrap().1, 0);
    assert_eq!(take(&store, &budget, 600, ms(100_000)).unwrap().1, 0);
}

#[test]
fn settlement_returns_what_is_unused_and_takes_what_is_beyond() {
    let (store, budget) = (MemoryStore::default(), budget(&[(MINUTE, 100)]));
    let (reservation, _) = take(&store, &budget, 80, ms(0)).unwrap();
    settle(Moment::new(&store, ms(0)), &reservation.settle(spent(30))).unwrap();
    let (reservation, left) = take(&store, &budget, 70, ms(0)).unwrap();
    assert_eq!(left, 0);
    settle(Moment::new(&store, ms(0)), &reservation.settle(spent(90))).unwrap();
    // 20 in debt: the first token comes after 21 have flowed in, at 0.6 s each.
    assert_eq!(take(&store, &budget, 1, ms(0)).unwrap_err(), Duration::from_millis(12_600));
}

#[test]
fn a_settlement_never_fills_beyond_the_brim() {
    let (store, larger) = (MemoryStore::default(), budget(&[(MINUTE, 300)]));
    let budget = budget(&[(MINUTE, 100)]);
    let (reservation, _) = take(&store, &budget, 100, ms(0)).unwrap();
    settle(Moment::new(&store, ms(60_000)), &reservation.settle(spent(0))).unwrap();
    // Nor does a bucket that is made larger find in it what the smaller could not hold.
    assert_eq!(used(&store, &larger, ms(60_000)), [200]);
    assert_eq!(take(&store, &budget, 100, ms(60_000)).unwrap().1, 0);
    assert!(take(&store, &budget, 1, ms(60_000)).is_err());
}

#[test]
fn all_limits_give_or_none() {
    let (store, budget) = (MemoryStore::default(), budget(&[(MINUTE, 100), (SECOND, 10)]));
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
fn each_kind_of_limit_refuses_in_its_own_way() {
    for (measure, amount, tokens, expected) in [
        (MINUTE, 15, 10, "rate_limit_exceeded tokens/minute"),
        (REQUESTS, 1, 10, "rate_limit_exceeded requests/minute"),
        (Measure::Quota(Unit::Requests, Span::Week), 1, 10, "insufficient_quota requests/week"),
        (MONTH, 15, 10, "insufficient_quota tokens/month"),
        (MONEY, 15, 10, "insufficient_quota cost/day"),
        (Measure::Concurrent, 1, 10, "concurrency_limit_exceeded concurrent"),
        (MINUTE, 9, 10, "request_exceeds_limit tokens/minute"),
        (MONEY, 9, 10, "request_exceeds_limit cost/day"),
    ] {
        let (store, budget) = (MemoryStore::default(), budget(&[(measure, amount)]));
        if amount >= tokens || !expected.starts_with("request") {
            assert_eq!(code(&store, claim(&budget, tokens), START), "granted", "{measure:?}");
        }
        assert_eq!(code(&store, claim(&budget, tokens), START), expected);
    }
}

#[test]
fn of_several_that_refuse_the_one_that_holds_longest_is_named() {
    let budget = member("c", &[(Measure::Concurrent, 1), (MINUTE, 60)], &[(DAY, 60)]);
    let store = MemoryStore::default();
    let _held = ask_for(&store, &budget, 60, START).unwrap();
    // One second for the slot, 60 for the bucket, the rest of the day for the group's quota.
    assert_eq!(code(&store, claim(&budget, 60), START), "insufficient_quota group/tokens/day");
    let Err(Some(wait)) = ask_for(&store, &budget, 60, START) else { panic!() };
    assert_eq!(START + wait, Duration::from_secs(Span::Day.bounds(START.as_secs()).1));
    assert_eq!(code(&store, claim(&budget, 61), START), "request_exceeds_limit tokens/minute");
}

#[test]
fn a_new_window_is_empty_and_gets_nothing_from_the_last() {
    let (store, budget) = (MemoryStore::default(), budget(&[(DAY, 100)]));
    let (reservation, left) = take(&store, &budget, 100, START).unwrap();
    assert_eq!(left, 0);
    // 20 h 35 min 39 s before midnight.
    let wait = take(&store, &budget, 1, START).unwrap_err();
    assert_eq!(wait, Duration::from_secs(20 * 3600 + 35 * 60 + 39));
    let midnight = START + wait;
    assert!(take(&store, &budget, 1, midnight - Duration::from_nanos(1)).is_err());
    let (_, left) = take(&store, &budget, 30, midnight).unwrap();
    assert_eq!(left, 70);
    settle(Moment::new(&store, midnight), &reservation.settle(spent(0))).unwrap();
    assert_eq!(used(&store, &budget, midnight), [30]);
}

#[test]
fn an_overrun_of_a_past_window_is_not_charged_to_the_next() {
    let (store, budget) = (MemoryStore::default(), budget(&[(DAY, 100)]));
    let (reservation, _) = take(&store, &budget, 10, START).unwrap();
    let tomorrow = START + Duration::from_secs(86_400);
    let _ = take(&store, &budget, 30, tomorrow).unwrap();
    settle(Moment::new(&store, tomorrow), &reservation.settle(spent(50))).unwrap();
    assert_eq!(used(&store, &budget, tomorrow), [30]);
}

#[test]
fn requests_and_money_are_charged_when_a_backend_was_reached() {
    let limits = [(REQUESTS, 10), (MONEY, 1000), (Measure::Concurrent, 5)];
    let (store, budget) = (MemoryStore::default(), budget(&limits));
    let one = ask_for(&store, &budget, 100, START).unwrap().reservation;
    let two = ask_for(&store, &budget, 100, START).unwrap().reservation;
    assert_eq!(used(&store, &budget, START), [2, 200, 2]);
    settle(Moment::new(&store, START), &one.settle(Spent { usage: usage(30), cost: 7, requests: 1 }))
        .unwrap();
    assert_eq!(used(&store, &budget, START), [2, 107, 1]);
    settle(Moment::new(&store, START), &two.settle(Spent::default())).unwrap();
    assert_eq!(used(&store, &budget, START), [1, 7, 0]);
}

#[test]
fn tokens_are_weighed_before_and_after() {
    let weights = Weights { prompt: 1_000_000, cached: 0, completion: 2_000_000 };
    let measure = Measure::Quota(Unit::Tokens(weights), Span::Day);
    let (store, budget) = (MemoryStore::default(), budget(&[(measure, 100)]));
    let reserved = Usage { prompt: 10, completion: 20, ..Usage::default() };
    let asked = Claim { usage: reserved, ..claim(&budget, 0) };
    let Grant::Granted(granted) = reserve(Moment::new(&store, START), asked).unwrap() else { panic!() };
    assert_eq!(used(&store, &budget, START), [50]);
    let real = Usage { prompt: 12, cached: 8, completion: 5, ..Usage::default() };
    settle(
        Moment::new(&store, START),
        &granted.reservation.settle(Spent { usage: real, ..Spent::default() }),
    )
    .unwrap();
    assert_eq!(used(&store, &budget, START), [14]);
}

#[test]
fn a_limit_meets_only_the_requests_in_its_scope() {
    let scope = Scope { models: Some(vec!["m".into()]), endpoints: Some(vec![Operation::ChatCompletions]) };
    let scoped = Allowance { scope, ..allow(DAY, 10) };
    let (store, budget) = (MemoryStore::default(), named("c", vec![scoped, allow(DAY, 100)]));
    let other = |model: &str, operation| Claim { model: Some(model.into()), operation, ..claim(&budget, 11) };
    assert_eq!(code(&store, claim(&budget, 11), START), "request_exceeds_limit tokens/day");
    assert_eq!(code(&store, other("n", Operation::ChatCompletions), START), "granted");
    assert_eq!(code(&store, other("m", Operation::Embeddings), START), "granted");
    assert_eq!(code(&store, Claim { model: None, ..claim(&budget, 11) }, START), "granted");
    assert_eq!(used(&store, &budget, START), [0, 33]);
}

#[test]
fn no_limit_holds_beyond_its_period_if_the_clock_is_set_back() {
    let day = Duration::from_secs(86_400);
    let minute = Duration::from_secs(60);
    for (measure, ahead, wait) in [
        (SECOND, 3 * day, Duration::ZERO),
        (MINUTE, 60 * minute, Duration::ZERO),
        (MINUTE, minute / 2, minute * 3 / 2),
        (DAY, 3 * day, Duration::ZERO),
        (DAY, day, 2 * day),
        (MONTH, 90 * day, Duration::ZERO),
    ] {
        let (store, budget) = (MemoryStore::default(), budget(&[(measure, 100)]));
        let is_granted = |now| {
            let grant = reserve(Moment::new(&store, now), claim(&budget, 100)).unwrap();
            matches!(grant, Grant::Granted(_))
        };
        assert!(is_granted(START + ahead));
        assert!(wait.is_zero() || !is_granted(START), "{measure:?}");
        assert!(is_granted(START + wait), "{measure:?}");
    }
}

#[test]
fn limits_with_different_scopes_or_weights_count_apart() {
    let of_model = |model: &str| Allowance {
        scope: Scope { models: Some(vec![model.into()]), endpoints: None },
        ..allow(DAY, 100)
    };
    let at = |endpoint| Allowance {
        scope: Scope { models: None, endpoints: Some(vec![endpoint]) },
        ..allow(DAY, 100)
    };
    let weights = Weights { completion: 3_000_000, ..Weights::PLAIN };
    let weighed = allow(Measure::Quota(Unit::Tokens(weights), Span::Day), 100);
    let allowances = vec![
        of_model("m"),
        of_model("n"),
        at(Operation::ChatCompletions),
        at(Operation::Embeddings),
        weighed,
        allow(DAY, 100),
        allow(MONTH, 100),
    ];
    let (store, budget) = (MemoryStore::default(), named("c", allowances));
    let usage = Usage { prompt: 10, completion: 10, ..Usage::default() };
    assert_eq!(code(&store, Claim { usage, ..claim(&budget, 0) }, START), "granted");
    assert_eq!(used(&store, &budget, START), [20, 0, 20, 0, 40, 20, 20]);
}

#[test]
fn a_shadow_says_what_it_would_refuse_and_refuses_nothing() {
    let store = MemoryStore::default();
    let budget = named("c", vec![shadow(DAY, 25), shadow(Measure::Concurrent, 9), allow(DAY, 100)]);
    let ask = |tokens| {
        let granted = ask_for(&store, &budget, tokens, START).unwrap();
        (granted.shadow_refusals, granted.standing.tokens.unwrap().limit)
    };
    assert_eq!(ask(10), (vec![], 100));
    assert_eq!(ask(10), (vec![], 100));
    // It would have refused this, so it is not charged for it: what would have come after it is known.
    assert_eq!(ask(10), (vec!["tokens/day".into()], 100));
    assert_eq!(ask(5), (vec![], 100));
    assert_eq!(ask(26), (vec!["tokens/day".into()], 100));
    assert_eq!(used(&store, &budget, START), [25, 5, 61]);
}

#[test]
fn the_headers_tell_of_the_tightest_limit_of_each_unit() {
    let store = MemoryStore::default();
    let budget = member("c", &[(MINUTE, 1000), (DAY, 600), (REQUESTS, 6)], &[(MONTH, 700)]);
    let standing = ask_for(&store, &budget, 100, START).unwrap().standing;
    let expected = [
        ("x-ratelimit-limit-requests", "6"),
        ("x-ratelimit-remaining-requests", "5"),
        ("x-ratelimit-reset-requests", "10s"),
        ("x-ratelimit-limit-tokens", "600"),
        ("x-ratelimit-remaining-tokens", "500"),
        ("x-ratelimit-reset-tokens", "20h35m39s"),
    ];
    assert_eq!(standing.headers(), expected.map(|(name, value)| (name, value.to_owned())));
    // The same to one who is refused, without what it did not get.
    let Grant::Refused(_, standing, _) = reserve(Moment::new(&store, START), claim(&budget, 501)).unwrap()
    else {
        panic!()
    };
    assert_eq!(standing.headers(), expected.map(|(name, value)| (name, value.to_owned())));
}

#[test]
fn a_clock_set_back_earns_nothing_and_opens_no_window_again() {
    let (store, bucket) = (MemoryStore::default(), budget(&[(SECOND, 10)]));
    let _ = take(&store, &bucket, 10, ms(5000)).unwrap();
    assert_eq!(take(&store, &bucket, 1, ms(4500)).unwrap_err(), Duration::from_millis(600));
    assert_eq!(take(&store, &bucket, 1, ms(5100)).unwrap().1, 0);
    let (store, window) = (MemoryStore::default(), budget(&[(DAY, 10)]));
    let (reservation, _) = take(&store, &window, 10, START).unwrap();
    let yesterday = START - Duration::from_secs(86_400);
    assert!(take(&store, &window, 1, yesterday).is_err());
    settle(Moment::new(&store, yesterday), &reservation.settle(spent(4))).unwrap();
    let (reservation, _) = take(&store, &window, 6, yesterday).unwrap();
    settle(Moment::new(&store, START), &reservation.settle(spent(1))).unwrap();
    assert_eq!(used(&store, &window, START), [5]);
}

#[test]
fn a_new_configuration_keeps_what_each_limit_has_spent() {
    let store = MemoryStore::default();
    let _ = ask_for(&store, &budget(&[(MINUTE, 100), (DAY, 1000), (Measure::Concurrent, 9)]), 90, START);
    // Smaller: what is there is cut to the new size. Another period: begins full.
    let after = budget(&[(Measure::Concurrent, 2), (DAY, 500), (SECOND, 50), (MINUTE, 50)]);
    assert_eq!(used(&store, &after, START), [1, 90, 0, 40]);
    let _ = ask_for(&store, &after, 10, START).unwrap();
    assert_eq!(used(&store, &after, START), [2, 100, 10, 50]);
}

#[test]
fn the_old_and_the_new_configuration_may_write_by_turns() {
    let store = MemoryStore::default();
    let old = budget(&[(Measure::Concurrent, 9), (MINUTE, 100)]);
    let new = budget(&[(DAY, 100)]);
    let held = ask_for(&store, &old, 10, START).unwrap().reservation;
    for _ in 0..3 {
        let _ = ask_for(&store, &new, 10, START).unwrap();
        let _ = ask_for(&store, &old, 10, START).unwrap().reservation;
    }
    assert_eq!((used(&store, &old, START), used(&store, &new, START)), (vec![4, 40], vec![30]));
    // A slot stays until it is returned; what nobody has touched for long is dropped, when somebody writes.
    let later = START + Duration::from_secs(7200);
    let _ = ask_for(&store, &new, 10, later).unwrap();
    let entries = || {
        let record = store.load("tollgate/limits/client/c").unwrap().value;
        crate::codec::decode_all::<record::Entry>(&record).len()
    };
    assert_eq!(entries(), 2);
    settle(Moment::new(&store, later), &held.settle(spent(10))).unwrap();
    assert_eq!(used(&store, &old, later), [3, 0]);
    let tomorrow = START + Duration::from_secs(86_400);
    let _ = ask_for(&store, &old, 10, tomorrow).unwrap();
    assert_eq!(entries(), 2, "yesterday's window is gone");
}

#[test]
fn a_shadow_that_becomes_a_limit_keeps_what_it_counted() {
    let store = MemoryStore::default();
    let _ = ask_for(&store, &named("c", vec![shadow(DAY, 100)]), 90, START).unwrap();
    assert_eq!(used(&store, &budget(&[(DAY, 100)]), START), [90]);
}

#[test]
fn a_record_of_another_shape_is_no_obstacle() {
    let (store, budget) = (MemoryStore::default(), budget(&[(DAY, 100)]));
    store.put("tollgate/limits/client/c", b"garbage of some length, more than thirty-two bytes").unwrap();
    let _ = ask_for(&store, &budget, 90, START).unwrap();
    assert_eq!(used(&store, &budget, START), [90]);
    assert!(take(&store, &budget, 11, START).is_err());
}

#[test]
fn a_client_without_limits_never_asks_the_store() {
    let store = MemoryStore::default();
    store.break_with(Some(StoreFault::Unavailable));
    let budget = member("c", &[], &[]);
    assert!(budget.is_unlimited());
    let granted = ask_for(&store, &budget, 1_000_000, START).unwrap();
    assert_eq!((granted.reservation.tokens(), granted.standing), (1_000_000, Standing::default()));
    settle(Moment::new(&store, START), &granted.reservation.settle(spent(5))).unwrap();
}

#[test]
fn a_broken_store_is_an_error_not_a_grant() {
    let (store, budget) = (MemoryStore::default(), budget(&[(SECOND, 10)]));
    store.break_with(Some(StoreFault::Unavailable));
    assert_eq!(reserve(Moment::new(&store, START), claim(&budget, 1)), Err(StoreFault::Unavailable));
}

type Event<'s> = Box<dyn FnOnce(&MemoryStore) -> Result<(), StoreFault> + 's>;

/// A store in which something happens just before the first write to a key.
struct Raced<'s> {
    store: &'s MemoryStore,
    key: &'static str,
    happens: RefCell<Option<Event<'s>>>,
}

impl<'s> Raced<'s> {
    fn new(
        store: &'s MemoryStore,
        key: &'static str,
        happens: impl FnOnce(&MemoryStore) -> Result<(), StoreFault> + 's,
    ) -> Self {
        Self { store, key, happens: RefCell::new(Some(Box::new(happens))) }
    }
}

impl Store for Raced<'_> {
    fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
        self.store.load(key)
    }
    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
        if key == self.key
            && let Some(happens) = self.happens.take()
        {
            happens(self.store)?;
        }
        self.store.swap(key, value, version)
    }
    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        self.store.put(key, value)
    }
}

const OWN: &str = "tollgate/limits/client/c";
const SHARED: &str = "tollgate/limits/group/g";

/// Somebody else takes so much.
fn takes(budget: &Rc<Budget>, tokens: u64) -> impl FnOnce(&MemoryStore) -> Result<(), StoreFault> {
    let claim = claim(budget, tokens);
    move |store| {
        assert!(matches!(reserve(Moment::new(store, START), claim), Ok(Grant::Granted(_))));
        Ok(())
    }
}

#[test]
fn who_is_overtaken_sees_what_was_taken() {
    let budget = budget(&[(MINUTE, 100)]);
    for (tokens, admitted) in [(40, true), (41, false)] {
        let store = MemoryStore::default();
        let raced = Raced::new(&store, OWN, takes(&budget, 60));
        assert_eq!(ask_for(&raced, &budget, tokens, START).is_ok(), admitted);
    }
    // Put back at the same moment as somebody takes: neither is lost.
    let store = MemoryStore::default();
    let (reservation, _) = take(&store, &budget, 100, START).unwrap();
    settle(Moment::new(&store, START), &reservation.settle(spent(30))).unwrap();
    let (reservation, _) = take(&store, &budget, 10, START).unwrap();
    let raced = Raced::new(&store, OWN, takes(&budget, 50));
    settle(Moment::new(&raced, START), &reservation.settle(spent(0))).unwrap();
    assert!(take(&store, &budget, 21, START).is_err());
    assert!(take(&store, &budget, 20, START).is_ok());
}

#[test]
fn a_shadow_refusal_counts_once_however_often_a_write_fails() {
    let (store, budget) = (MemoryStore::default(), named("c", vec![shadow(DAY, 5), allow(MINUTE, 100)]));
    let raced = Raced::new(&store, OWN, takes(&budget, 60));
    let granted = ask_for(&raced, &budget, 10, START).unwrap();
    assert_eq!(granted.shadow_refusals, [Rc::from("tokens/day")]);
    settle(Moment::new(&store, START), &granted.reservation.settle(spent(0))).unwrap();
    assert_eq!(used(&store, &budget, START), [0, 60]);
}

#[test]
fn an_account_gets_back_what_it_gave_if_the_other_refuses() {
    let limits = [(Measure::Concurrent, 9), (DAY, 100), (REQUESTS, 9)];
    let (one, other) = (member("c", &limits, &[(DAY, 100)]), member("d", &[], &[(DAY, 100)]));
    let nothing = [0, 0, 0];
    let store = MemoryStore::default();
    let raced = Raced::new(&store, SHARED, takes(&other, 60));
    assert!(ask_for(&raced, &one, 41, START).is_err());
    assert_eq!(used(&store, &one, START), [&nothing[..], &[60]].concat());
    let failing = Raced::new(&store, SHARED, |_| Err(StoreFault::Unavailable));
    assert_eq!(reserve(Moment::new(&failing, START), claim(&one, 40)), Err(StoreFault::Unavailable));
    assert_eq!(used(&store, &one, START), [&nothing[..], &[60]].concat());
    let _ = ask_for(&store, &one, 40, START).unwrap();
    assert_eq!(used(&store, &one, START), [1, 40, 1, 100]);
}

#[test]
fn slots_are_returned_by_what_was_noted_of_them() {
    let (store, budget) = (
        MemoryStore::default(),
        member("c", &[(MINUTE, 99), (Measure::Concurrent, 9)], &[(Measure::Concurrent, 5)]),
    );
    let lost = ask_for(&store, &budget, 10, START).unwrap().reservation.slots();
    let held = ask_for(&store, &budget, 10, START).unwrap().reservation;
    assert_eq!(used(&store, &budget, START), [20, 2, 2]);
    return_slots(Moment::new(&store, ms(0)), &lost).unwrap();
    assert_eq!(used(&store, &budget, START), [20, 1, 1]);
    settle(Moment::new(&store, START), &held.settle(spent(10))).unwrap();
    assert_eq!(used(&store, &budget, START), [20, 0, 0]);
    for garbage in ["", "x", "a b,c", "tollgate/limits/client/c ffff", "nobody 0"] {
        return_slots(Moment::new(&store, ms(0)), garbage).unwrap();
    }
    return_slots(Moment::new(&store, ms(0)), &lost).unwrap();
    // Nothing is below nothing: the next one takes a place.
    let _ = ask_for(&store, &budget, 10, START).unwrap();
    assert_eq!(used(&store, &budget, START), [30, 1, 1]);
    let unlimited = ask_for(&store, &member("d", &[(MINUTE, 9)], &[]), 1, START).unwrap();
    assert_eq!(unlimited.reservation.slots(), "");
}

mod laws;
mod split;

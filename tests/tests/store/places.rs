//! Two Envoys by the core's own code, and the script by its model: what becomes of what one of them holds idle?

use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use tollgate::allowance::{Allowance, Measure, Scope, Whose};
use tollgate::endpoint::Operation;
use tollgate::fleet::Fleet;
use tollgate::limits::leases::{self, Due, TICK, Uncovered};
use tollgate::limits::{self, Account, Budget, Claim, Grant, Outcome, Part, Reservation, Spent};
use tollgate::store::{MemoryStore, Moment};
use tollgate::tokens::Usage;
use tollgate_tests::fleet::call::Call;
use tollgate_tests::fleet::model;

const PLACES: u64 = 40;
const NOW: Duration = Duration::from_secs(1_795_780_800);

struct Envoy {
    name: &'static str,
    store: MemoryStore,
    account: Rc<Account>,
}

impl Envoy {
    fn new(name: &'static str) -> Self {
        let amount = NonZeroU64::new(PLACES).unwrap();
        let places = Allowance::new(Whose::Client, Measure::Concurrent, amount, Scope::default(), false);
        let account = Rc::new(Account::of_client("a", vec![places]).shared(Fleet::default()));
        Self { name, store: MemoryStore::default(), account }
    }

    fn take(&self, now: Duration, uncovered: Uncovered) -> Option<Reservation> {
        let claim = Claim {
            budget: Rc::new(Budget::new([self.account.clone()])),
            part: Part::All,
            model: None,
            operation: Operation::ChatCompletions,
            usage: Usage::default(),
            cost: 0,
        };
        match limits::reserve_or(Moment::new(&self.store, now), claim, uncovered).unwrap() {
            Outcome::Decided(Grant::Granted(granted)) => Some(granted.reservation),
            _ => None,
        }
    }

    fn call(&self, redis: &mut model::Account, due: Due, now: Duration) {
        let timeout = Duration::from_secs(1);
        let call =
            leases::call(Moment::new(&self.store, now), &self.account, (self.name, due), timeout).unwrap();
        let Some(call) = call else { return };
        let asked = Call::read(&call.arguments).unwrap();
        let reply = redis.call(&asked, i64::try_from(now.as_micros()).unwrap()).numbers();
        leases::answered(&self.store, &self.account, call.number, &reply, (now, now)).unwrap();
    }
}

#[test]
fn a_place_that_is_idle_elsewhere_is_used_by_who_needs_it() {
    let mut redis = model::Account::default();
    let (first, second) = (Envoy::new("a"), Envoy::new("b"));
    // The first has many at once, and most of them end.
    let mut busy = Vec::new();
    for _ in 0..PLACES {
        if first.take(NOW, Uncovered::Waits).map(|place| busy.push(place)).is_none() {
            first.call(&mut redis, Due::ForRequests, NOW);
            busy.extend(first.take(NOW, Uncovered::WaitsOn));
        }
    }
    assert_eq!(busy.len() as u64, PLACES);
    for place in busy.drain(2..) {
        limits::settle(Moment::new(&first.store, NOW), &place.settle(Spent::default())).unwrap();
    }
    first.call(&mut redis, Due::ByTick, NOW);
    // Then all others come to the second, and wait for what the first does not use.
    for _ in 0..PLACES {
        assert!(second.take(NOW, Uncovered::Waits).is_none());
    }
    let mut now = NOW;
    let mut used = Vec::new();
    for _ in 0..4 {
        second.call(&mut redis, Due::ForRequests, now);
        while let Some(place) = second.take(now, Uncovered::WaitsOn) {
            used.push(place);
        }
        now += TICK;
        first.call(&mut redis, Due::ByTick, now);
    }
    assert_eq!(used.len() as u64, PLACES - 2);
    for place in used.into_iter().chain(busy) {
        limits::settle(Moment::new(&second.store, now), &place.settle(Spent::default())).unwrap();
    }
}

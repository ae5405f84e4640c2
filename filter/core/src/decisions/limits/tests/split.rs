//! Has each value its own, exactly, and what is kept of however many?

use super::*;
use crate::codec;
use crate::limits::split::Mark;
use crate::value::{By, UserField, Values};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn by() -> By {
    By::Claim("sub".into())
}

/// A client of whose users each has these limits, with others that all share and those of a group.
fn shop(each: &[(Measure, u64)], all: &[(Measure, u64)], group: &[(Measure, u64)]) -> Rc<Budget> {
    let each = each.iter().map(|(measure, amount)| allow(*measure, *amount).by(by())).collect();
    let whole = Rc::try_unwrap(member("c", all, group)).unwrap();
    Rc::new(whole.with([Rc::new(Split::of_client("c", by(), each))]))
}

/// What this user meets of it.
fn of_user(budget: &Rc<Budget>, user: &str) -> Rc<Budget> {
    let mut values = Values::default();
    values.note(by(), "issuer", user.as_bytes());
    budget.of(&values)
}

#[test]
fn each_value_has_its_own_and_those_without_one_together() {
    let (store, shop) = (MemoryStore::default(), shop(&[(DAY, 100)], &[], &[]));
    let (ann, bob) = (of_user(&shop, "ann"), of_user(&shop, "bob"));
    let nobody = || shop.of(&Values::default());
    assert_eq!(take(&store, &ann, 100, START).unwrap().1, 0);
    assert!(ask_for(&store, &ann, 1, START).is_err());
    assert_eq!(take(&store, &bob, 30, START).unwrap().1, 70);
    assert_eq!(take(&store, &of_user(&shop, "bob"), 70, START).unwrap().1, 0);
    assert!(ask_for(&store, &bob, 1, START).is_err());
    assert_eq!(take(&store, &nobody(), 60, START).unwrap().1, 40);
    assert!(ask_for(&store, &nobody(), 41, START).is_err());
    assert_eq!(code(&store, claim(&ann, 1), START), "insufficient_quota claim/tokens/day",);
}

#[test]
fn other_clients_and_other_words_have_others() {
    let store = MemoryStore::default();
    let split = |budget: Budget, split| Rc::new(budget.with([Rc::new(split)]));
    let one = || vec![allow(DAY, 9).by(by())];
    let shops = [
        split(Budget::default(), Split::of_client("c", by(), one())),
        split(Budget::default(), Split::of_client("d", by(), one())),
        split(Budget::default(), Split::of_group("c", by(), one())),
        split(Budget::default(), Split::of_client("c", By::Key, one())),
        split(Budget::default(), Split::of_client("c", By::Claim("oid".into()), one())),
        split(Budget::default(), Split::of_client("c", By::Header("sub".into()), one())),
        split(Budget::default(), Split::of_client("c", By::Field(UserField::User), one())),
    ];
    for shop in shops {
        let mut values = Values::default();
        for by in
            [by(), By::Key, By::Claim("oid".into()), By::Header("sub".into()), By::Field(UserField::User)]
        {
            values.note(by, "issuer", b"ann");
        }
        assert!(!shop.is_unlimited());
        assert_eq!(take(&store, &shop.of(&values), 9, START).unwrap().1, 0);
    }
}

#[test]
fn all_of_a_client_its_group_and_a_user_give_or_none() {
    let (store, shop) = (
        MemoryStore::default(),
        shop(&[(DAY, 50), (Measure::Concurrent, 1)], &[(DAY, 100)], &[(MINUTE, 90)]),
    );
    let (ann, bob) = (of_user(&shop, "ann"), of_user(&shop, "bob"));
    let held = ask_for(&store, &ann, 50, START).unwrap();
    // Her one place is taken; what the client and its group gave comes back.
    assert_eq!(code(&store, claim(&ann, 0), START), "concurrency_limit_exceeded claim/concurrent");
    assert_eq!(used(&store, &ann, START), [50, 50, 50, 1]);
    assert_eq!(code(&store, claim(&bob, 41), START), "rate_limit_exceeded group/tokens/minute");
    assert_eq!(used(&store, &bob, START), [50, 50, 0, 0]);
    settle(Moment::new(&store, START), &held.reservation.settle(spent(7))).unwrap();
    assert_eq!(used(&store, &ann, START), [7, 7, 7, 0]);
    assert!(ask_for(&store, &bob, 50, START).is_ok());
}

#[test]
fn a_place_of_a_value_is_returned_by_what_was_noted_of_it() {
    let (store, shop) = (MemoryStore::default(), shop(&[(Measure::Concurrent, 1)], &[], &[]));
    let ann = of_user(&shop, "ann");
    let lost = ask_for(&store, &ann, 1, START).unwrap().reservation;
    assert!(ask_for(&store, &ann, 1, START).is_err());
    return_slots(Moment::new(&store, START), &lost.slots()).unwrap();
    assert!(ask_for(&store, &ann, 1, START).is_ok());
}

#[test]
fn what_goes_on_is_settled_with_the_value_that_asked_for_it() {
    let (store, shop) = (MemoryStore::default(), shop(&[(DAY, 100)], &[(DAY, 1000)], &[]));
    let (ann, bob) = (of_user(&shop, "ann"), of_user(&shop, "bob"));
    let kept = ask_for(&store, &ann, 80, START).unwrap().reservation.kept();
    let kept: Kept = codec::decode(&codec::encode(&kept)).unwrap();
    // The configuration knows no value: its key leads to the limits.
    let settlement = kept.settle(|key| shop.account(key), spent(30));
    settle(Moment::new(&store, START), &settlement).unwrap();
    assert_eq!((used(&store, &ann, START), used(&store, &bob, START)), (vec![30, 30], vec![30, 0]));
    // Nothing was taken for it: whose it is, is kept all the same.
    let kept = ann.kept_values();
    assert!(kept.is_empty());
    let charge = shop.of_kept(&kept).charge(Some("m"), Operation::Other, spent(5), START);
    settle(Moment::new(&store, START), &charge).unwrap();
    assert_eq!((used(&store, &ann, START), used(&store, &bob, START)), (vec![35, 35], vec![35, 0]));
}

#[test]
fn what_a_forgotten_value_owes_is_due_and_no_more() {
    for (spent_tokens, expected) in [(90, 10), (30, 0)] {
        let (store, shop) = (MemoryStore::default(), shop(&[(DAY, 100)], &[], &[]));
        let ann = of_user(&shop, "ann");
        let held = ask_for(&store, &ann, 80, START).unwrap().reservation;
        // Nothing is known of her any more.
        let store = MemoryStore::default();
        settle(Moment::new(&store, START), &held.settle(spent(spent_tokens))).unwrap();
        assert_eq!(used(&store, &ann, START), [expected]);
    }
}

#[test]
fn nothing_comes_back_to_a_value_that_was_forgotten_since() {
    for (spent_tokens, expected) in [(10, 50), (80, 50), (90, 60)] {
        let (store, shop) = (MemoryStore::default(), shop(&[(DAY, 200)], &[], &[]));
        let ann = of_user(&shop, "ann");
        let held = ask_for(&store, &ann, 80, START).unwrap().reservation;
        // She is forgotten, and asks again.
        let (store, later) = (MemoryStore::default(), START + Duration::from_millis(1));
        let _ = ask_for(&store, &ann, 50, later).unwrap();
        settle(Moment::new(&store, later), &held.settle(spent(spent_tokens))).unwrap();
        assert_eq!(used(&store, &ann, later), [expected]);
    }
}

#[test]
fn each_value_that_is_forgotten_is_counted() {
    let each = |by: By, amount| Rc::new(Split::of_client("c", by.clone(), vec![allow(DAY, amount).by(by)]));
    let shop = Rc::new(Budget::default().with([each(by(), 100), each(By::Key, 40)]));
    // As many users as have room side by side, and one more.
    let place = |budget: &Budget| Mark::of_key(budget.accounts[0].key()).unwrap().number() % 4096;
    let user = |user: &str| {
        let mut values = Values::default();
        values.note(by(), "issuer", user.as_bytes());
        shop.of(&values)
    };
    let mut crowd = (0..).map(|number| user(&format!("user {number}"))).filter(|budget| place(budget) == 7);
    let side_by_side: Vec<_> = crowd.by_ref().take(32).collect();
    let newcomer = crowd.next().unwrap();
    let full = || {
        let store = MemoryStore::default();
        for budget in &side_by_side {
            assert_eq!(ask_for(&store, budget, 1, START).unwrap().forgotten, 0);
        }
        store
    };
    // All of them show one key, which has 8 left.
    assert_eq!(ask_for(&full(), &newcomer, 8, START).unwrap().forgotten, 1);
    let refused = reserve(Moment::new(&full(), START), claim(&newcomer, 9)).unwrap();
    assert!(matches!(refused, Grant::Refused(Denial::QuotaExhausted { .. }, _, 1)), "{refused:?}");
    let held = ask_for(&MemoryStore::default(), &newcomer, 8, START).unwrap().reservation;
    assert_eq!(settle(Moment::new(&full(), START), &held.settle(spent(9))), Ok(1));
}

// As wasm it would take minutes.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn a_flood_of_values_stays_within_its_memory() {
    let (store, shop) = (Counting::default(), shop(&[(DAY, 100)], &[], &[]));
    let ann = of_user(&shop, "ann");
    let _ = ask_for(&store, &ann, 100, START).unwrap();
    let mut forgotten = 0;
    for user in 0..100_000 {
        let budget = of_user(&shop, &format!("user {user}"));
        forgotten += ask_for(&store, &budget, 1, START).unwrap().forgotten;
    }
    // Of 32 in each of 4,096 keys hardly one has to go before there are 100,000.
    assert!(forgotten < 1000, "{forgotten}");
    let (keys, bytes) = store.size();
    assert!(keys <= 4096 && bytes < 8 << 20, "{bytes} bytes in {keys} keys");
    for user in 100_000..200_000 {
        let budget = of_user(&shop, &format!("user {user}"));
        forgotten += ask_for(&store, &budget, 1, START).unwrap().forgotten;
    }
    assert!(forgotten > 60_000, "{forgotten}");
    let (keys, bytes) = store.size();
    assert!(keys <= 4096 && bytes < 10 << 20, "{bytes} bytes in {keys} keys");
}

#[cfg(not(target_arch = "wasm32"))]
/// A store that knows how much stands in it.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    bytes: RefCell<std::collections::HashMap<String, usize>>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Counting {
    fn size(&self) -> (usize, usize) {
        let bytes = self.bytes.borrow();
        (bytes.len(), bytes.iter().map(|(key, value)| key.len() + value).sum())
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Store for Counting {
    fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
        self.store.load(key)
    }
    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
        self.bytes.borrow_mut().insert(key.to_owned(), value.len());
        self.store.swap(key, value, version)
    }
    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        self.store.put(key, value)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A value's limits do what those of a client do that has them for itself.
    #[test]
    fn a_value_has_what_a_client_of_its_own_would_have(
        each in laws::limits(4),
        asks in prop::collection::vec((0..4u8, 0..3000u64, 0..200u64, 0..300u64, any::<bool>()), 1..60),
    ) {
        prop_assume!(!each.is_empty());
        let (store, model) = (MemoryStore::default(), MemoryStore::default());
        let shop = shop(&each, &[], &[]);
        let own = each.iter().map(|(measure, amount)| allow(*measure, *amount)).collect::<Vec<_>>();
        let (mut open, mut now) = (Vec::new(), START);
        for (user, step_ms, tokens, real, ends) in asks {
            now += Duration::from_millis(step_ms);
            let name = format!("user {user}");
            let (split, alone) = (of_user(&shop, &name), named(&name, own.clone()));
            let (one, other) = (ask_for(&store, &split, tokens, now), ask_for(&model, &alone, tokens, now));
            match (one, other) {
                (Ok(one), Ok(other)) => {
                    prop_assert_eq!(one.standing, other.standing);
                    open.push((one.reservation, other.reservation, real));
                }
                (one, other) => prop_assert_eq!(one.map(|_| ()), other.map(|_| ())),
            }
            if ends && let Some((one, other, real)) = open.pop() {
                settle(Moment::new(&store, now), &one.settle(spent(real))).unwrap();
                settle(Moment::new(&model, now), &other.settle(spent(real))).unwrap();
            }
            prop_assert_eq!(used(&store, &split, now), used(&model, &alone, now));
        }
    }
}

//! Is what this process holds of one store, and owes to it, nothing to another?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ELSEWHERE: (&str, &str, u64, &str) = ("store", "/redis", 0, "other");

fn elsewhere() -> Fleet {
    let (cluster, path, database, prefix) = ELSEWHERE;
    Fleet::new(cluster, path, database, prefix)
}

#[test]
fn what_is_held_of_one_store_is_nothing_to_another() {
    let (store, here) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let limits = here.limits().map(|(_, allowance)| (**allowance).clone()).collect();
    let there = Rc::new(Account::of_client("c", limits).shared(elsewhere()));
    // Each store has an account of this name.
    assert_eq!((here.shared_name(), there.shared_name()), (Some("client/c"), Some("client/c")));
    assert_eq!(crate::limits::client_of_key(there.key()), Some("c"));
    let _ = take(&store, &here, 30, NOW);
    let _ = said(&store, &here, Due::ForRequests, NOW);
    hear(&store, &here, 1, &day_reply(60, 0, 0, 60, 0, 0), NOW);
    let spent = take(&store, &here, 30, NOW).unwrap();

    // Of the other one nothing is held and nothing has been said, and it is told of nothing that was spent here.
    assert!(take(&store, &there, 30, NOW).is_err());
    says(said(&store, &there, Due::ForRequests, NOW), 1, 0, &line(TODAY, 0, 0, 0, 30, 0, 0));
    // Each is called for by its own tick.
    let is_active = |fleet| active(&store, fleet).unwrap();
    assert_eq!(
        (is_active(Fleet::default()), is_active(elsewhere())),
        (vec![here.key().to_owned()], vec![there.key().to_owned()])
    );
    retire(Moment::new(&store, NOW), &there).unwrap();
    assert_eq!(is_active(Fleet::default()), [here.key()]);

    // What a request costs is due where it was reserved.
    let cost = Spent { usage: Usage { prompt: 40, ..Usage::default() }, ..Spent::default() };
    settle(Moment::new(&store, NOW), &spent.settle(cost)).unwrap();
    assert_eq!(said(&store, &there, Due::ByTick, NOW), None, "its call is under way");
    says(said(&store, &here, Due::ByTick, NOW), 2, 7, &line(TODAY, 60, 20, 0, 0, 100, 0));
}

#[test]
fn a_store_that_fails_makes_no_other_one_fail() {
    let (store, here) = (MemoryStore::default(), Fleet::default());
    assert_eq!(Health::Fails.note(Moment::new(&store, NOW), here), Ok(true));
    assert_eq!(Health::load(Moment::new(&store, NOW), here), Ok(Health::Fails));
    assert_eq!(Health::load(Moment::new(&store, NOW), elsewhere()), Ok(Health::Answers));
    assert_ne!(leader(here), leader(elsewhere()));
}

//! What is given back of a lease, and when?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn what_others_lack_is_given_back_and_what_is_idle() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 10, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &day_reply(60, 0, 0, 60, 0, 1), NOW);
    let _one = take(&store, &account, 10, NOW).unwrap();
    // It keeps as much as it spent between two calls.
    says(said(&store, &account, Due::ByTick, NOW), 2, 7, &line(TODAY, 60, 10, 40, 0, 0, 0));
    hear(&store, &account, 2, &day_reply(0, 10, 10, 10, 0, 0), NOW);
    let later = NOW + Duration::from_secs(11);
    says(said(&store, &account, Due::ByTick, later), 3, 7, &line(TODAY, 10, 0, 10, 0, 0, 10));
    hear(&store, &account, 3, &day_reply(0, 0, 10, 0, 0, 0), later);
    // It holds nothing any more, so nobody calls for it.
    assert_eq!(active(&store, Fleet::default()), Ok(vec![account.key().to_owned()]));
    assert_eq!(said(&store, &account, Due::ByTick, later), None);
    retire(Moment::new(&store, later), &account).unwrap();
    assert_eq!(active(&store, Fleet::default()), Ok(Vec::new()));
    let _ = take(&store, &account, 10, later);
    assert_eq!(active(&store, Fleet::default()), Ok(vec![account.key().to_owned()]));
    retire(Moment::new(&store, later), &account).unwrap();
    assert_eq!(active(&store, Fleet::default()), Ok(vec![account.key().to_owned()]), "it wants something");
}

#[test]
fn who_asks_how_a_budget_stands_hears_of_it_for_a_while() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    assert_eq!(said(&store, &account, Due::ByTick, NOW), None);
    listen(Moment::new(&store, NOW), &account).unwrap();
    assert_eq!(active(&store, Fleet::default()), Ok(vec![account.key().to_owned()]));
    // It takes nothing, and asks for nothing out of turn.
    assert_eq!(said(&store, &account, Due::ForRequests, NOW), None);
    let (number, _) = said(&store, &account, Due::ByTick, NOW).unwrap();
    hear(&store, &account, number, &day_reply(0, 0, 70, 30, 0, 0), NOW);
    let budget = Rc::new(Budget::new([account.clone()]));
    let inquiry = Inquiry { budget, model: None, operation: Operation::Other };
    assert_eq!(crate::limits::read(Moment::new(&store, NOW), &inquiry).unwrap().states[0].used, 70);
    let later = NOW + Duration::from_secs(11);
    assert_eq!(said(&store, &account, Due::ByTick, later), None);
    retire(Moment::new(&store, later), &account).unwrap();
    assert_eq!(active(&store, Fleet::default()), Ok(Vec::new()));
}

#[test]
fn what_a_call_does_not_speak_of_ends_with_the_lease() {
    let later = NOW + LEASE * 2;
    for (now, is_there) in [(NOW + TICK, true), (later, false)] {
        // The new configuration has another limit of the same account.
        let (store, old) = (MemoryStore::default(), account(&[(DAY, 100)]));
        let new = account(&[(Measure::Quota(TOKENS, Span::Month), 900)]);
        assert!(take(&store, &old, 30, NOW).is_err());
        let (number, _) = said(&store, &old, Due::ForRequests, NOW).unwrap();
        hear(&store, &old, number, &day_reply(40, 0, 0, 40, 0, 0), NOW);
        assert!(take(&store, &new, 30, now).is_err());
        let (number, _) = said(&store, &new, Due::ForRequests, now).unwrap();
        hear(&store, &new, number, &day_reply(30, 0, 0, 30, 0, 0), now);
        assert_eq!(take(&store, &old, 40, now).is_ok(), is_there, "{now:?}");
    }
}

#[test]
fn of_two_that_lack_something_none_keeps_a_part() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 10, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &day_reply(10, 0, 80, 20, 0, 1), NOW);
    assert!(take(&store, &account, 20, NOW).is_err());
    says(said(&store, &account, Due::ByTick, NOW), 2, 7, &line(TODAY, 10, 0, 10, 20, 0, 80));
}

#[test]
fn a_recall_counts_once_however_often_it_is_told() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    for (recall, expected) in [(0, 0), (1, 1), (1, 0), (0, 0), (1, 1)] {
        let (number, _) = said(&store, &account, Due::ByTick, NOW).unwrap();
        let reply = day_reply(30, 0, 0, 30, 0, recall);
        let heard = || answered(&store, &account, FIRST - 1 + number, &reply, (NOW, NOW)).unwrap().unwrap();
        assert_eq!((heard().recalls, heard().recalls), (expected, 0));
    }
}

/// What is taken and given back, because another account refuses or lacks it, is no sign that more will be spent.
#[test]
fn what_is_given_back_is_not_asked_for_ahead() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &day_reply(30, 0, 0, 30, 0, 0), NOW);
    for _ in 0..10 {
        let reservation = take(&store, &account, 30, NOW).unwrap();
        settle(Moment::new(&store, NOW), &reservation.settle(Spent::default())).unwrap();
    }
    says(said(&store, &account, Due::ByTick, NOW), 2, 7, &line(TODAY, 30, 30, 0, 0, 0, 0));
}

//! What is spent while the store does not answer, or when it has forgotten?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const SHARES: Uncovered = Uncovered::Shares { envoys: 1 };

fn shares(store: &MemoryStore, account: &Rc<Account>, tokens: u64, now: Duration) -> bool {
    let outcome = reserve_or(Moment::new(store, now), claim(account, tokens), SHARES).unwrap();
    matches!(outcome, Outcome::Decided(Grant::Granted(_)))
}

#[test]
fn while_the_store_fails_places_are_shared_by_the_living() {
    let (store, account) = (MemoryStore::default(), account(&[(PLACES, 4)]));
    let _ = take(&store, &account, 1, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &places(3, 0, 0, 3, 0), NOW);
    let _one = take(&store, &account, 1, NOW).unwrap();
    // A call is under way that gives back what is idle: it is not in use here.
    let later = NOW + LEASE;
    says_of(said(&store, &account, Due::ByTick, later), 0, "s 4 0 0 3 0 2 0 0 0 0");
    assert!(shares(&store, &account, 1, later));
    assert!(!shares(&store, &account, 1, later));
}

#[test]
fn of_a_store_that_never_answered_a_part_is_the_configured_one() {
    const MINUTE: Measure = Measure::Rate(TOKENS, crate::allowance::Flow::Minute);
    for (measure, size, part) in [(DAY, 100, 25), (MINUTE, 100, 25), (PLACES, 6, 2)] {
        let (store, account) = (MemoryStore::default(), account(&[(measure, size)]));
        let shares = |envoys| {
            let outcome =
                reserve_or(Moment::new(&store, NOW), claim(&account, 1), Uncovered::Shares { envoys })
                    .unwrap();
            matches!(outcome, Outcome::Decided(Grant::Granted(_)))
        };
        let served = (0..size).filter(|_| shares(4)).count();
        assert_eq!(served as u64, part, "{measure:?}");
        let rest = (part..size).all(|_| shares(1));
        assert_eq!((rest, shares(1)), (true, false), "{measure:?}: a lone one has all of it");
    }
}

#[test]
fn of_a_store_that_never_answered_the_configured_part_flows_in() {
    const MINUTE: Measure = Measure::Rate(TOKENS, crate::allowance::Flow::Minute);
    let (store, account) = (MemoryStore::default(), account(&[(MINUTE, 240)]));
    let shares = |tokens, seconds| {
        let now = NOW + Duration::from_secs(seconds);
        let uncovered = Uncovered::Shares { envoys: 4 };
        let outcome = reserve_or(Moment::new(&store, now), claim(&account, tokens), uncovered).unwrap();
        matches!(outcome, Outcome::Decided(Grant::Granted(_)))
    };
    assert!(shares(60, 0));
    // A minute brings its part, a second a sixtieth of that.
    assert!(shares(10, 10));
    assert!(!shares(1, 10));
}

#[test]
fn while_the_store_fails_a_part_of_a_bucket_flows_in() {
    const MINUTE: Measure = Measure::Rate(TOKENS, crate::allowance::Flow::Minute);
    let (store, account) = (MemoryStore::default(), account(&[(MINUTE, 120)]));
    let _ = take(&store, &account, 1, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    let now_us = i64::try_from(NOW.as_micros()).unwrap();
    hear(&store, &account, 1, &[7, now_us, 2, 0, 0, 0, 0, 0, 0, 0, 0], NOW);
    let later = |seconds| NOW + Duration::from_secs(seconds);
    assert!(shares(&store, &account, 60, later(1)));
    assert!(!shares(&store, &account, 1, later(1)));
    assert!(shares(&store, &account, 10, later(11)));
    assert!(!shares(&store, &account, 1, later(11)));
    // However long it takes, no more than its part.
    assert!(shares(&store, &account, 60, later(1000)));
    assert!(!shares(&store, &account, 1, later(1000)));
}

#[test]
fn while_the_store_fails_each_spends_its_part_and_owes_it() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 10, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    // 20 are used, and all hold 30: of the other 50 it has half.
    hear(&store, &account, 1, &day_reply(10, 0, 20, 30, 0, 0), NOW);
    let take = |tokens, uncovered| {
        let outcome = reserve_or(Moment::new(&store, NOW), claim(&account, tokens), uncovered).unwrap();
        matches!(outcome, Outcome::Decided(Grant::Granted(_)))
    };
    assert!(take(10, SHARES));
    assert!(take(25, SHARES));
    assert!(!take(1, SHARES));
    assert!(take(60, Uncovered::IsServed));
    // All of it is owed when the store is back.
    says(said(&store, &account, Due::ByTick, NOW), 2, 7, &line(TODAY, 10, -85, 0, 0, 100, 20));
}

#[test]
fn a_store_that_knows_nothing_any_more_is_noticed_once() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let now_us = i64::try_from(NOW.as_micros()).unwrap();
    // A record's revision is when it began, and one more for each change.
    for (revision, has_lost) in
        [(now_us + 1, false), (now_us + 2, false), (now_us + 1, true), (now_us + 2, false)]
    {
        let (number, _) = said(&store, &account, Due::ByTick, NOW).unwrap();
        let mut reply = day_reply(30, 0, 0, 30, 0, 0);
        reply[0] = revision;
        let heard = answered(&store, &account, FIRST - 1 + number, &reply, (NOW, NOW)).unwrap().unwrap();
        assert_eq!(heard.has_lost, has_lost, "{revision}");
    }
}

#[test]
fn what_the_store_forgot_after_40_idle_days_is_not_lost() {
    const DAYS: Duration = Duration::from_secs(24 * 60 * 60);
    for (idle, has_lost) in [(39, true), (41, false)] {
        let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
        let _ = take(&store, &account, 30, NOW);
        let _ = said(&store, &account, Due::ForRequests, NOW);
        hear(&store, &account, 1, &day_reply(30, 0, 0, 30, 0, 0), NOW);
        let back = NOW + DAYS * idle;
        let _ = take(&store, &account, 30, back);
        let call =
            call(Moment::new(&store, back), &account, ("me", Due::ForRequests), CALLED).unwrap().unwrap();
        let revision = if has_lost { " 3000 7 " } else { " 3000 0 " };
        assert!(call.arguments.contains(revision), "{}", call.arguments);
        // The record begins with this call.
        let mut reply = day_reply(30, 0, 0, 30, 0, 0);
        reply[1] = i64::try_from(back.as_micros()).unwrap();
        reply[0] = reply[1] + 1;
        let heard = answered(&store, &account, call.number, &reply, (back, back)).unwrap().unwrap();
        assert_eq!(heard.has_lost, has_lost, "after {idle} days");
    }
}

#[test]
fn a_failure_is_known_to_all_until_nobody_tries_any_more() {
    let (store, fleet) = (MemoryStore::default(), Fleet::default());
    assert_eq!(Health::load(Moment::new(&store, NOW), fleet), Ok(Health::Answers));
    assert_eq!(Health::Answers.note(Moment::new(&store, NOW), fleet), Ok(false));
    assert_eq!(Health::Fails.note(Moment::new(&store, NOW), fleet), Ok(true));
    assert_eq!(Health::Fails.note(Moment::new(&store, NOW), fleet), Ok(false));
    assert_eq!(Health::load(Moment::new(&store, NOW + TICK), fleet), Ok(Health::Fails));
    assert_eq!(Health::load(Moment::new(&store, NOW + TICK * 4), fleet), Ok(Health::Answers));
    assert_eq!(Health::Answers.note(Moment::new(&store, NOW), fleet), Ok(true));
    assert_eq!(Health::load(Moment::new(&store, NOW), fleet), Ok(Health::Answers));
}

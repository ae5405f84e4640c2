mod elsewhere;
mod failing;
mod returned;

use super::*;
use crate::allowance::{Allowance, Scope, Unit, Weights, Whose};
use crate::calendar::Span;
use crate::codec::law;
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::fleet::Fleet;
use crate::limits::{Budget, Grant, Inquiry, Outcome, Part, Reservation, Spent, reserve_or, settle};
use crate::store::{MemoryStore, Moment};
use crate::tokens::Usage;
use std::num::NonZeroU64;
use std::rc::Rc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_490_661);
const TOKENS: Unit = Unit::Tokens(Weights::PLAIN);
const DAY: Measure = Measure::Quota(TOKENS, Span::Day);

fn account(limits: &[(Measure, u64)]) -> Rc<Account> {
    let allow = |(measure, amount): &(Measure, u64)| {
        Allowance::new(Whose::Client, *measure, NonZeroU64::new(*amount).unwrap(), Scope::default(), false)
    };
    Rc::new(Account::of_client("c", limits.iter().map(allow).collect()).shared(Fleet::default()))
}

fn claim(account: &Rc<Account>, tokens: u64) -> Claim {
    Claim {
        budget: Rc::new(Budget::new([account.clone()])),
        part: Part::All,
        model: None,
        operation: Operation::ChatCompletions,
        usage: Usage { prompt: tokens, ..Usage::default() },
        cost: 0,
    }
}

const CALLED: Duration = Duration::from_millis(100);

/// Takes so much, or answers what becomes of it.
fn take(
    store: &MemoryStore,
    account: &Rc<Account>,
    tokens: u64,
    now: Duration,
) -> Result<Reservation, Box<Outcome>> {
    match reserve_or(Moment::new(store, now), claim(account, tokens), Uncovered::Waits).unwrap() {
        Outcome::Decided(Grant::Granted(granted)) => Ok(granted.reservation),
        outcome => Err(Box::new(outcome)),
    }
}

/// The number of a process's first call at `NOW`. Later ones are counted from here: the first is 1.
const FIRST: u64 = 1_795_490_661_000_000;

/// What a call says, without who calls.
fn said(store: &MemoryStore, account: &Account, due: Due, now: Duration) -> Option<(u64, String)> {
    let call = call(Moment::new(store, now), account, ("me", due), CALLED).unwrap()?;
    let (head, limits) = call.arguments.split_once(" 3000 ").unwrap();
    assert_eq!(head, format!("me {}", call.number));
    Some((call.number - (FIRST - 1), limits.to_owned()))
}

/// The window that `NOW` lies in, in seconds.
const TODAY: i64 = 1_795_478_400;

/// A reply about one quota of a day.
fn day_reply(granted: i64, kept: i64, used: i64, held: i64, wait_us: i64, recall: i64) -> Vec<i64> {
    let now_us = i64::try_from(NOW.as_micros()).unwrap();
    vec![7, now_us, 2, granted, kept, used, held, wait_us, TODAY, 9_000_000, recall]
}

fn hear(store: &MemoryStore, account: &Account, number: u64, reply: &[i64], now: Duration) {
    assert_eq!(
        answered(store, account, FIRST - 1 + number, reply, (now, now)).map(|heard| heard.is_some()),
        Ok(true)
    );
}

/// The line of a day's limit of 100, as a call says it after its id.
fn line(window: i64, ack: i64, left: i64, give: i64, need: u64, want: u64, used: i64) -> String {
    format!("w 100 day {window} {ack} {left} {give} {need} {want} 0 {used}")
}

#[track_caller]
fn says(found: Option<(u64, String)>, number: u64, revision: u64, line: &str) {
    let (found_number, text) = found.unwrap();
    let mut words = text.splitn(3, ' ');
    assert_eq!((found_number, words.next()), (number, Some(revision.to_string().as_str())));
    let _id = words.next();
    assert_eq!(words.next(), Some(line));
}

#[test]
fn what_a_lease_covers_asks_nobody() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    assert_eq!(take(&store, &account, 30, NOW), Err(Box::new(Outcome::Uncovered(claim(&account, 30)))));
    says(said(&store, &account, Due::ForRequests, NOW), 1, 0, &line(TODAY, 0, 0, 0, 30, 0, 0));
    // While it is under way nobody else calls.
    assert_eq!(said(&store, &account, Due::ForRequests, NOW), None);
    hear(&store, &account, 1, &day_reply(40, 0, 0, 40, 0, 0), NOW);
    let first = take(&store, &account, 30, NOW).unwrap();
    let _second = take(&store, &account, 10, NOW).unwrap();
    assert!(take(&store, &account, 1, NOW).is_err());
    // What comes back is there for the next; and the tick reports what is gone.
    settle(
        Moment::new(&store, NOW),
        &first.settle(Spent { usage: Usage { prompt: 25, ..Usage::default() }, ..Spent::default() }),
    )
    .unwrap();
    assert!(take(&store, &account, 5, NOW).is_ok());
    says(said(&store, &account, Due::ByTick, NOW), 2, 7, &line(TODAY, 40, 0, 0, 1, 100, 0));
}

#[test]
fn a_call_without_a_reply_is_said_again_word_for_word() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let first = said(&store, &account, Due::ForRequests, NOW);
    // More is lacking by now.
    let _ = take(&store, &account, 60, NOW);
    failed(&store, &account, FIRST).unwrap();
    assert_eq!(said(&store, &account, Due::ForRequests, NOW), first);
    // Nobody said that it failed, but it has taken too long.
    assert_eq!(said(&store, &account, Due::ByTick, NOW + CALLED * 2), first);
    // What it brings goes back, and nothing is asked for until the others have said what they owe.
    hear(&store, &account, 1, &day_reply(30, 0, 0, 30, 0, 0), NOW);
    assert!(take(&store, &account, 1, NOW).is_err());
    assert_eq!(said(&store, &account, Due::ForRequests, NOW), None);
    says(said(&store, &account, Due::ByTick, NOW), 2, 7, &line(TODAY, 30, 0, 30, 0, 0, 0));
    hear(&store, &account, 2, &day_reply(0, 0, 0, 0, 0, 0), NOW);
    let later = NOW + TICK * 2;
    says(said(&store, &account, Due::ForRequests, later), 3, 7, &line(TODAY, 0, 0, 0, 60, 1, 0));
}

#[test]
fn a_reply_that_comes_twice_or_late_changes_nothing() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    for _ in 0..2 {
        hear(&store, &account, 1, &day_reply(30, 0, 0, 30, 0, 0), NOW);
    }
    assert!(take(&store, &account, 30, NOW).is_ok());
    assert!(take(&store, &account, 1, NOW).is_err());
    // What does not fit to what was said is no reply.
    assert!(said(&store, &account, Due::ByTick, NOW).is_some());
    for cut in 0..11 {
        let reply = &day_reply(30, 0, 0, 30, 0, 0)[..cut];
        assert_eq!(answered(&store, &account, FIRST + 1, reply, (NOW, NOW)), Ok(None), "{cut}");
    }
}

/// Another version of the module in the same process keeps records that this one does not know, and the reverse.
#[test]
fn a_number_is_never_said_again_though_the_record_was_lost() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let mut last = 0;
    for at in 0..5 {
        let now = NOW + TICK * at;
        assert!(take(&store, &account, 1, now).is_err());
        let (number, _) = said(&store, &account, Due::ForRequests, now).unwrap();
        assert!(number > last, "{number} after {last}");
        last = number;
        hear(&store, &account, number, &day_reply(0, 0, 0, 0, 0, 0), now);
        crate::store::update(&store, account.key(), |_| (Some(vec![255]), ())).unwrap();
    }
}

#[test]
fn a_reply_finds_its_limits_though_the_configuration_has_others() {
    let (store, before) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &before, 30, NOW);
    let _ = said(&store, &before, Due::ForRequests, NOW);
    let after = account(&[(Measure::Concurrent, 5), (DAY, 100)]);
    hear(&store, &after, 1, &day_reply(40, 0, 0, 40, 0, 0), NOW);
    says_of(said(&store, &after, Due::ByTick, NOW), 1, &line(TODAY, 40, 40, 0, 0, 0, 0));
    // And where it has none of them, the next call goes its way.
    let other = account(&[(Measure::Concurrent, 5)]);
    let reply = [day_reply(0, 0, 0, 0, 0, 0), day_reply(0, 0, 0, 0, 0, 0)[3..].to_vec()].concat();
    hear(&store, &other, 2, &reply, NOW);
    let _ = take(&store, &other, 1, NOW);
    assert!(said(&store, &other, Due::ForRequests, NOW).is_some());
}

/// The line of the limit at `place`.
#[track_caller]
fn says_of(found: Option<(u64, String)>, place: usize, line: &str) {
    let (_, text) = found.unwrap();
    let words: Vec<_> = text.split(' ').skip(1 + 12 * place + 1).take(11).collect();
    assert_eq!(words.join(" "), line);
}

#[test]
fn a_lease_that_is_over_is_not_spent() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &day_reply(50, 0, 0, 50, 0, 0), NOW);
    let last = LEASE - MARGIN - Duration::from_nanos(1);
    let one = take(&store, &account, 30, NOW + last).unwrap();
    assert!(take(&store, &account, 1, NOW + LEASE - MARGIN).is_err());
    // Nor if the clock was set back.
    assert!(take(&store, &account, 1, NOW - Duration::from_secs(1)).is_err());
    // All of it goes back with the next call, and what was spent is reported.
    says(said(&store, &account, Due::ForRequests, NOW + LEASE), 2, 7, &line(TODAY, 50, 0, 20, 1, 100, 0));
    drop(one);
}

/// How long a request is told to wait that is refused without asking.
fn refused(store: &MemoryStore, account: &Rc<Account>, tokens: u64, now: Duration) -> Option<Duration> {
    match *take(store, account, tokens, now).err()? {
        Outcome::Decided(Grant::Refused(
            Denial::QuotaExhausted { wait, .. }
            | Denial::RateExhausted { wait, .. }
            | Denial::TooManyAtOnce { wait, .. },
            ..,
        )) => Some(wait),
        _ => None,
    }
}

#[test]
fn what_the_fleet_does_not_have_is_refused_without_asking() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &day_reply(0, 0, 80, 80, 9_000_000, 1), NOW);
    let until_the_end = Duration::from_secs(TODAY.unsigned_abs() + 86_400) - NOW;
    assert_eq!(refused(&store, &account, 21, NOW), Some(until_the_end));
    assert!(refused(&store, &account, 30, NOW + FRESH - Duration::from_nanos(1)).is_some());
    // Nobody waits for it, so nothing is asked for.
    assert_eq!(said(&store, &account, Due::ForRequests, NOW), None);
    // A smaller one may fit, and what was told long ago may be otherwise.
    assert_eq!(refused(&store, &account, 20, NOW), None);
    assert_eq!(refused(&store, &account, 30, NOW + FRESH), None);
}

#[test]
fn what_a_fleets_bucket_lacks_is_told_to_the_microsecond() {
    const SECOND: Measure = Measure::Rate(TOKENS, crate::allowance::Flow::Minute);
    let (store, account) = (MemoryStore::default(), account(&[(SECOND, 60)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    // One unit flows off in a second; of the next one a quarter is left.
    let now_us = i64::try_from(NOW.as_micros()).unwrap();
    hear(&store, &account, 1, &[7, now_us, 2, 0, 0, 60, 60, 29_250_000, 0, 250_000, 1], NOW);
    assert_eq!(refused(&store, &account, 30, NOW), Some(Duration::from_millis(29_250)));
    assert_eq!(refused(&store, &account, 1, NOW), Some(Duration::from_millis(250)));
    // By then it may be had, and is asked for.
    assert_eq!(refused(&store, &account, 1, NOW + Duration::from_millis(250)), None);
    says_of(
        said(&store, &account, Due::ForRequests, NOW + Duration::from_millis(250)),
        0,
        "b 60 60000000 0 0 0 0 1 0 0 60",
    );
}

const PLACES: Measure = Measure::Concurrent;

/// A reply about places, of which so many are in use by all.
fn places(granted: i64, kept: i64, in_use: i64, held: i64, wait_us: i64) -> Vec<i64> {
    let now_us = i64::try_from(NOW.as_micros()).unwrap();
    vec![7, now_us, 2, granted, kept, in_use, held, wait_us, 0, 0, i64::from(granted == 0)]
}

#[test]
fn a_place_that_is_idle_elsewhere_is_waited_for() {
    let (store, account) = (MemoryStore::default(), account(&[(PLACES, 4)]));
    let _ = take(&store, &account, 1, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    // Others hold all four, and use three.
    hear(&store, &account, 1, &places(0, 0, 3, 4, 0), NOW);
    assert_eq!(refused(&store, &account, 1, NOW), None);
    assert_eq!(said(&store, &account, Due::ForRequests, NOW), None, "the others have until the next tick");
    says_of(said(&store, &account, Due::ByTick, NOW), 0, "s 4 0 0 0 0 0 1 1 0 3");
    hear(&store, &account, 2, &places(0, 0, 4, 4, 1_000_000), NOW);
    assert!(refused(&store, &account, 1, NOW).is_some());
}

#[test]
fn a_place_that_comes_back_is_there_for_the_next() {
    let (store, account) = (MemoryStore::default(), account(&[(PLACES, 4)]));
    let _ = take(&store, &account, 1, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &places(1, 0, 0, 1, 0), NOW);
    let first = take(&store, &account, 1, NOW).unwrap();
    settle(Moment::new(&store, NOW), &first.settle(Spent::default())).unwrap();
    let second = take(&store, &account, 1, NOW).unwrap();
    assert!(take(&store, &account, 1, NOW).is_err());
    // So is that of a worker that died.
    crate::limits::return_slots(Moment::new(&store, NOW), &second.slots()).unwrap();
    assert!(take(&store, &account, 1, NOW).is_ok());
}

#[test]
fn windows_are_those_of_the_stores_clock() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    // There it is a day later.
    let mut reply = day_reply(40, 0, 0, 40, 0, 0);
    reply[1] += 86_400_000_000;
    reply[8] += 86_400;
    hear(&store, &account, 1, &reply, NOW);
    assert!(take(&store, &account, 40, NOW).is_ok());
}

#[test]
fn one_who_waits_on_asks_for_his_amount_once() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let mut uncovered = Uncovered::Waits;
    for _ in 0..3 {
        let outcome = reserve_or(Moment::new(&store, NOW), claim(&account, 30), uncovered).unwrap();
        assert!(matches!(outcome, Outcome::Uncovered(_)));
        uncovered = Uncovered::WaitsOn;
    }
    let _ = take(&store, &account, 20, NOW);
    says(said(&store, &account, Due::ForRequests, NOW), 1, 0, &line(TODAY, 0, 0, 0, 30, 20, 0));
}

/// Two limits of one account, of which one has a lease of so much, and the other what `second` says.
fn two(second: [i64; 8]) -> (MemoryStore, Rc<Account>) {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100), (PLACES, 4)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &[day_reply(50, 0, 0, 50, 0, 0), second.to_vec()].concat(), NOW);
    (store, account)
}

#[test]
fn what_one_limit_lacks_or_refuses_is_taken_of_no_other() {
    // All places are in use: it is refused. Or some may be had: it waits.
    for second in [[0, 0, 4, 4, 1_000_000, 0, 0, 0], [0, 0, 3, 3, 0, 0, 0, 0]] {
        let (store, account) = two(second);
        assert!(take(&store, &account, 30, NOW).is_err());
        says_of(said(&store, &account, Due::ByTick, NOW), 0, &line(TODAY, 50, 50, 0, 0, 0, 0));
    }
    // What is refused is not asked for either, of any limit.
    let (store, account) = two([0, 0, 4, 4, 1_000_000, 0, 0, 0]);
    assert!(take(&store, &account, 60, NOW).is_err());
    assert_eq!(said(&store, &account, Due::ForRequests, NOW), None);
}

#[test]
fn who_is_refused_by_one_account_waits_for_no_other() {
    let (store, client) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let day =
        Allowance::new(Whose::Group("g".into()), DAY, NonZeroU64::new(100).unwrap(), Scope::default(), false);
    let group = Rc::new(Account::of_group("g", vec![day]).shared(Fleet::default()));
    let claims = || {
        let budget = Rc::new(Budget::new([client.clone(), group.clone()]));
        Claim { budget, ..claim(&client, 30) }
    };
    let reserved = |uncovered| reserve_or(Moment::new(&store, NOW), claims(), uncovered).unwrap();
    assert_eq!(reserved(Uncovered::Waits), Outcome::Uncovered(claims()));
    let (number, _) = said(&store, &group, Due::ForRequests, NOW).unwrap();
    hear(&store, &group, number, &day_reply(0, 0, 100, 0, 9_000_000, 0), NOW);
    for uncovered in [Uncovered::WaitsOn, Uncovered::Waits] {
        assert!(matches!(reserved(uncovered), Outcome::Decided(Grant::Refused(..))), "{uncovered:?}");
    }
}

#[test]
fn what_cannot_wait_is_asked_for_by_the_next_call() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let outcome = reserve_or(Moment::new(&store, NOW), claim(&account, 30), Uncovered::IsRefused).unwrap();
    assert!(matches!(outcome, Outcome::Decided(Grant::Refused(..))));
    says(said(&store, &account, Due::ByTick, NOW), 1, 0, &line(TODAY, 0, 0, 0, 30, 0, 0));
    // Nor if it is known that it is not to be had.
    hear(&store, &account, 1, &day_reply(0, 0, 80, 80, 9_000_000, 1), NOW);
    let _ = reserve_or(Moment::new(&store, NOW), claim(&account, 30), Uncovered::IsRefused).unwrap();
    says(said(&store, &account, Due::ByTick, NOW), 2, 7, &line(TODAY, 0, 0, 0, 0, 0, 80));
}

#[test]
fn what_is_owed_is_not_needed_twice() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 10, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &day_reply(10, 0, 0, 10, 0, 0), NOW);
    let first = take(&store, &account, 10, NOW).unwrap();
    let spent = Spent { usage: Usage { prompt: 30, ..Usage::default() }, ..Spent::default() };
    settle(Moment::new(&store, NOW), &first.settle(spent)).unwrap();
    // What costs nothing needs no lease.
    assert!(take(&store, &account, 0, NOW).is_ok());
    assert!(take(&store, &account, 60, NOW).is_err());
    says(said(&store, &account, Due::ForRequests, NOW), 2, 7, &line(TODAY, 10, -20, 0, 60, 40, 0));
}

#[test]
fn a_limit_that_only_reports_refuses_nobody() {
    let limit = Allowance::new(Whose::Client, DAY, NonZeroU64::new(100).unwrap(), Scope::default(), true);
    let account = Rc::new(Account::of_client("c", vec![limit]).shared(Fleet::default()));
    let store = MemoryStore::default();
    let reports =
        |uncovered| match reserve_or(Moment::new(&store, NOW), claim(&account, 30), uncovered).unwrap() {
            Outcome::Decided(Grant::Granted(granted)) => granted.shadow_refusals.len(),
            outcome => panic!("{outcome:?}"),
        };
    assert_eq!(reports(Uncovered::IsRefused), 1);
    let _ = said(&store, &account, Due::ByTick, NOW);
    hear(&store, &account, 1, &day_reply(0, 0, 80, 80, 9_000_000, 1), NOW);
    assert_eq!(reports(Uncovered::Waits), 1);
}

#[test]
fn what_belongs_to_a_window_that_is_over_changes_nothing() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &day_reply(50, 0, 0, 50, 0, 0), NOW);
    let yesterdays = take(&store, &account, 30, NOW).unwrap();
    let tomorrow = NOW + Duration::from_secs(86_400);
    settle(Moment::new(&store, tomorrow), &yesterdays.settle(Spent::default())).unwrap();
    assert!(take(&store, &account, 1, tomorrow).is_err());
    says(said(&store, &account, Due::ForRequests, tomorrow), 2, 7, &line(TODAY + 86_400, 0, 0, 0, 1, 100, 0));
}

#[test]
fn what_is_held_idle_and_owed_is_told_to_operators() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let holding = |now| {
        let budget = Rc::new(Budget::new([account.clone()]));
        let inquiry = Inquiry { budget, model: None, operation: Operation::Limits };
        crate::limits::read(Moment::new(&store, now), &inquiry).unwrap().states[0].holding.unwrap()
    };
    let _ = take(&store, &account, 30, NOW);
    assert_eq!(holding(NOW), Holding::default());
    let _ = said(&store, &account, Due::ForRequests, NOW);
    hear(&store, &account, 1, &day_reply(50, 0, 0, 50, 0, 0), NOW);
    let reservation = take(&store, &account, 30, NOW).unwrap();
    assert_eq!(holding(NOW), Holding { leased: 50, idle: 20, owed: 0 });
    let spent = Spent { usage: Usage { prompt: 60, ..Usage::default() }, ..Spent::default() };
    settle(Moment::new(&store, NOW), &reservation.settle(spent)).unwrap();
    assert_eq!(holding(NOW), Holding { leased: 50, idle: 0, owed: 10 });
    assert_eq!(holding(NOW + LEASE), Holding { leased: 0, idle: 0, owed: 10 }, "it is over");
}

/// A lease ends by this process's clock, whatever the store's says.
#[test]
fn what_is_held_is_told_though_the_stores_clock_is_ahead() {
    let (store, account) = (MemoryStore::default(), account(&[(DAY, 100)]));
    let _ = take(&store, &account, 30, NOW);
    let _ = said(&store, &account, Due::ForRequests, NOW);
    let mut reply = day_reply(50, 0, 0, 50, 0, 0);
    reply[1] += 86_400_000_000;
    reply[8] += 86_400;
    hear(&store, &account, 1, &reply, NOW);
    let budget = Rc::new(Budget::new([account.clone()]));
    let inquiry = Inquiry { budget, model: None, operation: Operation::Limits };
    let holding = crate::limits::read(Moment::new(&store, NOW), &inquiry).unwrap().states[0].holding.unwrap();
    assert_eq!(holding, Holding { leased: 50, idle: 50, owed: 0 });
}

#[test]
fn a_process_has_one_name_for_all_its_vms() {
    let store = MemoryStore::default();
    assert_eq!(process(&store, "a"), Ok("a".to_owned()));
    assert_eq!(process(&store, "b"), Ok("a".to_owned()));
}

#[test]
fn the_law_of_stored_values_holds() {
    let head = Head {
        number: 1,
        called: 2,
        said: b"a b".to_vec(),
        since: 3,
        until: 4,
        ahead: -5,
        revision: 6,
        holders: 7,
        touched: 8,
        patient_until: 9,
        has_failed: true,
        quiet_until: 10,
        is_active: true,
    };
    law::holds("lease_head", &[head, Head::default()]);
    let lease =
        Lease { id: u64::MAX, left: -3, held: i64::MAX, is_recalled: true, flowed_at: 9, ..Lease::default() };
    law::holds("lease", &[lease, Lease::default()]);
}

use super::*;
use crate::codec::law;
use crate::fleet::Fleet;
use crate::spend::{GAP, OTHER, Spend};
use crate::store::{Loaded, MemoryStore, Swap, Version};
use crate::tokens::Usage;
use std::cell::Cell;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_490_661);
fn book() -> Book {
    Book::new(Fleet::new("store", "/redis", 0, "tollgate"))
}
const TIMEOUT: Duration = Duration::from_millis(500);

fn row(day: u64, client: &str, tokens: u64) -> Row {
    let usage = Usage { prompt: tokens, ..Usage::default() };
    let spend = Spend::on(usage, Some(2 * tokens));
    Row { day, client: client.to_owned(), spend, ..Row::default() }
}

fn says(store: &MemoryStore, ms: u64) -> Option<Call> {
    let now = NOW + Duration::from_millis(ms);
    book().say(Moment::new(store, now), "me", TIMEOUT, 400).unwrap()
}

/// What a call says of each client: requests and tokens sent.
fn told(call: &Call) -> Vec<(String, [u64; 2])> {
    let rows = call.arguments.get(4..).unwrap().chunks(1 + Spend::NUMBERS);
    let number = |text: &String| text.parse().unwrap();
    rows.map(|row| (row[0].split(GAP).next().unwrap().to_owned(), [number(&row[1]), number(&row[2])]))
        .collect()
}

#[test]
fn a_call_is_said_again_until_it_is_answered() {
    let store = MemoryStore::default();
    assert_eq!(says(&store, 0), None);
    for tokens in [5, 7] {
        book().add(&store, &row(20_781, "web", tokens)).unwrap();
    }
    let first = says(&store, 0).unwrap();
    assert_eq!((first.day.as_str(), told(&first)), ("2026-11-24", vec![("web".to_owned(), [2, 12])]));
    assert_eq!(first.arguments[..4], ["me", &first.number.to_string(), "34560000000", "20000"]);
    // It is under way; what comes meanwhile is another call's.
    book().add(&store, &row(20_781, "web", 3)).unwrap();
    assert_eq!(says(&store, 499), None);
    assert_eq!(says(&store, 500), Some(first.clone()));
    first.failed(&store).unwrap();
    assert_eq!(says(&store, 501), Some(first.clone()));
    // What is no answer of the script says nothing.
    assert_eq!(first.answered(&store, &[2]), Ok(None));
    assert_eq!(says(&store, 502), Some(first.clone()));
    assert_eq!(first.answered(&store, &[0]), Ok(Some(0)));
    let second = says(&store, 503).unwrap();
    assert_eq!((second.number, told(&second)), (first.number + 1, vec![("web".to_owned(), [1, 3])]));
    // An answer that comes late is of nothing that is under way.
    assert_eq!(first.answered(&store, &[1, 3]), Ok(Some(3)));
    assert_eq!(says(&store, 1003), Some(second.clone()));
    assert_eq!(second.answered(&store, &[1, 3]), Ok(Some(3)));
    assert_eq!(says(&store, 2000), None);
}

#[test]
fn each_call_is_of_one_day_and_in_the_end_all_is_said() {
    let store = MemoryStore::default();
    let names: Vec<_> = (0..300).map(|client| client.to_string()).collect();
    for (day, name) in [20_781, 20_782].into_iter().flat_map(|day| names.iter().map(move |name| (day, name)))
    {
        book().add(&store, &row(day, name, 1)).unwrap();
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut calls = 0;
    while let Some(call) = says(&store, 0) {
        assert!(told(&call).len() <= ROWS_MAX);
        seen.extend(told(&call).into_iter().map(|(client, _)| (call.day.clone(), client)));
        calls += 1;
        assert_eq!(call.answered(&store, &[1, 3]), Ok(Some(3)));
    }
    // Each shelf has rows of both days.
    assert_eq!(calls, 2 * SHELVES);
    seen.sort();
    let days = ["2026-11-24", "2026-11-25"].map(str::to_owned);
    let mut expected: Vec<_> =
        days.iter().flat_map(|day| names.iter().map(|name| (day.clone(), name.clone()))).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn what_there_is_no_room_for_is_added_to_one_row() {
    let mut shelf = Shelf::default();
    for client in 0..ROWS_MAX + 5 {
        assert_eq!(shelf.add(&row(1, &client.to_string(), 1)), client < ROWS_MAX);
    }
    // Who has a row keeps it.
    assert!(shelf.add(&row(1, "0", 1)));
    assert_eq!((shelf.0.len(), shelf.0[0].spend.requests), (ROWS_MAX + 1, 2));
    let last = shelf.0.last().unwrap();
    assert_eq!((last.field(), last.spend.requests), ([OTHER; 5].join(&GAP.to_string()), 5));
}

#[test]
fn each_store_is_told_its_own() {
    let store = MemoryStore::default();
    book().add(&store, &row(1, "web", 5)).unwrap();
    let other = Book::new(Fleet::new("store", "/redis", 0, "other"));
    assert_eq!(other.say(Moment::new(&store, NOW), "me", TIMEOUT, 400), Ok(None));
    other.add(&store, &row(1, "lab", 1)).unwrap();
    let call = other.say(Moment::new(&store, NOW), "me", TIMEOUT, 400).unwrap().unwrap();
    assert_eq!(told(&call), [("lab".to_owned(), [1, 1])]);
    assert_eq!(told(&says(&store, 0).unwrap()), [("web".to_owned(), [1, 5])]);
}

/// A memory in which another worker begins a call at the moment in which this one does.
#[derive(Debug, Default)]
struct Racing {
    memory: MemoryStore,
    other: Cell<Option<u64>>,
}

impl Store for Racing {
    fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
        self.memory.load(key)
    }

    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
        if key == book().letter()
            && let Some(sent) = self.other.take()
        {
            let theirs = Letter { number: 3, sent, rows: vec![row(1, "web", 5)] };
            self.memory.put(key, &codec::encode(&theirs))?;
        }
        self.memory.swap(key, value, version)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        self.memory.put(key, value)
    }
}

#[test]
fn what_another_worker_was_faster_to_say_is_said_after_it() {
    // It is under way, or it has failed and goes again.
    for (sent, goes) in [(nanos(NOW), false), (0, true)] {
        let racing = Racing { other: Cell::new(Some(sent)), ..Racing::default() };
        book().add(&racing, &row(1, "web", 5)).unwrap();
        let said = book().say(Moment::new(&racing, NOW), "me", TIMEOUT, 400).unwrap();
        assert_eq!(said.is_some(), goes);
        let theirs = says(&racing.memory, 500).unwrap();
        assert_eq!((theirs.number, told(&theirs)), (3, vec![("web".to_owned(), [1, 5])]));
        assert_eq!(theirs.answered(&racing, &[1, 0]), Ok(Some(0)));
        let ours = says(&racing.memory, 500).unwrap();
        assert_eq!((ours.number, told(&ours)), (4, vec![("web".to_owned(), [1, 5])]));
    }
}

#[test]
fn the_law_of_stored_values_holds() {
    let row = Row { tier: "flex".to_owned(), ..row(20_781, "web", 5) };
    law::holds("spend_shelf", &[Shelf(vec![row.clone(), Row::default()]), Shelf::default()]);
    let letter = Letter { number: u64::MAX, sent: 1, rows: vec![row] };
    law::holds("spend_letter", &[letter, Letter::default()]);
}

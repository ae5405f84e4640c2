use super::*;
use crate::codec::law;
use crate::spend::{GAP, OTHER, Spend};
use crate::store::MemoryStore;
use crate::tokens::Usage;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_490_661);
const TIMEOUT: Duration = Duration::from_millis(500);

fn row(day: u64, client: &str, tokens: u64) -> Row {
    let usage = Usage { prompt: tokens, ..Usage::default() };
    let spend = Spend::on(usage, Some(2 * tokens));
    Row { day, client: client.to_owned(), spend, ..Row::default() }
}

fn says(store: &MemoryStore, ms: u64) -> Option<Call> {
    let now = NOW + Duration::from_millis(ms);
    say(Moment::new(store, now), "me", TIMEOUT, 400).unwrap()
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
        add(&store, &row(20_781, "web", tokens)).unwrap();
    }
    let first = says(&store, 0).unwrap();
    assert_eq!((first.day.as_str(), told(&first)), ("2026-11-24", vec![("web".to_owned(), [2, 12])]));
    assert_eq!(first.arguments[..4], ["me", &first.number.to_string(), "34560000000", "20000"]);
    // It is under way; what comes meanwhile is another call's.
    add(&store, &row(20_781, "web", 3)).unwrap();
    assert_eq!(says(&store, 499), None);
    assert_eq!(says(&store, 500), Some(first.clone()));
    failed(&store, first.number).unwrap();
    assert_eq!(says(&store, 501), Some(first.clone()));
    // What is no answer of the script says nothing.
    assert_eq!(answered(&store, first.number, &[2]), Ok(None));
    assert_eq!(says(&store, 502), Some(first.clone()));
    assert_eq!(answered(&store, first.number, &[0]), Ok(Some(0)));
    let second = says(&store, 503).unwrap();
    assert_eq!((second.number, told(&second)), (first.number + 1, vec![("web".to_owned(), [1, 3])]));
    // An answer that comes late is of nothing that is under way.
    assert_eq!(answered(&store, first.number, &[1, 3]), Ok(Some(3)));
    assert_eq!(says(&store, 1003), Some(second.clone()));
    assert_eq!(answered(&store, second.number, &[1, 3]), Ok(Some(3)));
    assert_eq!(says(&store, 2000), None);
}

#[test]
fn each_call_is_of_one_day_and_of_so_many_rows() {
    let store = MemoryStore::default();
    for client in 0..SAID_MAX + 1 {
        add(&store, &row(20_781, &client.to_string(), 1)).unwrap();
        add(&store, &row(20_782, &client.to_string(), 1)).unwrap();
    }
    let mut seen = Vec::new();
    while let Some(call) = says(&store, 0) {
        seen.push((call.day.clone(), told(&call).len()));
        assert_eq!(answered(&store, call.number, &[1, 3]), Ok(Some(3)));
    }
    let days = ["2026-11-24", "2026-11-25"];
    let expected: Vec<_> =
        [SAID_MAX, 1].iter().flat_map(|rows| days.map(|day| (day.to_owned(), *rows))).collect();
    seen.sort();
    let mut expected = expected;
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn what_there_is_no_room_for_is_added_to_one_row() {
    let store = MemoryStore::default();
    for client in 0..ROWS_MAX + 5 {
        assert_eq!(add(&store, &row(1, &client.to_string(), 1)), Ok(client < ROWS_MAX));
    }
    // Who has a row keeps it.
    assert_eq!(add(&store, &row(1, "0", 1)), Ok(true));
    let book: Book = codec::decode(&store.load(KEY).unwrap().value).unwrap();
    assert_eq!((book.open.len(), book.open[0].spend.requests), (ROWS_MAX + 1, 2));
    let last = book.open.last().unwrap();
    assert_eq!((last.field(), last.spend.requests), ([OTHER; 5].join(&GAP.to_string()), 5));
}

#[test]
fn the_law_of_stored_values_holds() {
    let row = Row { tier: "flex".to_owned(), ..row(20_781, "web", 5) };
    let book = Book { number: u64::MAX, called: 1, said: vec![row.clone()], open: vec![row, Row::default()] };
    law::holds("spend_book", &[book, Book::default()]);
}

use super::*;
use crate::codec::law;
use crate::limits::record::Entry;
use crate::store::MemoryStore;
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_490_661);

/// The lowest bits of what is found by it say that it is a bucket of a minute.
const A_BUCKET: u64 = 0x102;

fn account(split: u64, number: u64) -> String {
    format!("tollgate/limits/by/{split:016x}/{number:032x}")
}

/// So many accounts of a split, all under one key.
fn under_one_key(split: u64, many: usize) -> Vec<String> {
    let accounts = (0..).map(|number| account(split, number));
    let is_there = |account: &String| Mark::of_key(account).unwrap().number() % KEYS == 7;
    accounts.filter(is_there).take(many).collect()
}

/// A record of a bucket that has so much less than nothing.
fn record(owed: i128) -> Vec<u8> {
    let mut record = Record::default();
    record.set(Entry { id: A_BUCKET, level: -owed, at: nanos(NOW) }, 0);
    record.into_bytes()
}

/// Writes a record; answers how many of others were lost by that.
fn write(store: &MemoryStore, account: &str, record: Vec<u8>, now: Duration) -> u64 {
    update_and_tell(Moment::new(store, now), account, |_| (Some(record.clone()), ())).unwrap().1
}

fn is_there(store: &MemoryStore, account: &str) -> bool {
    !load(store, account).unwrap().is_empty()
}

#[test]
fn the_law_of_stored_values_holds() {
    let cell = |split, record| Cell { mark: Mark { split, value: [7; Value::BYTES] }, record };
    law::holds("limit_of_value", &[cell(u64::MAX, record(3)), cell(0, Vec::new())]);
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let store = MemoryStore::default();
    let (one, other) = (account(1, 1), account(2, 1));
    assert_eq!(write(&store, &one, record(5), NOW), 0);
    assert_eq!(write(&store, &other, record(6), NOW), 0);
    assert_eq!((load(&store, &one).unwrap(), load(&store, &other).unwrap()), (record(5), record(6)));
    assert!(!is_there(&store, &account(1, 2)));
    // What has nothing in it takes no room, and what was dropped does not come back as that.
    assert_eq!(write(&store, &one, Record::default().into_bytes(), NOW), 0);
    assert!(!is_there(&store, &one) && is_there(&store, &other));
    // Any other account stands under its own key.
    let own = "tollgate/limits/client/by/1";
    assert_eq!(write(&store, own, record(1), NOW), 0);
    assert_eq!(store.load(own).unwrap().value, record(1));
}

#[test]
fn who_makes_up_values_pushes_out_his_own() {
    let store = MemoryStore::default();
    let (honest, flood) = (under_one_key(1, 3), under_one_key(2, 200));
    for account in &honest {
        assert_eq!(write(&store, account, record(1), NOW), 0);
    }
    let lost: u64 = flood.iter().map(|account| write(&store, account, record(1), NOW)).sum();
    assert_eq!(lost, 200 + 3 - RECORDS_MAX as u64);
    assert!(honest.iter().all(|account| is_there(&store, account)));
    let (gone, kept) = flood.split_at(200 + 3 - RECORDS_MAX);
    assert!(gone.iter().all(|account| !is_there(&store, account)));
    assert!(kept.iter().all(|account| is_there(&store, account)));
}

#[test]
fn what_is_not_used_goes_first_and_is_no_loss() {
    let store = MemoryStore::default();
    let accounts = under_one_key(1, RECORDS_MAX + 2);
    let (first, others) = accounts.split_at(RECORDS_MAX);
    for (at, account) in first.iter().enumerate() {
        // One of them in the middle is not in debt: after a minute it is full.
        let _ = write(&store, account, record(i128::from(at != 20)), NOW);
    }
    let later = NOW + Duration::from_secs(60);
    assert_eq!(write(&store, &others[0], record(1), later), 0);
    assert!(!is_there(&store, &first[20]) && is_there(&store, &first[0]));
    assert_eq!(write(&store, &others[1], record(1), later), 1);
    assert!(!is_there(&store, &first[0]) && is_there(&store, &first[1]));
}

/// One of many limits.
fn long_record() -> Vec<u8> {
    let mut long = Record::default();
    for id in 0..60 {
        long.set(Entry { id, level: 1, at: nanos(NOW) }, 0);
    }
    long.into_bytes()
}

#[test]
fn whoever_is_refused_again_and_again_is_not_forgotten() {
    for record in [record(1), long_record()] {
        let store = MemoryStore::default();
        let accounts = under_one_key(1, 200);
        let (refused, others) = accounts.split_first().unwrap();
        let _ = write(&store, refused, record.clone(), NOW);
        for account in others {
            let _ = write(&store, account, record.clone(), NOW);
            let refuse = |record: &[u8]| (None, record.is_empty());
            assert_eq!(update(Moment::new(&store, NOW), refused, refuse), Ok(false));
        }
    }
}

#[test]
fn many_bytes_leave_room_for_fewer() {
    let store = MemoryStore::default();
    let long = long_record();
    for account in under_one_key(1, 40) {
        let _ = write(&store, &account, long.clone(), NOW);
    }
    let bytes = store.load("tollgate/limits/values/7").unwrap().value.len();
    assert!((BYTES_MAX - long.len() - 100..=BYTES_MAX + 1).contains(&bytes), "{bytes}");
}

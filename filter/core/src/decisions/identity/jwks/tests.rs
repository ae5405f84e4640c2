use super::*;
use crate::codec;
use crate::fetching::{Fetching, RETRY_LAST};
use crate::identity::tokens::{JWKS, public};
use crate::store::{MemoryStore, Moment};
use serde_json::json;
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_000_000);

fn fetched() -> Fetched {
    keys(Origin {
        cluster: "idp".to_owned(),
        host: "issuer.example".to_owned(),
        path: "/keys".to_owned(),
        refresh: Duration::from_secs(3600),
        timeout: Duration::from_secs(5),
        wait: Duration::from_secs(3),
    })
}

fn other_keys() -> Vec<u8> {
    json!({ "keys": public("rsa-2") }).to_string().into_bytes()
}

/// VMs of one process.
struct Process {
    store: MemoryStore,
    vms: [Fetched; 3],
}

impl Process {
    fn new() -> Self {
        Self { store: MemoryStore::default(), vms: [fetched(), fetched(), fetched()] }
    }

    /// One that fetches if one of them is to; answers what came of it.
    fn tick(&self, at: Duration, fetch: Fetch<'_>) -> Option<Outcome> {
        let chosen: Vec<_> =
            self.vms.iter().filter(|vm| vm.claim(Moment::new(&self.store, NOW + at)).unwrap()).collect();
        assert!(chosen.len() <= 1, "{} fetch at {at:?}", chosen.len());
        chosen.first().map(|vm| vm.settle(Moment::new(&self.store, NOW + at), fetch, None).unwrap())
    }

    fn generations(&self) -> Vec<u64> {
        self.vms
            .iter()
            .map(|vm| {
                vm.load(&self.store).unwrap();
                vm.generation()
            })
            .collect()
    }

    /// A token names a key that is not there; whether it may wait for it.
    fn meet_unknown(&self, at: Duration) -> bool {
        self.vms[0].may_bring_more(Moment::new(&self.store, NOW + at)).unwrap()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_fetches_and_all_have_the_keys() {
    let process = Process::new();
    assert_eq!(process.generations(), [0, 0, 0]);
    assert!(process.vms[0].value().is_none());
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Changed));
    assert_eq!(process.generations(), [1, 1, 1]);
    assert!(process.vms.iter().all(|vm| vm.value().is_some()));
    assert_eq!(process.tick(SECOND, Fetch::Nothing), None);
}

#[test]
fn refreshed_keys_have_a_new_number_only_if_they_differ() {
    let process = Process::new();
    let hour = 3600 * SECOND;
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Changed));
    assert_eq!(process.tick(hour - Duration::from_millis(1), Fetch::Nothing), None);
    assert_eq!(process.tick(hour, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Same));
    assert_eq!(process.generations(), [1, 1, 1]);
    assert_eq!(process.tick(2 * hour, Fetch::Body(&other_keys())), Some(Outcome::Changed));
    assert_eq!(process.generations(), [2, 2, 2]);
}

#[test]
fn while_one_fetches_nobody_else_does_until_it_must_be_dead() {
    let process = Process::new();
    let claim = |at: Duration| process.vms[1].claim(Moment::new(&process.store, NOW + at)).unwrap();
    assert!(process.vms[0].claim(Moment::new(&process.store, NOW)).unwrap());
    assert!(!claim(Duration::ZERO));
    assert!(!claim(Duration::from_millis(5999)));
    assert!(claim(Duration::from_millis(6000)));
}

#[test]
fn the_last_good_keys_survive_whatever_is_wrong_with_the_next() {
    let process = Process::new();
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Changed));
    let too_long = format!("{JWKS}{}", " ".repeat(KEYS_BYTES_MAX));
    let wrong: [(Fetch<'_>, Outcome); 6] = [
        (Fetch::Nothing, Outcome::Unreachable),
        (Fetch::Refusal, Outcome::Refused),
        (Fetch::TooLong, Outcome::TooLong),
        (Fetch::Body(too_long.as_bytes()), Outcome::TooLong),
        (Fetch::Body(b"<html>"), Outcome::Unusable),
        (Fetch::Body(br#"{"keys":[]}"#), Outcome::Unusable),
    ];
    let mut at = 3600 * SECOND;
    for (fetch, outcome) in wrong {
        assert_eq!(process.tick(at, fetch), Some(outcome));
        assert_eq!(process.generations(), [1, 1, 1]);
        at += RETRY_LAST;
    }
    assert!(process.vms.iter().all(|vm| vm.value().is_some()));
    assert_eq!(process.tick(at, Fetch::Body(&other_keys())), Some(Outcome::Changed));
}

#[test]
fn after_failures_the_pauses_double_up_to_a_minute() {
    let process = Process::new();
    let mut pauses = Vec::new();
    let (mut at, mut last) = (Duration::ZERO, Duration::ZERO);
    while pauses.len() < 9 {
        if process.tick(at, Fetch::Nothing).is_some() {
            pauses.push((at - last).as_secs());
            last = at;
        }
        at += SECOND;
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn unknown_keys_cause_at_most_one_fetch_a_minute() {
    let process = Process::new();
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Changed));
    let mut fetches = 0;
    for tenth in 0..1190 {
        let at = SECOND + tenth * Duration::from_millis(100);
        process.meet_unknown(at);
        fetches += usize::from(process.tick(at, Fetch::Body(JWKS.as_bytes())).is_some());
    }
    assert_eq!(fetches, 2);
}

#[test]
fn one_fetch_is_enough_for_all_workers_that_met_an_unknown_key() {
    let process = Process::new();
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Changed));
    let [one, other, _] = &process.vms;
    for vm in [one, other] {
        assert!(vm.may_bring_more(Moment::new(&process.store, NOW + SECOND)).unwrap());
    }
    assert!(one.claim(Moment::new(&process.store, NOW + SECOND)).unwrap());
    one.settle(Moment::new(&process.store, NOW + 2 * SECOND), Fetch::Body(JWKS.as_bytes()), None).unwrap();
    assert!(!other.claim(Moment::new(&process.store, NOW + 2 * SECOND)).unwrap());
}

#[test]
fn a_token_waits_for_an_unknown_key_only_while_it_may_come() {
    let process = Process::new();
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Changed));
    assert!(process.meet_unknown(SECOND));
    assert!(process.vms[0].claim(Moment::new(&process.store, NOW + SECOND)).unwrap());
    assert!(process.meet_unknown(SECOND + Duration::from_millis(10)), "it is under way");
    process.vms[0]
        .settle(Moment::new(&process.store, NOW + 2 * SECOND), Fetch::Body(JWKS.as_bytes()), None)
        .unwrap();
    assert!(!process.meet_unknown(2 * SECOND));
    assert!(process.meet_unknown(61 * SECOND));
}

#[test]
fn keys_are_fetched_though_the_clock_was_set_back() {
    let process = Process::new();
    let year = 365 * 24 * 3600 * SECOND;
    assert_eq!(process.tick(year, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Changed));
    assert_eq!(process.tick(SECOND, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Same));
    assert_eq!(process.tick(2 * SECOND, Fetch::Nothing), None);
    assert_eq!(process.tick(3601 * SECOND, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Same));
}

#[test]
fn a_vm_that_starts_later_has_the_keys_at_once() {
    let process = Process::new();
    assert_eq!(process.tick(Duration::ZERO, Fetch::Body(JWKS.as_bytes())), Some(Outcome::Changed));
    let late = fetched();
    late.load(&process.store).unwrap();
    assert_eq!((late.generation(), late.value().is_some()), (1, true));
    assert!(!late.claim(Moment::new(&process.store, NOW + SECOND)).unwrap());
}

#[test]
fn the_law_of_stored_values_holds() {
    let state = Fetching { generation: 1, began: 2, succeeded: 3, failed: 4, failures: 5, spurred: 6 };
    codec::law::holds("jwks_state", &[state]);
}

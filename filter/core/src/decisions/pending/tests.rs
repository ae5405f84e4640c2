use super::*;
use crate::store::{Loaded, MemoryStore, Moment, Swap, Version};
use proptest::prelude::*;
use std::cell::RefCell;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_000_000);

fn pending(client: &str, prompt: u64) -> Pending {
    Pending {
        client: client.to_owned(),
        model: "gpt-4o".to_owned(),
        operation: "responses".to_owned(),
        backend: "eu".to_owned(),
        deployment: String::new(),
        prompt,
        completion: 7,
        cost: 9,
        is_spillover: prompt % 2 == 1,
        // Its bytes may be any.
        reserved: vec![0, 255, 0, 1],
    }
}

fn note(store: &dyn Store, pending: &Pending, id: &str, now: Duration) -> Noted {
    pending.note(Moment::new(store, now), &Mark::new("eu", id)).unwrap()
}

fn take_id(store: &dyn Store, id: &str) -> Option<Pending> {
    take(store, &Mark::new("eu", id)).unwrap()
}

fn overdue_of_all(store: &dyn Store, now: Duration) -> Vec<u64> {
    let all = (0..BUCKETS).flat_map(|bucket| overdue(Moment::new(store, now), bucket).unwrap());
    all.map(|pending| pending.prompt).collect()
}

#[test]
fn work_is_found_once_by_its_backend_and_id() {
    let store = MemoryStore::default();
    assert_eq!(note(&store, &pending("web", 1), "resp_1", NOW), Noted::Pending);
    assert_eq!(note(&store, &pending("web", 2), "resp_2", NOW), Noted::Pending);
    assert_eq!(note(&store, &pending("web", 3), "resp_1", NOW), Noted::IsThere);
    assert_eq!(take(&store, &Mark::new("us", "resp_1")), Ok(None));
    assert_eq!(take(&store, &Mark::new("e", "uresp_1")), Ok(None));
    assert_eq!(take_id(&store, "resp_1"), Some(pending("web", 1)));
    assert_eq!(take_id(&store, "resp_1"), None);
    assert_eq!(take_id(&store, "resp_2"), Some(pending("web", 2)));
}

#[test]
fn work_is_over_when_its_time_is() {
    let store = MemoryStore::default();
    let unreserved = Pending { completion: 0, reserved: Vec::new(), ..pending("web", 0) };
    let _ = note(&store, &pending("web", 1), "resp_1", NOW);
    let _ = note(&store, &unreserved, "batch_1", NOW);
    let second = Duration::from_secs(1);
    assert_eq!(overdue_of_all(&store, NOW + RESERVED_MAX - second), [0_u64; 0]);
    assert_eq!(overdue_of_all(&store, NOW + RESERVED_MAX), [1]);
    assert_eq!(overdue_of_all(&store, NOW + RESERVED_MAX), [0_u64; 0]);
    assert_eq!(take_id(&store, "resp_1"), None);
    assert_eq!(overdue_of_all(&store, NOW + UNRESERVED_MAX - second), [0_u64; 0]);
    assert_eq!(overdue_of_all(&store, NOW + UNRESERVED_MAX), [0]);
}

#[test]
fn work_of_a_clock_that_was_set_back_is_over() {
    let store = MemoryStore::default();
    let ahead = NOW + 2 * UNRESERVED_MAX;
    assert_eq!(note(&store, &pending("a", 1), "x", ahead), Noted::Pending);
    assert_eq!(note(&store, &pending("a", 2), "y", NOW), Noted::Pending);
    assert_eq!(overdue_of_all(&store, NOW), [1]);
}

#[test]
fn a_client_leaves_room_for_the_others() {
    let store = MemoryStore::default();
    // All of one bucket.
    let mut marks =
        (0..u32::MAX).map(|id| Mark::new("eu", &id.to_string())).filter(|mark| mark.bucket() == 7);
    let notes = |client: &str| {
        let pending = pending(client, 1);
        let noted = |mark: Mark| pending.note(Moment::new(&store, NOW), &mark).unwrap() == Noted::Pending;
        marks.by_ref().take(OF_CLIENT_MAX + 10).map(noted).filter(|noted| *noted).count()
    };
    assert_eq!(["web", "web", "a", "b", "c", "d"].map(notes), [64, 0, 64, 64, 64, 0]);
    assert_eq!(overdue(Moment::new(&store, NOW + RESERVED_MAX), 7).unwrap().len(), IN_BUCKET_MAX);
}

#[test]
fn the_law_of_stored_values_holds() {
    let entry = |id, until, pending| Entry { mark: Mark::new("eu", id), until, pending };
    let second = entry("batch_2", u64::MAX, Pending::default());
    codec::law::holds("pending", &[entry("resp_1", 1_795_000_000, pending("web", 1)), second]);
}

type Worker<'s> = Box<dyn FnOnce(&MemoryStore) + 's>;

/// A store in which another worker comes first, once.
struct Race<'s> {
    store: &'s MemoryStore,
    other: RefCell<Option<Worker<'s>>>,
}

impl Store for Race<'_> {
    fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
        let loaded = self.store.load(key);
        if let Some(other) = self.other.take() {
            other(self.store);
        }
        loaded
    }
    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
        self.store.swap(key, value, version)
    }
    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        self.store.put(key, value)
    }
}

#[test]
fn of_two_workers_that_read_at_once_one_charges() {
    let store = MemoryStore::default();
    let _ = note(&store, &pending("web", 1), "resp_1", NOW);
    let found = RefCell::new(None);
    let other = RefCell::new(Some(Box::new(|store: &MemoryStore| {
        *found.borrow_mut() = take_id(store, "resp_1");
    }) as Worker<'_>));
    let race = Race { store: &store, other };
    assert_eq!(take_id(&race, "resp_1"), None);
    drop(race);
    assert_eq!(found.into_inner(), Some(pending("web", 1)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is noted is answered once: to whoever reads that it has ended, or when its time is over.
    #[test]
    fn all_pending_work_is_answered_exactly_once(
        steps in prop::collection::vec((0..3u8, 0..20u32, 0..30_000u64), 1..80),
    ) {
        let store = MemoryStore::default();
        let (mut now, mut noted, mut answered) = (NOW, Vec::new(), Vec::new());
        for (at, (step, id, seconds)) in (0..).zip(steps) {
            now += Duration::from_secs(seconds);
            match step {
                0 => {
                    if note(&store, &pending("web", at), &id.to_string(), now) == Noted::Pending {
                        noted.push(at);
                    }
                }
                1 => answered.extend(take_id(&store, &id.to_string()).map(|pending| pending.prompt)),
                _ => answered.extend(overdue_of_all(&store, now)),
            }
        }
        answered.extend(overdue_of_all(&store, now + RESERVED_MAX));
        answered.sort_unstable();
        prop_assert_eq!(answered, noted);
    }

    #[test]
    fn no_bytes_whatever_trouble_the_records(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let store = MemoryStore::default();
        let mark = Mark::new("eu", "resp_1");
        store.put(&key(mark.bucket()), &[&[Entry::VERSION][..], &bytes].concat()).unwrap();
        prop_assert_eq!(note(&store, &pending("web", 1), "resp_1", NOW), Noted::Pending);
        let _ = overdue(Moment::new(&store, NOW + RESERVED_MAX), mark.bucket());
    }
}

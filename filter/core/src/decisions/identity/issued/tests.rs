use super::*;
use crate::codec::law;
use crate::store::MemoryStore;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_000_000);
const SECOND: Duration = Duration::from_secs(1);
const RULES: Rules =
    Rules { fresh: Duration::from_secs(10), stale: Duration::from_secs(60), per_second: 5, wait: SECOND };

/// A worker whose store has clients' names as they are; `?` means nothing. One that ends with `+` stands in the store too, where a
/// client has its own name and `?` makes no sense.
struct Worker {
    issued: Issued<String>,
    process: MemoryStore,
}

fn read(said: Said<'_>) -> Result<Meaning<String>, Problem> {
    let name = String::from_utf8(said.entry.to_vec()).unwrap();
    if name == "?" {
        return Err(Problem::OfKey("no client".to_owned()));
    }
    let joined: Option<Rc<str>> = name.strip_suffix('+').map(Rc::from);
    if let Some(joined) = &joined {
        match said.client {
            Some((asked, Some(text))) if *asked == **joined => {
                if text != name.trim_end_matches('+').as_bytes() {
                    return Err(Problem::OfClient("no sense".to_owned(), true));
                }
            }
            Some((asked, None)) if *asked == **joined => return Err(Problem::OfKey("no client".to_owned())),
            _ => return Ok(Meaning::Lacks(joined.clone())),
        }
    }
    let known = Known::whole(Rc::new(name));
    Ok(Meaning::Whole(Entry { validity: Validity::ALWAYS, known, weight: 1, beyond: Vec::new(), joined }))
}

impl Worker {
    fn new() -> Self {
        let issued = Issued::new(RULES, Box::new(|_, said, _| read(said)));
        Self { issued, process: MemoryStore::default() }
    }

    /// What becomes of a request with this key.
    fn ask(&self, key: u32, now: Duration) -> Result<Option<String>, Doubt> {
        let found = self.issued.find(hash(key), Moment::new(&self.process, now))?;
        Ok(found.map(|(_, known)| (*known.client).clone()))
    }

    /// The keys to ask about.
    fn due(&self, now: Duration) -> Vec<KeyHash> {
        self.issued.due(now).iter().map(|wanted| wanted.key).collect()
    }

    /// The store says this of a key whose client it was not asked about.
    fn hear(&self, key: u32, entry: Option<&str>) -> Option<Outcome> {
        let said = entry.map(|entry| Said { entry: entry.as_bytes(), client: None });
        self.issued.answered(hash(key), said, Moment::new(&self.process, NOW))
    }

    /// The store answers to all that is due that these are whose keys, and has these clients; says which keys it was asked about.
    fn call_with(&self, entries: &[(u32, &str)], clients: &[(&str, &str)], now: Duration) -> Vec<KeyHash> {
        let keys = self.issued.due(now);
        for Wanted { key, client } in &keys {
            let entry = entries.iter().find(|(other, _)| hash(*other) == *key);
            let client = client.as_deref().map(|name| {
                let found = clients.iter().find(|(other, _)| *other == name);
                (name, found.map(|(_, text)| text.as_bytes()))
            });
            let said = entry.map(|(_, name)| Said { entry: name.as_bytes(), client });
            self.issued.answered(*key, said, Moment::new(&self.process, now));
        }
        keys.iter().map(|wanted| wanted.key).collect()
    }

    fn call(&self, entries: &[(u32, &str)], now: Duration) -> Vec<KeyHash> {
        self.call_with(entries, &[], now)
    }
}

/// These are wanted, and no clients.
fn wanted(keys: &[KeyHash]) -> Vec<Wanted> {
    keys.iter().map(|key| Wanted { key: *key, client: None }).collect()
}

fn hash(key: u32) -> KeyHash {
    KeyHash::of(&key.to_le_bytes())
}

const WAITS: Result<Option<String>, Doubt> = Err(Doubt::Wait(SECOND));
const DOWN: Result<Option<String>, Doubt> = Err(Doubt::Denied(Denial::KeysUnavailable));

#[expect(clippy::unnecessary_wraps, reason = "it is what a request is answered")]
fn is(name: &str) -> Result<Option<String>, Doubt> {
    Ok(Some(name.to_owned()))
}

#[test]
fn only_what_was_issued_looks_as_if_it_was() {
    let digits = "0123456789abcdef".repeat(4);
    let check = |key: &str, expected: bool| assert_eq!(is_meant(key.as_bytes()), expected, "{key}");
    check(&format!("tg-{digits}"), true);
    for other in [
        digits.clone(),
        format!("sk-{digits}"),
        format!("TG-{digits}"),
        format!("tg-{}", digits.to_uppercase()),
        format!("tg-{}", &digits[1..]),
        format!("tg-{digits}0"),
        format!("tg-{} ", &digits[1..]),
        format!("tg-g{}", &digits[1..]),
        "tg-".to_owned(),
        String::new(),
    ] {
        check(&other, false);
    }
}

#[test]
fn a_new_key_waits_for_one_look_up_that_all_its_requests_share() {
    let worker = Worker::new();
    for _ in 0..3 {
        assert_eq!(worker.ask(1, NOW), WAITS);
    }
    assert_eq!(worker.due(NOW), [hash(1)]);
    // It is under way.
    assert_eq!((worker.ask(1, NOW), worker.due(NOW)), (WAITS, vec![]));
    assert_eq!(worker.hear(1, Some("shop")), Some(Outcome::Found));
    assert_eq!(worker.ask(1, NOW), is("shop"));
    assert_eq!(worker.ask(2, NOW), WAITS);
    assert_eq!(worker.due(NOW), [hash(2)]);
    assert_eq!(worker.hear(2, None), Some(Outcome::Absent));
    assert_eq!((worker.ask(2, NOW), worker.due(NOW)), (Ok(None), vec![]));
}

#[test]
fn no_answer_holds_longer_than_its_time() {
    let worker = Worker::new();
    for key in [1, 2] {
        assert_eq!(worker.ask(key, NOW), WAITS);
    }
    worker.call(&[(1, "shop")], NOW);
    let last = NOW + RULES.fresh - Duration::from_nanos(1);
    assert_eq!((worker.ask(1, last), worker.ask(2, last)), (is("shop"), Ok(None)));
    // The first is revoked, the second is issued.
    for key in [1, 2] {
        assert_eq!(worker.ask(key, NOW + RULES.fresh), WAITS);
    }
    worker.call(&[(2, "lab")], NOW + RULES.fresh);
    assert_eq!((worker.ask(1, NOW + RULES.fresh), worker.ask(2, NOW + RULES.fresh)), (Ok(None), is("lab")));
}

#[test]
fn a_key_in_use_is_looked_up_before_anybody_waits_for_it() {
    let worker = Worker::new();
    for key in [1, 2] {
        assert_eq!(worker.ask(key, NOW), WAITS);
    }
    worker.call(&[(1, "shop"), (2, "lab")], NOW);
    assert_eq!(worker.ask(1, NOW + SECOND), is("shop"));
    let due = NOW + RULES.fresh * 3 / 4;
    assert_eq!(worker.due(due - Duration::from_nanos(1)), []);
    // Nobody uses the second.
    assert_eq!(worker.call(&[(1, "shop")], due), [hash(1)]);
    assert_eq!(worker.ask(1, NOW + RULES.fresh), is("shop"));
    assert_eq!(worker.ask(2, NOW + RULES.fresh), WAITS);
    // A key that was revoked stops at once when that is heard.
    assert_eq!(worker.call(&[], due + RULES.fresh * 3 / 4), [hash(2), hash(1)]);
    assert_eq!(worker.ask(1, due + RULES.fresh * 3 / 4), Ok(None));
}

#[test]
fn a_flood_of_keys_is_looked_up_at_the_configured_rate() {
    let worker = Worker::new();
    let mut asked = 0;
    for key in 0..1000 {
        match worker.ask(key, NOW) {
            WAITS => asked += 1,
            other => assert_eq!(other, DOWN),
        }
    }
    assert_eq!((asked, worker.due(NOW).len()), (5, 5));
    assert_eq!((worker.issued.take_refused(), worker.issued.take_refused()), (995, 0));
    // A fifth of a second brings one more, in whichever worker.
    let moment = Moment::new(&worker.process, NOW + SECOND / 5);
    assert_eq!((takes_one(moment, 5), takes_one(moment, 5)), (Ok(true), Ok(false)));
    // A clock that was put back brings no more at once, and holds nobody up for longer.
    let moment = Moment::new(&worker.process, NOW - 3600 * SECOND);
    let granted = (0..1000).filter(|_| takes_one(moment, 5) == Ok(true)).count();
    assert_eq!(granted, 5);
    worker.process.break_with(Some(StoreFault::Unavailable));
    assert_eq!(worker.ask(2000, NOW), DOWN);
}

#[test]
fn a_flood_of_keys_costs_nobody_who_is_known_a_look_up() {
    let worker = Worker::new();
    assert_eq!(worker.ask(1, NOW), WAITS);
    worker.call(&[(1, "shop")], NOW);
    let later = NOW + RULES.fresh;
    let refused = (2..1000).filter(|key| worker.ask(*key, later) == DOWN).count();
    assert_eq!(refused, 993);
    assert_eq!(worker.ask(1, later), WAITS);
    worker.call(&[(1, "shop")], later);
    assert_eq!(worker.ask(1, later), is("shop"));
}

#[test]
fn who_was_known_goes_on_while_the_store_is_down_and_no_longer() {
    let worker = Worker::new();
    assert_eq!(worker.ask(1, NOW), WAITS);
    worker.call(&[(1, "shop")], NOW);
    let later = NOW + RULES.fresh;
    // That it is down is found out by a look-up, for which both wait.
    assert_eq!((worker.ask(1, later), worker.ask(2, later)), (WAITS, WAITS));
    let keys = worker.due(later);
    assert_eq!(keys, [hash(1), hash(2)]);
    assert!(worker.issued.failed(&wanted(&keys), later));
    assert_eq!((worker.ask(1, later), worker.ask(2, later), worker.due(later)), (is("shop"), DOWN, vec![]));
    // After a second it is asked again: by who waits for nothing, and by who is not known.
    assert_eq!((worker.ask(1, later + SECOND), worker.ask(2, later + SECOND)), (is("shop"), WAITS));
    let keys = worker.due(later + SECOND);
    assert_eq!(keys, [hash(1), hash(2)]);
    assert!(!worker.issued.failed(&wanted(&keys), later + SECOND));
    let last = NOW + RULES.stale - Duration::from_nanos(1);
    assert!(!worker.issued.failed(&[], last - SECOND));
    assert_eq!((worker.ask(1, last), worker.ask(1, NOW + RULES.stale)), (is("shop"), WAITS));
    // It is back, and the key was revoked meanwhile.
    worker.call(&[], NOW + RULES.stale);
    assert_eq!(worker.ask(1, NOW + RULES.stale), Ok(None));
}

#[test]
fn a_failure_of_long_ago_says_nothing_of_now() {
    let worker = Worker::new();
    assert_eq!(worker.ask(1, NOW), WAITS);
    worker.call(&[(1, "shop")], NOW);
    assert!(worker.issued.failed(&[], NOW + SECOND));
    // Nobody has asked since, so nobody knows: the key may be revoked by now.
    let later = NOW + RULES.fresh + 10 * SECOND;
    assert_eq!(worker.ask(1, later), WAITS);
    worker.call(&[], later);
    assert_eq!(worker.ask(1, later), Ok(None));
}

#[test]
fn a_call_that_fails_ends_all_waiting_at_once() {
    let worker = Worker::new();
    assert_eq!(worker.ask(1, NOW), WAITS);
    let keys = worker.due(NOW);
    assert_eq!(worker.ask(2, NOW), WAITS);
    assert!(worker.issued.failed(&wanted(&keys), NOW));
    assert_eq!((worker.ask(1, NOW), worker.ask(2, NOW)), (DOWN, DOWN));
    assert_eq!((worker.ask(2, NOW + SECOND), worker.due(NOW + SECOND)), (WAITS, vec![hash(2)]));
}

#[test]
fn nothing_is_known_for_longer_because_the_clock_was_set_back() {
    let worker = Worker::new();
    for key in [1, 2] {
        assert_eq!(worker.ask(key, NOW), WAITS);
    }
    worker.call(&[(1, "shop")], NOW);
    let back = NOW - 3600 * SECOND;
    assert_eq!((worker.ask(1, back), worker.ask(2, back)), (WAITS, WAITS));
    worker.call(&[(1, "shop")], back);
    assert!(worker.issued.failed(&[], NOW));
    assert_eq!(worker.ask(3, back), WAITS);
}

#[test]
fn an_entry_that_means_nothing_is_nobodys() {
    let worker = Worker::new();
    assert_eq!(worker.ask(1, NOW), WAITS);
    assert_eq!(worker.due(NOW), [hash(1)]);
    let outcome = worker.hear(1, Some("?")).unwrap();
    let problem = Problem::OfKey("no client".to_owned());
    assert_eq!((outcome.word(), &outcome), ("unusable", &Outcome::Unusable(problem)));
    assert_eq!(worker.ask(1, NOW), Ok(None));
}

#[test]
fn a_client_of_the_store_comes_with_its_key_in_a_second_call() {
    let worker = Worker::new();
    let (keys, clients) = ([(1, "team+"), (2, "team+")], [("team", "team")]);
    assert_eq!(worker.ask(1, NOW), WAITS);
    assert_eq!(worker.call_with(&keys, &clients, NOW), [hash(1)]);
    assert_eq!(worker.ask(1, NOW), WAITS);
    // It is due at once, and before whoever came meanwhile.
    assert_eq!(worker.ask(2, NOW), WAITS);
    let client = Some("team".into());
    let due = worker.issued.due(NOW);
    assert_eq!(due, [Wanted { key: hash(1), client }, Wanted { key: hash(2), client: None }]);
    let said = Said { entry: b"team+", client: Some(("team", Some(b"team"))) };
    let answered = |key| worker.issued.answered(hash(key), Some(said), Moment::new(&worker.process, NOW));
    assert_eq!((answered(1), answered(2)), (Some(Outcome::Found), Some(Outcome::Found)));
    assert_eq!((worker.ask(1, NOW), worker.ask(2, NOW)), (is("team+"), is("team+")));
    // From now on one call asks for both, and a client that is gone stops.
    let later = NOW + RULES.fresh * 3 / 4;
    assert_eq!(worker.call_with(&keys, &clients, later), [hash(1), hash(2)]);
    assert_eq!(worker.ask(1, NOW + RULES.fresh), is("team+"));
    assert_eq!(worker.call_with(&keys, &[], later + RULES.fresh * 3 / 4), [hash(1)]);
    assert_eq!(worker.ask(1, later + RULES.fresh * 3 / 4), Ok(None));
}

#[test]
fn a_key_whose_client_makes_no_sense_is_nobodys() {
    let worker = Worker::new();
    assert_eq!(worker.ask(1, NOW), WAITS);
    worker.call_with(&[(1, "team+")], &[], NOW);
    let said = Said { entry: b"team+", client: Some(("team", Some(b"?"))) };
    assert_eq!(worker.due(NOW), [hash(1)]);
    let outcome = worker.issued.answered(hash(1), Some(said), Moment::new(&worker.process, NOW)).unwrap();
    assert_eq!(outcome.word(), "client_unusable");
    assert_eq!((worker.ask(1, NOW), worker.due(NOW)), (Ok(None), vec![]));
}

#[test]
fn a_call_asks_about_no_more_than_fits() {
    let mut worker = Worker::new();
    worker.issued.rules.per_second = 100_000;
    for key in 0..2500 {
        assert_eq!(worker.ask(key, NOW), WAITS);
    }
    let counts = [(); 4].map(|()| worker.call(&[], NOW).len());
    assert_eq!(counts, [KEYS_PER_CALL_MAX, KEYS_PER_CALL_MAX, 500, 0]);
}

#[test]
fn the_law_of_stored_values_holds() {
    law::holds("issued_keys_pace", &[Pace(1_795_000_000_000_000)]);
}

use super::super::fetched::{Fetch, Origin, Outcome};
use super::*;
use crate::store::MemoryStore;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// The document is the clients' names, by spaces; a key is its client's name.
fn documented(stale: Option<Duration>) -> Documented<String> {
    let origin = Origin {
        cluster: "clients".to_owned(),
        host: "clients.example".to_owned(),
        path: "/clients".to_owned(),
        refresh: 10 * SECOND,
        timeout: 5 * SECOND,
        wait: 3 * SECOND,
    };
    let read = |body: &[u8], _: &dyn crate::store::Store| {
        let text = String::from_utf8(body.to_vec()).map_err(|error| vec![error.to_string()])?;
        if let Some(word) = text.split(' ').find(|word| word.contains('!')) {
            return Err(vec![format!("{word} is no name"), "and more".to_owned()]);
        }
        let clients: Vec<_> = text.split(' ').map(|name| Rc::new(name.to_owned())).collect();
        let by_key = clients
            .iter()
            .map(|client| (KeyHash::of(client.as_bytes()), (Validity::ALWAYS, client.clone())))
            .collect();
        Ok(Roster { clients, by_key })
    };
    Documented { fetched: Fetched::new(origin, "clients", 100, Box::new(read)), stale }
}

/// Workers of one process.
struct Process {
    store: MemoryStore,
    workers: [Documented<String>; 2],
}

impl Process {
    fn new(stale: Option<Duration>) -> Self {
        Self { store: MemoryStore::default(), workers: [documented(stale), documented(stale)] }
    }

    /// The worker that is to fetch does; answers what came of it, and with which `etag` it asked.
    fn fetch(&self, at: Duration, fetch: Fetch<'_>, etag: Option<&str>) -> Option<(Outcome, Option<String>)> {
        let moment = Moment::new(&self.store, NOW + at);
        let worker = self.workers.iter().find(|worker| worker.fetched.claim(moment).unwrap())?;
        let asked = worker.fetched.etag(&self.store).unwrap();
        Some((worker.fetched.settle(moment, fetch, etag).unwrap(), asked))
    }

    /// What becomes of a key at each worker, after its tick.
    fn ask(&self, key: &str, at: Duration) -> Result<bool, Doubt> {
        let moment = Moment::new(&self.store, NOW + at);
        let [one, other] = self.workers.each_ref().map(|worker| {
            worker.fetched.load(&self.store).unwrap();
            Ok(worker.find(&KeyHash::of(key.as_bytes()), moment)?.is_some())
        });
        assert_eq!(one, other);
        one
    }

    /// What is to be told, by whichever worker.
    fn told(&self) -> Vec<String> {
        self.workers.iter().filter_map(|worker| worker.fetched.take_problem()).collect()
    }
}

const DOWN: Result<bool, Doubt> = Err(Doubt::Denied(Denial::KeysUnavailable));

#[test]
fn before_the_first_document_no_key_is_known_to_be_nobodys() {
    let process = Process::new(None);
    assert_eq!(process.ask("web", Duration::ZERO), Err(Doubt::Wait(3 * SECOND)));
    let outcome = |fetched: Option<(Outcome, _)>| fetched.map(|(outcome, _)| outcome);
    assert_eq!(outcome(process.fetch(Duration::ZERO, Fetch::Nothing, None)), Some(Outcome::Unreachable));
    // The source is away, so nobody waits for it.
    assert_eq!(process.ask("web", SECOND), DOWN);
    assert_eq!(outcome(process.fetch(SECOND, Fetch::Body(b"web!"), None)), Some(Outcome::Unusable));
    assert_eq!(process.ask("web", SECOND), DOWN);
    assert_eq!(outcome(process.fetch(4 * SECOND, Fetch::Body(b"web lab"), None)), Some(Outcome::Changed));
    assert_eq!((process.ask("web", 4 * SECOND), process.ask("x", 4 * SECOND)), (Ok(true), Ok(false)));
}

#[test]
fn the_last_good_document_holds_until_there_is_another() {
    let process = Process::new(None);
    assert!(process.fetch(Duration::ZERO, Fetch::Body(b"web lab"), None).is_some());
    let mut at = 10 * SECOND;
    for wrong in
        [Fetch::Nothing, Fetch::Refusal, Fetch::TooLong, Fetch::Body(b"lab !"), Fetch::Body(&[b'x'; 101])]
    {
        assert!(process.fetch(at, wrong, None).is_some());
        assert_eq!((process.ask("web", at), process.ask("x", at)), (Ok(true), Ok(false)));
        at += 10 * SECOND;
    }
    assert_eq!(process.ask("web", 400 * 24 * 3600 * SECOND), Ok(true));
    assert!(process.fetch(at, Fetch::Body(b"lab"), None).is_some());
    assert_eq!((process.ask("web", at), process.ask("lab", at)), (Ok(false), Ok(true)));
}

#[test]
fn an_old_document_holds_no_longer_than_it_may() {
    let process = Process::new(Some(30 * SECOND));
    let moment = Duration::from_millis(1);
    assert!(process.fetch(Duration::ZERO, Fetch::Body(b"web"), Some("\"1\"")).is_some());
    assert_eq!(process.ask("web", 30 * SECOND - moment), Ok(true));
    // That it is the same is as good as a new one.
    assert!(process.fetch(29 * SECOND, Fetch::Unchanged, None).is_some());
    assert_eq!(
        (process.ask("web", 59 * SECOND - moment), process.ask("x", 31 * SECOND)),
        (Ok(true), Ok(false))
    );
    assert_eq!((process.ask("web", 59 * SECOND), process.ask("x", 59 * SECOND)), (DOWN, DOWN));
    assert!(process.fetch(60 * SECOND, Fetch::Body(b"web"), None).is_some());
    assert_eq!(process.ask("web", 60 * SECOND), Ok(true));
}

#[test]
fn a_clock_that_is_put_back_makes_no_document_old() {
    let process = Process::new(Some(30 * SECOND));
    assert!(process.fetch(1000 * SECOND, Fetch::Body(b"web"), None).is_some());
    assert_eq!(process.ask("web", Duration::ZERO), Ok(true));
    assert!(process.fetch(Duration::ZERO, Fetch::Nothing, None).is_some());
    assert_eq!((process.ask("web", 29 * SECOND), process.ask("web", 30 * SECOND)), (Ok(true), DOWN));
}

#[test]
fn what_is_the_same_is_not_sent_again() {
    let process = Process::new(None);
    let long = "x".repeat(257);
    let tick = |at: u32, fetch, etag| process.fetch(at * SECOND, fetch, etag).unwrap();
    // Nothing is there that it could be the same as.
    assert_eq!(tick(0, Fetch::Unchanged, Some("\"0\"")), (Outcome::Refused, None));
    assert_eq!(tick(10, Fetch::Body(b"web"), Some("\"1\"")), (Outcome::Changed, None));
    assert_eq!(tick(20, Fetch::Unchanged, Some("\"1\"")), (Outcome::Same, Some("\"1\"".to_owned())));
    assert_eq!(tick(30, Fetch::Body(b"web"), Some("W/\"2\"")), (Outcome::Same, Some("\"1\"".to_owned())));
    // What cannot be used leaves the one behind that holds.
    assert_eq!(tick(40, Fetch::Body(b"!"), Some("\"3\"")), (Outcome::Unusable, Some("W/\"2\"".to_owned())));
    assert_eq!(tick(50, Fetch::Body(b"lab"), None), (Outcome::Changed, Some("W/\"2\"".to_owned())));
    assert_eq!(tick(60, Fetch::Body(b"lab"), Some(long.as_str())), (Outcome::Same, None));
    assert_eq!(tick(70, Fetch::Body(b"lab"), None), (Outcome::Same, None));
}

#[test]
fn a_fault_is_told_once_by_all_workers_until_it_is_mended() {
    let process = Process::new(None);
    let tick = |at: u32, fetch| {
        process.fetch(at * SECOND, fetch, None).unwrap();
        process.ask("web", at * SECOND).ok();
        process.told()
    };
    assert_eq!(tick(0, Fetch::Nothing), ["unreachable"]);
    assert_eq!(tick(10, Fetch::Nothing), Vec::<String>::new());
    assert_eq!(tick(20, Fetch::Body(b"a !")), ["! is no name; and more"]);
    assert_eq!(tick(30, Fetch::Body(b"a !")), Vec::<String>::new());
    assert_eq!(tick(40, Fetch::Body(b"web")), Vec::<String>::new());
    assert_eq!(tick(50, Fetch::Body(b"a !")), ["! is no name; and more"]);
}

#[test]
fn what_another_configuration_took_may_be_of_no_use_to_this() {
    let process = Process::new(None);
    assert!(process.fetch(Duration::ZERO, Fetch::Body(b"web"), Some("\"1\"")).is_some());
    let mut strict = documented(None);
    let origin = strict.fetched.origin.clone();
    let read = |_: &[u8], _: &dyn crate::store::Store| Err(vec!["no model is named x".to_owned()]);
    strict.fetched = Fetched::new(origin, "clients", 100, Box::new(read));
    let moment = Moment::new(&process.store, NOW + SECOND);
    let find = |name: &str| strict.find(&KeyHash::of(name.as_bytes()), moment).map(|found| found.is_some());
    assert_eq!(find("web"), DOWN);
    assert_eq!(strict.fetched.take_problem().as_deref(), Some("no model is named x"));
    // That it is the same makes it no better.
    let later = Moment::new(&process.store, NOW + 10 * SECOND);
    assert!(strict.fetched.claim(later).unwrap());
    assert_eq!(strict.fetched.settle(later, Fetch::Unchanged, None), Ok(Outcome::Unusable));
    assert_eq!(process.ask("web", 10 * SECOND), Ok(true));
}

//! How many clients are refused when a pool throttles now and then? A simulation, with a clock of its own.
//!
//! Each backend has times in which it answers 429 to everybody. That is the truth, of which the gateway knows only what
//! answers say. Envoy's part, going down the candidates, is played here.

use super::*;
use crate::route::lot;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const BACKENDS: usize = 4;

/// From when until when, in milliseconds since [`NOW`].
type Episode = (u64, u64);

/// A pool of backends behind one gateway.
struct Pool {
    gateway: Rc<Gateway>,
    store: MemoryStore,
    episodes: Vec<Vec<Episode>>,
    /// Whether a 429 says how long it will last.
    tells: bool,
    /// What backends answered.
    throttled: u64,
    /// What clients got.
    served: u64,
    refused: u64,
}

fn at(ms: u64) -> Duration {
    NOW + Duration::from_millis(ms)
}

impl Pool {
    /// Backends with these times, each with this place in the order.
    fn new(episodes: Vec<Vec<Episode>>, place: impl Fn(usize) -> Value, tells: bool) -> Self {
        let gateway = gateway(|config| {
            config["clients"][0]["limits"] = json!([]);
            let names: Vec<_> = (0..episodes.len()).map(|at| format!("b{at}")).collect();
            config["backends"] = names
                .iter()
                .map(|name| json!({ "name": name, "cluster": name, "style": "openai" }))
                .collect();
            let backend = |(at, name): (usize, &String)| {
                let mut backend = place(at);
                backend["backend"] = json!(name);
                backend
            };
            let backends: Value = names.iter().enumerate().map(backend).collect();
            config["models"] = json!([{ "name": "gpt-4o", "backends": backends }]);
        });
        let store = MemoryStore::default();
        Self { gateway, store, episodes, tells, throttled: 0, served: 0, refused: 0 }
    }

    /// Until when a backend answers 429, if it does.
    fn throttled_until(&self, backend: usize, ms: u64) -> Option<u64> {
        let covering = self.episodes[backend].iter().filter(|(from, until)| (*from..*until).contains(&ms));
        covering.map(|(_, until)| *until).max()
    }

    /// Whether nobody could serve a request at that time.
    fn is_exhausted(&self, ms: u64) -> bool {
        (0..self.episodes.len()).all(|backend| self.throttled_until(backend, ms).is_some())
    }

    /// A request up to where it may go; `None` if it may go nowhere.
    fn set_out(&self, now: Duration) -> Option<Rc<Flight>> {
        let mut exchange = Exchange::new(self.gateway.clone());
        let _ = exchange.request_head(&headers(&CHAT), false, Moment::new(&self.store, now));
        let Step::Reserve(claim) = exchange.request_body(PROMPT.as_bytes(), Moment::new(&self.store, now))
        else {
            panic!()
        };
        match exchange.reserved(limits::reserve(Moment::new(&self.store, now), claim)) {
            Step::Forward(forward) => Some(forward.flight),
            step => {
                assert_eq!(refused(step), "429 backends_throttled");
                None
            }
        }
    }

    /// Its attempts; whether one was served.
    fn fly(&mut self, flight: &Rc<Flight>, ms: u64) -> bool {
        for candidate in flight.candidates() {
            let backend: usize = candidate.backend.name[1..].parse().unwrap();
            let until = self.throttled_until(backend, ms);
            let status = if until.is_some() { "429" } else { "200" };
            let told = until.filter(|_| self.tells).map(|until| (until - ms).to_string());
            let told = told.as_deref().map(|ms| ("retry-after-ms", ms));
            let head: Vec<_> = [(":status", status)].into_iter().chain(told).collect();
            let clock = || at(ms);
            let outside = Outside::new(&self.store, &clock);
            let heard = attempt(flight, &candidate.backend.cluster, &head, "", &outside).unwrap();
            assert_eq!(heard.faults, []);
            if status == "200" {
                return true;
            }
            self.throttled += 1;
        }
        false
    }

    /// So many requests at once: none knows yet what the others will learn. Answers how many were refused.
    fn ask(&mut self, ms: u64, requests: u64) -> u64 {
        // The clock's last digits are the dice, so each is a few nanoseconds later.
        let nanos = |request: u64| Duration::from_nanos(lot(ms * 1000 + request) % 1000);
        let flights: Vec<_> = (0..requests).map(|request| self.set_out(at(ms) + nanos(request))).collect();
        let served = flights.into_iter().flatten().filter(|flight| self.fly(flight, ms)).count() as u64;
        self.served += served;
        self.refused += requests - served;
        requests - served
    }
}

/// Every backend throttles for some hundred milliseconds every few seconds, the last one never.
fn now_and_then(seconds: u64) -> Vec<Vec<Episode>> {
    let of = |backend: u64| {
        let mut episodes = Vec::new();
        let mut ms = 0;
        while ms < seconds * 1000 {
            let dice = lot(backend << 32 | ms);
            ms += 500 + dice % 3000;
            episodes.push((ms, ms + 100 + dice % 300));
            ms += 400;
        }
        episodes
    };
    (0..BACKENDS as u64).map(|backend| if backend == 3 { Vec::new() } else { of(backend) }).collect()
}

#[test]
fn throttled_answers_refuse_nobody_whom_the_pool_can_serve() {
    const THROTTLED: u64 = 105;
    let weighted = |_| json!({ "weight": 1 });
    for tells in [true, false] {
        let mut pool = Pool::new(now_and_then(1000), weighted, tells);
        let mut ms = 0;
        while pool.throttled < THROTTLED {
            ms += 10;
            pool.ask(ms, 1);
        }
        assert_eq!((pool.throttled, pool.refused), (THROTTLED, 0));
        assert!(pool.served > 1000, "{}", pool.served);
    }

    // A gateway that lets the whole pool pause for a 429, and passes that on, in the same weather.
    let pool = Pool::new(now_and_then(1000), weighted, true);
    let (mut ms, mut throttled, mut refused, mut pauses_until) = (0, 0, 0, 0);
    while throttled < THROTTLED {
        ms += 10;
        let backend = lot(ms) as usize % BACKENDS;
        match pool.throttled_until(backend, ms) {
            _ if ms < pauses_until => refused += 1,
            Some(until) => {
                (throttled, refused, pauses_until) = (throttled + 1, refused + 1, until);
            }
            None => {}
        }
    }
    assert!(refused > 10 * THROTTLED, "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Where backends say how long they throttle, a client is refused when none of them could have served it, and at no
    /// other time; and each episode is met once by each of those who ask at once.
    #[test]
    fn clients_are_refused_only_what_the_pool_could_not_serve(
        episodes in prop::collection::vec(prop::collection::vec((0..5000u64, 1..1500u64), 0..6), 1..=BACKENDS),
        asks in prop::collection::vec((0..200u64, 1..4u64), 1..80),
        is_weighted in any::<bool>(),
    ) {
        let spans = |(from, length): (u64, u64)| (from, from + length);
        let episodes: Vec<Vec<_>> =
            episodes.into_iter().map(|episodes| episodes.into_iter().map(spans).collect()).collect();
        let most = episodes.iter().map(Vec::len).sum::<usize>() as u64 * 3;
        let place = |at: usize| if is_weighted { json!({ "weight": 1 }) } else { json!({ "priority": at }) };
        let mut pool = Pool::new(episodes, place, true);
        let mut ms = 0;
        for (later_ms, requests) in asks {
            ms += later_ms;
            let exhausted = pool.is_exhausted(ms);
            let refused = pool.ask(ms, requests);
            prop_assert_eq!(refused, if exhausted { requests } else { 0 }, "at {} ms", ms);
        }
        prop_assert!(pool.throttled <= most, "{} of {}", pool.throttled, most);
    }

    /// Where they do not say, it is guessed; but one that is open is found at once.
    #[test]
    fn nobody_is_refused_while_one_backend_was_never_throttled(
        episodes in prop::collection::vec(prop::collection::vec((0..5000u64, 1..1500u64), 0..6), 1..BACKENDS),
        asks in prop::collection::vec((0..200u64, 1..4u64), 1..80),
        is_weighted in any::<bool>(),
    ) {
        let spans = |(from, length): (u64, u64)| (from, from + length);
        let mut episodes: Vec<Vec<_>> =
            episodes.into_iter().map(|episodes| episodes.into_iter().map(spans).collect()).collect();
        episodes.push(Vec::new());
        let place = |at: usize| if is_weighted { json!({ "weight": 1 }) } else { json!({ "priority": at }) };
        let mut pool = Pool::new(episodes, place, false);
        let mut ms = 0;
        for (later_ms, requests) in asks {
            ms += later_ms;
            pool.ask(ms, requests);
        }
        prop_assert_eq!(pool.refused, 0);
    }
}

#[test]
fn who_is_throttled_everywhere_is_told_the_shortest_wait() {
    let throttled = |paused: Option<u64>, tried: &[(&str, &str)]| {
        let mut run = Run::new();
        if let Some(ms) = paused {
            let target = gateway(|_| {}).models[0].targets[0].clone();
            let pause = Cooldown { wait: Duration::from_millis(ms), from_backend: true };
            Cooldowns::note(Moment::new(&run.store, NOW), &target, pause).unwrap();
        }
        let flight = run.send(PROMPT).flight;
        let mut last = "";
        for (cluster, wait) in tried {
            let head = [(":status", if *wait == "500" { "500" } else { "429" }), ("retry-after", *wait)];
            let _ = attempt(&flight, cluster, &head, "", &Outside::new(&run.store, &|| NOW)).unwrap();
            last = wait;
        }
        let status = if last == "500" { "500" } else { "429" };
        let pairs = [(":status", status), ("content-type", "application/json"), ("retry-after", last)];
        let edits = run.exchange.response_head(&headers(&pairs), false, || Origin::Backend);
        let told = |name: &str| {
            let found = edits.set.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.clone())
        };
        (told("retry-after"), told("retry-after-ms"))
    };
    let told = |seconds: &str, ms: &str| (Some(seconds.to_owned()), Some(ms.to_owned()));
    assert_eq!(throttled(None, &[("ca", "5"), ("cb", "40")]), told("5", "5000"));
    assert_eq!(throttled(None, &[("ca", "40"), ("cb", "5")]), told("5", "5000"));
    assert_eq!(throttled(Some(2500), &[("cb", "40")]), told("3", "2500"));
    assert_eq!(throttled(Some(50_000), &[("cb", "40")]), told("40", "40000"));
    // One that failed may be asked again at any time.
    assert_eq!(throttled(None, &[("ca", "40"), ("cb", "500")]), (None, None));
}

#[test]
fn an_old_pause_does_not_count_once_its_backend_was_tried() {
    let mut run = Run::new();
    let flight = run.send(PROMPT).flight;
    // As where its capacity was declared: it stays at the end of the order.
    let passed_over = flight.candidates()[0].passed_over(Why::Pausing(Duration::from_secs(1)));
    run.exchange.draft.passed_over.push(passed_over);
    let head = [(":status", "429"), ("retry-after", "40")];
    let _ = attempt(&flight, "ca", &head, "", &Outside::new(&run.store, &|| NOW)).unwrap();
    let pairs = [(":status", "429"), ("content-type", "application/json")];
    let edits = run.exchange.response_head(&headers(&pairs), false, || Origin::Backend);
    assert!(edits.set.contains(&("retry-after", "40".to_owned())), "{edits:?}");
}

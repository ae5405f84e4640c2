//! A tier of service that a backend refuses, and who hears of it.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Requests one after the other at one worker.
struct Asking {
    run: Run,
    config: fn(&mut Value),
}

impl Asking {
    fn new(config: fn(&mut Value)) -> Self {
        Self { run: Run::with(gateway(config)), config }
    }

    /// Where a request for this tier may go, or the refusal. Whoever answers answers these.
    fn ask(&mut self, tier: &str, answers: &[(&str, &str)]) -> Result<String, String> {
        self.run.exchange = Exchange::new(gateway(self.config));
        let body = json!({ "model": "gpt-4o", "messages": [], "service_tier": tier }).to_string();
        let _ = self.run.head(&CHAT);
        let step = self.run.body(&body);
        let Step::Forward(forward) = step else { return Err(refused(step)) };
        let outside = Outside::new(&self.run.store, &|| NOW);
        for (cluster, status) in answers {
            let head = [(":status", *status), ("retry-after", "30")];
            let _ = super::attempt(&forward.flight, cluster, &head, "", &outside).unwrap();
        }
        let names = forward.flight.candidates().iter().map(|target| &*target.backend.name);
        let names = names.collect();
        let _ = self.run.finish();
        Ok(names)
    }
}

#[test]
fn a_429_for_a_tier_pauses_that_tier_only() {
    for (tier, others) in [("flex", ["default", "priority"]), ("priority", ["auto", "flex"])] {
        let mut asking = Asking::new(|_| {});
        assert_eq!(asking.ask(tier, &[("ca", "429")]), Ok("ab".to_owned()));
        assert_eq!(asking.ask(tier, &[]), Ok("b".to_owned()));
        for other in others {
            assert_eq!(asking.ask(other, &[]), Ok("ab".to_owned()), "{tier} {other}");
        }
        assert_eq!(asking.ask(tier, &[("cb", "429")]), Ok("b".to_owned()));
        assert_eq!(asking.ask(tier, &[]), Err("429 backends_throttled".to_owned()));
    }
}

#[test]
fn what_is_said_of_no_tier_is_said_of_all() {
    // A 503 is of the backend; and a word that is no such tier has no pauses of its own.
    for (tier, status) in [("flex", "503"), ("scale", "429"), ("default", "429"), ("auto", "429")] {
        let mut asking = Asking::new(|_| {});
        assert_eq!(asking.ask(tier, &[("ca", status)]), Ok("ab".to_owned()));
        for other in ["flex", "priority", "default"] {
            assert_eq!(asking.ask(other, &[]), Ok("b".to_owned()), "{tier} {other}");
        }
    }
}

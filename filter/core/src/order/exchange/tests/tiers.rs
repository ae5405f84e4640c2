//! A tier of service that a backend refuses, and who hears of it.

use super::*;
use crate::json::Patch;
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

/// Flex is asked again as the default tier.
fn falls_back(config: &mut Value) {
    config["models"][0]["tiers"] = json!({ "flex": "default" });
    config["policies"][0]["request_bytes_max"] = json!(10_000);
}

const FLEX: &str = r#"{"model":"gpt-4o","service_tier":"flex","messages":[]}"#;

/// Of an attempt at this cluster: the tier that its body asks for.
fn tier_sent(
    flight: &Rc<Flight>,
    patch: Option<&Patch>,
    cluster: &str,
    outside: &Outside<'_>,
) -> (Attempt, String) {
    let body = FLEX.as_bytes();
    let waiting = match patch {
        Some(patch) => [&patch.bytes, &body[patch.replaced..]].concat(),
        None => body.to_vec(),
    };
    let Begun { mut attempt, departure, .. } = flight.begin(cluster.as_bytes(), outside).unwrap();
    let read = |bytes: usize| waiting[..bytes].to_vec();
    let sent = match attempt.request_body(&Waiting { bytes: waiting.len(), end: true, read: &read }) {
        Outgoing::Patched(patch) => [&patch.bytes, &waiting[patch.replaced..]].concat(),
        Outgoing::AsItIs => waiting.clone(),
        outgoing => panic!("{outgoing:?}"),
    };
    assert!(departure.content_length.is_none_or(|length| length == sent.len()));
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    (attempt, sent["service_tier"].as_str().unwrap().to_owned())
}

/// A request for flex whose attempts are answered so, and after each whether Envoy is told to go on.
fn tried(run: &mut Run, config: fn(&mut Value), answers: &[(&str, &str)]) -> (Vec<String>, Record) {
    run.exchange = Exchange::new(gateway(config));
    let forward = run.send(FLEX);
    let mut seen = Vec::new();
    for (cluster, status) in answers {
        let outside = Outside::new(&run.store, &|| NOW);
        let (mut attempt, tier) = tier_sent(&forward.flight, forward.patch.as_ref(), cluster, &outside);
        let head = [(":status", *status), ("retry-after", "30")];
        let heard = attempt.response_head(super::headers(&head), true, &outside);
        let stays = heard.set.iter().any(|(name, _)| *name == crate::headers::STAY);
        seen.push(format!("{cluster} {tier}{}", if stays { " stays" } else { "" }));
    }
    let _ = run.answer(answers.last().unwrap().1, "application/json");
    (seen, run.finish())
}

#[test]
fn a_tier_that_all_refuse_is_asked_again_as_the_default() {
    let mut run = Run::with(gateway(falls_back));
    let answers = [("ca", "429"), ("cb", "429"), ("ca", "503"), ("cb", "200")];
    let (seen, record) = tried(&mut run, falls_back, &answers);
    assert_eq!(seen, ["ca flex", "cb flex", "ca default", "cb default"]);
    assert_eq!(record.refused_tier, Some("flex"));
    assert!(record.details().contains(r#","refused_tier":"flex""#), "{}", record.details());
    let series = Series::TierFallbacks { model: "gpt-4o".into(), from: "flex" };
    assert!(record.additions().contains(&(series, 1)));
    // Both pause for flex, and the 503 pauses a for everything.
    let (seen, record) = tried(&mut run, falls_back, &[("cb", "200")]);
    assert_eq!((seen, record.refused_tier), (vec!["cb default".to_owned()], Some("flex")));
}

#[test]
fn what_nobody_refuses_for_its_tier_stays_in_it() {
    // One served it in its tier, though another had refused it.
    let mut run = Run::with(gateway(falls_back));
    let (seen, record) = tried(&mut run, falls_back, &[("ca", "429"), ("cb", "200")]);
    assert_eq!((seen, record.refused_tier), (vec!["ca flex".to_owned(), "cb flex".to_owned()], None));
    // What failed otherwise would fail as the default too: Envoy is stopped.
    let mut run = Run::with(gateway(falls_back));
    let (seen, record) = tried(&mut run, falls_back, &[("ca", "500"), ("cb", "500")]);
    assert_eq!((seen, record.refused_tier), (vec!["ca flex".to_owned(), "cb flex stays".to_owned()], None));
    // Nobody answered: it is not asked, and the client hears what Envoy would have said.
    let mut run = Run::with(gateway(falls_back));
    let flight = run.send(FLEX).flight;
    let outside = Outside::new(&run.store, &|| NOW);
    for cluster in [b"ca", b"cb"] {
        let _ = flight.begin(cluster, &outside).unwrap();
    }
    assert_eq!(flight.begin(b"ca", &outside).unwrap_err().denial, Denial::Proxy { status: 503 });
    let _ = run.answer("503", "application/json");
    assert_eq!(run.finish().outcome, Outcome::ProxyError);
}

/// What cannot be told twice is not asked twice; it is learnt all the same.
#[test]
fn where_no_order_is_told_a_paused_tier_goes_as_the_default() {
    let pooled: fn(&mut Value) = |config| {
        falls_back(config);
        config["routing"] = json!({ "pools": [{ "cluster": "pool", "backends": ["a", "b"] }] });
    };
    let once: fn(&mut Value) = |config| {
        falls_back(config);
        config["routing"] = json!({ "fitted": "once" });
        config["models"][0]["backends"] = json!([{ "backend": "a" }]);
    };
    for (config, clusters) in [(pooled, &["ca", "cb"][..]), (once, &["ca"])] {
        assert_eq!(Run::with(gateway(config)).send(FLEX).flight.candidates().len(), clusters.len());
        let mut run = Run::with(gateway(config));
        let answers: Vec<_> = clusters.iter().map(|cluster| (*cluster, "429")).collect();
        let (seen, record) = tried(&mut run, config, &answers);
        assert!(seen.iter().all(|seen| seen.ends_with(" flex")), "{seen:?}");
        assert_eq!((seen.len(), record.refused_tier), (clusters.len(), None));
        run.exchange = Exchange::new(gateway(config));
        assert_eq!(run.send(FLEX).flight.candidates().len(), clusters.len());
        let (seen, record) = tried(&mut run, config, &[("ca", "200")]);
        assert_eq!((seen, record.refused_tier), (vec!["ca default".to_owned()], Some("flex")));
    }
}

#[test]
fn only_who_may_ask_for_the_default_is_asked_again() {
    let count = |config: fn(&mut Value), body: &str| {
        let mut run = Run::with(gateway(config));
        run.send(body).flight.candidates().len()
    };
    let of = |tier: &str| FLEX.replace("flex", tier);
    assert_eq!(
        ["flex", "priority", "default", "scale"].map(|tier| count(falls_back, &of(tier))),
        [4, 2, 2, 2]
    );
    assert_eq!(count(|_| {}, FLEX), 2);
    let forbids: fn(&mut Value) = |config| {
        falls_back(config);
        config["policies"][0]["service_tier"] = json!(["flex", "auto"]);
    };
    assert_eq!(count(forbids, FLEX), 2);
    let permits: fn(&mut Value) = |config| {
        falls_back(config);
        config["policies"][0]["service_tier"] = json!(["flex", "default"]);
    };
    assert_eq!(count(permits, FLEX), 4);
}

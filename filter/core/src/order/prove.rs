//! Can any failure take a request out of its client's regions?
//!
//! A pure function from what runs to a listing, for operators: for each client and model, every combination of its backends
//! that pause, each in its own way up to [`MIXED_MAX`] of them, is put before the very code that serves, with a sample of
//! the orders that lots make of weights, and what that answers is held against the configuration. That fewer backends come
//! back is fine; that one comes back which stands in no region of the client is a leak. It is exhaustive up to
//! [`BACKENDS_MAX`] backends for a model; where there are more it says so, and proves nothing. Not looked at here: what Envoy does with the order that it is given. It
//! goes down that and nothing else, which the filter checks again at each attempt.

use crate::decision::PassedOver;
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::gateway::{Client, Gateway};
use crate::route::{self, Asker, Choice, Cooldown, Cooldowns, Target};
use crate::store::{MemoryStore, Moment, StoreFault};
use crate::tier::Tier;
use std::rc::Rc;
use std::time::Duration;

/// The most backends of one model for which all combinations are gone through: four thousand of them, in each of three ways.
pub const BACKENDS_MAX: usize = 12;

/// The most of which each may fail in a way of its own: as many combinations again.
pub const MIXED_MAX: usize = 6;

/// How many lots are drawn where there are weights. What is permitted does not depend on them; this looks on.
const LOTS: u64 = 8;

/// Any time will do.
const NOW: Duration = Duration::from_secs(1_700_000_000);

/// A backend in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which.
    pub backend: Rc<str>,
    /// What the model is called there.
    pub deployment: Rc<str>,
    /// Where it is.
    pub region: Option<Rc<str>>,
}

/// What was found for clients that are alike and one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The clients: those with the same regions.
    pub clients: Vec<Rc<str>>,
    /// The model; `None` for the endpoints that are passed on unread.
    pub model: Option<Rc<str>>,
    /// The only regions that may serve them; `None` is anywhere.
    pub regions: Option<Vec<Rc<str>>>,
    /// The backends that came back at least once, as configured.
    pub reached: Vec<Place>,
    /// Those that never did.
    pub never: Vec<Place>,
    /// How many combinations were gone through; 0 if there are too many backends.
    pub combinations: u64,
    /// In how many of them the client was refused instead.
    pub refused: u64,
    /// What should not be: a backend outside the regions, or of nobody, and the backends that paused then.
    pub leaks: Vec<Leak>,
}

/// A way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Where it led.
    pub to: Place,
    /// Which backends paused.
    pub pausing: Vec<Rc<str>>,
}

impl Pool {
    /// Whether all combinations were gone through and none led out.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.combinations > 0 && self.leaks.is_empty()
    }
}

/// What decides: [`route::choose`], but in the tests of this.
type Choose<'c> =
    &'c dyn Fn(&[Rc<Target>], Asker<'_>, Moment<'_>, &mut Vec<PassedOver>) -> Result<Choice, Denial>;

/// Targets, and the tiers of service that they may fail for while others are served.
type Asked<'a> = (&'a [Rc<Target>], &'a [Option<Tier>]);

/// Goes through all failures of every client and model.
#[must_use]
pub fn prove(gateway: &Gateway) -> Vec<Pool> {
    prove_with(gateway, &route::choose)
}

fn prove_with(gateway: &Gateway, choose: Choose<'_>) -> Vec<Pool> {
    let mut pools = Vec::new();
    for model in &gateway.models {
        let may = |client: &&Rc<Client>| client.may_use(model);
        // What is asked again as another tier goes where that one does not pause.
        let tiers: &[_] = if model.asks_again.is_empty() { &[None] } else { &[None, Some(Tier::Flex)] };
        pools.extend(of_targets(gateway, Some(&model.name.text), (&model.targets, tiers), may, choose));
    }
    let may = |client: &&Rc<Client>| client.check_endpoint(Operation::Other).is_ok();
    pools.extend(of_targets(gateway, None, (&gateway.other, &[None]), may, choose));
    pools
}

/// The same for these targets; clients with the same regions are asked for once.
fn of_targets(
    gateway: &Gateway,
    model: Option<&Rc<str>>,
    (targets, tiers): Asked<'_>,
    may: impl Fn(&&Rc<Client>) -> bool,
    choose: Choose<'_>,
) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    if targets.is_empty() {
        return pools;
    }
    for client in gateway.roster.iter().filter(may) {
        let name = client.name.text.clone();
        match pools.iter_mut().find(|pool| pool.regions == client.regions) {
            Some(pool) => pool.clients.push(name),
            None => pools.push(Pool { clients: vec![name], ..pool(client, model, (targets, tiers), choose) }),
        }
    }
    pools
}

/// How a target fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// It pauses, and has said for how long.
    Stated,
    /// It pauses, and the length is a guess.
    Guessed,
    /// It pauses by a guess that is over.
    Over,
}

fn pool(client: &Client, model: Option<&Rc<str>>, asked: Asked<'_>, choose: Choose<'_>) -> Pool {
    let (targets, _) = asked;
    let mut found =
        Findings { reached: vec![false; targets.len()], combinations: 0, refused: 0, leaks: Vec::new() };
    if targets.len() <= BACKENDS_MAX {
        for failures in failures(targets.len()) {
            found.combination(client, asked, &failures, choose);
        }
        found.without_the_store(client, targets, choose);
    }
    let places = |reached: bool| {
        let with = targets.iter().zip(&found.reached).filter(|(_, found)| **found == reached);
        with.map(|(target, _)| place(target)).collect()
    };
    Pool {
        clients: Vec::new(),
        model: model.cloned(),
        regions: client.regions.clone(),
        reached: places(true),
        never: places(false),
        combinations: found.combinations,
        refused: found.refused,
        leaks: found.leaks,
    }
}

fn place(target: &Target) -> Place {
    Place {
        backend: target.backend.name.clone(),
        deployment: target.deployment.clone(),
        region: target.backend.region.clone(),
    }
}

/// Read from the configuration, not by what routing makes of it: this is the second opinion.
fn is_permitted(target: &Target, client: &Client) -> bool {
    match (&client.regions, &target.backend.region) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(regions), Some(region)) => regions.iter().any(|one| one == region),
    }
}

const FAILURES: [Failure; 3] = [Failure::Stated, Failure::Guessed, Failure::Over];

/// Every combination of failures of so many targets: each in every way, or, where there are many, all in the same.
fn failures(targets: usize) -> Box<dyn Iterator<Item = Vec<Option<Failure>>>> {
    if targets <= MIXED_MAX {
        // A digit for each target: well, or failing in one of the ways.
        let ways = FAILURES.len() + 1;
        let digit = move |number: usize, at: usize| number / ways.pow(at as u32) % ways;
        let failure =
            move |number, at| digit(number, at).checked_sub(1).and_then(|way| FAILURES.get(way).copied());
        return Box::new(
            (0..ways.pow(targets as u32))
                .map(move |number| (0..targets).map(|at| failure(number, at)).collect()),
        );
    }
    let all_alike = move |failing: u32, failure: Failure| {
        (0..targets).map(|at| (failing & (1 << at) != 0).then_some(failure)).collect()
    };
    Box::new(
        (0..1u32 << targets).flat_map(move |failing| FAILURES.map(|failure| all_alike(failing, failure))),
    )
}

/// What one client's combinations came to so far.
struct Findings {
    reached: Vec<bool>,
    combinations: u64,
    refused: u64,
    leaks: Vec<Leak>,
}

impl Findings {
    fn combination(
        &mut self,
        client: &Client,
        (targets, tiers): Asked<'_>,
        failures: &[Option<Failure>],
        choose: Choose<'_>,
    ) {
        self.combinations += 1;
        let failing: Vec<_> = targets
            .iter()
            .zip(failures)
            .filter_map(|(target, failure)| failure.map(|failure| (target, failure)))
            .collect();
        let has_weights = targets.iter().any(|target| target.weight.is_some());
        let mut is_refused = true;
        let lots = 0..if has_weights { LOTS } else { 1 };
        for (lot, &tier) in lots.flat_map(|lot| tiers.iter().map(move |tier| (lot, tier))) {
            // Each has a store of its own, for whoever goes to see whether a pause is over changes it.
            let store = MemoryStore::default();
            for (target, failure) in &failing {
                let wait = if *failure == Failure::Over { Duration::ZERO } else { Duration::from_secs(60) };
                let pause = Cooldown { wait, from_backend: *failure == Failure::Stated };
                // A store in memory does not fail.
                let _ = Cooldowns::note(Moment::new(&store, NOW), target.lane(tier), pause);
            }
            let asker = Asker { tier, asks_again: tier.is_some(), ..client.asker(route::lot(lot)) };
            let choice = choose(targets, asker, Moment::new(&store, NOW), &mut Vec::new());
            is_refused &= choice.is_err() || tier.is_some();
            self.look(client, targets, &failing, choice);
        }
        self.refused += u64::from(is_refused);
    }

    /// Nobody knows who pauses.
    fn without_the_store(&mut self, client: &Client, targets: &[Rc<Target>], choose: Choose<'_>) {
        self.combinations += 1;
        let store = MemoryStore::default();
        store.break_with(Some(StoreFault::Unavailable));
        let choice = choose(targets, client.asker(0), Moment::new(&store, NOW), &mut Vec::new());
        self.refused += u64::from(choice.is_err());
        self.look(client, targets, &[], choice);
    }

    fn look(
        &mut self,
        client: &Client,
        targets: &[Rc<Target>],
        failing: &[(&Rc<Target>, Failure)],
        choice: Result<Choice, Denial>,
    ) {
        let chosen = choice.iter().flat_map(|choice| choice.calls().map(|(target, _)| target.clone()));
        for chosen in chosen.collect::<Vec<_>>() {
            let at = targets.iter().position(|target| target == &chosen);
            if let Some(reached) = at.and_then(|at| self.reached.get_mut(at)) {
                *reached = true;
            }
            if at.is_none() || !is_permitted(&chosen, client) {
                let pausing = failing.iter().map(|(target, _)| target.word.clone()).collect();
                self.leaks.push(Leak { to: place(&chosen), pausing });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn gateway(edit: impl FnOnce(&mut Value)) -> Gateway {
        let client = |name: &str, digit: &str| {
            json!({
                "name": name, "models": ["*"], "api_keys": [{ "sha256": digit.repeat(64) }],
                "regions": ["eu"], "endpoints": ["*", "other"],
            })
        };
        let mut anywhere = client("anywhere", "3");
        anywhere.as_object_mut().unwrap().remove("regions");
        let backend = |name: &str, region: &str| json!({ "name": name, "cluster": name, "style": "openai", "region": region });
        let mut config = json!({
            "clients": [client("web", "1"), client("shop", "2"), anywhere],
            "models": [{ "name": "m", "backends": [
                { "backend": "a", "weight": 9 }, { "backend": "b", "weight": 1 },
                { "backend": "us", "priority": 1 }, { "backend": "nowhere", "priority": 2 },
            ]}],
            "other_endpoints": ["us"],
            "backends": [backend("a", "eu"), backend("b", "eu"), backend("us", "us"),
                { "name": "nowhere", "cluster": "nowhere", "style": "openai" }],
        });
        edit(&mut config);
        config::from_value(config, &|_| None).unwrap()
    }

    fn names(places: &[Place]) -> Vec<&str> {
        places.iter().map(|place| &*place.backend).collect()
    }

    #[test]
    fn no_combination_of_failures_leads_out_of_a_region() {
        let pools = prove(&gateway(|_| {}));
        let [eu, anywhere, other_eu, other_anywhere] = &pools[..] else { panic!("{pools:#?}") };
        assert!(pools.iter().all(Pool::holds), "{pools:#?}");
        assert_eq!(eu.clients, ["web".into(), "shop".into()]);
        assert_eq!((names(&eu.reached), names(&eu.never)), (vec!["a", "b"], vec!["us", "nowhere"]));
        // Four backends, each well or failing in three ways, and once without the store; refused when both of the region
        // pause and said for how long, whatever the two others do.
        assert_eq!((eu.combinations, eu.refused), (256 + 1, 16));
        assert_eq!((names(&anywhere.reached).len(), anywhere.refused), (4, 1));
        assert_eq!((names(&other_eu.never), other_eu.refused), (vec!["us"], 4 + 1));
        assert_eq!(names(&other_anywhere.reached), ["us"]);
    }

    #[test]
    fn a_tier_that_is_asked_again_stays_in_its_regions() {
        let pools = prove(&gateway(|config| config["models"][0]["tiers"] = json!({ "flex": "default" })));
        assert!(pools.iter().all(Pool::holds), "{pools:#?}");
        assert_eq!((pools[0].combinations, pools[0].refused), (256 + 1, 16));
        // One that is asked again wherever it can be.
        let anywhere = |targets: &[Rc<Target>], asker: Asker<'_>, moment: Moment<'_>, passed: &mut Vec<_>| {
            let choice = route::choose(targets, asker, moment, passed)?;
            let again = if asker.asks_again { targets.to_vec() } else { choice.again.clone() };
            Ok(Choice { again, ..choice })
        };
        let gateway = gateway(|config| config["models"][0]["tiers"] = json!({ "flex": "default" }));
        assert!(!prove_with(&gateway, &anywhere)[0].holds());
    }

    /// Routing as it must not be: a checker that finds nothing here would find nothing anywhere.
    #[test]
    fn routing_that_leads_out_of_a_region_is_found() {
        let gateway = gateway(|_| {});
        let anybody = |targets: &[Rc<Target>], asker: Asker<'_>, moment: Moment<'_>, passed: &mut Vec<_>| {
            match route::choose(targets, asker, moment, passed) {
                // Out of kindness to a client that would be refused.
                Err(Denial::BackendsThrottled { .. }) => {
                    route::choose(targets, Asker { regions: None, ..asker }, moment, passed)
                }
                decided => decided,
            }
        };
        let pools = prove_with(&gateway, &anybody);
        assert_eq!(pools.iter().map(Pool::holds).collect::<Vec<_>>(), [false, true, true, true]);
        let leak = &pools[0].leaks[0];
        assert_eq!((&*leak.to.backend, &leak.pausing), ("us", &vec!["a".into(), "b".into()]));
        // One that loses sight of a region only in a fault of the store.
        let blind = |targets: &[Rc<Target>], asker: Asker<'_>, moment: Moment<'_>, passed: &mut Vec<_>| {
            let regions = asker.regions.filter(|_| moment.store.load("x").is_ok());
            route::choose(targets, Asker { regions, ..asker }, moment, passed)
        };
        assert_eq!(prove_with(&gateway, &blind).iter().filter(|pool| !pool.holds()).count(), 2);
        // One that makes a target up.
        let foreign = self::gateway(|config| config["models"][0]["backends"][0]["deployment"] = json!("m"));
        let stranger =
            Rc::new(Target::new(foreign.models[0].targets[0].backend.clone(), "other".into(), None));
        let adds = |targets: &[Rc<Target>], asker: Asker<'_>, moment: Moment<'_>, passed: &mut Vec<_>| {
            let choice = route::choose(targets, asker, moment, passed)?;
            let targets = choice.targets.into_iter().chain([stranger.clone()]).collect();
            Ok(Choice { targets, ..choice })
        };
        assert!(prove_with(&gateway, &adds).iter().take(2).all(|pool| !pool.holds()));
    }

    #[test]
    fn what_is_too_much_to_go_through_is_not_proven() {
        let wide = gateway(|config| {
            for at in 0..=BACKENDS_MAX {
                let name = format!("n{at}");
                config["backends"].as_array_mut().unwrap().push(json!({
                    "name": name, "cluster": name, "style": "openai", "region": "eu",
                }));
                config["other_endpoints"].as_array_mut().unwrap().push(json!(name));
            }
        });
        let pools = prove(&wide);
        assert_eq!(pools.iter().map(Pool::holds).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!((pools[2].combinations, pools[2].reached.len()), (0, 0));
    }
}

//! What clients call, and where it is served.

pub(super) mod wire;

use super::metrics::labelled;
use super::{Backends, Build, ModelsByName, one_of};
use crate::allowance::Weights;
use crate::endpoint::{Api, Style, is_path_segment, may_be_added};
use crate::estimate::Lessons;
use crate::gateway::{Model, Spill};
use crate::gauge::{Gauge, Unit};
use crate::request::Family;
use crate::route::{Backend, Nearness, PARTS, Shares, Target, number_of};
use crate::sorting;
use crate::tier::Tier;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

/// What a model is called at one of its backends.
fn deployment<'w>(model: &'w wire::Model, place: &'w wire::Place) -> &'w String {
    place.deployment.as_ref().unwrap_or(&model.name)
}

/// The backends that have several deployments.
fn shared(models: &[wire::Model]) -> HashSet<String> {
    let places = models.iter().flat_map(|model| model.backends.iter().map(move |place| (model, place)));
    let (mut first, mut shared) = (HashMap::new(), HashSet::new());
    for (model, place) in places {
        let deployment = deployment(model, place);
        if *first.entry(&place.backend).or_insert(deployment) != deployment {
            shared.insert(place.backend.clone());
        }
    }
    shared
}

impl Build<'_> {
    pub(super) fn models(
        &mut self,
        wire: Vec<wire::Model>,
        backends: &Backends,
        labels_max: usize,
    ) -> (Vec<Rc<Model>>, ModelsByName) {
        let (mut models, mut by_name) = (Vec::new(), HashMap::new());
        let shared = shared(&wire);
        for (at, model) in wire.into_iter().enumerate() {
            let path = format!("models[{at}]");
            let name = self.name(format!("{path}.name"), &model.name);
            let targets = self.targets(&format!("{path}.backends"), &model, backends, &shared);
            let family = match model.family {
                wire::Family::Gpt4 => Family::Gpt4,
                wire::Family::Gpt5 => Family::Gpt5,
                wire::Family::OSeries => Family::OSeries,
            };
            self.versions(&format!("{path}.backends"), &model);
            self.weighted(&format!("{path}.backends"), &model);
            self.bounded(&format!("{path}.backends"), &model);
            let is_sticky = matches!(model.sticky_by, Some(wire::StickyBy::Client));
            let stream_start_max =
                self.start_max(format!("{path}.stream_start_ms_max"), model.stream_start_ms_max);
            let answer_start_max =
                self.start_max(format!("{path}.answer_start_ms_max"), model.answer_start_ms_max);
            let name = labelled(name, at, labels_max);
            let nearness = self.nearness(&path, &model);
            let shares = Shares::of(&model.name, &targets);
            let wire::Tiers { flex, priority } = model.tiers.unwrap_or_default();
            let again = [(Tier::Flex, flex), (Tier::Priority, priority)].into_iter();
            let asks_again =
                again.filter_map(|(tier, again)| again.map(|wire::Again::Default| tier)).collect();
            let mut built = Model {
                name,
                family,
                targets,
                is_sticky,
                stream_start_max,
                answer_start_max,
                nearness,
                shares,
                asks_again,
                spill: Spill::default(),
                lessons: Lessons::default(),
            };
            if let Some(wire) = &model.spill {
                built.spill = self.spill(&format!("{path}.spill"), wire, &built);
            }
            let built = Rc::new(built);
            let aliases =
                model.aliases.iter().enumerate().map(|(at, alias)| (format!("{path}.aliases[{at}]"), alias));
            for (path, name) in std::iter::once((format!("{path}.name"), &model.name)).chain(aliases) {
                let key = self.name(path.clone(), name);
                if by_name.insert(key, built.clone()).is_some() {
                    self.fault(path, format!("{name:?} names a model already"));
                }
            }
            models.push(built);
        }
        (models, by_name)
    }

    fn start_max(&mut self, path: String, ms: Option<u32>) -> Option<Duration> {
        if ms == Some(0) {
            // Envoy would take it for none.
            self.fault(path, "0: expected at least 1");
        }
        ms.map(|ms| Duration::from_millis(ms.into()))
    }

    /// How the model's backends are ordered by how near they are, if they are.
    fn nearness(&mut self, path: &str, model: &wire::Model) -> Option<Nearness> {
        let order_by = model.order_by?;
        if let Some(at) = model.backends.iter().position(|place| place.weight.is_some()) {
            let problem = "order_by decides which backend is first: expected one of order_by and weights";
            self.fault(format!("{path}.backends[{at}].weight"), problem);
        }
        if model.sticky_by.is_some() {
            let problem = "order_by decides which backend is first: expected one of order_by and sticky_by";
            self.fault(format!("{path}.sticky_by"), problem);
        }
        Some(Nearness::new(&model.name, matches!(order_by, wire::OrderBy::Latency)))
    }

    /// One name stands for one version, or a client's answers would change with the load.
    fn versions(&mut self, path: &str, model: &wire::Model) {
        let versions = model.backends.iter().enumerate();
        let mut versions = versions.filter_map(|(at, place)| Some((at, place.version.as_ref()?)));
        let Some((_, first)) = versions.next() else { return };
        if let Some((at, other)) = versions.find(|(_, version)| *version != first).filter(|_| !model.rollout)
        {
            let problem = format!(
                "{other:?} differs from {first:?}: expected one version, or rollout: true at the model"
            );
            self.fault(format!("{path}[{at}].version"), problem);
        }
    }

    /// A backend without a weight has no share that it could be drawn by: it would be first always, or never.
    fn weighted(&mut self, path: &str, model: &wire::Model) {
        for (at, place) in model.backends.iter().enumerate().filter(|(_, place)| place.weight.is_none()) {
            let priority = place.priority;
            if model.backends.iter().any(|other| other.priority == priority && other.weight.is_some()) {
                let problem = format!(
                    "missing: another backend of priority {priority} has one, expected at all of a priority or at none"
                );
                self.fault(format!("{path}[{at}].weight"), problem);
            }
        }
    }

    /// Were all bounded, some requests could go nowhere.
    fn bounded(&mut self, path: &str, model: &wire::Model) {
        if !model.backends.is_empty() && model.backends.iter().all(|place| place.share_max.is_some()) {
            self.fault(path.to_owned(), "every backend has a share_max: expected one that takes the rest");
        }
    }

    /// In parts of a request.
    fn share_max(&mut self, path: &str, place: &wire::Place) -> Option<u32> {
        let share = place.share_max?;
        if !(share > 0.0 && share < 1.0) {
            let problem = format!("{share}: expected a share above 0 and below 1");
            self.fault(format!("{path}.share_max"), problem);
        }
        Some((share * f64::from(PARTS)).round() as u32)
    }

    fn targets(
        &mut self,
        path: &str,
        model: &wire::Model,
        backends: &Backends,
        shared: &HashSet<String>,
    ) -> Vec<Rc<Target>> {
        let mut targets: Vec<Target> = Vec::new();
        if model.backends.is_empty() {
            self.fault(path.to_owned(), "empty: expected at least one backend");
        }
        let mut seen = HashSet::new();
        for (at, place) in model.backends.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let Some(backend) = self.named(format!("{path}.backend"), &place.backend, backends) else {
                continue;
            };
            let deployment = deployment(model, place);
            if !seen.insert((&place.backend, deployment)) {
                let problem = format!(
                    "{:?} stands more than once with deployment {deployment:?}: expected another deployment each time",
                    place.backend
                );
                self.fault(format!("{path}.backend"), problem);
            }
            let field = format!("{path}.deployment");
            if matches!(backend.style, Style::Azure(_)) && !is_path_segment(deployment) {
                self.fault(
                    field,
                    format!("{deployment:?}: expected letters, digits and . _ - ~, for it stands in a path"),
                );
            } else {
                self.name(field, deployment);
            }
            let prices = place.prices.as_ref().or(model.prices.as_ref());
            let prices = prices.and_then(|prices| self.prices(&format!("{path}.prices"), prices));
            let mut target = Target::new(backend, deployment.as_str().into(), prices);
            let spillover = place.spillover_prices.as_ref();
            target.spillover_prices =
                spillover.and_then(|prices| self.prices(&format!("{path}.spillover_prices"), prices));
            if shared.contains(&place.backend) {
                for gauge in target.gauges.iter() {
                    // No deployment is called so.
                    let names = [&place.backend, deployment, "", gauge.unit.word(), "pace"];
                    target.gauges.insert(Gauge { pace_id: Some(number_of(&names)), ..gauge });
                }
            }
            let declared = (place.tokens_per_minute, place.requests_per_minute);
            let names = [&*target.backend.name, &*target.deployment];
            let own = self.gauges(&path, declared, target.backend.counts, &names);
            own.iter().for_each(|gauge| target.gauges.insert(gauge));
            if let Some(weights) = place.weights {
                let counts_prompt = target.backend.counts.weights.prompt > 0;
                if !counts_prompt && (weights.prompt != 1.0 || weights.cached.is_some()) {
                    let problem = "the backend counts the cap alone: expected completion and nothing else";
                    self.fault(format!("{path}.weights"), problem);
                }
                let mut weights = self.weights(&path, weights, 0.0);
                if !counts_prompt {
                    weights = Weights { completion: weights.completion, ..Weights::PRODUCED };
                }
                match &mut target.gauges.tokens {
                    Some(gauge) => gauge.unit = Unit::Tokens(weights),
                    None if place.tokens_per_minute.is_some() => {}
                    None => self.fault(
                        format!("{path}.weights"),
                        "there is no capacity: expected tokens_per_minute here or at the backend",
                    ),
                }
            }
            (target.priority, target.weight) = (place.priority, place.weight);
            target.share_max = self.share_max(&path, place);
            targets.push(target);
        }
        for (backend, deployment) in &seen {
            // What is told apart by its deployment alone has that in its word.
            let is_one_of_several = seen.iter().any(|other| other.0 == *backend && other.1 != *deployment);
            let is_it = |target: &&mut Target| {
                *target.backend.name == **backend && *target.deployment == **deployment
            };
            if let Some(target) = targets.iter_mut().find(is_it).filter(|_| is_one_of_several) {
                target.word = format!("{backend}/{deployment}").into();
            }
        }
        let mut words = HashSet::new();
        let twice = targets.iter().find(|target| !words.insert(&*target.word));
        if let Some(twice) = twice.filter(|_| seen.len() == targets.len()) {
            let problem =
                format!("two of them are called {:?}: expected another name of one backend", twice.word);
            self.fault(path.to_owned(), problem);
        }
        sorting::sort_by_key(&mut targets, |target| target.priority);
        targets.into_iter().map(Rc::new).collect()
    }

    /// The backend of this name, if it has no fault of its own.
    fn named(&mut self, path: String, name: &str, backends: &Backends) -> Option<Rc<Backend>> {
        let Some(backend) = backends.get(name) else {
            let problem = format!("no backend is named {name:?}: expected {}", one_of(backends.keys()));
            self.fault(path, problem);
            return None;
        };
        backend.clone()
    }

    pub(super) fn other(&mut self, wire: &[String], backends: &Backends) -> Vec<Rc<Target>> {
        let mut targets = Vec::new();
        for (at, name) in wire.iter().enumerate() {
            let path = format!("other_endpoints[{at}]");
            if wire.iter().take(at).any(|earlier| earlier == name) {
                self.fault(path, format!("{name:?} stands more than once"));
            } else if let Some(backend) = self.named(path.clone(), name, backends) {
                if backend.style.api() != Api::OpenAi {
                    self.fault(
                        path,
                        format!("{name:?} has style anthropic: expected one that speaks OpenAI's API"),
                    );
                    continue;
                }
                targets.push(Rc::new(Target::of_no_deployment(backend)));
            }
        }
        targets
    }

    pub(super) fn other_paths(&mut self, wire: Vec<String>) -> Vec<String> {
        // A list of many would be none of what is not known yet.
        const OTHER_PATHS_MAX: usize = 32;
        if wire.len() > OTHER_PATHS_MAX {
            let problem = format!("{} entries: expected at most {OTHER_PATHS_MAX}", wire.len());
            self.fault("other_paths".to_owned(), problem);
        }
        for (at, name) in wire.iter().enumerate() {
            if !may_be_added(name) {
                let problem = format!(
                    "{name:?} cannot be added: expected the first segment of a path, and none below which \
                     deployments or operations under policy are"
                );
                self.fault(format!("other_paths[{at}]"), problem);
            }
        }
        wire
    }
}

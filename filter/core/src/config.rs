//! What does the operator's configuration mean?
//!
//! Reads what was written (`wire`), checks it, and builds what runs ([`Gateway`]). A configuration loads whole or is
//! refused whole; every fault names its path and what was expected.

mod wire;

use crate::endpoint::{ApiVersion, Style, is_path_segment};
use crate::gateway::{Client, Gateway, Model, OnStoreFailure, Permitted};
use crate::identity::{Directory, KeyHash};
use crate::ledger::Name;
use crate::limits::{Budget, Limit, Period};
use crate::policy::{Bound, Over, Policy, REQUEST_BYTES_MAX};
use crate::request::Family;
use crate::route::{Backend, Credential, Target};
use crate::tokens::Prices;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;

/// The most clients, models or backends. Each costs memory in every worker, and a label value.
const ENTRIES_MAX: usize = 10_000;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The longest body any policy may allow; Envoy's own limit (`request_body_buffer_limit`) must be above it.
const REQUEST_BYTES_CEILING: usize = 256 * 1024 * 1024;

/// A fault in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where: `clients[0].limits[1].tokens`.
    pub path: String,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Loads a configuration from JSON text. `env` looks up environment variables, where secrets come from.
pub fn from_json(json: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Gateway, Vec<ConfigError>> {
    let value = serde_json::from_slice(json).map_err(|error| {
        vec![ConfigError { path: "configuration".to_owned(), problem: error.to_string() }]
    })?;
    from_value(value, env)
}

/// Loads a configuration from a JSON value.
pub fn from_value(
    value: serde_json::Value,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Gateway, Vec<ConfigError>> {
    let wire: wire::Gateway = serde_path_to_error::deserialize(value).map_err(|error| vec![shape(&error)])?;
    let mut build = Build { env, errors: Vec::new() };
    let gateway = build.gateway(wire);
    match gateway {
        Some(gateway) if build.errors.is_empty() => Ok(gateway),
        _ => Err(build.errors),
    }
}

/// A fault that serde found: its path, and its sentence without the quotes around names.
fn shape(error: &serde_path_to_error::Error<serde_json::Error>) -> ConfigError {
    let path = match error.path().to_string() {
        top if top == "." => "configuration".to_owned(),
        path => path,
    };
    let problem = error.inner().to_string();
    let problem = match problem.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((_, rest)) => format!("unknown field{}", rest.replace('`', "")),
        None => problem.replace('`', "\""),
    };
    ConfigError { path, problem }
}

struct Build<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
    errors: Vec<ConfigError>,
}

impl Build<'_> {
    fn fault(&mut self, path: String, problem: impl Into<String>) {
        self.errors.push(ConfigError { path, problem: problem.into() });
    }

    /// Names go into labels, record keys and logs as they are.
    fn name(&mut self, path: String, name: &str) -> Rc<str> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            let problem = format!(
                "{name:?} is no name: expected 1 to {NAME_BYTES_MAX} of letters, digits and . _ - : / @ +"
            );
            self.fault(path, problem);
        }
        name.into()
    }

    fn entries(&mut self, path: &str, count: usize) {
        if count > ENTRIES_MAX {
            self.fault(path.to_owned(), format!("{count} entries, at most {ENTRIES_MAX} are possible"));
        }
    }

    fn gateway(&mut self, wire: wire::Gateway) -> Option<Gateway> {
        self.entries("clients", wire.clients.len());
        self.entries("models", wire.models.len());
        self.entries("backends", wire.backends.len());
        let backends = self.backends(wire.backends);
        let (models, by_name) = self.models(wire.models, &backends, wire.metrics.models_max);
        let other = self.other(&wire.other_endpoints, &backends);
        let policies = self.policies(wire.policies);
        let clients = self.clients(wire.clients, &policies, &by_name, wire.metrics.clients_max);
        let mut credential_headers: Vec<String> = backends
            .values()
            .flatten()
            .filter_map(|backend| backend.credential.as_ref())
            .map(|credential| credential.header.clone())
            .collect();
        credential_headers.sort();
        credential_headers.dedup();
        let on_store_failure = match wire.on_store_failure {
            wire::OnStoreFailure::Allow => OnStoreFailure::Allow,
            wire::OnStoreFailure::Deny => OnStoreFailure::Deny,
        };
        let gateway = Gateway { clients, by_name, models, other, on_store_failure, credential_headers };
        self.errors.is_empty().then_some(gateway)
    }

    /// Each backend under its name; `None` for one that has a fault of its own, so that naming it is not another fault.
    fn backends(&mut self, wire: Vec<wire::Backend>) -> HashMap<String, Option<Rc<Backend>>> {
        let mut backends = HashMap::new();
        let mut clusters: HashMap<String, usize> = HashMap::new();
        for (at, backend) in wire.into_iter().enumerate() {
            let path = format!("backends[{at}]");
            let faults = self.errors.len();
            let name = self.name(format!("{path}.name"), &backend.name);
            let cluster = self.name(format!("{path}.cluster"), &backend.cluster);
            if let Some(earlier) = clusters.insert(backend.cluster.clone(), at) {
                let problem = format!(
                    "backends[{earlier}] has cluster {:?} too: expected one cluster for each backend",
                    backend.cluster
                );
                self.fault(format!("{path}.cluster"), problem);
            }
            let style = self.style(&path, &backend);
            let region = backend.region.as_ref().map(|region| self.name(format!("{path}.region"), region));
            let credential = match &backend.credential {
                Some(credential) => self.credential(&format!("{path}.credential"), credential),
                None => None,
            };
            let built = style.map(|style| Rc::new(Backend { name, cluster, style, region, credential }));
            let built = built.filter(|_| self.errors.len() == faults);
            if backends.insert(backend.name.clone(), built).is_some() {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", backend.name));
            }
        }
        backends
    }

    fn style(&mut self, path: &str, backend: &wire::Backend) -> Option<Style> {
        let path = format!("{path}.api_version");
        match (backend.style, backend.api_version.as_deref()) {
            (wire::Style::Azure, Some(text)) => {
                let version = ApiVersion::parse(text);
                if version.is_none() {
                    self.fault(path, format!("{text:?}: expected YYYY-MM-DD or YYYY-MM-DD-preview"));
                }
                version.map(Style::Azure)
            }
            (wire::Style::Azure, None) => {
                self.fault(path, "missing: style azure needs one, for example \"2024-10-21\"");
                None
            }
            (wire::Style::AzureV1 | wire::Style::OpenAi, Some(_)) => {
                self.fault(path, "only style azure has one");
                None
            }
            (wire::Style::AzureV1, None) => Some(Style::AzureV1),
            (wire::Style::OpenAi, None) => Some(Style::OpenAi),
        }
    }

    fn credential(&mut self, path: &str, wire: &wire::Credential) -> Option<Credential> {
        let header = wire.header.to_ascii_lowercase();
        if !matches!(header.as_str(), "api-key" | "authorization") {
            self.fault(
                format!("{path}.header"),
                format!("{:?}: expected api-key or authorization", wire.header),
            );
            return None;
        }
        let env_path = format!("{path}.env");
        let Some(secret) =
            (self.env)(&wire.env).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        else {
            let problem = format!(
                "environment variable {:?} is not set: expected it in Envoy's environment and in \
                 vm_config.environment_variables.host_env_keys of both Tollgate filters",
                wire.env
            );
            self.fault(env_path, problem);
            return None;
        };
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.fault(
                env_path,
                format!("environment variable {:?} has characters that no header may have", wire.env),
            );
            return None;
        }
        let value = if header == "authorization" { format!("Bearer {secret}") } else { secret };
        Some(Credential { header, value })
    }

    #[allow(clippy::type_complexity)]
    fn models(
        &mut self,
        wire: Vec<wire::Model>,
        backends: &HashMap<String, Option<Rc<Backend>>>,
        labels_max: usize,
    ) -> (Vec<Rc<Model>>, HashMap<Rc<str>, Rc<Model>>) {
        let (mut models, mut by_name) = (Vec::new(), HashMap::new());
        for (at, model) in wire.into_iter().enumerate() {
            let path = format!("models[{at}]");
            let name = self.name(format!("{path}.name"), &model.name);
            let targets = self.targets(&format!("{path}.backends"), &model, backends);
            let family = match model.family {
                wire::Family::Gpt4 => Family::Gpt4,
                wire::Family::Gpt5 => Family::Gpt5,
                wire::Family::OSeries => Family::OSeries,
            };
            let built = Rc::new(Model { name: labelled(name, at, labels_max), family, targets });
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

    fn targets(
        &mut self,
        path: &str,
        model: &wire::Model,
        backends: &HashMap<String, Option<Rc<Backend>>>,
    ) -> Vec<Rc<Target>> {
        let mut targets: Vec<(u32, Rc<Target>)> = Vec::new();
        if model.backends.is_empty() {
            self.fault(path.to_owned(), "empty: expected at least one backend");
        }
        let mut seen = HashSet::new();
        for (at, place) in model.backends.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let Some(backend) = self.named(format!("{path}.backend"), &place.backend, backends) else {
                continue;
            };
            if !seen.insert(&place.backend) {
                self.fault(format!("{path}.backend"), format!("{:?} stands more than once", place.backend));
            }
            let deployment = place.deployment.as_ref().unwrap_or(&model.name);
            let field = format!("{path}.deployment");
            if matches!(backend.style, Style::Azure(_)) && !is_path_segment(deployment) {
                self.fault(
                    field,
                    format!("{deployment:?}: expected letters, digits and . _ - ~, for it stands in a path"),
                );
            } else {
                self.name(field, deployment);
            }
            let prices = place.prices.or(model.prices);
            let prices = prices.and_then(|prices| self.prices(&format!("{path}.prices"), prices));
            targets.push((place.priority, Rc::new(Target::new(backend, deployment.as_str().into(), prices))));
        }
        targets.sort_by_key(|(priority, _)| *priority);
        let targets: Vec<_> = targets.into_iter().map(|(_, target)| target).collect();
        // The body is written once for all attempts, so those backends that read the model there must agree.
        let mut in_body = targets
            .iter()
            .filter(|target| !matches!(target.backend.style, Style::Azure(_)))
            .map(|target| &target.deployment);
        if let Some(first) = in_body.next()
            && let Some(other) = in_body.find(|other| *other != first)
        {
            let problem = format!(
                "deployments {first:?} and {other:?} differ: expected one name at all backends of style azure-v1 and \
                 openai, which read it from the body"
            );
            self.fault(path.to_owned(), problem);
        }
        targets
    }

    /// The backend of this name, if it has no fault of its own.
    fn named(
        &mut self,
        path: String,
        name: &str,
        backends: &HashMap<String, Option<Rc<Backend>>>,
    ) -> Option<Rc<Backend>> {
        let Some(backend) = backends.get(name) else {
            let problem = format!("no backend is named {name:?}: expected {}", one_of(backends.keys()));
            self.fault(path, problem);
            return None;
        };
        backend.clone()
    }

    fn other(&mut self, wire: &[String], backends: &HashMap<String, Option<Rc<Backend>>>) -> Vec<Rc<Target>> {
        let mut targets = Vec::new();
        for (at, name) in wire.iter().enumerate() {
            let path = format!("other_endpoints[{at}]");
            if wire.iter().take(at).any(|earlier| earlier == name) {
                self.fault(path, format!("{name:?} stands more than once"));
            } else if let Some(backend) = self.named(path, name, backends) {
                targets.push(Rc::new(Target::new(backend, "".into(), None)));
            }
        }
        targets
    }

    fn prices(&mut self, path: &str, wire: wire::Prices) -> Option<Prices> {
        let micros = |price: f64| {
            // Above this a price would be a slip of the pen.
            const PRICE_MAX: f64 = 1e6;
            (0.0..=PRICE_MAX).contains(&price).then(|| (price * 1e6).round() as u64)
        };
        let cached = wire.cached.unwrap_or(wire.prompt);
        let (Some(prompt), Some(cached), Some(completion)) =
            (micros(wire.prompt), micros(cached), micros(wire.completion))
        else {
            self.fault(path.to_owned(), "expected prices of a million tokens, from 0 to 1000000");
            return None;
        };
        Some(Prices { prompt, cached, completion })
    }

    fn policies(&mut self, wire: Vec<wire::Policy>) -> HashMap<String, Rc<Policy>> {
        let mut policies = HashMap::new();
        for (at, policy) in wire.into_iter().enumerate() {
            let path = format!("policies[{at}]");
            self.name(format!("{path}.name"), &policy.name);
            let bytes_max = policy.request_bytes_max.unwrap_or(REQUEST_BYTES_MAX);
            if !(1..=REQUEST_BYTES_CEILING).contains(&bytes_max) {
                let problem = format!("{bytes_max}: expected 1 to {REQUEST_BYTES_CEILING}");
                self.fault(format!("{path}.request_bytes_max"), problem);
            }
            let built = Policy {
                // A bound without a default would be no bound for those who leave the field out.
                max_tokens: self
                    .bound(&format!("{path}.max_tokens"), policy.max_tokens)
                    .map(|bound| Bound { default: bound.default.or(bound.max), ..bound }),
                best_of: self.bound(&format!("{path}.best_of"), policy.best_of),
                n: self.bound(&format!("{path}.n"), policy.n),
                request_bytes_max: bytes_max,
            };
            if policies.insert(policy.name.clone(), Rc::new(built)).is_some() {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", policy.name));
            }
        }
        policies
    }

    fn bound(&mut self, path: &str, wire: Option<wire::Bound>) -> Option<Bound> {
        let wire = wire?;
        for (field, value) in [("default", wire.default), ("max", wire.max)] {
            if value == Some(0) {
                self.fault(format!("{path}.{field}"), "0: expected at least 1");
            }
        }
        if let (Some(default), Some(max)) = (wire.default, wire.max)
            && default > max
        {
            self.fault(format!("{path}.default"), format!("{default} is above max, which is {max}"));
        }
        let over = match wire.over {
            wire::Over::Clamp => Over::Clamp,
            wire::Over::Reject => Over::Reject,
        };
        Some(Bound { default: wire.default, max: wire.max, over })
    }

    fn clients(
        &mut self,
        wire: Vec<wire::Client>,
        policies: &HashMap<String, Rc<Policy>>,
        by_name: &HashMap<Rc<str>, Rc<Model>>,
        labels_max: usize,
    ) -> Directory<Client> {
        let mut clients = Directory::default();
        let mut names = HashSet::new();
        if wire.is_empty() {
            self.fault("clients".to_owned(), "empty: expected at least one client, or nobody can call");
        }
        for (at, client) in wire.into_iter().enumerate() {
            let path = format!("clients[{at}]");
            let name = self.name(format!("{path}.name"), &client.name);
            if !names.insert(client.name.clone()) {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", client.name));
            }
            let policy = match &client.policy {
                None => Rc::default(),
                Some(policy) => policies.get(policy).cloned().unwrap_or_else(|| {
                    let problem =
                        format!("no policy is named {policy:?}: expected {}", one_of(policies.keys()));
                    self.fault(format!("{path}.policy"), problem);
                    Rc::default()
                }),
            };
            let models = self.permitted(&format!("{path}.models"), &client.models, by_name);
            let limits = self.limits(&format!("{path}.limits"), &client.limits);
            let budget = Rc::new(Budget::new(&client.name, limits));
            let name = labelled(name, at, labels_max);
            let built = Rc::new(Client { name, models, policy, budget });
            if client.api_keys.is_empty() {
                self.fault(format!("{path}.api_keys"), "empty: expected at least one key");
            }
            for (at, key) in client.api_keys.iter().enumerate() {
                let path = format!("{path}.api_keys[{at}].sha256");
                match KeyHash::parse(&key.sha256) {
                    None => self.fault(path, "expected the 64 hexadecimal digits of the key's SHA-256"),
                    Some(hash) => {
                        if let Some(other) = clients.enter(hash, built.clone()) {
                            self.fault(path, format!("is a key of client {:?} already", other.name.text));
                        }
                    }
                }
            }
        }
        clients
    }

    fn permitted(&mut self, path: &str, wire: &[String], by_name: &HashMap<Rc<str>, Rc<Model>>) -> Permitted {
        if wire.iter().any(|name| name == "*") {
            return Permitted::All;
        }
        let mut names = HashSet::new();
        for (at, name) in wire.iter().enumerate() {
            match by_name.get(name.as_str()) {
                Some(model) => {
                    names.insert(model.name.text.clone());
                }
                None => {
                    let known = one_of(by_name.keys().map(|name| name.as_ref()).chain(["*"]));
                    self.fault(
                        format!("{path}[{at}]"),
                        format!("no model is named {name:?}: expected {known}"),
                    );
                }
            }
        }
        if wire.is_empty() {
            self.fault(path.to_owned(), "empty: expected at least one model, or \"*\" for all");
        }
        Permitted::Named(names)
    }

    fn limits(&mut self, path: &str, wire: &[wire::Limit]) -> Vec<Limit> {
        let mut limits = Vec::new();
        for (at, limit) in wire.iter().enumerate() {
            let per = match limit.per {
                wire::Period::Second => Period::Second,
                wire::Period::Minute => Period::Minute,
            };
            match NonZeroU32::new(limit.tokens) {
                Some(tokens) => limits.push(Limit { tokens, per }),
                None => self.fault(format!("{path}[{at}].tokens"), "0: expected at least 1"),
            }
        }
        limits
    }
}

/// The label value that all names share for which there is no room.
const OTHER: &str = "other";

/// A name with its label: its own for the first `labels_max` of a list.
fn labelled(text: Rc<str>, at: usize, labels_max: usize) -> Name {
    let label = if at < labels_max { text.clone() } else { OTHER.into() };
    Name { text, label }
}

/// Names for a sentence, sorted.
fn one_of<S: AsRef<str>>(names: impl Iterator<Item = S>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("{:?}", name.as_ref())).collect();
    names.sort();
    match names.as_slice() {
        [] => "one, but there is none".to_owned(),
        [only] => only.clone(),
        _ => format!("one of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;

//! What does the operator's configuration mean?
//!
//! Reads what was written (`wire`), checks it, and builds what runs ([`Gateway`]). Each topic has a file that
//! builds, and its part of what is written in a folder beside it. A configuration loads whole or is refused whole; every
//! fault names its path and what was expected.

mod backends;
mod clients;
mod directory;
mod fingerprint;
mod fractions;
mod issuers;
mod limits;
mod metrics;
mod models;
mod passing;
mod pinning;
mod policies;
mod prices;
mod priorities;
mod queue;
mod reading;
mod routing;
#[cfg(feature = "schema")]
mod schema;
mod spill;
mod store;
mod ways_in;
mod websocket;
mod wire;

use crate::access::Access;
use crate::endpoint::Api;
use crate::fleet::Fleet;
use crate::gateway::{Gateway, HELD_BYTES_MAX, HeldBytes, Model};
use crate::headers::Way;
use crate::identity::Directory;
use crate::ledger::RecordForm;
use crate::policy::Policy;
use crate::route::{Backend, Failing};
use crate::sorting;
use crate::value::By;
use clients::Definitions;
use directory::{Directed, Source};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

pub use directory::{KeyEntry, Narrowing, check_document};
#[cfg(feature = "schema")]
pub use schema::schema;

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
    let sha256 = fingerprint::of(&value);
    let wire: wire::Gateway = reading::read(&value).map_err(|fault| vec![shape(fault, "configuration")])?;
    let mut build = Build {
        env,
        errors: Vec::new(),
        fleet: None,
        has_directory: wire.directory.is_some(),
        issues_keys: wire.directory.as_ref().is_some_and(|directory| directory.document.is_none()),
        told: Vec::new(),
        accesses: Vec::new(),
    };
    let gateway = build.gateway(wire);
    match gateway {
        Some(gateway) if build.errors.is_empty() => Ok(Gateway { sha256, ..gateway }),
        _ => Err(build.errors),
    }
}

/// A fault that serde found: its path, and its sentence without the quotes around names. `whole` is the path of all of it.
fn shape(fault: reading::Fault, whole: &str) -> ConfigError {
    let reading::Fault { path, error } = fault;
    let path = if path.is_empty() { whole.to_owned() } else { path };
    let problem = error.to_string();
    let problem = match problem.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((_, rest)) => format!("unknown field{}", rest.replace('`', "")),
        None => problem.replace('`', "\""),
    };
    ConfigError { path, problem }
}

/// Each backend under its name; `None` for one that has a fault of its own, so that naming it is not another fault.
type Backends = HashMap<String, Option<Rc<Backend>>>;

/// Models under their names and aliases.
type ModelsByName = HashMap<Rc<str>, Rc<Model>>;

/// Policies under their names.
type Policies = HashMap<String, Rc<Policy>>;

/// A number of the configuration: what it is if absent, and between what it must lie.
struct Range {
    default: u64,
    min: u64,
    max: u64,
}

struct Build<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
    errors: Vec<ConfigError>,
    /// Whose the budgets are, if they are those of a fleet.
    fleet: Option<Fleet>,
    /// Whether clients may come later.
    has_directory: bool,
    /// Whether keys may be issued later.
    issues_keys: bool,
    /// What limits depend on of who asks.
    told: Vec<By>,
    /// The ways to tokens of backends without a key.
    accesses: Vec<Access>,
}

impl Build<'_> {
    /// Builds what needs nothing from around: no secret, and no way in.
    fn bare() -> Self {
        Self {
            env: &|_| None,
            errors: Vec::new(),
            fleet: None,
            has_directory: true,
            issues_keys: true,
            told: Vec::new(),
            accesses: Vec::new(),
        }
    }

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

    /// A secret from the environment, without the line's end that a file may have left.
    fn secret(&mut self, path: &str, env: &str) -> Option<String> {
        let secret = (self.env)(env).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if secret.is_none() {
            let problem = format!(
                "environment variable {env:?} is not set: expected it in Envoy's environment and in \
                 vm_config.environment_variables.host_env_keys of both Tollgate filters"
            );
            self.fault(path.to_owned(), problem);
        }
        secret
    }

    fn within(&mut self, path: &str, written: Option<u64>, range: &Range) -> u64 {
        let value = written.unwrap_or(range.default);
        if !(range.min..=range.max).contains(&value) {
            self.fault(path.to_owned(), format!("{value}: expected {} to {}", range.min, range.max));
        }
        value
    }

    fn entries(&mut self, path: &str, count: usize) {
        if count > ENTRIES_MAX {
            self.fault(path.to_owned(), format!("{count} entries, at most {ENTRIES_MAX} are possible"));
        }
    }

    fn gateway(&mut self, wire: wire::Gateway) -> Option<Gateway> {
        self.entries("clients", wire.clients.len());
        self.entries("groups", wire.groups.len());
        self.entries("issuers", wire.issuers.len());
        self.entries("models", wire.models.len());
        self.entries("backends", wire.backends.len());
        let store = wire.store.as_ref().map(|store| self.store(store));
        self.fleet = store.as_ref().map(|store| store.fleet());
        let backends = self.backends(wire.backends);
        let (models, by_name) = self.models(wire.models, &backends, wire.metrics.models_max);
        let other = self.other(&wire.other_endpoints, &backends);
        let other_paths = self.other_paths(wire.other_paths);
        let pinning = wire.pinning.as_ref().and_then(|pinning| self.pinning(pinning, &backends));
        let routing = self.routing(wire.routing, &backends, &models, &other);
        let policies = self.policies(wire.policies);
        let mut regions = BTreeSet::new();
        regions.extend(backends.values().flatten().filter_map(|backend| backend.region.clone()));
        let groups = self.groups(&wire.groups, &by_name);
        let group_accounts = groups.values().map(|group| group.account().clone()).collect();
        let issuers = self.issuers(wire.issuers);
        let mut definitions = Definitions { policies: &policies, by_name: &by_name, regions, groups };
        let mut nobody = Directory::new(issuers);
        let mut targets = models.iter().flat_map(|model| &model.targets);
        let speaks_anthropic = targets.any(|target| target.backend.style.api() == Api::Anthropic);
        nobody.read_keys_from(self.key_sources(&wire.key_sources));
        let acts_for: Vec<_> = wire
            .clients
            .iter()
            .enumerate()
            .map(|(at, client)| (format!("clients[{at}].may_act_for"), client.may_act_for.clone()))
            .collect();
        let names = wire.clients.iter().map(|client| client.name.clone()).collect();
        self.check_acts_for(&acts_for, &names, wire.queue.is_some());
        let (mut clients, roster) =
            self.clients(wire.clients, nobody, &mut definitions, wire.metrics.clients_max);
        self.told.iter().for_each(|by| clients.tell(by));
        let region = wire.store.as_ref().and_then(|store| store.redis.region.as_deref());
        let queue = self.queue(wire.queue.as_ref(), store.as_ref(), region);
        let labels_max = wire.metrics.clients_max;
        let keys = clients.keys().map(|(key, client)| (*key, client.name.text.clone()));
        let configured = (roster.as_slice(), keys.collect());
        let directed =
            self.directory(wire.directory.as_ref(), store.as_ref(), configured, definitions, labels_max);
        let joined = directed.map(|Directed { source, joined }| {
            match source {
                Source::Issued(issued) => clients.look_up_in(issued),
                Source::Documented(documented) => clients.read_document(documented),
            }
            // A client that comes later may have limits by it.
            clients.tell(&By::Key);
            joined
        });
        let mut credential_headers: Vec<String> = backends
            .values()
            .flatten()
            .filter_map(|backend| backend.credential.as_ref())
            .map(|credential| credential.header.clone())
            .collect();
        sorting::sort(&mut credential_headers);
        credential_headers.dedup();
        let by_header = clients.header_names().map(str::to_owned);
        let own: Vec<_> = credential_headers.iter().cloned().chain(by_header).collect();
        let pass_headers = self.passing("pass_headers", &wire.pass_headers, Way::ToBackends, &own);
        let pass_answer_headers =
            self.passing("pass_answer_headers", &wire.pass_answer_headers, Way::ToClients, &[]);
        let on_store_failure = self.on_store_failure(wire.on_store_failure);
        let precedences = self.precedences(&wire.priorities);
        let waiting_max = self.waiting_max(&wire.priorities);
        let lowering = self.lowering(&wire.priorities);
        let (realtime, responses) =
            wire.websocket.map_or((None, None), |wire| (wire.realtime, wire.responses));
        let responses_socket = responses.map(|responses| self.responses_socket(&responses, &by_name));
        let gateway = Gateway {
            precedences,
            lowering,
            unidentified_bytes: Rc::new(HeldBytes::new(HELD_BYTES_MAX)),
            waiting_max,
            clients,
            roster,
            joined,
            group_accounts,
            by_name,
            models,
            other,
            other_paths,
            speaks_anthropic,
            pinning,
            routing,
            store,
            queue,
            on_store_failure,
            accesses: std::mem::take(&mut self.accesses),
            credential_headers,
            pass_headers,
            pass_answer_headers,
            health_open: matches!(wire.health, wire::Health::Open),
            record_form: match wire.record {
                wire::Record::Fields => RecordForm::Fields,
                wire::Record::Line => RecordForm::Line { is_typed: false },
                wire::Record::TypedLine => RecordForm::Line { is_typed: true },
            },
            record_users_as_text: matches!(wire.record_users, wire::RecordUsers::Value),
            realtime: realtime.map(|realtime| realtime.when_exhausted.into()),
            responses_socket,
            failing: Failing::default(),
            sha256: String::new(),
            since: Duration::ZERO,
        };
        self.errors.is_empty().then_some(gateway)
    }
}

/// Names for a sentence, sorted.
fn one_of<S: AsRef<str>>(names: impl Iterator<Item = S>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("{:?}", name.as_ref())).collect();
    sorting::sort(&mut names);
    match names.as_slice() {
        [] => "one, but there is none".to_owned(),
        [only] => only.clone(),
        _ => format!("one of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;

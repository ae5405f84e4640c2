//! What does an entry of the directory mean?
//!
//! It says whose a key is, and what of that its client may it may: in the words of `clients[]`, and checked as those are. It can
//! only take away. What its client may not is no fault of an entry, for a later configuration may have taken it from the client:
//! it is told, so that whoever writes the entry can be.

use super::super::limits::met;
use super::super::limits::wire::Limit;
use super::super::priorities::of_wire as priority_of;
use super::super::priorities::wire::Priority;
use super::super::ways_in::validity;
use super::super::{Build, ConfigError, ModelsByName, Policies, one_of, reading, shape};
use crate::allowance::Whose;
use crate::endpoint::Operation;
use crate::gateway::{ActsFor, Client, Joined, Permitted};
use crate::identity::issued::{Entry, Meaning, Problem, Said};
use crate::identity::{KeyHash, Known, Validity};
use crate::limits::Split;
use crate::policy::{Mode, Policy};
use crate::store::Store;
use crate::value::By;
use serde::Deserialize;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// The path of all of an entry.
const WHOLE: &str = "entry";

/// The longest entry, in bytes: each that is in use is kept in every worker.
const ENTRY_BYTES_MAX: usize = 4096;

/// An entry that narrows counts for so many that do not, and for one more with each so many bytes, and with each so many models that
/// it comes to: `gpt-*` is short, and may be all that there are.
const NARROWED_WEIGHT: usize = 4;

/// The same of an entry whose client stands in the store too, by the bytes of that one's entry and its models.
const JOINED_WEIGHT: usize = 8;
const BYTES_OF_WEIGHT: usize = 32;
const MODELS_OF_WEIGHT: usize = 4;

/// A key as it stands in the store, under its SHA-256. `tollgate keys` writes it.
#[cfg_attr(feature = "schema", derive(serde::Serialize))]
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The client whose key it is.
    pub client: String,
    /// From when it is good, as in the configuration.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub not_before: Option<String>,
    /// Until just before when.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub not_after: Option<String>,
    /// When it was issued, for people.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub issued: Option<String>,
    /// What an operator has noted, for people.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub note: Option<String>,
    /// The models that it may call, of those that its client may.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub models: Option<Vec<String>>,
    /// What it may spend, beside what its client may: limits of its own.
    #[serde(default)]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Vec::is_empty"))]
    pub limits: Vec<Value>,
    /// The policy that it is held to, beside its client's.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub policy: Option<String>,
    /// The only regions that may serve it, of those that may serve its client.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub regions: Option<Vec<String>>,
    /// Who goes first; never before its client.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub priority: Option<String>,
}

/// What an entry takes away, in words that can be told and compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Narrowing<'e> {
    /// See [`KeyEntry`].
    pub models: Option<&'e [String]>,
    /// Likewise.
    pub limits: &'e [Value],
    /// Likewise.
    pub policy: Option<&'e str>,
    /// Likewise.
    pub regions: Option<&'e [String]>,
    /// Likewise.
    pub priority: Option<&'e str>,
}

impl Narrowing<'_> {
    /// Its key may what its client may.
    pub const NONE: Self = Self { models: None, limits: &[], policy: None, regions: None, priority: None };
}

/// An entry whose limits and priority have been read too.
struct Checked<'e> {
    entry: &'e KeyEntry,
    limits: Vec<Limit>,
    priority: Option<Priority>,
}

impl KeyEntry {
    /// Reads what stands in the store, and checks all that can be without a configuration.
    pub fn read(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            let problem = format!("{} bytes: expected at most {ENTRY_BYTES_MAX}", bytes.len());
            return Err(fault(WHOLE, problem));
        }
        let value = serde_json::from_slice(bytes).map_err(|error| fault(WHOLE, error.to_string()))?;
        let entry: Self = reading::read(&value).map_err(|fault| shape(fault, WHOLE))?;
        entry.checked()?;
        Ok(entry)
    }

    /// When it is good.
    pub fn validity(&self) -> Result<Validity, ConfigError> {
        validity(self.not_before.as_deref(), self.not_after.as_deref())
            .map_err(|(field, problem)| fault(field, problem))
    }

    /// What it takes away.
    #[must_use]
    pub fn narrowing(&self) -> Narrowing<'_> {
        Narrowing {
            models: self.models.as_deref(),
            limits: &self.limits,
            policy: self.policy.as_deref(),
            regions: self.regions.as_deref(),
            priority: self.priority.as_deref(),
        }
    }

    fn checked(&self) -> Result<Checked<'_>, ConfigError> {
        let limit = |(at, limit)| {
            let path = format!("limits[{at}]");
            reading::read::<Limit>(limit).map_err(|fault| {
                let ConfigError { path: within, problem } = shape(fault, "");
                let dot = if within.is_empty() { "" } else { "." };
                ConfigError { path: format!("{path}{dot}{within}"), problem }
            })
        };
        let limits = self.limits.iter().enumerate().map(limit).collect::<Result<Vec<_>, _>>()?;
        let mut build = Build::bare();
        for (at, limit) in limits.iter().enumerate() {
            build.measure(&format!("limits[{at}]"), limit);
            if let Some(first) = build.errors.pop() {
                return Err(first);
            }
            if limit.by.is_some() {
                let problem = "a limit of a key is the key's alone: expected no by";
                return Err(fault(&format!("limits[{at}].by"), problem));
            }
            if !limit.alerts.is_empty() {
                let problem = "nobody is told of a key's limit: expected a limit of its client";
                return Err(fault(&format!("limits[{at}].alerts"), problem));
            }
        }
        let priority = self
            .priority
            .as_deref()
            .map(|word| reading::read(&Value::from(word)).map_err(|found| shape(found, "priority")));
        Ok(Checked { entry: self, limits, priority: priority.transpose()? })
    }
}

fn fault(path: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError { path: path.to_owned(), problem: problem.into() }
}

/// The policies that a client is held to: all of its models', and those of some.
type Held = (Rc<Policy>, Rc<HashMap<Rc<str>, Rc<Policy>>>);

/// What entries may name.
pub(super) struct Around {
    pub(super) clients: HashMap<Rc<str>, Rc<Client>>,
    /// Those beside the configuration.
    pub(super) joined: Rc<Joined>,
    pub(super) policies: Policies,
    pub(super) by_name: ModelsByName,
    pub(super) regions: BTreeSet<Rc<str>>,
    /// Policies of clients together with those of keys, by the names of both: no more than the configuration has.
    pub(super) held: RefCell<HashMap<(Rc<str>, String), Held>>,
}

impl Around {
    /// Whose key this is by what was said of it, and what it may.
    pub(super) fn read(
        &self,
        hash: &KeyHash,
        said: Said<'_>,
        store: &dyn Store,
    ) -> Result<Meaning<Client>, Problem> {
        let of_key = |fault: ConfigError| Problem::OfKey(fault.to_string());
        let entry = KeyEntry::read(said.entry).map_err(of_key)?;
        let name = entry.client.as_str();
        if let Some(whole) = self.clients.get(name) {
            return self
                .of_client(hash, (&entry, said.entry.len()), whole)
                .map(Meaning::Whole)
                .map_err(of_key);
        }
        let text = match said.client {
            Some((asked, text)) if asked == name => text,
            _ => return Ok(Meaning::Lacks(name.into())),
        };
        let text = text.ok_or_else(|| {
            // Not who there is: the log of a big configuration would be long.
            let problem = format!("no client of the configuration is named {name:?}, and none of the store");
            of_key(fault("client", problem))
        })?;
        let of_client = |(problem, is_news)| Problem::OfClient(format!("{name:?}: {problem}"), is_news);
        let whole = self.joined.hear(name, text, store).map_err(of_client)?;
        let found = self.of_client(hash, (&entry, said.entry.len()), &whole).map_err(of_key)?;
        let models = match &*whole.models {
            Permitted::All => 0,
            Permitted::Named(names) => names.len(),
        };
        let weight = JOINED_WEIGHT + text.len() / BYTES_OF_WEIGHT + models / MODELS_OF_WEIGHT;
        let found = Entry { weight: found.weight + weight, joined: Some(whole.name.text.clone()), ..found };
        Ok(Meaning::Whole(found))
    }

    fn of_client(
        &self,
        hash: &KeyHash,
        (entry, bytes): (&KeyEntry, usize),
        whole: &Rc<Client>,
    ) -> Result<Entry<Client>, ConfigError> {
        let validity = entry.validity()?;
        if entry.narrowing() == Narrowing::NONE {
            let known = Known::whole(whole.clone());
            return Ok(Entry { validity, known, weight: 1, beyond: Vec::new(), joined: None });
        }
        let mut build = Narrow { build: Build::bare(), around: self, whole, beyond: Vec::new(), models: 0 };
        let client = Rc::new(build.client(&entry.checked()?, hash));
        let Narrow { build, beyond, models, .. } = build;
        if let Some(first) = build.errors.into_iter().next() {
            return Err(first);
        }
        Ok(Entry {
            validity,
            known: Known { client, whole: whole.clone() },
            weight: NARROWED_WEIGHT + bytes / BYTES_OF_WEIGHT + models / MODELS_OF_WEIGHT,
            beyond: beyond.iter().map(ToString::to_string).collect(),
            joined: None,
        })
    }
}

/// What a key may of what its client may.
struct Narrow<'n> {
    build: Build<'n>,
    around: &'n Around,
    whole: &'n Client,
    /// What the entry names that its client may not.
    beyond: Vec<ConfigError>,
    /// How many names of models are kept for it.
    models: usize,
}

impl Narrow<'_> {
    fn client(&mut self, checked: &Checked<'_>, hash: &KeyHash) -> Client {
        let Checked { entry, limits, priority } = checked;
        let whole = self.whole;
        let models = entry.models.as_ref().and_then(|names| self.models(names));
        let is_less = models.is_some();
        let models = models.map_or_else(|| whole.models.clone(), |models| Rc::new(Permitted::Named(models)));
        let by_name = &self.around.by_name;
        let (allowances, money) = self.build.allowances("limits", limits, &Whose::Client, by_name);
        for model in met(&models, by_name) {
            self.build.has_prices(&money, &model);
        }
        let of_limits = allowances.iter().filter_map(|allowance| allowance.scope.models.as_ref());
        self.models += of_limits.map(Vec::len).sum::<usize>();
        let budget = if allowances.is_empty() {
            whole.budget.clone()
        } else {
            let allowances = allowances.into_iter().map(|allowance| allowance.by(By::Key)).collect();
            Rc::new(whole.budget.and(Split::of_key_alone(&whole.name.text, hash.bytes(), allowances)))
        };
        let (policy, policy_by_model) = match &entry.policy {
            Some(name) => self.policies(name),
            None => (whole.policy.clone(), whole.policy_by_model.clone()),
        };
        let mut endpoints = whole.endpoints.clone();
        let (mut policy, mut policy_by_model) = (policy, policy_by_model);
        if is_less {
            // There, and in these fields, it could name a model that it may not call.
            endpoints.retain(|operation| *operation != Operation::Other);
            policy = policy.naming_no_models();
            if policy_by_model.values().any(|policy| policy.lets_name_models()) {
                let each = policy_by_model.iter();
                let each = each.map(|(model, policy)| (model.clone(), policy.clone().naming_no_models()));
                policy_by_model = Rc::new(each.collect());
            }
        }
        let asked = priority.map_or(whole.priority, priority_of);
        if asked < whole.priority {
            let (asked, own) = (asked.word(), whole.priority.word());
            self.exceed("priority", format!("{asked:?} goes before its client, which has {own:?}"));
        }
        let regions = entry.regions.as_ref().map(|names| self.regions(names));
        Client {
            // A worker's credential is the configuration's matter.
            acts_for: ActsFor::These(HashSet::new()),
            name: whole.name.clone(),
            group: whole.group.clone(),
            models,
            endpoints,
            policy,
            audits: whole.audits.clone(),
            policy_by_model,
            budget,
            priority: asked.max(whole.priority),
            spills: whole.spills,
            regions: regions.or_else(|| whole.regions.clone()),
            operator: whole.operator,
            held_bytes: whole.held_bytes.clone(),
        }
    }

    fn exceed(&mut self, path: impl Into<String>, problem: String) {
        self.beyond.push(ConfigError { path: path.into(), problem });
    }

    /// Those of its client's that are meant; `None` for all of them. `*`, and a name that ends with it, mean none but its client's.
    fn models(&mut self, names: &[String]) -> Option<HashSet<Rc<str>>> {
        let own: HashSet<Rc<str>> = met(&self.whole.models, &self.around.by_name)
            .iter()
            .map(|model| model.name.text.clone())
            .collect();
        if names.iter().any(|name| name == "*") {
            return None;
        }
        let mut meant = HashSet::new();
        for (at, name) in names.iter().enumerate() {
            let is_meant = |known: &str| match name.strip_suffix('*') {
                Some(prefix) => known.starts_with(prefix),
                None => known == name,
            };
            let known = self.around.by_name.iter().filter(|(known, _)| is_meant(known));
            let found: Vec<_> =
                known.map(|(_, model)| model.name.text.clone()).filter(|model| own.contains(model)).collect();
            if found.is_empty() {
                let problem =
                    format!("{name:?} is no model that its client may call: expected {}", one_of(own.iter()));
                self.exceed(format!("models[{at}]"), problem);
            }
            meant.extend(found);
        }
        if meant.is_empty() {
            let problem = format!("none that its client may call: expected {}", one_of(own.iter()));
            self.build.fault("models".to_owned(), problem);
        }
        self.models += meant.len();
        Some(meant)
    }

    fn regions(&mut self, names: &[String]) -> Vec<Rc<str>> {
        let own: Vec<Rc<str>> = match &self.whole.regions {
            Some(own) => own.clone(),
            None => self.around.regions.iter().cloned().collect(),
        };
        let (mut meant, known) = (Vec::new(), one_of(own.iter()));
        for (at, name) in names.iter().enumerate() {
            match own.iter().find(|region| ***region == **name) {
                Some(region) => meant.push(region.clone()),
                None => {
                    let problem =
                        format!("{name:?} is no region that may serve its client: expected {known}");
                    self.exceed(format!("regions[{at}]"), problem);
                }
            }
        }
        if meant.is_empty() {
            let problem = format!("none that may serve its client: expected {known}");
            self.build.fault("regions".to_owned(), problem);
        }
        meant
    }

    /// What holds if this policy does and its client's.
    fn policies(&mut self, name: &str) -> Held {
        let at = (self.whole.name.text.clone(), name.to_owned());
        if let Some(held) = self.around.held.borrow().get(&at) {
            return held.clone();
        }
        let other = self.build.policy_named("policy".to_owned(), name, &self.around.policies);
        if other.mode == Mode::Audit {
            let problem = format!("{name:?} only looks on: expected a policy that is enforced");
            self.build.fault("policy".to_owned(), problem);
        }
        let mut both = |policy: &Policy| match policy.narrowed_by(&other) {
            Ok(both) => Rc::new(both),
            Err(rule) => {
                let problem = format!(
                    "{name:?} and its client's policy allow nothing of {rule} together: expected a policy that leaves something"
                );
                self.build.fault("policy".to_owned(), problem);
                Rc::default()
            }
        };
        let policy = both(&self.whole.policy);
        let by_model = self.whole.policy_by_model.iter();
        let by_model = by_model.map(|(model, policy)| (model.clone(), both(policy))).collect();
        let held = (policy, Rc::new(by_model));
        // One that stands in the store may be another by its next look-up.
        if self.build.errors.is_empty() && self.around.clients.contains_key(&self.whole.name.text) {
            self.around.held.borrow_mut().insert(at, held.clone());
        }
        held
    }
}

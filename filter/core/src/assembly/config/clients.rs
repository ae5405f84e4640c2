//! Who may call, and what is theirs.

pub(super) mod wire;

use super::limits::Groups;
use super::metrics::labelled;
use super::priorities;
use super::{Build, ModelsByName, Policies, one_of};
use crate::endpoint::Operation;
use crate::gateway::{Audit, Client, HELD_BYTES_MAX, HeldBytes, Permitted};
use crate::identity::Directory;
use crate::ledger::Name;
use crate::limits::Budget;
use crate::policy::{Mode, Policy};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// The most bytes of bodies that may be configured to be held for one client: 1 GiB.
const HELD_BYTES_CEILING: usize = 1024 * 1024 * 1024;

/// What clients may name.
pub(super) struct Definitions<'k> {
    pub(super) policies: &'k Policies,
    pub(super) by_name: &'k ModelsByName,
    pub(super) regions: BTreeSet<Rc<str>>,
    pub(super) groups: Groups,
}

impl Build<'_> {
    pub(super) fn clients(
        &mut self,
        wire: Vec<wire::Client>,
        mut clients: Directory<Client>,
        definitions: &mut Definitions<'_>,
        labels_max: usize,
    ) -> (Directory<Client>, Vec<Rc<Client>>) {
        let mut roster = Vec::new();
        let mut names = HashSet::new();
        // They may come to the directory.
        if wire.is_empty() && !self.has_directory {
            self.fault("clients".to_owned(), "empty: expected at least one client, or nobody can call");
        }
        for (at, client) in wire.into_iter().enumerate() {
            let path = format!("clients[{at}]");
            let name = self.name(format!("{path}.name"), &client.name);
            if !names.insert(client.name.clone()) {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", client.name));
            }
            let built = Rc::new(self.client(&path, labelled(name, at, labels_max), &client, definitions));
            self.ways_in(&mut clients, &path, &client, &built);
            roster.push(built);
        }
        (clients, roster)
    }

    pub(super) fn client(
        &mut self,
        path: &str,
        name: Name,
        wire: &wire::Client,
        definitions: &mut Definitions<'_>,
    ) -> Client {
        let Definitions { policies, by_name, regions, groups } = definitions;
        let policy = match &wire.policy {
            None => Rc::default(),
            Some(policy) => self.policy_named(format!("{path}.policy"), policy, policies),
        };
        let audits = wire.audit_policy.iter().enumerate().map(|(at, name)| {
            let policy = self.policy_named(format!("{path}.audit_policy[{at}]"), name, policies);
            Audit { name: name.as_str().into(), policy: Policy { mode: Mode::Audit, ..(*policy).clone() } }
        });
        let audits: Rc<[Audit]> = audits.collect();
        let path_by_model = format!("{path}.policy_by_model");
        let policy_by_model = self.policy_by_model(&path_by_model, &wire.policy_by_model, policies, by_name);
        let models = self.permitted(&format!("{path}.models"), &wire.models, by_name);
        let own = self.account(&format!("{path}.limits"), wire, &models, by_name);
        let group = wire
            .group
            .as_ref()
            .and_then(|group| self.join(format!("{path}.group"), group, groups, &models, by_name));
        let priority = priorities::of_wire(wire.priority);
        let (accounts, splits): (Vec<_>, Vec<_>) =
            [Some(own), group].into_iter().flatten().map(|limits| (limits.account, limits.splits)).unzip();
        let budget = Budget::new(accounts).with(splits.into_iter().flatten());
        let home = wire.regions.as_ref();
        let held_bytes_max = wire.held_bytes_max;
        let mut client = Client {
            name,
            group: wire.group.as_deref().map(Rc::from),
            models: Rc::new(models),
            endpoints: self.endpoints(&format!("{path}.endpoints"), wire.endpoints.as_deref()),
            policy,
            audits,
            policy_by_model: Rc::new(policy_by_model),
            budget: Rc::new(budget),
            priority,
            spills: wire.spill != wire::Spilling::Never,
            operator: wire.operator,
            regions: home.map(|home| self.regions(&format!("{path}.regions"), home, regions)),
            acts_for: self.acts_for(&wire.may_act_for),
            held_bytes: Rc::default(),
        };
        let longest = client.request_bytes_max();
        let held_bytes_max = held_bytes_max.unwrap_or(HELD_BYTES_MAX.max(longest));
        if !(longest..=HELD_BYTES_CEILING).contains(&held_bytes_max) {
            let problem = format!(
                "{held_bytes_max}: expected {longest}, its longest `request_bytes_max`, to {HELD_BYTES_CEILING}"
            );
            self.fault(format!("{path}.held_bytes_max"), problem);
        }
        client.held_bytes = Rc::new(HeldBytes::new(held_bytes_max));
        client
    }

    fn regions(&mut self, path: &str, wire: &[String], known: &BTreeSet<Rc<str>>) -> Vec<Rc<str>> {
        if wire.is_empty() {
            self.fault(path.to_owned(), "empty: expected at least one region, or no such field for anywhere");
        }
        for (at, name) in wire.iter().enumerate() {
            if !known.contains(name.as_str()) {
                let problem = format!("no backend is in region {name:?}: expected {}", one_of(known.iter()));
                self.fault(format!("{path}[{at}]"), problem);
            }
        }
        wire.iter().map(|name| name.as_str().into()).collect()
    }

    pub(super) fn policy_named(&mut self, path: String, name: &str, policies: &Policies) -> Rc<Policy> {
        policies.get(name).cloned().unwrap_or_else(|| {
            self.fault(path, format!("no policy is named {name:?}: expected {}", one_of(policies.keys())));
            Rc::default()
        })
    }

    fn policy_by_model(
        &mut self,
        path: &str,
        wire: &BTreeMap<String, String>,
        policies: &Policies,
        by_name: &ModelsByName,
    ) -> HashMap<Rc<str>, Rc<Policy>> {
        let mut found = HashMap::new();
        for (model, policy) in wire {
            let path = format!("{path}.{model}");
            let policy = self.policy_named(path.clone(), policy, policies);
            let Some(model) = by_name.get(model.as_str()) else {
                let known = one_of(by_name.keys());
                self.fault(path, format!("no model is named {model:?}: expected {known}"));
                continue;
            };
            if found.insert(model.name.text.clone(), policy).is_some() {
                self.fault(path, format!("is model {:?}, which has a policy here already", model.name.text));
            }
        }
        found
    }

    /// Names stand for themselves, `gpt-4*` for all that begin like that, `*` for all.
    pub(super) fn permitted(&mut self, path: &str, wire: &[String], by_name: &ModelsByName) -> Permitted {
        if wire.iter().any(|name| name == "*") {
            return Permitted::All;
        }
        let mut names = HashSet::new();
        for (at, name) in wire.iter().enumerate() {
            let is_meant = |known: &str| match name.strip_suffix('*') {
                Some(prefix) => known.starts_with(prefix),
                None => known == name,
            };
            let meant = by_name.iter().filter(|(known, _)| is_meant(known));
            let meant: HashSet<_> = meant.map(|(_, model)| model.name.text.clone()).collect();
            if meant.is_empty() {
                let problem =
                    if name.ends_with('*') { "no model's name begins like" } else { "no model is named" };
                let known = one_of(by_name.keys().map(|name| name.as_ref()).chain(["*"]));
                self.fault(format!("{path}[{at}]"), format!("{problem} {name:?}: expected {known}"));
            }
            names.extend(meant);
        }
        if wire.is_empty() {
            self.fault(path.to_owned(), "empty: expected at least one model, or \"*\" for all");
        }
        Permitted::Named(names)
    }

    /// `*` stands for all that have a name. The others share what is one client's with all, so they are only for those who
    /// are told so.
    fn endpoints(&mut self, path: &str, wire: Option<&[String]>) -> Vec<Operation> {
        let Some(wire) = wire else { return Operation::NAMED.to_vec() };
        let mut endpoints = Vec::new();
        for (at, word) in wire.iter().enumerate() {
            match Operation::of_word(word) {
                Some(operation) => endpoints.push(operation),
                None if word == "*" => endpoints.extend(Operation::NAMED),
                None => {
                    let words = Operation::NAMED.map(Operation::word);
                    let known = one_of(words.into_iter().chain([Operation::Other.word(), "*"]));
                    self.fault(
                        format!("{path}[{at}]"),
                        format!("no endpoint is named {word:?}: expected {known}"),
                    );
                }
            }
        }
        if wire.is_empty() {
            self.fault(
                path.to_owned(),
                "empty: expected at least one endpoint, or none at all for the default",
            );
        }
        endpoints
    }
}

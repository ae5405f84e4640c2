//! Who may call, and what is theirs.

use super::limits::Groups;
use super::{Build, ModelsByName, Policies, labelled, one_of, wire};
use crate::capacity::Priority;
use crate::gateway::{Client, Permitted};
use crate::identity::{Directory, KeyHash};
use crate::limits::Budget;
use crate::policy::Policy;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

impl Build<'_> {
    pub(super) fn clients(
        &mut self,
        wire: Vec<wire::Client>,
        policies: &Policies,
        by_name: &ModelsByName,
        known_regions: &BTreeSet<Rc<str>>,
        groups: &mut Groups,
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
                Some(policy) => self.policy_named(format!("{path}.policy"), policy, policies),
            };
            let path_by_model = format!("{path}.policy_by_model");
            let policy_by_model =
                self.policy_by_model(&path_by_model, &client.policy_by_model, policies, by_name);
            let models = self.permitted(&format!("{path}.models"), &client.models, by_name);
            let account = self.account(&format!("{path}.limits"), &client, &models, by_name);
            let group = client
                .group
                .as_ref()
                .and_then(|group| self.join(format!("{path}.group"), group, groups, &models, by_name));
            let budget = Rc::new(Budget::new([Some(account), group].into_iter().flatten()));
            let name = labelled(name, at, labels_max);
            let priority = match client.priority {
                wire::Priority::High => Priority::High,
                wire::Priority::Normal => Priority::Normal,
                wire::Priority::Low => Priority::Low,
            };
            let regions = client
                .regions
                .as_ref()
                .map(|regions| self.regions(&format!("{path}.regions"), regions, known_regions));
            let built = Rc::new(Client { name, models, policy, policy_by_model, budget, priority, regions });
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

    fn policy_named(&mut self, path: String, name: &str, policies: &Policies) -> Rc<Policy> {
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

    pub(super) fn permitted(&mut self, path: &str, wire: &[String], by_name: &ModelsByName) -> Permitted {
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
}

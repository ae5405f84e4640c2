//! Does the Envoy around a configuration do its part?
//!
//! Only what can be seen in the same file, and what Envoy itself does not refuse: it starts, and serves wrongly.

mod chain;
mod store;

use crate::source::{Found, Loaded};
use serde_json::Value;
use std::collections::BTreeSet;
use tollgate::gateway::Gateway;

/// What is wrong around it, and what was expected.
pub(crate) fn faults(found: &Found, loaded: &Loaded) -> Vec<String> {
    let mut faults = Vec::new();
    if found.around.is_null() {
        return faults;
    }
    let roles = |role: &str| every(&found.around, &|value| value["root_id"] == role);
    for gateway in roles("gateway") {
        if gateway["allow_on_headers_stop_iteration"] != true {
            faults.push(
                "the filter with root_id gateway: expected allow_on_headers_stop_iteration: true".to_owned(),
            );
        }
        for attempt in roles("attempt") {
            if attempt["vm_config"] != gateway["vm_config"] {
                faults.push(
                    "the vm_config of both filters differs: expected the same, for they share one VM"
                        .to_owned(),
                );
            }
        }
        let keys = &gateway["vm_config"]["environment_variables"]["host_env_keys"];
        let passed: BTreeSet<_> = keys.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for name in loaded.variables.iter().filter(|name| !passed.contains(name.as_str())) {
            faults.push(format!("vm_config.environment_variables.host_env_keys: expected {name} among them"));
        }
    }
    if let Ok(gateway) = &loaded.gateway {
        faults.extend(clusters(&found.around, gateway));
        faults.extend(chain::faults(found, gateway));
        faults.extend(gateway.store.iter().flat_map(|store| store::faults(&found.around, store)));
    }
    faults.sort();
    faults.dedup();
    faults
}

/// Backends that Envoy does not know, where it says which it knows.
fn clusters(around: &Value, gateway: &Gateway) -> Vec<String> {
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
        names.map(str::to_owned).collect()
    };
    let lists = |name: &str| every(around, &|value| value.get(name).is_some());
    let resources = if has_more_clusters(around) { Vec::new() } else { lists("static_resources") };
    let clusters: Vec<_> =
        resources.iter().flat_map(|around| names(&around["static_resources"]["clusters"])).collect();
    let groups: Vec<_> =
        lists("priority_groups").iter().flat_map(|route| names(&route["priority_groups"])).collect();
    let targets = gateway.models.iter().flat_map(|model| &model.targets).chain(&gateway.other);
    let wanted: BTreeSet<_> = targets.map(|target| &*target.backend.cluster).collect();
    let mut faults = Vec::new();
    for (known, what) in [(&clusters, "static_resources.clusters"), (&groups, "priority_groups of the route")]
    {
        let missing =
            wanted.iter().filter(|name| !known.is_empty() && !known.iter().any(|known| known == *name));
        faults.extend(missing.map(|name| format!("{what}: expected one with the name {name:?}")));
    }
    faults
}

/// Whether Envoy asks for clusters elsewhere: then those in this document are not all.
fn has_more_clusters(around: &Value) -> bool {
    !every(around, &|value| value.get("cds_config").is_some()).is_empty()
}

/// Every object in it that is so.
fn every<'v>(value: &'v Value, is_it: &dyn Fn(&Value) -> bool) -> Vec<&'v Value> {
    let inside: Vec<&Value> = match value {
        Value::Object(members) => members.values().collect(),
        Value::Array(values) => values.iter().collect(),
        _ => return Vec::new(),
    };
    let this = (value.is_object() && is_it(value)).then_some(value);
    this.into_iter().chain(inside.into_iter().flat_map(|value| every(value, is_it))).collect()
}

//! Does the Envoy around a configuration do its part?
//!
//! Only what can be seen in the same file, and what Envoy itself does not refuse: it starts, and serves wrongly.

mod chain;
mod clusters;
mod filters;
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
    let places = filters::places(found);
    for place in &places {
        let said = filters_of(place, &found.around, loaded).into_iter();
        faults.extend(said.map(|fault| format!("{}{fault}", place.of)));
    }
    if let Ok(gateway) = &loaded.gateway {
        for place in &places {
            let said = [
                filters::faults(place, &found.around, gateway),
                chain::routes(place, &found.around, gateway),
                groups(place, &found.around, gateway),
            ];
            faults.extend(said.into_iter().flatten().map(|fault| format!("{}{fault}", place.of)));
        }
        faults.extend(chain::labels(&found.around));
        faults.extend(known(&found.around, gateway));
        faults.extend(clusters::faults(found, gateway));
        faults.extend(gateway.store.iter().flat_map(|store| store::faults(&found.around, store)));
    }
    faults.sort();
    faults.dedup();
    faults
}

/// What the filters themselves say.
fn filters_of(place: &filters::Place<'_>, around: &Value, loaded: &Loaded) -> Vec<String> {
    let mut faults = Vec::new();
    let roles = |role: &str| every(place.inside, &|value| value["root_id"] == role);
    let is_attempt = |value: &Value| value["root_id"] == "attempt";
    for gateway in roles("gateway") {
        if gateway["allow_on_headers_stop_iteration"] != true {
            faults.push(
                "the filter with root_id gateway: expected allow_on_headers_stop_iteration: true".to_owned(),
            );
        }
        // Clusters may have it, too.
        let of_clusters = every(around, &|value| value.get("typed_extension_protocol_options").is_some());
        let of_clusters = of_clusters.into_iter().flat_map(|cluster| every(cluster, &is_attempt));
        for attempt in roles("attempt").into_iter().chain(of_clusters) {
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
    faults
}

/// The clusters of the backends.
fn wanted(gateway: &Gateway) -> BTreeSet<&str> {
    let targets = gateway.models.iter().flat_map(|model| &model.targets).chain(&gateway.other);
    targets.map(|target| &*target.backend.cluster).collect()
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str())
}

/// Backends that are not among these, unless none is.
fn missing(known: &BTreeSet<&str>, what: &str, gateway: &Gateway) -> Vec<String> {
    let missing = wanted(gateway).into_iter().filter(|name| !known.is_empty() && !known.contains(name));
    missing.map(|name| format!("{what}: expected one with the name {name:?}")).collect()
}

/// Backends that Envoy does not know, where it says which it knows.
fn known(around: &Value, gateway: &Gateway) -> Vec<String> {
    if has_more_clusters(around) {
        return Vec::new();
    }
    let resources = every(around, &|value| value.get("static_resources").is_some());
    let known = resources.iter().flat_map(|one| names(&one["static_resources"]["clusters"])).collect();
    missing(&known, "static_resources.clusters", gateway)
}

/// Backends that the order may name and the route does not know.
fn groups(place: &filters::Place<'_>, around: &Value, gateway: &Gateway) -> Vec<String> {
    let (tables, _) = chain::tables(place, around);
    let lists: Vec<_> = tables
        .into_iter()
        .flat_map(|table| every(table, &|value| value.get("priority_groups").is_some()))
        .map(|route| names(&route["priority_groups"]).collect::<Vec<_>>())
        .collect();
    let mut faults =
        missing(&lists.iter().flatten().copied().collect(), "priority_groups of the route", gateway);
    let order = &gateway.routing.order;
    let differs = |list: &&Vec<&str>| {
        !order.iter().map(|cluster| &**cluster).eq(list.iter().copied().take(order.len()))
    };
    faults.extend(lists.iter().find(differs).map(|list| {
        format!(
            "priority_groups of the route are {}: expected them to begin with {}, as routing.order says",
            list.join(", "),
            order.join(", ")
        )
    }));
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

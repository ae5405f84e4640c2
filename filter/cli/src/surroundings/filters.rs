//! Do the filters around a configuration do their part: who fits each attempt, what brings the order to the route, what takes
//! headers from clients, and what follows a trap?
//!
//! Of two listeners each needs all of it, so each connection manager is looked at alone.

use super::every;
use crate::source::Found;
use serde_json::{Value, json};
use tollgate::gateway::Gateway;
use tollgate::route::Fitted;

/// The header by which the order comes to the route.
const CANDIDATES: &str = "x-tollgate-candidates";

/// What no client may say: its prefixes, and what it could do by them.
const INTERNAL: [(&str, &str); 2] = [
    ("x-envoy-", "a client could set Envoy's own time limits and retries before Tollgate takes them out"),
    ("x-tollgate-", "a client could set headers of Tollgate's"),
];

/// Where the filters of one configuration are: in a connection manager, or in all that patches one.
pub(super) struct Place<'v> {
    /// Which it is, where several are here.
    pub(super) of: String,
    pub(super) inside: &'v Value,
    /// Whether it is a connection manager, and not patches.
    pub(super) is_manager: bool,
}

/// The connection managers that have this configuration; where none is here, all that there is.
pub(super) fn places(found: &Found) -> Vec<Place<'_>> {
    let around = &found.around;
    let has = |manager: &Value, is_it: &dyn Fn(&Value) -> bool| {
        manager["http_filters"].is_array() && !every(&manager["http_filters"], is_it).is_empty()
    };
    let managers = |is_it: &dyn Fn(&Value) -> bool| every(around, &|value| has(value, is_it));
    let are_several = managers(&is_gateway).len() > 1;
    let listeners = every(around, &|value| value.get("filter_chains").is_some());
    let own: Vec<_> = managers(&|value| is_gateway(value) && has_value(value, &found.value))
        .into_iter()
        .map(|manager| Place {
            of: named(manager, &listeners, are_several),
            inside: manager,
            is_manager: true,
        })
        .collect();
    if own.is_empty() { vec![Place { of: String::new(), inside: around, is_manager: false }] } else { own }
}

/// Which connection manager it is, where several are here.
fn named(manager: &Value, listeners: &[&Value], are_several: bool) -> String {
    let is_in = |value: &Value| std::ptr::eq(value, manager);
    let has = |value: &Value| !every(value, &is_in).is_empty();
    let Some(listener) = listeners.iter().find(|listener| are_several && has(listener)) else {
        return String::new();
    };
    let chains = listener["filter_chains"].as_array().filter(|chains| chains.len() > 1);
    match chains.and_then(|chains| chains.iter().position(has)) {
        Some(chain) => format!("listener {}, filter_chains[{chain}]: ", listener["name"]),
        None => format!("listener {}: ", listener["name"]),
    }
}

fn is_gateway(value: &Value) -> bool {
    value["root_id"] == "gateway"
}

/// Whether a filter has this configuration, also as a text.
fn has_value(filter: &Value, expected: &Value) -> bool {
    let configuration = &filter["configuration"];
    match configuration.get("value").unwrap_or(configuration) {
        Value::String(text) => serde_json::from_str::<Value>(text).is_ok_and(|value| value == *expected),
        value => value == expected,
    }
}

/// What each of them lacks.
pub(super) fn faults(place: &Place<'_>, around: &Value, gateway: &Gateway) -> Vec<String> {
    let reads_order = gateway.routing.pools.is_none();
    let mut faults = traps(place.inside);
    if has_filters(place.inside) {
        faults.extend(attempt(place.inside, around, gateway));
        if reads_order {
            faults.extend(order(place.inside));
        }
        faults.extend(filters(place).iter().filter_map(|filters| sequence(filters, reads_order)));
        faults.extend(headers(place.inside));
    }
    faults
}

/// What is to follow a trap, of both filters.
fn traps(inside: &Value) -> Vec<String> {
    let is_ours = |value: &Value| is_gateway(value) || value["root_id"] == "attempt";
    let faults = every(inside, &is_ours).into_iter().filter_map(|filter| {
        let comes = match filter["failure_policy"].as_str() {
            Some("FAIL_RELOAD") => return None,
            Some("FAIL_OPEN") => "after a trap requests pass by every policy and limit",
            _ => "after a trap every request of that worker fails until Envoy is started anew",
        };
        let role = filter["root_id"].as_str().unwrap_or_default();
        Some(format!("the filter with root_id {role}: expected failure_policy: FAIL_RELOAD: else {comes}"))
    });
    faults.collect()
}

/// The members of this name, also where a patch sets one by its path.
pub(super) fn settings<'v>(around: &'v Value, name: &str) -> Vec<&'v Value> {
    let of_patch = |value: &Value| {
        let path = value["path"].as_str().unwrap_or_default();
        // Also where it puts one more into a list.
        let is_place = |part: &&str| *part == "-" || part.parse::<usize>().is_ok();
        value.get("op").is_some() && path.rsplit('/').find(|part| !is_place(part)) == Some(name)
    };
    let members = every(around, &|value| value.get(name).is_some()).into_iter().map(|value| &value[name]);
    members.chain(every(around, &of_patch).into_iter().map(|patch| &patch["value"])).collect()
}

/// Whether a whole chain of filters is in it: a connection manager's, or patches of one.
fn has_filters(around: &Value) -> bool {
    let is_patch = |value: &Value| {
        value["applyTo"] == "HTTP_FILTER"
            || value["path"].as_str().is_some_and(|path| path.contains("/http_filters"))
    };
    !settings(around, "http_filters").is_empty() || !every(around, &is_patch).is_empty()
}

/// Whether the type of an extension's configuration ends so.
pub(super) fn is_type(value: &Value, end: &str) -> bool {
    value["@type"].as_str().is_some_and(|name| name.ends_with(end))
}

/// Whoever gives each attempt its path and credential.
fn attempt(inside: &Value, around: &Value, gateway: &Gateway) -> Option<String> {
    let of_clusters = every(around, &|value| value.get("typed_extension_protocol_options").is_some());
    let places = settings(inside, "upstream_http_filters").into_iter().chain(of_clusters);
    let is_attempt = |value: &Value| value["root_id"] == "attempt";
    let is_there = places.into_iter().any(|place| !every(place, &is_attempt).is_empty());
    let is_needed = gateway.routing.fitted == Fitted::EachAttempt;
    (is_needed && !is_there).then(|| {
        "upstream_http_filters of the router: expected the filter with root_id: attempt: without it backends get no path of \
         theirs and no credential"
            .to_owned()
    })
}

/// The filters that bring the order to the route, where the route reads it.
fn order(around: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let is_rule = |value: &Value| value["header"] == CANDIDATES && value.get("on_header_present").is_some();
    let namespaces: Vec<_> = every(around, &|value| value.get("override_metadata_namespace").is_some());
    match every(around, &is_rule).first() {
        None => faults.push(format!(
            "http_filters: expected a header_to_metadata filter for {CANDIDATES} behind Tollgate: without it the route does not \
             know the order, and every request goes to its first group"
        )),
        Some(rule) => {
            let set = &rule["on_header_present"];
            for (name, expected) in
                [("type", "PROTOBUF_VALUE"), ("encode", "BASE64"), ("key", "priority_groups")]
            {
                if set[name] != expected {
                    faults.push(format!(
                        "header_to_metadata for {CANDIDATES}: expected {name}: {expected}: else the route cannot read the order"
                    ));
                }
            }
            if let [route] = namespaces.as_slice()
                && route["override_metadata_namespace"] != set["metadata_namespace"]
            {
                faults.push(format!(
                    "header_to_metadata for {CANDIDATES}: expected the metadata_namespace {}, where the route reads the order",
                    route["override_metadata_namespace"]
                ));
            }
        }
    }
    if every(around, &|value| value["clear_route_cache"] == true).is_empty() {
        faults.push(
            "http_filters: expected a set_filter_state filter with clear_route_cache: true behind the candidates: without it \
             the first attempt goes where the route led before the order was known"
                .to_owned(),
        );
    }
    faults
}

/// The chains of filters in it: those that are whole, or what its patches make of one that has a router.
fn filters(place: &Place<'_>) -> Vec<Value> {
    if place.is_manager {
        return vec![place.inside["http_filters"].clone()];
    }
    let whole = every(place.inside, &|value| value["http_filters"].is_array());
    let whole = whole.into_iter().map(|value| value["http_filters"].clone());
    let patched = [by_istio(place.inside), by_envoy_gateway(place.inside)];
    whole.chain(patched.into_iter().map(Value::Array)).collect()
}

/// What stands for the filters that a control plane has: its router is the last.
fn control_planes() -> Vec<Value> {
    vec![
        json!({ "name": ROUTER, "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" }),
    ]
}

const ROUTER: &str = "envoy.filters.http.router";

/// As istiod does it: one patch after the other, so that of two that come first the later one is the first.
fn by_istio(inside: &Value) -> Vec<Value> {
    let mut chain = control_planes();
    for patch in every(inside, &|value| value["applyTo"] == "HTTP_FILTER") {
        let (operation, value) = (&patch["patch"]["operation"], &patch["patch"]["value"]);
        let named = &patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"];
        let at = chain.iter().position(|filter| filter["name"] == *named);
        match (operation.as_str().unwrap_or_default(), at) {
            ("INSERT_FIRST", _) => chain.insert(0, value.clone()),
            ("INSERT_BEFORE", Some(at)) => chain.insert(at, value.clone()),
            ("INSERT_AFTER", Some(at)) => chain.insert(at + 1, value.clone()),
            ("ADD", _) => chain.push(value.clone()),
            // What is merged into a filter leaves it where it is; and the place of what is not here is not known.
            _ => {}
        }
    }
    chain
}

/// As JSON Patch has it.
fn by_envoy_gateway(inside: &Value) -> Vec<Value> {
    let mut chain = control_planes();
    for patch in every(inside, &|value| value.get("op").is_some()) {
        let Some((_, at)) = patch["path"].as_str().and_then(|path| path.split_once("/http_filters/")) else {
            continue;
        };
        let at = if at == "-" { Some(chain.len()) } else { at.parse().ok() };
        // What is changed inside of a filter leaves it where it is.
        let Some(at) = at.filter(|at| *at <= chain.len()) else { continue };
        match patch["op"].as_str().unwrap_or_default() {
            "add" => chain.insert(at, patch["value"].clone()),
            "remove" if at < chain.len() => drop(chain.remove(at)),
            "replace" => {
                chain.iter_mut().skip(at).take(1).for_each(|filter| *filter = patch["value"].clone());
            }
            _ => {}
        }
    }
    chain
}

/// A chain of filters that is in another sequence than the order needs.
fn sequence(filters: &Value, reads_order: bool) -> Option<String> {
    let filters = filters.as_array()?;
    let at =
        |is_it: &dyn Fn(&Value) -> bool| filters.iter().position(|filter| !every(filter, is_it).is_empty());
    // Filters before Tollgate's, that know who asks, may do it too: the last one counts.
    let clears = |filter: &Value| !every(filter, &|value| value["clear_route_cache"] == true).is_empty();
    let links = [
        ("Tollgate's", at(&|value| value["root_id"] == "gateway")),
        ("header_to_metadata", at(&|value| value["header"] == CANDIDATES)),
        ("the one with clear_route_cache", filters.iter().rposition(clears)),
        ("the router", at(&|value| is_type(value, ".router.v3.Router"))),
    ];
    // In a pool the filter's own word is heard, and nothing has to stand between it and the router.
    let links = links.into_iter().enumerate().filter(|(link, _)| reads_order || [0, 3].contains(link));
    let found: Vec<_> = links.map(|(_, link)| link).filter_map(|(name, at)| Some((name, at?))).collect();
    let misplaced = found.windows(2).find(|pair| matches!(pair, [(_, one), (_, next)] if one > next))?;
    let [(first, _), (next, _)] = misplaced else { return None };
    Some(format!("http_filters: expected {first} before {next}: else the order comes too late"))
}

/// What takes internal headers from clients.
fn headers(around: &Value) -> Vec<String> {
    let mutations = settings(around, "early_header_mutation_extensions");
    let removes = |prefix: &str| {
        let is_it = |value: &Value| {
            let matcher = &value["remove_on_match"]["key_matcher"];
            let is_wider = matcher["prefix"].as_str().is_some_and(|removed| prefix.starts_with(removed));
            // What else a regular expression says of it is not looked at.
            let word = prefix.trim_start_matches("x-").trim_end_matches('-');
            is_wider || matcher["safe_regex"]["regex"].as_str().is_some_and(|regex| regex.contains(word))
        };
        mutations.iter().any(|mutation| !every(mutation, &is_it).is_empty())
    };
    let missing = INTERNAL.iter().filter(|(prefix, _)| !removes(prefix));
    missing
        .map(|(prefix, comes)| {
            format!("early_header_mutation_extensions: expected one that removes {prefix}*: {comes}")
        })
        .collect()
}

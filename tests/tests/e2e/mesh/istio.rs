//! What does istiod do with an EnvoyFilter?
//!
//! As its own code does it (`pilot/pkg/networking/core/envoyfilter`), for what the example uses: first the listeners, then
//! their network filters, then the HTTP filters, of which the new ones come before the changed ones; then routes and
//! clusters. Whatever it is asked besides is a fault of the example, or a gap here: it panics.

use serde_json::Value;

use super::Generated;

const MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// Applies the resources' patches to a gateway's configuration.
pub fn apply(generated: &mut Generated, filters: &[Value]) {
    let patches: Vec<&Value> =
        filters.iter().flat_map(|filter| filter["spec"]["configPatches"].as_array().unwrap()).collect();
    for patch in &patches {
        known(&patch["match"], &["context", "listener", "routeConfiguration"]);
        assert_eq!(patch["match"]["context"], "GATEWAY", "{patch}");
    }
    let of =
        |kind: &str| patches.iter().copied().filter(|patch| patch["applyTo"] == *kind).collect::<Vec<_>>();
    let mut applied = 0;
    for listener in &mut generated.listeners {
        for patch in of("LISTENER").into_iter().filter(|patch| operation(patch) != "ADD") {
            assert_eq!(operation(patch), "MERGE", "{patch}");
            if listens(listener, patch) {
                merge(listener, value(patch));
                applied += 1;
            }
        }
        let (to_network, to_http) = (of("NETWORK_FILTER"), of("HTTP_FILTER"));
        let here = |patch: &&Value| listens(listener, patch);
        let (network, http): (Vec<_>, Vec<_>) =
            (to_network.into_iter().filter(here).collect(), to_http.into_iter().filter(here).collect());
        for chain in listener["filter_chains"].as_array_mut().unwrap() {
            for filter in chain["filters"].as_array_mut().unwrap() {
                applied += network_filter(filter, &network) + http_filters(filter, &http);
            }
        }
    }
    // After all that change those that are there.
    for patch in of("LISTENER").into_iter().filter(|patch| operation(patch) == "ADD") {
        generated.listeners.push(value(patch).clone());
        applied += 1;
    }
    for patch in of("VIRTUAL_HOST") {
        assert_eq!(operation(patch), "ADD", "{patch}");
        known(&patch["match"]["routeConfiguration"], &["portNumber"]);
        let port = &patch["match"]["routeConfiguration"]["portNumber"];
        for routes in &mut generated.routes {
            // `https.PORT.NAME.GATEWAY.NAMESPACE`
            let of_port = routes["name"].as_str().unwrap().split('.').nth(1).unwrap();
            if port.as_u64() == of_port.parse().ok() {
                routes["virtual_hosts"].as_array_mut().unwrap().push(value(patch).clone());
                applied += 1;
            }
        }
    }
    for patch in of("CLUSTER") {
        assert_eq!(operation(patch), "ADD", "{patch}");
        generated.clusters.push(value(patch).clone());
        applied += 1;
    }
    assert_eq!(applied, patches.len(), "a patch that fits nothing, or is of a kind that is not known here");
}

fn network_filter(filter: &mut Value, patches: &[&Value]) -> usize {
    let mut applied = 0;
    let name = filter["name"].clone();
    for patch in patches.iter().filter(|patch| of_filter(patch)["name"] == name) {
        assert_eq!(operation(patch), "MERGE", "{patch}");
        // The type's URL of both is the same; the messages inside are merged.
        assert_eq!(value(patch)["typed_config"]["@type"], filter["typed_config"]["@type"]);
        merge(filter, value(patch));
        applied += 1;
    }
    applied
}

fn http_filters(filter: &mut Value, patches: &[&Value]) -> usize {
    if filter["name"] != MANAGER {
        return 0;
    }
    let mut applied = 0;
    let chain = filter["typed_config"]["http_filters"].as_array_mut().unwrap();
    for patch in patches.iter().filter(|patch| operation(patch) == "INSERT_FIRST") {
        assert_eq!(of_filter(patch)["name"], MANAGER);
        chain.insert(0, value(patch).clone());
        applied += 1;
    }
    for patch in patches.iter().filter(|patch| operation(patch) == "MERGE") {
        for one in chain.iter_mut().filter(|one| of_filter(patch)["subFilter"]["name"] == one["name"]) {
            assert_eq!(value(patch)["typed_config"]["@type"], one["typed_config"]["@type"]);
            merge(one, value(patch));
            applied += 1;
        }
    }
    applied
}

fn operation(patch: &Value) -> &str {
    patch["patch"]["operation"].as_str().unwrap()
}

fn value(patch: &Value) -> &Value {
    &patch["patch"]["value"]
}

fn of_filter(patch: &Value) -> &Value {
    &patch["match"]["listener"]["filterChain"]["filter"]
}

fn listens(listener: &Value, patch: &Value) -> bool {
    known(&patch["match"]["listener"], &["portNumber", "filterChain"]);
    patch["match"]["listener"]["portNumber"] == listener["address"]["socket_address"]["port_value"]
}

/// A match has only what is looked at here.
fn known(object: &Value, names: &[&str]) {
    let others: Vec<_> =
        object.as_object().unwrap().keys().filter(|name| !names.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "{others:?} is not known here");
}

/// Two protobuf messages: members one by one, lists one after the other, all else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

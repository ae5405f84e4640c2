//! What does Envoy Gateway do with an EnvoyPatchPolicy? It applies each JSON Patch (RFC 6902) to the resource of that type
//! and name, one after the other; what has no path is a new resource.

use serde_json::Value;

use super::Generated;

/// Applies the policy's patches.
pub fn apply(generated: &mut Generated, policy: &Value) {
    assert_eq!(policy["spec"]["type"], "JSONPatch");
    for patch in policy["spec"]["jsonPatches"].as_array().unwrap() {
        let kind = patch["type"].as_str().unwrap().rsplit('.').next().unwrap();
        let resources = match kind {
            "Listener" => &mut generated.listeners,
            "RouteConfiguration" => &mut generated.routes,
            "Cluster" => &mut generated.clusters,
            _ => panic!("{kind} is not known here"),
        };
        let (operation, path) = (&patch["operation"], patch["operation"]["path"].as_str().unwrap());
        if path.is_empty() {
            assert_eq!((&operation["op"], &operation["value"]["name"]), (&"add".into(), &patch["name"]));
            resources.push(operation["value"].clone());
            continue;
        }
        let named = resources.iter_mut().find(|resource| resource["name"] == patch["name"]);
        let resource = named.unwrap_or_else(|| panic!("there is no {kind} {}", patch["name"]));
        change(resource, path, operation);
    }
}

#[track_caller]
fn change(resource: &mut Value, path: &str, operation: &Value) {
    let (parent, member) = path.rsplit_once('/').unwrap();
    let parent = resource.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is not there"));
    let value = operation["value"].clone();
    match (operation["op"].as_str().unwrap(), parent) {
        ("add", Value::Object(members)) => {
            members.insert(member.to_owned(), value);
        }
        ("add", Value::Array(list)) => list.insert(member.parse().unwrap(), value),
        ("replace", parent) => match parent.pointer_mut(&format!("/{member}")) {
            Some(place) => *place = value,
            None => panic!("{path} is not there"),
        },
        (other, _) => panic!("{other} at {path} is not known here"),
    }
}

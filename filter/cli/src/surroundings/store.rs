//! Does the way from the filter to the fleet's store lead there?
//!
//! A cluster that leads to a listener of the same Envoy, on loopback, whose route makes a connection of a POST. Where any of it is
//! missing Envoy starts, and every call to the store fails; where the listener is not on loopback, others reach the store too.

use super::every;
use serde_json::Value;
use tollgate::gateway::FleetStore;

/// Where a listener listens, or a cluster leads.
#[derive(PartialEq, Eq)]
enum Address {
    Port {
        host: String,
        port: u64,
    },
    /// A socket in the file system, or a listener that is inside of Envoy.
    Inside(Value),
}

impl Address {
    fn of(address: &Value) -> Option<Self> {
        let socket = &address["socket_address"];
        match (socket["address"].as_str(), socket["port_value"].as_u64()) {
            (Some(host), Some(port)) => Some(Self::Port { host: host.to_owned(), port }),
            _ => {
                let members = address.as_object().into_iter().flatten();
                let mut inside =
                    members.filter(|(name, _)| ["pipe", "envoy_internal_address"].contains(&name.as_str()));
                inside.next().map(|(_, value)| Self::Inside(value.clone()))
            }
        }
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Port { host, .. } => {
                host == "localhost"
                    || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Self::Inside(_) => true,
        }
    }

    /// Whether who listens here is asked by who goes there.
    fn takes(&self, there: &Self) -> bool {
        match (self, there) {
            (Self::Port { port, .. }, Self::Port { port: other, .. }) => port == other,
            _ => self == there,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port { host, port } => write!(f, "{host}:{port}"),
            Self::Inside(value) => write!(f, "{value}"),
        }
    }
}

/// The first fault on the way there, if this document has any of it: what comes after a fault cannot be judged.
pub(super) fn faults(around: &Value, store: &FleetStore) -> Option<String> {
    let clusters = every(around, &|value| value.get("load_assignment").is_some());
    if clusters.is_empty() {
        return None;
    }
    let name = &store.cluster;
    let Some(cluster) = clusters.into_iter().find(|cluster| cluster["name"] == **name) else {
        let is_missing = !super::has_more_clusters(around);
        return is_missing
            .then(|| format!("clusters: expected one with the name {name:?}, which store.redis names"));
    };
    let ends = every(&cluster["load_assignment"], &|value| value.get("endpoint").is_some());
    let end = ends.first().and_then(|end| Address::of(&end["endpoint"]["address"]));
    let Some(end) = end.as_ref().filter(|end| end.is_loopback()) else {
        let place = end.map_or_else(String::new, |end| format!(" leads to {end}"));
        return Some(format!(
            "cluster {name:?}{place}: expected this Envoy's own listener on loopback, as in envoy/fleet.yaml"
        ));
    };
    let listeners = every(around, &|value| value.get("filter_chains").is_some());
    let at = listeners.iter().find_map(|listener| {
        let address = Address::of(&listener["address"]).filter(|address| address.takes(end))?;
        Some((*listener, address))
    });
    let Some((listener, address)) = at else {
        return Some(format!("listeners: expected one at {end}, where the cluster {name:?} leads"));
    };
    let listener_name = &listener["name"];
    if !address.is_loopback() {
        return Some(format!(
            "listener {listener_name} is at {address}: expected loopback, for whoever reaches it reaches the store"
        ));
    }
    route(listener, &store.path).map(|fault| format!("listener {listener_name}: {fault}"))
}

/// What is wrong with the route of this path, if the listener has its routes with it.
fn route(listener: &Value, path: &str) -> Option<String> {
    let tables = every(listener, &|value| value.get("route_config").is_some());
    let table = &tables.first()?["route_config"];
    let is_it = |route: &Value| {
        let prefix = route["match"]["prefix"].as_str();
        route["match"]["path"] == path || prefix.is_some_and(|prefix| path.starts_with(prefix))
    };
    let routes = every(table, &|value| value.get("match").is_some() && is_it(value));
    let Some(route) = routes.first() else {
        return Some(format!("expected a route with the path {path:?}, which store.redis names"));
    };
    let upgrades = route["route"]["upgrade_configs"].as_array().into_iter().flatten();
    let mut connects = upgrades.filter(|upgrade| upgrade["upgrade_type"] == "CONNECT");
    let takes_post = connects.any(|connect| connect["connect_config"]["allow_post"] == true);
    (!takes_post).then(|| {
        format!(
            "the route with the path {path:?}: expected upgrade_configs: \
             [ {{ upgrade_type: CONNECT, connect_config: {{ allow_post: true }} }} ]"
        )
    })
}

//! Of which fleet is a record of this process?
//!
//! A configuration may be followed by one whose fleet's store is another, while the process and its memory stay. What is held of
//! one store, and owed to it, is nothing to the other: so every record about a fleet stands under that fleet's number.

use crate::digest::{FNV1A_OF_NOTHING, fnv1a};
use std::fmt;

/// Where all records about fleets stand.
const PLACE: &str = "tollgate/fleet/";

/// Those who share a store, by the way to it and by what its keys begin with. Whoever goes another way is of another one, though it
/// may lead to the same place: there he is somebody else, and takes nothing that was meant for the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fleet(u64);

impl Fleet {
    /// That of a store behind this path of this cluster.
    #[must_use]
    pub fn new(cluster: &str, path: &str, database: u64, prefix: &str) -> Self {
        let parts = [cluster.as_bytes(), path.as_bytes(), &database.to_le_bytes(), prefix.as_bytes()];
        let number =
            parts.into_iter().fold(FNV1A_OF_NOTHING, |number, part| fnv1a(fnv1a(number, part), b"\n"));
        // It stands in the key of each record, so it is short.
        Self((number ^ (number >> 32)) & u64::from(u32::MAX))
    }

    /// The key of a record about it.
    #[must_use]
    pub fn key(self, what: &str) -> String {
        format!("{PLACE}{self}/{what}")
    }

    /// What the record is about that has this key, whichever fleet's it is; `None` if it is about none.
    #[must_use]
    pub fn about(key: &str) -> Option<&str> {
        key.strip_prefix(PLACE)?.split_once('/').map(|(_, what)| what)
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn whatever_leads_to_another_store_is_another_fleet() {
        let ways = [
            ("store", "/redis", 0, "tollgate"),
            ("stor", "e/redis", 0, "tollgate"),
            ("other", "/redis", 0, "tollgate"),
            ("store", "/other", 0, "tollgate"),
            ("store", "/redis", 1, "tollgate"),
            ("store", "/redis", 0, "other"),
        ];
        let key = |(cluster, path, database, prefix)| Fleet::new(cluster, path, database, prefix).key("x");
        let keys: BTreeSet<String> = ways.into_iter().map(key).collect();
        assert_eq!(keys.len(), ways.len());
        assert!(keys.contains(&key(ways[0])), "the same way is the same fleet");
    }

    #[test]
    fn a_key_tells_what_its_record_is_about() {
        let fleet = Fleet::new("store", "/redis", 0, "tollgate");
        assert_eq!(Fleet::about(&fleet.key("client/a/b")), Some("client/a/b"));
        for other in ["tollgate/limits/client/a", "tollgate/fleet/", "client/a"] {
            assert_eq!(Fleet::about(other), None, "{other}");
        }
    }
}

//! Which clients are known beside the configuration?

pub(super) mod wire;

use super::ways_in::validity;
use super::{Build, ConfigError, Range, reading, shape};
use crate::gateway::{Client, FleetStore};
use crate::identity::Validity;
use crate::identity::issued::{Issued, Rules};
use serde::Deserialize;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// How much longer a request waits than a call to the store may take: until the tick has made the call.
const UNTIL_CALLED: Duration = Duration::from_secs(1);

/// The path of all of an entry.
const WHOLE: &str = "entry";

/// A key as it stands in the store, under its SHA-256. `tollgate keys` writes it.
#[cfg_attr(feature = "schema", derive(serde::Serialize))]
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
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
}

impl KeyEntry {
    /// Reads what stands in the store.
    pub fn read(bytes: &[u8]) -> Result<Self, ConfigError> {
        let value = serde_json::from_slice(bytes)
            .map_err(|error| ConfigError { path: WHOLE.to_owned(), problem: error.to_string() })?;
        reading::read(&value).map_err(|fault| shape(fault, WHOLE))
    }

    /// When it is good.
    pub fn validity(&self) -> Result<Validity, ConfigError> {
        validity(self.not_before.as_deref(), self.not_after.as_deref())
            .map_err(|(field, problem)| ConfigError { path: field.to_owned(), problem })
    }
}

impl Build<'_> {
    /// The keys that are issued while the gateway runs, for these clients.
    pub(super) fn issued(
        &mut self,
        wire: Option<&wire::Directory>,
        store: Option<&Rc<FleetStore>>,
        roster: &[Rc<Client>],
    ) -> Option<Issued<Client>> {
        let wire = &wire?.store;
        let at = "directory.store";
        let fresh = Range { default: 10, min: 1, max: 3600 };
        let fresh = self.within(&format!("{at}.fresh_s"), wire.fresh_s, &fresh);
        let stale = Range { default: 3600, min: 0, max: 604_800 };
        let stale = self.within(&format!("{at}.stale_s"), wire.stale_s, &stale);
        let per_second = Range { default: 1000, min: 1, max: 100_000 };
        let per_second =
            self.within(&format!("{at}.lookups_per_second"), wire.lookups_per_second, &per_second);
        let Some(store) = store else {
            self.fault(at.to_owned(), "keys are issued in a store, and there is none: expected store");
            return None;
        };
        let (fresh, stale) = (Duration::from_secs(fresh), Duration::from_secs(stale));
        let rules = Rules { fresh, stale, per_second, wait: store.timeout + UNTIL_CALLED };
        let clients: HashMap<_, _> =
            roster.iter().map(|client| (client.name.text.clone(), client.clone())).collect();
        Some(Issued::new(
            rules,
            Box::new(move |bytes| read(bytes, &clients).map_err(|fault| fault.to_string())),
        ))
    }
}

/// Whose key an entry says it is, and when it is good.
fn read(bytes: &[u8], clients: &HashMap<Rc<str>, Rc<Client>>) -> Result<(Validity, Rc<Client>), ConfigError> {
    let entry = KeyEntry::read(bytes)?;
    let client = clients.get(entry.client.as_str()).ok_or_else(|| ConfigError {
        path: "client".to_owned(),
        // Not who there is: the log of a big configuration would be long.
        problem: format!("no client of the configuration is named {:?}", entry.client),
    })?;
    Ok((entry.validity()?, client.clone()))
}

//! Which clients are known beside the configuration?

mod document;
mod entry;
mod joining;
pub(super) mod wire;

use super::clients::Definitions;
use super::metrics::OTHER;
use super::{Build, ConfigError, Range};
use crate::gateway::{Client, FleetStore, Joined};
use crate::identity::KeyHash;
use crate::identity::documented::Documented;
use crate::identity::issued::{Issued, Rules, Said};
use crate::ledger::Name;
use crate::store::Store;
pub use document::check as check_document;
use entry::Around;
pub use entry::{KeyEntry, Narrowing};
use joining::Joining;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// How much longer a request waits than a call to the store may take: until the tick has made the call.
const UNTIL_CALLED: Duration = Duration::from_secs(1);

/// What is known beside the configuration.
pub(super) struct Directed {
    /// By what the clients are known that come while the gateway runs.
    pub(super) source: Source,
    /// The clients that come while it does.
    pub(super) joined: Rc<Joined>,
}

/// Where clients are known beside the configuration.
pub(super) enum Source {
    /// The keys that are issued while the gateway runs.
    Issued(Issued<Client>),
    /// The document that is fetched.
    Documented(Documented<Client>),
}

impl Build<'_> {
    /// What is known beside these clients, whose keys are these. `labels_max` clients in all have a label value of their own.
    pub(super) fn directory(
        &mut self,
        wire: Option<&wire::Directory>,
        store: Option<&Rc<FleetStore>>,
        clients: (&[Rc<Client>], HashMap<KeyHash, Rc<str>>),
        definitions: Definitions<'_>,
        labels_max: usize,
    ) -> Option<Directed> {
        let wire = wire?;
        let (roster, keys) = clients;
        let Definitions { policies, by_name, regions, groups } = definitions;
        let joining = Rc::new(Joining {
            policies: policies.clone(),
            by_name: by_name.clone(),
            lent: RefCell::new((regions.clone(), groups)),
            told: self.told.clone(),
            fleet: self.fleet,
        });
        let read = {
            let joining = joining.clone();
            move |name: Name, bytes: &[u8]| {
                let faults = |faults: Vec<ConfigError>| faults.iter().map(ToString::to_string).collect();
                joining.read(name, bytes).map_err(faults)
            }
        };
        let joined = Joined::new(Box::new(read), labels_max.saturating_sub(roster.len()), OTHER.into());
        let joined = Rc::new(joined);
        let source = match (&wire.store, &wire.document) {
            (Some(wire), None) => {
                let rules = self.issued(wire, store)?;
                let around = Around {
                    clients: roster.iter().map(|client| (client.name.text.clone(), client.clone())).collect(),
                    joined: joined.clone(),
                    policies: policies.clone(),
                    by_name: by_name.clone(),
                    regions,
                    held: RefCell::default(),
                };
                let read =
                    move |hash: &KeyHash, said: Said<'_>, store: &dyn Store| around.read(hash, said, store);
                Source::Issued(Issued::new(rules, Box::new(read)))
            }
            (None, Some(wire)) => {
                let clients = roster.iter().map(|client| client.name.text.clone()).collect();
                let reader = document::Reader { clients, keys, joining, joined: joined.clone() };
                Source::Documented(self.documented(wire, reader))
            }
            _ => {
                self.fault("directory".to_owned(), "expected exactly one of store, document");
                return None;
            }
        };
        Some(Directed { source, joined })
    }

    /// How keys are looked up in the store.
    fn issued(&mut self, wire: &wire::StoreKeys, store: Option<&Rc<FleetStore>>) -> Option<Rules> {
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
        // A key whose client stands in the store too takes two calls.
        Some(Rules { fresh, stale, per_second, wait: store.timeout * 2 + UNTIL_CALLED })
    }
}

//! Which clients are known beside the configuration?

mod entry;
mod joining;
pub(super) mod wire;

use super::clients::Definitions;
use super::metrics::OTHER;
use super::{Build, ConfigError, Range};
use crate::gateway::{Client, FleetStore, Joined};
use crate::identity::KeyHash;
use crate::identity::issued::{Issued, Rules, Said};
use crate::ledger::Name;
use crate::store::Store;
use entry::Around;
pub use entry::{KeyEntry, Narrowing};
use joining::Joining;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How much longer a request waits than a call to the store may take: until the tick has made the call.
const UNTIL_CALLED: Duration = Duration::from_secs(1);

/// What is known beside the configuration.
pub(super) struct Directed {
    /// The keys that are issued while the gateway runs.
    pub(super) issued: Issued<Client>,
    /// The clients that come while it does.
    pub(super) joined: Rc<Joined>,
}

impl Build<'_> {
    /// What is known beside these clients. `labels_max` clients in all have a label value of their own.
    pub(super) fn directory(
        &mut self,
        wire: Option<&wire::Directory>,
        store: Option<&Rc<FleetStore>>,
        roster: &[Rc<Client>],
        definitions: Definitions<'_>,
        labels_max: usize,
    ) -> Option<Directed> {
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
        // A key whose client stands in the store too takes two calls.
        let rules = Rules { fresh, stale, per_second, wait: store.timeout * 2 + UNTIL_CALLED };
        let clients = roster.iter().map(|client| (client.name.text.clone(), client.clone())).collect();
        let Definitions { policies, by_name, regions, groups } = definitions;
        let joining = Joining {
            policies: policies.clone(),
            by_name: by_name.clone(),
            lent: RefCell::new((regions.clone(), groups)),
            told: self.told.clone(),
        };
        let read = move |name: Name, bytes: &[u8]| {
            let faults = |faults: Vec<ConfigError>| faults.iter().map(ToString::to_string).collect();
            joining.read(name, bytes).map_err(faults)
        };
        let joined = Joined::new(Box::new(read), labels_max.saturating_sub(roster.len()), OTHER.into());
        let joined = Rc::new(joined);
        let around = Around {
            clients,
            joined: joined.clone(),
            policies: policies.clone(),
            by_name: by_name.clone(),
            regions,
            held: RefCell::default(),
        };
        let read = move |hash: &KeyHash, said: Said<'_>, store: &dyn Store| around.read(hash, said, store);
        Some(Directed { issued: Issued::new(rules, Box::new(read)), joined })
    }
}

//! Which clients are known beside the configuration?

mod entry;
pub(super) mod wire;

use super::clients::Definitions;
use super::{Build, Range};
use crate::gateway::{Client, FleetStore};
use crate::identity::KeyHash;
use crate::identity::issued::{Issued, Rules};
use entry::Around;
pub use entry::{KeyEntry, Narrowing};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How much longer a request waits than a call to the store may take: until the tick has made the call.
const UNTIL_CALLED: Duration = Duration::from_secs(1);

impl Build<'_> {
    /// The keys that are issued while the gateway runs, for these clients.
    pub(super) fn issued(
        &mut self,
        wire: Option<&wire::Directory>,
        store: Option<&Rc<FleetStore>>,
        roster: &[Rc<Client>],
        definitions: &Definitions<'_>,
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
        let clients = roster.iter().map(|client| (client.name.text.clone(), client.clone())).collect();
        let around = Around {
            clients,
            policies: definitions.policies.clone(),
            by_name: definitions.by_name.clone(),
            regions: definitions.regions.clone(),
            held: RefCell::default(),
        };
        let read =
            move |hash: &KeyHash, bytes: &[u8]| around.read(hash, bytes).map_err(|fault| fault.to_string());
        Some(Issued::new(rules, Box::new(read)))
    }
}

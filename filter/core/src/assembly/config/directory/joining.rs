//! What does a client's entry beside the configuration mean?
//!
//! What it means in `clients[]`: it is read and checked by the same code, among the same models, policies, groups and regions. Only
//! by what a client is known is another matter: in the store by issued keys alone, in a document by `api_keys` alone.

use super::super::clients::{self, Definitions};
use super::super::limits::Groups;
use super::super::limits::wire::By as WireBy;
use super::super::{Build, ConfigError, ModelsByName, Policies, one_of, reading, shape};
use crate::fleet::Fleet;
use crate::gateway::Client;
use crate::ledger::Name;
use crate::value::By;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The path of all of an entry of the store.
const WHOLE: &str = "client";

/// By what a client of the store is known.
const OF_STORE: &str = "a client of the store has issued keys";

/// The longest entry, in bytes: a client that is in use is kept in every worker.
const CLIENT_BYTES_MAX: usize = 16_384;

/// What clients may name.
pub(super) struct Joining {
    pub(super) policies: Policies,
    pub(super) by_name: ModelsByName,
    /// They are lent to each client that is read.
    pub(super) lent: RefCell<(BTreeSet<Rc<str>>, Groups)>,
    /// What limits of the configuration depend on of who asks.
    pub(super) told: Vec<By>,
    /// Whose their budgets are, if they are those of a fleet.
    pub(super) fleet: Option<Fleet>,
}

impl Joining {
    /// The client of this name, by its entry; or every fault of that.
    pub(super) fn read(&self, name: Name, bytes: &[u8]) -> Result<Client, Vec<ConfigError>> {
        if bytes.len() > CLIENT_BYTES_MAX {
            return Err(vec![fault(
                "",
                format!("{} bytes: expected at most {CLIENT_BYTES_MAX}", bytes.len()),
            )]);
        }
        let value = serde_json::from_slice(bytes).map_err(|error| vec![fault("", error.to_string())])?;
        let wire: clients::wire::Client = reading::read(&value).map_err(|found| {
            let ConfigError { path, problem } = shape(found, "");
            vec![fault(&path, problem)]
        })?;
        let mut build = Build { fleet: self.fleet, ..Build::bare() };
        build.name(format!("{WHOLE}.name"), &wire.name);
        if *wire.name != *name.text {
            build.fault(format!("{WHOLE}.name"), format!("{:?} stands as {:?}", wire.name, name.text));
        }
        if !wire.api_keys.is_empty() {
            build.is_no_way_in(WHOLE, "api_keys", OF_STORE);
        }
        build.is_known_by_keys_alone(WHOLE, &wire, OF_STORE);
        let client = self.client(&mut build, WHOLE, name, &wire);
        if build.errors.is_empty() { Ok(client) } else { Err(build.errors) }
    }

    /// The client that is written so at this path.
    pub(super) fn client(
        &self,
        build: &mut Build<'_>,
        path: &str,
        name: Name,
        wire: &clients::wire::Client,
    ) -> Client {
        self.tells(build, path, wire);
        let (regions, mut groups) = self.lent.take();
        // Whether its models have prices is told of each client anew.
        if let Some(group) = wire.group.as_ref().and_then(|group| groups.get_mut(group)) {
            group.look_again();
        }
        let mut definitions =
            Definitions { policies: &self.policies, by_name: &self.by_name, regions, groups };
        let client = build.client(path, name, wire, &mut definitions);
        let Definitions { regions, groups, .. } = definitions;
        self.lent.replace((regions, groups));
        client
    }

    /// What it has limits by has to be known of a request before it is known whose it is.
    fn tells(&self, build: &mut Build<'_>, path: &str, wire: &clients::wire::Client) {
        for (at, limit) in wire.limits.iter().enumerate() {
            let path = format!("{path}.limits[{at}]");
            if let Some(WireBy::Header(name)) = &limit.by
                && !self.told.contains(&By::Header(name.to_ascii_lowercase().into()))
            {
                let told = self.told.iter().filter(|by| matches!(by, By::Header(_)));
                let told = one_of(told.filter_map(By::name));
                let problem =
                    format!("{name:?}: expected a header that a limit of the configuration has: {told}");
                build.fault(format!("{path}.by.header"), problem);
            }
            if !limit.alerts.is_empty() {
                let problem = "nobody is told of it: expected a limit of a client of the configuration";
                build.fault(format!("{path}.alerts"), problem);
            }
        }
    }
}

impl Build<'_> {
    /// Keys are looked for beside the configuration, and nothing else that a request shows.
    pub(super) fn is_known_by_keys_alone(&mut self, path: &str, wire: &clients::wire::Client, why: &str) {
        for (field, is_there) in [
            ("jwt", wire.jwt.is_some()),
            ("certificate", wire.certificate.is_some()),
            ("trusted_header", wire.trusted_header.is_some()),
            ("anonymous", wire.anonymous),
            ("may_act_for", !wire.may_act_for.is_empty()),
        ] {
            if is_there {
                self.is_no_way_in(path, field, why);
            }
        }
    }

    fn is_no_way_in(&mut self, path: &str, field: &str, why: &str) {
        let problem = format!("{why}: expected none, or a client of the configuration");
        self.fault(format!("{path}.{field}"), problem);
    }
}

fn fault(path: &str, problem: String) -> ConfigError {
    let dot = if path.is_empty() { "" } else { "." };
    ConfigError { path: format!("{WHOLE}{dot}{path}"), problem }
}

//! Where the budgets of a fleet stand, and what happens while that place does not answer.

pub(super) mod wire;

use super::{Build, Range};
use crate::gateway::{FleetStore, OnStoreFailure, PREFIX, Secret};
use crate::limits::Account;
use std::rc::Rc;
use std::time::Duration;

/// The most databases that anybody is known to offer are far fewer; Redis itself sets no bound.
const DATABASE_MAX: u64 = 1023;

/// More than anybody shares a Redis by.
const ENVOYS_MAX: u64 = 10_000;

/// It stands in each key.
const PREFIX_BYTES_MAX: usize = 64;

impl Build<'_> {
    pub(super) fn store(&mut self, wire: &wire::Store) -> Rc<FleetStore> {
        let at = "store.redis";
        let redis = &wire.redis;
        let cluster = self.name(format!("{at}.cluster"), &redis.cluster).to_string();
        let path = redis.path.clone().unwrap_or_else(|| "/redis".to_owned());
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        if !is_plain || !path.starts_with('/') {
            let problem = format!("{path:?}: expected a path that begins with /, without ? and #");
            self.fault(format!("{at}.path"), problem);
        }
        let database = Range { default: 0, min: 0, max: DATABASE_MAX };
        let database = self.within(&format!("{at}.database"), redis.database, &database);
        let timeout = Range { default: 250, min: 10, max: 5000 };
        let timeout_ms = self.within(&format!("{at}.timeout_ms"), redis.timeout_ms, &timeout);
        if redis.user_env.is_some() && redis.password_env.is_none() {
            self.fault(
                format!("{at}.user_env"),
                "without password_env: expected both, or password_env alone",
            );
        }
        let prefix = self.prefix(&format!("{at}.prefix"), redis.prefix.as_deref().unwrap_or(PREFIX));
        let user = self.secret_of(&format!("{at}.user_env"), redis.user_env.as_deref());
        let password = self.secret_of(&format!("{at}.password_env"), redis.password_env.as_deref());
        let timeout = Duration::from_millis(timeout_ms);
        let envoys = Range { default: 1, min: 1, max: ENVOYS_MAX };
        let envoys = self.within("store.envoys", wire.envoys, &envoys);
        let days = Range { default: 400, min: 1, max: 3650 };
        let spend_days = wire.spend.as_ref().map(|spend| self.within("store.spend.days", spend.days, &days));
        Rc::new(FleetStore { cluster, path, timeout, prefix, database, user, password, envoys, spend_days })
    }

    /// An account, which a fleet shares if there is a store.
    pub(super) fn shared(&self, account: Account) -> Account {
        match self.fleet {
            Some(fleet) => account.shared(fleet),
            None => account,
        }
    }

    fn secret_of(&mut self, path: &str, env: Option<&str>) -> Option<Secret> {
        self.secret(path, env?).map(Secret)
    }

    /// Braces would decide by themselves which keys Redis Cluster keeps together.
    /// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>
    fn prefix(&mut self, path: &str, prefix: &str) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(plain) {
            let problem =
                format!("{prefix:?}: expected 1 to {PREFIX_BYTES_MAX} of letters, digits and - _ . :");
            self.fault(path.to_owned(), problem);
        }
        prefix.to_owned()
    }

    pub(super) fn on_store_failure(&mut self, wire: Option<wire::OnStoreFailure>) -> OnStoreFailure {
        match wire {
            None if self.fleet.is_some() => OnStoreFailure::Share,
            None | Some(wire::OnStoreFailure::Allow) => OnStoreFailure::Allow,
            Some(wire::OnStoreFailure::Deny) => OnStoreFailure::Deny,
            Some(wire::OnStoreFailure::Share) => {
                if self.fleet.is_none() {
                    let problem =
                        "\"share\" needs a store, and there is none: expected \"allow\" or \"deny\"";
                    self.fault("on_store_failure".to_owned(), problem);
                }
                OnStoreFailure::Share
            }
        }
    }
}

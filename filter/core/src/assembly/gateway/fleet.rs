//! Where do the budgets of a fleet of Envoys stand, and how is that place asked?

use std::fmt;
use std::time::Duration;

/// A Redis that many Envoys share.
#[derive(Debug, PartialEq, Eq)]
pub struct FleetStore {
    /// Envoy's name for the way there.
    pub cluster: String,
    /// The path of the route that makes a connection of a request.
    pub path: String,
    /// How long one call may take.
    pub timeout: Duration,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// The number of its database.
    pub database: u64,
    /// Who asks; `None` is the store's default user.
    pub user: Option<Secret>,
    /// What proves it.
    pub password: Option<Secret>,
}

/// What is sent and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

//! What is there more of than in `envoy.yaml`, and how does the cost of a request grow with it?

use std::fmt;

use anyhow::{Context, Result};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::credentials::{Credentials, known_by_token};
use crate::variant::KEY;

/// What is different from Tollgate as it is measured elsewhere: two clients, of which one asks with its key; three backends of
/// the model, of which the first is asked; two limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// Nothing, in a second process: what differs is noise.
    Again,
    /// So many clients, each with a key and two limits of its own, and all of them ask in turn.
    Clients(usize),
    /// So many backends of the model, each with its cluster. The first is asked, the others have a lower priority.
    Backends(usize),
    /// So many limits of the client.
    Limits(usize),
    /// The client is known by a token, which is the same each time.
    WarmToken,
    /// A token of this algorithm that the worker does not remember.
    ColdToken(Algorithm),
}

/// More tokens than a worker remembers (`VERIFIED_MAX` in the core), so that each of them is new when its turn comes again.
pub(crate) const NEW_TOKENS: usize = 10_100;

impl Growth {
    pub(crate) const ALL: [Self; 12] = [
        Self::Again,
        Self::Clients(100),
        Self::Clients(10_000),
        Self::Backends(1),
        Self::Backends(10),
        Self::Backends(100),
        Self::Limits(0),
        Self::Limits(8),
        Self::WarmToken,
        Self::ColdToken(Algorithm::RS256),
        Self::ColdToken(Algorithm::ES256),
        Self::ColdToken(Algorithm::EdDSA),
    ];

    /// One of each kind, to see that they work.
    pub(crate) const QUICK: [Self; 5] = [
        Self::Clients(100),
        Self::Backends(10),
        Self::Limits(8),
        Self::WarmToken,
        Self::ColdToken(Algorithm::RS256),
    ];

    /// What grows in the VM of each worker, so that another worker's memory is of interest.
    pub(crate) fn grows_in_each_worker(self) -> bool {
        matches!(self, Self::Clients(_) | Self::Backends(100..))
    }

    /// The change of Tollgate's configuration.
    pub(crate) fn apply(self, gateway: &mut Value) -> Result<()> {
        match self {
            Self::Again => {}
            Self::Clients(count) => {
                let first = gateway["clients"][0].clone();
                let clients = gateway["clients"].as_array_mut().context("no clients")?;
                clients.extend((clients.len()..count).map(|number| {
                    let mut client = first.clone();
                    client["name"] = json!(format!("client-{number}"));
                    client["api_keys"] = json!([{ "sha256": hex::encode(Sha256::digest(key(number))) }]);
                    client
                }));
            }
            Self::Backends(count) => {
                let first = gateway["backends"][0].clone();
                let backends = gateway["backends"].as_array_mut().context("no backends")?;
                let more = (backends.len()..count).map(|number| {
                    let mut backend = first.clone();
                    backend["name"] = json!(format!("more-{number}"));
                    backend["cluster"] = backend["name"].clone();
                    backend["credential"]["env"] = json!(format!("MORE_{number}_KEY"));
                    backend
                });
                let more: Vec<Value> = more.collect();
                backends.extend(more.iter().cloned());
                let targets = gateway["models"][0]["backends"].as_array_mut().context("no targets")?;
                targets.truncate(count);
                targets.extend(more.iter().map(
                    |backend| json!({ "backend": backend["name"], "deployment": "gpt-4o", "priority": 1 }),
                ));
            }
            Self::Limits(count) => {
                let kinds = ["tokens", "requests"].into_iter();
                let all =
                    kinds.flat_map(|kind| ["second", "minute", "hour", "day"].map(|period| (kind, period)));
                let limits = all.take(count).map(|(kind, period)| json!({ kind: u32::MAX, "per": period }));
                gateway["clients"][0]["limits"] = limits.collect();
            }
            Self::WarmToken | Self::ColdToken(_) => known_by_token(gateway)?,
        }
        Ok(())
    }

    /// By what its clients are known. `new` says how many tokens stand for a new one each time.
    pub(crate) fn credentials(self, new: usize) -> Result<Credentials> {
        match self {
            Self::Clients(count) => {
                // The second client of `envoy.yaml` has another policy and does not ask.
                Credentials::keys(std::iter::once(KEY.to_owned()).chain((2..count).map(key)))
            }
            Self::Again | Self::Backends(_) | Self::Limits(_) => {
                Credentials::keys(std::iter::once(KEY.to_owned()))
            }
            Self::WarmToken => Credentials::tokens(Algorithm::RS256, 1),
            Self::ColdToken(algorithm) => Credentials::tokens(algorithm, new),
        }
    }
}

/// The key of a client that is there more.
fn key(number: usize) -> String {
    format!("{KEY}-{number}")
}

impl fmt::Display for Growth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again => write!(formatter, "nothing else (A/A)"),
            Self::Clients(10_000) => write!(formatter, "10,000 clients"),
            Self::Clients(count) => write!(formatter, "{count} clients"),
            Self::Backends(1) => write!(formatter, "1 backend"),
            Self::Backends(count) => write!(formatter, "{count} backends"),
            Self::Limits(0) => write!(formatter, "no limit"),
            Self::Limits(count) => write!(formatter, "{count} limits"),
            Self::WarmToken => write!(formatter, "a token, RS256, the same each time"),
            Self::ColdToken(algorithm) => write!(formatter, "a token, {algorithm:?}, new each time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_tests::harness::bootstrap::Bootstrap;

    use super::*;

    fn grown(growth: Growth) -> Value {
        let mut gateway = Bootstrap::load().unwrap().gateway_mut().unwrap().clone();
        growth.apply(&mut gateway).unwrap();
        gateway
    }

    #[test]
    fn the_core_takes_whatever_has_grown() {
        for growth in Growth::ALL.into_iter().chain(Growth::QUICK) {
            let loaded = tollgate::config::from_value(grown(growth), &|_| Some("key".to_owned()));
            assert_eq!(loaded.map(|_| ()), Ok(()), "{growth}");
        }
    }

    #[test]
    fn there_is_as_much_of_it_as_is_said() {
        let length = |value: &Value| value.as_array().unwrap().len();
        assert_eq!(length(&grown(Growth::Clients(100))["clients"]), 100);
        for count in [1, 10] {
            let backends = &grown(Growth::Backends(count))["models"][0]["backends"];
            assert_eq!(length(backends), count);
            let first = backends.as_array().unwrap().iter().filter(|target| target["priority"] == 0);
            assert_eq!(first.count(), 1);
        }
        for count in [0, 8] {
            assert_eq!(length(&grown(Growth::Limits(count))["clients"][0]["limits"]), count);
        }
    }

    #[test]
    fn every_key_that_is_sent_is_a_clients() {
        let gateway = grown(Growth::Clients(5));
        let keys = Growth::Clients(5).credentials(0).unwrap();
        // The first client's own key is put there with its limits, for every variant.
        assert_eq!(keys.next(), KEY);
        for client in &gateway["clients"].as_array().unwrap()[2..] {
            let key = keys.next();
            assert_eq!(client["api_keys"][0]["sha256"], hex::encode(Sha256::digest(key.as_bytes())));
        }
        assert_eq!(keys.next(), KEY);
    }
}

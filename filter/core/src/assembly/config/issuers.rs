//! Whose tokens are trusted, and how they are verified.

pub(super) mod wire;

use super::{Build, Range};
use crate::identity::claims::{Json, Path};
use crate::identity::fetched::Origin;
use crate::identity::issuer::{Issuer, Proof};
use crate::identity::jwks;
use crate::identity::keys::{self, KEYS_MAX, Key, KeySet, OF_PAIRS, OF_SECRETS};
use jsonwebtoken::Algorithm;
use std::collections::HashSet;
use std::time::Duration;

/// The largest difference between clocks that is put up with, in seconds.
const LEEWAY_S_MAX: u64 = 300;

/// The longest time between two fetches, in seconds: a week.
const REFRESH_S_MAX: u64 = 604_800;

/// The longest time that a fetch may take or a request may wait, in milliseconds.
const PATIENCE_MS_MAX: u64 = 30_000;

/// Where something is fetched.
pub(super) struct Place<'w> {
    pub(super) cluster: &'w str,
    pub(super) host: &'w str,
    pub(super) path: &'w str,
}

impl Build<'_> {
    pub(super) fn issuers(&mut self, wire: Vec<wire::Issuer>) -> Vec<Issuer> {
        let mut names = HashSet::new();
        let mut issuers = HashSet::new();
        let mut built = Vec::new();
        for (at, issuer) in wire.into_iter().enumerate() {
            let path = format!("issuers[{at}]");
            let name = self.name(format!("{path}.name"), &issuer.name);
            if !names.insert(issuer.name.clone()) {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", issuer.name));
            }
            if issuer.issuer.is_empty() {
                self.fault(format!("{path}.issuer"), "empty: expected the `iss` of its tokens");
            }
            if !issuers.insert(issuer.issuer.clone()) {
                self.fault(format!("{path}.issuer"), format!("{:?} stands more than once", issuer.issuer));
            }
            if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
                self.fault(
                    format!("{path}.audiences"),
                    "empty: expected at least one `aud` that is this gateway",
                );
            }
            let leeway = Range { default: 60, min: 0, max: LEEWAY_S_MAX };
            let leeway_s = self.within(&format!("{path}.leeway_s"), issuer.leeway_s, &leeway);
            let client_claim = issuer.client_claim.as_ref().map(|text| (text, Path::parse(text)));
            if let Some((text, None)) = &client_claim {
                self.fault(format!("{path}.client_claim"), no_path(text));
            }
            let (proof, algorithms) = self.proof(&path, &issuer);
            // Clients point to it by its place, so one that has a fault keeps it.
            built.push(Issuer {
                name,
                issuer: issuer.issuer,
                audiences: issuer.audiences,
                algorithms,
                leeway: Duration::from_secs(leeway_s),
                client_claim: client_claim.and_then(|(_, path)| path),
                proof,
            });
        }
        built
    }

    /// How tokens are verified, and the algorithms that they may have.
    fn proof(&mut self, path: &str, issuer: &wire::Issuer) -> (Proof, Vec<Algorithm>) {
        let pairs = &OF_PAIRS;
        let written = issuer.algorithms.as_deref();
        match (&issuer.jwks, &issuer.keys, &issuer.secret_env, &issuer.verified_by_envoy) {
            (Some(jwks), None, None, None) => {
                let origin = self.origin(&format!("{path}.jwks"), jwks);
                (Proof::Fetched(Box::new(jwks::keys(origin))), self.algorithms(path, written, pairs))
            }
            (None, Some(keys), None, None) => {
                let keys = self.keys(&format!("{path}.keys"), keys);
                (Proof::Keys(keys), self.algorithms(path, written, pairs))
            }
            (None, None, Some(env), None) => self.shared_secret(path, env, written),
            (None, None, None, Some(envoy)) => {
                if written.is_some() {
                    let problem = "not here: Envoy's jwt_authn decides which algorithms it takes";
                    self.fault(format!("{path}.algorithms"), problem);
                }
                if envoy.jwt_authn_metadata.is_empty() {
                    let problem = "empty: expected the provider's payload_in_metadata";
                    self.fault(format!("{path}.verified_by_envoy.jwt_authn_metadata"), problem);
                }
                (Proof::Envoy(envoy.jwt_authn_metadata.clone()), Vec::new())
            }
            _ => {
                let problem = "expected exactly one of jwks, keys, secret_env, verified_by_envoy";
                self.fault(path.to_owned(), problem);
                (Proof::Keys(KeySet::default()), Vec::new())
            }
        }
    }

    fn algorithms(
        &mut self,
        path: &str,
        written: Option<&[String]>,
        possible: &[Algorithm],
    ) -> Vec<Algorithm> {
        let Some(written) = written else { return possible.to_vec() };
        if written.is_empty() {
            self.fault(
                format!("{path}.algorithms"),
                "empty: expected at least one, or none at all for the default",
            );
        }
        let mut algorithms = Vec::new();
        for (at, name) in written.iter().enumerate() {
            match keys::algorithm(name).filter(|algorithm| possible.contains(algorithm)) {
                Some(algorithm) => algorithms.push(algorithm),
                None => {
                    let names: Vec<_> = possible.iter().map(|algorithm| format!("{algorithm:?}")).collect();
                    let problem = format!("{name:?}: expected one of {}", names.join(", "));
                    self.fault(format!("{path}.algorithms[{at}]"), problem);
                }
            }
        }
        algorithms
    }

    fn origin(&mut self, path: &str, jwks: &wire::Jwks) -> Origin {
        let wire::Jwks { cluster, host, path: at, refresh_s, timeout_ms, wait_ms } = jwks;
        let place = Place { cluster, host, path: at };
        self.fetched_from(path, &place, (*refresh_s, 3600), *timeout_ms, *wait_ms)
    }

    /// Where something is fetched, and how patiently; with how often if that is not said.
    pub(super) fn fetched_from(
        &mut self,
        path: &str,
        place: &Place<'_>,
        (refresh_s, refresh_s_default): (Option<u64>, u64),
        timeout_ms: Option<u64>,
        wait_ms: Option<u64>,
    ) -> Origin {
        let cluster = self.name(format!("{path}.cluster"), place.cluster).to_string();
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(place.host) || place.host.contains('/') {
            self.fault(format!("{path}.host"), format!("{:?}: expected a host name", place.host));
        }
        if !is_plain(place.path) || !place.path.starts_with('/') {
            self.fault(
                format!("{path}.path"),
                format!("{:?}: expected a path that begins with /", place.path),
            );
        }
        let refresh = Range { default: refresh_s_default, min: 1, max: REFRESH_S_MAX };
        let timeout = Range { default: 5000, min: 1, max: PATIENCE_MS_MAX };
        let wait = Range { default: 3000, min: 0, max: PATIENCE_MS_MAX };
        let refresh_s = self.within(&format!("{path}.refresh_s"), refresh_s, &refresh);
        let timeout_ms = self.within(&format!("{path}.timeout_ms"), timeout_ms, &timeout);
        let wait_ms = self.within(&format!("{path}.wait_ms"), wait_ms, &wait);
        Origin {
            cluster,
            host: place.host.to_owned(),
            path: place.path.to_owned(),
            refresh: Duration::from_secs(refresh_s),
            timeout: Duration::from_millis(timeout_ms),
            wait: Duration::from_millis(wait_ms),
        }
    }

    fn keys(&mut self, path: &str, written: &[Json]) -> KeySet {
        if written.is_empty() || written.len() > KEYS_MAX {
            self.fault(path.to_owned(), format!("{} keys: expected 1 to {KEYS_MAX}", written.len()));
        }
        let mut keys = Vec::new();
        for (at, jwk) in written.iter().enumerate() {
            match Key::read(jwk) {
                Ok(key) => keys.push(key),
                Err(problem) => {
                    let problem = format!("is no key for signatures: expected {}", problem.expected());
                    self.fault(format!("{path}[{at}]"), problem);
                }
            }
        }
        KeySet::new(keys)
    }

    /// A secret has to be as long as the hash. <https://www.rfc-editor.org/rfc/rfc7518#section-3.2>
    fn shared_secret(
        &mut self,
        path: &str,
        env: &str,
        written: Option<&[String]>,
    ) -> (Proof, Vec<Algorithm>) {
        let secret_path = format!("{path}.secret_env");
        let secret = self.secret(&secret_path, env).unwrap_or_default();
        let bytes_min = |algorithm: Algorithm| match algorithm {
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => 32,
        };
        let possible: Vec<_> = match written {
            None => OF_SECRETS
                .into_iter()
                .filter(|algorithm| bytes_min(*algorithm) <= secret.len().max(32))
                .collect(),
            Some(_) => OF_SECRETS.to_vec(),
        };
        let algorithms = self.algorithms(path, written, &possible);
        let needed = algorithms.iter().map(|algorithm| bytes_min(*algorithm)).max().unwrap_or_default();
        if !secret.is_empty() && secret.len() < needed {
            let problem = format!("environment variable {env:?} is shorter than {needed} bytes");
            self.fault(secret_path, problem);
        }
        (Proof::Keys(KeySet::new(vec![Key::secret(secret.as_bytes())])), algorithms)
    }
}

/// What is wrong with a claim's path.
pub(super) fn no_path(text: &str) -> String {
    format!(
        "{text:?} is no path to a claim: expected for example \"azp\", \"realm_access.roles\" or \"/a.b/c\""
    )
}

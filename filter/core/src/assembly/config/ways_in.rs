//! By what a client is known.

pub(super) mod wire;

use super::clients;
use super::issuers::no_path;
use super::{Build, one_of};
use crate::calendar::instant;
use crate::gateway::Client;
use crate::identity::claims::{Matcher, Path};
use crate::identity::{Directory, KeyHash, KeySource, SanKind, Validity};
use std::rc::Rc;

/// The clients, as far as they are built.
type Clients = Directory<Client>;

/// There are no others.
const KEY_SOURCES_MAX: usize = 2;

impl Build<'_> {
    pub(super) fn key_sources(&mut self, wire: &[wire::KeySource]) -> Vec<KeySource> {
        if wire.len() > KEY_SOURCES_MAX {
            let problem = format!("{} entries, at most {KEY_SOURCES_MAX} are possible", wire.len());
            self.fault("key_sources".to_owned(), problem);
        }
        wire.iter()
            .map(|source| match source {
                wire::KeySource::XApiKey => KeySource::XApiKey,
                wire::KeySource::Query => KeySource::Query,
            })
            .collect()
    }

    pub(super) fn ways_in(
        &mut self,
        clients: &mut Clients,
        path: &str,
        wire: &clients::wire::Client,
        client: &Rc<Client>,
    ) {
        let has_none = wire.api_keys.is_empty()
            && wire.jwt.is_none()
            && wire.certificate.is_none()
            && wire.trusted_header.is_none()
            && !wire.anonymous;
        // Its keys may be issued later.
        if has_none && !self.issues_keys {
            let problem = "nobody is this client: expected at least one of api_keys, jwt, certificate, \
                           trusted_header, anonymous: true";
            self.fault(path.to_owned(), problem);
        }
        for (at, key) in wire.api_keys.iter().enumerate() {
            self.api_key(clients, &format!("{path}.api_keys[{at}]"), key, client);
        }
        if let Some(jwt) = &wire.jwt {
            self.jwt(clients, &format!("{path}.jwt"), jwt, client);
        }
        if let Some(certificate) = &wire.certificate {
            self.certificate(clients, &format!("{path}.certificate"), certificate, client);
        }
        if let Some(header) = &wire.trusted_header {
            self.trusted_header(clients, &format!("{path}.trusted_header"), header, client);
        }
        if wire.anonymous
            && let Some(other) = clients.enter_anonymous(client.clone())
        {
            self.taken(format!("{path}.anonymous"), "client", &other);
        }
    }

    fn taken(&mut self, path: String, what: &str, other: &Client) {
        self.fault(path, format!("is {what} {:?} already", other.name.text));
    }

    fn api_key(&mut self, clients: &mut Clients, path: &str, key: &wire::Key, client: &Rc<Client>) {
        if let Some((hash, validity)) = self.key_of_client(path, key)
            && let Some(other) = clients.enter(hash, validity, client.clone())
        {
            self.taken(format!("{path}.sha256"), "a key of client", &other);
        }
    }

    /// A key, and when it is good.
    pub(super) fn key_of_client(&mut self, path: &str, key: &wire::Key) -> Option<(KeyHash, Validity)> {
        let (not_before, not_after) = (key.not_before.as_deref(), key.not_after.as_deref());
        let validity = validity(not_before, not_after).unwrap_or_else(|(field, problem)| {
            self.fault(format!("{path}.{field}"), problem);
            Validity::ALWAYS
        });
        let hash = KeyHash::parse(&key.sha256);
        if hash.is_none() {
            let problem = "expected the 64 hexadecimal digits of the key's SHA-256";
            self.fault(format!("{path}.sha256"), problem);
        }
        Some((hash?, validity))
    }

    fn jwt(&mut self, clients: &mut Clients, path: &str, jwt: &wire::Jwt, client: &Rc<Client>) {
        let found = clients.issuers().iter().enumerate().find(|(_, issuer)| *issuer.name == *jwt.issuer);
        let Some((at, issuer)) = found else {
            let names = one_of(clients.issuers().iter().map(|issuer| &*issuer.name));
            let problem = format!("no issuer is named {:?}: expected {names}", jwt.issuer);
            return self.fault(format!("{path}.issuer"), problem);
        };
        let mut matchers = Vec::new();
        match (&issuer.client_claim, &jwt.client) {
            (Some(claim), Some(value)) => {
                matchers.push(Matcher { path: claim.clone(), value: value.clone() });
            }
            // Its claims say enough.
            (_, None) if !jwt.claims.is_empty() => {}
            (Some(claim), None) => {
                matchers.push(Matcher { path: claim.clone(), value: client.name.text.to_string() });
            }
            (None, Some(_)) => {
                let problem =
                    format!("issuer {:?} has no client_claim, which would have this value", jwt.issuer);
                return self.fault(format!("{path}.client"), problem);
            }
            (None, None) => {
                let problem =
                    "empty: expected at least one, or every token of the issuer would be this client's";
                return self.fault(format!("{path}.claims"), problem);
            }
        }
        for (name, value) in &jwt.claims {
            match Path::parse(name) {
                Some(path) => matchers.push(Matcher { path, value: value.clone() }),
                None => self.fault(format!("{path}.claims"), no_path(name)),
            }
        }
        if let Some(other) = clients.enter_claims(at, matchers, client.clone()) {
            self.fault(path.to_owned(), format!("are the tokens of client {:?} already", other.name.text));
        }
    }

    fn certificate(
        &mut self,
        clients: &mut Clients,
        path: &str,
        wire: &wire::Certificate,
        client: &Rc<Client>,
    ) {
        let (field, kind, name) = match (&wire.uri_san, &wire.dns_san) {
            (Some(name), None) => ("uri_san", SanKind::Uri, name),
            (None, Some(name)) => ("dns_san", SanKind::Dns, name),
            _ => return self.fault(path.to_owned(), "expected exactly one of uri_san, dns_san"),
        };
        let path = format!("{path}.{field}");
        if name.is_empty() {
            self.fault(path.clone(), "empty: expected the name in the certificate");
        }
        if let Some(other) = clients.enter_certificate(kind, name.clone(), client.clone()) {
            self.taken(path, "the certificate of client", &other);
        }
    }

    fn trusted_header(
        &mut self,
        clients: &mut Clients,
        path: &str,
        wire: &wire::TrustedHeader,
        client: &Rc<Client>,
    ) {
        let name = wire.name.to_ascii_lowercase();
        if !is_of_a_filter(&name) || clients.reads_keys_from(&name) {
            self.fault(format!("{path}.name"), no_header_of_a_filter(&wire.name));
        }
        if wire.value.is_empty() {
            self.fault(format!("{path}.value"), "empty: expected what the header has for this client");
        }
        if let Some(other) = clients.enter_header(name, wire.value.clone(), client.clone()) {
            self.taken(format!("{path}.value"), "the header of client", &other);
        }
    }
}

/// When a key is good; or the first field that says it wrongly, and how.
pub(super) fn validity(
    not_before: Option<&str>,
    not_after: Option<&str>,
) -> Result<Validity, (&'static str, String)> {
    let at = |field, text: Option<&str>, absent| match text.map(instant) {
        None => Ok(absent),
        Some(Some(instant)) => Ok(instant),
        Some(None) => {
            let text = text.unwrap_or_default();
            Err((field, format!("{text:?}: expected a date and time in UTC such as 2026-11-01T00:00:00Z")))
        }
    };
    let from = at("not_before", not_before, Validity::ALWAYS.from)?;
    let until = at("not_after", not_after, Validity::ALWAYS.until)?;
    if from >= until {
        return Err(("not_after", "is not after not_before: the key would never be valid".to_owned()));
    }
    Ok(Validity { from, until })
}

/// Whether an earlier filter may speak by a header of this name, in lower case: headers that have a meaning already cannot
/// have another one.
pub(super) fn is_of_a_filter(name: &str) -> bool {
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let is_ours = matches!(name, "api-key" | "authorization" | "host" | "content-type" | "content-length")
        || name.starts_with("x-tollgate-")
        || name.starts_with("x-envoy-");
    !name.is_empty() && is_name && !is_ours
}

/// What is said of one that may not.
pub(super) fn no_header_of_a_filter(name: &str) -> String {
    format!("{name:?}: expected the name of a header that only an earlier filter sets")
}

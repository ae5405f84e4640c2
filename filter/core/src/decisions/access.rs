//! By which token is a backend asked that has no key, and when is the next one fetched?
//!
//! Azure's three ways to one: a managed identity asks the machine's metadata service; a workload identity exchanges the token
//! that its cluster gave it, and a secret is exchanged likewise, both at Entra. One VM fetches for all, long before the last
//! token ends; that one stays good until its end, whatever becomes of the fetches. Each backend has a token of its own.
//! Not decided here: what is done with a backend of which there is none.
//! <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>,
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>

use crate::codec::{self, Reader, Stored, Writer};
use crate::credential::Issued;
use crate::fetching::{Fetch, Fetching, RETRY_FIRST, RETRY_LAST, ms};
use crate::store::{self, Moment, StoreFault};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// The longest answer with a token, and the longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// How long each call for a token may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for the first token.
pub const WAIT: Duration = Duration::from_secs(3);

/// The metadata service of a machine at Azure.
const IMDS: &str = "169.254.169.254";

/// What a scope ends with; without it, it names the resource.
const DEFAULT_SCOPE: &str = "/.default";

/// No token is believed to be good for longer.
const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What stands in a query or a form as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// By what a token is got.
#[derive(Clone, PartialEq, Eq)]
pub enum Grant {
    /// The identity that the machine has; of several the one of this client id.
    ManagedIdentity {
        /// Which.
        client_id: Option<String>,
    },
    /// An application of Entra.
    Application {
        /// Where Entra answers.
        host: String,
        /// Its tenant.
        tenant: String,
        /// Its id.
        client_id: String,
        /// What it proves that by.
        proof: Proof,
    },
}

/// What an application proves by that it is the one.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A secret.
    Secret(String),
    /// A token of its own cluster, which this Envoy cluster gives.
    TokenFrom(String),
}

/// What came of a fetch. A closed list: it is a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a new token.
    Renewed,
    /// No answer came.
    Unreachable,
    /// The answer was not 200.
    Refused,
    /// The answer was longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// There was no token in it that we can use.
    Unusable,
    /// What is to be exchanged for a token could not be had.
    NoAssertion,
}

impl Outcome {
    /// The word in metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::TooLong => "too_long",
            Self::Unusable => "unusable",
            Self::NoAssertion => "no_assertion",
        }
    }
}

/// A call that is to be made.
#[derive(PartialEq, Eq)]
pub struct Question<'a> {
    /// To this cluster.
    pub cluster: &'a str,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The `Host`.
    pub host: &'a str,
    /// The path and query.
    pub path: String,
    /// What else its head says.
    pub header: (&'static str, &'static str),
    /// Its body.
    pub body: Option<String>,
}

/// What comes after an answer.
pub enum Next<'a> {
    /// Another call.
    Ask(Question<'a>),
    /// The end, if the store took it.
    Ended(Result<Outcome, StoreFault>),
}

/// Which of the two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// For what is exchanged.
    Assertion,
    /// For the token.
    Token,
}

/// The way to a backend's tokens.
pub struct Access {
    /// Whose.
    pub backend: Rc<str>,
    /// The cluster that issues them.
    pub cluster: String,
    scope: String,
    grant: Grant,
    issued: Rc<Issued>,
    key: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({} by {})", self.backend, self.cluster)
    }
}

/// What all VMs know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    fetching: Fetching,
    token: String,
    /// From then on it is good no more, in milliseconds since the epoch.
    until: u64,
    /// From then on there should be another.
    renew: u64,
}

impl Stored for Known {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            fetching: Fetching::read(from)?,
            token: from.text()?.to_owned(),
            until: from.u64()?,
            renew: from.u64()?,
        })
    }

    fn write(&self, to: &mut Writer) {
        self.fetching.write(to);
        to.text(&self.token);
        to.u64(self.until);
        to.u64(self.renew);
    }
}

impl Known {
    fn of(record: &[u8], now: u64) -> Self {
        let known: Self = codec::decode(record).unwrap_or_default();
        // A clock that was put back makes no token good for longer than any is.
        let is_sound = known.until <= now + ms(LIFE_MAX);
        let known = if is_sound { known } else { Self::default() };
        Self { fetching: known.fetching.as_of(now), ..known }
    }

    fn is_due(&self, now: u64) -> bool {
        let refresh = match self.fetching.succeeded {
            0 => RETRY_LAST,
            // An answer that came late may be due at once, and not more often than any other.
            at => Duration::from_millis(self.renew.saturating_sub(at)).max(RETRY_FIRST),
        };
        self.fetching.is_due(refresh, now)
    }
}

/// A token that was issued.
struct Token {
    value: String,
    life: Duration,
    renew: Duration,
}

impl Access {
    /// The way to a backend's tokens for this scope, which go there.
    #[must_use]
    pub fn new(backend: Rc<str>, cluster: String, scope: String, grant: Grant, issued: Rc<Issued>) -> Self {
        // Who is asked and for whom is part of the key: another configuration never finds what was issued to this one.
        let whose = match &grant {
            Grant::ManagedIdentity { client_id } => client_id.clone().unwrap_or_default(),
            Grant::Application { host, tenant, client_id, proof } => {
                let by = match proof {
                    Proof::Secret(_) => "secret",
                    Proof::TokenFrom(cluster) => cluster,
                };
                format!("{host}\n{tenant}\n{client_id}\n{by}")
            }
        };
        let key = format!("access/{backend}\n{cluster}\n{scope}\n{whose}");
        Self { backend, cluster, scope, grant, issued, key }
    }

    /// From now on there is no token until one is fetched.
    pub fn enter_service(&self) {
        self.issued.enter_service();
    }

    /// Takes over what another VM has fetched.
    pub fn load(&self, moment: Moment<'_>) -> Result<(), StoreFault> {
        self.take(&Known::of(&moment.store.load(&self.key)?.value, ms(moment.now)));
        Ok(())
    }

    fn take(&self, known: &Known) {
        match known.until {
            0 => self.issued.enter_service(),
            until => self.issued.give(&format!("Bearer {}", known.token), Duration::from_millis(until)),
        }
    }

    /// Whether this worker knows of no token that is good now.
    #[must_use]
    pub fn is_lacking(&self, now: Duration) -> bool {
        self.issued.is_lacking(now)
    }

    /// Whether there is no token, and the fetch that may bring it has not failed yet.
    pub fn is_awaited(&self, moment: Moment<'_>) -> Result<bool, StoreFault> {
        if !self.is_lacking(moment.now) {
            return Ok(false);
        }
        let known = Known::of(&moment.store.load(&self.key)?.value, ms(moment.now));
        self.take(&known);
        Ok(self.is_lacking(moment.now) && known.fetching.failures == 0)
    }

    /// Whether to fetch now. Of all VMs that ask, one is told to: it makes the call of [`Self::first`], and tells what came
    /// of it to [`Self::answered`].
    pub fn claim(&self, moment: Moment<'_>) -> Result<bool, StoreFault> {
        let now = ms(moment.now);
        // Two calls, one after the other.
        let timeout = 2 * TIMEOUT;
        store::update(moment.store, &self.key, |bytes| {
            let known = Known::of(bytes, now);
            if known.fetching.is_under_way(timeout, now) || !known.is_due(now) {
                return (None, false);
            }
            let fetching = Fetching { began: now, ..known.fetching };
            (Some(codec::encode(&Known { fetching, ..known })), true)
        })
    }

    /// The first call of a fetch.
    #[must_use]
    pub fn first(&self) -> (Stage, Question<'_>) {
        match &self.grant {
            Grant::ManagedIdentity { client_id } => (Stage::Token, self.of_machine(client_id.as_deref())),
            Grant::Application { proof: Proof::TokenFrom(cluster), .. } => {
                let question = Question {
                    cluster,
                    method: "GET",
                    host: cluster,
                    path: "/".to_owned(),
                    header: ("accept", "text/plain"),
                    body: None,
                };
                (Stage::Assertion, question)
            }
            Grant::Application { proof: Proof::Secret(secret), .. } => {
                (Stage::Token, self.of_application(&[("client_secret", secret)]))
            }
        }
    }

    fn of_machine(&self, client_id: Option<&str>) -> Question<'_> {
        let resource = self.scope.strip_suffix(DEFAULT_SCOPE).unwrap_or(&self.scope);
        let query = [("api-version", "2018-02-01"), ("resource", resource)];
        let query = pairs(query.into_iter().chain(client_id.map(|id| ("client_id", id))));
        Question {
            cluster: &self.cluster,
            method: "GET",
            host: IMDS,
            path: format!("/metadata/identity/oauth2/token?{query}"),
            header: ("metadata", "true"),
            body: None,
        }
    }

    fn of_application(&self, proof: &[(&str, &str)]) -> Question<'_> {
        let Grant::Application { host, tenant, client_id, .. } = &self.grant else {
            return self.of_machine(None);
        };
        let form = [("client_id", client_id.as_str()), ("scope", &self.scope)];
        let grant_type = ("grant_type", "client_credentials");
        Question {
            cluster: &self.cluster,
            method: "POST",
            host,
            path: format!("/{tenant}/oauth2/v2.0/token"),
            header: ("content-type", "application/x-www-form-urlencoded"),
            body: Some(pairs(form.into_iter().chain(proof.iter().copied()).chain([grant_type]))),
        }
    }

    /// Takes the answer to a call. Whatever is wrong with it, the token that is there stays.
    pub fn answered(&self, stage: Stage, fetch: Fetch<'_>, moment: Moment<'_>) -> Next<'_> {
        let token = match (stage, fetch) {
            (Stage::Assertion, Fetch::Body(body)) => match text(body) {
                Some(assertion) => {
                    return Next::Ask(self.of_application(&[
                        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                        ("client_assertion", assertion),
                    ]));
                }
                None => Err(Outcome::NoAssertion),
            },
            (Stage::Assertion, _) => Err(Outcome::NoAssertion),
            (Stage::Token, Fetch::Nothing) => Err(Outcome::Unreachable),
            (Stage::Token, Fetch::Refusal | Fetch::Unchanged) => Err(Outcome::Refused),
            (Stage::Token, Fetch::TooLong) => Err(Outcome::TooLong),
            (Stage::Token, Fetch::Body(body)) => Token::read(body).ok_or(Outcome::Unusable),
        };
        Next::Ended(self.settle(token, moment))
    }

    fn settle(&self, token: Result<Token, Outcome>, moment: Moment<'_>) -> Result<Outcome, StoreFault> {
        let now = ms(moment.now);
        let known = store::update(moment.store, &self.key, |bytes| {
            let known = Known::of(bytes, now);
            let settled = match &token {
                Ok(Token { value, life, renew }) => {
                    // What it took to come is a part of its life.
                    let issued = known.fetching.began.min(now);
                    Known {
                        fetching: known.fetching.succeed(true, now),
                        token: value.clone(),
                        until: issued + ms(*life),
                        renew: issued + ms(*renew),
                    }
                }
                Err(_) => Known { fetching: known.fetching.fail(now), ..known },
            };
            (Some(codec::encode(&settled)), settled)
        })?;
        self.take(&known);
        Ok(token.map_or_else(|outcome| outcome, |_| Outcome::Renewed))
    }
}

impl Token {
    /// Entra and the metadata service write numbers each in its way: one as numbers, the other as texts.
    fn read(body: &[u8]) -> Option<Self> {
        let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
        let seconds = |name: &str| {
            let value = answer.get(name)?;
            let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
            Some(Duration::from_secs(seconds)).filter(|life| !life.is_zero())
        };
        let is_bearer =
            |kind: &serde_json::Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !answer.get("token_type").is_none_or(is_bearer) {
            return None;
        }
        let value = text(answer.get("access_token")?.as_str()?.as_bytes())?.to_owned();
        let life = seconds("expires_in")?.min(LIFE_MAX);
        // Whatever it says, there is time for another before its end.
        let renew = seconds("refresh_in").unwrap_or(life / 2).min(life * 3 / 4);
        Some(Self { value, life, renew })
    }
}

/// A token as it may stand in a header: without the line's end that a file may have.
fn text(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_token = !text.is_empty() && text.len() <= TOKEN_BYTES_MAX;
    (is_token && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}

/// Names and values of a query or a form.
fn pairs<'p>(pairs: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    let pairs: Vec<_> =
        pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, PLAIN))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests;

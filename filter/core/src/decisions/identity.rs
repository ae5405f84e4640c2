//! Which client is this?
//!
//! By API key, known here only as a SHA-256; by a token of an issuer that is trusted; or by what Envoy has proved already: the
//! certificate of the connection, a token, a header that an earlier filter sets. Whoever shows two things that are not the
//! same client's is refused. Not decided here: what the client may do.

pub mod claims;
pub mod documented;
pub mod fetched;
pub mod issued;
pub mod issuer;
pub mod jwks;
pub mod jwt;
mod key_hash;
pub mod keys;
mod known;
mod memory;
mod proxy;
pub mod public_key;
mod refused;
pub mod signature;
mod verified;

use crate::denial::{Denial, Flaw};
use crate::endpoint::{Api, api_keys};
use crate::store::Moment;
use crate::value::{By, Values};
use claims::{Json, Matcher, Path};
use documented::Documented;
use issued::Issued;
use issuer::{Doubt, Issuer, Proof};
use jwt::Token;
use memory::Memory;
use proxy::NoProxy;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use verified::{VERIFIED_MAX, Verified};

pub use key_hash::{KeyHash, Validity};
pub use known::{Identity, Known};
pub use proxy::{ProxyFacts, SanKind};

/// A header that a key may stand in.
const X_API_KEY: &str = "x-api-key";

/// Where a key may stand besides `authorization` and `api-key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The header of this name.
    XApiKey,
    /// `api-key` in the path's query.
    Query,
}

impl KeySource {
    /// The header that it is, if it is one.
    #[must_use]
    pub const fn header(self) -> Option<&'static str> {
        match self {
            Self::XApiKey => Some(X_API_KEY),
            Self::Query => None,
        }
    }
}

/// The clients by what they show; `C` is what is known of one.
#[derive(Debug)]
pub struct Directory<C> {
    by_key: HashMap<KeyHash, (Validity, Rc<C>)>,
    issuers: Vec<Issuer>,
    /// For each issuer, whose tokens have which claims, in the order of the configuration.
    by_claims: Vec<Vec<(Vec<Matcher>, Rc<C>)>>,
    by_certificate: HashMap<SanKind, HashMap<String, Rc<C>>>,
    /// For each header, whose it is with which value.
    by_header: HashMap<String, HashMap<Vec<u8>, Rc<C>>>,
    anonymous: Option<Rc<C>>,
    key_sources: Vec<KeySource>,
    /// Whether anything depends on which key it was.
    tells_keys: bool,
    /// The claims that something depends on, by the words for them.
    told_claims: Vec<(Rc<str>, Path)>,
    /// The headers that something depends on, their names in lower case.
    told_headers: Vec<Rc<str>>,
    verified: RefCell<Memory<Verified<Rc<C>>>>,
    issued: Option<Issued<C>>,
    documented: Option<Documented<C>>,
    proxy: Box<dyn ProxyFacts>,
}

impl<C> Default for Directory<C> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// What a request shows of its own accord.
struct Shown<'h> {
    secret: Option<Secret<'h>>,
    /// Headers that an earlier filter sets.
    trusted: Vec<(&'h str, &'h [u8])>,
    /// What they tell of its users.
    values: Values,
}

/// A secret that a client sends.
enum Secret<'h> {
    Key(Cow<'h, [u8]>),
    Bearer(&'h [u8]),
}

impl<C> Directory<C> {
    /// A directory of nobody yet, with these issuers.
    #[must_use]
    pub fn new(issuers: Vec<Issuer>) -> Self {
        Self {
            by_key: HashMap::new(),
            by_claims: issuers.iter().map(|_| Vec::new()).collect(),
            issuers,
            by_certificate: HashMap::new(),
            by_header: HashMap::new(),
            anonymous: None,
            key_sources: Vec::new(),
            tells_keys: false,
            told_claims: Vec::new(),
            told_headers: Vec::new(),
            verified: RefCell::new(Memory::new(VERIFIED_MAX)),
            issued: None,
            documented: None,
            proxy: Box::new(NoProxy),
        }
    }

    /// From now on this one is asked what the proxy knows.
    pub fn trust(&mut self, proxy: impl ProxyFacts + 'static) {
        self.proxy = Box::new(proxy);
    }

    /// Enters a key; answers whom it belonged to before, which is a fault in the configuration.
    pub fn enter(&mut self, key: KeyHash, validity: Validity, client: Rc<C>) -> Option<Rc<C>> {
        self.by_key.insert(key, (validity, client)).map(|(_, other)| other)
    }

    /// Enters the claims of a client's tokens; answers who has just the same, which is a fault too.
    pub fn enter_claims(&mut self, issuer: usize, claims: Vec<Matcher>, client: Rc<C>) -> Option<Rc<C>> {
        let entries = self.by_claims.get_mut(issuer)?;
        let other = entries.iter().find(|(others, _)| *others == claims).map(|(_, other)| other.clone());
        entries.push((claims, client));
        other
    }

    /// Enters a name in a certificate; answers whom it belonged to before.
    pub fn enter_certificate(&mut self, kind: SanKind, name: String, client: Rc<C>) -> Option<Rc<C>> {
        self.by_certificate.entry(kind).or_default().insert(name, client)
    }

    /// Enters the value of a header, its name in lower case; answers whom it belonged to before.
    pub fn enter_header(&mut self, name: String, value: String, client: Rc<C>) -> Option<Rc<C>> {
        self.by_header.entry(name).or_default().insert(value.into_bytes(), client)
    }

    /// Enters the client that everybody is who shows nothing; answers who was it before.
    pub fn enter_anonymous(&mut self, client: Rc<C>) -> Option<Rc<C>> {
        self.anonymous.replace(client)
    }

    /// From now on keys are read from there too.
    pub fn read_keys_from(&mut self, sources: Vec<KeySource>) {
        self.key_sources = sources;
    }

    /// From now on keys are good too that were issued since.
    pub fn look_up_in(&mut self, issued: Issued<C>) {
        self.issued = Some(issued);
    }

    /// The keys that were issued since, if there are any.
    #[must_use]
    pub fn issued(&self) -> Option<&Issued<C>> {
        self.issued.as_ref()
    }

    /// All keys of the configuration, and whose they are.
    pub fn keys(&self) -> impl Iterator<Item = (&KeyHash, &C)> {
        self.by_key.iter().map(|(key, (_, client))| (key, &**client))
    }

    /// From now on the clients of this document are known too.
    pub fn read_document(&mut self, documented: Documented<C>) {
        self.documented = Some(documented);
    }

    /// The clients of a document, if there is one.
    #[must_use]
    pub fn documented(&self) -> Option<&Documented<C>> {
        self.documented.as_ref()
    }

    /// From now on it tells this of who asks.
    pub fn tell(&mut self, by: &By) {
        match by {
            By::Key => self.tells_keys = true,
            By::Claim(name) => {
                self.told_claims.extend(Path::parse(name).map(|path| (name.clone(), path)));
            }
            By::Header(name) => self.told_headers.push(name.clone()),
            // It is no matter of who may call.
            By::Field(_) => {}
        }
    }

    /// Whether keys are read from this header besides those from which they always are.
    #[must_use]
    pub fn reads_keys_from(&self, header: &str) -> bool {
        self.key_sources.iter().any(|source| source.header() == Some(header))
    }

    /// The client that everybody is who shows nothing.
    #[must_use]
    pub fn anonymous(&self) -> Option<&C> {
        self.anonymous.as_deref()
    }

    /// The issuers, in the order of the configuration.
    #[must_use]
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// Whether clients are known by this header, so that it goes no further.
    #[must_use]
    pub fn trusts(&self, header: &str) -> bool {
        self.by_header.contains_key(header)
    }

    /// The headers that clients are known by.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        self.by_header.keys().map(|name| &**name)
    }

    /// The client whose credential stands in these headers or in the path's query, or whom the proxy knows.
    pub fn identify<'h>(
        &self,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        query: &'h str,
        api: Api,
        moment: Moment<'_>,
    ) -> Result<Identity<C>, Denial> {
        let shown = self.shown(headers, query, api)?;
        let mut found: Option<Known<C>> = None;
        let mut values = shown.values;
        let secret = shown.secret.map(|secret| match secret {
            Secret::Key(key) => self.by_key(&key, moment, &mut values),
            Secret::Bearer(bearer) => self.by_bearer(bearer, moment, &mut values),
        });
        match secret {
            Some(Ok(client)) => found = Some(client),
            Some(Err(Doubt::Denied(denial))) => return Err(denial),
            Some(Err(Doubt::Wait(wait))) => return Ok(Identity::Unknown(wait)),
            None => {}
        }
        for proven in self.proven(&shown.trusted, moment.now, &mut values)? {
            match &found {
                Some(other) if !Rc::ptr_eq(&other.whole, &proven) => return Err(Denial::AmbiguousClient),
                Some(_) => {}
                None => found = Some(Known::whole(proven)),
            }
        }
        let found = found.map(|found| found.client);
        let client = found.or_else(|| self.anonymous.clone()).ok_or(Denial::MissingCredential)?;
        Ok(Identity::Client(client, values))
    }

    /// Reads what is shown. What stands twice at one place is refused, and so are two keys that differ.
    fn shown<'h>(
        &self,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        query: &'h str,
        api: Api,
    ) -> Result<Shown<'h>, Denial> {
        let (mut api_key, mut bearer, mut other_key, mut in_query) = (None, None, None, None);
        let mut trusted: Vec<(&str, &[u8])> = Vec::new();
        let (mut values, mut told_names) = (Values::default(), Vec::new());
        for (name, value) in headers {
            if let Some(told) = self.told_headers.iter().find(|told| &***told == name) {
                let by = By::Header(told.clone());
                if told_names.contains(&name) {
                    return Err(Denial::AmbiguousClient);
                }
                told_names.push(name);
                values.note(by, "", value);
            }
            let slot = match name {
                "api-key" => &mut api_key,
                "authorization" => &mut bearer,
                _ if self.reads_keys_from(name) => &mut other_key,
                // Where clients of this API show theirs.
                X_API_KEY if api == Api::Anthropic => &mut other_key,
                _ if self.by_header.contains_key(name) => {
                    if trusted.iter().any(|(other, _)| *other == name) {
                        return Err(Denial::AmbiguousClient);
                    }
                    trusted.push((name, value));
                    continue;
                }
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(Denial::AmbiguousCredential);
            }
        }
        if self.key_sources.contains(&KeySource::Query) {
            for key in api_keys(query) {
                if in_query.replace(key).is_some() {
                    return Err(Denial::AmbiguousCredential);
                }
            }
        }
        let in_query = in_query.map(|key| match key {
            Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
            Cow::Owned(key) => Cow::Owned(key.into_bytes()),
        });
        let bearer = bearer.map(|value| strip_bearer(value).ok_or(Denial::MissingCredential)).transpose()?;
        let keys = [bearer, api_key, other_key].map(|key| key.map(Cow::Borrowed));
        let mut keys = keys.into_iter().chain([in_query]).flatten();
        let key = keys.next();
        if keys.any(|other| Some(&other) != key.as_ref()) {
            return Err(Denial::AmbiguousCredential);
        }
        let secret = match (key, bearer) {
            (Some(key), _) if key.is_empty() => return Err(Denial::MissingCredential),
            (_, Some(bearer)) => Some(Secret::Bearer(bearer)),
            (key, None) => key.map(Secret::Key),
        };
        Ok(Shown { secret, trusted, values })
    }

    fn by_key(&self, key: &[u8], moment: Moment<'_>, values: &mut Values) -> Result<Known<C>, Doubt> {
        let hash = KeyHash::of(key);
        match self.by_hash(&hash, moment.now, values) {
            Some(known) => known,
            None => self.by_issued(key, hash, moment, values),
        }
    }

    fn by_hash(&self, key: &KeyHash, now: Duration, values: &mut Values) -> Option<Result<Known<C>, Doubt>> {
        let configured = self.by_key.get(key).cloned();
        let (validity, client) = configured.or_else(|| self.documented.as_ref()?.peek(key, now))?;
        let valid = self.if_valid(key, validity, now, values);
        Some(valid.map(|()| Known::whole(client)))
    }

    /// What the configuration does not have may have been issued, or written into the document, since.
    fn by_issued(
        &self,
        key: &[u8],
        hash: KeyHash,
        moment: Moment<'_>,
        values: &mut Values,
    ) -> Result<Known<C>, Doubt> {
        let found = match (&self.issued, &self.documented) {
            (_, Some(documented)) => documented.find(&hash, moment)?,
            (Some(issued), None) if issued::is_meant(key) => issued.find(hash, moment)?,
            _ => None,
        };
        let (validity, known) = found.ok_or(Doubt::Denied(Denial::UnknownCredential))?;
        self.if_valid(&hash, validity, moment.now, values)?;
        Ok(known)
    }

    fn if_valid(
        &self,
        key: &KeyHash,
        validity: Validity,
        now: Duration,
        values: &mut Values,
    ) -> Result<(), Doubt> {
        if now < validity.from {
            return Err(Doubt::Denied(Denial::KeyNotYetValid));
        }
        if now >= validity.until {
            return Err(Doubt::Denied(Denial::KeyExpired));
        }
        if self.tells_keys {
            values.note_secret(By::Key, key.bytes());
        }
        Ok(())
    }

    /// A key first: that is certain. What looks like a token is one if there is an issuer that could have made it.
    fn by_bearer(&self, bearer: &[u8], moment: Moment<'_>, values: &mut Values) -> Result<Known<C>, Doubt> {
        let is_token = !self.issuers.is_empty() && jwt::is_meant(bearer);
        if is_token && bearer.len() > jwt::TOKEN_BYTES_MAX {
            return Err(Flaw::TooLong.into());
        }
        let hash = KeyHash::of(bearer);
        match self.by_hash(&hash, moment.now, values) {
            Some(known) => known,
            None if is_token => self.by_token(hash, bearer, moment, values).map(Known::whole),
            None => self.by_issued(bearer, hash, moment, values),
        }
    }

    fn by_token(
        &self,
        hash: KeyHash,
        bytes: &[u8],
        moment: Moment<'_>,
        values: &mut Values,
    ) -> Result<Rc<C>, Doubt> {
        let known = self.verified.borrow_mut().recall(&hash);
        if let Some(Verified { client, issuer, generation, until, values: told }) = known {
            if moment.now >= until {
                self.verified.borrow_mut().forget(&hash);
                return Err(Doubt::Denied(Denial::TokenExpired));
            }
            // A key that the issuer has withdrawn since is not honoured.
            if self.issuers.get(issuer).is_some_and(|issuer| issuer.generation() == generation) {
                values.note_all(&told);
                return Ok(client);
            }
        }
        let token = Token::parse(bytes)?;
        let name = token.claims.member("iss").and_then(Json::text);
        let issuer = self.issuers.iter().enumerate().find(|(_, issuer)| Some(issuer.issuer.as_str()) == name);
        let (at, issuer) = issuer.ok_or(Doubt::Denied(Denial::UnknownIssuer))?;
        // Of a token that Envoy has verified, what Envoy says counts.
        if let Proof::Envoy(payload) = &issuer.proof {
            let claims = self.proxy.jwt_payload(payload).ok_or(Flaw::Signature)?;
            // What they tell of who asks is noted with what the proxy has proved.
            return self
                .by_claims(at, issuer, &claims, moment.now)
                .map_err(Doubt::Denied)
                .map(|(client, _)| client);
        }
        issuer.verify(&token, moment)?;
        let (client, until) = self.by_claims(at, issuer, &token.claims, moment.now).map_err(Doubt::Denied)?;
        let (told, generation) = (self.told(issuer, &token.claims), issuer.generation());
        values.note_all(&told);
        let verified = Verified { client: client.clone(), issuer: at, generation, until, values: told };
        self.verified.borrow_mut().note(hash, verified);
        Ok(client)
    }

    /// What these claims tell of who asks. Only a string tells one user from another.
    fn told(&self, issuer: &Issuer, claims: &Json) -> Values {
        let mut values = Values::default();
        for (name, path) in &self.told_claims {
            if let Some(text) = claims.at(path).and_then(Json::text) {
                values.note(By::Claim(name.clone()), &issuer.issuer, text.as_bytes());
            }
        }
        values
    }

    /// Whose these claims are, and until when.
    fn by_claims(
        &self,
        at: usize,
        issuer: &Issuer,
        claims: &Json,
        now: Duration,
    ) -> Result<(Rc<C>, Duration), Denial> {
        let until = issuer.check(claims, now)?;
        let entries = self.by_claims.get(at).map(Vec::as_slice).unwrap_or_default();
        let (_, client) = entries
            .iter()
            .find(|(matchers, _)| matchers.iter().all(|matcher| matcher.holds(claims)))
            .ok_or(Denial::NoClient)?;
        Ok((client.clone(), until))
    }

    /// Who the proxy says it is.
    fn proven(
        &self,
        trusted: &[(&str, &[u8])],
        now: Duration,
        values: &mut Values,
    ) -> Result<Vec<Rc<C>>, Denial> {
        let mut proven = Vec::new();
        // The connection's name may be that of a machine between; only one that is a client's is taken for one.
        for kind in [SanKind::Uri, SanKind::Dns] {
            if let Some(clients) = self.by_certificate.get(&kind)
                && let Some(name) = self.proxy.certified(kind)
                && let Some(client) = clients.get(&name)
            {
                proven.push(client.clone());
            }
        }
        for (name, value) in trusted {
            let client = self.by_header.get(*name).and_then(|clients| clients.get(*value));
            proven.push(client.ok_or(Denial::NoClient)?.clone());
        }
        for (at, issuer) in self.issuers.iter().enumerate() {
            if let Proof::Envoy(payload) = &issuer.proof
                && let Some(claims) = self.proxy.jwt_payload(payload)
            {
                // Several issuers may share one name: what is there is only of one of them.
                if claims.member("iss").and_then(Json::text) == Some(&issuer.issuer) {
                    proven.push(self.by_claims(at, issuer, &claims, now)?.0);
                    values.note_all(&self.told(issuer, &claims));
                }
            }
        }
        Ok(proven)
    }
}

/// The scheme's name is case-insensitive. <https://www.rfc-editor.org/rfc/rfc9110#section-11.1>
fn strip_bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tokens;

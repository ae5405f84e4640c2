//! Which clients stand in a document that is fetched while the gateway runs?
//!
//! All of them are known by their keys, whose SHA-256 stand there. Before the first document has come, and when the last one is too
//! old, nobody can say that a key is nobody's. Not decided here: what a document means, and how it is fetched.

use super::fetched::Fetched;
use super::issuer::Doubt;
use super::{KeyHash, Known, Validity};
use crate::denial::Denial;
use crate::store::Moment;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// The clients of one document.
pub struct Roster<C> {
    /// All of them, in their order.
    pub clients: Vec<Rc<C>>,
    /// Whose a key is, and when it is good.
    pub by_key: HashMap<KeyHash, (Validity, Rc<C>)>,
}

/// The clients of the document that holds.
pub struct Documented<C> {
    /// The document.
    pub fetched: Fetched<Roster<C>>,
    /// How long it holds after the source has said so last; `None`: for ever.
    pub stale: Option<Duration>,
}

impl<C> fmt::Debug for Documented<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documented")
            .field("fetched", &self.fetched)
            .field("stale", &self.stale)
            .finish_non_exhaustive()
    }
}

impl<C> Documented<C> {
    /// What holds now, as far as this worker has looked.
    fn roster(&self, now: Duration) -> Option<Rc<Roster<C>>> {
        let holds = self.stale.is_none_or(|stale| self.fetched.age(now) < stale);
        self.fetched.value().filter(|_| holds)
    }

    /// Whose key this is, if it is known to be somebody's.
    pub(super) fn peek(&self, hash: &KeyHash, now: Duration) -> Option<(Validity, Rc<C>)> {
        self.roster(now)?.by_key.get(hash).cloned()
    }

    /// Whose key this is, and when it is good; `None` if it is nobody's.
    pub(super) fn find(
        &self,
        hash: &KeyHash,
        moment: Moment<'_>,
    ) -> Result<Option<(Validity, Known<C>)>, Doubt> {
        let roster = self.roster(moment.now).or_else(|| {
            // Another worker may have fetched it. A store that does not answer has no more than is here.
            self.fetched.load(moment.store).ok()?;
            self.roster(moment.now)
        });
        match roster {
            Some(roster) => {
                let found = roster.by_key.get(hash);
                Ok(found.map(|(validity, client)| (*validity, Known::whole(client.clone()))))
            }
            // The first one may be under way.
            None if self.fetched.value().is_none() && !self.fetched.has_failed() => {
                Err(Doubt::Wait(self.fetched.origin.wait))
            }
            None => Err(Doubt::Denied(Denial::KeysUnavailable)),
        }
    }
}

#[cfg(test)]
mod tests;

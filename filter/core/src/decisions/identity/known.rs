//! Who is it?

use crate::value::Values;
use std::rc::Rc;
use std::time::Duration;

/// Who it is, or how long it may take to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity<C> {
    /// This one, and which of its users.
    Client(Rc<C>, Values),
    /// Keys are being fetched that tell; no longer than this is waited for them.
    Unknown(Duration),
}

impl<C> Identity<C> {
    /// The client, if it is known.
    #[must_use]
    pub fn client(self) -> Option<Rc<C>> {
        match self {
            Self::Client(client, _) => Some(client),
            Self::Unknown(_) => None,
        }
    }
}

/// Who has shown a secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Known<C> {
    /// The client, with what it may by this.
    pub client: Rc<C>,
    /// The same client as it is without.
    pub whole: Rc<C>,
}

impl<C> Known<C> {
    /// A client that may by this whatever it may.
    #[must_use]
    pub fn whole(client: Rc<C>) -> Self {
        Self { client: client.clone(), whole: client }
    }
}

impl<C> Clone for Known<C> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), whole: self.whole.clone() }
    }
}

//! What is shown to a backend to be let in: a secret that stays, or one that somebody issues for a while?
//!
//! Neither prints. Not decided here: who issues it, and when it is asked for.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// The value of a header that lets us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialValue {
    /// It stays as it is.
    Fixed(Fixed),
    /// It is issued for a while.
    Issued(Rc<Issued>),
}

/// A value that stays.
#[derive(Clone, PartialEq, Eq)]
pub struct Fixed(String);

/// A value that is issued for a while, as this VM knows it.
#[derive(Default)]
pub struct Issued(RefCell<Standing>);

/// How it stands.
#[derive(Default)]
enum Standing {
    /// Nobody is to issue it: this configuration does not serve. It is taken for there.
    #[default]
    Idle,
    /// There is none.
    Lacking,
    /// This one, until then.
    Given(Rc<str>, Duration),
}

impl CredentialValue {
    /// A value that stays as it is.
    #[must_use]
    pub fn fixed(value: String) -> Self {
        Self::Fixed(Fixed(value))
    }

    /// The value, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Fixed(Fixed(value)) => Some(Cow::Borrowed(value)),
            Self::Issued(issued) => issued.value().map(|value| Cow::Owned(value.to_string())),
        }
    }

    /// Whether there is none that is good now.
    #[must_use]
    pub fn is_lacking(&self, now: Duration) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Issued(issued) => issued.is_lacking(now),
        }
    }
}

impl Issued {
    /// From now on it is lacking until it is given.
    pub fn enter_service(&self) {
        self.0.replace(Standing::Lacking);
    }

    /// It is this one until then.
    pub fn give(&self, value: &str, until: Duration) {
        self.0.replace(Standing::Given(value.into(), until));
    }

    /// Whether there is none that is good now.
    #[must_use]
    pub fn is_lacking(&self, now: Duration) -> bool {
        match &*self.0.borrow() {
            Standing::Idle => false,
            Standing::Lacking => true,
            Standing::Given(_, until) => now >= *until,
        }
    }

    fn value(&self) -> Option<Rc<str>> {
        match &*self.0.borrow() {
            Standing::Idle | Standing::Lacking => None,
            Standing::Given(value, _) => Some(value.clone()),
        }
    }
}

impl PartialEq for Issued {
    /// Two that are alike now need not be so later.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Issued {}

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn an_issued_secret_is_good_until_its_end() {
        let issued = Rc::new(Issued::default());
        let secret = CredentialValue::Issued(issued.clone());
        let end = Duration::from_secs(100);
        // A configuration that only is looked at has none and lacks none.
        assert!(!secret.is_lacking(end) && secret.value().is_none());
        issued.enter_service();
        assert!(secret.is_lacking(Duration::ZERO) && secret.value().is_none());
        issued.give("Bearer t", end);
        assert!(!secret.is_lacking(end - Duration::from_nanos(1)));
        assert!(secret.is_lacking(end));
        assert_eq!(secret.value().as_deref(), Some("Bearer t"));
    }

    #[test]
    fn no_secret_is_printed_and_no_two_issued_ones_are_one() {
        let issued = Rc::new(Issued::default());
        issued.give("Bearer t", Duration::MAX);
        let (secret, other) =
            (CredentialValue::Issued(issued.clone()), CredentialValue::Issued(Rc::default()));
        assert_eq!(format!("{secret:?} {:?}", CredentialValue::fixed("k".to_owned())), "Issued(…) Fixed(…)");
        assert!(secret == secret.clone() && secret != other);
        assert!(CredentialValue::fixed("k".to_owned()) == CredentialValue::fixed("k".to_owned()));
    }
}

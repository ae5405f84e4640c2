//! Which account of a limit that is split is a request's?
//!
//! A limit with `by` is one for each value: a key, a user behind a token. Its accounts are made as requests come, and are named by
//! what is configured and the value's hash. Not decided here: where their records stand.

use super::measured::Measured;
use super::{Account, Budget};
use crate::allowance::Allowance;
use crate::digest::{FNV1A_OF_NOTHING, fnv1a};
use crate::sorting;
use crate::value::{By, Value, Values};
use sha2::{Digest, Sha256};
use std::rc::Rc;

/// What the keys of such accounts begin with.
const KEY: &str = "tollgate/limits/by/";

/// Limits of which each value has its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Split {
    /// Whose they are and by what: no two are the same.
    number: u64,
    by: By,
    limits: Rc<[Measured]>,
}

impl Split {
    /// The limits of a client.
    #[must_use]
    pub fn of_client(name: &str, by: By, allowances: Vec<Allowance>) -> Self {
        Self::new("client", name, by, allowances)
    }

    /// The limits of a group: a value has the same with all its clients.
    #[must_use]
    pub fn of_group(name: &str, by: By, allowances: Vec<Allowance>) -> Self {
        Self::new("group", name, by, allowances)
    }

    /// The limits of a key of a client: it has them alone, and others of its client have others.
    #[must_use]
    pub fn of_key_alone(name: &str, key: &[u8; 32], allowances: Vec<Allowance>) -> Rc<Account> {
        Self::new("key", name, By::Key, allowances).account(Value::of_hash(key))
    }

    fn new(whose: &str, name: &str, by: By, allowances: Vec<Allowance>) -> Self {
        let mut hash = Sha256::new();
        for text in [whose, name, by.word(), by.name().unwrap_or_default()] {
            hash.update(text);
            hash.update([0]);
        }
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self { number, by, limits: Measured::all_of_values(allowances).into() }
    }

    /// The account of a value.
    fn account(&self, value: Value) -> Rc<Account> {
        let key = format!("{KEY}{:016x}/{value}", self.number);
        Rc::new(Account { key, limits: self.limits.clone(), fleet: None })
    }

    pub(super) fn account_of_key(&self, key: &str) -> Option<Rc<Account>> {
        let (number, value) = parsed(key)?;
        (number == self.number).then(|| self.account(value))
    }
}

/// Which split an account's key is of, and of which value.
fn parsed(key: &str) -> Option<(u64, Value)> {
    let (number, value) = key.strip_prefix(KEY)?.split_once('/')?;
    Some((u64::from_str_radix(number, 16).ok()?, Value::parse(value)?))
}

/// Whether this is the key of such an account.
#[must_use]
pub fn is_of_a_value(key: &str) -> bool {
    key.starts_with(KEY)
}

/// What the record of such an account is found by among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which split.
    pub(super) split: u64,
    pub(super) value: [u8; Value::BYTES],
}

impl Mark {
    /// That of an account with this key; `None` of one that is not of a split.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        parsed(key).map(|(split, value)| Self { split, value: value.bytes() })
    }

    /// A number that the marks are evenly spread by.
    pub(super) fn number(&self) -> u64 {
        fnv1a(fnv1a(FNV1A_OF_NOTHING, &self.split.to_le_bytes()), &self.value)
    }
}

impl Budget {
    /// The same with limits that are split.
    #[must_use]
    pub fn with(self, splits: impl IntoIterator<Item = Rc<Split>>) -> Self {
        let mut splits: Vec<_> = self.splits.into_iter().chain(splits).collect();
        // What the headers tell is the beginning of what the body tells: a reservation has accounts by their places.
        sorting::sort_by_key(&mut splits, |split| split.by.is_in_body());
        Self { splits, ..self }
    }

    /// The same with one more account.
    #[must_use]
    pub fn and(&self, account: Rc<Account>) -> Self {
        let accounts = self.accounts.iter().cloned().chain([account]).collect();
        Self { accounts, splits: self.splits.clone() }
    }

    /// What whoever asks meets of it: the same accounts, and those of the values.
    #[must_use]
    pub fn of(self: &Rc<Self>, values: &Values) -> Rc<Self> {
        self.known(|split| Some(split.account(values.of(&split.by))))
    }

    /// The same as far as the headers tell.
    #[must_use]
    pub fn of_head(self: &Rc<Self>, values: &Values) -> Rc<Self> {
        self.known(|split| (!split.by.is_in_body()).then(|| split.account(values.of(&split.by))))
    }

    /// Whether only the body tells all of it.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        self.splits.iter().any(|split| split.by.is_in_body())
    }

    /// What tells whoever asks from the client's other users, as it was said or by its hash.
    #[must_use]
    pub fn said(&self, values: &Values, as_text: bool) -> Vec<String> {
        let said = |split: &Rc<Split>| {
            let name = split.by.name().map(|name| format!("/{name}")).unwrap_or_default();
            Some(format!("{}{name}={}", split.by.word(), values.said(&split.by, as_text)?))
        };
        self.splits.iter().filter_map(said).collect()
    }

    pub(super) fn known(self: &Rc<Self>, own: impl Fn(&Split) -> Option<Rc<Account>>) -> Rc<Self> {
        if self.splits.is_empty() {
            return self.clone();
        }
        let own = self.splits.iter().filter_map(|split| own(split));
        let accounts = self.accounts.iter().cloned().chain(own).collect();
        Rc::new(Self { accounts, splits: Vec::new() })
    }

    /// The account of a value, by its key.
    pub(super) fn account_of_value(&self, key: &str) -> Option<Rc<Account>> {
        self.splits.iter().find_map(|split| split.account_of_key(key))
    }
}

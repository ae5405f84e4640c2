//! Which clients stand in the store or in a document, beside the configuration, as far as this worker has heard of them?
//!
//! A client is heard of together with its keys, and forgotten with the last of them. As long as its entry is the same, so is the
//! client. Not decided here: what an entry means.

use super::Client;
use crate::codec::{self, Reader, Stored, Writer};
use crate::ledger::Name;
use crate::store::{self, Store};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::{Rc, Weak};

/// The record of those that have a label value of their own, in the store of this process.
const LABELS: &str = "tollgate/client-labels";

/// So many that are remembered are not looked through for those that are gone.
const SWEPT_FROM: usize = 1024;

/// The one hash in the store that has the clients beside the configuration, by their names.
#[must_use]
pub fn client_table(prefix: &str) -> String {
    format!("{prefix}:clients")
}

/// A client by its name and its entry; or every fault of that.
pub type ReadClient = Box<dyn Fn(Name, &[u8]) -> Result<Client, Vec<String>>>;

/// Those that a worker has heard of.
pub struct Joined {
    read: ReadClient,
    /// So many may have a label value of their own.
    labels_max: usize,
    /// The label value that the others share.
    other: Rc<str>,
    known: RefCell<Table>,
    labelled: RefCell<Labelled>,
}

/// Those that have a label value of their own, as far as this worker has read.
#[derive(Default)]
struct Labelled {
    own: HashSet<String>,
    /// Whether there will be no other: who has one keeps it.
    are_all: bool,
}

#[derive(Default)]
struct Table {
    by_name: HashMap<Rc<str>, Heard>,
    /// With so many those that are gone are taken out.
    swept_at: usize,
}

/// What was heard of one.
struct Heard {
    /// The SHA-256 of its entry.
    entry: [u8; 32],
    client: Result<Weak<Client>, String>,
}

impl Heard {
    fn is_alive(&self) -> bool {
        self.client.as_ref().is_ok_and(|client| client.strong_count() > 0)
    }
}

/// A client with a label value of its own.
#[derive(Debug, PartialEq, Eq)]
struct Label(String);

impl Stored for Label {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self(from.text()?.to_owned()))
    }

    fn write(&self, to: &mut Writer) {
        to.text(&self.0);
    }
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("labels_max", &self.labels_max).finish_non_exhaustive()
    }
}

impl Joined {
    /// Nobody has been heard of yet. `read` tells what an entry means. The first `labels_max` have a label value of their own, and
    /// `other` is that of all others.
    #[must_use]
    pub fn new(read: ReadClient, labels_max: usize, other: Rc<str>) -> Self {
        Self { read, labels_max, other, known: RefCell::default(), labelled: RefCell::default() }
    }

    /// The client whose entry this is; or what is wrong with it, and whether that was not told before.
    pub fn hear(&self, name: &str, entry: &[u8], store: &dyn Store) -> Result<Rc<Client>, (String, bool)> {
        match self.recall(name, entry) {
            Some(Ok(client)) => return Ok(client),
            Some(Err(problem)) => return Err((problem, false)),
            None => {}
        }
        match self.read(name, entry) {
            Ok(client) => Ok(self.enter(client, entry, store)),
            Err(faults) => {
                let problem = faults.join("; ");
                self.note(name, entry, Err(problem.clone()));
                Err((problem, true))
            }
        }
    }

    /// What is known of this very entry.
    pub fn recall(&self, name: &str, entry: &[u8]) -> Option<Result<Rc<Client>, String>> {
        let known = self.known.borrow();
        let heard = known.by_name.get(name)?;
        let digest: [u8; 32] = Sha256::digest(entry).into();
        match &heard.client {
            _ if heard.entry != digest => None,
            Ok(client) => client.upgrade().map(Ok),
            Err(problem) => Some(Err(problem.clone())),
        }
    }

    /// Takes a client whose entry this is.
    pub fn enter(&self, mut client: Client, entry: &[u8], store: &dyn Store) -> Rc<Client> {
        let name = client.name.text.clone();
        client.name.label = self.label(&name, store);
        // What is held of its bodies is held under a changed entry too.
        let before = self.get(&name).map(|before| before.held_bytes.clone());
        if let Some(held_bytes) = before.filter(|held_bytes| held_bytes.max() == client.held_bytes.max()) {
            client.held_bytes = held_bytes;
        }
        let client = Rc::new(client);
        self.note(&name, entry, Ok(Rc::downgrade(&client)));
        client
    }

    fn note(&self, name: &str, entry: &[u8], client: Result<Weak<Client>, String>) {
        let mut known = self.known.borrow_mut();
        if known.by_name.len() >= known.swept_at.max(SWEPT_FROM) {
            known.by_name.retain(|_, heard| heard.is_alive());
            known.swept_at = known.by_name.len() * 2;
        }
        known.by_name.insert(name.into(), Heard { entry: Sha256::digest(entry).into(), client });
    }

    /// The client by its name and its entry, without a label value of its own; or every fault.
    pub fn read(&self, name: &str, entry: &[u8]) -> Result<Client, Vec<String>> {
        (self.read)(self.unlabelled(name), entry)
    }

    /// The client of this name, if this worker has heard of it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Rc<Client>> {
        self.known.borrow().by_name.get(name)?.client.as_ref().ok()?.upgrade()
    }

    /// The name of one of whom nothing else is known: it has no label value of its own.
    #[must_use]
    pub fn unlabelled(&self, name: &str) -> Name {
        Name { text: name.into(), label: self.other.clone() }
    }

    /// Who was first heard of has its own, in all workers; as long as this process runs.
    fn label(&self, name: &str, store: &dyn Store) -> Rc<str> {
        self.label_all([name].into_iter(), store);
        if self.labelled.borrow().own.contains(name) { name.into() } else { self.other.clone() }
    }

    /// Gives label values of their own to as many of these as may have one, at once.
    pub fn label_all<'n>(&self, names: impl Iterator<Item = &'n str> + Clone, store: &dyn Store) {
        let mut labelled = self.labelled.borrow_mut();
        if labelled.are_all || names.clone().all(|name| labelled.own.contains(name)) {
            return;
        }
        let read = store::update(store, LABELS, |stored| {
            let mut labels = codec::decode_all::<Label>(stored);
            let before = labels.len();
            // Another configuration may have let more of them have one.
            let mut own: HashSet<_> =
                labels.iter().take(self.labels_max).map(|label| label.0.clone()).collect();
            for name in names.clone() {
                if labels.len() >= self.labels_max {
                    break;
                }
                if own.insert(name.to_owned()) {
                    labels.push(Label(name.to_owned()));
                }
            }
            let are_all = labels.len() >= self.labels_max;
            ((labels.len() > before).then(|| codec::encode_all(&labels)), Labelled { own, are_all })
        });
        if let Ok(read) = read {
            *labelled = read;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::law;
    use crate::store::{MemoryStore, StoreFault};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_list_is_labelled_at_once_from_its_beginning() {
        let store = MemoryStore::default();
        let joined = |labels_max| Joined::new(Box::new(|_, _| Err(Vec::new())), labels_max, "other".into());
        let labels =
            |joined: &Joined, names: [&str; 3]| names.map(|name| joined.label(name, &store).to_string());
        let two = joined(2);
        two.label_all(["a", "b", "c"].into_iter(), &store);
        assert_eq!(labels(&two, ["a", "b", "c"]), ["a", "b", "other"]);
        // A configuration that lets more have one takes nothing from them, and gives nothing to others.
        let three = joined(3);
        three.label_all(["d", "a", "e"].into_iter(), &store);
        assert_eq!(labels(&three, ["d", "a", "e"]), ["d", "a", "other"]);
        assert_eq!(labels(&joined(2), ["d", "b", "a"]), ["other", "b", "a"]);
        // Where all are known, nobody is asked.
        store.break_with(Some(StoreFault::Unavailable));
        assert_eq!(labels(&two, ["a", "c", "d"]), ["a", "other", "other"]);
        assert_eq!(labels(&joined(2), ["a", "b", "c"]), ["other"; 3]);
    }

    #[test]
    fn the_law_of_stored_values_holds() {
        law::holds("client_label", &[Label("web".to_owned())]);
    }
}

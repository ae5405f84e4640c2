//! How many bytes of a client's bodies are held at a time?
//!
//! A body waits in Envoy until it is decided where its request goes, and what a client may spend does not bound how much that
//! is. Its bytes are counted as they are announced or come, by each worker for itself, and given back when the request is sent
//! on or ends, whichever way. Not counted: what Envoy keeps of a request that was sent on, for another attempt.

use super::Client;
use crate::denial::Denial;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What a client may have held if its configuration does not say: 64 MiB.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Room is asked for again after this: nobody knows when a body will be whole.
const ROOM_BACK_OFF: Duration = Duration::from_secs(1);

/// The bytes of the bodies of one client, or of all of which it is not known yet whose they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HeldBytes {
    max: usize,
    now: Cell<usize>,
}

impl HeldBytes {
    /// None yet, and at most so many.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, now: Cell::new(0) }
    }

    /// How many there may be.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }
}

impl Client {
    /// How much of its bodies is held now.
    #[cfg(test)]
    pub(crate) fn held_bytes_now(&self) -> usize {
        self.held_bytes.now.get()
    }

    /// What is said if there is no room for a body of its.
    pub(crate) fn held_bytes_exceeded(&self) -> Denial {
        Denial::HeldBytesExceeded { bytes_max: self.held_bytes.max, wait: ROOM_BACK_OFF }
    }
}

/// What one body takes of them, until this is dropped.
#[derive(Debug)]
pub struct BodyRoom {
    of: Rc<HeldBytes>,
    bytes: usize,
}

impl BodyRoom {
    /// For a body of which nothing has come.
    #[must_use]
    pub fn new(of: Rc<HeldBytes>) -> Self {
        Self { of, bytes: 0 }
    }

    /// Takes room for so many bytes in all, or nothing more if there is none; less than was taken changes nothing.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let all = self.of.now.get().saturating_add(more);
        let fits = more == 0 || all <= self.of.max;
        if fits {
            self.of.now.set(all);
            self.bytes += more;
        }
        fits
    }

    /// Takes room for so many bytes in all, and gives back what is more than that; whether there is.
    #[must_use]
    pub fn change_to(&mut self, bytes: usize) -> bool {
        let less = self.bytes.saturating_sub(bytes);
        self.of.now.set(self.of.now.get().saturating_sub(less));
        self.bytes -= less;
        self.grow_to(bytes)
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        self.of.now.set(self.of.now.get().saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However bodies grow and go, together they never take more than there is, and all of it comes back.
        #[test]
        fn bodies_never_take_more_than_there_is_and_give_it_back(
            steps in prop::collection::vec((0..4usize, 0..60usize, any::<bool>()), 1..60),
        ) {
            const MAX: usize = 100;
            let of = Rc::new(HeldBytes::new(MAX));
            let mut rooms: Vec<Option<BodyRoom>> = (0..4).map(|_| None).collect();
            for (at, bytes, ends) in steps {
                if ends {
                    rooms[at] = None;
                } else {
                    let room = rooms[at].get_or_insert_with(|| BodyRoom::new(of.clone()));
                    let (own, all) = (room.bytes, of.now.get());
                    let fits = bytes <= own || all - own + bytes <= MAX;
                    prop_assert_eq!(room.grow_to(bytes), fits);
                    prop_assert_eq!(room.bytes, if fits { own.max(bytes) } else { own });
                }
                let taken: usize = rooms.iter().flatten().map(|room| room.bytes).sum();
                prop_assert_eq!(of.now.get(), taken);
                prop_assert!(taken <= MAX);
            }
            rooms.clear();
            prop_assert_eq!(of.now.get(), 0);
        }
    }
}

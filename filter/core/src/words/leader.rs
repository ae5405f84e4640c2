//! Which of the VMs of a process does something for all of them? The one that did it last, while it does.

use crate::codec::{self, Reader, Stored, Writer};
use crate::store::{self, Moment, StoreFault};
use crate::time::millis;
use std::time::Duration;

/// Which VM it is, and when it did it last.
#[derive(Debug, PartialEq, Eq)]
struct Leader {
    vm: u64,
    last_ms: u64,
}

impl Stored for Leader {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { vm: from.u64()?, last_ms: from.u64()? })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.vm);
        to.u64(self.last_ms);
    }
}

/// Whether this VM is the one; then it has done it now. `key` says what is to be done, and one that has not done it for `term`
/// is it no more.
pub fn leads(moment: Moment<'_>, key: &str, vm: u64, term: Duration) -> Result<bool, StoreFault> {
    let now = millis(moment.now);
    store::update(moment.store, key, |stored| {
        // A time from the future is a clock that was put back.
        let is_it = |leader: &Leader| now.checked_sub(leader.last_ms).is_some_and(|age| age < millis(term));
        if codec::decode::<Leader>(stored).is_some_and(|leader| leader.vm != vm && is_it(&leader)) {
            return (None, false);
        }
        (Some(codec::encode(&Leader { vm, last_ms: now })), true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::law;
    use crate::store::MemoryStore;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_secs(1_700_000_000);
    const TERM: Duration = Duration::from_secs(1);

    #[test]
    fn another_vm_leads_once_the_last_one_has_not_for_a_term() {
        let store = MemoryStore::default();
        let leads =
            |vm, ms: u64| leads(Moment::new(&store, NOW + Duration::from_millis(ms)), "k", vm, TERM).unwrap();
        assert!(leads(1, 0) && !leads(2, 999) && leads(1, 999));
        assert!(!leads(2, 1998) && leads(2, 1999) && !leads(1, 1999));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_anybody_lead() {
        let store = MemoryStore::default();
        assert_eq!(leads(Moment::new(&store, NOW), "k", 1, TERM), Ok(true));
        assert_eq!(leads(Moment::new(&store, NOW - TERM), "k", 2, TERM), Ok(true));
        assert_eq!(leads(Moment::new(&store, NOW), "other", 3, TERM), Ok(true));
    }

    #[test]
    fn the_law_of_stored_values_holds() {
        law::holds("leader", &[Leader { vm: u64::MAX, last_ms: 1_795_000_000_000 }]);
    }
}

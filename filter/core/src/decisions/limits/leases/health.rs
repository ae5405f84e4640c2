//! Does the fleet's store answer, by which name does it know this process, and which VM calls it?

use super::TICK;
use crate::codec::{self, Reader, Stored, Writer};
use crate::fleet::Fleet;
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::nanos;
use std::time::Duration;

const HEALTH: &str = "leases/store";

const LEADER: &str = "leases/leader";

/// Of all fleets: what a process uses of a backend's capacity is one amount, by whichever way it is told.
const PROCESS: &str = "tollgate/leases/holder";

/// A VM that has not called for so long does not any more, and a failure that is so old is none.
pub const TERM: Duration = TICK.saturating_mul(4);

/// Whether the store answered the last call of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It did, or was not called yet.
    Answers,
    /// It did not. The tick goes on calling.
    Fails,
}

/// When the last call failed; 0 if it did not.
#[derive(Debug, PartialEq, Eq)]
struct FailedAt(u64);

impl Stored for FailedAt {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u64().map(Self)
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.0);
    }
}

impl Health {
    /// As it stands. A failure that is older than the tick would leave it is none: somebody has to try.
    pub fn load(moment: Moment<'_>, fleet: Fleet) -> Result<Self, StoreFault> {
        let failed = codec::decode::<FailedAt>(&moment.store.load(&fleet.key(HEALTH))?.value);
        let fails = failed.is_some_and(|failed| nanos(moment.now).abs_diff(failed.0) < nanos(TERM));
        Ok(if fails { Self::Fails } else { Self::Answers })
    }

    /// Notes it. True if that is news.
    pub fn note(self, moment: Moment<'_>, fleet: Fleet) -> Result<bool, StoreFault> {
        store::update(moment.store, &fleet.key(HEALTH), |stored| {
            let before = codec::decode::<FailedAt>(stored).is_some_and(|failed| failed.0 > 0);
            match self {
                Self::Answers if !before => (None, false),
                Self::Answers => (Some(codec::encode(&FailedAt(0))), true),
                Self::Fails => (Some(codec::encode(&FailedAt(nanos(moment.now)))), !before),
            }
        })
    }
}

/// Where it is written down which VM of the process calls for all accounts of a fleet.
#[must_use]
pub fn leader(fleet: Fleet) -> String {
    fleet.key(LEADER)
}

/// The name of this process among others: `new`, which no other has, if it has none yet.
pub fn process(store: &dyn Store, new: &str) -> Result<String, StoreFault> {
    store::update(store, PROCESS, |stored| match std::str::from_utf8(stored) {
        Ok(name) if !name.is_empty() => (None, name.to_owned()),
        _ => (Some(new.as_bytes().to_vec()), new.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::law;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_law_of_stored_values_holds() {
        law::holds("store_failed_at", &[FailedAt(u64::MAX), FailedAt(0)]);
    }
}

//! How much of a model's requests may go to a target at the most?
//!
//! Of so many requests of the model in a row, a target with a bound gets its share and [`SAVED_MAX`] more at the most. Each
//! request that is sent, or that nobody could serve, saves that share of a request up for it, and one that is sent there spends a whole one; all workers
//! count together. No time is in it: however busy or quiet the model is, the same holds. Not decided here: whether the
//! target would be asked at all.

use super::Target;
use crate::codec::{self, Reader, Stored, Writer};
use crate::store::{self, Store, StoreFault};
use std::rc::Rc;

/// A request is counted in so many parts.
pub const PARTS: u32 = 1_000_000;

/// What a target may have saved at the most, and what it has when nothing is known of it.
const SAVED_MAX: u32 = 5;

/// The bounds of a model's targets, and where it is kept what they have saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    key: Rc<str>,
    bounds: Vec<Bound>,
}

/// So many parts of each request of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    target: u64,
    parts: u32,
}

/// What a target may still spend, in parts of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Saved {
    target: u64,
    parts: u32,
}

impl Stored for Saved {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { target: from.u64()?, parts: from.u32()? })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.target);
        to.u32(self.parts);
    }
}

/// The targets with a bound that have a request saved up.
#[derive(Debug, Default)]
pub struct Open(Vec<u64>);

impl Open {
    /// Whether this one may be asked, as far as it is known here.
    #[must_use]
    pub fn has(&self, target: &Target) -> bool {
        self.0.contains(&target.number())
    }
}

impl Shares {
    /// Those of a model with these targets; `None` if none has a bound.
    #[must_use]
    pub fn of(model: &str, targets: &[Rc<Target>]) -> Option<Rc<Self>> {
        let bound = |target: &Rc<Target>| Some(Bound { target: target.number(), parts: target.share_max? });
        let bounds: Vec<_> = targets.iter().filter_map(bound).collect();
        let key = format!("tollgate/shares/{model}").into();
        (!bounds.is_empty()).then(|| Rc::new(Self { key, bounds }))
    }

    /// Whether a target has a bound.
    #[must_use]
    pub fn bound(&self, target: &Target) -> bool {
        self.bounds.iter().any(|bound| bound.target == target.number())
    }

    /// What each target would have, were one more request sent.
    fn earned(&self, record: &[u8]) -> Vec<Saved> {
        let known: Vec<Saved> = codec::decode_all(record);
        let all = SAVED_MAX * PARTS;
        let saved = |bound: &Bound| {
            let known = known.iter().find(|saved| saved.target == bound.target);
            let parts = known.map_or(all, |saved| saved.parts.saturating_add(bound.parts).min(all));
            Saved { target: bound.target, parts }
        };
        self.bounds.iter().map(saved).collect()
    }

    /// Those that the next request may go to.
    pub fn open(&self, store: &dyn Store) -> Result<Open, StoreFault> {
        Ok(open(&self.earned(&store.load(&self.key)?.value)))
    }

    /// Counts a request that is sent to a target first. Answers which others it may go to after that; `None` if that target
    /// has nothing saved: then nothing is counted.
    pub fn send(&self, first: &Target, store: &dyn Store) -> Result<Option<Open>, StoreFault> {
        store::update(store, &self.key, |record| {
            let mut saved = self.earned(record);
            if !spend(&mut saved, first) {
                return (None, None);
            }
            (Some(codec::encode_all(&saved)), Some(open(&saved)))
        })
    }

    /// Counts a request that nobody could serve.
    pub fn serve_nobody(&self, store: &dyn Store) -> Result<(), StoreFault> {
        store::update(store, &self.key, |record| (Some(codec::encode_all(&self.earned(record))), ()))
    }

    /// Counts that a request which was counted goes on to this target; `false` if that has nothing saved.
    pub fn go_on(&self, target: &Target, store: &dyn Store) -> Result<bool, StoreFault> {
        store::update(store, &self.key, |record| {
            let mut saved: Vec<Saved> = codec::decode_all(record);
            let goes = spend(&mut saved, target);
            (goes.then(|| codec::encode_all(&saved)), goes)
        })
    }
}

fn open(saved: &[Saved]) -> Open {
    Open(saved.iter().filter(|saved| saved.parts >= PARTS).map(|saved| saved.target).collect())
}

/// Spends a request, where the target has a bound.
fn spend(saved: &mut [Saved], target: &Target) -> bool {
    let Some(saved) = saved.iter_mut().find(|saved| saved.target == target.number()) else { return true };
    match saved.parts.checked_sub(PARTS) {
        Some(left) => {
            saved.parts = left;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::targets;
    use super::*;
    use crate::store::MemoryStore;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn bounded(parts: u32) -> Vec<Rc<Target>> {
        let mut targets = targets(&["stable", "canary"]);
        Rc::get_mut(&mut targets[1]).unwrap().share_max = Some(parts);
        targets
    }

    #[test]
    fn of_n_requests_a_share_and_five_go_at_the_most() {
        let (store, targets) = (MemoryStore::default(), bounded(PARTS / 10));
        let shares = Shares::of("m", &targets).unwrap();
        let (mut there, mut elsewhere) = (0, 0);
        for _ in 0..200 {
            // All would go there; whoever may not goes to the other one, which counts too.
            if shares.send(&targets[1], &store).unwrap().is_some() {
                there += 1;
            } else {
                shares.send(&targets[0], &store).unwrap().unwrap();
                elsewhere += 1;
            }
        }
        assert_eq!((there, elsewhere), (24, 176));
        // Nothing is earned by those who are not sent.
        for _ in 0..20 {
            shares.open(&store).unwrap();
        }
        let goes_on = |at: usize| shares.go_on(&targets[at], &store).unwrap();
        assert_eq!((goes_on(0), goes_on(1)), (true, false));
        // What goes to others saves five and no more.
        for _ in 0..1000 {
            shares.send(&targets[0], &store).unwrap().unwrap();
        }
        assert_eq!([1, 1, 1, 1, 1, 1].map(goes_on), [true, true, true, true, true, false]);
        assert!(Shares::of("m", &targets[..1]).is_none());
    }

    #[test]
    fn what_a_target_has_saved_survives_in_the_store() {
        codec::law::holds("share", &[Saved { target: 7, parts: 5 }]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever asks first, and goes on: in any run of requests.
        #[test]
        fn no_run_of_requests_sends_more_than_its_share_and_five(
            parts in 1..PARTS,
            steps in prop::collection::vec((any::<bool>(), any::<bool>()), 1..300),
            from in 0..300_usize,
        ) {
            let (store, targets) = (MemoryStore::default(), bounded(parts));
            let shares = Shares::of("m", &targets).unwrap();
            let (mut sent, mut there) = (0_u64, 0_u64);
            for (at, (wants, fails)) in steps.into_iter().enumerate() {
                if at == from {
                    (sent, there) = (0, 0);
                }
                let goes = wants && shares.send(&targets[1], &store).unwrap().is_some();
                if !goes {
                    shares.send(&targets[0], &store).unwrap().unwrap();
                }
                let goes_on = !goes && fails && shares.go_on(&targets[1], &store).unwrap();
                (sent, there) = (sent + 1, there + u64::from(goes || goes_on));
                let most = sent * u64::from(parts) + u64::from(SAVED_MAX * PARTS);
                prop_assert!(there * u64::from(PARTS) <= most, "{} of {}", there, sent);
            }
        }
    }
}

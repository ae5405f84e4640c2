//! What does this worker know of a model's tokenizer, and what has it not told the others yet?
//!
//! To ask the store for every request, and to tell it of every answer, costs more than the estimate itself. So a worker
//! goes by what it read for a moment, takes its own answers into that at once, and tells them to the store several at a
//! time. While little is known, and each answer moves much, each is told at once. A VM that dies takes answers with it
//! that would have moved little.

use super::{Learnt, Observed, Sketch};
use crate::store::{Store, StoreFault};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// For so long a worker goes by what it read.
const HOLDS_FOR: Duration = Duration::from_millis(100);

/// The most answers that it keeps to itself.
const UNTOLD_MAX: usize = 16;

/// What one worker knows of one model.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lessons {
    known: Cell<Option<Known>>,
    untold: RefCell<Vec<(Sketch, Observed)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// What was read, and what this worker has learnt since.
    learnt: Learnt,
    /// When it was read.
    read: Duration,
}

impl Lessons {
    /// What was learnt of the model.
    pub fn learnt(&self, store: &dyn Store, model: &str, now: Duration) -> Result<Learnt, StoreFault> {
        match self.current(now) {
            Some(known) => Ok(known.learnt),
            None => self.catch_up(store, model, now),
        }
    }

    /// Takes an answer that reported its usage, with the sketch of its prompt.
    pub fn learn(
        &self,
        store: &dyn Store,
        model: &str,
        sketch: Sketch,
        answer: Observed,
        now: Duration,
    ) -> Result<(), StoreFault> {
        let mut untold = self.untold.borrow_mut();
        untold.push((sketch, answer));
        let waits = untold.len() < UNTOLD_MAX;
        drop(untold);
        match self.current(now).filter(|known| waits && known.learnt.is_settled(&sketch)) {
            Some(Known { learnt, read }) => {
                self.known.set(Some(Known { learnt: learnt.with(&sketch, answer), read }));
                Ok(())
            }
            None => self.catch_up(store, model, now).map(drop),
        }
    }

    fn current(&self, now: Duration) -> Option<Known> {
        // A clock that was put back makes it old, too.
        self.known.get().filter(|known| now.abs_diff(known.read) < HOLDS_FOR)
    }

    /// Tells what is untold, and reads what is known then. What the store does not take is not told again.
    fn catch_up(&self, store: &dyn Store, model: &str, now: Duration) -> Result<Learnt, StoreFault> {
        let untold = self.untold.take();
        let learnt = Learnt::learn(store, model, &untold)?;
        self.known.set(Some(Known { learnt, read: now }));
        Ok(learnt)
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::TOKEN;
    use super::*;
    use crate::store::MemoryStore;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const MODEL: &str = "gpt-4o";
    const NOW: Duration = Duration::from_secs(1_795_000_000);
    const TEXT: Sketch = Sketch { text: 1000 * TOKEN, exact: 7, items: 0 };

    fn answer(prompt_tokens: u64) -> Observed {
        Observed { prompt_tokens, produced: None }
    }

    fn stored(store: &MemoryStore) -> Learnt {
        Learnt::load(store, MODEL).unwrap()
    }

    /// After so many answers that the next one moves little.
    fn settled(store: &MemoryStore) -> Lessons {
        let lessons = Lessons::default();
        for _ in 0..31 {
            lessons.learn(store, MODEL, TEXT, answer(2007), NOW).unwrap();
        }
        lessons
    }

    #[test]
    fn while_little_is_known_each_answer_is_told_at_once() {
        let (store, lessons, image) =
            (MemoryStore::default(), Lessons::default(), Sketch { items: 1, ..TEXT });
        for sketch in [TEXT; 31].into_iter().chain([image; 31]) {
            let before = stored(&store);
            lessons.learn(&store, MODEL, sketch, answer(2107), NOW).unwrap();
            assert_eq!(stored(&store), before.with(&sketch, answer(2107)));
        }
    }

    #[test]
    fn a_few_answers_wait_for_each_other_and_the_worker_knows_them_already() {
        let store = MemoryStore::default();
        let lessons = settled(&store);
        let (before, mut own) = (stored(&store), stored(&store));
        for at in 1..=UNTOLD_MAX {
            assert_eq!(stored(&store), before, "{at}");
            lessons.learn(&store, MODEL, TEXT, answer(3007), NOW).unwrap();
            own = own.with(&TEXT, answer(3007));
            assert_eq!(lessons.learnt(&store, MODEL, NOW), Ok(own), "{at}");
        }
        assert_eq!(stored(&store), own);
    }

    #[test]
    fn what_was_read_holds_for_a_moment() {
        let store = MemoryStore::default();
        let lessons = settled(&store);
        let before = stored(&store);
        lessons.learn(&store, MODEL, TEXT, answer(3007), NOW).unwrap();
        let others = Learnt::learn(&store, MODEL, &[(TEXT, answer(1007))]).unwrap();
        assert_eq!(lessons.learnt(&store, MODEL, NOW), Ok(before.with(&TEXT, answer(3007))));
        let both = others.with(&TEXT, answer(3007));
        assert_eq!(lessons.learnt(&store, MODEL, NOW + HOLDS_FOR), Ok(both));
        assert_eq!(stored(&store), both);
        // Or if the clock was put back.
        let others = Learnt::learn(&store, MODEL, &[(TEXT, answer(1007))]).unwrap();
        assert_eq!(lessons.learnt(&store, MODEL, NOW), Ok(others));
    }

    #[test]
    fn a_store_that_fails_is_told_of_and_keeps_nothing_waiting() {
        let store = MemoryStore::default();
        let lessons = settled(&store);
        let later = NOW + HOLDS_FOR;
        store.break_with(Some(StoreFault::Unavailable));
        let told = lessons.learn(&store, MODEL, TEXT, answer(3007), later);
        assert_eq!(told, Err(StoreFault::Unavailable));
        assert_eq!(lessons.learnt(&store, MODEL, later), Err(StoreFault::Unavailable));
        assert!(lessons.untold.borrow().is_empty());
        store.break_with(None);
        assert_eq!(lessons.learnt(&store, MODEL, later), Ok(stored(&store)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// One worker alone knows the same as if it told each answer, and the store does once all is told.
        #[test]
        fn telling_several_at_a_time_teaches_the_same(
            answers in prop::collection::vec((0..4000u64, 0..2u64, 0..60u64), 1..200),
        ) {
            let (store, lessons, mut expected) = (MemoryStore::default(), Lessons::default(), Learnt::default());
            let mut now = NOW;
            for (prompt_tokens, items, ms) in answers {
                now += Duration::from_millis(ms);
                let sketch = Sketch { items, ..TEXT };
                expected = expected.with(&sketch, answer(prompt_tokens));
                lessons.learn(&store, MODEL, sketch, answer(prompt_tokens), now).unwrap();
                prop_assert_eq!(lessons.learnt(&store, MODEL, now), Ok(expected));
            }
            prop_assert_eq!(lessons.learnt(&store, MODEL, now + HOLDS_FOR), Ok(expected));
            prop_assert_eq!(stored(&store), expected);
        }
    }
}

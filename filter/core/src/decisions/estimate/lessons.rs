//! What does this worker know of a model's tokenizer, and what has it not told the others yet?
//!
//! Each client teaches only what its own requests are estimated by: one that is answered oddly, by its texts or by its
//! will, moves no other's. What two of them have in common is the table of [`super::text`], good enough to begin with.
//!
//! To ask the store for every request, and to tell it of every answer, costs more than the estimate itself. So a worker
//! goes by what it read for a moment, takes its own answers into that at once, and tells them to the store several at a
//! time. While little is known, and each answer moves much, each is told at once. A VM that dies takes answers with it
//! that would have moved little.

use super::{Learnt, Observed, Sketch};
use crate::store::{Moment, StoreFault};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// For so long a worker goes by what it read.
const HOLDS_FOR: Duration = Duration::from_secs(1);

/// The most answers that it keeps to itself.
const UNTOLD_MAX: usize = 16;

/// What one worker knows of one model, by clients: as many as the configuration has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lessons {
    pupils: RefCell<HashMap<Rc<str>, Pupil>>,
}

/// Whose lessons these are.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The client's.
    pub client: &'a Rc<str>,
}

/// What is known by the answers to one client.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pupil {
    cached: Option<CachedLesson>,
    untold: Vec<(Sketch, Observed)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CachedLesson {
    /// What was read, and what this worker has learnt since.
    learnt: Learnt,
    /// When it was read.
    read: Duration,
}

impl Lessons {
    /// What was learnt of the model by the client's answers.
    pub fn learnt(&self, moment: Moment<'_>, subject: Subject<'_>) -> Result<Learnt, StoreFault> {
        self.with(subject, |pupil| match pupil.current(moment.now) {
            Some(cached) => Ok(cached.learnt),
            None => pupil.catch_up(moment, subject),
        })
    }

    /// Takes an answer that reported its usage, with the sketch of its prompt.
    pub fn learn(
        &self,
        moment: Moment<'_>,
        subject: Subject<'_>,
        sketch: Sketch,
        answer: Observed,
    ) -> Result<(), StoreFault> {
        self.with(subject, |pupil| {
            pupil.untold.push((sketch, answer));
            let waits = pupil.untold.len() < UNTOLD_MAX;
            match pupil.current(moment.now).filter(|cached| waits && cached.learnt.is_settled(&sketch)) {
                Some(CachedLesson { learnt, read }) => {
                    pupil.cached = Some(CachedLesson { learnt: learnt.with(&sketch, answer), read });
                    Ok(())
                }
                None => pupil.catch_up(moment, subject).map(drop),
            }
        })
    }

    fn with<T>(&self, subject: Subject<'_>, act: impl FnOnce(&mut Pupil) -> T) -> T {
        let mut pupils = self.pupils.borrow_mut();
        if let Some(pupil) = pupils.get_mut(subject.client) {
            return act(pupil);
        }
        act(pupils.entry(subject.client.clone()).or_default())
    }
}

impl Pupil {
    fn current(&self, now: Duration) -> Option<CachedLesson> {
        // A clock that was put back makes it old, too.
        self.cached.filter(|cached| now.abs_diff(cached.read) < HOLDS_FOR)
    }

    /// Tells what is untold, and reads what is known then. What the store does not take is not told again.
    fn catch_up(&mut self, moment: Moment<'_>, subject: Subject<'_>) -> Result<Learnt, StoreFault> {
        let untold = std::mem::take(&mut self.untold);
        let learnt = Learnt::learn(moment.store, subject, &untold)?;
        self.cached = Some(CachedLesson { learnt, read: moment.now });
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

    const NOW: Duration = Duration::from_secs(1_795_000_000);
    const TEXT: Sketch = Sketch { text: 1000 * TOKEN, exact: 7, items: 0 };

    fn answer(prompt_tokens: u64) -> Observed {
        Observed { prompt_tokens, produced: None }
    }

    fn subject(client: &Rc<str>) -> Subject<'_> {
        Subject { model: "gpt-4o", client }
    }

    fn web() -> Rc<str> {
        Rc::from("web")
    }

    fn stored(store: &MemoryStore) -> Learnt {
        Learnt::load(store, subject(&web())).unwrap()
    }

    /// After so many answers that the next one moves little.
    fn settled(store: &MemoryStore) -> Lessons {
        let lessons = Lessons::default();
        for _ in 0..31 {
            lessons.learn(Moment::new(store, NOW), subject(&web()), TEXT, answer(2007)).unwrap();
        }
        lessons
    }

    #[test]
    fn while_little_is_known_each_answer_is_told_at_once() {
        let (store, lessons, image) =
            (MemoryStore::default(), Lessons::default(), Sketch { items: 1, ..TEXT });
        for sketch in [TEXT; 31].into_iter().chain([image; 31]) {
            let before = stored(&store);
            lessons.learn(Moment::new(&store, NOW), subject(&web()), sketch, answer(2107)).unwrap();
            assert_eq!(stored(&store), before.with(&sketch, answer(2107)));
        }
    }

    #[test]
    fn a_few_lessons_are_written_together_and_known_at_once() {
        let store = MemoryStore::default();
        let lessons = settled(&store);
        let (before, mut own) = (stored(&store), stored(&store));
        for at in 1..=UNTOLD_MAX {
            assert_eq!(stored(&store), before, "{at}");
            lessons.learn(Moment::new(&store, NOW), subject(&web()), TEXT, answer(3007)).unwrap();
            own = own.with(&TEXT, answer(3007));
            assert_eq!(lessons.learnt(Moment::new(&store, NOW), subject(&web())), Ok(own), "{at}");
        }
        assert_eq!(stored(&store), own);
    }

    #[test]
    fn what_was_read_holds_for_a_moment() {
        let store = MemoryStore::default();
        let lessons = settled(&store);
        let before = stored(&store);
        lessons.learn(Moment::new(&store, NOW), subject(&web()), TEXT, answer(3007)).unwrap();
        let others = Learnt::learn(&store, subject(&web()), &[(TEXT, answer(1007))]).unwrap();
        assert_eq!(
            lessons.learnt(Moment::new(&store, NOW), subject(&web())),
            Ok(before.with(&TEXT, answer(3007)))
        );
        let both = others.with(&TEXT, answer(3007));
        assert_eq!(lessons.learnt(Moment::new(&store, NOW + HOLDS_FOR), subject(&web())), Ok(both));
        assert_eq!(stored(&store), both);
        // Or if the clock was put back.
        let others = Learnt::learn(&store, subject(&web()), &[(TEXT, answer(1007))]).unwrap();
        assert_eq!(lessons.learnt(Moment::new(&store, NOW), subject(&web())), Ok(others));
    }

    #[test]
    fn a_client_teaches_its_own_estimates_only() {
        let (store, lessons, odd) = (MemoryStore::default(), Lessons::default(), Rc::from("odd"));
        for _ in 0..200 {
            lessons.learn(Moment::new(&store, NOW), subject(&odd), TEXT, answer(u64::MAX)).unwrap();
        }
        let learnt = lessons.learnt(Moment::new(&store, NOW), subject(&odd)).unwrap();
        assert!(learnt.prompt_tokens(&TEXT) > 3900);
        for lessons in [lessons, Lessons::default()] {
            assert_eq!(lessons.learnt(Moment::new(&store, NOW), subject(&web())), Ok(Learnt::default()));
        }
        // Names that read the same one after the other are not the same.
        let (one, other) = (Rc::from("b/c"), Rc::from("c"));
        Learnt::learn(&store, Subject { model: "a", client: &one }, &[(TEXT, answer(3007))]).unwrap();
        assert_eq!(Learnt::load(&store, Subject { model: "a/b", client: &other }), Ok(Learnt::default()));
    }

    #[test]
    fn a_store_that_fails_is_told_of_and_keeps_nothing_waiting() {
        let store = MemoryStore::default();
        let lessons = settled(&store);
        let later = NOW + HOLDS_FOR;
        store.break_with(Some(StoreFault::Unavailable));
        let told = lessons.learn(Moment::new(&store, later), subject(&web()), TEXT, answer(3007));
        assert_eq!(told, Err(StoreFault::Unavailable));
        assert_eq!(lessons.learnt(Moment::new(&store, later), subject(&web())), Err(StoreFault::Unavailable));
        assert!(lessons.with(subject(&web()), |pupil| pupil.untold.is_empty()));
        store.break_with(None);
        assert_eq!(lessons.learnt(Moment::new(&store, later), subject(&web())), Ok(stored(&store)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// One worker alone knows the same as if it told each answer, and the store does once all is told.
        #[test]
        fn telling_several_at_a_time_teaches_the_same(
            answers in prop::collection::vec((0..4000u64, 0..2u64, 0..600u64), 1..200),
        ) {
            let (store, lessons, mut expected) = (MemoryStore::default(), Lessons::default(), Learnt::default());
            let mut now = NOW;
            for (prompt_tokens, items, ms) in answers {
                now += Duration::from_millis(ms);
                let sketch = Sketch { items, ..TEXT };
                expected = expected.with(&sketch, answer(prompt_tokens));
                lessons.learn(Moment::new(&store, now), subject(&web()), sketch, answer(prompt_tokens)).unwrap();
                prop_assert_eq!(lessons.learnt(Moment::new(&store, now), subject(&web())), Ok(expected));
            }
            prop_assert_eq!(lessons.learnt(Moment::new(&store, now + HOLDS_FOR), subject(&web())), Ok(expected));
            prop_assert_eq!(stored(&store), expected);
        }
    }
}

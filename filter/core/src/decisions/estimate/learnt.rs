//! What have a model's answers taught about its tokenizer?
//!
//! Three ratios for each model and client, shared by all workers: tokens of a prompt's text to the sketch of it, tokens of an image
//! to the usual, tokens of produced text to its bytes. Each answer moves a ratio towards what it reported: the first
//! ones much, later ones by a 32nd. One answer counts as no more than twice or half of what is known, so that an absurd
//! usage moves little.

use super::text::TOKEN;
use super::{Sketch, Subject};
use crate::codec::{self, Reader, Stored, Writer};
use crate::store::{self, Store, StoreFault};

/// A ratio of 1.
const ONE: u64 = 1 << 24;

/// What an image costs before any was seen: 1024 x 1024 in high detail, in OpenAI's vision guide.
/// <https://platform.openai.com/docs/guides/vision/calculating-costs>
const ITEM_TOKENS: u64 = 765;

/// A produced token is four bytes before any was seen: the usual figure for English.
/// <https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them>
const PRODUCED: u64 = ONE / 4;

/// From this many answers on a new one moves a ratio by as little as one among them.
const ANSWERS_MAX: u8 = 32;

/// An answer about less text moves less: so few tokens, or bytes, tell little of the rest.
const FULL_TEXT: u64 = 16 * TOKEN;
const FULL_PRODUCED_BYTES: u64 = 64;

/// Between which values a ratio stays, whatever is reported.
struct Bounds {
    min: u64,
    max: u64,
}

const PROMPT_BOUNDS: Bounds = Bounds { min: ONE / 4, max: 4 * ONE };
const ITEM_BOUNDS: Bounds = Bounds { min: ONE / 32, max: 32 * ONE };
const PRODUCED_BOUNDS: Bounds = Bounds { min: ONE / 16, max: 2 * ONE };

/// A ratio, and from how many answers it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ratio {
    /// Of [`ONE`].
    value: u64,
    answers: u8,
}

impl Ratio {
    const fn unknown(value: u64) -> Self {
        Self { value, answers: 0 }
    }

    /// So much of that.
    fn of(self, amount: u64) -> u128 {
        u128::from(amount) * u128::from(self.value)
    }

    /// Takes an answer that says `amount / base`, where a `base` of `full` or more counts in full.
    fn learn(&mut self, amount: u64, base: u64, full: u64, bounds: &Bounds) {
        if base == 0 {
            return;
        }
        let reported =
            (u128::from(amount) * u128::from(ONE) / u128::from(base)).min(bounds.max.into()) as u64;
        let reported = reported.clamp(self.value / 2, self.value * 2).clamp(bounds.min, bounds.max);
        // What was assumed counts as one answer.
        self.answers = (self.answers + 1).min(ANSWERS_MAX - 1);
        let parts = full * (u64::from(self.answers) + 1);
        let step = reported.abs_diff(self.value) * base.min(full) / parts;
        self.value = if reported > self.value { self.value + step } else { self.value - step };
    }

    /// The same within these bounds, whatever a record says.
    fn within(self, bounds: &Bounds) -> Self {
        Self { value: self.value.clamp(bounds.min, bounds.max), answers: self.answers.min(ANSWERS_MAX - 1) }
    }
}

impl Stored for Ratio {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { answers: from.u8()?, value: from.u32()?.into() })
    }

    fn write(&self, to: &mut Writer) {
        to.u8(self.answers);
        // The highest bound is below 2^32.
        to.u32(u32::try_from(self.value).unwrap_or(u32::MAX));
    }
}

/// What was learnt of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learnt {
    prompt: Ratio,
    item: Ratio,
    produced: Ratio,
}

impl Default for Learnt {
    fn default() -> Self {
        Self { prompt: Ratio::unknown(ONE), item: Ratio::unknown(ONE), produced: Ratio::unknown(PRODUCED) }
    }
}

/// What an answer reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// What was produced, where its text was seen.
    pub produced: Option<Produced>,
}

/// What was produced, all of it text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The bytes of the text, as JSON strings have it.
    pub text_bytes: u64,
    /// The tokens of that text: without hidden reasoning.
    pub completion_tokens: u64,
}

impl Learnt {
    /// Reads what was learnt of a model by a client's answers; nothing, where nothing was.
    pub fn load(store: &dyn Store, subject: Subject<'_>) -> Result<Self, StoreFault> {
        Ok(Self::of(&store.load(&key(subject))?.value))
    }

    /// The tokens of a prompt.
    #[must_use]
    pub fn prompt_tokens(&self, sketch: &Sketch) -> u64 {
        let text = self.prompt.of(sketch.text).div_ceil(u128::from(TOKEN * ONE));
        u64::try_from(text)
            .unwrap_or(u64::MAX)
            .saturating_add(sketch.exact)
            .saturating_add(self.item_tokens(sketch))
    }

    /// The tokens of so many bytes of produced text, as they stand in a JSON string.
    #[must_use]
    pub fn produced_tokens(&self, text_bytes: u64) -> u64 {
        u64::try_from(self.produced.of(text_bytes).div_ceil(ONE.into())).unwrap_or(u64::MAX)
    }

    /// Takes answers that reported their usage, with the sketches of their prompts. Answers what is known then.
    pub fn learn(
        store: &dyn Store,
        subject: Subject<'_>,
        lessons: &[(Sketch, Observed)],
    ) -> Result<Self, StoreFault> {
        store::update(store, &key(subject), |record| {
            let before = Self::of(record);
            let after = lessons.iter().fold(before, |learnt, (sketch, answer)| learnt.with(sketch, *answer));
            ((after != before).then(|| codec::encode(&after)), after)
        })
    }

    /// Whether one more answer to such a prompt would move little.
    pub(super) fn is_settled(&self, sketch: &Sketch) -> bool {
        let ratio = if sketch.items == 0 { self.prompt } else { self.item };
        ratio.answers == ANSWERS_MAX - 1
    }

    pub(super) fn with(mut self, sketch: &Sketch, answer: Observed) -> Self {
        let tokens = answer.prompt_tokens.saturating_sub(sketch.exact);
        if sketch.items == 0 {
            let amount = tokens.saturating_mul(TOKEN);
            self.prompt.learn(amount, sketch.text, FULL_TEXT, &PROMPT_BOUNDS);
        } else {
            // What an image costs would drown what is said of the text, so such an answer teaches only that.
            let text =
                u64::try_from(self.prompt.of(sketch.text) / u128::from(TOKEN * ONE)).unwrap_or(u64::MAX);
            let base = sketch.items.saturating_mul(ITEM_TOKENS);
            self.item.learn(tokens.saturating_sub(text), base, ITEM_TOKENS, &ITEM_BOUNDS);
        }
        if let Some(Produced { text_bytes, completion_tokens }) = answer.produced {
            self.produced.learn(completion_tokens, text_bytes, FULL_PRODUCED_BYTES, &PRODUCED_BOUNDS);
        }
        self
    }

    fn item_tokens(&self, sketch: &Sketch) -> u64 {
        let tokens = self.item.of(sketch.items).saturating_mul(ITEM_TOKENS.into()) / u128::from(ONE);
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }

    fn of(record: &[u8]) -> Self {
        codec::decode(record).unwrap_or_default()
    }
}

impl Stored for Learnt {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut ratio = |bounds| Ratio::read(from).map(|ratio| ratio.within(bounds));
        Some(Self {
            prompt: ratio(&PROMPT_BOUNDS)?,
            item: ratio(&ITEM_BOUNDS)?,
            produced: ratio(&PRODUCED_BOUNDS)?,
        })
    }

    fn write(&self, to: &mut Writer) {
        for ratio in [self.prompt, self.item, self.produced] {
            ratio.write(to);
        }
    }
}

/// The length tells where the model's name ends.
fn key(Subject { model, client }: Subject<'_>) -> String {
    format!("tollgate/learnt/{}/{model}/{client}", model.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use proptest::prelude::*;
    use std::rc::Rc;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Learns of a model, as one client.
    fn teach(store: &MemoryStore, model: &str, answers: &[(Sketch, Observed)]) -> Result<Learnt, StoreFault> {
        Learnt::learn(store, Subject { model, client: &Rc::from("web") }, answers)
    }

    fn stored(store: &MemoryStore, model: &str) -> Result<Learnt, StoreFault> {
        Learnt::load(store, Subject { model, client: &Rc::from("web") })
    }

    const MODEL: &str = "gpt-4o";

    fn text(tokens: u64) -> Sketch {
        Sketch { text: tokens * TOKEN, exact: 7, items: 0 }
    }

    fn answer(prompt_tokens: u64) -> Observed {
        Observed { prompt_tokens, produced: None }
    }

    fn produced(text_bytes: u64, completion_tokens: u64) -> Observed {
        Observed { prompt_tokens: 0, produced: Some(Produced { text_bytes, completion_tokens }) }
    }

    /// What is known after the same answer so many times.
    fn after(answers: u32, sketch: &Sketch, answer: Observed) -> Learnt {
        (0..answers).fold(Learnt::default(), |learnt, _| learnt.with(sketch, answer))
    }

    #[test]
    fn before_any_answer_the_sketch_stands_for_itself() {
        let cold = Learnt::default();
        assert_eq!(cold.prompt_tokens(&text(1000)), 1007);
        assert_eq!(cold.prompt_tokens(&Sketch { text: 1, exact: 0, items: 0 }), 1);
        assert_eq!(cold.prompt_tokens(&Sketch { text: 0, exact: 0, items: 2 }), 2 * 765);
        assert_eq!(
            (cold.produced_tokens(0), cold.produced_tokens(400), cold.produced_tokens(401)),
            (0, 100, 101)
        );
    }

    #[test]
    fn the_first_answers_teach_most() {
        // The truth is twice the sketch.
        let cases = [(1, 1500), (2, 1667), (3, 1750), (7, 1875), (31, 1969), (100, 1997), (500, 2000)];
        for (answers, expected) in cases {
            let found = after(answers, &text(1000), answer(2007)).prompt_tokens(&text(1000)) - 7;
            assert!(found.abs_diff(expected) <= 1, "{answers}: {found} {expected}");
        }
        let learnt = after(200, &Sketch::default(), produced(300, 150));
        assert!(learnt.produced_tokens(1000).abs_diff(500) <= 5, "{}", learnt.produced_tokens(1000));
    }

    #[test]
    fn an_outlier_moves_little() {
        let usual = after(100, &text(1000), Observed { prompt_tokens: 1507, ..produced(3000, 1000) });
        for absurd in [0, 1, u64::MAX] {
            let moved = usual.with(&text(1000), Observed { prompt_tokens: absurd, ..produced(3000, absurd) });
            for (before, now) in [
                (usual.prompt_tokens(&text(1000)), moved.prompt_tokens(&text(1000))),
                (usual.produced_tokens(3000), moved.produced_tokens(3000)),
            ] {
                assert!(before.abs_diff(now) <= before / 31, "{absurd}: {before} {now}");
            }
        }
        // And a long one counts no more than a short one.
        let moved = usual.with(&text(1_000_000), answer(u64::MAX));
        assert!(moved.prompt_tokens(&text(1000)) <= 1507 * 32 / 31);
    }

    #[test]
    fn a_few_words_teach_less() {
        let one = text(1000);
        let (short, long) = (after(1, &text(2), answer(7 + 4)), after(1, &text(16), answer(7 + 32)));
        assert_eq!((short.prompt_tokens(&one), long.prompt_tokens(&one)), (1070, 1507));
    }

    #[test]
    fn images_teach_what_images_cost_and_nothing_of_text() {
        let with_image = Sketch { items: 1, ..text(100) };
        let learnt = after(200, &with_image, answer(107 + 85));
        assert_eq!(learnt.prompt_tokens(&text(1000)), 1007);
        assert!(learnt.prompt_tokens(&with_image).abs_diff(107 + 85) <= 2);
    }

    #[test]
    fn token_ids_are_not_scaled() {
        let ids = Sketch { text: 0, exact: 5000, items: 0 };
        let learnt = after(50, &text(1000), answer(3007)).with(&ids, answer(9_999_999));
        assert_eq!(learnt.prompt_tokens(&ids), 5000);
        assert_eq!(learnt, after(50, &text(1000), answer(3007)));
    }

    #[test]
    fn workers_share_it_and_models_do_not() {
        let store = MemoryStore::default();
        for _ in 0..20 {
            teach(&store, MODEL, &[(text(1000), answer(2007))]).unwrap();
        }
        assert_eq!(stored(&store, MODEL), Ok(after(20, &text(1000), answer(2007))));
        assert_eq!(stored(&store, "other"), Ok(Learnt::default()));
        store.break_with(Some(StoreFault::Unavailable));
        assert_eq!(stored(&store, MODEL), Err(StoreFault::Unavailable));
        assert_eq!(teach(&store, MODEL, &[(text(1000), answer(2007))]), Err(StoreFault::Unavailable));
    }

    fn assert_bounded(learnt: &Learnt) -> Result<(), TestCaseError> {
        let prompt = learnt.prompt_tokens(&text(1000)) - 7;
        prop_assert!((250..=4000).contains(&prompt), "{prompt}");
        let produced = learnt.produced_tokens(1600);
        prop_assert!((100..=3200).contains(&produced), "{produced}");
        let item = learnt.prompt_tokens(&Sketch { text: 0, exact: 0, items: 1 });
        prop_assert!((765 / 32..=765 * 32).contains(&item), "{item}");
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_is_reported_the_ratios_stay_bounded(
            answers: Vec<(u64, u64, u64, u64, u8, u64)>
        ) {
            let mut learnt = Learnt::default();
            for (text, exact, prompt_tokens, text_bytes, items, completion_tokens) in answers {
                let sketch = Sketch { text, exact, items: (items % 3).into() };
                let produced = Some(Produced { text_bytes, completion_tokens });
                let _ = learnt.prompt_tokens(&sketch);
                learnt = learnt.with(&sketch, Observed { prompt_tokens, produced });
                assert_bounded(&learnt)?;
                prop_assert_eq!(Learnt::of(&codec::encode(&learnt)), learnt);
            }
        }

        #[test]
        fn garbage_in_the_record_is_harmless(mut record: Vec<u8>, versioned: bool) {
            if let (true, Some(version)) = (versioned, record.first_mut()) {
                *version = Learnt::VERSION;
            }
            let store = MemoryStore::default();
            store::update(&store, &key(Subject { model: MODEL, client: &Rc::from("web") }), |_| (Some(record.clone()), ())).unwrap();
            assert_bounded(&stored(&store, MODEL).unwrap())?;
            for _ in 0..300 {
                teach(&store, MODEL, &[(text(1000), answer(2007))]).unwrap();
            }
            let learnt = stored(&store, MODEL).unwrap();
            prop_assert!(learnt.prompt_tokens(&text(1000)).abs_diff(2007) < 10);
        }
    }

    #[test]
    fn the_law_of_stored_values_holds() {
        codec::law::holds("learnt", &[Learnt::default().with(&text(1000), produced(400, 130))]);
    }
}

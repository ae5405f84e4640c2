//! How much was spent: requests, tokens of each kind, money?

use crate::codec::{Reader, Stored, Writer};
use crate::tokens::Usage;

/// How much. Money is in millionths of the currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// Requests that were sent to a backend.
    pub requests: u64,
    /// What was charged for them.
    pub usage: Usage,
    /// What that costs, where there are prices.
    pub price_micros: u64,
    /// Of the tokens sent and produced, those that nobody has reported.
    pub estimated_tokens: u64,
    /// Of the price, that of requests whose tokens nobody has reported.
    pub estimated_price_micros: u64,
    /// Requests with tokens that have no price.
    pub unpriced_requests: u64,
}

impl Spend {
    /// How many numbers it has.
    pub const NUMBERS: usize = 14;

    /// On one request.
    #[must_use]
    pub fn on(usage: Usage, price_micros: Option<u64>) -> Self {
        let price = price_micros.unwrap_or(0);
        let unpriced_requests = u64::from(price_micros.is_none() && usage.total() > 0);
        Self { requests: 1, usage, price_micros: price, unpriced_requests, ..Self::default() }
    }

    /// By estimate, all of it.
    #[must_use]
    pub fn estimated(self) -> Self {
        let (estimated_tokens, estimated_price_micros) = (self.usage.total(), self.price_micros);
        Self { estimated_tokens, estimated_price_micros, ..self }
    }

    /// Each number under its name.
    #[must_use]
    pub fn numbers(self) -> [(&'static str, u64); Self::NUMBERS] {
        let Usage { prompt, cached, cache_write, prompt_audio, prompt_image, .. } = self.usage;
        let Usage { completion, reasoning, completion_audio, completion_image, .. } = self.usage;
        [
            ("requests", self.requests),
            ("prompt_tokens", prompt),
            ("cached_tokens", cached),
            ("cache_write_tokens", cache_write),
            ("prompt_audio_tokens", prompt_audio),
            ("prompt_image_tokens", prompt_image),
            ("completion_tokens", completion),
            ("reasoning_tokens", reasoning),
            ("completion_audio_tokens", completion_audio),
            ("completion_image_tokens", completion_image),
            ("price_micros", self.price_micros),
            ("estimated_tokens", self.estimated_tokens),
            ("estimated_price_micros", self.estimated_price_micros),
            ("unpriced_requests", self.unpriced_requests),
        ]
    }

    /// Of its numbers, in their order.
    #[must_use]
    pub const fn of(numbers: [u64; Self::NUMBERS]) -> Self {
        let [requests, prompt, cached, cache_write, prompt_audio, prompt_image, rest @ ..] = numbers;
        let [completion, reasoning, completion_audio, completion_image, rest @ ..] = rest;
        let [price_micros, estimated_tokens, estimated_price_micros, unpriced_requests] = rest;
        let usage = Usage {
            prompt,
            cached,
            cache_write,
            prompt_audio,
            prompt_image,
            completion,
            reasoning,
            completion_audio,
            completion_image,
        };
        Self { requests, usage, price_micros, estimated_tokens, estimated_price_micros, unpriced_requests }
    }

    /// Adds another.
    pub fn add(&mut self, other: Self) {
        let mut sums = [0; Self::NUMBERS];
        let pairs = self.numbers().into_iter().zip(other.numbers());
        for (sum, ((_, one), (_, two))) in sums.iter_mut().zip(pairs) {
            *sum = one.saturating_add(two);
        }
        *self = Self::of(sums);
    }
}

/// What stands between the words of a row where they are one text. No name has it.
pub const GAP: char = '\u{1f}';

/// What a row is called in all its words that has what no other had room for. In the script too.
pub const OTHER: &str = "other";

/// What was spent of one day by one client on one model at one backend in one tier of service. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The day that the request began in: so many days after 1970-01-01.
    pub day: u64,
    /// Who pays.
    pub client: String,
    /// Whose limits that one shares with others.
    pub group: String,
    /// For which model.
    pub model: String,
    /// Where it was served, or tried last.
    pub backend: String,
    /// The tier of service, by the backend's word.
    pub tier: String,
    /// How much.
    pub spend: Spend,
}

impl Row {
    fn words(&self) -> [&str; 5] {
        [&self.client, &self.group, &self.model, &self.backend, &self.tier]
    }

    fn of(day: u64, [client, group, model, backend, tier]: [&str; 5], spend: Spend) -> Self {
        let [client, group, model, backend, tier] = [client, group, model, backend, tier].map(str::to_owned);
        Self { day, client, group, model, backend, tier, spend }
    }

    /// The row of what no other has room for.
    #[must_use]
    pub fn other(day: u64, spend: Spend) -> Self {
        Self::of(day, [OTHER; 5], spend)
    }

    /// Its words as one text.
    #[must_use]
    pub fn field(&self) -> String {
        self.words().map(|word| word.replace(GAP, " ")).join(&GAP.to_string())
    }

    /// The row of such a text and of numbers.
    #[must_use]
    pub fn parse(day: u64, field: &str, numbers: &str) -> Option<Self> {
        let words: Vec<_> = field.split(GAP).collect();
        let numbers = numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Self::of(day, words.try_into().ok()?, Spend::of(numbers.try_into().ok()?)))
    }

    /// Whether another one is of the same.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        self.day == other.day && self.words() == other.words()
    }
}

impl Stored for Row {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let day = from.u64()?;
        let words = [from.text()?, from.text()?, from.text()?, from.text()?, from.text()?];
        let mut numbers = [0; Spend::NUMBERS];
        for number in &mut numbers {
            *number = from.u64()?;
        }
        Some(Self::of(day, words, Spend::of(numbers)))
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.day);
        self.words().into_iter().for_each(|word| to.text(word));
        self.spend.numbers().into_iter().for_each(|(_, number)| to.u64(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_numbers_are_those_that_it_is_made_of() {
        let mut numbers = [0; Spend::NUMBERS];
        (1..).zip(&mut numbers).for_each(|(number, place)| *place = number);
        let mut spend = Spend::of(numbers);
        assert_eq!(spend.numbers().map(|(_, number)| number), numbers);
        spend.add(spend);
        assert_eq!(spend.numbers().map(|(_, number)| number), numbers.map(|number| 2 * number));
    }

    #[test]
    fn a_row_is_told_by_its_field_and_its_numbers() {
        let spend = Spend::on(Usage { prompt: 7, ..Usage::default() }, Some(9));
        let word = |word: &str| word.to_owned();
        let row = Row {
            day: 3,
            client: word("a b"),
            group: word("g"),
            model: word("m"),
            backend: String::new(),
            tier: word("flex"),
            spend,
        };
        let numbers = row.spend.numbers().map(|(_, number)| number.to_string()).join(" ");
        assert_eq!(Row::parse(3, &row.field(), &numbers), Some(row.clone()));
        // What a backend may say is no gap.
        let row = Row { tier: word("a\u{1f}b"), ..row };
        assert_eq!(Row::parse(3, &row.field(), &numbers).unwrap().tier, "a b");
        assert_eq!(Row::parse(3, "a\u{1f}b", &numbers), None);
        assert_eq!(Row::parse(3, &row.field(), "1 2"), None);
    }

    #[test]
    fn the_law_of_stored_values_holds() {
        let spend = Spend::on(Usage { prompt: 7, ..Usage::default() }, Some(u64::MAX));
        let (client, group) = ("web".to_owned(), "sales".to_owned());
        let row = Row { day: 20_781, client, group, spend, ..Row::default() };
        codec::law::holds("spend_row", &[row, Row::default()]);
    }

    #[test]
    fn what_an_estimate_is_of_is_told_apart() {
        let usage = Usage { prompt: 7, completion: 5, cached: 3, ..Usage::default() };
        let reported = Spend { requests: 1, usage, price_micros: 9, ..Spend::default() };
        assert_eq!(Spend::on(usage, Some(9)), reported);
        let estimated = Spend { estimated_tokens: 12, estimated_price_micros: 9, ..reported };
        assert_eq!(Spend::on(usage, Some(9)).estimated(), estimated);
        let unpriced = Spend { price_micros: 0, unpriced_requests: 1, ..reported };
        assert_eq!(Spend::on(usage, None), unpriced);
        let nothing = Spend { requests: 1, ..Spend::default() };
        assert_eq!(Spend::on(Usage::default(), None), nothing);
    }
}

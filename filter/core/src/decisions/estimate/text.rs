//! How many tokens is the inside of a JSON string?
//!
//! Each byte has a class, and costs what its class costs after the class before it: a letter that begins a word costs
//! most of a token, one that goes on with it little. Escapes cost what they stand for, so it does not matter whether a
//! client sends `中` or `\u4e2d`. Not decided here: which strings are prompt.

use std::slice::Iter;

/// A token, in the unit of the costs.
pub(super) const TOKEN: u64 = 100;

/// The classes. Of a character beyond ASCII the first UTF-8 byte tells the script; the others are `NEXT` and cost
/// nothing.
const NEXT: u8 = 0;
const LOWER: u8 = 1;
const UPPER: u8 = 2;
const DIGIT: u8 = 3;
const SPACE: u8 = 4;
const BREAK: u8 = 5;
const SIGN: u8 = 6;
/// Latin letters with accents.
const ACCENT: u8 = 7;
const CYRILLIC: u8 = 8;
/// Indic scripts, Thai, Georgian and what else has three bytes and an alphabet.
const SCRIPT: u8 = 9;
/// Dashes, quotation marks, arrows; fullwidth forms.
const MARK: u8 = 10;
/// Kana, and the punctuation of Chinese and Japanese.
const KANA: u8 = 11;
const HAN: u8 = 12;
const HANGUL: u8 = 13;
const EMOJI: u8 = 14;
/// Greek, Hebrew, Arabic and the other alphabets of two bytes.
const LETTER: u8 = 15;
/// The quote and the backslash: neither stands for itself in a JSON string, so it has no costs.
const STOP: u8 = 16;
const STOPS: u64 = u64::from_le_bytes([STOP; 8]);

static CLASSES: [u8; 256] = classes();

// At compile time, where an index out of bounds is an error.
#[allow(clippy::indexing_slicing)]
const fn classes() -> [u8; 256] {
    let mut classes = [NEXT; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte {
            0x22 | 0x5C => STOP,
            0x20 => SPACE,
            0x00..=0x1F => BREAK,
            0x30..=0x39 => DIGIT,
            0x41..=0x5A => UPPER,
            0x61..=0x7A => LOWER,
            0x21..=0x7F => SIGN,
            0xC2..=0xCB => ACCENT,
            0xD0..=0xD3 => CYRILLIC,
            0xCC..=0xDF => LETTER,
            0xE2 | 0xEF => MARK,
            0xE3 => KANA,
            0xE4..=0xE9 => HAN,
            0xEA..=0xED => HANGUL,
            0xE0..=0xEE => SCRIPT,
            0xF0..=0xFF => EMOJI,
            _ => NEXT,
        };
        byte += 1;
    }
    classes
}

/// The class of a character whose UTF-8 begins with this byte, where it stands for itself.
fn class(first: u8) -> u8 {
    match CLASSES.get(usize::from(first)) {
        Some(&STOP) | None => SIGN,
        Some(class) => *class,
    }
}

/// What a byte costs, in [`TOKEN`]ths, by the class before it (the row) and its own (the column). Fitted to o200k_base,
/// the tokenizer of gpt-4o and later, over prose in nineteen languages, code, JSON, YAML and numbers; docs/estimates.md
/// has what they are worth on other texts. A character beyond ASCII always ends as `NEXT`, so that is its row.
#[rustfmt::skip]
const ROWS: [[u8; 16]; 7] = [
    // next lower upper digit space break sign accent cyrillic script mark kana han hangul emoji letter
    [0,  64,  87,  63,  15,  55, 123,  65,  10, 42, 79, 73,  82, 73, 168,  42], // next
    [0,   4,  99,  79,  25,  67,  69, 110,  81, 60, 67, 58,  66, 66, 150,  80], // lower
    [0,  32,  16, 110,   0,  43,  62,  95,  80, 60, 68, 58,  79, 70, 150,  81], // upper
    [0, 121, 169,  33,   0,  35, 122,  60,  82, 60, 67, 63,  83, 74, 150,  80], // digit
    [0,  72,  57, 165,   1,  33,  77,  83, 103, 59, 82, 70, 105, 65, 167,  20], // space
    [0,  77,  87,  40,  68,  56,  51,  63, 101, 66, 66, 57,  77, 75, 150, 100], // break
    [0,  75,  72,  90,  46,  48,   3,  57,  87, 59, 73, 59,  86, 76, 150,  94], // sign
];

static COSTS: [u8; 256] = costs();

/// The rows one after another, so that two classes of four bits are the place of their cost.
// At compile time, as above.
#[allow(clippy::indexing_slicing)]
const fn costs() -> [u8; 256] {
    let mut costs = [0; 256];
    let mut at = 0;
    while at < 16 * ROWS.len() {
        costs[at] = ROWS[at / 16][at % 16];
        at += 1;
    }
    costs
}

/// Walks over text and adds up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// In [`TOKEN`]ths.
    pub(super) cost: u64,
    /// The class before, where the table has its row.
    row: u8,
}

impl Walk {
    /// At the beginning of a string.
    pub(super) fn new() -> Self {
        Self { cost: 0, row: BREAK << 4 }
    }

    /// Within a string, after this byte.
    pub(super) fn after(byte: u8) -> Self {
        let class = class(byte);
        Self { cost: 0, row: (if class > SIGN { NEXT } else { class }) << 4 }
    }

    #[inline(always)]
    fn step(&mut self, class: u8) {
        self.cost += COSTS.get(usize::from(self.row | class)).map_or(0, |cost| u64::from(*cost));
        self.row = class << 4;
    }

    /// Eight steps at once: the class before each is the byte before it.
    #[inline(always)]
    fn steps(&mut self, classes: u64) {
        let places = classes | classes << 12 | u64::from(self.row);
        let costs = places.to_le_bytes().map(|place| COSTS.get(usize::from(place)).copied().unwrap_or(0));
        self.cost += u64::from(costs.into_iter().map(u16::from).sum::<u16>());
        self.row = (classes >> 56 << 4) as u8;
    }

    /// Goes over the inside of a string. Answers what follows its closing quote, or `None` if there is none.
    pub(super) fn string<'a>(&mut self, mut text: &'a [u8]) -> Option<&'a [u8]> {
        // Eight at a time where nothing stops: one branch for them all is what makes this fast.
        while let Some((block, after)) = text.split_first_chunk::<8>() {
            let classes = block.map(|byte| CLASSES.get(usize::from(byte)).copied().unwrap_or(NEXT));
            let classes = u64::from_le_bytes(classes);
            if classes & STOPS == 0 {
                self.steps(classes);
                text = after;
                continue;
            }
            let mut rest = text.iter();
            if self.until_stop(&mut rest)? == b'"' {
                return Some(rest.as_slice());
            }
            self.escape(&mut rest);
            text = rest.as_slice();
        }
        let mut rest = text.iter();
        while self.until_stop(&mut rest)? != b'"' {
            self.escape(&mut rest);
        }
        Some(rest.as_slice())
    }

    /// Goes on to the next quote or backslash, and past it.
    #[inline(always)]
    fn until_stop(&mut self, rest: &mut Iter<'_, u8>) -> Option<u8> {
        for &byte in rest {
            match CLASSES.get(usize::from(byte)).copied().unwrap_or(NEXT) {
                STOP => return Some(byte),
                class => self.step(class),
            }
        }
        None
    }

    fn escape(&mut self, rest: &mut Iter<'_, u8>) {
        let first = match rest.next() {
            Some(b'b' | b'f' | b'n' | b'r' | b't') => b'\n',
            Some(b'u') => match code_unit(rest) {
                Some(unit) => first_byte(unit),
                // Cut off, where a window ends.
                None => return,
            },
            Some(byte) => *byte,
            None => return,
        };
        let class = class(first);
        self.step(class);
        if first >= 0x80 {
            // Where its further bytes would have led.
            self.row = NEXT << 4;
        }
    }
}

/// The number after `\u`.
fn code_unit(rest: &mut Iter<'_, u8>) -> Option<u16> {
    let (digits, after) = rest.as_slice().split_first_chunk::<4>()?;
    let unit = digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))?;
    *rest = after.iter();
    u16::try_from(unit).ok()
}

/// The byte that a character begins with in UTF-8. The second half of a surrogate pair goes on with the first.
fn first_byte(unit: u16) -> u8 {
    match unit {
        0..0x80 => unit as u8,
        0x80..0x800 => 0xC0 | (unit >> 6) as u8,
        0xD800..0xDC00 => 0xF0,
        0xDC00..0xE000 => 0x80,
        _ => 0xE0 | (unit >> 12) as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// The inside of a JSON string, with its closing quote.
    fn cost(inside: &str) -> u64 {
        let mut walk = Walk::new();
        assert_eq!(walk.string(inside.as_bytes()), Some(&b""[..]), "{inside}");
        walk.cost
    }

    fn plain(text: &str) -> String {
        serde_json::to_string(text).unwrap().split_off(1)
    }

    fn escaped(text: &str) -> String {
        text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).chain(["\"".to_owned()]).collect()
    }

    /// Byte by byte, of text that needs no JSON.
    fn naive(text: &str) -> u64 {
        let mut before = BREAK;
        let costs = text.bytes().map(|byte| {
            let class = class(byte);
            let cost = ROWS[usize::from(before)][usize::from(class)];
            before = if class > SIGN { NEXT } else { class };
            u64::from(cost)
        });
        costs.sum()
    }

    #[test]
    fn a_word_costs_most_at_its_beginning() {
        let cases = [
            ("", 0),
            ("a", 77),
            ("word", 77 + 3 * 4),
            ("two words", 77 + 2 * 4 + 25 + 72 + 4 * 4),
            ("x = 12;", 77 + 25 + 77 + 46 + 165 + 33 + 122),
            ("中文", 77 + 82),
            ("да", 101 + 10),
        ];
        for (text, expected) in cases {
            assert_eq!(cost(&plain(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_broken_escape_is_passed_over() {
        for broken in [r#"\u""#, r#"\u4""#, r#"\uZZZZ""#, r#"\ud83d""#, r#"\ude00""#, r#"\q""#] {
            assert!(cost(broken) <= 4 * 255, "{broken}");
        }
        for cut in ["", "\\", "\\u", "\\u12", "text", "\\\""] {
            assert_eq!(Walk::new().string(cut.as_bytes()), None, "{cut}");
        }
    }

    #[test]
    fn what_follows_the_quote_is_left() {
        assert_eq!(Walk::new().string(br#"a\"b",1"#), Some(&b",1"[..]));
        assert_eq!(Walk::new().string(br#"0123456789\\","x""#), Some(&b",\"x\""[..]));
    }

    proptest! {
        #[test]
        fn however_it_is_written_it_costs_the_same(text: String) {
            prop_assert_eq!(cost(&plain(&text)), naive(&text));
            prop_assert_eq!(cost(&escaped(&text)), naive(&text));
        }

        #[test]
        fn more_text_never_costs_less(text: String, more: String) {
            let both = format!("{text}{more}");
            prop_assert!(cost(&plain(&text)) <= cost(&plain(&both)));
        }
    }
}

//! Is this one of the names we govern, plainly or in disguise?
//!
//! Readers of JSON differ about letter case: some compare exactly, some ignore it, and those that ignore it by Unicode's
//! rules take four letters that are not ASCII for ASCII ones. What any of them might take for a name of ours is one.

/// No governed name is longer.
const NAME_BYTES_MAX: usize = 32;

/// A closed list of names, sorted by length so that most others are told apart at once.
#[derive(Debug)]
pub struct Names<const N: usize> {
    names: [&'static str; N],
    /// For each length the names that have it, one bit for each.
    by_length: [u64; NAME_BYTES_MAX + 1],
}

/// What a name is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The name at this place of the list.
    Plain(usize),
    /// What some reader would take for it.
    Disguised(usize),
    /// No name of the list.
    Nothing,
}

impl<const N: usize> Names<N> {
    /// The list. Names are in lower case and ASCII, at most 64 of at most 32 bytes: a list that is not does not compile.
    #[must_use]
    // Every index is checked when the list is compiled.
    #[allow(clippy::indexing_slicing)]
    pub const fn new(names: [&'static str; N]) -> Self {
        assert!(N <= 64);
        let mut by_length = [0; NAME_BYTES_MAX + 1];
        let mut at = 0;
        while at < N {
            by_length[names[at].len()] |= 1 << at;
            at += 1;
        }
        Self { names, by_length }
    }

    /// The name at a place of the list.
    #[must_use]
    pub fn at(&self, at: usize) -> &'static str {
        self.names.get(at).copied().unwrap_or_default()
    }

    /// Looks a name up.
    #[must_use]
    pub fn find(&self, text: &str) -> Found {
        let mut folded = [0; NAME_BYTES_MAX];
        let name = if text.is_ascii() { Some(text.as_bytes()) } else { fold(text, &mut folded) };
        let Some(name) = name else { return Found::Nothing };
        let mut left = self.by_length.get(name.len()).copied().unwrap_or_default();
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            let known = self.at(at);
            if known.as_bytes().eq_ignore_ascii_case(name) {
                return if known == text { Found::Plain(at) } else { Found::Disguised(at) };
            }
            left &= left - 1;
        }
        Found::Nothing
    }
}

/// Puts ASCII letters for the four others whose upper or lower case is one: dotless ı, dotted İ, long ſ, the Kelvin sign.
/// <https://www.unicode.org/Public/UCD/latest/ucd/CaseFolding.txt>
fn fold<'b>(text: &str, into: &'b mut [u8; NAME_BYTES_MAX]) -> Option<&'b [u8]> {
    let mut bytes = 0;
    for letter in text.chars() {
        let ascii = match letter {
            'ı' | 'İ' => b'i',
            'ſ' => b's',
            '\u{212a}' => b'k',
            other => u8::try_from(other).ok().filter(u8::is_ascii)?,
        };
        *into.get_mut(bytes)? = ascii;
        bytes += 1;
    }
    into.get(..bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    static NAMES: Names<4> = Names::new(["n", "model", "tools", "top_logprobs"]);

    #[track_caller]
    fn check(text: &str, expected: Found) {
        assert_eq!(NAMES.find(text), expected, "{text}");
    }

    #[test]
    fn a_name_is_found_in_whatever_letters_some_reader_takes_for_it() {
        check("tools", Found::Plain(2));
        check("Tools", Found::Disguised(2));
        check("tool\u{17f}", Found::Disguised(2));
        check("TOP_LOGPROB\u{17f}", Found::Disguised(3));
        check("N", Found::Disguised(0));
        check("", Found::Nothing);
        check("tool", Found::Nothing);
        check("tools\0", Found::Nothing);
        check("mödel", Found::Nothing);
        check(&"n".repeat(100), Found::Nothing);
        check(&"ſ".repeat(100), Found::Nothing);
    }

    #[test]
    fn no_letter_but_those_folds_into_ascii() {
        // What the languages' own comparisons do: upper and lower case, letter by letter.
        for letter in ('\u{80}'..=char::MAX).filter(|letter| {
            letter.to_lowercase().eq(letter.to_lowercase().filter(char::is_ascii))
                || letter.to_uppercase().eq(letter.to_uppercase().filter(char::is_ascii))
        }) {
            // Those that become more than one letter are compared one by one nowhere.
            let single = letter.to_lowercase().count() == 1 && letter.to_uppercase().count() == 1;
            assert!(!single || fold(&letter.to_string(), &mut [0; NAME_BYTES_MAX]).is_some(), "{letter:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The naive model: compare with one after the other.
        #[test]
        fn the_table_finds_what_a_search_would(text in "([a-z_]{0,3}|[nN]|[mM][oO]del|[tT]ools)") {
            let expected = NAMES.names.iter().position(|name| name.eq_ignore_ascii_case(&text));
            let found = match NAMES.find(&text) {
                Found::Plain(at) => { prop_assert_eq!(NAMES.at(at), &text); Some(at) }
                Found::Disguised(at) => { prop_assert_ne!(NAMES.at(at), &text); Some(at) }
                Found::Nothing => None,
            };
            prop_assert_eq!(found, expected);
        }
    }
}

//! Is this one of the names we govern, plainly or in disguise?
//!
//! Readers of JSON differ about letter case: some compare exactly, some ignore it, and those that ignore it by Unicode's
//! rules take some letters that are not ASCII for ASCII ones. What any of them might take for a name of ours is one.

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

    /// All of them.
    #[cfg(test)]
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Looks a name up.
    #[must_use]
    pub fn find(&self, text: &str) -> Found {
        // To a reader in C a name ends there.
        let (text, is_cut) = text.split_once('\0').map_or((text, false), |(front, _)| (front, true));
        let mut folded = [0; NAME_BYTES_MAX];
        let name = if text.is_ascii() { Some(text.as_bytes()) } else { fold(text, &mut folded) };
        let Some(name) = name else { return Found::Nothing };
        let mut left = self.by_length.get(name.len()).copied().unwrap_or_default();
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            let known = self.at(at);
            if known.as_bytes().eq_ignore_ascii_case(name) {
                return if known == text && !is_cut { Found::Plain(at) } else { Found::Disguised(at) };
            }
            left &= left - 1;
        }
        Found::Nothing
    }
}

/// Puts ASCII letters for those others whose upper or lower case is one or more of them: dotless and dotted i, long s, the
/// Kelvin sign, sharp s and the ligatures.
/// <https://www.unicode.org/Public/UCD/latest/ucd/CaseFolding.txt>
fn fold<'b>(text: &str, into: &'b mut [u8; NAME_BYTES_MAX]) -> Option<&'b [u8]> {
    let mut bytes = 0;
    for letter in text.chars() {
        let mut own = [0; 4];
        let ascii = match letter {
            'ı' | 'İ' => "i",
            'ſ' => "s",
            '\u{212a}' => "k",
            'ß' | 'ẞ' => "ss",
            'ﬀ' => "ff",
            'ﬁ' => "fi",
            'ﬂ' => "fl",
            'ﬃ' => "ffi",
            'ﬄ' => "ffl",
            'ﬅ' | 'ﬆ' => "st",
            other if other.is_ascii() => other.encode_utf8(&mut own),
            _ => return None,
        };
        into.get_mut(bytes..bytes + ascii.len())?.copy_from_slice(ascii.as_bytes());
        bytes += ascii.len();
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
        check("tools\0", Found::Disguised(2));
        check("tools\0x", Found::Disguised(2));
        check("\0tools", Found::Nothing);
        check("tool\u{17f}", Found::Disguised(2));
        check("TOP_LOGPROB\u{17f}", Found::Disguised(3));
        check("N", Found::Disguised(0));
        check("", Found::Nothing);
        check("tool", Found::Nothing);
        check("mödel", Found::Nothing);
        check(&"n".repeat(100), Found::Nothing);
        check(&"ſ".repeat(100), Found::Nothing);
    }

    #[test]
    fn a_letter_whose_other_case_is_ascii_is_folded_into_it() {
        for letter in '\u{80}'..=char::MAX {
            for other in [letter.to_lowercase().to_string(), letter.to_uppercase().to_string()] {
                if other.is_ascii() {
                    let mut folded = [0; NAME_BYTES_MAX];
                    let folded = fold(letter.encode_utf8(&mut [0; 4]), &mut folded);
                    assert_eq!(folded, Some(other.to_ascii_lowercase().as_bytes()), "{letter:?}");
                }
            }
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

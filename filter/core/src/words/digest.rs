//! How are bytes told by a short number or a word?

use std::hash::Hasher;

/// The number of no bytes.
pub const FNV1A_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

/// The number of the bytes so far and of more of them: FNV-1a. Of some hundred no two share one by chance; who wants two that
/// do finds them. <http://www.isthe.com/chongo/tech/comp/fnv/>
#[must_use]
pub fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What SplitMix64 adds to its state for each number.
pub const MIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit of a number over all bits: what SplitMix64 makes of a state. <https://prng.di.unimi.it/splitmix64.c>
#[must_use]
pub const fn mix(state: u64) -> u64 {
    let mixed = state.wrapping_add(MIX_STEP);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The same for a table whose keys no client chooses: it costs less than the standard hasher, which is safe from them.
#[derive(Debug)]
pub struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(FNV1A_OF_NOTHING)
    }
}

impl Hasher for Fnv1a {
    // A key of many parts has it in its hash once, and not once for each part.
    #[inline(never)]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = fnv1a(self.0, bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// In hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_published_examples_of_fnv1a_hold() {
        for (text, expected) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv1a(FNV1A_OF_NOTHING, text.as_bytes()), expected, "{text}");
            let mut hasher = Fnv1a::default();
            text.as_bytes().chunks(2).for_each(|part| hasher.write(part));
            assert_eq!(hasher.finish(), expected, "{text}");
        }
    }

    #[test]
    fn each_byte_is_two_digits() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}

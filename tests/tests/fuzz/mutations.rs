//! What is a few changes away from a corpus? The same for the same case.

/// Throws that come out alike for the same case: SplitMix64. <https://doi.org/10.1145/2714064.2660195>
pub struct Dice(u64);

impl Dice {
    pub fn new(case: u64) -> Self {
        Self(case.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// What is special somewhere: ends of lines, of JSON, of numbers.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b"true",
    b"data: ",
    b"*1\r\n",
];

/// One of the corpus with one to four changes.
pub fn of(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut data = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(data.len() + 1);
        let end = (at + dice.below(8)).min(data.len());
        match dice.below(6) {
            0 if at < data.len() => data[at] ^= 1 << dice.below(8),
            1 => drop(data.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
            2 => drop(data.splice(at..end, WORDS[dice.below(WORDS.len())].iter().copied())),
            3 => drop(data.drain(at..end)),
            // A piece of itself once more.
            4 => {
                let piece = data[at..(at + dice.below(32)).min(data.len())].to_vec();
                let to = dice.below(data.len() + 1);
                data.splice(to..to, piece);
            }
            // Its front, and the end of another.
            _ => {
                let other = &corpus[dice.below(corpus.len())];
                data.truncate(at);
                data.extend_from_slice(&other[dice.below(other.len() + 1)..]);
            }
        }
    }
    data
}

//! What is a few changes away from a corpus? The same for the same case.

use tollgate_tests::fleet::histories::Dice;

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
    let mut data = corpus[below(dice, corpus.len())].clone();
    for _ in 0..=below(dice, 4) {
        let at = below(dice, data.len() + 1);
        let end = (at + below(dice, 8)).min(data.len());
        match below(dice, 6) {
            0 if at < data.len() => data[at] ^= 1 << below(dice, 8),
            1 => drop(data.splice(at..at, WORDS[below(dice, WORDS.len())].iter().copied())),
            2 => drop(data.splice(at..end, WORDS[below(dice, WORDS.len())].iter().copied())),
            3 => drop(data.drain(at..end)),
            // A piece of itself once more.
            4 => {
                let piece = data[at..(at + below(dice, 32)).min(data.len())].to_vec();
                let to = below(dice, data.len() + 1);
                data.splice(to..to, piece);
            }
            // Its front, and the end of another.
            _ => {
                let other = &corpus[below(dice, corpus.len())];
                data.truncate(at);
                data.extend_from_slice(&other[below(dice, other.len() + 1)..]);
            }
        }
    }
    data
}

/// From 0 up to `end` and not that; 0 if that is.
fn below(dice: &mut Dice, end: usize) -> usize {
    (dice.any() % end.max(1) as u64) as usize
}

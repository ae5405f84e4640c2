//! How does a key stand in the configuration?

use crate::End;
use crate::paint::{print, warn};
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, IsTerminal, Write};
use tollgate::digest::hex;

/// A key that has fewer bits may be guessed.
const BITS_MIN: f64 = 100.0;

/// Reads a key, and prints what the configuration knows of it.
pub(crate) fn hash_key(key: &[String]) -> Result<End, String> {
    if !key.is_empty() {
        // It would be in the shell's history, and in the list of processes.
        return Err("the key is read from standard input, not from the command line".to_owned());
    }
    let line = read().map_err(|error| format!("standard input cannot be read: {error}"))?;
    let key = line.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        return Err("no key came on standard input".to_owned());
    }
    if key.trim() != key {
        return Err("the key begins or ends with a space, which no client could send".to_owned());
    }
    let hash = hex(&Sha256::digest(key));
    print(&format!("{{ sha256: {hash} }}\n"));
    let bits = bits_max(key);
    if bits < BITS_MIN {
        warn(&format!(
            "this key can be guessed: by its length and characters it has {bits:.0} bits at the most, and {BITS_MIN:.0} are \
             expected: tollgate keys issue and tollgate new make keys of 256"
        ));
    }
    Ok(End::Well)
}

/// Whether a character is of a kind.
type IsOne = fn(char) -> bool;

/// The most bits that a key can have: those of its characters, each drawn from all of the kinds that are in it. One that is the
/// one before it, or its neighbour, tells nothing new.
fn bits_max(key: &str) -> f64 {
    let kinds: [(IsOne, u32); 4] = [
        (|c| c.is_ascii_digit(), 10),
        (|c| c.is_ascii_lowercase(), 26),
        (|c| c.is_ascii_uppercase(), 26),
        (|c| !c.is_ascii_alphanumeric(), 33),
    ];
    let alphabet: u32 =
        kinds.iter().filter(|(is_one, _)| key.chars().any(is_one)).map(|(_, size)| size).sum();
    let before = std::iter::once(None).chain(key.chars().map(Some));
    let is_new = |(c, before): &(char, Option<char>)| {
        before.is_none_or(|before| u32::from(*c).abs_diff(u32::from(before)) > 1)
    };
    let count = key.chars().zip(before).filter(is_new).count();
    count as f64 * f64::from(alphabet).log2()
}

/// One line. On a terminal it is asked for, and not shown.
fn read() -> io::Result<String> {
    let mut line = String::new();
    if !io::stdin().is_terminal() {
        io::stdin().lock().read_line(&mut line)?;
        return Ok(line);
    }
    io::stderr().write_all(b"API key: ")?;
    let silence = Silence::begin()?;
    let read = io::stdin().lock().read_line(&mut line);
    drop(silence);
    io::stderr().write_all(b"\n")?;
    read.map(|_| line)
}

/// While it lives, the terminal does not show what is typed.
struct Silence {
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

#[cfg(unix)]
impl Silence {
    fn begin() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

#[cfg(unix)]
impl Drop for Silence {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(not(unix))]
impl Silence {
    fn begin() -> io::Result<Self> {
        Err(io::Error::other("on this system the key can only come through a pipe"))
    }
}

//! How does a line look?

use std::io::{self, IsTerminal, Write};

/// What a word is to look like, where there is somebody to see it.
#[derive(Clone, Copy)]
pub(crate) enum Look {
    Good,
    Bad,
    Doubtful,
    Title,
}

/// The word with its colour on a terminal, and as it is elsewhere or with `NO_COLOR` (<https://no-color.org>).
pub(crate) fn paint(look: Look, word: &str) -> String {
    painted(look, word, io::stdout().is_terminal())
}

fn painted(look: Look, word: &str, is_terminal: bool) -> String {
    if !is_terminal || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return word.to_owned();
    }
    let code = match look {
        Look::Good => 32,
        Look::Bad => 31,
        Look::Doubtful => 33,
        Look::Title => 1,
    };
    format!("\x1b[{code}m{word}\x1b[0m")
}

/// A word of others without what a terminal would obey: a backend may have written it, or anybody who can write to the store.
pub(crate) fn plain(word: &str) -> String {
    word.replace(char::is_control, " ")
}

/// Writes to standard output. Whoever does not want to read on, such as `head`, may; where there is no room, the program ends,
/// for half a result must not look like a whole one.
pub(crate) fn print(text: &str) {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("the result cannot be written: {error}"));
            std::process::exit(2);
        }
        _ => {}
    }
}

/// Writes to standard output what programs read.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&format!("{text}\n")),
        // Texts, numbers and lists of them are JSON.
        Err(error) => complain(&format!("the result is no JSON: {error}")),
    }
}

/// Says on standard error what may be wrong.
pub(crate) fn warn(problem: &str) {
    let warning = painted(Look::Doubtful, "warning", io::stderr().is_terminal());
    let _ = writeln!(io::stderr(), "{warning}: {problem}");
}

/// Says on standard error what is wrong with the call.
pub(crate) fn complain(problem: &str) {
    let error = painted(Look::Bad, "error", io::stderr().is_terminal());
    let _ = writeln!(io::stderr(), "{error}: {problem}");
}

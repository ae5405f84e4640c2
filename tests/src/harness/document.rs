//! What does a document show: its blocks, its commands, what they print?

/// The fenced blocks of one language.
#[must_use]
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect()
}

/// Commands after `$ `, each with the output that is shown below it.
///
/// # Panics
/// A line of output stands before any command.
#[must_use]
pub fn commands(block: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut continues = false;
    for line in block.lines() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command.to_owned(), String::new())),
            (None, Some((command, _))) if continues => *command = format!("{command}\n{line}"),
            (None, Some((_, output))) => *output = format!("{output}{line}\n"),
            (None, None) => panic!("output before any command: {line}"),
        }
        continues = line.ends_with('\\');
    }
    found
}

/// Whether a text is this, where `…` stands for anything.
#[must_use]
pub fn fits(text: &str, pattern: &str) -> bool {
    let Some((start, parts)) = pattern.split_once('…') else { return text == pattern };
    let Some(mut rest) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<_> = parts.split('…').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(end)
}

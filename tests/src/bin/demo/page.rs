//! How does the demo look? Colours only where they are wanted, widths that line up.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

/// Longer lines are broken between words.
const WIDTH: usize = 100;
/// Where the text of an answer begins.
const INDENT: usize = 12;

/// Standard output.
pub struct Page {
    out: io::Stdout,
    colours: bool,
}

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy)]
pub enum Tone {
    Title,
    Good,
    Bad,
    Aside,
}

impl Page {
    pub fn new() -> Self {
        let out = io::stdout();
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out, colours }
    }

    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Title => "1",
            Tone::Good => "32",
            Tone::Bad => "33",
            Tone::Aside => "2",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// An empty line and a title.
    pub fn title(&mut self, text: &str) -> io::Result<()> {
        let title = self.paint(Tone::Title, text);
        self.line(&format!("\n{title}"))
    }

    /// Who asks for what.
    pub fn asks(&mut self, who: &str, what: &str) -> io::Result<()> {
        self.line(&format!("  {who:<9} {what}"))
    }

    /// What came back.
    pub fn answers(&mut self, status: u16, what: &str) -> io::Result<()> {
        let tone = if status < 400 { Tone::Good } else { Tone::Bad };
        let status = self.paint(tone, &format!("{status:>9}"));
        let mut lines = wrapped(what, WIDTH - INDENT).into_iter();
        self.line(&format!("  {status} {}", lines.next().unwrap_or_default()))?;
        lines.try_for_each(|line| self.answers_more(&line))
    }

    /// More about that, below it.
    pub fn answers_more(&mut self, what: &str) -> io::Result<()> {
        self.line(&format!("{:INDENT$}{what}", ""))
    }

    /// A line of the access log, for people: what is known of it.
    pub fn request(&mut self, log: &Value) -> io::Result<()> {
        let known = |field: &str| log[field].as_str().map(str::to_owned);
        let tokens = (!log["prompt_tokens"].is_null()).then(|| {
            let [prompt, completion] =
                ["prompt_tokens", "completion_tokens"].map(|field| number(&log[field]));
            format!("{prompt} prompt + {completion} completion tokens")
        });
        let parts = [
            Some(known("client").unwrap_or_else(|| "nobody".to_owned())),
            known("model"),
            known("outcome"),
            known("backend").map(|backend| format!("by {backend}")),
            tokens,
        ];
        let status = u16::try_from(number(&log["status"])).unwrap_or_default();
        self.answers(status, &parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Envoy writes a number as a number or, from filter state, as text.
pub fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

//! What was spent, by whom and on what, and how is that told?
//!
//! Rows are added up by the words that were asked for; a table, CSV and JSON tell the same. Not known here: where the rows come from.

use crate::paint::{Look, paint, plain, print, print_json, warn};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::iter::once;
use tollgate::calendar::Date;
use tollgate::spend::Spend;

/// What is to be told.
#[derive(Args)]
pub(crate) struct Wanted {
    /// What to add up by, with commas between
    #[arg(long, value_enum, value_delimiter = ',', default_value = "client,model")]
    pub(crate) by: Vec<By>,
    /// The first day, in UTC
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub(crate) from: Option<String>,
    /// The last day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub(crate) to: Option<String>,
    /// As CSV, for spreadsheets
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Day,
    Month,
    Client,
    Group,
    Model,
    Backend,
    Tier,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Client => "client",
            Self::Group => "group",
            Self::Model => "model",
            Self::Backend => "backend",
            Self::Tier => "tier",
        }
    }
}

/// Of one day, what was spent by one client on one model at one backend in one tier. What is not known is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// As `2026-11-28`.
    pub(crate) day: String,
    pub(crate) client: String,
    pub(crate) group: String,
    pub(crate) model: String,
    pub(crate) backend: String,
    pub(crate) tier: String,
    pub(crate) spend: Spend,
}

impl Row {
    fn word(&self, by: By) -> &str {
        match by {
            By::Day => &self.day,
            By::Month => self.day.get(..MONTH_CHARS).unwrap_or_default(),
            By::Client => &self.client,
            By::Group => &self.group,
            By::Model => &self.model,
            By::Backend => &self.backend,
            By::Tier => &self.tier,
        }
    }
}

/// So long is a month.
const MONTH_CHARS: usize = 7;

impl Wanted {
    /// The first day, as days after 1970-01-01, if it is said.
    pub(crate) fn first_day(&self) -> Option<u64> {
        Some(Date::read(self.from.as_deref()?)?.days())
    }
}

/// A day as it stands on the command line.
fn day(text: &str) -> Result<String, String> {
    Date::read(text).map(|_| text.to_owned()).ok_or_else(|| "expected a day as 2026-11-28".to_owned())
}

/// What was spent, added up.
pub(crate) struct Statement<'w> {
    wanted: &'w Wanted,
    groups: BTreeMap<Vec<String>, Spend>,
    total: Spend,
}

impl<'w> Statement<'w> {
    pub(crate) fn new(wanted: &'w Wanted) -> Result<Self, String> {
        if let (Some(from), Some(to)) = (&wanted.from, &wanted.to)
            && from > to
        {
            return Err(format!("--to {to}: expected no day before --from {from}"));
        }
        Ok(Self { wanted, groups: BTreeMap::new(), total: Spend::default() })
    }

    /// Whether a day is asked for. Days are ordered as their texts are.
    pub(crate) fn has(&self, day: &str) -> bool {
        self.wanted.from.as_deref().is_none_or(|from| from <= day)
            && self.wanted.to.as_deref().is_none_or(|to| day <= to)
    }

    /// Adds a row whose day is asked for.
    pub(crate) fn add(&mut self, row: &Row) {
        let words = self.wanted.by.iter().map(|by| row.word(*by).to_owned()).collect();
        self.groups.entry(words).or_default().add(row.spend);
        self.total.add(row.spend);
    }

    /// Prints it, and what else is to be known, with how often that was so: beside CSV on standard error.
    pub(crate) fn tell(&self, notes: &[(&'static str, u64, &'static str)]) {
        if self.wanted.json {
            let notes: Map<_, _> =
                notes.iter().map(|(name, count, _)| ((*name).to_owned(), Value::from(*count))).collect();
            print_json(&self.as_json(&notes));
        } else if self.wanted.csv {
            print(&self.as_csv());
            notes
                .iter()
                .filter(|(_, count, _)| *count > 0)
                .for_each(|(_, count, what)| warn(&format!("{count} {what}")));
        } else {
            let told = notes.iter().filter(|(_, count, _)| *count > 0);
            let told: String = told.map(|(_, count, what)| format!("{count} {what}\n")).collect();
            let gap = if told.is_empty() { "" } else { "\n" };
            print(&format!("{}{gap}{told}", self.as_table()));
        }
    }

    fn titles(&self) -> impl Iterator<Item = &'static str> {
        self.wanted.by.iter().map(|by| by.word())
    }

    fn as_json(&self, notes: &Map<String, Value>) -> Value {
        let numbers = |spend: &Spend| {
            spend.numbers().into_iter().map(|(name, number)| (name.to_owned(), Value::from(number)))
        };
        let group = |(words, spend): (&Vec<String>, &Spend)| {
            let named = self.titles().zip(words).map(|(title, word)| {
                (title.to_owned(), if word.is_empty() { Value::Null } else { Value::from(word.as_str()) })
            });
            named.chain(numbers(spend)).collect::<Map<_, _>>()
        };
        json!({
            "from": self.wanted.from,
            "to": self.wanted.to,
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
            "total": numbers(&self.total).collect::<Map<_, _>>(),
            "notes": notes,
        })
    }

    /// Without a total, which a spreadsheet would add up with the rest.
    fn as_csv(&self) -> String {
        let names = self.total.numbers().map(|(name, _)| name);
        let mut text = self.titles().chain(names).collect::<Vec<_>>().join(",") + "\n";
        for (words, spend) in &self.groups {
            let numbers = spend.numbers().map(|(_, number)| number.to_string());
            let cells = words.iter().map(|word| quoted(word)).chain(numbers);
            text += &(cells.collect::<Vec<_>>().join(",") + "\n");
        }
        text
    }

    /// With the kinds of tokens that there are.
    fn as_table(&self) -> String {
        let always = ["requests", "prompt_tokens", "completion_tokens", "price_micros"];
        let numbers = self.total.numbers().into_iter();
        let shown: Vec<&str> = numbers
            .filter(|(name, number)| always.contains(name) || *number > 0)
            .map(|(name, _)| name)
            .collect();
        let titles = self.titles().map(str::to_owned);
        let mut rows = vec![titles.chain(shown.iter().map(|name| title(name))).collect::<Vec<_>>()];
        for (words, spend) in &self.groups {
            let words = words.iter().map(|word| if word.is_empty() { "-".to_owned() } else { plain(word) });
            rows.push(words.chain(cells(spend, &shown)).collect());
        }
        let names = once("total".to_owned()).chain(self.titles().skip(1).map(|_| String::new()));
        rows.push(names.chain(cells(&self.total, &shown)).collect());
        let width = |at: usize| rows.iter().filter_map(|row| Some(row.get(at)?.chars().count())).max();
        let widths: Vec<usize> = (0..).map_while(width).collect();
        let named = self.wanted.by.len();
        let mut text = String::new();
        for (row_at, row) in rows.iter().enumerate() {
            let cell = |(at, (cell, width)): (usize, (&String, &usize))| match at < named {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            };
            let cells: Vec<_> = row.iter().zip(&widths).enumerate().map(cell).collect();
            let line = cells.join("  ");
            let line = line.trim_end();
            text += &if row_at == 0 { paint(Look::Title, line) } else { line.to_owned() };
            text += "\n";
        }
        text
    }
}

/// What a number is called in a table: money is in the currency there, and tokens need not be named again.
fn title(name: &str) -> String {
    let name = name.strip_suffix("_micros").unwrap_or(name);
    match name {
        "estimated_tokens" | "estimated_price" | "unpriced_requests" => name.replace('_', " "),
        _ => name.strip_suffix("_tokens").unwrap_or(name).replace('_', " "),
    }
}

fn cells(spend: &Spend, shown: &[&str]) -> Vec<String> {
    let numbers = spend.numbers().into_iter().filter(|(name, _)| shown.contains(name));
    let cell = |(name, number): (&str, u64)| match name.ends_with("_micros") {
        true => money(number.into()),
        false => number.to_string(),
    };
    numbers.map(cell).collect()
}

/// Of millionths of the currency.
pub(crate) fn money(micros: u128) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A cell of CSV, as RFC 4180 has it. What a spreadsheet would take for a formula is text.
/// <https://owasp.org/www-community/attacks/CSV_Injection>
fn quoted(word: &str) -> String {
    let word = plain(word);
    let word = if word.starts_with(['=', '+', '-', '@']) { format!("'{word}") } else { word };
    if word.contains([',', '"', '\n', '\r']) { format!("\"{}\"", word.replace('"', "\"\"")) } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text_whatever_a_backend_has_called_its_tier() {
        for (word, expected) in [
            ("flex", "flex"),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@a", "'@a"),
            ("a,b", "\"a,b\""),
            ("\u{1b}[2J\n", " [2J "),
        ] {
            assert_eq!(quoted(word), expected, "{word:?}");
        }
    }
}

//! How is it told what a new configuration changes?

use super::line::Line;
use crate::paint::{Look, paint};
use crate::statement::money;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What cannot be known.
const LIMITS_OF_A_LOG: &str = "\
Not replayed, because it is not in a log: bodies, so policies and what a backend can do; keys and tokens, so who is let in; limits,
capacity, pauses and failures, so who is refused or spills by them; weights, so whose part grows.
Costs are of the tokens that were charged: where the request was served if its first backend stays the same, else at the new first one.
";

/// What was found.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) clients: BTreeMap<String, Account>,
    /// What happened, to whom and why, and how often.
    reasons: BTreeMap<(&'static str, String), u64>,
    /// Lines that are no record of a request of a client.
    pub(crate) unread: u64,
    /// Requests of which the log does not say enough.
    pub(crate) untold: u64,
    /// Requests that are in no cost.
    pub(crate) unpriced: u64,
    /// Requests whose tokens nobody has reported.
    pub(crate) estimated: u64,
    /// Requests that the old configuration would not have treated so.
    pub(crate) misfits: u64,
}

/// What became of a client's requests.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Account {
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    pub(crate) admitted: u64,
    pub(crate) moved: u64,
    /// Millionths of the currency.
    #[serde(rename = "old_cost_micros")]
    pub(crate) before: u64,
    #[serde(rename = "new_cost_micros")]
    pub(crate) after: u64,
}

impl Report {
    pub(crate) fn tell(&mut self, what: &'static str, line: &Line, why: &str) {
        *self.reasons.entry((what, format!("{}: {why}", line.client))).or_default() += 1;
    }

    /// Whether anybody is served differently.
    pub(crate) fn is_changed(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// For programs: what the text says.
    pub(crate) fn as_json(&self) -> Value {
        let reasons = self.reasons.iter();
        let reasons =
            reasons.map(|((what, why), count)| json!({ "what": what, "why": why, "requests": count }));
        json!({
            "clients": self.clients,
            "changes": reasons.collect::<Vec<_>>(),
            "lines": {
                "unread": self.unread,
                "untold": self.untold,
                "unpriced": self.unpriced,
                "estimated": self.estimated,
                "misfits": self.misfits,
            },
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut total = Account::default();
        for account in self.clients.values() {
            total.add(*account);
        }
        let width = self.clients.keys().map(String::len).max().unwrap_or(0).max("client".len());
        let titles = ["requests", "refused", "admitted", "moved", "old cost", "new cost", "difference"];
        let mut text = format!("{}\n", paint(Look::Title, &row("client", width, titles.map(str::to_owned))));
        for (client, account) in &self.clients {
            text += &format!("{}\n", row(client, width, account.cells()));
        }
        text += &format!("{}\n\n", row("total", width, total.cells()));
        for ((what, why), count) in &self.reasons {
            let look = if *what == "refused" { Look::Bad } else { Look::Doubtful };
            text += &format!("{} {count} of {why}\n", paint(look, what));
        }
        for (count, what) in [
            (self.unread, "no record of a request of a known client: not looked at"),
            (self.untold, "say too little to be replayed"),
            (
                self.unpriced,
                "in no cost: there is no price, or it depends on who is drawn or on what was not produced",
            ),
            (self.estimated, "charged by estimate"),
            (self.misfits, "not as the old configuration would have it: was another one in force?"),
        ] {
            if count > 0 {
                text += &format!("{count} of the lines: {what}\n");
            }
        }
        text + LIMITS_OF_A_LOG
    }
}

impl Account {
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.admitted += other.admitted;
        self.moved += other.moved;
        self.before += other.before;
        self.after += other.after;
    }

    fn cells(&self) -> [String; 7] {
        let counts = [self.requests, self.refused, self.admitted, self.moved].map(|count| count.to_string());
        let [requests, refused, admitted, moved] = counts;
        let difference = i128::from(self.after) - i128::from(self.before);
        let sign = if difference < 0 { "-" } else { "+" };
        let difference = format!("{sign}{}", money(difference.unsigned_abs()));
        [requests, refused, admitted, moved, money(self.before.into()), money(self.after.into()), difference]
    }
}

fn row(name: &str, width: usize, cells: [String; 7]) -> String {
    let cells: String = cells.iter().map(|cell| format!("  {cell:>10}")).collect();
    format!("{name:<width$}{cells}")
}

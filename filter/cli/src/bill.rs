//! What did the requests of access logs cost?
//!
//! What each line says was charged, added up: nothing is priced anew. `replay` does that.

use crate::arguments::Bill;
use crate::replay::Line;
use crate::statement::{Row, Statement};
use crate::{End, source};
use std::io::BufRead;
use tollgate::spend::Spend;

/// Tells it.
pub(crate) fn bill(arguments: &Bill) -> Result<End, String> {
    let mut statement = Statement::new(&arguments.wanted)?;
    let (mut unread, mut unsent, mut undated) = (0, 0, 0);
    for file in &arguments.logs {
        let (mut lines, mut read): (u64, u64) = (0, 0);
        for text in source::reader(file)?.split(b'\n') {
            let text = text.map_err(|error| format!("{file} cannot be read: {error}"))?;
            if text.trim_ascii().is_empty() {
                continue;
            }
            lines += 1;
            let Some(line) = std::str::from_utf8(&text).ok().and_then(Line::read) else {
                unread += 1;
                continue;
            };
            read += 1;
            let Some(row) = row(&line) else {
                undated += 1;
                continue;
            };
            if !statement.has(&row.day) {
                continue;
            }
            // As the store keeps no row of what cost nothing.
            if row.spend == Spend::default() { unsent += 1 } else { statement.add(&row) }
        }
        if lines > 0 && read == 0 {
            return Err(Line::none_in(file));
        }
    }
    statement.tell(&[
        ("unread_lines", unread, "of the lines: no record of a request of a known client: not looked at"),
        ("undated_lines", undated, "of the lines: without start_time, so of no day: in no sum"),
        ("requests_to_nobody", unsent, "of the requests: sent to no backend, so they cost nothing"),
    ]);
    Ok(End::Well)
}

/// What a line tells; `None` if it is of no day.
fn row(line: &Line) -> Option<Row> {
    let spend = Spend::on(line.usage, line.price_micros);
    let spend = if line.is_estimated { spend.estimated() } else { spend };
    let requests = u64::from(line.backend.is_some());
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    Some(Row {
        day: line.day.clone()?,
        client: line.client.clone(),
        group: word(&line.group),
        model: word(&line.paid_model),
        backend: word(&line.backend),
        tier: word(&line.tier),
        spend: Spend { requests, ..spend },
    })
}

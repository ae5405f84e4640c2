//! What has this process to tell the fleet's store of what was spent?
//!
//! Each exchange adds its row. A call takes the rows of one day, has a number, and is said again until its answer is here; the store
//! adds no number of a process twice. So each row is added exactly once, whatever is lost on the way. Not decided here: what an
//! exchange has cost, and how the store is reached.

use crate::calendar::{DAY_S, day_word};
use crate::codec::{self, Reader, Stored, Writer};
use crate::spend::Row;
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::nanos;
use std::time::Duration;

/// What the store runs for it.
pub const SCRIPT: &str = include_str!("spending/spend.lua");

const KEY: &str = "tollgate/spend";

/// The most rows that wait for the store; what comes beyond is added to one.
const ROWS_MAX: usize = 1024;

/// The most rows of a call.
const SAID_MAX: usize = 200;

/// The most rows of a day in the store; what comes beyond is added to one.
const DAY_ROWS_MAX: u64 = 20_000;

/// What this process has not told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Book {
    /// The number of the last call.
    number: u64,
    /// When it was sent; 0 if none is under way.
    called: u64,
    /// What it says, until its answer is here.
    said: Vec<Row>,
    /// What the next ones say.
    open: Vec<Row>,
}

impl Stored for Book {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { number: from.u64()?, called: from.u64()?, said: from.values()?, open: from.values()? })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.number);
        to.u64(self.called);
        to.values(&self.said);
        to.values(&self.open);
    }
}

impl Book {
    /// Adds a row; false if there is no room for one of its own.
    fn add(&mut self, row: &Row) -> bool {
        if let Some(known) = self.open.iter_mut().find(|known| known.is_as(row)) {
            known.spend.add(row.spend);
            return true;
        }
        let has_room = self.open.len() < ROWS_MAX;
        let row = if has_room { row.clone() } else { Row::other(row.day, row.spend) };
        match self.open.iter_mut().find(|known| known.is_as(&row)) {
            Some(known) => known.spend.add(row.spend),
            None => self.open.push(row),
        }
        has_room
    }

    /// Takes what the next call says: rows of one day.
    fn take(&mut self) {
        let Some(day) = self.open.first().map(|row| row.day) else { return };
        let (mut said, mut open) = (Vec::new(), Vec::new());
        for row in self.open.drain(..) {
            if row.day == day && said.len() < SAID_MAX { said.push(row) } else { open.push(row) }
        }
        (self.said, self.open) = (said, open);
    }
}

/// Adds what an exchange has cost. False if it had no room but in the row of what has none.
pub fn add(store: &dyn Store, row: &Row) -> Result<bool, StoreFault> {
    store::update(store, KEY, |stored| {
        let mut book: Book = codec::decode(stored).unwrap_or_default();
        let has_room = book.add(row);
        (Some(codec::encode(&book)), has_room)
    })
}

/// A call that says what was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Of which day, as `2026-11-28`.
    pub day: String,
    /// What the script is told.
    pub arguments: Vec<String>,
}

/// Begins a call, if there is something to say and none is under way. `holder` is the name of this process; a call that was sent longer
/// than `timeout` ago has failed. The store keeps a day for so many `days`.
pub fn say(
    moment: Moment<'_>,
    holder: &str,
    timeout: Duration,
    days: u64,
) -> Result<Option<Call>, StoreFault> {
    let (now, timeout) = (nanos(moment.now), nanos(timeout));
    store::update(moment.store, KEY, |stored| {
        let mut book: Book = codec::decode(stored).unwrap_or_default();
        if book.called > 0 && now.abs_diff(book.called) < timeout {
            return (None, None);
        }
        if book.said.is_empty() {
            book.take();
            // Who has lost his book begins above all that was said before.
            book.number = if book.number == 0 { now / 1000 } else { book.number + 1 };
        }
        let Some(day) = book.said.first().map(|row| row.day) else { return (None, None) };
        book.called = now;
        let keep_ms = days.saturating_mul(DAY_S * 1000);
        let mut arguments =
            vec![holder.to_owned(), book.number.to_string(), keep_ms.to_string(), DAY_ROWS_MAX.to_string()];
        for row in &book.said {
            arguments.push(row.field());
            arguments.extend(row.spend.numbers().map(|(_, number)| number.to_string()));
        }
        let call = Call { number: book.number, day: day_word(day), arguments };
        (Some(codec::encode(&book)), Some(call))
    })
}

/// Takes the answer to a call, and tells how many of its rows the store had no room for but in the row of what has none. `None` if it
/// is no answer of the script: then the same is said again.
pub fn answered(store: &dyn Store, number: u64, reply: &[i64]) -> Result<Option<u64>, StoreFault> {
    let merged = match reply {
        [0] => Some(0),
        [1, merged] => u64::try_from(*merged).ok(),
        _ => None,
    };
    store::update(store, KEY, |stored| {
        let mut book: Book = codec::decode(stored).unwrap_or_default();
        if book.number != number || book.said.is_empty() {
            return (None, ());
        }
        book.called = 0;
        if merged.is_some() {
            book.said.clear();
        }
        (Some(codec::encode(&book)), ())
    })?;
    Ok(merged)
}

/// Says that a call has failed, or that nobody knows: it is said again.
pub fn failed(store: &dyn Store, number: u64) -> Result<(), StoreFault> {
    answered(store, number, &[]).map(|_| ())
}

#[cfg(test)]
mod tests;

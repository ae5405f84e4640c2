//! What has this process to tell the fleet's store of what was spent?
//!
//! Each exchange adds its row. A call takes the rows of one day, has a number, and is said again until its answer is here; the store
//! adds no number of a process twice. So each row is added exactly once, whatever is lost on the way. Not decided here: what an
//! exchange has cost, and how the store is reached.

use crate::calendar::{DAY_S, day_word};
use crate::codec::{self, Reader, Stored, Writer};
use crate::digest::{FNV1A_OF_NOTHING, fnv1a};
use crate::fleet::Fleet;
use crate::spend::Row;
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::nanos;
use std::time::Duration;

/// What the store runs for it.
pub const SCRIPT: &str = include_str!("spending/spend.lua");

/// What waits lies in so many records, each row always in the same: an exchange reads and writes one, and seldom meets another worker there.
const SHELVES: u64 = 8;

/// The most rows that wait on a shelf; what comes beyond is added to one.
const ROWS_MAX: usize = 128;

/// The most rows of a day in the store; what comes beyond is added to one.
const DAY_ROWS_MAX: u64 = 20_000;

/// What nobody has been told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shelf(Vec<Row>);

impl Stored for Shelf {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.values().map(Self)
    }

    fn write(&self, to: &mut Writer) {
        to.values(&self.0);
    }
}

impl Shelf {
    /// Adds a row; false if there is no room for one of its own.
    fn add(&mut self, row: &Row) -> bool {
        if let Some(known) = self.0.iter_mut().find(|known| known.is_as(row)) {
            known.spend.add(row.spend);
            return true;
        }
        let has_room = self.0.len() < ROWS_MAX;
        let row = if has_room { row.clone() } else { Row::other(row.day, row.spend) };
        match self.0.iter_mut().find(|known| known.is_as(&row)) {
            Some(known) => known.spend.add(row.spend),
            None => self.0.push(row),
        }
        has_room
    }

    /// Takes what one call says: the rows of one day.
    fn take(&mut self) -> Vec<Row> {
        let Some(day) = self.0.first().map(|row| row.day) else { return Vec::new() };
        let (said, left) = self.0.drain(..).partition(|row| row.day == day);
        self.0 = left;
        said
    }
}

/// What the last call said, until its answer is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Letter {
    /// The number of the call.
    number: u64,
    /// When it was sent; 0 if none is under way.
    sent: u64,
    rows: Vec<Row>,
}

impl Stored for Letter {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { number: from.u64()?, sent: from.u64()?, rows: from.values()? })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.number);
        to.u64(self.sent);
        to.values(&self.rows);
    }
}

/// A call that says what was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What of it says so.
    book: Book,
    /// Its number.
    number: u64,
    /// Of which day, as `2026-11-28`.
    pub day: String,
    /// What the script is told.
    pub arguments: Vec<String>,
}

/// What this process tells the store of one fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Book {
    of: Fleet,
}

impl Book {
    /// That of this fleet.
    #[must_use]
    pub const fn new(of: Fleet) -> Self {
        Self { of }
    }

    fn shelf(self, number: u64) -> String {
        self.of.key(&format!("spend/{}", number % SHELVES))
    }

    fn letter(self) -> String {
        self.of.key("spend")
    }

    /// Adds what an exchange has cost. False if it had no room but in the row of what has none.
    pub fn add(self, store: &dyn Store, row: &Row) -> Result<bool, StoreFault> {
        let shelf = self.shelf(fnv1a(FNV1A_OF_NOTHING, row.field().as_bytes()));
        store::update(store, &shelf, |stored| {
            let mut shelf: Shelf = codec::decode(stored).unwrap_or_default();
            let has_room = shelf.add(row);
            (Some(codec::encode(&shelf)), has_room)
        })
    }

    /// Whether there is nothing that is still to be told.
    pub fn is_told(self, store: &dyn Store) -> Result<bool, StoreFault> {
        let letter: Letter = codec::decode(&store.load(&self.letter())?.value).unwrap_or_default();
        let mut is_told = letter.rows.is_empty();
        for shelf in (0..SHELVES).map(|number| self.shelf(number)) {
            let shelf: Shelf = codec::decode(&store.load(&shelf)?.value).unwrap_or_default();
            is_told &= shelf.0.is_empty();
        }
        Ok(is_told)
    }

    /// Begins a call, if there is something to say and none is under way. `holder` is the name of this process; a call that was sent
    /// longer than `timeout` ago has failed. The store keeps a day for so many `days`.
    pub fn say(
        self,
        moment: Moment<'_>,
        holder: &str,
        timeout: Duration,
        days: u64,
    ) -> Result<Option<Call>, StoreFault> {
        let (now, timeout) = (nanos(moment.now), nanos(timeout));
        let is_under_way = |letter: &Letter| letter.sent > 0 && now.abs_diff(letter.sent) < timeout;
        let last: Letter = codec::decode(&moment.store.load(&self.letter())?.value).unwrap_or_default();
        if is_under_way(&last) {
            return Ok(None);
        }
        let rows = if last.rows.is_empty() { self.take(moment.store, last.number)? } else { Vec::new() };
        let mut is_said = false;
        let said = store::update(moment.store, &self.letter(), |stored| {
            is_said = false;
            let mut letter: Letter = codec::decode(stored).unwrap_or_default();
            if is_under_way(&letter) {
                return (None, None);
            }
            if letter.rows.is_empty() {
                if rows.is_empty() {
                    return (None, None);
                }
                letter.rows.clone_from(&rows);
                is_said = true;
                // Who has lost his book begins above all that was said before.
                letter.number = if letter.number == 0 { now / 1000 } else { letter.number + 1 };
            }
            letter.sent = now;
            (Some(codec::encode(&letter)), Some(letter))
        });
        if !is_said || said.is_err() {
            // Another worker was faster, or the memory of this process did not answer.
            rows.iter().try_for_each(|row| self.add(moment.store, row).map(|_| ()))?;
        }
        Ok(said?.and_then(|letter| letter.call(self, holder, days)))
    }

    /// Takes the rows of one day off a shelf that has some, each shelf in its turn.
    fn take(self, store: &dyn Store, last: u64) -> Result<Vec<Row>, StoreFault> {
        for shelf in (1..=SHELVES).map(|next| self.shelf(last.wrapping_add(next))) {
            let rows = store::update(store, &shelf, |stored| {
                let mut shelf: Shelf = codec::decode(stored).unwrap_or_default();
                let rows = shelf.take();
                ((!rows.is_empty()).then(|| codec::encode(&shelf)), rows)
            })?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
        Ok(Vec::new())
    }
}

impl Letter {
    fn call(&self, book: Book, holder: &str, days: u64) -> Option<Call> {
        let day = self.rows.first()?.day;
        let keep_ms = days.saturating_mul(DAY_S * 1000);
        let mut arguments =
            vec![holder.to_owned(), self.number.to_string(), keep_ms.to_string(), DAY_ROWS_MAX.to_string()];
        for row in &self.rows {
            arguments.push(row.field());
            arguments.extend(row.spend.numbers().map(|(_, number)| number.to_string()));
        }
        Some(Call { book, number: self.number, day: day_word(day), arguments })
    }
}

impl Call {
    /// Takes its answer, and tells how many of its rows the store had no room for but in the row of what has none. `None` if
    /// it is no answer of the script: then the same is said again.
    pub fn answered(&self, store: &dyn Store, reply: &[i64]) -> Result<Option<u64>, StoreFault> {
        let merged = match reply {
            [0] => Some(0),
            [1, merged] => u64::try_from(*merged).ok(),
            _ => None,
        };
        store::update(store, &self.book.letter(), |stored| {
            let mut letter: Letter = codec::decode(stored).unwrap_or_default();
            if letter.number != self.number || letter.rows.is_empty() {
                return (None, ());
            }
            letter.sent = 0;
            if merged.is_some() {
                letter.rows.clear();
            }
            (Some(codec::encode(&letter)), ())
        })?;
        Ok(merged)
    }

    /// It has failed, or nobody knows: it is said again.
    pub fn failed(&self, store: &dyn Store) -> Result<(), StoreFault> {
        self.answered(store, &[]).map(|_| ())
    }
}

#[cfg(test)]
mod tests;

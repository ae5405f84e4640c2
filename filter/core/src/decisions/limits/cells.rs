//! Where does the record of an account stand?
//!
//! Under a key of its own, if the configuration knows the account. Those of values are as many as there are users, and Envoy's
//! shared data forgets no key: they stand in a fixed number of keys, in each so many of them, the one that was used last at the end.
//! Where there is no room for another, one goes of which nothing is used; or else the one of which nothing was used for longest,
//! of the split that has most there: who makes up values pushes out his own. Not decided here: what a record says.

use super::record::Record;
use super::split::Mark;
use crate::codec::{self, Reader, Stored, Writer};
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::nanos;
use crate::value::Value;

/// How many keys the records of values stand in.
const KEYS: u64 = 4096;

/// The most records of one key: 131,072 in all.
const RECORDS_MAX: usize = 32;

/// The most bytes of them: 64 MiB in all.
const BYTES_MAX: usize = 16 * 1024;

/// The record of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    mark: Mark,
    record: Vec<u8>,
}

impl Stored for Cell {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mark = Mark { split: from.u64()?, value: from.array()? };
        Some(Self { mark, record: from.bytes()?.to_vec() })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.mark.split);
        to.array(self.mark.value);
        to.bytes(&self.record);
    }
}

impl Cell {
    /// What it takes of a key.
    fn bytes(&self) -> usize {
        size_of::<u64>() + Value::BYTES + size_of::<u32>() + self.record.len()
    }
}

fn key_of(mark: &Mark) -> String {
    format!("tollgate/limits/values/{}", mark.number() % KEYS)
}

/// Reads the record of the account with this key; empty where there is none.
pub(super) fn load(store: &dyn Store, key: &str) -> Result<Vec<u8>, StoreFault> {
    let Some(mark) = Mark::of_key(key) else { return Ok(store.load(key)?.value) };
    let cells: Vec<Cell> = codec::decode_all(&store.load(&key_of(&mark))?.value);
    let found = cells.into_iter().find(|cell| cell.mark == mark);
    Ok(found.map(|cell| cell.record).unwrap_or_default())
}

/// Changes the record of the account with this key, as [`store::update`] does.
pub(super) fn update<T>(
    moment: Moment<'_>,
    key: &str,
    change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Result<T, StoreFault> {
    update_and_tell(moment, key, change).map(|(result, _)| result)
}

/// The same; tells how many records of others there was no room for.
pub(super) fn update_and_tell<T>(
    moment: Moment<'_>,
    key: &str,
    mut change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Result<(T, u64), StoreFault> {
    let Some(mark) = Mark::of_key(key) else {
        return store::update(moment.store, key, |stored| {
            let (value, result) = change(stored);
            (value, (result, 0))
        });
    };
    store::update(moment.store, &key_of(&mark), |stored| {
        let mut cells: Vec<Cell> = codec::decode_all(stored);
        let place = cells.iter().position(|cell| cell.mark == mark);
        let before = place.and_then(|place| cells.get(place)).map(|cell| &*cell.record).unwrap_or_default();
        let (record, result) = change(before);
        let record = match (record, place) {
            (Some(record), _) => record,
            // Whoever is refused all day has used most of all, and is not to be the one that was used longest ago.
            (None, Some(place)) if is_half_full(&cells) && place < cells.len() / 2 => before.to_vec(),
            (None, _) => return (None, (result, 0)),
        };
        if let Some(place) = place {
            cells.remove(place);
        }
        if !Record::read(&record).is_empty() {
            cells.push(Cell { mark, record });
        }
        let lost = make_room(&mut cells, nanos(moment.now));
        (Some(codec::encode_all(&cells)), (result, lost))
    })
}

/// Whether it may not be long until one has to go.
fn is_half_full(cells: &[Cell]) -> bool {
    cells.len() > RECORDS_MAX / 2 || cells.iter().map(Cell::bytes).sum::<usize>() > BYTES_MAX / 2
}

/// Drops records until the rest has room, never the last of them; answers of how many something was used.
fn make_room(cells: &mut Vec<Cell>, now: u64) -> u64 {
    let mut bytes: usize = cells.iter().map(Cell::bytes).sum();
    let mut lost = 0;
    while cells.len() > RECORDS_MAX || bytes > BYTES_MAX {
        let Some((_, others)) = cells.split_last() else { break };
        let unused = others.iter().position(|cell| Record::read(&cell.record).is_unused(now));
        let Some(place) = unused.or_else(|| oldest_of_most(others)) else { break };
        lost += u64::from(unused.is_none());
        bytes = bytes.saturating_sub(cells.remove(place).bytes());
    }
    lost
}

/// The oldest record of the split that has most of them.
fn oldest_of_most(cells: &[Cell]) -> Option<usize> {
    let count = |cell: &&Cell| cells.iter().filter(|other| other.mark.split == cell.mark.split).count();
    let most = cells.iter().rev().max_by_key(count)?.mark.split;
    cells.iter().position(|cell| cell.mark.split == most)
}

#[cfg(test)]
mod tests;

//! What have the clients of a fleet spent?
//!
//! The store keeps it, a record for each day: it is asked itself, by its own address. `bill` tells the same of access logs.

use crate::End;
use crate::arguments::Spend;
use crate::statement::{Row, Statement};
use crate::store::Store;
use tollgate::calendar::{DAY_S, day_word};
use tollgate::gateway::spend_key;
use tollgate::spend::{self, GAP};

/// No store keeps more days than these.
const DAYS_MAX: u64 = 3650;

/// The version of records that this tool reads.
const VERSION: &str = "1";

/// Tells it.
pub(crate) fn spend(arguments: &Spend) -> Result<End, String> {
    let mut statement = Statement::new(&arguments.wanted)?;
    let mut store = Store::of(&arguments.address, None)?;
    let today = store.now_us()? / 1_000_000 / DAY_S;
    let oldest = today.saturating_sub(DAYS_MAX);
    let first = arguments.wanted.first_day().unwrap_or(oldest).max(oldest);
    // Of tomorrow, too: the clocks of Envoys may be ahead.
    let days = (first..=today + 1).map(|day| (day, day_word(day)));
    let days: Vec<_> = days.filter(|(_, word)| statement.has(word)).collect();
    let keys: Vec<_> = days.iter().map(|(_, word)| spend_key(&store.prefix, word)).collect();
    let sizes = if keys.is_empty() { Vec::new() } else { store.sizes(&keys)? };
    for (((day, word), key), _) in days.iter().zip(&keys).zip(&sizes).filter(|(_, size)| **size > 0) {
        let record = store.record(key)?;
        let unreadable = |what: &str| format!("{}: {key}: {what}", store.shown);
        if record.get("v").is_none_or(|version| version != VERSION) {
            return Err(unreadable("this version of the tool does not know that kind of record"));
        }
        for (field, numbers) in &record {
            let Some(words) = field.strip_prefix('r').and_then(|rest| rest.strip_prefix(GAP)) else {
                continue;
            };
            let row =
                spend::Row::parse(*day, words, numbers).ok_or_else(|| unreadable("a row is damaged"))?;
            let spend::Row { client, group, model, backend, tier, spend, .. } = row;
            statement.add(&Row { day: word.clone(), client, group, model, backend, tier, spend });
        }
    }
    statement.tell(&[]);
    Ok(End::Well)
}

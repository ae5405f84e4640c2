//! How is an account of the fleet's store read and changed?

use super::record::Record;
use crate::store::Store;
use tollgate::gateway::keys_of;

const CHANGE: &str = include_str!("change.lua");

/// An account as it stands, and the store's time in microseconds.
pub(super) struct Seen {
    pub(super) record: Option<Record>,
    pub(super) now_us: u64,
}

impl Store {
    /// What stands there.
    pub(super) fn see(&mut self, account: &str) -> Result<Seen, String> {
        let [key, holders] = keys_of(&self.prefix, account);
        let now_us = self.now_us()?;
        let fields = self.record(&key)?;
        let seen: Vec<(String, f64)> =
            self.ask(redis::cmd("ZRANGE").arg(&holders).arg(0).arg(-1).arg("WITHSCORES"))?;
        let record =
            Record::read(&fields, &seen).map_err(|problem| format!("{}: {key}: {problem}", self.shown))?;
        Ok(Seen { record, now_us })
    }

    /// Makes less used of limits: so much, or all where nothing is said. Answers what was used before and is now, where there
    /// is such a limit.
    pub(super) fn change(
        &mut self,
        account: &str,
        less: &[(String, Option<u64>)],
    ) -> Result<Vec<Option<(u64, u64)>>, String> {
        let mut command = redis::cmd("EVAL");
        let [key, _] = keys_of(&self.prefix, account);
        command.arg(CHANGE).arg(1).arg(key);
        for (id, amount) in less {
            command.arg(id).arg(amount.map(|amount| amount.to_string()).unwrap_or_default());
        }
        let lines: Vec<String> = self.ask(&command)?;
        let pair = |line: &String| {
            let (before, now) = line.split_once(' ')?;
            Some((before.parse().ok()?, now.parse().ok()?))
        };
        Ok(lines.iter().map(pair).collect())
    }
}

//! How is the fleet's store asked?

use super::record::Record;
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisError,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tollgate::gateway::keys_of;

/// It answers in this time, or it is down.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

const CHANGE: &str = include_str!("change.lua");

/// A store, and what its keys begin with.
pub(super) struct Store {
    connection: Connection,
    /// Where it is, without its password.
    pub(super) shown: String,
    pub(super) prefix: String,
}

/// An account as it stands, and the store's time in microseconds.
pub(super) struct Seen {
    pub(super) record: Option<Record>,
    pub(super) now_us: u64,
}

impl Store {
    /// Connects to `redis://` or `rediss://`.
    pub(super) fn open(url: &str, password: Option<String>, prefix: String) -> Result<Self, String> {
        // The crate's own words of a faulty address have its password in them.
        let wrong = "--store: expected redis://HOST:PORT or rediss://HOST:PORT, with USER:PASSWORD@ before the host and /DATABASE \
                     behind it where they are needed";
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(wrong.to_owned());
        }
        let mut info: ConnectionInfo = url.into_connection_info().map_err(|_| wrong.to_owned())?;
        if let Some(password) = password {
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        let shown = match info.addr() {
            ConnectionAddr::Tcp(host, port) => format!("redis://{host}:{port}"),
            ConnectionAddr::TcpTls { host, port, .. } => format!("rediss://{host}:{port}"),
            _ => return Err(wrong.to_owned()),
        };
        let down = |error: RedisError| format!("{shown} does not answer: {error}");
        // Of several that may be built in, this one is meant.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::open(info).map_err(down)?;
        let connection = client.get_connection_with_timeout(ANSWERS_WITHIN).map_err(down)?;
        connection.set_read_timeout(Some(ANSWERS_WITHIN)).map_err(down)?;
        connection.set_write_timeout(Some(ANSWERS_WITHIN)).map_err(down)?;
        Ok(Self { connection, shown, prefix })
    }

    fn ask<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, String> {
        command.query(&mut self.connection).map_err(|error| format!("{} refuses: {error}", self.shown))
    }

    /// What stands there.
    pub(super) fn see(&mut self, account: &str) -> Result<Seen, String> {
        let [key, holders] = keys_of(&self.prefix, account);
        let (seconds, micros): (u64, u64) = self.ask(&redis::cmd("TIME"))?;
        let fields: BTreeMap<String, String> = self.ask(redis::cmd("HGETALL").arg(&key))?;
        let seen: Vec<(String, f64)> =
            self.ask(redis::cmd("ZRANGE").arg(&holders).arg(0).arg(-1).arg("WITHSCORES"))?;
        let record =
            Record::read(&fields, &seen).map_err(|problem| format!("{}: {key}: {problem}", self.shown))?;
        Ok(Seen { record, now_us: seconds * 1_000_000 + micros })
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

//! How is the fleet's store asked?

use crate::arguments::StoreAddress;
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisError,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tollgate::gateway::{Gateway, PREFIX};

/// It answers in this time, or it is down.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Where a store is.
#[derive(Clone)]
pub(crate) struct Address {
    client: Client,
    shown: String,
    prefix: String,
}

/// A store, and what its keys begin with.
pub(crate) struct Store {
    connection: Connection,
    /// Where it is, without its password.
    pub(crate) shown: String,
    pub(crate) prefix: String,
}

impl Address {
    /// What the command line says; what it leaves open, the configuration may say.
    pub(crate) fn of(address: &StoreAddress, gateway: Option<&Gateway>) -> Result<Self, String> {
        let password = address.password_env.as_ref().map(|name| {
            std::env::var(name)
                .map_err(|_| format!("--password-env: the environment variable {name} is not set"))
        });
        let configured =
            gateway.and_then(|gateway| gateway.store.as_ref()).map(|store| store.prefix.as_str());
        let prefix = address.prefix.as_deref().or(configured).unwrap_or(PREFIX);
        Self::read(&address.store, password.transpose()?, prefix.to_owned())
    }

    /// Of `redis://` or `rediss://`.
    fn read(url: &str, password: Option<String>, prefix: String) -> Result<Self, String> {
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
        // Of several that may be built in, this one is meant.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::open(info).map_err(|error| down(&shown, &error))?;
        Ok(Self { client, shown, prefix })
    }

    pub(crate) fn connect(&self) -> Result<Store, String> {
        let Self { client, shown, prefix } = self;
        let down = |error: RedisError| down(shown, &error);
        let connection = client.get_connection_with_timeout(ANSWERS_WITHIN).map_err(down)?;
        connection.set_read_timeout(Some(ANSWERS_WITHIN)).map_err(down)?;
        connection.set_write_timeout(Some(ANSWERS_WITHIN)).map_err(down)?;
        Ok(Store { connection, shown: shown.clone(), prefix: prefix.clone() })
    }
}

fn down(shown: &str, error: &RedisError) -> String {
    format!("{shown} does not answer: {error}")
}

impl Store {
    /// Connects to what the command line says; what it leaves open, the configuration may say.
    pub(crate) fn of(address: &StoreAddress, gateway: Option<&Gateway>) -> Result<Self, String> {
        Address::of(address, gateway)?.connect()
    }

    /// Its time, in microseconds.
    pub(crate) fn now_us(&mut self) -> Result<u64, String> {
        let (seconds, micros): (u64, u64) = self.ask(&redis::cmd("TIME"))?;
        Ok(seconds * 1_000_000 + micros)
    }

    /// All fields of a hash; none where there is none.
    pub(crate) fn record(&mut self, key: &str) -> Result<BTreeMap<String, String>, String> {
        self.ask(redis::cmd("HGETALL").arg(key))
    }

    /// How many fields each of these hashes has.
    pub(crate) fn sizes(&mut self, keys: &[String]) -> Result<Vec<u64>, String> {
        let mut all = redis::pipe();
        for key in keys {
            all.cmd("HLEN").arg(key);
        }
        all.query(&mut self.connection).map_err(|error| format!("{} refuses: {error}", self.shown))
    }

    /// Asks it for one thing.
    pub(crate) fn ask<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, String> {
        command.query(&mut self.connection).map_err(|error| format!("{} refuses: {error}", self.shown))
    }
}

//! What is a job, as a worker has it?

use redis::{FromRedisValue, ParsingError, Value, from_redis_value};
use tollgate::job::{Id, Key, Unopened, What, open};

/// A job that was taken.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: String,
    /// Which taking of it this is: what another began later is not ended by this one.
    pub(super) run: String,
    pub(super) entry: String,
    pub(super) client: String,
    pub(super) priority: String,
    /// The word of its kind.
    pub(super) kind: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: String,
    body: Vec<u8>,
    pub(super) model: String,
    /// This one included.
    pub(super) tries: u32,
}

impl FromRedisValue for Job {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let [id, run, entry, client, priority, kind, method, path, headers, body, model, tries]: [Value; 12] =
            Vec::<Value>::from_redis_value(value)?
                .try_into()
                .map_err(|_| ParsingError::from("a job has other fields"))?;
        Ok(Self {
            id: from_redis_value(id)?,
            run: from_redis_value(run)?,
            entry: from_redis_value(entry)?,
            client: from_redis_value(client)?,
            priority: from_redis_value(priority)?,
            kind: from_redis_value(kind)?,
            method: from_redis_value(method)?,
            path: from_redis_value(path)?,
            headers: from_redis_value(headers)?,
            body: from_redis_value(body)?,
            model: from_redis_value(model)?,
            tries: from_redis_value(tries)?,
        })
    }
}

impl Job {
    /// What it asks.
    pub(super) fn body(&self, key: Option<&Key>) -> Result<Vec<u8>, Unopened> {
        let id = Id::read(&self.id).ok_or(Unopened::Wrong)?;
        let Self { client, kind, method, path, headers, model, .. } = self;
        open(key, &id, What::Body { client, kind, method, path, headers, model }, &self.body)
    }
}

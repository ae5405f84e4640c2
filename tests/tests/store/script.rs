//! The script in a real Redis, with a clock that a test sets.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tollgate::resp::{Commands, Reply};
use tollgate_tests::fleet::call::{Answer, Call};
use tollgate_tests::fleet::model::Account;
use tollgate_tests::fleet::script;
use tollgate_tests::harness::{Connection, Redis};

pub const RECORD: &str = "tollgate:{client/a}";
pub const HOLDERS: &str = "tollgate:{client/a}:holders";

/// A change of the script that breaks a promise: what is replaced, by what.
pub type Change = (&'static str, &'static str);

/// Redis for one test, or nothing where it cannot be had and the test may be skipped.
pub fn redis(test: &str, words: &[&str]) -> Option<Redis> {
    Redis::or_skip(test, None, words)
}

/// A store whose time is told with each call.
pub struct Store {
    connection: Connection,
    sha: String,
}

/// What is written in Redis.
pub type Written = (BTreeMap<String, String>, BTreeMap<String, i64>);

impl Store {
    /// The script with these changes.
    pub fn new(redis: &Redis, changes: &[Change]) -> Result<Self> {
        let mut text = script()?;
        let clock = ("redis.call('TIME')", "redis.call('HMGET', 'clock', 's', 'us')");
        for (from, to) in [&[clock], changes].concat() {
            ensure!(text.matches(from).count() == 1, "the script has not just one {from}");
            text = text.replace(from, to);
        }
        let mut connection = redis.connect()?;
        let reply = connection.ask(&["SCRIPT", "LOAD", &text])?;
        let Reply::Bulk(sha) = reply else { anyhow::bail!("{reply:?}") };
        Ok(Self { connection, sha: String::from_utf8(sha)? })
    }

    /// What is answered, and what is written then.
    pub fn call(&mut self, call: &Call, now: i64) -> Result<(Answer, Written)> {
        let (seconds, micros) = ((now / 1_000_000).to_string(), (now % 1_000_000).to_string());
        let mut commands = Commands::new();
        commands.push(&["HSET", "clock", "s", &seconds, "us", &micros]);
        let words: Vec<_> = ["EVALSHA", &self.sha, "2", RECORD, HOLDERS]
            .map(str::to_owned)
            .into_iter()
            .chain(call.words())
            .collect();
        commands.push(&words);
        commands.push(&["HGETALL", RECORD]);
        commands.push(&["ZRANGE", HOLDERS, "0", "-1", "WITHSCORES"]);
        let replies = self.connection.ask_all(&commands)?;
        let answer = Answer::read(&replies[1]).with_context(|| format!("{:?} to {call:?}", replies[1]))?;
        let scores = pairs(&replies[3])?.into_iter().map(|(name, score)| Ok((name, score.parse()?)));
        Ok((answer, (pairs(&replies[2])?.into_iter().collect(), scores.collect::<Result<_>>()?)))
    }

    /// Makes what is written what the model says: of an account that a replica has, which takes over.
    pub fn becomes(&mut self, account: &Account) -> Result<()> {
        let mut commands = Commands::new();
        commands.push(&["DEL", RECORD, HOLDERS]);
        let (fields, scores) = account.written();
        for (field, value) in fields {
            commands.push(&["HSET", RECORD, &field, &value]);
        }
        for (holder, score) in scores {
            commands.push(&["ZADD", HOLDERS, &score.to_string(), &holder]);
        }
        self.connection.ask_all(&commands)?;
        Ok(())
    }
}

/// The names and values of a reply.
pub fn pairs(reply: &Reply) -> Result<Vec<(String, String)>> {
    let Reply::Array(replies) = reply else { anyhow::bail!("{reply:?}") };
    let texts = replies.iter().map(|reply| match reply {
        Reply::Bulk(bytes) => Ok(String::from_utf8(bytes.clone())?),
        other => anyhow::bail!("{other:?}"),
    });
    let texts: Vec<String> = texts.collect::<Result<_>>()?;
    let (pairs, _) = texts.as_chunks::<2>();
    Ok(pairs.iter().map(|[name, value]| (name.clone(), value.clone())).collect())
}

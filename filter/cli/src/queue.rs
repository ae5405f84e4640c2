//! How is the queue of the fleet's store changed?
//!
//! Whatever touches more than one key is one script, which does all of it or nothing. Not decided here: when.

use crate::store::Store;
use redis::{FromRedisValue, ToRedisArgs};
use tollgate::job::Keys;

/// A script and its arguments.
pub(crate) struct Call {
    script: &'static str,
    arguments: Vec<Vec<u8>>,
}

macro_rules! script {
    ($name:literal) => {
        concat!(
            "-- queue: ",
            $name,
            "\n",
            include_str!("queue/common.lua"),
            include_str!(concat!("queue/", $name, ".lua"))
        )
    };
}

/// Takes the next job.
pub(crate) const TAKE: &str = script!("take");
/// Tells that a worker lives.
pub(crate) const BEAT: &str = script!("beat");
/// Keeps an answer.
pub(crate) const FINISH: &str = script!("finish");
/// Puts a job back, or among the dead letters.
pub(crate) const BACK: &str = script!("back");
/// Ends what has waited too long.
pub(crate) const SWEEP: &str = script!("sweep");
/// Takes a notice that is due.
pub(crate) const NOTICE: &str = script!("notice");
/// Says when a notice is to be sent again, or that it is not.
pub(crate) const NOTICED: &str = script!("noticed");
/// Tells how the queue stands.
pub(crate) const STAND: &str = script!("stand");
/// Queues a dead letter again.
pub(crate) const RETRY: &str = script!("retry");
/// Removes a job.
pub(crate) const DROP: &str = script!("drop");

impl Call {
    pub(crate) fn new(script: &'static str) -> Self {
        Self { script, arguments: Vec::new() }
    }

    pub(crate) fn with(mut self, argument: impl ToRedisArgs) -> Self {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    pub(crate) fn with_all(self, arguments: impl IntoIterator<Item = impl ToRedisArgs>) -> Self {
        arguments.into_iter().fold(self, Self::with)
    }
}

impl Store {
    /// Runs a script of the queue.
    pub(crate) fn run<T: FromRedisValue>(&mut self, call: &Call) -> Result<T, String> {
        let mut command = redis::cmd("EVAL");
        command.arg(call.script).arg(1).arg(Keys::new(&self.prefix).stream());
        for argument in &call.arguments {
            command.arg(argument);
        }
        self.ask(&command)
    }
}

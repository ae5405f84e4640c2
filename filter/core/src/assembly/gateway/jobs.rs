//! How is the fleet's store asked about jobs?

use super::{Broker, FleetStore, Message, StoreTrouble};
use crate::capacity::Priority;
use crate::denial::Denial;
use crate::job::{
    ANSWER_BYTES_MAX, CANCEL, ENQUEUE, ID_BYTES, Id, Key, Keys, Kind, NONCE_BYTES, READ, State, VERSION,
    What, field, open, seal,
};
use crate::resp::{self, Commands, Reply};
use crate::time::millis;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

/// The longest reply that is read: an answer, and what stands around it.
const REPLY_BYTES_MAX: usize = ANSWER_BYTES_MAX + (1 << 20);

/// Which requests lie in the queue, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub struct JobQueue {
    /// The names of its keys.
    pub keys: Keys,
    /// What bodies are sealed with; `None` where they lie open.
    pub key: Option<Key>,
    /// The most important requests that are queued.
    pub least: Priority,
    /// Whether what may be queued always is, and not only in place of a 429.
    pub is_always: bool,
    /// What must stay free of the backends' capacity for a request that may be queued, in millionths of it.
    pub headroom_min: u32,
    /// Whether responses in the background are made here.
    pub makes_responses: bool,
    /// The most jobs of a client.
    pub jobs_max: u64,
    /// The most bytes of them.
    pub bytes_max: u64,
    /// How long a job may wait.
    pub age: Duration,
    /// How long its answer is kept.
    pub keep: Duration,
    /// In which region it lies, if it is said.
    pub region: Option<Rc<str>>,
    /// Where requests are published to; `None` where they lie in the store.
    pub broker: Option<Rc<Broker>>,
}

/// What is sent to the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCall {
    /// To the store.
    Store(Vec<u8>),
    /// To the broker.
    Broker(Message),
}

/// How much longer than a call may take its answer is waited for: Envoy tells of one that was too slow, but of none that it
/// has dropped.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// How long the answer to a call is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    since: Duration,
    within: Duration,
}

impl Patience {
    /// For a call that is made now, and may take so long.
    #[must_use]
    pub fn new(now: Duration, timeout: Duration) -> Self {
        Self { since: now, within: timeout.saturating_add(LOST_AFTER) }
    }

    /// Whether no answer comes any more. A clock that was put back ends it too.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        now.abs_diff(self.since) > self.within
    }
}

/// For whom a client may ask.
#[derive(Debug, PartialEq, Eq)]
pub enum ActsFor {
    /// For every client.
    Anybody,
    /// For these.
    These(HashSet<Rc<str>>),
}

impl ActsFor {
    /// Whether it may ask for this client.
    #[must_use]
    pub fn covers(&self, client: &str) -> bool {
        match self {
            Self::Anybody => true,
            Self::These(names) => names.contains(client),
        }
    }
}

/// A request that is put into the queue.
#[derive(Debug, PartialEq, Eq)]
pub struct NewJob<'j> {
    /// Whose it is.
    pub client: &'j str,
    /// How important it is.
    pub priority: Priority,
    /// What its client takes it for.
    pub kind: Kind,
    /// What it asks for.
    pub method: &'j str,
    /// With its query.
    pub path: &'j str,
    /// A JSON object of headers.
    pub headers: &'j str,
    /// The model, as the client wrote it.
    pub model: &'j str,
    /// What it asks.
    pub body: &'j [u8],
}

/// Random bytes for a job's name, and for its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dice {
    /// Of its name.
    pub id: [u8; ID_BYTES],
    /// Of its seal.
    pub nonce: [u8; NONCE_BYTES],
}

/// What a client wants of a job that is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To know how it is.
    Read,
    /// That it ends.
    Cancel,
    /// That it ends, or is forgotten if it is over.
    End,
    /// That it ends and is forgotten.
    Delete,
}

/// What became of a request that was to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits.
    Waits {
        /// How many wait before it.
        before: u64,
    },
    /// Its client has as many as it may.
    Full {
        /// Until the oldest of them is over at the latest.
        wait: Duration,
    },
}

/// A job, as its client is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where it was when it was asked about.
    pub state: State,
    /// How many wait before it.
    pub before: u64,
    /// When it was queued, in milliseconds since 1970.
    pub at: u64,
    /// What its client takes it for.
    pub kind: Kind,
    /// The model, as the client wrote it.
    pub model: String,
    /// The status of its answer.
    pub status: u16,
    /// The media type of that.
    pub answer_type: String,
    /// The answer, as it lies in the store.
    pub answer: Vec<u8>,
    /// Why it failed.
    pub why: String,
}

impl JobQueue {
    /// Whether it tells of jobs, and keeps their answers.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.broker.is_none()
    }

    /// Whether there is room in it for a job of this length.
    #[must_use]
    pub fn has_room_for(&self, job: &NewJob<'_>) -> bool {
        self.broker.as_ref().is_none_or(|broker| broker.has_room_for(self.key.as_ref(), job))
    }

    /// Whether jobs of a client may lie in it: one that is bound to regions leaves them by no queue.
    #[must_use]
    pub fn is_in(&self, regions: Option<&[Rc<str>]>) -> bool {
        regions.is_none_or(|regions| self.region.as_ref().is_some_and(|region| regions.contains(region)))
    }

    /// Whether a refusal is over before a job that is queued now is.
    #[must_use]
    pub fn outlasts(&self, denial: &Denial) -> bool {
        match denial {
            Denial::RateExhausted { wait, .. } | Denial::QuotaExhausted { wait, .. } => *wait < self.age,
            Denial::TooManyAtOnce { .. } | Denial::BackendsThrottled { .. } => true,
            _ => false,
        }
    }

    /// The answer of a job, as it was before it was sealed.
    #[must_use]
    pub fn opened(&self, id: &Id, client: &str, told: &Told) -> Option<Vec<u8>> {
        let what = What::Answer { client, kind: told.kind.word() };
        open(self.key.as_ref(), id, what, &told.answer).ok()
    }
}

impl FleetStore {
    /// What is sent to put a request into the queue.
    #[must_use]
    pub fn enqueue_request(&self, queue: &JobQueue, id: &Id, dice: &Dice, job: &NewJob<'_>) -> Vec<u8> {
        let NewJob { client, kind, method, path, headers, model, .. } = *job;
        let what = What::Body { client, kind: kind.word(), method, path, headers, model };
        let body = seal(queue.key.as_ref(), &dice.nonce, id, what, job.body);
        let (age, keep) = (millis(queue.age).to_string(), millis(queue.keep).to_string());
        let (jobs, bytes) = (queue.jobs_max.to_string(), queue.bytes_max.to_string());
        let length = body.len().to_string();
        let words: [&[u8]; 24] = [
            job.priority.word().as_bytes(),
            jobs.as_bytes(),
            bytes.as_bytes(),
            age.as_bytes(),
            keep.as_bytes(),
            length.as_bytes(),
            field::VERSION.as_bytes(),
            VERSION.as_bytes(),
            field::KIND.as_bytes(),
            kind.word().as_bytes(),
            field::KEEP.as_bytes(),
            keep.as_bytes(),
            field::METHOD.as_bytes(),
            method.as_bytes(),
            field::PATH.as_bytes(),
            path.as_bytes(),
            field::HEADERS.as_bytes(),
            headers.as_bytes(),
            field::MODEL.as_bytes(),
            model.as_bytes(),
            field::BODY.as_bytes(),
            &body,
            field::WHY.as_bytes(),
            b"",
        ];
        self.run(queue, ENQUEUE, id, client, &words)
    }

    /// What is sent for what a client wants of a job.
    #[must_use]
    pub fn job_request(&self, queue: &JobQueue, id: &Id, client: &str, kind: Kind, wish: Wish) -> Vec<u8> {
        let (kind, keep) = (kind.word().as_bytes(), millis(queue.keep).to_string());
        let how = match wish {
            Wish::Read => return self.run(queue, READ, id, client, &[kind]),
            Wish::Cancel => "cancel",
            Wish::End => "end",
            Wish::Delete => "delete",
        };
        self.run(queue, CANCEL, id, client, &[kind, keep.as_bytes(), how.as_bytes()])
    }

    fn run(&self, queue: &JobQueue, script: &str, id: &Id, client: &str, more: &[&[u8]]) -> Vec<u8> {
        let mut commands = self.opening(false);
        let keys = queue.keys.of_scripts(id, client);
        let count = keys.len().to_string();
        // Whole, for it is run seldom: no store has to have it.
        let mut words: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), count.as_bytes()];
        words.extend(keys.iter().map(String::as_bytes));
        words.extend([id.text().as_bytes(), client.as_bytes()]);
        words.extend(more);
        commands.push(&words);
        // What answers this has answered everything.
        commands.push(&["QUIT"]);
        commands.bytes().to_vec()
    }

    /// What was answered to a script, if all of it has come.
    fn job_reply(&self, body: &[u8]) -> Result<Reply, StoreTrouble> {
        let replies = resp::replies_within(body, REPLY_BYTES_MAX).ok_or(StoreTrouble::Garbled)?;
        if let Some(code) = replies.iter().find_map(Reply::error_code) {
            return Err(StoreTrouble::of(code));
        }
        let mut replies = replies.into_iter().skip(Commands::count(&self.opening(false)));
        match (replies.next(), replies.next(), replies.next()) {
            (Some(reply), Some(Reply::Simple(end)), None) if end == "OK" => Ok(reply),
            _ => Err(StoreTrouble::Garbled),
        }
    }

    /// What became of a request that was to be queued.
    pub fn enqueue_reply(&self, body: &[u8]) -> Result<Enqueued, StoreTrouble> {
        let numbers = self.job_reply(body)?.integers().ok_or(StoreTrouble::Garbled)?;
        match numbers.as_slice() {
            [1, before] => Ok(Enqueued::Waits { before: number(*before) }),
            [0, wait] => Ok(Enqueued::Full { wait: Duration::from_millis(number(*wait)) }),
            _ => Err(StoreTrouble::Garbled),
        }
    }

    /// What is told of a job; `None` if the client has no such one.
    pub fn told_reply(&self, body: &[u8]) -> Result<Option<Told>, StoreTrouble> {
        match self.job_reply(body)? {
            Reply::Nil => Ok(None),
            Reply::Array(fields) => told(fields).map(Some).ok_or(StoreTrouble::Garbled),
            _ => Err(StoreTrouble::Garbled),
        }
    }
}

fn number(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn told(fields: Vec<Reply>) -> Option<Told> {
    let mut fields = fields.into_iter();
    let state = State::of(&bytes(fields.next()?)?)?;
    let Reply::Integer(before) = fields.next()? else { return None };
    let mut next = || bytes(fields.next()?);
    let (at, kind, model, status, answer_type, answer, why) =
        (next()?, next()?, next()?, next()?, next()?, next()?, next()?);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    Some(Told {
        state,
        before: number(before),
        at: text(at)?.parse().ok()?,
        kind: Kind::of(&kind)?,
        model: text(model)?,
        status: text(status)?.parse().unwrap_or_default(),
        answer_type: text(answer_type)?,
        answer,
        why: text(why)?,
    })
}

fn bytes(reply: Reply) -> Option<Vec<u8>> {
    match reply {
        Reply::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}

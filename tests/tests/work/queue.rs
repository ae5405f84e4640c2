//! A queue in a real Redis, as the filter fills it, and workers of it.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tollgate::job::{CANCEL, ENQUEUE, Id, Key, Keys, What, field, open, seal};
use tollgate::resp::Reply;
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::harness::{Connection, Redis, tools};

/// However busy the machine is.
const WITHIN: Duration = Duration::from_secs(90);

const POLL: Duration = Duration::from_millis(20);

/// What seals bodies, as the environment has it.
pub const SEAL: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// The worker's key at the gateway.
pub const WORKER_KEY: &str = "worker-key";

/// An hour.
pub const AGE_MS: u64 = 3_600_000;

/// Waits until it holds, and tells why it does not.
pub async fn until(mut holds: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + WITHIN;
    while let Err(problem) = holds() {
        assert!(Instant::now() < deadline, "{problem}");
        tokio::time::sleep(POLL).await;
    }
}

pub fn id(number: usize) -> Id {
    Id::read(&format!("{number:032x}")).unwrap()
}

fn key() -> Key {
    Key::read(SEAL).unwrap()
}

/// A queue of its own: keys begin with its prefix.
pub struct Queue<'r> {
    redis: &'r Redis,
    pub prefix: String,
    keys: Keys,
}

impl<'r> Queue<'r> {
    pub fn of(redis: &'r Redis, prefix: &str) -> Self {
        Self { redis, prefix: prefix.to_owned(), keys: Keys::new(prefix) }
    }

    fn ask(&self, words: &[&[u8]]) -> Reply {
        let mut connection: Connection = self.redis.connect().unwrap();
        connection.ask(words).unwrap()
    }

    fn script(&self, script: &str, id: &Id, client: &str, more: &[&[u8]]) -> Reply {
        let keys = self.keys.of_scripts(id, client);
        let mut words: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), b"8"];
        words.extend(keys.iter().map(|key| key.as_bytes()));
        words.extend([id.text().as_bytes(), client.as_bytes()]);
        words.extend(more);
        self.ask(&words)
    }

    /// A chat of a client, which may wait for so long.
    pub fn enqueue_for(&self, number: usize, client: &str, age_ms: u64, body: &str) -> Id {
        self.enqueue_of("job", number, client, age_ms, body)
    }

    /// The same, of this kind.
    pub fn enqueue_of(&self, kind: &str, number: usize, client: &str, age_ms: u64, body: &str) -> Id {
        self.enqueue_at("/v1/chat/completions?x=1", kind, number, client, age_ms, body)
    }

    /// The same, of this path.
    pub fn enqueue_at(
        &self,
        path: &str,
        kind: &str,
        number: usize,
        client: &str,
        age_ms: u64,
        body: &str,
    ) -> Id {
        let id = id(number);
        let (method, model) = ("POST", "gpt-4o");
        let headers = r#"{"content-type":"application/json","authorization":"Bearer forged"}"#;
        let what = What::Body { client, kind, method, path, headers, model };
        let sealed = seal(Some(&key()), &[number as u8; 24], &id, what, body.as_bytes());
        let (age, length) = (age_ms.to_string(), sealed.len().to_string());
        let fields: [(&str, &[u8]); 8] = [
            (field::VERSION, b"1"),
            (field::KIND, kind.as_bytes()),
            (field::METHOD, method.as_bytes()),
            (field::PATH, path.as_bytes()),
            (field::HEADERS, headers.as_bytes()),
            (field::MODEL, model.as_bytes()),
            ("keep", b"3600000"),
            (field::BODY, &sealed),
        ];
        let mut more: Vec<&[u8]> =
            vec![b"low", b"1000", b"100000000", age.as_bytes(), b"3600000", length.as_bytes()];
        more.extend(fields.iter().flat_map(|(name, value)| [name.as_bytes(), *value]));
        let reply = self.script(ENQUEUE, &id, client, &more);
        assert!(matches!(&reply, Reply::Array(answer) if answer[0] == Reply::Integer(1)), "{reply:?}");
        id
    }

    pub fn enqueue(&self, number: usize, client: &str) -> Id {
        self.enqueue_for(number, client, AGE_MS, &format!("{{\"say\":\"secret {number}\"}}"))
    }

    /// In how many milliseconds a job that was put back may be taken again; `None` if it is not among those that wait for that.
    pub fn due_in(&self, id: &Id) -> Option<i64> {
        const DUE: &[u8] = b"local due, time = redis.call('ZSCORE', KEYS[1], ARGV[1]), redis.call('TIME')\n\
            return due and due - time[1] * 1000 - math.floor(time[2] / 1000)";
        let later = format!("{}:later", self.keys.stream());
        match self.ask(&[b"EVAL", DUE, b"1", later.as_bytes(), id.text().as_bytes()]) {
            Reply::Integer(due) => Some(due),
            _ => None,
        }
    }

    pub fn cancel(&self, id: &Id, client: &str) {
        let reply = self.script(CANCEL, id, client, &[b"job", b"3600000", b"cancel"]);
        assert!(matches!(reply, Reply::Array(_)), "{reply:?}");
    }

    pub fn bytes_of(&self, id: &Id, name: &str) -> Option<Vec<u8>> {
        match self.ask(&[b"HGET", self.keys.job(id).as_bytes(), name.as_bytes()]) {
            Reply::Bulk(bytes) => Some(bytes),
            Reply::Nil => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn field(&self, id: &Id, name: &str) -> String {
        self.bytes_of(id, name).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
    }

    pub fn set(&self, id: &Id, name: &str, value: &str) {
        self.ask(&[b"HSET", self.keys.job(id).as_bytes(), name.as_bytes(), value.as_bytes()]);
    }

    pub fn answer(&self, id: &Id) -> String {
        let sealed = self.bytes_of(id, field::ANSWER).expect("an answer");
        let (client, kind) = (self.field(id, field::CLIENT), self.field(id, field::KIND));
        let what = What::Answer { client: &client, kind: &kind };
        String::from_utf8(open(Some(&key()), id, what, &sealed).unwrap()).unwrap()
    }

    pub async fn until_state(&self, id: &Id, state: &str) {
        let told =
            || format!("{}: {}, {}", id.text(), self.field(id, field::STATE), self.field(id, field::WHY));
        until(|| {
            if self.field(id, field::STATE) == state {
                Ok(())
            } else {
                Err(format!("{}, not {state}", told()))
            }
        })
        .await;
    }

    /// A number that a command answers about a key of the queue; the key is the stream's name with this behind it.
    pub fn number(&self, command: &str, suffix: &str, more: &[&str]) -> i64 {
        let key = format!("{}{suffix}", self.keys.stream());
        let mut words: Vec<&[u8]> = vec![command.as_bytes(), key.as_bytes()];
        words.extend(more.iter().map(|word| word.as_bytes()));
        match self.ask(&words) {
            Reply::Integer(number) => number,
            Reply::Bulk(text) => String::from_utf8(text).unwrap().parse().unwrap(),
            Reply::Nil => 0,
            other => panic!("{other:?}"),
        }
    }

    /// Whether nothing of a client waits or runs: no set and no sum has anything of it left.
    #[track_caller]
    pub fn check_is_empty(&self, client: &str) {
        assert_eq!(self.number("XLEN", "", &[]), 0, "the stream");
        assert_eq!(self.number("ZCARD", &format!(":of:{client}"), &[]), 0, "the client's");
        assert_eq!(self.number("HGET", ":bytes", &[client]), 0, "bytes");
        assert_eq!(self.number("SISMEMBER", ":clients", &[client]), 0, "clients");
        assert_eq!(self.number("ZCARD", ":waiting:low", &[]), 0, "the line");
        assert_eq!(self.number("ZCARD", ":later", &[]), 0, "those that wait for their time");
    }

    /// A worker of it, which takes over from the dead after five seconds.
    pub fn worker(&self, gateway: SocketAddr, more: &[&str]) -> Worker {
        self.worker_at(&self.redis.url(), gateway, more)
    }

    /// The same, with another way to the store.
    pub fn worker_at(&self, store: &str, gateway: SocketAddr, more: &[&str]) -> Worker {
        let dir = tempfile::tempdir().unwrap();
        let said = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(tools::tool().unwrap());
        command
            .args([
                "work",
                "--store",
                store,
                "--prefix",
                &self.prefix,
                "--gateway",
                &format!("http://{gateway}"),
            ])
            .args([
                "--key-env",
                "WORKER_KEY",
                "--seal-env",
                "SEAL",
                "--dead-after",
                "5",
                "--metrics",
                "127.0.0.1:0",
            ])
            .args(more)
            .envs([
                ("WORKER_KEY", WORKER_KEY),
                ("SEAL", SEAL),
                ("HOOK", super::webhooks::SECRET),
                ("HOSTNAME", "w"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        Worker { process: Leashed::spawn(&mut command).unwrap(), dir }
    }

    /// How the tool ends, and what it prints and complains of.
    pub fn jobs(&self, words: &[&str]) -> (i32, String, String) {
        let output = Command::new(tools::tool().unwrap())
            .arg("jobs")
            .args(words)
            .args(["--store", &self.redis.url(), "--prefix", &self.prefix])
            .env("SEAL", SEAL)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

/// A worker's process. It is killed, as the kernel kills, with this value.
pub struct Worker {
    process: Leashed,
    dir: tempfile::TempDir,
}

impl Worker {
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// How it ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until(|| {
            status = self.process.ended().unwrap();
            status.map(|_| ()).ok_or("it runs".to_owned())
        })
        .await;
        status.unwrap()
    }

    /// What its port tells.
    pub async fn metrics(&self) -> String {
        let mut address = None;
        until(|| {
            let log = self.log();
            address =
                log.split("metrics are at ").nth(1).and_then(|rest| Some(rest.lines().next()?.to_owned()));
            address.as_ref().map(|_| ()).ok_or(log)
        })
        .await;
        reqwest::get(address.unwrap()).await.unwrap().text().await.unwrap()
    }
}

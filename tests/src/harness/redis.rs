//! A running Redis: the store of a fleet.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpSocket;
use tollgate::resp::{Commands, Reply, replies};

use super::envoy::{POLL, RunDir, tail};
use super::leash::Leashed;
use super::tools;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// An answer that takes longer does not come.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Somebody else may ask for just this port.
const PORTS_TRIED: u32 = 20;

/// The file that it writes what it says to.
const LOG: &str = "redis.log";

/// Redis on a free port, with a folder of its own in which it writes down every change at once. It ends with this value.
pub struct Redis {
    // First, so that it is dropped before its data is. None while it is killed.
    process: Option<Leashed>,
    dir: RunDir,
    port: u16,
    /// Bound to the port and never listening: nobody else is given the port while Redis is killed.
    reserves: TcpSocket,
    password: Option<String>,
    words: Vec<String>,
}

impl Redis {
    /// Starts one without a password.
    ///
    /// # Errors
    /// It is not there and cannot be installed, or does not start: its log's end is in the error.
    pub fn start() -> Result<Self> {
        Self::start_with(None, &[])
    }

    /// Starts one that asks for this password, with more words on its command line: `--maxmemory 1mb`.
    ///
    /// # Errors
    /// It is not there and cannot be installed, or does not start: its log's end is in the error.
    pub fn start_with(password: Option<&str>, words: &[&str]) -> Result<Self> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let dir = RunDir::new()?;
        let (reserves, password) = (reserve()?, password.map(str::to_owned));
        let mut redis = Self { process: None, dir, port: 0, reserves, password, words };
        let mut tried = 0;
        loop {
            redis.port = redis.reserves.local_addr()?.port();
            tried += 1;
            match redis.restart() {
                Ok(()) => return Ok(redis),
                Err(_) if tail(&redis.dir.file(LOG)).contains("in use") && tried < PORTS_TRIED => {
                    redis.reserves = reserve()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts one for a test, which is skipped where it cannot be had and may be skipped.
    #[must_use]
    pub fn or_skip(test: &str, password: Option<&str>, words: &[&str]) -> Option<Self> {
        Self::start_with(password, words).map_err(|error| tools::skip(test, &error)).ok()
    }

    /// Starts it again after [`Redis::kill`], on the same port and with what it has written down.
    ///
    /// # Errors
    /// It does not start: its log's end is in the error.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let said = File::create(self.dir.file(LOG)).context("cannot create Redis' log")?;
        let mut command = Command::new(tools::redis()?);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.dir.file("."))
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        let mut process = Leashed::spawn(&mut command).context("Redis cannot be started")?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let said = tail(&self.dir.file(LOG));
            if let Some(status) = process.ended()? {
                bail!("Redis refuses to start ({status}); its log ends:\n{said}");
            }
            if said.contains("Ready to accept connections") && self.is_ready() {
                self.process = Some(process);
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "Redis was not ready; its log ends:\n{said}");
            std::thread::sleep(POLL);
        }
    }

    /// Starts it again if it has died.
    ///
    /// # Errors
    /// It does not start: its log's end is in the error.
    pub fn revive(&mut self) -> Result<()> {
        let has_died = match &mut self.process {
            Some(process) => process.ended()?.is_some(),
            None => false,
        };
        if has_died { self.restart() } else { Ok(()) }
    }

    /// Not while it reads what it had written down.
    fn is_ready(&self) -> bool {
        let answer = self.connect().and_then(|mut connection| connection.ask(&["PING"]));
        answer.is_ok_and(|answer| answer == Reply::Simple("PONG".to_owned()))
    }

    /// Kills it at once, as the kernel kills.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends it a signal: `STOP`, and it answers nobody; `CONT`, and it goes on.
    ///
    /// # Errors
    /// It does not run, or there is no such signal.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let id = self.id().context("Redis does not run")?;
        let status = Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status()?;
        ensure!(status.success(), "kill -{signal}: {status}");
        Ok(())
    }

    /// The process id; `None` while it is killed.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Leashed::id)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `redis://127.0.0.1:PORT`, with the password where there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let user = self.password.as_ref().map_or(String::new(), |password| format!(":{password}@"));
        format!("redis://{user}{}", self.address())
    }

    /// A connection that may ask.
    ///
    /// # Errors
    /// It does not run.
    pub fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address()).context("Redis does not answer")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let mut connection = Connection { stream };
        if let Some(password) = &self.password {
            connection.ask(&["AUTH", password])?;
        }
        Ok(connection)
    }

    /// Asks once, on a connection of its own.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask(&self, words: &[&str]) -> Result<Reply> {
        self.connect()?.ask(words)
    }
}

/// A port that nobody else is given. Redis may listen on it, for both say that they share it, and only one listens.
fn reserve() -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(socket)
}

/// A connection to Redis.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// What is answered to a command. A refusal is an answer.
    ///
    /// # Errors
    /// It went away.
    pub fn ask<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Result<Reply> {
        let mut commands = Commands::new();
        commands.push(words);
        self.ask_all(&commands)?.pop().context("no answer")
    }

    /// What is answered to each of these.
    ///
    /// # Errors
    /// It went away.
    pub fn ask_all(&mut self, commands: &Commands) -> Result<Vec<Reply>> {
        self.stream.write_all(commands.bytes())?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 16384];
        loop {
            let count = match self.stream.read(&mut chunk) {
                // The end of a child of this process: a read that has a timeout is not taken up again by the kernel.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                count => count?,
            };
            ensure!(count > 0, "Redis has closed the connection");
            bytes.extend_from_slice(&chunk[..count]);
            match replies(&bytes) {
                Some(replies) if replies.len() == commands.count() => return Ok(replies),
                _ => {}
            }
        }
    }
}

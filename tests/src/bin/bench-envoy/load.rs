//! The load: so many connections, each with one request at a time, as fast as they are answered or at a rate.
//!
//! A program of its own would say the same numbers: what it uses of the CPU is no Envoy's and no mock's, here as there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tollgate_tests::percentile;

use crate::credentials::Credentials;

/// No request takes longer, or something hangs.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) credentials: Credentials,
    pub(crate) body: Bytes,
    pub(crate) connections: usize,
    pub(crate) lasts: Duration,
    pub(crate) rate: Option<Rate>,
}

/// Requests per second of all connections together, whether those before are answered or not. One that is late because
/// every connection is waiting has waited: its latency counts from when it was due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(pub(crate) f64);

/// What came of it. Every answer was a 200.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    /// From when it was due, or its connection free, to its last byte.
    pub(crate) latency: Latency,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Load {
    /// Runs it to its end, the requests under way at its end included.
    pub(crate) async fn run(self) -> Result<Answers> {
        ensure!(self.connections > 0, "a load needs a connection");
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            connections.push(self.connect().await?);
        }
        let begin = Instant::now();
        let (load, sent) = (Arc::new(self), Arc::new(AtomicU32::new(0)));
        let mut at_work = JoinSet::new();
        for connection in connections {
            let (load, sent) = (Arc::clone(&load), Arc::clone(&sent));
            at_work.spawn(async move { load.send_all(connection, begin, &sent).await });
        }
        let mut latencies = Vec::new();
        while let Some(done) = at_work.join_next().await {
            latencies.extend(done??);
        }
        let took = begin.elapsed();
        latencies.sort_unstable();
        Ok(Answers {
            requests: latencies.len() as u64,
            per_second: latencies.len() as f64 / took.as_secs_f64(),
            latency: Latency::of(&latencies)?,
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await.context("Envoy does not take a connection")?;
        stream.set_nodelay(true)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(connection)
    }

    /// One connection's requests; how long each took.
    async fn send_all(
        &self,
        mut connection: SendRequest<Full<Bytes>>,
        begin: Instant,
        sent: &AtomicU32,
    ) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        loop {
            let free = Instant::now();
            let from = match self.rate {
                None => free,
                Some(Rate(per_second)) => {
                    let before = sent.fetch_add(1, Ordering::Relaxed);
                    let due = begin + Duration::from_secs_f64(f64::from(before) / per_second);
                    if due - begin >= self.lasts {
                        return Ok(latencies);
                    } else if due <= free {
                        due
                    } else {
                        sleep_until(due).await;
                        // A timer that is late is our fault.
                        Instant::now()
                    }
                }
            };
            if free - begin >= self.lasts {
                // What a rate asks for beyond what can be done is left out.
                return Ok(latencies);
            }
            timeout(REQUEST_WITHIN, self.send(&mut connection)).await.context("a request hangs")??;
            latencies.push(from.elapsed());
        }
    }

    /// Nothing but 200 counts: a load of errors is fast.
    async fn send(&self, connection: &mut SendRequest<Full<Bytes>>) -> Result<()> {
        let request = Request::post(self.path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header(self.credentials.header, self.credentials.next())
            .body(Full::new(self.body.clone()))?;
        connection.ready().await.context("Envoy has closed a connection")?;
        let answer = connection.send_request(request).await.context("Envoy did not answer")?;
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.context("an answer broke off")?;
        }
        ensure!(status == StatusCode::OK, "not every answer was 200: one is {status}");
        Ok(())
    }
}

impl Latency {
    /// Of times in their order: of so many of a hundred, the longest.
    fn of(sorted: &[Duration]) -> Result<Self> {
        let ms = |percent: usize| {
            percentile::of(sorted, percent)
                .map(|time| time.as_secs_f64() * 1000.0)
                .context("no request was sent in the time")
        };
        Ok(Self { p50_ms: ms(50)?, p90_ms: ms(90)?, p99_ms: ms(99)? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    /// A server that answers every request with these, in turn, and counts them.
    async fn server(answers: &'static [&'static str]) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let requests = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let requests = Arc::clone(&requests);
                tokio::spawn(async move {
                    let mut text = Vec::new();
                    while stream.read_buf(&mut text).await.is_ok_and(|read| read > 0) {
                        if text.ends_with(b"{\"a\":1}") {
                            text.clear();
                            let turn = requests.fetch_add(1, Ordering::Relaxed);
                            stream.write_all(answers[turn % answers.len()].as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        (address, count)
    }

    fn load(address: SocketAddr, rate: Option<Rate>) -> Load {
        let body = Bytes::from_static(b"{\"a\":1}");
        let lasts = Duration::from_millis(100);
        let credentials = Credentials::keys(["k".to_owned(), "l".to_owned()].into_iter()).unwrap();
        Load { address, path: "/", credentials, body, connections: 3, lasts, rate }
    }

    #[tokio::test]
    async fn every_request_that_was_sent_is_counted() {
        let (address, count) = server(&[OK]).await;
        let answers = load(address, None).run().await.unwrap();
        assert_eq!(answers.requests, count.load(Ordering::Relaxed) as u64);
    }

    #[tokio::test]
    async fn a_rate_says_how_many_are_sent_at_most() {
        let (address, count) = server(&[OK]).await;
        let answers = load(address, Some(Rate(200.0))).run().await.unwrap();
        assert_eq!(answers.requests, count.load(Ordering::Relaxed) as u64);
        // A machine that is too busy to send them all sends fewer.
        assert!((1..=20).contains(&answers.requests), "{answers:?}");
    }

    #[tokio::test]
    async fn one_answer_that_is_not_200_spoils_the_load() {
        let (address, _) = server(&[OK, "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"]).await;
        let error = load(address, None).run().await.unwrap_err();
        assert_eq!(error.to_string(), "not every answer was 200: one is 429 Too Many Requests");
    }

    #[test]
    fn a_percentile_is_a_time_that_was_seen() {
        let times = [1, 2, 3, 4, 5, 6, 7, 8, 9, 100].map(Duration::from_millis);
        let Latency { p50_ms, p90_ms, p99_ms } = Latency::of(&times).unwrap();
        assert_eq!((p50_ms, p90_ms, p99_ms), (5.0, 9.0, 100.0));
    }
}

//! A network between two that goes wrong as a test says.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// They arrive.
    None,
    /// They arrive so much later, each way.
    Slow(Duration),
    /// A connection is taken, and nothing that is sent on it arrives: it is half open.
    Silent,
    /// What is asked arrives. No answer comes back, nor the end of the connection.
    NoAnswer,
    /// An answer ends after so many bytes.
    CutAnswer(usize),
}

/// Where connections lead to, and how they fare.
#[derive(Clone, Copy, Debug)]
struct Way {
    to: SocketAddr,
    fault: LinkFault,
}

/// A port that leads to another. It closes with this value, and so do its connections.
pub struct Link {
    address: SocketAddr,
    way: watch::Sender<Way>,
    answers_lost: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Link {
    /// A free port that leads there.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (way, _) = watch::channel(Way { to, fault: LinkFault::None });
        let answers_lost = Arc::new(AtomicUsize::new(0));
        let server = tokio::spawn(serve(listener, way.clone(), Arc::clone(&answers_lost)));
        Ok(Self { address, way, answers_lost, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on its connections fare so, those that are open too.
    pub fn fails(&self, fault: LinkFault) {
        self.way.send_modify(|way| way.fault = fault);
    }

    /// From now on new connections lead there.
    pub fn leads_to(&self, to: SocketAddr) {
        self.way.send_modify(|way| way.to = to);
    }

    /// How many answers have not arrived, or not to their end: what they answer was done.
    #[must_use]
    pub fn answers_lost(&self) -> usize {
        self.answers_lost.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, way: watch::Sender<Way>, answers_lost: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(stream, way.subscribe(), Arc::clone(&answers_lost)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    There,
    Back,
}

async fn connection(client: TcpStream, way: watch::Receiver<Way>, answers_lost: Arc<AtomicUsize>) {
    let to = way.borrow().to;
    // Nobody is there: the connection ends, as one that is refused does.
    let Ok(server) = TcpStream::connect(to).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = carry(from_client, to_server, Direction::There, &way, &answers_lost);
    let back = carry(from_server, to_client, Direction::Back, &way, &answers_lost);
    tokio::join!(there, back);
}

/// Carries what comes, until it ends. What is lost once is lost for good: nothing else of its connection arrives then.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    way: &watch::Receiver<Way>,
    answers_lost: &AtomicUsize,
) {
    let (mut bytes, mut carried, mut is_lost) = ([0; 16384], 0, false);
    loop {
        let count = from.read(&mut bytes).await.unwrap_or(0);
        let fault = way.borrow().fault;
        if let LinkFault::Slow(delay) = fault {
            tokio::time::sleep(delay).await;
        }
        let was_lost = is_lost;
        is_lost |= fault == LinkFault::Silent || fault == LinkFault::NoAnswer && direction == Direction::Back;
        if is_lost && count == 0 {
            // Nobody learns that the other side has ended it.
            return std::future::pending().await;
        }
        let is_cut = matches!(fault, LinkFault::CutAnswer(after)
            if direction == Direction::Back && carried + count > after);
        if direction == Direction::Back && (is_cut || is_lost && !was_lost) {
            answers_lost.fetch_add(1, Ordering::Relaxed);
        }
        if is_lost {
            continue;
        }
        let arrives =
            if let (LinkFault::CutAnswer(after), true) = (fault, is_cut) { after - carried } else { count };
        if to.write_all(&bytes[..arrives]).await.is_err() || is_cut || count == 0 {
            return;
        }
        carried += count;
    }
}

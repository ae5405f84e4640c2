//! A way to Redis that stops at a script: before Redis has it, or before its answer is back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where it stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stops {
    /// Redis does not hear of the script.
    Before,
    /// Redis runs it, and its caller does not hear of that.
    After,
}

/// The way. It closes with this value.
pub struct Gate {
    address: SocketAddr,
    reached: watch::Receiver<bool>,
    server: JoinHandle<()>,
}

impl Gate {
    /// Stops when this script is called while `armed` says so.
    pub async fn start(to: SocketAddr, script: &'static str, stops: Stops) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reach, reached) = watch::channel(false);
        let reach = Arc::new(reach);
        let server = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                tokio::spawn(carry(client, to, script, stops, Arc::clone(&reach)));
            }
        });
        Self { address, reached, server }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Comes back when it has stopped.
    pub async fn reached(&mut self) {
        self.reached.wait_for(|reached| *reached).await.unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Redis answers nothing before it was asked, so one direction after the other is enough: a call goes there, its answer comes back.
async fn carry(
    mut client: TcpStream,
    to: SocketAddr,
    script: &str,
    stops: Stops,
    reach: Arc<watch::Sender<bool>>,
) {
    let mut redis = TcpStream::connect(to).await.unwrap();
    let name = format!("-- queue: {script}\n");
    let (mut from_client, mut from_redis) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut is_met = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let count = read.unwrap_or(0);
                if count == 0 { return; }
                let part = &from_client[..count];
                is_met |= part.windows(name.len()).any(|window| window == name.as_bytes());
                if is_met && stops == Stops::Before {
                    reach.send_replace(true);
                    std::future::pending::<()>().await;
                }
                if redis.write_all(part).await.is_err() { return; }
            }
            read = redis.read(&mut from_redis) => {
                let count = read.unwrap_or(0);
                if count == 0 { return; }
                if is_met {
                    reach.send_replace(true);
                    std::future::pending::<()>().await;
                }
                if client.write_all(&from_redis[..count]).await.is_err() { return; }
            }
        }
    }
}

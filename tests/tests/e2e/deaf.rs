//! Who lets nobody connect.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A port whose queue of connections is full: the kernel lets nobody connect, and refuses nobody.
pub struct Deaf {
    pub address: SocketAddr,
    _socket: TcpListener,
    _queue: JoinSet<()>,
}

impl Deaf {
    pub async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let socket = socket.listen(1).unwrap();
        let address = socket.local_addr().unwrap();
        let (connected, mut connections) = mpsc::channel(1);
        let mut queue = JoinSet::new();
        for _ in 0..8 {
            let connected = connected.clone();
            queue.spawn(async move {
                let _stream = TcpStream::connect(address).await;
                let _ = connected.send(()).await;
                std::future::pending::<()>().await;
            });
        }
        // As many as there is room for.
        for _ in 0..2 {
            connections.recv().await.unwrap();
        }
        Self { address, _socket: socket, _queue: queue }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

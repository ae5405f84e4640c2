//! A mock (Azure) OpenAI server: the model provider of the tests, the demo and the benchmark.
//!
//! It is deterministic: what it answers follows from the request and the [`Settings`], what it costs from the rules
//! of [`tokens`], and both can be had without a server from [`answer()`]. It serves `/v1/...`, `/openai/v1/...`,
//! `/openai/deployments/{deployment}/...?api-version=` and `/openai/responses?api-version=`, and Anthropic's Messages at
//! `/v1/messages` and `/anthropic/v1/messages`, and by WebSocket conversations at `…/realtime` and responses at `…/responses`. It can be
//! made to fail in many ways ([`Fault`]), and keeps what it received and what it billed.
//!
//! What is made of responses, conversations, files, vector stores, assistants, threads, runs and batches is kept where it
//! was made, and 404 at every other mock, as with real resources. It has no models and no TLS.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use tollgate_tests::mock::{Fault, Mock, Settings};
//!
//! let mock = Mock::start("eu-ptu", Settings::default()).await?;
//! let busy = Fault::answer(429).header("retry-after-ms", "50").times(2);
//! mock.update(|settings| settings.faults.push_back(busy));
//! // ... send requests to mock.url() ...
//! mock.wait_for_requests(3).await;
//! assert_eq!(mock.received()[2].path, "/v1/chat/completions");
//! assert_eq!(mock.billed()[0].usage.total(), 42);
//! # Ok(())
//! # }
//! ```

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

mod admin;
mod answer;
mod batches;
mod chat;
mod completions;
mod embeddings;
mod endpoint;
mod exchange;
mod fields;
mod filters;
mod flow;
mod gzip;
mod kept;
pub mod limiter;
mod load;
mod messages;
mod models;
pub mod realtime;
mod record;
mod refusal;
mod reply;
mod resources;
mod responses;
pub mod responses_socket;
mod server;
mod settings;
mod socket;
pub mod tokens;
mod usage;

pub use answer::{Answer, Background, Content, Event, Produced, answer, stream_events};
pub use endpoint::Operation;
pub use load::Load;
pub use record::{Billed, Outcome, RECORDED_BYTES_MAX, RECORDS_MAX, Received};
pub use refusal::Refusal;
pub use settings::{Effect, Fault, Gzip, Settings};
pub use usage::Usage;

use exchange::Shared;

/// A running mock. Dropping it stops its server and closes its connections.
pub struct Mock {
    shared: Arc<Shared>,
    addr: SocketAddr,
    stop: Arc<Notify>,
    server: JoinHandle<()>,
}

impl Mock {
    /// Starts a mock on a free port of the loopback interface.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(name: &str, settings: Settings) -> std::io::Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0), name, settings).await
    }

    /// Starts a mock where it is told to.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub async fn start_on(addr: impl ToSocketAddrs, name: &str, settings: Settings) -> std::io::Result<Self> {
        let listener = server::Listener(TcpListener::bind(addr).await?);
        let addr = listener.0.local_addr()?;
        let shared = Arc::new(Shared::new(name, settings));
        let stop = Arc::new(Notify::new());
        let server = tokio::spawn(server::serve(listener, Arc::clone(&shared), Arc::clone(&stop)));
        Ok(Self { shared, addr, stop, server })
    }

    /// Its name, which its answers carry as `x-ms-region`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The settings as they are, less the faults that have been met.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings::clone(&self.shared.settings())
    }

    /// Changes the settings for the requests to come.
    pub fn update(&self, change: impl FnOnce(&mut Settings)) {
        let Ok(()) = self.shared.update(|settings| {
            change(settings);
            Ok::<(), Infallible>(())
        });
    }

    /// The requests that have arrived, the oldest first; the last [`RECORDS_MAX`] of them.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.received()
    }

    /// What was billed, in the order in which the answers ended.
    #[must_use]
    pub fn billed(&self) -> Vec<Billed> {
        self.shared.billed()
    }

    /// What was admitted and refused since the start, the last [`Mock::forget`] or the last change of the limits.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.load()
    }

    /// Forgets all records, and counts from 0. A request under way is still billed when it ends.
    pub fn forget(&self) {
        self.shared.forget();
    }

    /// Lets go on the requests that have arrived and are held. Those to come are held as the settings say.
    pub fn release(&self) {
        self.shared.release();
    }

    /// Until so many requests have arrived, bodies and all.
    pub async fn wait_for_requests(&self, n: usize) {
        self.shared.wait_for(|counts| counts.requests >= n).await;
    }

    /// Until so many clients have gone away before their answer ended. They are billed by then.
    pub async fn wait_for_disconnects(&self, n: usize) {
        self.shared.wait_for(|counts| counts.disconnects >= n).await;
    }

    /// Stops it; when this returns, nobody listens there any more.
    pub async fn stop(mut self) {
        self.stop.notify_one();
        // It ends without a result, or it has panicked and is gone as well.
        let _ = (&mut self.server).await;
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.server.abort();
    }
}

//! A stand-in for the gateway: it notes who asks for what, and answers as a test says.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use tokio::sync::watch;

use super::queue::until;
use super::stand_in::StandIn;
use tollgate::job::Id;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn job(&self) -> &str {
        self.header("tollgate-job")
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Say {
    /// A status, a header, and a body in parts.
    This(u16, (&'static str, &'static str), Vec<&'static str>),
    /// 200 once the test lets go.
    Wait,
    /// The same, when it lets go for the second time.
    WaitLonger,
    /// The head of an answer, and then the connection ends.
    Break,
}

/// 200 and a small body.
pub fn well() -> Say {
    Say::This(200, ("content-type", "application/json"), vec!["{\"said\":", "\"well\"}"])
}

/// The stand-in.
pub struct Desk {
    server: StandIn,
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<AtomicUsize>,
    go: watch::Sender<u8>,
}

/// Counts who went away before the answer.
struct Waiting(Arc<AtomicUsize>, bool);

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Desk {
    /// What is said depends on the request, and on how often its job was asked for before.
    pub async fn start(say: impl Fn(&Asked, usize) -> Say + Send + Sync + 'static) -> Self {
        let (go, released) = watch::channel(0);
        let (asked, left) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicUsize>::default());
        let (noted, gone, say) = (Arc::clone(&asked), Arc::clone(&left), Arc::new(say));
        let server = StandIn::start(move |request: Request<Incoming>| {
            let (noted, gone, say, mut released) =
                (Arc::clone(&noted), Arc::clone(&gone), Arc::clone(&say), released.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
                let path = head.uri.path_and_query().map(|path| path.to_string()).unwrap_or_default();
                let asked = Asked { path, headers: head.headers, body };
                let before = {
                    let mut noted = noted.lock().unwrap();
                    noted.push(asked.clone());
                    noted.iter().filter(|other| other.job() == asked.job()).count() - 1
                };
                let (status, header, mut parts) = match say(&asked, before) {
                    Say::This(status, header, parts) => (status, header, parts.into_iter().map(Ok).collect()),
                    wait @ (Say::Wait | Say::WaitLonger) => {
                        let (times, said) = match wait {
                            Say::Wait => (1, "{\"said\":\"late\"}"),
                            _ => (2, "{\"said\":\"later\"}"),
                        };
                        let mut waiting = Waiting(gone, false);
                        let _ = released.wait_for(|go| *go >= times).await;
                        waiting.1 = true;
                        (200, ("content-type", "application/json"), vec![Ok(said)])
                    }
                    Say::Break => (200, ("content-type", "text/event-stream"), vec![Ok("data: {}\n\n")]),
                };
                if header.1 == "text/event-stream" && parts.len() == 1 {
                    parts.push(Err(io::Error::other("broken")));
                }
                let frames = parts.into_iter().map(|part| part.map(|part| Frame::data(Bytes::from(part))));
                let mut response = Response::new(StreamBody::new(stream::iter(frames)));
                *response.status_mut() = status.try_into().unwrap();
                response.headers_mut().insert(header.0, header.1.parse().unwrap());
                Ok::<_, Infallible>(response)
            }
        })
        .await;
        Self { server, asked, left, go }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.addr
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked for a job.
    pub fn times(&self, id: &Id) -> usize {
        self.asked().iter().filter(|asked| asked.job() == id.text()).count()
    }

    /// Comes back when it was asked for a job so often.
    pub async fn until_asked(&self, id: &Id, times: usize) {
        until(|| {
            let count = self.times(id);
            if count >= times { Ok(()) } else { Err(format!("{} was asked for {count} times", id.text())) }
        })
        .await;
    }

    /// Comes back when so many went away before they were answered.
    pub async fn until_left(&self, count: usize) {
        until(|| {
            let left = self.left.load(Ordering::SeqCst);
            if left >= count { Ok(()) } else { Err(format!("{left} went away")) }
        })
        .await;
    }

    /// Answers all that wait, and all that come.
    pub fn go(&self) {
        self.go.send_modify(|times| *times += 1);
    }
}

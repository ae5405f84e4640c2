//! How are a worker's metrics fetched?

use super::Worker;
use super::counts::Standing;
use crate::queue::{Call, STAND};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::spawn_local;

/// Who has sent no request in this time will not.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Answers `GET /metrics`, for as long as the worker runs.
pub(super) async fn serve(worker: Rc<Worker>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There are no more files to open: it may pass.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let worker = Rc::clone(&worker);
        let service = service_fn(move |request| answer(Rc::clone(&worker), request));
        spawn_local(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
            // An error is somebody who went away.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(worker: Rc<Worker>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    type Rows = Vec<(String, u64, u64)>;
    let told = worker.link.run::<(u64, u64, u64, Rows, Rows)>(Call::new(STAND)).await;
    let standing = told.ok().map(|(dead, running, later, priorities, clients)| Standing {
        dead,
        running,
        later,
        priorities,
        clients,
    });
    let mut response = Response::new(Full::from(worker.counts.text(worker.held.len(), standing.as_ref())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    Ok(response)
}

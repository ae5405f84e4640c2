//! What does a job meet at the gateway?
//!
//! It is sent with the worker's credential, for the client whose it is. Not decided here: what becomes of the job then.

use super::job::Job;
use super::tls;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime};
use tollgate::job::ANSWER_BYTES_MAX;
use tollgate::route::cooldown;

/// Whom a request stands for.
const ACT_FOR: HeaderName = HeaderName::from_static("tollgate-act-for");

/// Which job a request is.
const JOB: HeaderName = HeaderName::from_static("tollgate-job");

/// What says that this worker may not stand for a client.
const NOT_FOR: &str = "act_for_not_allowed";

/// What says that a request is more than its client's limit ever lets through.
const NEVER_FITS: &str = "request_exceeds_limit";

/// The gateway, and how it is asked.
pub(super) struct Gateway {
    /// Without a slash at its end.
    base: String,
    credential: HeaderValue,
    http: tls::Client,
    timeout: Duration,
}

/// What a job met.
#[derive(Debug, PartialEq)]
pub(super) enum Met {
    /// Its answer, good or bad.
    Answer(Answer),
    /// There is no room for so long: that is no try.
    Full(Duration),
    /// A try that failed, and for how long the gateway asked to be left alone.
    Failed(String, Option<Duration>),
    /// It can never have an answer.
    Hopeless(String),
    /// It cannot be sent, to no gateway.
    Unsendable(String),
    /// The gateway does not let this worker stand for its client: nothing was tried, and others' jobs are not met by that.
    NotFor,
    /// The gateway cannot be reached, or does not take this worker: nothing was tried.
    Trouble(String),
}

/// What a client is to get.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) media: String,
    pub(super) body: Vec<u8>,
}

impl Gateway {
    /// At `http://` or `https://`, which takes this key.
    pub(super) fn new(base: &str, key: &str, timeout: Duration) -> Result<Self, String> {
        let wrong = || "--gateway: expected http://HOST:PORT or https://HOST:PORT".to_owned();
        let base = base.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        if !matches!(uri.scheme_str(), Some("http" | "https"))
            || uri.host().is_none()
            || uri.query().is_some()
        {
            return Err(wrong());
        }
        let mut credential = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_| "--key-env: the key has characters that no header has".to_owned())?;
        credential.set_sensitive(true);
        Ok(Self { base: base.to_owned(), credential, http: tls::client()?, timeout })
    }

    /// Sends it, and waits for the whole answer. The connection is dropped with the future.
    pub(super) async fn ask(&self, job: &Job, body: Bytes) -> Met {
        let request = match self.request(job, body) {
            Ok(request) => request,
            Err(why) => return Met::Unsendable(why),
        };
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(met) => met,
            Err(_) => Met::Failed(format!("no whole answer in {} s", self.timeout.as_secs()), None),
        }
    }

    fn request(&self, job: &Job, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let unreadable = |what: &str| format!("its {what} cannot be sent");
        if !job.path.starts_with('/') {
            return Err(unreadable("path"));
        }
        let uri: Uri = format!("{}{}", self.base, job.path).parse().map_err(|_| unreadable("path"))?;
        let method: Method = job.method.parse().map_err(|_| unreadable("method"))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers: Map<String, Value> =
            serde_json::from_str(&job.headers).map_err(|_| unreadable("headers"))?;
        for (name, value) in headers {
            let name = HeaderName::try_from(name).map_err(|_| unreadable("headers"))?;
            let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
            request.headers_mut().insert(name, value.ok_or_else(|| unreadable("headers"))?);
        }
        let text = |text: &str| HeaderValue::from_str(text).map_err(|_| unreadable("client"));
        // Last, so that nothing in the store speaks for another.
        for (name, value) in
            [(AUTHORIZATION, self.credential.clone()), (ACT_FOR, text(&job.client)?), (JOB, text(&job.id)?)]
        {
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Met {
        match self.http.request(request).await {
            Ok(response) => read(response).await,
            // Nothing was sent, so nothing was tried.
            Err(error) if error.is_connect() => Met::Trouble("the gateway cannot be reached".to_owned()),
            Err(_) => Met::Failed("the connection broke".to_owned(), None),
        }
    }
}

async fn read(response: Response<Incoming>) -> Met {
    let (head, body) = response.into_parts();
    let status = head.status;
    let told = told(&head.headers, status);
    if status == StatusCode::UNAUTHORIZED {
        return Met::Trouble("the gateway does not take this worker's key".to_owned());
    }
    let is_try = status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425);
    if is_try {
        return Met::Failed(format!("status {}", status.as_u16()), told);
    }
    let media =
        head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => {
            let body = body.to_bytes().to_vec();
            match (status, code(&body).as_deref()) {
                (StatusCode::FORBIDDEN, Some(NOT_FOR)) => Met::NotFor,
                // There will never be room for it.
                (StatusCode::TOO_MANY_REQUESTS, code) if code != Some(NEVER_FITS) => {
                    Met::Full(told.unwrap_or(Duration::from_secs(1)))
                }
                _ => Met::Answer(Answer { status: status.as_u16(), media, body }),
            }
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Met::Hopeless(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes"))
        }
        Err(_) => Met::Failed("the connection broke in the midst of the answer".to_owned(), None),
    }
}

/// The code of a refusal.
fn code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["error"]["code"].as_str().map(str::to_owned)
}

fn told(headers: &HeaderMap, status: StatusCode) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    cooldown(status.as_u16(), header, now).map(|pause| pause.wait)
}

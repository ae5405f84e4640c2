//! Who is told that a job is over?
//!
//! The notice is signed as <https://www.standardwebhooks.com> has it, and as OpenAI's own are: SDKs verify it. Where it goes, the
//! command line says; nothing of a request or of the store does.

use super::tls;
use crate::work::notices::Notice;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use serde_json::json;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::time::Duration;
use tollgate::job::{Kind, State};

/// Who does not answer in this time has not been told.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// As short as Standard Webhooks allows.
const SECRET_BYTES_MIN: usize = 24;

/// The webhooks of all clients.
pub(super) struct Webhooks {
    of: BTreeMap<String, Webhook>,
    http: tls::Client,
}

struct Webhook {
    url: Uri,
    secret: Vec<u8>,
}

impl Webhooks {
    /// Each of `CLIENT=URL` with one of `CLIENT=VARIABLE`.
    pub(super) fn read(urls: &[String], secrets: &[String]) -> Result<Self, String> {
        let split = |option: &str, text: &str| {
            let parts = text.split_once('=').filter(|(client, rest)| !client.is_empty() && !rest.is_empty());
            parts
                .map(|(client, rest)| (client.to_owned(), rest.to_owned()))
                .ok_or(format!("{option}: expected CLIENT=…"))
        };
        let mut variables = BTreeMap::new();
        for text in secrets {
            let (client, variable) = split("--webhook-secret-env", text)?;
            variables.insert(client, variable);
        }
        let mut of = BTreeMap::new();
        for text in urls {
            let (client, url) = split("--webhook", text)?;
            let uri: Option<Uri> = url.parse().ok();
            let url =
                uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
            let url = url.ok_or_else(|| format!("--webhook {client}: expected http:// or https://"))?;
            let variable = variables.remove(&client).ok_or_else(|| {
                format!("--webhook {client}: there is no --webhook-secret-env {client}=VARIABLE")
            })?;
            let secret = secret(&variable)?;
            of.insert(client, Webhook { url, secret });
        }
        match variables.keys().next() {
            Some(client) => Err(format!("--webhook-secret-env {client}: there is no --webhook {client}=URL")),
            None => Ok(Self { of, http: tls::client()? }),
        }
    }

    /// The names of those who are told.
    pub(super) fn clients(&self) -> impl Iterator<Item = &str> {
        self.of.keys().map(String::as_str)
    }

    /// `1` if this client is told.
    pub(super) fn flag(&self, client: &str) -> u8 {
        u8::from(self.of.contains_key(client))
    }

    /// Tells it. `None` if its client has no webhook here.
    pub(super) async fn send(&self, notice: &Notice, now: Duration) -> Option<Result<(), String>> {
        let webhook = self.of.get(&notice.client)?;
        let request = match request(webhook, notice, now.as_secs()) {
            Ok(request) => request,
            Err(error) => return Some(Err(error)),
        };
        let sent = tokio::time::timeout(ANSWERS_WITHIN, self.http.request(request)).await;
        Some(match sent {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => Err(format!("status {}", response.status().as_u16())),
            Ok(Err(_)) => Err("it cannot be reached".to_owned()),
            Err(_) => Err(format!("no answer in {} s", ANSWERS_WITHIN.as_secs())),
        })
    }
}

fn secret(variable: &str) -> Result<Vec<u8>, String> {
    let text = std::env::var(variable)
        .map_err(|_| format!("--webhook-secret-env: the environment variable {variable} is not set"))?;
    let bytes = text.trim().strip_prefix(SECRET_PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
    bytes.filter(|bytes| bytes.len() >= SECRET_BYTES_MIN).ok_or_else(|| {
        format!("the environment variable {variable}: expected {SECRET_PREFIX} and at least {SECRET_BYTES_MIN} bytes as base64")
    })
}

/// What is sent: the same id and the same text each time, so that who gets it twice can tell.
fn request(webhook: &Webhook, notice: &Notice, now: u64) -> Result<Request<Full<Bytes>>, String> {
    // A dead letter that is queued again ends twice.
    let id = format!("evt_{}_{}", notice.id, notice.ended_ms);
    let is_response = notice.kind == Kind::Response.word();
    let (kind, name) = if is_response {
        ("response", format!("resp_job_{}", notice.id))
    } else {
        ("job", notice.id.clone())
    };
    let end = if notice.state == State::Done.word() { "completed" } else { "failed" };
    let body = json!({
        "id": id,
        "object": "event",
        "type": format!("{kind}.{end}"),
        "created_at": notice.ended_ms / 1000,
        "data": { "id": name },
    })
    .to_string();
    let signature = sign(&webhook.secret, &id, now, &body)?;
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = webhook.url.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("tollgate"));
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", now.to_string()), ("webhook-signature", signature)]
    {
        let value = HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(request)
}

fn sign(secret: &[u8], id: &str, timestamp: u64, body: &str) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/python/tests/test_webhooks.py>
    #[test]
    fn a_signature_is_that_of_the_published_example() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}

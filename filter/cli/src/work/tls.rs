//! How is HTTP spoken to others?

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

/// Whoever does not take a connection in this time is not there.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(20);

/// It follows no redirect, so that no credential goes elsewhere.
pub(super) type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(super) fn client() -> Result<Client, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECTS_WITHIN));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let connector = match HttpsConnectorBuilder::new().with_native_roots() {
        Ok(builder) => builder,
        // A machine without any: nothing that speaks TLS is trusted then.
        Err(_) => HttpsConnectorBuilder::new().with_tls_config(
            rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        ),
    }
    .https_or_http()
    .enable_http1()
    .wrap_connector(connector);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .build(connector))
}

//! What does the proxy know of who asks?

use super::claims::Json;
use std::fmt;

/// What the proxy knows of a stream.
pub trait ProxyFacts: fmt::Debug {
    /// The first name of this kind in the certificate that the client's end of the connection has proved to have.
    fn certified(&self, kind: SanKind) -> Option<String>;

    /// The claims of a token that Envoy's `jwt_authn` has verified, which it left under this name.
    fn jwt_payload(&self, name: &str) -> Option<Json>;

    /// The address that the client asks from, as the proxy takes it to be.
    fn address(&self) -> Option<String>;
}

/// A kind of name in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SanKind {
    /// A URI, such as a SPIFFE ID.
    Uri,
    /// A DNS name.
    Dns,
}

/// There is no proxy.
#[derive(Debug)]
pub(super) struct NoProxy;

impl ProxyFacts for NoProxy {
    fn certified(&self, _: SanKind) -> Option<String> {
        None
    }

    fn jwt_payload(&self, _: &str) -> Option<Json> {
        None
    }

    fn address(&self) -> Option<String> {
        None
    }
}

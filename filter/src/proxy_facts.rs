//! What Envoy knows of a stream, and can do better than a VM.

use crate::{configuration, host};
use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use prost::Message;
use prost_types::Struct;
use proxy_wasm::hostcalls;
use std::collections::HashMap;
use tollgate::identity::claims::Json;
use tollgate::identity::{ProxyFacts, SanKind, public_key, signature};

/// The filter whose metadata has the claims of tokens that it has verified.
const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";

/// The Envoy around us.
#[derive(Debug)]
pub(crate) struct Envoy;

/// What Envoy's foreign function `verify_signature` takes.
/// <https://github.com/envoyproxy/envoy/blob/v1.40.0/source/extensions/common/wasm/ext/verify_signature.proto>
#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    hash_function: String,
    /// A DER `SubjectPublicKeyInfo`.
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
}

/// What it answers.
#[derive(Clone, PartialEq, Message)]
struct Verdict {
    #[prost(bool, tag = "1")]
    is_good: bool,
}

/// `envoy.config.core.v3.Metadata`, as far as it matters.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(map = "string, message", tag = "1")]
    filter_metadata: HashMap<String, Struct>,
}

/// Envoy's cryptography, and what it has not in the VM.
pub(crate) static CRYPTO: CryptoProvider = signature::provider(|algorithm, key| {
    signature::verifier(algorithm, key, |algorithm, key, message, signature| {
        signature::here(algorithm, key, message, signature)
            .unwrap_or_else(|| by_envoy(algorithm, key, message, signature).unwrap_or(false))
    })
});

fn by_envoy(algorithm: Algorithm, key: &DecodingKey, message: &[u8], signature: &[u8]) -> Option<bool> {
    let hash_function = match algorithm {
        Algorithm::RS256 | Algorithm::ES256 => "sha256",
        Algorithm::RS384 | Algorithm::ES384 => "sha384",
        Algorithm::RS512 => "sha512",
        _ => return None,
    };
    let public_key = public_key::der(key)?;
    let signature = match algorithm.family() {
        AlgorithmFamily::Ec => public_key::ecdsa_der(algorithm, signature)?,
        _ => signature.to_vec(),
    };
    let question =
        Question { hash_function: hash_function.to_owned(), public_key, signature, text: message.to_vec() };
    match hostcalls::call_foreign_function("verify_signature", Some(&question.encode_to_vec())) {
        // An answer without a byte is the message of which everything is as it is by default: not good.
        Ok(answer) => {
            Verdict::decode(answer.unwrap_or_default().as_slice()).ok().map(|verdict| verdict.is_good)
        }
        Err(status) => {
            log::error!("Envoy cannot check a signature with this key: {status:?}");
            None
        }
    }
}

impl ProxyFacts for Envoy {
    fn certified(&self, kind: SanKind) -> Option<String> {
        let property = match kind {
            SanKind::Uri => "uri_san_peer_certificate",
            SanKind::Dns => "dns_san_peer_certificate",
        };
        host::property(&["connection", property])
            .and_then(|name| String::from_utf8(name).ok())
            .filter(|name| !name.is_empty())
    }

    fn jwt_payload(&self, name: &str) -> Option<Json> {
        let metadata = Metadata::decode(host::property(&["metadata"])?.as_slice()).ok()?;
        let payload = metadata.filter_metadata.get(JWT_AUTHN)?.fields.get(name)?;
        Some(configuration::json(payload.clone()))
    }

    fn address(&self) -> Option<String> {
        let address = String::from_utf8(host::property(&["source", "address"])?).ok()?;
        // A socket's path has no port.
        let (host, _) = address.rsplit_once(':').unwrap_or((&address, ""));
        Some(host.trim_matches(['[', ']']).to_owned())
    }
}

//! What does a server that speaks TLS see of those who connect to it?
//!
//! It stands before a mock, with a certificate of the test's choice, and knows nothing of HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::Acceptor;

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // Another name than its certificates have, or those would look signed by themselves.
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `host`.
    pub fn certificate(&self, host: &str) -> Certificate {
        self.signed(CertificateParams::new([host.to_owned()]).unwrap())
    }

    /// The same, but its time is over.
    pub fn expired(&self, host: &str) -> Certificate {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.signed(params)
    }

    /// A certificate of this name and its key, as one text for a file.
    pub fn pem_for(&self, name: SanType) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.signed_by(&key, &self.0).unwrap().pem() + &key.serialize_pem()
    }

    fn signed(&self, params: CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Certificate(Arc::new(config.with_single_cert(chain, key).unwrap()))
    }
}

/// What a server proves with who it is.
#[derive(Clone)]
pub struct Certificate(Arc<ServerConfig>);

/// One connection to a terminator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The host that was asked for.
    pub sni: Option<String>,
    /// Whether the other side finished the handshake. Before that it can send nothing.
    pub trusted: bool,
}

/// Speaks TLS on a free port and passes on to `mock` what it reads. It ends with this value.
pub struct Terminator {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    mock: SocketAddr,
    certificate: Mutex<Certificate>,
    hellos: Mutex<Vec<Hello>>,
}

impl Terminator {
    pub async fn start(mock: SocketAddr, certificate: Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { mock, certificate: Mutex::new(certificate), hellos: Mutex::default() });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { addr, shared, server }
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// From now on it shows this certificate.
    pub fn show(&self, certificate: Certificate) {
        *self.shared.certificate.lock().unwrap() = certificate;
    }

    /// Who has connected since this was asked last.
    pub fn hellos(&self) -> Vec<Hello> {
        std::mem::take(&mut *self.shared.hellos.lock().unwrap())
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(terminate(stream, Arc::clone(&shared)));
    }
}

async fn terminate(stream: TcpStream, shared: Arc<Shared>) {
    let started = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
    let sni = started.as_ref().ok().and_then(|start| start.client_hello().server_name().map(str::to_owned));
    let at = {
        let mut hellos = shared.hellos.lock().unwrap();
        hellos.push(Hello { sni, trusted: false });
        hellos.len() - 1
    };
    let Ok(start) = started else { return };
    let certificate = shared.certificate.lock().unwrap().clone();
    let Ok(mut stream) = start.into_stream(certificate.0).await else { return };
    shared.hellos.lock().unwrap()[at].trusted = true;
    let mut mock = TcpStream::connect(shared.mock).await.unwrap();
    // Either side may go whenever it likes.
    let _ = copy_bidirectional(&mut stream, &mut mock).await;
}

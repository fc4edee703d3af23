//! TLS on a gateway's sockets: the certificates in force, picked by the name that the client asks for.
//!
//! A push replaces the certificates as a whole; the next handshake sees the new ones, connections that stand are not
//! touched. So it is with whom clients must be known to. Keys go from the configuration into rustls and nowhere else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use quinn::crypto::rustls::QuicServerConfig;
use rustc_hash::FxHashMap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_policy::matching::HostMap;
use tidegate_policy::model::{Accepts, Certificate, ClientValidation, Listener, ResourceType, Resources};
use tidegate_policy::snapshot::{BindAddress, Rejected};
use tokio::io::{self, AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clients;

/// From the accept to the end of the handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
pub(crate) const HTTP_2: &[u8] = b"h2";
const HTTP_3: &[u8] = b"h3";
const HTTP_1_1: &[u8] = b"http/1.1";

/// The certificates in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates(Arc<ArcSwap<BySocket>>);

/// By socket, then by the hostname of the listener.
pub(crate) type BySocket = FxHashMap<BindAddress, Socket>;

pub(crate) struct Socket {
    hosts: HostMap<Arc<[Arc<CertifiedKey>]>>,
    /// Kept from push to push, so that clients can resume their sessions.
    configs: Configs,
}

/// How TLS is spoken on a socket.
#[derive(Clone)]
struct Configs {
    requests: Arc<ServerConfig>,
    /// The same for HTTP/3, with a memory of sessions of its own.
    quic: Arc<QuicServerConfig>,
    /// How both of them judge clients' certificates.
    clients: Option<ClientValidation>,
    /// Without a word about protocols (ALPN): what is inside is not ours to say.
    streams: Arc<ServerConfig>,
}

/// Picks a certificate for one socket, among those in force at the moment of the handshake.
struct Picker {
    bind: BindAddress,
    certificates: Certificates,
}

impl Certificates {
    /// Loads the certificates of every listener; those that cannot be used are named.
    pub(crate) fn compile(&self, resources: &Resources) -> (BySocket, Vec<Rejected>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let before = self.0.load();
        let (mut sockets, mut rejected, mut judges) = (BySocket::default(), Vec::new(), Judges::default());
        for listener in resources.listeners.values() {
            let Some(written) = listener.certificates() else { continue };
            let loaded = load(written, &provider).and_then(|keys| {
                agrees(&judges, listener)?;
                Ok((keys.into(), clients::verifier(clients_of(listener), &provider)?))
            });
            let (keys, judge): (Arc<[_]>, _) = match loaded {
                Ok(loaded) => loaded,
                Err(reason) => {
                    rejected.push(refused(listener, reason));
                    continue;
                }
            };
            for bind in BindAddress::of(listener) {
                let before = before.get(&bind).map(|socket| &socket.configs);
                let socket = sockets.entry(bind).or_insert_with(|| Socket {
                    hosts: HostMap::default(),
                    configs: before.cloned().unwrap_or_else(|| self.configs(bind, &provider)),
                });
                socket.hosts.get_or_insert_with(listener.hostname(), || keys.clone());
                if is_of_requests(listener) {
                    judges.insert(bind, listener);
                    self.judge(bind, &mut socket.configs, (clients_of(listener), &judge), &provider);
                }
            }
        }
        (sockets, rejected)
    }

    /// Without a word about clients.
    fn configs(&self, bind: BindAddress, provider: &Arc<CryptoProvider>) -> Configs {
        let nobody = WebPkiClientVerifier::no_client_auth;
        Configs {
            requests: self.config(bind, provider, (&[HTTP_2, HTTP_1_1], nobody())),
            quic: self.quic(bind, provider, nobody()),
            clients: None,
            streams: self.config(bind, provider, (&[], nobody())),
        }
    }

    /// Puts a judge of clients in place, with no memory of the sessions of the one before: whom that had let in must be
    /// judged anew.
    fn judge(
        &self,
        bind: BindAddress,
        configs: &mut Configs,
        (clients, judge): (Option<&ClientValidation>, &Arc<dyn ClientCertVerifier>),
        provider: &Arc<CryptoProvider>,
    ) {
        if configs.clients.as_ref() != clients {
            configs.requests = self.config(bind, provider, (&[HTTP_2, HTTP_1_1], judge.clone()));
            configs.quic = self.quic(bind, provider, judge.clone());
            configs.clients = clients.cloned();
        }
    }

    pub(crate) fn swap(&self, compiled: BySocket) {
        self.0.store(Arc::new(compiled));
    }

    /// How TLS is spoken on a socket where requests are inside; `None` where it is not.
    pub(crate) fn for_requests(&self, bind: BindAddress) -> Option<TlsAcceptor> {
        self.0.load().get(&bind).map(|socket| TlsAcceptor::from(socket.configs.requests.clone()))
    }

    /// The same where anything may be inside.
    pub(crate) fn for_streams(&self, bind: BindAddress) -> Option<TlsAcceptor> {
        self.0.load().get(&bind).map(|socket| TlsAcceptor::from(socket.configs.streams.clone()))
    }

    /// The same as `for_requests` for HTTP/3.
    pub(crate) fn for_quic(&self, bind: BindAddress) -> Option<Arc<QuicServerConfig>> {
        self.0.load().get(&bind).map(|socket| socket.configs.quic.clone())
    }

    fn quic(
        &self,
        bind: BindAddress,
        provider: &Arc<CryptoProvider>,
        judge: Arc<dyn ClientCertVerifier>,
    ) -> Arc<QuicServerConfig> {
        let config = self.config(bind, provider, (&[HTTP_3], judge));
        Arc::new(
            QuicServerConfig::try_from(config).expect("the provider has the suite that QUIC begins with"),
        )
    }

    fn config(
        &self,
        bind: BindAddress,
        provider: &Arc<CryptoProvider>,
        (protocols, judge): (&[&[u8]], Arc<dyn ClientCertVerifier>),
    ) -> Arc<ServerConfig> {
        let picker = Picker { bind, certificates: self.clone() };
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .with_client_cert_verifier(judge)
            .with_cert_resolver(Arc::new(picker));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

/// Takes a connection through its handshake.
///
/// # Errors
/// The client left, took too long, or asked for what no listener has.
pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    acceptor: &TlsAcceptor,
    stream: S,
) -> io::Result<TlsStream<S>> {
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The listener that says how the clients of a socket are judged: a client is judged before it has sent a request, so
/// all listeners there must be of one mind.
type Judges<'a> = FxHashMap<BindAddress, &'a Listener>;

fn agrees(judges: &Judges<'_>, listener: &Listener) -> Result<(), String> {
    let others = BindAddress::of(listener).into_iter().filter_map(|bind| judges.get(&bind));
    let mut others =
        others.filter(|other| is_of_requests(listener) && clients_of(other) != clients_of(listener));
    let conflict =
        |other: &&Listener| format!("listener {} judges the clients of its port otherwise", other.name);
    others.next().map_or(Ok(()), |other| Err(conflict(other)))
}

fn is_of_requests(listener: &Listener) -> bool {
    matches!(listener.accepts, Accepts::Http { .. })
}

fn clients_of(listener: &Listener) -> Option<&ClientValidation> {
    listener.clients.as_ref().filter(|_| is_of_requests(listener))
}

fn load(written: &[Certificate], provider: &CryptoProvider) -> Result<Vec<Arc<CertifiedKey>>, String> {
    let one = |certificate: &Certificate| {
        certified(certificate, provider).map_err(|why| format!("Secret {}: {why}", certificate.secret))
    };
    written.iter().map(one).collect()
}

/// Errors say nothing of what a key contains.
fn certified(certificate: &Certificate, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate.chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("no PEM certificate in `tls.crt`")?;
    let key =
        PrivateKeyDer::from_pem_slice(certificate.key.expose()).map_err(|_| "no PEM key in `tls.key`")?;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(key) => Ok(Arc::new(key)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(String::from("the key in `tls.key` does not belong to the certificate in `tls.crt`"))
        }
        Err(rustls::Error::InvalidCertificate(_)) => {
            Err(String::from("`tls.crt` holds no certificate that can be read"))
        }
        Err(_) => Err(String::from("`tls.key` holds no key of a supported kind")),
    }
}

fn refused(listener: &Listener, reason: String) -> Rejected {
    Rejected { resource_type: ResourceType::Listener, name: listener.name.to_string(), reason }
}

impl ResolvesServerCert for Picker {
    /// Without a name, or with one that only the request's `Host` will tell apart, any certificate of the socket.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let sockets = self.certificates.0.load();
        let hosts = &sockets.get(&self.bind)?.hosts;
        let keys = match hello.server_name() {
            Some(name) => hosts.candidates(&name.to_ascii_lowercase()).next()?,
            None => hosts.candidates("").next().or_else(|| hosts.iter().next().map(|(_, keys)| keys))?,
        };
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        keys.iter().find(usable).cloned()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hosts.iter().map(|(host, _)| host.to_string())).finish()
    }
}

impl fmt::Debug for Picker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker").field("bind", &self.bind).finish_non_exhaustive()
    }
}

//! Routes of whole connections, and both ends of one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::generate_simple_self_signed;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tidegate_policy::model::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::mesh::{backend_name, listener};

pub(crate) fn stream_listener(section: &str, port: u16, accepts: Accepts) -> Resource {
    let mut listener = listener(port);
    listener.name.section = section.into();
    listener.accepts = accepts;
    Resource::Listener(listener)
}

pub(crate) fn passthrough(section: &str, port: u16, hostname: &str) -> Resource {
    let hostname = HostPattern::parse(hostname).unwrap();
    stream_listener(section, port, Accepts::Tls { hostname, mode: TlsMode::Passthrough })
}

pub(crate) fn terminating(section: &str, port: u16, hostname: &str, shown: &Signed) -> Resource {
    let hostname = HostPattern::parse(hostname).unwrap();
    let mode = TlsMode::Terminate(vec![shown.certificate.clone()]);
    stream_listener(section, port, Accepts::Tls { hostname, mode })
}

/// Of the test's Gateway; weights by Service, an invalid reference for `""`.
pub(crate) fn stream_route(
    kind: StreamKind,
    name: &str,
    section: &str,
    hostnames: &[&str],
    backends: &[(&str, u32)],
) -> StreamRoute {
    let source = || SourceRef::File { path: "test.yaml".into(), line: 1 };
    let name = ResourceName::new("shop", name);
    let to = |(service, weight): &(&str, u32)| StreamBackend {
        target: if service.is_empty() { Err(InvalidRef::BackendNotFound) } else { Ok(backend_name(service)) },
        weight: *weight,
    };
    let listener = ListenerName { section: section.into(), ..listener(1).name };
    let hostnames = hostnames.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    StreamRoute {
        kind,
        meta: Meta { name, source: source(), created: None },
        parents: vec![RouteParent::Listener { listener, hostnames }],
        rule: StreamRule { name: None, source: source(), backends: backends.iter().map(to).collect() },
    }
}

pub(crate) fn tls_route(name: &str, section: &str, hostname: &str, service: &str) -> Resource {
    Resource::StreamRoute(stream_route(StreamKind::Tls, name, section, &[hostname], &[(service, 1)]))
}

pub(crate) fn tcp_route(name: &str, section: &str, backends: &[(&str, u32)]) -> Resource {
    Resource::StreamRoute(stream_route(StreamKind::Tcp, name, section, &[""], backends))
}

/// A self-signed certificate and what a client needs to trust it.
pub(crate) struct Signed {
    pub(crate) certificate: Certificate,
    pub(crate) root: CertificateDer<'static>,
}

pub(crate) fn signed(name: &str) -> Signed {
    let made = generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let certificate = Certificate {
        secret: ResourceName::new("shop", "cert"),
        chain: made.cert.pem().into_bytes().into(),
        key: PrivateKey::new(made.signing_key.serialize_pem().into_bytes()),
    };
    Signed { certificate, root: made.cert.der().clone() }
}

/// A server that says its name first, then sends back what it is sent until the client's half has ended; then ` bye`.
pub(crate) async fn echo(name: &'static str) -> SocketAddr {
    serve(move |stream| async move { talk(stream, name).await }).await
}

/// The same behind TLS of its own.
pub(crate) async fn tls_echo(name: &'static str, shown: &Signed) -> SocketAddr {
    let key = PrivateKeyDer::from_pem_slice(shown.certificate.key.expose()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![shown.root.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move { talk(acceptor.accept(stream).await?, name).await }
    })
    .await
}

async fn serve<F>(talk: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> io::Result<()> {
    stream.write_all(format!("{name}\n").as_bytes()).await?;
    let mut chunk = [0; 1024];
    loop {
        match stream.read(&mut chunk).await? {
            0 => break,
            read => stream.write_all(&chunk[..read]).await?,
        }
    }
    stream.write_all(b" bye").await?;
    stream.shutdown().await
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub(crate) fn connector(roots: &[&Signed]) -> TlsConnector {
    let mut store = RootCertStore::empty();
    for signed in roots {
        store.add(signed.root.clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    // What browsers offer must not get in the way of what is inside.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn tls(
    address: SocketAddr,
    name: &str,
    roots: &[&Signed],
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector(roots).connect(name, TcpStream::connect(address).await?).await
}

/// The first line that the server says.
pub(crate) async fn greeting(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8(line).unwrap()),
            byte => line.push(byte),
        }
    }
}

/// Sends, ends its half, and hears the rest.
pub(crate) async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &str) -> String {
    stream.write_all(words.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    rest
}

/// A connection that is sent `bytes`. A reset may be there before the connect has returned, and among the bytes.
pub(crate) async fn sent(address: SocketAddr, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    Ok(stream)
}

/// Whether a connection that is sent `bytes` is closed or reset without a byte.
pub(crate) async fn is_refused(address: SocketAddr, bytes: &[u8]) -> bool {
    let heard = match sent(address, bytes).await {
        Ok(mut stream) => stream.read_u8().await,
        Err(error) => Err(error),
    };
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    heard.is_err_and(|error| matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe))
}

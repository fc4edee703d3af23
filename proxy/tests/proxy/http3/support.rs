//! Gateways with HTTPS listeners for the tests of HTTP/3, and clients that trust them.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::mesh::{BIND, Gateway, PORT, listener, route, service_at};
use http::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::ConnectionError;
use rustls_pki_types::ServerName;
use tidegate_policy::model::*;
use tidegate_proxy::ProxyConfig;
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::body::{TestBody, empty};
use tidegate_testkit::client::Answer;
use tidegate_testkit::http3::Http3Client;
use tidegate_testkit::pki::{Authority, Signed, client};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(super) const HOST: &str = "shop.example.com";
pub(super) const NAME: &str = "gateway *:8080 http3";

/// A gateway with HTTP/3, and whom its clients trust.
pub(super) struct Site {
    pub(super) gateway: Gateway,
    pub(super) address: SocketAddr,
    pub(super) servers: Authority,
}

impl Site {
    /// One HTTPS listener, which leads to `backend`.
    pub(super) async fn to(backend: &FaultBackend) -> Self {
        Self::with(backend, AppProtocol::Http1, |_| {}).await
    }

    pub(super) async fn with(
        backend: &FaultBackend,
        protocol: AppProtocol,
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Self {
        let servers = Authority::new("servers");
        let mut gateway = Gateway::with(|config| {
            config.http3 = true;
            change(config);
        });
        gateway.apply(service_at("v1", protocol, &[backend.address()]));
        gateway.apply(https(&servers, &[HOST], None));
        gateway.apply(vec![Resource::Route(route("v1"))]);
        let address = gateway.address().await;
        let site = Self { gateway, address, servers };
        site.bound().await;
        site
    }

    /// Waits for the UDP socket, which is where the other one is.
    pub(super) async fn bound(&self) {
        assert_eq!(self.gateway.running.state().listeners.wait_for(NAME).await, Some(self.address));
        assert_eq!(self.gateway.running.gateway_bound(BIND).await, Some(self.address));
    }

    pub(super) async fn connect(&self) -> Http3Client {
        self.try_connect(HOST, None).await.unwrap()
    }

    pub(super) async fn try_connect(
        &self,
        name: &str,
        shown: Option<&Signed>,
    ) -> Result<Http3Client, ConnectionError> {
        Http3Client::connect(self.address, name, client(&self.servers, shown, b"h3")).await
    }

    async fn tls(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        let connector = TlsConnector::from(client(&self.servers, None, alpn));
        let stream = TcpStream::connect(self.address).await.unwrap();
        connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap()
    }

    /// By HTTPS over TCP, in HTTP/1.1.
    pub(super) async fn get1(&self) -> Answer {
        let stream = self.tls(b"http/1.1").await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/").header("host", HOST).body(empty()).unwrap();
        Answer::read(sender.send_request(request).await.unwrap()).await.unwrap()
    }

    /// The same in HTTP/2.
    pub(super) async fn get2(&self) -> Answer {
        let stream = self.tls(b"h2").await;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Answer::read(sender.send_request(get("/")).await.unwrap()).await.unwrap()
    }
}

/// An HTTPS listener with a certificate for these names.
pub(super) fn https(
    servers: &Authority,
    names: &[&str],
    clients: Option<(&Authority, ClientMode)>,
) -> Vec<Resource> {
    let mut listener = listener(PORT);
    let tls = Some(vec![servers.sign(names).certificate("server")]);
    listener.accepts = Accepts::Http { hostname: HostPattern::Any, tls };
    let bundle = |ca: &Authority| Arc::from(ca.pem().into_bytes());
    listener.clients = clients.map(|(ca, mode)| ClientValidation { bundle: bundle(ca), mode });
    vec![Resource::Listener(listener)]
}

pub(super) fn get(path: &str) -> Request<TestBody> {
    Request::get(url(path)).body(empty()).unwrap()
}

pub(super) fn head(path: &str) -> Request<()> {
    Request::get(url(path)).body(()).unwrap()
}

pub(super) fn url(path: &str) -> String {
    format!("https://{HOST}{path}")
}

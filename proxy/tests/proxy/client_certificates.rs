//! Certificates of clients at HTTPS listeners: who must show one, whose counts, and that a push changes it for the next
//! connection.

use std::io;
use std::net::SocketAddr;

use crate::mesh::{Gateway, PORT, get, listener, rename_gateway, route, service_at};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tidegate_policy::model::*;
use tidegate_proxy::config::Change;
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::pki::{Authority, Signed, client};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const HOST: &str = "shop.example.com";

/// Whom clients trust, and who signs theirs.
struct Parties {
    servers: Authority,
    clients: Authority,
}

impl Parties {
    fn new() -> Self {
        Self { servers: Authority::new("servers"), clients: Authority::new("clients") }
    }

    /// An HTTPS listener that judges its clients, with a route to `v1`.
    fn https(&self, validation: Option<(&Authority, ClientMode)>) -> Vec<Resource> {
        let mut listener = listener(PORT);
        let tls = Some(vec![self.servers.sign(&[HOST]).certificate("server")]);
        listener.accepts = Accepts::Http { hostname: HostPattern::Any, tls };
        let bundle = |ca: &Authority| ca.pem().into_bytes().into();
        listener.clients = validation.map(|(ca, mode)| ClientValidation { bundle: bundle(ca), mode });
        vec![Resource::Listener(listener), Resource::Route(route("v1"))]
    }

    /// The status of a request from a client that shows a certificate, or does not.
    async fn ask(&self, address: SocketAddr, shown: Option<&Signed>) -> io::Result<u16> {
        let connector = TlsConnector::from(client(&self.servers, shown, b"http/1.1"));
        let name = ServerName::try_from(HOST).unwrap();
        let stream = connector.connect(name, TcpStream::connect(address).await?).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let mut request = get("/");
        request.headers_mut().insert("host", HOST.parse().unwrap());
        sender.send_request(request).await.map(|answer| answer.status().as_u16()).map_err(io::Error::other)
    }
}

async fn gateway(backend: &FaultBackend, all: Vec<Resource>) -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::start();
    gateway.apply(service_at("v1", AppProtocol::Http1, &[backend.address()]));
    gateway.apply(all);
    let address = gateway.address().await;
    (gateway, address)
}

#[tokio::test]
async fn without_a_valid_certificate_there_is_no_connection() {
    let (parties, backend) = (Parties::new(), FaultBackend::start().await);
    let all = parties.https(Some((&parties.clients, ClientMode::ValidOnly)));
    let (_gateway, address) = gateway(&backend, all).await;
    let valid = parties.clients.sign(&["client.example.com"]);
    assert_eq!(parties.ask(address, Some(&valid)).await.unwrap(), 200);
    for shown in [
        None,
        Some(Authority::new("stranger").sign(&["client.example.com"])),
        Some(parties.servers.sign(&["client.example.com"])),
        Some(parties.clients.sign_expired(&["client.example.com"])),
    ] {
        assert!(parties.ask(address, shown.as_ref()).await.is_err());
    }
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn with_the_insecure_fallback_any_certificate_will_do_and_none() {
    let (parties, backend) = (Parties::new(), FaultBackend::start().await);
    let all = parties.https(Some((&parties.clients, ClientMode::InsecureFallback)));
    let (_gateway, address) = gateway(&backend, all).await;
    for shown in [
        None,
        Some(parties.clients.sign(&["client.example.com"])),
        Some(Authority::new("stranger").sign(&["client.example.com"])),
        Some(parties.clients.sign_expired(&["client.example.com"])),
    ] {
        assert_eq!(parties.ask(address, shown.as_ref()).await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_push_changes_who_is_let_in_and_a_session_of_before_opens_no_door() {
    let (parties, other, backend) = (Parties::new(), Authority::new("other"), FaultBackend::start().await);
    let (mut gateway, address) = gateway(&backend, parties.https(None)).await;
    let (ours, theirs) = (parties.clients.sign(&["a"]), other.sign(&["a"]));
    assert_eq!(parties.ask(address, None).await.unwrap(), 200);
    gateway.apply(parties.https(Some((&parties.clients, ClientMode::ValidOnly))));
    assert!(parties.ask(address, None).await.is_err());
    // One client configuration, so that it resumes its session if it may.
    let connector = TlsConnector::from(client(&parties.servers, Some(&ours), b"http/1.1"));
    let connect = async || {
        let name = ServerName::try_from(HOST).unwrap();
        let stream = connector.connect(name, TcpStream::connect(address).await?).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        sender.send_request(get("/")).await.map(|answer| answer.status()).map_err(io::Error::other)
    };
    assert_eq!(connect().await.unwrap(), 400, "no host");
    assert_eq!(connect().await.unwrap(), 400);
    gateway.apply(parties.https(Some((&other, ClientMode::ValidOnly))));
    assert!(connect().await.is_err(), "not even with its session");
    assert_eq!(parties.ask(address, Some(&theirs)).await.unwrap(), 200);
    gateway.apply(parties.https(None));
    assert_eq!(parties.ask(address, None).await.unwrap(), 200);
}

#[tokio::test]
async fn a_bundle_that_cannot_be_used_is_refused_by_name_and_the_last_good_one_stays() {
    let (parties, backend) = (Parties::new(), FaultBackend::start().await);
    let good = parties.https(Some((&parties.clients, ClientMode::ValidOnly)));
    let (mut gateway, address) = gateway(&backend, good.clone()).await;
    for garbled in ["", "-----BEGIN CERTIFICATE-----\nMAIwAA==\n-----END CERTIFICATE-----\n"] {
        let mut bad = good.clone();
        if let Some(Resource::Listener(listener)) = bad.first_mut() {
            let (bundle, mode) = (garbled.as_bytes().into(), ClientMode::ValidOnly);
            listener.clients = Some(ClientValidation { bundle, mode });
        }
        let refused = gateway.applier.apply(Change { upserts: bad, removed: Vec::new() });
        assert_eq!((refused.len(), &*refused[0].name), (1, "shop/edge/http"));
        assert!(refused[0].reason.contains("CA bundle"), "{}", refused[0].reason);
        assert!(parties.ask(address, None).await.is_err());
        assert_eq!(parties.ask(address, Some(&parties.clients.sign(&["a"]))).await.unwrap(), 200);
    }
}

#[tokio::test]
async fn listeners_of_one_socket_do_not_judge_clients_in_two_ways() {
    let (parties, backend) = (Parties::new(), FaultBackend::start().await);
    let strict = parties.https(Some((&parties.clients, ClientMode::ValidOnly)));
    let (mut gateway, address) = gateway(&backend, strict).await;
    // Of another Gateway, for a name of its own: by its door nobody gets to the first one's.
    let mut open = parties.https(None);
    open.iter_mut().for_each(|resource| rename_gateway(resource, "other"));
    if let Some(Resource::Listener(listener)) = open.first_mut() {
        let tls = Some(vec![parties.servers.sign(&["open.example.com"]).certificate("server")]);
        let hostname = HostPattern::parse("open.example.com").unwrap();
        listener.accepts = Accepts::Http { hostname, tls };
    }
    open.truncate(1);
    let refused = gateway.applier.apply(Change { upserts: open, removed: Vec::new() });
    assert_eq!(refused[0].name, "shop/other/http");
    assert!(refused[0].reason.contains("shop/edge/http"), "{}", refused[0].reason);
    assert!(parties.ask(address, None).await.is_err());
}

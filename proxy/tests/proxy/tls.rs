//! HTTPS listeners: the right certificate for every name, exchanged without a connection noticing, and keys that
//! nobody gets to see.

use crate::mesh;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::mesh::{BIND, Gateway, PORT, everything_to, listener, service_at};
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::generate_simple_self_signed;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tidegate_policy::model::*;
use tidegate_proxy::config::Change;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::{TestBody, empty};
use tidegate_testkit::client::{Client, RawClient};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A self-signed certificate and what a client needs to trust it.
struct Signed {
    certificate: Certificate,
    root: rustls_pki_types::CertificateDer<'static>,
}

fn signed(secret: &str, names: &[&str]) -> Signed {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = generate_simple_self_signed(names).unwrap();
    let certificate = Certificate {
        secret: ResourceName::new("shop", secret),
        chain: made.cert.pem().into_bytes().into(),
        key: PrivateKey::new(made.signing_key.serialize_pem().into_bytes()),
    };
    Signed { certificate, root: made.cert.der().clone() }
}

/// A listener of the test's Gateway for one hostname, with a route to `v1` that is its own.
fn site(section: &str, hostname: &str, certificate: &Certificate) -> Vec<Resource> {
    let mut listener = listener(PORT);
    listener.name.section = section.into();
    let hostname = HostPattern::parse(hostname).unwrap();
    listener.accepts = Accepts::Http { hostname: hostname.clone(), tls: Some(vec![certificate.clone()]) };
    let mut route = mesh::route("v1");
    route.meta.name = ResourceName::new("shop", section);
    let parent = RouteParent::Listener { listener: listener.name.clone(), hostnames: vec![hostname] };
    route.parents = vec![parent];
    vec![Resource::Listener(listener), Resource::Route(route)]
}

async fn gateway(
    backend: &FaultBackend,
    sites: impl IntoIterator<Item = Vec<Resource>>,
) -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::start();
    let mut all = service_at("v1", AppProtocol::Http1, &[backend.address()]);
    all.extend(sites.into_iter().flatten());
    gateway.apply(all);
    let address = gateway.address().await;
    (gateway, address)
}

async fn connect(
    address: SocketAddr,
    name: &str,
    alpn: &[u8],
    roots: &[&Signed],
) -> io::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    for signed in roots {
        store.add(signed.root.clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

async fn https1(
    address: SocketAddr,
    name: &str,
    roots: &[&Signed],
) -> io::Result<http1::SendRequest<TestBody>> {
    let stream = connect(address, name, b"http/1.1", roots).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Ok(sender)
}

async fn https2(address: SocketAddr, name: &str, roots: &[&Signed]) -> http2::SendRequest<TestBody> {
    let stream = connect(address, name, b"h2", roots).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(host: &str) -> Request<TestBody> {
    Request::get("/").header("host", host).body(empty()).unwrap()
}

fn get2(host: &str) -> Request<TestBody> {
    Request::get(format!("https://{host}/")).body(empty()).unwrap()
}

#[tokio::test]
async fn each_name_gets_the_certificate_of_its_listener_and_its_requests_are_forwarded() {
    let backend = FaultBackend::start().await;
    let (a, wild) = (signed("a", &["a.example.com"]), signed("wild", &["x.example.com"]));
    let sites =
        [site("a", "a.example.com", &a.certificate), site("wild", "*.example.com", &wild.certificate)];
    let (_gateway, address) = gateway(&backend, sites).await;
    let mut client = https1(address, "A.example.com", &[&a]).await.unwrap();
    assert_eq!(client.send_request(get("a.example.com")).await.unwrap().status(), 200);
    let mut client = https2(address, "x.example.com", &[&wild]).await;
    assert_eq!(client.send_request(get2("x.example.com")).await.unwrap().status(), 200);
    for head in backend.seen() {
        assert_eq!(head.headers["x-forwarded-proto"], "https");
    }
    // The other listener's certificate would be another one.
    assert!(connect(address, "a.example.com", b"h2", &[&wild]).await.is_err());
    assert!(connect(address, "elsewhere.org", b"h2", &[&a, &wild]).await.is_err(), "no listener is for it");
}

#[tokio::test]
async fn a_request_for_another_listeners_host_is_421_and_for_no_listeners_host_404() {
    let backend = FaultBackend::start().await;
    let (one, two) =
        (signed("one", &["one.example.com", "one.other.com"]), signed("two", &["two.example.com"]));
    let sites =
        [site("one", "one.example.com", &one.certificate), site("two", "two.example.com", &two.certificate)];
    let (_gateway, address) = gateway(&backend, sites).await;
    let mut client = https2(address, "one.example.com", &[&one]).await;
    let mut status = async |host: &str| client.send_request(get2(host)).await.unwrap();
    assert_eq!(status("one.example.com").await.status(), 200);
    let misdirected = status("two.example.com").await;
    assert_eq!(
        (misdirected.status().as_u16(), &misdirected.headers()["x-tidegate-reason"]),
        (421, &"misdirected".parse().unwrap())
    );
    assert_eq!(status("elsewhere.org").await.status(), 404);
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on() {
    let backend = FaultBackend::start().await;
    let (old, new) = (signed("cert", &["a.example.com"]), signed("cert", &["a.example.com"]));
    let (mut gateway, address) = gateway(&backend, [site("a", "a.example.com", &old.certificate)]).await;
    let mut before = https1(address, "a.example.com", &[&old]).await.unwrap();
    assert_eq!(before.send_request(get("a.example.com")).await.unwrap().status(), 200);
    gateway.apply(site("a", "a.example.com", &new.certificate));
    assert!(https1(address, "a.example.com", &[&old]).await.is_err());
    let mut after = https1(address, "a.example.com", &[&new]).await.unwrap();
    assert_eq!(after.send_request(get("a.example.com")).await.unwrap().status(), 200);
    before.ready().await.unwrap();
    assert_eq!(before.send_request(get("a.example.com")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_refused_by_name_and_the_last_good_one_stays() {
    let backend = FaultBackend::start().await;
    let (good, other) = (signed("cert", &["a.example.com"]), signed("other", &["b.example.com"]));
    let (mut gateway, address) = gateway(&backend, [site("a", "a.example.com", &good.certificate)]).await;
    let mixed = Certificate { key: other.certificate.key.clone(), ..good.certificate.clone() };
    let garbled = Certificate {
        key: PrivateKey::new(&b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"[..]),
        ..good.certificate.clone()
    };
    let empty = Certificate { chain: Arc::from(&b""[..]), ..good.certificate.clone() };
    for (bad, told) in
        [(mixed, "does not belong"), (garbled, "no key of a supported kind"), (empty, "no PEM certificate")]
    {
        let refused =
            gateway.applier.apply(Change { upserts: site("a", "a.example.com", &bad), removed: Vec::new() });
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].name, "shop/edge/a");
        let reason = &refused[0].reason;
        assert!(reason.contains("Secret shop/cert") && reason.contains(told), "{reason}");
    }
    let mut client = https1(address, "a.example.com", &[&good]).await.unwrap();
    assert_eq!(client.send_request(get("a.example.com")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn keys_are_shown_nowhere() {
    let backend = FaultBackend::start().await;
    let signed = signed("cert", &["a.example.com"]);
    let (gateway, address) = gateway(&backend, [site("a", "a.example.com", &signed.certificate)]).await;
    let _client = https1(address, "a.example.com", &[&signed]).await.unwrap();
    let pem = String::from_utf8(signed.certificate.key.expose().to_vec()).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    let admin = gateway.running.admin();
    let page = async |path: &str| {
        String::from_utf8(Client::http1(admin).await.get(path).await.body.to_vec()).unwrap()
    };
    let config = page("/config").await;
    assert!(config.contains("shop/cert"), "{config}");
    for page in [config, page("/status").await] {
        assert!(!page.contains(secret) && !page.contains("PRIVATE"), "{page}");
    }
    let debug = format!("{:?} {:?}", signed.certificate, gateway.running.state().store.load());
    // The private number itself: what comes before it stands in every certificate too.
    let bytes = format!("{:?}", &signed.certificate.key.expose()[78..90]);
    assert!(!debug.contains(secret) && !debug.contains(bytes.trim_matches(['[', ']'])));
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_gets_nothing_and_harms_nobody() {
    let backend = FaultBackend::start().await;
    let signed = signed("cert", &["a.example.com"]);
    let (_gateway, address) = gateway(&backend, [site("a", "a.example.com", &signed.certificate)]).await;
    let mut plain = RawClient::connect(address).await;
    plain.write("GET / HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await;
    assert!(!plain.read_to_end().await.contains("HTTP/1.1"));
    let mut client = https1(address, "a.example.com", &[&signed]).await.unwrap();
    assert_eq!(client.send_request(get("a.example.com")).await.unwrap().status(), 200);
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn a_socket_turns_from_http_to_https_and_back_with_its_listener() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("hello").into());
    let signed = signed("cert", &["a.example.com"]);
    let mut gateway = Gateway::start();
    gateway.apply(everything_to("v1", &[backend.address()]));
    let address = gateway.address().await;
    assert_eq!(Client::http1(address).await.get("/").await.status, 200);
    let mut tls = listener(PORT);
    let certificates = Some(vec![signed.certificate.clone()]);
    tls.accepts = Accepts::Http { hostname: HostPattern::Any, tls: certificates };
    gateway.apply(vec![Resource::Listener(tls)]);
    let mut client = https1(address, "a.example.com", &[&signed]).await.unwrap();
    let answer = client.send_request(get("a.example.com")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    gateway.apply(vec![Resource::Listener(listener(PORT))]);
    assert_eq!(Client::http1(address).await.get("/").await.status, 200);
    assert_eq!(gateway.running.gateway_bound(BIND).await, Some(address), "it was never closed");
}

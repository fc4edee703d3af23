//! Backends that want to know whom a connection is for: it begins with a PROXY protocol header, and carries nobody else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tidegate_policy::model::*;
use tidegate_proxy::config::HeaderSite;
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Answer, Client};
use tidegate_testkit::proxy_header::{v1, v2, v2_raw};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, watch};

use crate::mesh::{self, Gateway, PORT, backend_name, listener, post, route, service_at};
use crate::outbound::{CART, CLIENT, Sidecar, service, to};
use crate::streams::{is_refused, signed, stream_listener, tcp_route, terminating, tls, tls_route};

/// The same resources, with connections that begin so.
fn told(version: ProxyProtocol, mut all: Vec<Resource>) -> Vec<Resource> {
    for resource in &mut all {
        if let Resource::Backend(backend) = resource {
            backend.proxy_protocol = Some(version);
        }
    }
    all
}

/// The header that a connection begins with, whole, and no byte more.
async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    stream.read_exact(&mut bytes).await.unwrap();
    let is_text = bytes.starts_with(b"PROXY ");
    while is_text && !bytes.ends_with(b"\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    if !is_text {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await.unwrap();
        let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[2], fixed[3]]))];
        stream.read_exact(&mut rest).await.unwrap();
        bytes.extend(fixed.into_iter().chain(rest));
    }
    bytes
}

/// A TCP route to a server that the test plays itself.
async fn carried(version: ProxyProtocol) -> (Gateway, SocketAddr, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut gateway = Gateway::start();
    let cart = service_at("cart", AppProtocol::Http1, &[server.local_addr().unwrap()]);
    let mut all = told(version, cart);
    all.push(stream_listener("tcp", PORT, Accepts::Tcp));
    all.push(tcp_route("r", "tcp", &[("cart", 1)]));
    gateway.apply(all);
    let address = gateway.address().await;
    (gateway, address, server)
}

#[tokio::test]
async fn a_carried_connection_begins_with_the_addresses_of_its_client() {
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let (_gateway, address, server) = carried(version).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut stream, _) = server.accept().await.unwrap();
        let source = client.local_addr().unwrap();
        let want = match version {
            ProxyProtocol::V1 => v1(source, address),
            ProxyProtocol::V2 => v2(source, address, b""),
        };
        assert_eq!(header(&mut stream).await, want, "sent before the client has said a word");
        client.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
}

#[tokio::test]
async fn a_connection_of_our_own_application_tells_where_it_wanted_to_go() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sidecar = Sidecar::start();
    let mut cart = told(ProxyProtocol::V2, service("cart", CART, &[server.local_addr().unwrap()]));
    for resource in &mut cart {
        if let Resource::Backend(backend) = resource {
            backend.declared = Declared::Other;
        }
    }
    sidecar.apply(cart);
    let _client = sidecar.raw(CART).await;
    let (mut stream, _) = server.accept().await.unwrap();
    assert_eq!(header(&mut stream).await, to(CART));
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let (shown, inside) = (signed("ends.example.com"), signed("inside.example.com"));
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut all =
        told(ProxyProtocol::V1, service_at("inside", AppProtocol::Http1, &[server.local_addr().unwrap()]));
    if let Some(Resource::Backend(backend)) = all.first_mut() {
        let source = SourceRef::File { path: "test.yaml".into(), line: 9 };
        let policy = ResourceName::new("shop", "to-backend");
        backend.tls = Some(BackendTls {
            policy: PolicyRef { kind: BACKEND_TLS_POLICY.into(), name: policy, source },
            verification: Verification {
                trust: Some(Trust::Bundle(inside.certificate.chain.clone())),
                hostname: "inside.example.com".into(),
                alt_names: Vec::new(),
            },
        });
    }
    all.push(terminating("ends", PORT, "ends.example.com", &shown));
    all.push(tls_route("ends", "ends", "ends.example.com", "inside"));
    let mut gateway = Gateway::start();
    gateway.apply(all);
    let address = gateway.address().await;
    let serving = async {
        let (mut stream, _) = server.accept().await.unwrap();
        let header = header(&mut stream).await;
        let mut first = [0; 1];
        stream.peek(&mut first).await.unwrap();
        (header, first)
    };
    let trusted = [&shown];
    let (_client, (header, first)) = tokio::join!(tls(address, "ends.example.com", &trusted), serving);
    let header = String::from_utf8(header).unwrap();
    assert!(header.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{header}");
    assert_eq!(first, [0x16], "a handshake");
}

/// Requests to `/together` that are answered at one time.
const TOGETHER: usize = 5;

/// An HTTP server that answers with the header of the connection, and counts those that are open.
struct Told {
    address: SocketAddr,
    open: watch::Receiver<usize>,
    all: watch::Receiver<usize>,
}

impl Told {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, all) = (Arc::new(watch::Sender::new(0)), watch::Sender::new(0));
        let (seen, together) = ((open.subscribe(), all.subscribe()), Arc::new(Barrier::new(TOGETHER)));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                open.send_modify(|open| *open += 1);
                all.send_modify(|all| *all += 1);
                let (open, together) = (open.clone(), together.clone());
                tokio::spawn(async move {
                    let header = Bytes::from(header(&mut stream).await);
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (header, together) = (header.clone(), together.clone());
                        async move {
                            if request.uri().path() == "/together" {
                                together.wait().await;
                            }
                            Ok::<_, Infallible>(Response::new(Full::new(header)))
                        }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                    open.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, open: seen.0, all: seen.1 }
    }

    fn all(&self) -> usize {
        *self.all.borrow()
    }

    async fn open(&mut self, want: usize) {
        let waiting = self.open.wait_for(|open| *open == want);
        let reached = tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await;
        assert!(reached.is_ok(), "never were {want} open");
    }
}

/// A gateway that believes headers, so that clients may be anybody.
async fn in_front(protocol: AppProtocol, version: ProxyProtocol, server: &Told) -> Gateway {
    let mut gateway = Gateway::with(|config| config.accept_proxy_protocol.sites = vec![HeaderSite::Gateway]);
    let mut all = told(version, service_at("v1", protocol, &[server.address]));
    all.push(Resource::Listener(listener(PORT)));
    all.push(Resource::Route(route("v1")));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

fn client_header(client: &str) -> Vec<u8> {
    v2(client.parse().unwrap(), "198.51.100.7:443".parse().unwrap(), b"")
}

#[tokio::test]
async fn requests_of_one_client_share_connections_that_no_other_client_gets() {
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let mut server = Told::start().await;
        let gateway = in_front(protocol, ProxyProtocol::V2, &server).await;
        let at = gateway.address().await;
        let (one, two) = (client_header("192.0.2.1:1"), client_header("192.0.2.2:2"));
        let mut first = Client::http1_after(&one, at).await;
        let mut second = Client::http2_after(&two, at).await;
        for _ in 0..5 {
            assert_eq!(first.get("/").await.body, one, "{protocol:?}");
            assert_eq!(second.get("/").await.body, two, "{protocol:?}");
        }
        assert_eq!(server.all(), 2, "{protocol:?}");
        server.open(2).await;
        drop(first);
        server.open(1).await;
        assert_eq!(second.get("/").await.body, two);
        drop(second);
        server.open(0).await;
        assert_eq!(server.all(), 2);
    }
}

#[tokio::test]
async fn one_client_keeps_few_idle_connections_however_many_it_had() {
    let mut server = Told::start().await;
    let gateway = in_front(AppProtocol::Http1, ProxyProtocol::V1, &server).await;
    let mut stream = TcpStream::connect(gateway.address().await).await.unwrap();
    stream.write_all(&client_header("192.0.2.1:1")).await.unwrap();
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = || Request::get("http://a/together").body(empty()).unwrap();
    let asked: Vec<_> = (0..TOGETHER).map(|_| client.send_request(ask())).collect();
    for asked in asked {
        let answer = Answer::read(asked.await.unwrap()).await.unwrap();
        assert_eq!(answer.body, "PROXY TCP4 192.0.2.1 198.51.100.7 1 443\r\n");
    }
    assert_eq!(server.all(), TOGETHER, "all were asked at one time");
    server.open(2).await;
    drop(client);
    connection.await.unwrap().unwrap();
    server.open(0).await;
}

#[tokio::test]
async fn a_copy_for_a_mirror_speaks_for_nobody() {
    let (server, mirror) = (Told::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut gateway = in_front(AppProtocol::Http1, ProxyProtocol::V2, &server).await;
    let mut route = route("v1");
    route.rules[0].filters =
        vec![RouteFilter::Mirror(Mirror { backend: backend_name("m1"), share: Share::ALL })];
    let mut all =
        told(ProxyProtocol::V2, service_at("m1", AppProtocol::Http1, &[mirror.local_addr().unwrap()]));
    all.push(Resource::Route(route));
    gateway.apply(all);
    let header = client_header("192.0.2.1:1");
    let mut client = Client::http1_after(&header, gateway.address().await).await;
    assert_eq!(client.call(post("/", "body")).await.body, header);
    let (mut stream, _) = mirror.accept().await.unwrap();
    assert_eq!(self::header(&mut stream).await, v2_raw(0x20, 0, b""));
}

#[tokio::test]
async fn connections_without_a_header_are_not_used_once_one_is_wanted() {
    let (server, plain) = (Told::start().await, tidegate_testkit::backend::FaultBackend::start().await);
    let mut gateway = Gateway::start().to(&[plain.address()]).await;
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.get("/").await.status, 200);
    gateway.apply(told(ProxyProtocol::V1, service_at("v1", AppProtocol::Http1, &[plain.address()])));
    assert_ne!(client.get("/").await.status, 200, "it takes the header for a request");
    assert_eq!(plain.counts().connections, 2);
    gateway.apply(told(ProxyProtocol::V1, service_at("v1", AppProtocol::Http1, &[server.address])));
    let answer = client.get("/").await;
    assert!(answer.body.starts_with(b"PROXY TCP4 127.0.0.1 127.0.0.1 "), "{answer:?}");
    gateway.apply(told(ProxyProtocol::V2, service_at("v1", AppProtocol::Http1, &[server.address])));
    assert!(client.get("/").await.body.starts_with(b"\r\n\r\n"), "nor those with another one");
}

#[tokio::test]
async fn clients_with_connections_of_their_own_still_share_the_cap_of_the_backend() {
    let mut server = Told::start().await;
    let mut gateway = in_front(AppProtocol::Http1, ProxyProtocol::V2, &server).await;
    let caps = serde_json::json!({"caps": [{"scope": "Backend", "connections": 1, "pending": 8}]});
    gateway.apply(vec![mesh::policy("CircuitBreakerPolicy", (TargetKind::Service, "v1"), caps)]);
    let at = gateway.address().await;
    let (one, two) = (client_header("192.0.2.1:1"), client_header("192.0.2.2:2"));
    let mut first = Client::http1_after(&one, at).await;
    let mut second = Client::http1_after(&two, at).await;
    assert_eq!(first.get("/").await.body, one);
    assert_eq!(second.get("/").await.body, two, "the idle one of the other client makes room");
    assert_eq!(first.get("/").await.body, one);
    server.open(1).await;
}

#[tokio::test]
async fn what_our_sender_writes_our_receiver_reads() {
    let app = tidegate_testkit::backend::FaultBackend::start().await;
    let mut config = mesh::sidecar_config(app.address(), AppProtocol::Http1);
    config.accept_proxy_protocol.sites = vec![HeaderSite::Inbound];
    let receiver = tidegate_proxy::Proxy::start(config).unwrap();
    let inbound = receiver.inbound().unwrap();
    assert!(is_refused(inbound, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await);
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let mut gateway =
            Gateway::with(|config| config.accept_proxy_protocol.sites = vec![HeaderSite::Gateway]);
        gateway.apply(mesh::everything_to("v1", &[inbound]));
        gateway.apply(told(version, service_at("v1", AppProtocol::Http1, &[inbound])));
        let header = client_header(CLIENT);
        let mut client = Client::http1_after(&header, gateway.address().await).await;
        assert_eq!(client.get("/").await.status, 200);
    }
    for head in app.seen() {
        assert_eq!(head.headers["x-forwarded-for"], "192.0.2.9, 192.0.2.9");
    }
    assert_eq!(app.counts().requests, 2);
}

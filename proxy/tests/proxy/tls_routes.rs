//! TLSRoutes at a gateway's listeners: whose a connection is, told by the server name; and what is no TLS at all.

use crate::mesh;
use crate::streams;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::mesh::{Gateway, PORT, service_at};
use crate::streams::{
    Signed, connector, echo, greeting, is_refused, passthrough, say, sent, signed, stream_listener,
    terminating, tls, tls_echo, tls_route,
};
use rustls::ClientConnection;
use rustls_pki_types::ServerName;
use tidegate_policy::model::*;
use tidegate_proxy::telemetry::Scrape;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn gateway(all: Vec<Vec<Resource>>) -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::start();
    gateway.apply(all.into_iter().flatten().collect());
    let address = gateway.address().await;
    (gateway, address)
}

fn at(service: &str, address: SocketAddr) -> Vec<Resource> {
    service_at(service, AppProtocol::Http1, &[address])
}

async fn counted(gateway: &Gateway, label: &str) {
    let told = || gateway.running.state().telemetry.render_metrics(&Scrape::default());
    let wait = async {
        while !told().lines().any(|line| line.starts_with("tidegate_streams_total") && line.contains(label)) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let told_in_time = tokio::time::timeout(std::time::Duration::from_secs(30), wait).await;
    assert!(told_in_time.is_ok(), "{label}: {}", told());
}

#[tokio::test]
async fn each_server_name_passes_through_to_its_own_backend_which_ends_tls_itself() {
    let (a, b) = (signed("a.example.com"), signed("b.example.com"));
    let (to_a, to_b) = (tls_echo("a", &a).await, tls_echo("b", &b).await);
    let all = vec![
        vec![passthrough("tls", PORT, "*.example.com")],
        vec![tls_route("a", "tls", "a.example.com", "a"), tls_route("rest", "tls", "*.example.com", "b")],
        at("a", to_a),
        at("b", to_b),
    ];
    let (gateway, address) = gateway(all).await;
    for (name, signed, served) in
        [("a.example.com", &a, "a"), ("A.Example.com", &a, "a"), ("b.example.com", &b, "b")]
    {
        let mut client = tls(address, name, &[signed]).await.unwrap();
        assert_eq!(greeting(&mut client).await.unwrap(), served);
        assert_eq!(say(&mut client, "hello").await, "hello bye", "{name}");
    }
    counted(&gateway, r#"route="shop/rest",backend="shop/b:80",reason="""#).await;
}

#[tokio::test]
async fn where_tls_ends_at_the_listener_the_backend_gets_what_was_inside() {
    let shown = signed("ends.example.com");
    let all = vec![
        vec![terminating("ends", PORT, "ends.example.com", &shown)],
        vec![tls_route("ends", "ends", "ends.example.com", "plain")],
        at("plain", echo("plain").await),
    ];
    let (_gateway, address) = gateway(all).await;
    let mut client = tls(address, "ends.example.com", &[&shown]).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), None, "what is inside is not ours to say");
    assert_eq!(greeting(&mut client).await.unwrap(), "plain");
    assert_eq!(say(&mut client, "hello").await, "hello bye");
}

/// The same Service, to be called by TLS as `name`, with `trusted` as the only authority.
fn by_tls(service: &str, address: SocketAddr, name: &str, trusted: &Signed) -> Vec<Resource> {
    let mut all = at(service, address);
    for resource in &mut all {
        if let Resource::Backend(backend) = resource {
            let source = SourceRef::File { path: "test.yaml".into(), line: 9 };
            let policy = ResourceName::new("shop", "to-backend");
            backend.tls = Some(BackendTls {
                policy: PolicyRef { kind: BACKEND_TLS_POLICY.into(), name: policy, source },
                verification: Verification {
                    trust: Some(Trust::Bundle(trusted.certificate.chain.clone())),
                    hostname: name.into(),
                    alt_names: Vec::new(),
                },
            });
        }
    }
    all
}

#[tokio::test]
async fn what_was_inside_goes_to_the_backend_by_tls_of_its_own_where_a_policy_says_so() {
    let (shown, inside, other) = (signed("ends.example.com"), signed("inside.example.com"), signed("x.org"));
    let backend = tls_echo("inside", &inside).await;
    let all = vec![
        vec![terminating("ends", PORT, "ends.example.com", &shown)],
        vec![tls_route("ends", "ends", "ends.example.com", "inside")],
        by_tls("inside", backend, "inside.example.com", &inside),
    ];
    let (mut gateway, address) = gateway(all).await;
    let mut client = tls(address, "ends.example.com", &[&shown]).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "inside");
    assert_eq!(say(&mut client, "hello").await, "hello bye");
    gateway.apply(by_tls("inside", backend, "inside.example.com", &other));
    let mut client = tls(address, "ends.example.com", &[&shown]).await.unwrap();
    assert!(greeting(&mut client).await.is_err(), "nothing is sent to who cannot prove who it is");
    counted(&gateway, r#"reason="upstream_tls_untrusted""#).await;
}

/// An HTTPS listener with a route to the Service `web`.
fn web(hostname: &str, shown: &Signed) -> Vec<Resource> {
    let host = HostPattern::parse(hostname).unwrap();
    let accepts = Accepts::Http { hostname: host.clone(), tls: Some(vec![shown.certificate.clone()]) };
    let listener = stream_listener("web", PORT, accepts);
    let Resource::Listener(Listener { name, .. }) = &listener else { panic!("a listener") };
    let mut route = mesh::route("web");
    route.parents = vec![RouteParent::Listener { listener: name.clone(), hostnames: vec![host] }];
    vec![listener, Resource::Route(route)]
}

#[tokio::test]
async fn requests_and_connections_that_pass_through_or_end_here_share_a_port_by_name() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("hello").into());
    let (site, ends, through) =
        (signed("web.example.com"), signed("ends.example.com"), signed("through.example.com"));
    let all = vec![
        web("web.example.com", &site),
        vec![terminating("ends", PORT, "ends.example.com", &ends), passthrough("tls", PORT, "*.example.com")],
        vec![
            tls_route("ends", "ends", "ends.example.com", "plain"),
            tls_route("any", "tls", "*.example.com", "own"),
        ],
        at("web", backend.address()),
        at("plain", echo("plain").await),
        at("own", tls_echo("own", &through).await),
    ];
    let (_gateway, address) = gateway(all).await;
    let mut client = tls(address, "through.example.com", &[&through]).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "own");
    let mut client = tls(address, "ends.example.com", &[&ends]).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "plain");
    let mut client = tls(address, "web.example.com", &[&site]).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // HTTP/2's preface and empty settings: the answer begins with the server's own.
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "SETTINGS");
}

#[tokio::test]
async fn a_route_with_an_invalid_backend_refuses_the_connection() {
    let all = vec![
        vec![passthrough("tls", PORT, "")],
        vec![Resource::StreamRoute(streams::stream_route(
            StreamKind::Tls,
            "r",
            "tls",
            &["a.example.com"],
            &[("", 1)],
        ))],
    ];
    let (gateway, address) = gateway(all).await;
    assert!(tls(address, "a.example.com", &[]).await.is_err());
    counted(&gateway, r#"route="shop/r",backend="",reason="invalid_backend""#).await;
}

fn hello(name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(connector(&[]).config()), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn what_names_no_server_of_ours_or_is_no_tls_is_closed_without_a_word_and_told() {
    let own = signed("a.example.com");
    let all = vec![
        vec![passthrough("tls", PORT, "*.example.com"), tls_route("a", "tls", "a.example.com", "a")],
        at("a", tls_echo("a", &own).await),
    ];
    let (gateway, address) = gateway(all).await;
    let mut endless = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    endless.resize(64 * 1024, 0);
    for (bytes, reason) in [
        (hello("b.example.com"), "no_route"),
        (hello("other.org"), "no_route"),
        // No name: an address is none.
        (hello("127.0.0.1"), "no_route"),
        (b"GET / HTTP/1.1\r\nhost: a.example.com\r\n\r\n".to_vec(), "bad_handshake"),
        (b"SSH-2.0-OpenSSH_9.6 Debian\r\n".to_vec(), "bad_handshake"),
        (endless, "bad_handshake"),
    ] {
        assert!(is_refused(address, &bytes).await, "{reason}");
        counted(&gateway, &format!("reason=\"{reason}\"")).await;
    }
    let mut client = tls(address, "a.example.com", &[&own]).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "a", "others are unharmed");
}

#[tokio::test]
async fn a_first_message_in_pieces_finds_its_backend() {
    let own = signed("a.example.com");
    let all = vec![
        vec![passthrough("tls", PORT, ""), tls_route("a", "tls", "a.example.com", "a")],
        at("a", tls_echo("a", &own).await),
    ];
    let (_gateway, address) = gateway(all).await;
    // A client of ours, through a pipe that passes no more than 50 bytes at a time.
    let (near, mut far) = tokio::io::duplex(50);
    let mut socket = TcpStream::connect(address).await.unwrap();
    tokio::spawn(
        async move { tokio::io::copy_bidirectional_with_sizes(&mut far, &mut socket, 50, 50).await },
    );
    let name = ServerName::try_from("a.example.com").unwrap();
    let mut client = connector(&[&own]).connect(name, near).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "a");
}

#[tokio::test]
async fn a_client_that_leaves_before_a_word_is_not_counted() {
    let all = vec![vec![passthrough("tls", PORT, ""), tls_route("a", "tls", "a.example.com", "a")]];
    let (gateway, address) = gateway(all).await;
    for bytes in [&b""[..], &hello("a.example.com")[..30]] {
        let mut client = sent(address, bytes).await.unwrap();
        client.shutdown().await.unwrap();
        assert!(client.read_u8().await.is_err());
    }
    counted(&gateway, r#"reason="bad_handshake"} 1"#).await;
}

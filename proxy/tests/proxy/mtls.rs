//! mTLS between sidecars: who may come in, who is believed, and that nobody notices a certificate being replaced.

mod carried;
mod probes;
mod rotation;
mod support;

use serde_json::json;
use support::{Caller, Served, cart, for_cart};
use tidegate_policy::model::{AppProtocol, MeshPeer, Mode, TargetKind};
use tidegate_testkit::authority::{TestAuthority, TestClock};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::client::{Client, RawClient};
use tidegate_testkit::pki;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::mesh::{policy, post};
use crate::outbound::{CART, Sidecar};

const DOMAIN: &str = "cluster.local";

async fn app() -> FaultBackend {
    let app = FaultBackend::start().await;
    app.always(Reply::text("cart").into());
    app
}

fn strict() -> serde_json::Value {
    json!({"mtls": "Strict"})
}

#[tokio::test]
async fn a_peer_of_the_mesh_is_called_by_mtls_and_its_requests_share_connections() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = Served::start(&authority, &clock, app.address()).await;
    served.apply(for_cart("MeshTlsPolicy", strict(), Mode::Enforce));
    let caller = Caller::start(&authority, &clock, "shop/web").await.calling(served.address(), &["cart"]);
    for _ in 0..5 {
        assert_eq!(caller.get().await, (200, None, "cart".into()));
    }
    // Clients of their own, and one thread or two between them.
    let open = served.metrics("tidegate_connections_total{side=\"downstream\"}");
    assert!(open.is_empty() || !open.ends_with(" 5"), "{open}");
    assert_eq!(
        app.seen()[0].headers["x-forwarded-proto"],
        "http",
        "the application sees what its client sent"
    );
}

#[tokio::test]
async fn who_calls_is_known_and_can_be_what_a_limit_counts_by() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = Served::start(&authority, &clock, app.address()).await;
    let limit = json!({"limits": [{"name": "each", "requests": 1, "per": "1h",
        "key": [{"type": "PeerIdentity"}]}]});
    served.apply(for_cart("RateLimitPolicy", limit, Mode::Enforce));
    let web = Caller::start(&authority, &clock, "shop/web").await.to(served.address());
    let pay = Caller::start(&authority, &clock, "shop/pay").await.to(served.address());
    assert_eq!((web.get().await.0, web.get().await.0), (200, 429));
    assert_eq!((pay.get().await.0, pay.get().await.0), (200, 429), "another caller has a budget of its own");
}

#[tokio::test]
async fn strict_resets_who_comes_without_and_permissive_does_not() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = Served::start(&authority, &clock, app.address()).await;
    assert_eq!(Client::http1(served.address()).await.get("/").await.body, "cart");
    served.apply(for_cart("MeshTlsPolicy", strict(), Mode::Shadow));
    assert_eq!(Client::http1(served.address()).await.get("/").await.body, "cart", "Shadow changes nothing");
    served.apply(for_cart("MeshTlsPolicy", strict(), Mode::Enforce));
    let mut client = RawClient::connect(served.address()).await;
    client.write("GET / HTTP/1.1\r\nhost: cart\r\n\r\n").await;
    assert_eq!(client.read_to_end().await, "");
    let decisions = served.metrics("tidegate_policy_decisions_total");
    for outcome in ["would_refuse", "refused"] {
        let told = decisions.lines().find(|line| line.contains(&format!("\"{outcome}\"")));
        assert!(told.is_some_and(|line| line.contains("\"mtls\"")), "{outcome}: {decisions}");
    }
    assert_eq!(app.counts().requests, 2, "nothing of it reached the application");
}

#[tokio::test]
async fn a_port_can_be_excepted() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = Served::start(&authority, &clock, app.address()).await;
    let port = served.address().port();
    let spec = json!({"mtls": "Strict", "ports": [{"port": port, "mtls": "Permissive"}]});
    served.apply(for_cart("MeshTlsPolicy", spec, Mode::Enforce));
    assert_eq!(Client::http1(served.address()).await.get("/").await.body, "cart");
}

#[tokio::test]
async fn tls_of_the_applications_own_is_not_touched() {
    let (clock, root) = (TestClock::new(), pki::Authority::new("app"));
    let app = FaultBackend::start_tls(root.sign(&["app.example"]).server(None)).await;
    app.always(Reply::text("of its own").into());
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = Served::start(&authority, &clock, app.address()).await;
    let connect = async |address| {
        let config = pki::client(&root, None, b"http/1.1");
        let name = "app.example".try_into().unwrap();
        TlsConnector::from(config).connect(name, TcpStream::connect(address).await.unwrap()).await
    };
    let stream = connect(served.address()).await.expect("the application's certificate, from itself");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        http::Request::get("/").header("host", "app").body(tidegate_testkit::body::empty()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    served.apply(for_cart("MeshTlsPolicy", strict(), Mode::Enforce));
    assert!(connect(served.address()).await.is_err(), "it says nothing of who its client is");
}

#[tokio::test]
async fn whoever_is_of_another_trust_domain_or_another_root_is_nobody() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = Served::start(&authority, &clock, app.address()).await;
    for domain in ["other.example", DOMAIN] {
        let other = TestAuthority::start(domain, &clock).await;
        let stranger = Caller::start(&other, &clock, "shop/web").await.to(served.address());
        let (status, reason, _) = stranger.get().await;
        assert_eq!((status, reason.as_deref()), (503, Some("upstream_tls_untrusted")), "{domain}");
    }
    assert_eq!(app.counts().requests, 0);
}

#[tokio::test]
async fn an_endpoint_must_have_the_service_account_that_is_written() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = Served::start(&authority, &clock, app.address()).await;
    let caller = Caller::start(&authority, &clock, "shop/web").await;
    let caller = caller.calling(served.address(), &["pay"]);
    assert_eq!(caller.get().await.1.as_deref(), Some("upstream_tls_untrusted"));
    assert_eq!(app.counts().requests, 0);
    let caller = caller.calling(served.address(), &["pay", "cart"]);
    assert_eq!(caller.get().await.0, 200);
}

#[tokio::test]
async fn without_a_certificate_a_peer_is_not_called_and_never_in_clear() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = Served::start(&authority, &clock, app.address()).await;
    authority.set_away(true);
    let caller = Caller::without_waiting(&authority, &clock, "shop/web").to(served.address());
    assert_eq!(caller.get().await.1.as_deref(), Some("no_identity"));
    // What answers there is in clear: it is not spoken to so.
    let plain = FaultBackend::start().await;
    authority.set_away(false);
    caller.sidecar.running.state().identity.clone().unwrap().renew_now();
    support::certified(&caller.sidecar.running, 1).await;
    let caller = caller.to(plain.address());
    let (status, reason, _) = caller.get().await;
    assert_eq!(status, 503, "{reason:?}");
    assert_eq!(plain.counts().requests, 0);
}

#[tokio::test]
async fn a_proxy_without_an_identity_calls_peers_in_clear_unless_mtls_is_asked_for_there() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = Served::start(&authority, &clock, app.address()).await;
    let mut nobody = Sidecar::start();
    nobody.apply(cart(served.address(), Some(&MeshPeer::default())));
    assert_eq!(nobody.get(CART, "cart", "/").await.status, 200);
    nobody.apply(vec![policy("MeshTlsPolicy", (TargetKind::Service, "cart"), strict())]);
    let answer = nobody.get(CART, "cart", "/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("no_identity")));
    assert!(nobody.metrics("tidegate_policy_decisions_total").contains("rule=\"mtls\""));
    nobody.apply(vec![policy("MeshTlsPolicy", (TargetKind::Service, "cart"), json!({"mtls": "Disable"}))]);
    assert_eq!(nobody.get(CART, "cart", "/").await.status, 200);
}

#[tokio::test]
async fn bodies_grpc_and_both_protocols_of_applications_pass() {
    let clock = TestClock::new();
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let app = FaultBackend::start().await;
        app.always(Script::Echo);
        let served = Served::with(&authority, &clock, (app.address(), protocol), |_| {}).await;
        let caller = Caller::start(&authority, &clock, "shop/web").await.to(served.address());
        let mut client = caller.sidecar.http1(CART).await;
        assert_eq!(client.call(post("/", "a body")).await.body, "a body");
        app.always(Reply::grpc("message", 0).into());
        let mut client = Client::http2_after(&crate::outbound::to(CART), caller.sidecar.address()).await;
        let mut request = post("/shop.Cart/Get", "ask");
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let answer = client.call(request).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"message"[..]));
    }
}

#[tokio::test]
async fn what_is_held_is_told_by_the_admin_port_and_keys_are_not() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = Served::start(&authority, &clock, app.address()).await;
    let status = tidegate_proxy::admin::AdminSource::status(&**served.running.state());
    let certificate = &status["identity"]["certificate"];
    assert_eq!(certificate["identity"], "spiffe://cluster.local/ns/shop/sa/cart");
    assert_eq!((&certificate["usable"], &certificate["trusted_roots"]), (&json!(true), &json!(1)));
    assert!(!format!("{:?}{status}", served.running.state()).contains("PRIVATE"));
}

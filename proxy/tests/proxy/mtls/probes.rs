//! The kubelet asks how the application is: from outside of the mesh, and whatever the policies say of others.

use http::StatusCode;
use serde_json::json;
use tidegate_policy::model::{AppProtocol, Mode};
use tidegate_proxy::config::Probe;
use tidegate_testkit::authority::{TestAuthority, TestClock};
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::client::{Client, RawClient};

use crate::outbound::CART;

use super::support::{Caller, Served, for_cart};
use super::{DOMAIN, app, strict};
use crate::mesh::post;

/// The application at one port, probed there at `/healthz`.
async fn probed(authority: &TestAuthority, clock: &TestClock, app: &FaultBackend) -> Served {
    let probe: Probe = format!("{}/healthz", app.address().port()).parse().unwrap();
    Served::with(authority, clock, (app.address(), AppProtocol::Http1), |config| {
        config.probes = vec![probe];
    })
    .await
}

fn one_an_hour() -> serde_json::Value {
    json!({"limits": [{"name": "all", "requests": 1, "per": "1h"}]})
}

fn only_monitoring() -> serde_json::Value {
    json!({"rules": [{"name": "monitoring", "action": "Allow", "from": [{"serviceAccounts": ["monitoring"]}]}]})
}

#[tokio::test]
async fn where_mtls_is_strict_the_kubelet_is_answered_and_nobody_else() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = probed(&authority, &clock, &app).await;
    served.apply(for_cart("MeshTlsPolicy", strict(), Mode::Enforce));
    let mut kubelet = Client::http1(served.address()).await;
    for _ in 0..3 {
        let answer = kubelet.get("/healthz").await;
        assert_eq!(
            (answer.status, &*answer.body),
            (StatusCode::OK, &b""[..]),
            "the status is all that is told"
        );
        assert_eq!(answer.headers.get("content-type"), None);
    }
    for other in ["/", "/healthz?all=1", "/healthz/../orders"] {
        let mut client = RawClient::connect(served.address()).await;
        client.write(&format!("GET {other} HTTP/1.1\r\nhost: cart\r\n\r\n")).await;
        assert_eq!(client.read_to_end().await, "", "{other}");
    }
    let mut client = RawClient::connect(served.address()).await;
    client.write("GET /healthz HTTP/1.1\r\nhost: cart\r\n\r\nGET / HTTP/1.1\r\nhost: cart\r\n\r\n").await;
    let told = client.read_to_end().await;
    assert_eq!(told.matches("HTTP/1.1 ").count(), 1, "a probe opens nothing to what follows it: {told}");
    assert_eq!(app.counts().requests, 4);
    let decisions = served.metrics("tidegate_policy_decisions_total");
    assert!(
        decisions.lines().any(|line| line.contains("\"mtls\"") && line.contains("\"refused\"")),
        "{decisions}"
    );
}

#[tokio::test]
async fn no_policy_counts_or_refuses_a_probe() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = probed(&authority, &clock, &app).await;
    served.apply(for_cart("RateLimitPolicy", one_an_hour(), Mode::Enforce));
    let mut client = Client::http1(served.address()).await;
    for _ in 0..3 {
        assert_eq!(client.get("/healthz").await.status, StatusCode::OK);
    }
    let statuses = [client.get("/").await.status, client.get("/").await.status];
    assert_eq!(statuses, [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS], "the budget was untouched");
    served.apply(for_cart("AuthorizationPolicy", only_monitoring(), Mode::Enforce));
    assert_eq!(client.get("/").await.status, StatusCode::FORBIDDEN);
    assert_eq!(client.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_shows_an_identity_is_no_kubelet() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = probed(&authority, &clock, &app).await;
    served.apply(for_cart("AuthorizationPolicy", only_monitoring(), Mode::Enforce));
    let caller = Caller::start(&authority, &clock, "shop/web").await.calling(served.address(), &["cart"]);
    assert_eq!(caller.sidecar.get(CART, "cart", "/healthz").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_the_application_says_of_itself_is_passed_on() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = probed(&authority, &clock, &app).await;
    app.always(Reply::status(503).into());
    let mut kubelet = Client::http1(served.address()).await;
    assert_eq!(kubelet.get("/healthz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    app.always(Reply::text("fine").into());
    assert_eq!(kubelet.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_check_of_health_by_grpc_is_answered_whole() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    app.always(Reply::grpc("serving", 0).into());
    let probe: Probe = format!("{}=grpc", app.address().port()).parse().unwrap();
    let to_app = (app.address(), AppProtocol::H2c);
    let mut served = Served::with(&authority, &clock, to_app, |config| config.probes = vec![probe]).await;
    served.apply(for_cart("MeshTlsPolicy", strict(), Mode::Enforce));
    let mut kubelet = Client::http2(served.address()).await;
    let answer = kubelet.call(post("/grpc.health.v1.Health/Check", "check")).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"serving"[..]));
    let refused = kubelet.send(post("/cart.Cart/Add", "x")).await;
    assert!(refused.is_err(), "a stream of no probe is reset: {refused:?}");
}

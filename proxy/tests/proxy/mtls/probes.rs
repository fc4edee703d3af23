//! The kubelet asks how the application is: from outside of the mesh, and whatever the policies say of others.

use http::{Request, StatusCode, request};
use serde_json::json;
use tidegate_policy::model::{AppProtocol, Mode};
use tidegate_proxy::config::Probe;
use tidegate_testkit::authority::{TestAuthority, TestClock};
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::{TestBody, empty};
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

fn by_kubelet(request: request::Builder) -> Request<TestBody> {
    request.header("user-agent", "kube-probe/1.36").body(empty()).unwrap()
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
        let answer = kubelet.call(by_kubelet(Request::get("/healthz"))).await;
        assert_eq!(
            (answer.status, &*answer.body),
            (StatusCode::OK, &b""[..]),
            "the status is all that is told"
        );
        assert_eq!(answer.headers.get("content-type"), None);
    }
    for other in ["/", "/healthz?all=1", "/healthz/../orders"] {
        let mut client = RawClient::connect(served.address()).await;
        client
            .write(&format!("GET {other} HTTP/1.1\r\nhost: cart\r\nuser-agent: kube-probe/1.36\r\n\r\n"))
            .await;
        assert_eq!(client.read_to_end().await, "", "{other}");
    }
    let mut client = RawClient::connect(served.address()).await;
    let twice = ["/healthz", "/"]
        .map(|path| format!("GET {path} HTTP/1.1\r\nhost: cart\r\nuser-agent: kube-probe/1\r\n\r\n"));
    client.write(&twice.concat()).await;
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
        assert_eq!(client.call(by_kubelet(Request::get("/healthz"))).await.status, StatusCode::OK);
    }
    let statuses = [client.get("/").await.status, client.get("/").await.status];
    assert_eq!(statuses, [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS], "the budget was untouched");
    served.apply(for_cart("AuthorizationPolicy", only_monitoring(), Mode::Enforce));
    assert_eq!(client.get("/").await.status, StatusCode::FORBIDDEN);
    assert_eq!(client.call(by_kubelet(Request::get("/healthz"))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_asks_the_same_and_is_no_kubelet_is_judged_and_answered_as_ever() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = probed(&authority, &clock, &app).await;
    served.apply(for_cart("RateLimitPolicy", one_an_hour(), Mode::Enforce));
    let mut client = Client::http1(served.address()).await;
    let answer = client.get("/healthz").await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"cart"[..]), "all of it");
    assert_eq!(client.get("/healthz").await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn where_there_are_probes_a_connection_is_still_judged_once_and_a_kubelets_never() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = probed(&authority, &clock, &app).await;
    let one = json!({"newConnections": [{"name": "new", "connections": 1, "per": "1h"}]});
    served.apply(for_cart("RateLimitPolicy", one, Mode::Enforce));
    let mut kubelet = Client::http1(served.address()).await;
    assert_eq!(kubelet.call(by_kubelet(Request::get("/healthz"))).await.status, StatusCode::OK);
    let mut client = Client::http1(served.address()).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, StatusCode::OK, "one connection, however many requests");
    }
    let mut second = RawClient::connect(served.address()).await;
    second.write("GET / HTTP/1.1\r\nhost: cart\r\n\r\n").await;
    assert_eq!(second.read_to_end().await, "");
    assert_eq!(kubelet.call(by_kubelet(Request::get("/healthz"))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_shows_an_identity_is_no_kubelet() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = probed(&authority, &clock, &app).await;
    served.apply(for_cart("AuthorizationPolicy", only_monitoring(), Mode::Enforce));
    let caller = Caller::start(&authority, &clock, "shop/web").await.calling(served.address(), &["cart"]);
    let mut client = caller.sidecar.http1(CART).await;
    let answer = client.call(by_kubelet(Request::get("/healthz").header("host", "cart"))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_the_application_says_of_itself_is_passed_on() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let served = probed(&authority, &clock, &app).await;
    app.always(Reply::status(503).into());
    let mut kubelet = Client::http1(served.address()).await;
    assert_eq!(
        kubelet.call(by_kubelet(Request::get("/healthz"))).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    app.always(Reply::text("fine").into());
    assert_eq!(kubelet.call(by_kubelet(Request::get("/healthz"))).await.status, StatusCode::OK);
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
    let mut check = post("/grpc.health.v1.Health/Check", "check");
    check.headers_mut().insert("user-agent", "kube-probe/1.36 grpc-go/1.79".parse().unwrap());
    let answer = kubelet.call(check).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"serving"[..]));
    let refused = kubelet.send(post("/cart.Cart/Add", "x")).await;
    assert!(refused.is_err(), "a stream of no probe is reset: {refused:?}");
}

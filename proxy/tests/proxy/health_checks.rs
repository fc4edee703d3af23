//! Active health checks by real proxies, of endpoints that fail in every way there is.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, StatusCode};
use serde_json::json;
use support::{all_states, check, endpoints, failing, health, in_state, path_count, state_of, until};
use tidegate_policy::model::*;
use tidegate_proxy::admin::AdminSource;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::Client;
use tidegate_testkit::pki::Authority;
use tokio::net::TcpListener;

use crate::backend_tls::support as tls;
use crate::mesh::{Gateway, everything_to, get, service_at};
use crate::outbound::Sidecar;

async fn gateway(endpoints: &[SocketAddr], policy: Resource) -> (Gateway, Client) {
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", endpoints);
    all.push(policy);
    gateway.apply(all);
    let client = Client::http1(gateway.address().await).await;
    (gateway, client)
}

/// How many of so many calls got each status.
async fn statuses(client: &mut Client, calls: usize) -> Vec<u16> {
    let mut seen = Vec::new();
    for _ in 0..calls {
        seen.push(client.call(get("/")).await.status.as_u16());
    }
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[tokio::test]
async fn an_endpoint_that_fails_its_checks_is_not_called_until_it_passes_them_again() {
    let [a, b] = [FaultBackend::start().await, FaultBackend::start().await];
    let (gateway, mut client) =
        gateway(&[a.address(), b.address()], health(json!([check("/ready")]), json!({}))).await;
    in_state(&gateway, &a, "healthy").await;
    a.always(Script::Reply(Reply::status(500)));
    in_state(&gateway, &a, "unhealthy").await;
    let called = path_count(&a, "/");
    assert_eq!(statuses(&mut client, 40).await, [200]);
    assert_eq!(path_count(&a, "/"), called);
    a.always(Script::Reply(Reply::status(204)));
    in_state(&gateway, &a, "healthy").await;
    // By latency, one of them may take nearly all calls that come one after the other.
    let mut tries = 0;
    while path_count(&a, "/") == called {
        tries += 1;
        assert!(tries < 1_000, "it is never called again");
        statuses(&mut client, 1).await;
    }
    let metrics = gateway.running.state().telemetry.render_metrics(&gateway.running.state().scrape());
    for line in [
        format!(
            r#"tidegate_endpoint_healthy{{policy="shop/policy",backend="shop/v1:80",endpoint="{}"}} 1"#,
            a.address()
        ),
        String::from(
            r#"tidegate_health_checks_total{policy="shop/policy",backend="shop/v1:80",result="passed"}"#,
        ),
        String::from(
            r#"tidegate_health_checks_total{policy="shop/policy",backend="shop/v1:80",result="status"}"#,
        ),
    ] {
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn a_check_asks_as_it_is_written_over_a_connection_of_its_own() {
    let backend = FaultBackend::start().await;
    let written = json!({"name": "ready", "interval": "100ms", "http": {
        "path": "/ready?deep=1", "method": "HEAD", "host": "cart.shop", "headers": [{"name": "x-probe", "value": "7"}]}});
    let (_gateway, _client) = gateway(&[backend.address()], health(json!([written]), json!({}))).await;
    backend.until(|counts| counts.requests >= 2).await;
    let head = &backend.seen()[0];
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("HEAD", "/ready?deep=1"));
    assert_eq!(head.headers["host"], "cart.shop");
    assert_eq!(head.headers["x-probe"], "7");
    assert_eq!(head.headers["user-agent"], "tidegate-health-check");
    let counts = backend.until(|counts| counts.open == 0).await;
    assert!(counts.connections >= 2, "{counts:?}");
}

#[tokio::test]
async fn every_way_of_failing_is_told_with_its_cause_and_hurts_nothing_else() {
    let good = FaultBackend::start().await;
    let elsewhere = FaultBackend::start().await;
    let redirects = FaultBackend::start().await;
    let to = format!("http://{}/", elsewhere.address());
    redirects.always(Script::Reply(Reply::status(302).header("location", to.leak())));
    let hangs = FaultBackend::start().await;
    hangs.always(Script::Hang);
    let endless_body = FaultBackend::start().await;
    endless_body.always(Script::Cut("half".into(), Arc::default()));
    let dead = support::dead().await;
    let silent = support::raw(support::Raw::Silent).await;
    let garbage = support::raw(support::Raw::Garbage).await;
    let closes = support::raw(support::Raw::Closes).await;
    let endless_head = support::raw(support::Raw::EndlessHead).await;
    let cut_body = support::raw(support::Raw::CutBody).await;
    let all = [
        (good.address(), ""),
        (redirects.address(), "status: HTTP status 302"),
        (hangs.address(), "timed_out: "),
        (endless_body.address(), "timed_out: "),
        (dead, "connect_failed: "),
        (silent, "timed_out: "),
        (garbage, "malformed: "),
        (closes, "closed: "),
        (endless_head, "malformed: "),
        (cut_body, "closed: "),
    ];
    let addresses: Vec<_> = all.iter().map(|(address, _)| *address).collect();
    let (gateway, mut client) =
        gateway(&addresses, health(json!([check("/")]), json!({"panicPercent": 0}))).await;
    for (address, cause) in all.iter().filter(|(_, cause)| !cause.is_empty()) {
        let told = failing(&gateway, *address).await;
        assert!(told.starts_with(cause), "{address}: {told}, not {cause}");
    }
    in_state(&gateway, &good, "healthy").await;
    assert_eq!(statuses(&mut client, 30).await, [200]);
    assert_eq!(elsewhere.counts().requests, 0, "redirects are not followed");
}

#[tokio::test]
async fn a_body_larger_than_anybody_wants_does_not_make_an_endpoint_unhealthy() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Reply(Reply { body: vec![b'x'; 1 << 20].into(), ..Reply::default() }));
    let (gateway, _client) = gateway(&[backend.address()], health(json!([check("/")]), json!({}))).await;
    in_state(&gateway, &backend, "healthy").await;
    backend.until(|counts| counts.requests >= 3).await;
    assert_eq!(state_of(&gateway, backend.address()).as_deref(), Some("healthy"));
}

#[tokio::test]
async fn grpc_endpoints_are_healthy_only_if_they_serve() {
    let [serving, not_serving, unimplemented, no_grpc] = [
        FaultBackend::start().await,
        FaultBackend::start().await,
        FaultBackend::start().await,
        FaultBackend::start().await,
    ];
    serving.always(Script::Reply(Reply::grpc("\0\0\0\0\u{2}\u{8}\u{1}", 0)));
    not_serving.always(Script::Reply(Reply::grpc("\0\0\0\0\u{2}\u{8}\u{2}", 0)));
    unimplemented.always(Script::Reply(Reply::grpc("", 12)));
    no_grpc.always(Script::Reply(Reply::text("hello")));
    let written = json!([{"name": "grpc", "grpc": {"service": "shop.Cart"}, "interval": "100ms",
        "unhealthyThreshold": 1, "timeout": "10s"}]);
    let backends = [&serving, &not_serving, &unimplemented, &no_grpc];
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address()).collect();
    // The backend speaks HTTP/1.1 otherwise: gRPC goes out as HTTP/2 all the same.
    let (gateway, _client) = gateway(&addresses, health(written, json!({"panicPercent": 0}))).await;
    assert_eq!(failing(&gateway, not_serving.address()).await, "not_serving: not serving: NOT_SERVING");
    assert_eq!(failing(&gateway, unimplemented.address()).await, "grpc_status: grpc-status 12");
    assert!(failing(&gateway, no_grpc.address()).await.starts_with("malformed"));
    in_state(&gateway, &serving, "healthy").await;
    let head = &serving.seen()[0];
    assert_eq!((head.uri.path(), head.version), ("/grpc.health.v1.Health/Check", http::Version::HTTP_2));
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["grpc-timeout"], "10000m");
}

#[tokio::test]
async fn a_tcp_check_wants_a_connection_and_nothing_more() {
    let accepts = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = support::dead().await;
    let written =
        json!([{"name": "tcp", "tcp": {}, "interval": "100ms", "unhealthyThreshold": 1, "timeout": "10s"}]);
    let alive = accepts.local_addr().unwrap();
    let (gateway, _client) = gateway(&[alive, dead], health(written, json!({"panicPercent": 0}))).await;
    assert!(failing(&gateway, dead).await.starts_with("connect_failed"));
    until(&gateway, |gateway| state_of(gateway, alive).as_deref() == Some("healthy")).await;
}

#[tokio::test]
async fn another_port_is_asked_where_one_is_written() {
    let [traffic, admin] = [FaultBackend::start().await, FaultBackend::start().await];
    let mut written = check("/ready");
    written["port"] = json!(admin.address().port());
    let (gateway, _client) = gateway(&[traffic.address()], health(json!([written]), json!({}))).await;
    in_state(&gateway, &traffic, "healthy").await;
    assert_eq!((path_count(&traffic, "/ready"), path_count(&admin, "/ready") > 0), (0, true));
}

#[tokio::test]
async fn what_is_called_by_tls_or_http2_is_checked_so_too() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let good = tls::backend(&ca, &[tls::HOST]).await;
        let stranger = tls::backend(&other, &[tls::HOST]).await;
        let mut all = tls::everything(protocol, &[&good, &stranger], tls::trusting(&ca));
        all.push(health(json!([check("/ready")]), json!({})));
        let gateway = tls::start(all).await;
        assert!(failing(&gateway, stranger.address()).await.starts_with("tls_untrusted"));
        in_state(&gateway, &good, "healthy").await;
        assert_eq!(stranger.counts().requests, 0, "nothing is said to a stranger");
        let head = &good.seen()[0];
        assert_eq!(tls::seen(&good)[0].server_name.as_deref(), Some(tls::HOST));
        let host = head.uri.host().map(str::to_owned);
        let host = host.or_else(|| head.headers["host"].to_str().ok().map(str::to_owned));
        assert_eq!(host.as_deref(), Some(tls::HOST), "{protocol:?}");
        for _ in 0..20 {
            assert_eq!(tls::status(&gateway).await.0, 200);
        }
    }
}

#[tokio::test]
async fn with_no_healthy_endpoint_calls_are_refused_or_go_on_as_written() {
    let backend = FaultBackend::start().await;
    let mut written = check("/ready");
    written["http"]["statuses"] = json!(["299"]);
    for (percent, answer) in [(0, (503, Some("unhealthy"))), (50, (200, None))] {
        let policy = health(json!([written]), json!({"panicPercent": percent}));
        let (gateway, mut client) = gateway(&[backend.address()], policy).await;
        in_state(&gateway, &backend, "unhealthy").await;
        let got = client.call(get("/")).await;
        assert_eq!((got.status.as_u16(), got.reason()), answer);
    }
}

#[tokio::test]
async fn one_word_of_draining_is_enough() {
    let backend = FaultBackend::start().await;
    let mut written = check("/ready");
    written["unhealthyThreshold"] = json!(100);
    written["http"]["drainingStatuses"] = json!(["503"]);
    let (gateway, _client) = gateway(&[backend.address()], health(json!([written]), json!({}))).await;
    in_state(&gateway, &backend, "healthy").await;
    backend.push(Script::Reply(Reply::status(503)));
    assert_eq!(failing(&gateway, backend.address()).await, "draining: draining, by HTTP status 503");
}

#[tokio::test]
async fn in_shadow_the_endpoint_is_called_all_the_same() {
    let [a, b] = [FaultBackend::start().await, FaultBackend::start().await];
    let mut policy = health(json!([check("/ready")]), json!({}));
    if let Resource::Policy(policy) = &mut policy {
        policy.mode = Mode::Shadow;
    }
    let (gateway, mut client) = gateway(&[a.address(), b.address()], policy).await;
    a.always(Script::Reply(Reply::status(500)));
    in_state(&gateway, &a, "unhealthy").await;
    assert_eq!(statuses(&mut client, 40).await, [200, 500]);
}

#[tokio::test]
async fn a_push_keeps_the_verdicts_and_ends_the_checks_of_what_is_gone() {
    let [a, b, c] = [FaultBackend::start().await, FaultBackend::start().await, FaultBackend::start().await];
    a.always(Script::Reply(Reply::status(500)));
    let (mut gateway, mut client) =
        gateway(&[a.address(), b.address()], health(json!([check("/ready")]), json!({}))).await;
    in_state(&gateway, &a, "unhealthy").await;
    // Long enough that no check can come between the push and the calls.
    let mut slow = check("/other");
    slow["interval"] = json!("1h");
    let mut all = service_at("v1", AppProtocol::Http1, &[a.address(), b.address(), c.address()]);
    all.push(health(json!([slow]), json!({})));
    gateway.apply(all);
    assert_eq!(state_of(&gateway, a.address()).as_deref(), Some("unhealthy"));
    assert_eq!(statuses(&mut client, 40).await, [200]);
    let mut all = service_at("v1", AppProtocol::Http1, &[b.address()]);
    all.push(health(json!([check("/ready")]), json!({})));
    gateway.apply(all);
    let gone = path_count(&a, "/ready");
    let checked = path_count(&b, "/ready");
    b.until(|_| path_count(&b, "/ready") >= checked + 5).await;
    assert!(path_count(&a, "/ready") <= gone + 1, "at most what was under way");
    assert_eq!(all_states(&gateway).len(), 1);
}

#[tokio::test]
async fn no_more_than_so_many_checks_are_under_way_and_every_endpoint_gets_its_turn() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut addresses = Vec::new();
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        tokio::spawn(support::hold(listener, open.clone(), most.clone()));
    }
    let mut written = check("/");
    written["timeout"] = json!("3s");
    let (gateway, _client) = gateway(&addresses, health(json!([written]), json!({"panicPercent": 0}))).await;
    until(&gateway, |_| open.load(Ordering::Relaxed) >= 64).await;
    // The others are overdue by now, and none of the first has ended.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(most.load(Ordering::Relaxed), 64);
    for address in &addresses {
        assert!(failing(&gateway, *address).await.starts_with("timed_out"));
    }
    gateway.running.shutdown();
    drop(gateway);
    let ended = async {
        while open.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("no check outlives its proxy");
}

#[tokio::test]
async fn a_sidecar_checks_only_what_its_application_calls() {
    let [called, never] = [FaultBackend::start().await, FaultBackend::start().await];
    let mut sidecar = Sidecar::with(|_| {});
    let mut all = service_at("v1", AppProtocol::Http1, &[called.address()]);
    all.extend(service_at("v2", AppProtocol::Http1, &[never.address()]));
    all.push(support::health_of("shop", TargetKind::Namespace, json!([check("/ready")]), json!({})));
    sidecar.apply(all);
    assert_eq!(endpoints(&sidecar.running).len(), 2, "both are known");
    let request = Request::get("/").header("host", "v1.shop").body(empty()).unwrap();
    let answer = Client::http1(sidecar.address()).await.call(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    called.until(|_| path_count(&called, "/ready") >= 5).await;
    assert_eq!(never.counts().connections, 0);
    let metrics = sidecar.running.state().telemetry.render_metrics(&sidecar.running.state().scrape());
    assert!(
        !metrics.contains(r#"tidegate_endpoint_healthy{policy="shop/policy",backend="shop/v2:80""#),
        "{metrics}"
    );
}

#[tokio::test]
async fn where_connections_say_whose_they_are_a_check_is_nobodys() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut all = everything_to("v1", &[listener.local_addr().unwrap()]);
    for resource in &mut all {
        if let Resource::Backend(backend) = resource {
            backend.proxy_protocol = Some(ProxyProtocol::V1);
        }
    }
    all.push(health(json!([check("/ready")]), json!({})));
    let mut gateway = Gateway::start();
    gateway.apply(all);
    let mut server = tidegate_testkit::client::RawClient::from(listener.accept().await.unwrap().0);
    let head = server.read_until("\r\n\r\n").await;
    assert!(head.starts_with("PROXY UNKNOWN\r\nGET /ready HTTP/1.1\r\n"), "{head}");
}

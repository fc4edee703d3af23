//! Pushes, listeners that come and go, draining, starting again: no request pays for them.

use crate::mesh;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::mesh::{
    BIND, Gateway, PORT, everything_to, get, listener, route, service_at, sidecar, sidecar_config,
};
use tidegate_policy::model::{AppProtocol, Resource, ResourceType};
use tidegate_policy::snapshot::BindAddress;
use tidegate_proxy::Proxy;
use tidegate_proxy::config::{Change, GatewayPorts};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::client::{Answer, Client, RawClient};
use tokio::sync::Notify;

#[tokio::test]
async fn pushes_under_load_drop_no_request_and_mix_none() {
    let (one, two) = (FaultBackend::start().await, FaultBackend::start().await);
    one.always(Reply::text("one").into());
    two.always(Reply::text("two").into());
    let mut gateway = Gateway::start().to(&[one.address()]).await;
    gateway.apply(service_at("v2", AppProtocol::Http1, &[two.address()]));
    let address = gateway.address().await;
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut client = Client::http1(address).await;
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.get("/").await;
                    assert_eq!(answer.status, 200);
                    assert!(answer.body == "one" || answer.body == "two");
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for push in 0..100 {
        gateway.apply(vec![Resource::Route(route(if push % 2 == 0 { "v2" } else { "v1" }))]);
        // A request after the push sees it: on return from `apply` it is in force.
        let answer = Client::http1(address).await.get("/").await;
        assert_eq!(answer.body, if push % 2 == 0 { "two" } else { "one" });
    }
    stop.store(true, Ordering::Relaxed);
    for client in load {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_push_that_changes_nothing_for_a_backend_keeps_its_connections() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    let mut client = Client::http1(gateway.address().await).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
        gateway.apply(everything_to("v1", &[backend.address()]));
    }
    assert_eq!(backend.counts().connections, 1);
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let backend = FaultBackend::start().await;
    let go = Arc::new(Notify::new());
    backend.always(Script::After(go.clone(), Box::new(Reply::text("done").into())));
    let mut config = sidecar_config(backend.address(), AppProtocol::Http1);
    config.drain_timeout = Duration::from_secs(60);
    let proxy = Proxy::start(config).unwrap();
    let address = proxy.inbound().unwrap();
    let mut idle = RawClient::connect(address).await;
    let http1 = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    let http2 = tokio::spawn(async move { Client::http2(address).await.get("/").await });
    backend.until(|c| c.requests == 2).await;
    proxy.shutdown();
    assert!(proxy.state().ready().is_err());
    // A connection without a request ends at once; the others when their requests have.
    assert_eq!(idle.read_to_end().await, "");
    go.notify_waiters();
    let answer = http1.await.unwrap();
    assert_eq!((&answer.body[..], &answer.headers["connection"]), (&b"done"[..], &"close".parse().unwrap()));
    assert_eq!(http2.await.unwrap().body, "done");
    proxy.wait().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_drain_ends_when_its_time_is_over() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let mut config = sidecar_config(backend.address(), AppProtocol::Http1);
    config.drain_timeout = Duration::from_millis(10);
    let proxy = Proxy::start(config).unwrap();
    let address = proxy.inbound().unwrap();
    let hanging = tokio::spawn(async move { Client::http1(address).await.send(get("/")).await });
    backend.until(|c| c.requests == 1).await;
    proxy.shutdown();
    proxy.wait().await;
    assert!(hanging.await.unwrap().is_err());
    backend.until(|c| c.open == 0).await;
}

#[tokio::test]
async fn a_request_that_crosses_the_drain_is_answered_and_told_to_be_the_last() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let address = proxy.inbound().unwrap();
    let mut used = Client::http1(address).await;
    assert_eq!(used.get("/").await.status, 200);
    // Connected, with nothing sent yet; and one that the proxy may not even have accepted.
    let mut fresh = RawClient::connect(address).await;
    let mut late = RawClient::connect(address).await;
    proxy.shutdown();
    late.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    fresh.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = used.get("/").await;
    assert_eq!((answer.status.as_u16(), &answer.headers["connection"]), (200, &"close".parse().unwrap()));
    for client in [&mut fresh, &mut late] {
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    }
    proxy.wait().await;
}

#[tokio::test]
async fn a_drain_waits_for_tunnels_and_ends_them_when_its_time_is_over() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mut config = sidecar_config(listener.local_addr().unwrap(), AppProtocol::Http1);
    config.drain_timeout = Duration::from_secs(1);
    config.access_log = tidegate_proxy::telemetry::LogTarget::File(log.clone());
    let proxy = Proxy::start(config).unwrap();
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client.write("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let mut server = RawClient::from(listener.accept().await.unwrap().0);
    server.read_until("\r\n\r\n").await;
    server
        .write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    proxy.shutdown();
    let waiting = tokio::spawn(proxy.wait());
    for _ in 0..200 {
        client.write("ping").await;
        assert_eq!(server.read_until("ping").await, "ping");
        server.write("hello").await;
        assert_eq!(client.read_until("hello").await, "hello");
    }
    assert_eq!((client.read_to_end().await, server.read_to_end().await), (String::new(), String::new()));
    waiting.await.unwrap();
    let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(
        (&line["http.request.body.size"], &line["http.response.body.size"]),
        (&800.into(), &1_000.into()),
        "{line}"
    );
}

#[tokio::test]
async fn gateway_sockets_follow_the_listeners() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    let old = gateway.address().await;
    assert_eq!(Client::http1(old).await.get("/").await.status, 200);
    gateway.apply(vec![Resource::Listener(listener(9090))]);
    let new = gateway.running.gateway_bound(BindAddress { ip: None, port: 9090 }).await.unwrap();
    assert_eq!(Client::http1(new).await.get("/").await.status, 200);
    assert_eq!(gateway.running.gateway(BIND), None);
}

#[tokio::test]
async fn a_socket_that_cannot_be_bound_leaves_the_others_alone_and_is_bound_when_it_can() {
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let offset = port - PORT.min(port - 1);
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::with(|config| {
        config.gateway = Some(GatewayPorts::Offset(offset));
        config.inbound = Some(mesh::loopback(0));
        config.local.app = Some((backend.address(), AppProtocol::Http1));
    });
    let bind = BindAddress { ip: None, port: port - offset };
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(Resource::Listener(listener(bind.port)));
    gateway.apply(all);
    let state = gateway.running.state().clone();
    state.listeners.wait_until(|all| all.len() == 2).await;
    assert_eq!(gateway.running.gateway(bind), None);
    let inbound = gateway.running.inbound().unwrap();
    assert_eq!(Client::http1(inbound).await.get("/").await.status, 200);
    drop(taken);
    let address = gateway.running.gateway_bound(bind).await.unwrap();
    assert_eq!(Client::http1(mesh::loopback(address.port())).await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_refused_resource_keeps_its_last_good_version_and_its_siblings_apply() {
    let (one, two) = (FaultBackend::start().await, FaultBackend::start().await);
    let mut gateway = Gateway::start().to(&[one.address()]).await;
    let limit =
        |spec| mesh::policy("RateLimitPolicy", (tidegate_policy::model::TargetKind::HTTPRoute, "all"), spec);
    let good = serde_json::json!({"limits": [{"name": "one", "requests": 1, "per": "1h"}]});
    gateway.apply(vec![limit(good)]);
    let mut upserts = service_at("v1", AppProtocol::Http1, &[two.address()]);
    upserts.push(limit(serde_json::json!({"limits": "many"})));
    let rejected = gateway.applier.apply(Change { upserts, removed: Vec::new() });
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        (rejected[0].resource_type, rejected[0].name.as_str()),
        (ResourceType::Policy, "RateLimitPolicy/shop/policy")
    );
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/").await.status, 429);
    assert_eq!((one.counts().requests, two.counts().requests), (0, 1));
}

#[tokio::test]
async fn a_request_keeps_the_configuration_it_began_with() {
    let (one, two) = (FaultBackend::start().await, FaultBackend::start().await);
    let go = Arc::new(Notify::new());
    one.always(Script::After(go.clone(), Box::new(Reply::text("one").into())));
    let mut gateway = Gateway::start().to(&[one.address()]).await;
    let address = gateway.address().await;
    let first = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    one.until(|c| c.requests == 1).await;
    let mut everything = everything_to("v2", &[two.address()]);
    everything.retain(|resource| resource.resource_type() != ResourceType::Listener);
    let removed = vec![
        (ResourceType::Backend, String::from("shop/v1:80")),
        (ResourceType::Endpoints, String::from("shop/v1:80")),
    ];
    assert_eq!(gateway.applier.apply(Change { upserts: everything, removed }), []);
    assert_eq!(Client::http1(address).await.get("/").await.status, 200);
    go.notify_one();
    assert_eq!(first.await.unwrap().body, "one");
}

#[tokio::test]
async fn a_proxy_without_a_control_plane_is_ready_at_once() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    assert_eq!(proxy.state().ready(), Ok(()));
    assert_eq!(Client::http1(proxy.admin()).await.get("/ready").await.status, 200);
    let config = Client::http1(proxy.admin()).await.get("/config").await;
    assert!(String::from_utf8_lossy(&config.body).contains("inbound"), "{config:?}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_names_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = sidecar_config(mesh::loopback(1), AppProtocol::Http1);
    config.inbound = Some(taken.local_addr().unwrap());
    let error = format!("{:#}", Proxy::start(config).unwrap_err());
    assert!(error.contains("--inbound"), "{error}");
}

#[tokio::test]
async fn a_dropped_proxy_stops() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let proxy = sidecar(backend.address());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    let hanging = tokio::spawn(async move { client.send(get("/")).await.map(Answer::read) });
    backend.until(|c| c.requests == 1).await;
    drop(proxy);
    assert!(hanging.await.unwrap().is_err());
}

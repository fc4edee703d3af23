//! Sockets and certificates of HTTP/3: when they are there, who hears of them, and how they go.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::model::*;
use tidegate_policy::snapshot::BindAddress;
use tidegate_proxy::ListenerStatus;
use tidegate_proxy::config::{Change, GatewayPorts};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::pki::{Authority, Signed};
use tokio::sync::Notify;

use super::support::{HOST, NAME, Site, get, head, https};
use crate::mesh::{Gateway, PORT, listener, rename_gateway, route, service_at};
use crate::streams::passthrough;

async fn gone(site: &Site) {
    let listeners = &site.gateway.running.state().listeners;
    listeners.wait_until(|all| !all.contains_key(NAME)).await;
}

/// The status of a request from a client that shows a certificate, or does not.
async fn ask(site: &Site, shown: Option<&Signed>) -> Option<u16> {
    let mut client = site.try_connect(HOST, shown).await.ok()?;
    Some(client.try_call(get("/")).await.ok()?.status.as_u16())
}

#[tokio::test]
async fn http1_and_http2_tell_where_http3_is_unless_the_backend_says_something_itself() {
    let backend = FaultBackend::start().await;
    let site = Site::to(&backend).await;
    let told = format!("h3=\":{}\"; ma=86400", site.address.port());
    assert_eq!(site.get1().await.headers["alt-svc"], told);
    assert_eq!(site.get2().await.headers["alt-svc"], told);
    backend.push(Reply::default().header("alt-svc", "clear").into());
    let answer = site.get2().await;
    let values: Vec<_> = answer.headers.get_all("alt-svc").iter().collect();
    assert_eq!(values, ["clear"]);
}

#[tokio::test]
async fn without_the_flag_nothing_is_told_and_nobody_listens() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start();
    let servers = Authority::new("servers");
    gateway.apply(service_at("v1", AppProtocol::Http1, &[backend.address()]));
    gateway.apply(https(&servers, &[HOST], None));
    gateway.apply(vec![Resource::Route(route("v1"))]);
    let site = Site { address: gateway.address().await, gateway, servers };
    assert!(!site.get1().await.headers.contains_key("alt-svc"));
    assert!(!site.get2().await.headers.contains_key("alt-svc"));
    assert!(!site.gateway.running.state().listeners.all().contains_key(NAME));
    UdpSocket::bind(site.address).expect("the port is free for UDP");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on() {
    let backend = FaultBackend::start().await;
    let mut site = Site::to(&backend).await;
    let mut before = site.connect().await;
    assert_eq!(before.call(get("/")).await.status, 200);
    let renewed = Authority::new("renewed");
    site.gateway.apply(https(&renewed, &[HOST], None));
    assert!(site.try_connect(HOST, None).await.is_err());
    site.servers = renewed;
    assert_eq!(site.connect().await.call(get("/")).await.status, 200);
    assert_eq!(before.call(get("/")).await.status, 200);
}

#[tokio::test]
async fn certificates_of_clients_are_judged_as_over_tcp() {
    let backend = FaultBackend::start().await;
    let mut site = Site::to(&backend).await;
    let (clients, stranger) = (Authority::new("clients"), Authority::new("stranger"));
    let valid = clients.sign(&["client.example.com"]);
    let others = [
        None,
        Some(stranger.sign(&["client.example.com"])),
        Some(clients.sign_expired(&["client.example.com"])),
    ];
    site.gateway.apply(https(&site.servers, &[HOST], Some((&clients, ClientMode::ValidOnly))));
    assert_eq!(ask(&site, Some(&valid)).await, Some(200));
    for shown in &others {
        assert_eq!(ask(&site, shown.as_ref()).await, None);
    }
    assert_eq!(backend.counts().requests, 1);
    site.gateway.apply(https(&site.servers, &[HOST], Some((&clients, ClientMode::InsecureFallback))));
    for shown in &others {
        assert_eq!(ask(&site, shown.as_ref()).await, Some(200));
    }
    site.gateway.apply(https(&site.servers, &[HOST], Some((&stranger, ClientMode::ValidOnly))));
    assert_eq!(ask(&site, Some(&valid)).await, None);
}

#[tokio::test]
async fn the_socket_comes_and_goes_with_https_and_tcp_does_not_notice() {
    let backend = FaultBackend::start().await;
    let mut site = Site::to(&backend).await;
    site.gateway.apply(vec![Resource::Listener(listener(PORT))]);
    gone(&site).await;
    site.gateway.apply(https(&site.servers, &[HOST], None));
    site.bound().await;
    assert_eq!(site.connect().await.call(get("/")).await.status, 200);
}

#[tokio::test]
async fn where_a_connection_may_be_for_somebody_else_there_is_no_http3() {
    let backend = FaultBackend::start().await;
    let mut site = Site::to(&backend).await;
    let mut other = passthrough("tls", PORT, "other.example.com");
    rename_gateway(&mut other, "other");
    site.gateway.apply(vec![other]);
    gone(&site).await;
    assert!(!site.get2().await.headers.contains_key("alt-svc"));
}

#[tokio::test]
async fn a_udp_port_that_is_taken_is_told_and_tcp_serves_without_it() {
    let backend = FaultBackend::start().await;
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let servers = Authority::new("servers");
    let mut gateway = Gateway::with(|config| {
        config.http3 = true;
        config.gateway = Some(GatewayPorts::Offset(0));
    });
    let mut all = https(&servers, &[HOST], None);
    if let Some(Resource::Listener(listener)) = all.first_mut() {
        (listener.port, listener.addresses) = (port, vec![Ipv4Addr::LOCALHOST.into()]);
    }
    all.extend(service_at("v1", AppProtocol::Http1, &[backend.address()]));
    all.push(Resource::Route(route("v1")));
    gateway.apply(all);
    let bind = BindAddress { ip: Some(Ipv4Addr::LOCALHOST.into()), port };
    let address = gateway.running.gateway_bound(bind).await.unwrap();
    let site = Site { gateway, address, servers };
    let (name, state) = (format!("gateway 127.0.0.1:{port} http3"), site.gateway.running.state().clone());
    let failed =
        |status: &ListenerStatus| matches!(status, ListenerStatus::Failed(why) if why.contains("UDP"));
    state.listeners.wait_until(|all| all.get(&name).is_some_and(failed)).await;
    let answer = site.get2().await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("alt-svc"));
    drop(taken);
    assert_eq!(state.listeners.wait_for(&name).await, Some(address));
    assert_eq!(site.connect().await.call(get("/")).await.status, 200);
}

#[tokio::test]
async fn a_drain_lets_requests_finish_and_takes_no_new_connection() {
    let backend = FaultBackend::start().await;
    let go = Arc::new(Notify::new());
    backend.push(Script::After(go.clone(), Box::new(Reply::text("done").into())));
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let idle = site.connect().await;
    let mut request = client.open(head("/")).await.unwrap();
    request.finish().await.unwrap();
    backend.until(|counts| counts.requests == 1).await;
    site.gateway.running.shutdown();
    gone(&site).await;
    assert!(site.try_connect(HOST, None).await.is_err());
    // Who has nothing under way is sent away first.
    idle.quic().closed().await;
    assert!(client.open(head("/")).await.is_err(), "it was told to open no more");
    go.notify_one();
    assert_eq!(request.recv_response().await.unwrap().status(), 200);
    assert!(request.recv_data().await.unwrap().is_some());
    assert!(request.recv_data().await.unwrap().is_none(), "the answer is whole");
    site.gateway.running.wait().await;
}

#[tokio::test]
async fn what_outlasts_a_drain_does_not_look_whole() {
    let backend = FaultBackend::start().await;
    let never = Arc::new(Notify::new());
    backend.push(Script::Cut("part".into(), never));
    let site =
        Site::with(&backend, AppProtocol::Http1, |config| config.drain_timeout = Duration::from_millis(50))
            .await;
    let mut client = site.connect().await;
    let mut request = client.open(head("/")).await.unwrap();
    request.finish().await.unwrap();
    request.recv_response().await.unwrap();
    assert!(request.recv_data().await.unwrap().is_some());
    site.gateway.running.shutdown();
    assert!(request.recv_data().await.is_err());
    site.gateway.running.wait().await;
}

#[tokio::test]
async fn the_socket_goes_with_its_listener_and_requests_in_flight_finish() {
    let backend = FaultBackend::start().await;
    let go = Arc::new(Notify::new());
    backend.push(Script::After(go.clone(), Box::new(Reply::text("done").into())));
    let mut site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let mut request = client.open(head("/")).await.unwrap();
    request.finish().await.unwrap();
    backend.until(|counts| counts.requests == 1).await;
    let removed = vec![(ResourceType::Listener, String::from("shop/edge/http"))];
    assert_eq!(site.gateway.applier.apply(Change { upserts: Vec::new(), removed }), []);
    gone(&site).await;
    go.notify_one();
    assert_eq!(request.recv_response().await.unwrap().status(), 200);
    client.quic().closed().await;
    assert!(site.try_connect(HOST, None).await.is_err());
}

//! TCPRoutes at a gateway's listeners: whole connections, shared out by weight and carried until both halves have ended.

use crate::mesh;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::mesh::{Gateway, PORT, service_at};
use crate::streams::{echo, greeting, is_refused, nobody, say, stream_listener, stream_route, tcp_route};
use serde_json::{Value, json};
use tidegate_policy::model::*;
use tidegate_proxy::config::Change;
use tidegate_proxy::telemetry::{LogTarget, Scrape};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A TCP listener with one route, to one endpoint of each Service.
async fn gateway(backends: &[(&str, u32)], services: &[(&str, &[SocketAddr])]) -> (Gateway, SocketAddr) {
    with(backends, services, |_| {}).await
}

async fn with(
    backends: &[(&str, u32)],
    services: &[(&str, &[SocketAddr])],
    change: impl FnOnce(&mut tidegate_proxy::ProxyConfig),
) -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::with(change);
    let mut all = vec![stream_listener("tcp", PORT, Accepts::Tcp), tcp_route("r", "tcp", backends)];
    all.extend(services.iter().flat_map(|(name, at)| service_at(name, AppProtocol::Http1, at)));
    gateway.apply(all);
    let address = gateway.address().await;
    (gateway, address)
}

fn metric(gateway: &Gateway, name: &str) -> Vec<String> {
    let all = gateway.running.state().telemetry.render_metrics(&Scrape::default());
    all.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
}

/// Waits until a connection has been counted with this among its labels.
async fn counted(gateway: &Gateway, label: &str) {
    let told = async {
        while !metric(gateway, "tidegate_streams_total").iter().any(|line| line.contains(label)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await;
    assert!(told.is_ok(), "{label}: {:?}", metric(gateway, "tidegate_streams_total"));
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_end_of_one_half_leaves_the_other_open() {
    let server = echo("cart").await;
    let (gateway, address) = gateway(&[("cart", 1)], &[("cart", &[server])]).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "cart", "the server may speak first");
    assert_eq!(say(&mut client, "GET / or anything").await, "GET / or anything bye");
    counted(&gateway, r#"route="shop/r",backend="shop/cart:80",reason="""#).await;
    let bytes = metric(&gateway, "tidegate_stream_bytes_total").join("\n");
    assert!(bytes.contains(r#"way="received"} 17"#) && bytes.contains(r#"way="sent"} 26"#), "{bytes}");
}

#[tokio::test]
async fn connections_are_shared_out_by_weight_and_the_share_of_an_invalid_backend_is_reset() {
    let (cart, pay, none) = (echo("cart").await, echo("pay").await, echo("none").await);
    let weights = [("cart", 3), ("pay", 1), ("none", 0), ("", 2)];
    let services = [("cart", &[cart][..]), ("pay", &[pay]), ("none", &[none])];
    let (gateway, address) = gateway(&weights, &services).await;
    let mut found = BTreeMap::<String, u32>::new();
    for _ in 0..600 {
        let heard = match TcpStream::connect(address).await {
            Ok(mut client) => greeting(&mut client).await,
            Err(error) => Err(error),
        };
        let name = heard.unwrap_or_else(|error| format!("{:?}", error.kind()));
        *found.entry(name).or_default() += 1;
    }
    let share = |name: &str| found.get(name).copied().unwrap_or_default();
    assert_eq!(share("none"), 0);
    assert_eq!(share("cart") + share("pay") + share("ConnectionReset"), 600, "{found:?}");
    assert!((240..360).contains(&share("cart")), "{found:?}");
    assert!((60..140).contains(&share("pay")), "{found:?}");
    assert!((140..260).contains(&share("ConnectionReset")), "{found:?}");
    counted(&gateway, r#"reason="invalid_backend""#).await;
}

#[tokio::test]
async fn new_connections_follow_a_changed_route_and_those_that_stand_stay_where_they_are() {
    let (old, new) = (echo("old").await, echo("new").await);
    let (mut gateway, address) = gateway(&[("old", 1)], &[("old", &[old]), ("new", &[new])]).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    assert_eq!(greeting(&mut first).await.unwrap(), "old");
    gateway.apply(vec![tcp_route("r", "tcp", &[("new", 1)])]);
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(greeting(&mut second).await.unwrap(), "new");
    assert_eq!(say(&mut first, "still here").await, "still here bye");
    let removed = vec![(ResourceType::StreamRoute, String::from("TCPRoute/shop/r"))];
    assert_eq!(gateway.applier.apply(Change { upserts: Vec::new(), removed }), []);
    assert!(is_refused(address, b"").await);
    counted(&gateway, r#"reason="no_route""#).await;
    assert_eq!(say(&mut second, "and here").await, "and here bye");
}

#[tokio::test]
async fn of_two_routes_the_older_has_the_connections_until_it_is_gone() {
    let (old, new) = (echo("old").await, echo("new").await);
    let (mut gateway, address) = gateway(&[("new", 1)], &[("old", &[old]), ("new", &[new])]).await;
    let mut older = stream_route(StreamKind::Tcp, "s", "tcp", &[""], &[("old", 1)]);
    older.meta.created = Some(1);
    gateway.apply(vec![Resource::StreamRoute(older)]);
    let greeted = async || greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap();
    assert_eq!(greeted().await, "old");
    let removed = vec![(ResourceType::StreamRoute, String::from("TCPRoute/shop/s"))];
    assert_eq!(gateway.applier.apply(Change { upserts: Vec::new(), removed }), []);
    assert_eq!(greeted().await, "new");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_passed_over_and_where_none_is_left_the_client_is_reset() {
    let (dead, alive) = (nobody().await, echo("cart").await);
    let (mut gateway, address) = gateway(&[("cart", 1)], &[("cart", &[dead, alive])]).await;
    for _ in 0..8 {
        let mut client = TcpStream::connect(address).await.unwrap();
        assert_eq!(greeting(&mut client).await.unwrap(), "cart");
    }
    gateway.apply(service_at("cart", AppProtocol::Http1, &[dead]));
    assert!(is_refused(address, b"").await);
    counted(&gateway, r#"reason="connect_failed""#).await;
    gateway.apply(service_at("cart", AppProtocol::Http1, &[]));
    assert!(is_refused(address, b"").await);
    counted(&gateway, r#"reason="no_endpoint""#).await;
}

#[tokio::test]
async fn a_connection_beyond_the_cap_of_its_backend_is_reset_and_the_policy_named() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let server = echo("cart").await;
    let (mut gateway, address) = with(&[("cart", 1)], &[("cart", &[server])], |config| {
        config.access_log = LogTarget::File(log.path().into());
    })
    .await;
    let caps = json!({"caps": [{"scope": "Backend", "connections": 1}]});
    gateway.apply(vec![mesh::policy("CircuitBreakerPolicy", (TargetKind::Service, "cart"), caps)]);
    let mut first = TcpStream::connect(address).await.unwrap();
    assert_eq!(greeting(&mut first).await.unwrap(), "cart");
    assert!(is_refused(address, b"").await);
    counted(&gateway, r#"reason="connection_cap""#).await;
    assert_eq!(say(&mut first, "").await, " bye");
    counted(&gateway, r#"backend="shop/cart:80",reason="""#).await;
    let mut again = TcpStream::connect(address).await.unwrap();
    assert_eq!(greeting(&mut again).await.unwrap(), "cart", "its place is free again");
    drop(again);
    gateway.running.shutdown();
    gateway.running.wait().await;
    let lines = std::fs::read_to_string(log.path()).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused = lines.iter().find(|line| line["tidegate.reason"] == "connection_cap").unwrap();
    assert_eq!(refused["decisions"][0]["policy"], "shop/policy");
    let whole = lines.iter().find(|line| line["tidegate.bytes.sent"] == 9).unwrap();
    assert_eq!(whole["tidegate.direction"], "gateway");
    assert_eq!(whole["tidegate.route"], "shop/r");
    assert_eq!(whole["tidegate.backend"], "shop/cart:80");
    assert_eq!(whole["tidegate.endpoint"], server.to_string());
    assert_eq!(whole["tidegate.bytes.received"], 0);
}

#[tokio::test]
async fn a_drain_lets_a_connection_finish_and_cuts_one_that_does_not() {
    let server = echo("cart").await;
    let (gateway, address) = with(&[("cart", 1)], &[("cart", &[server])], |config| {
        config.drain_timeout = Duration::from_millis(500);
    })
    .await;
    let mut polite = TcpStream::connect(address).await.unwrap();
    let mut endless = TcpStream::connect(address).await.unwrap();
    for client in [&mut polite, &mut endless] {
        assert_eq!(greeting(client).await.unwrap(), "cart");
    }
    gateway.running.shutdown();
    assert_eq!(say(&mut polite, "one more").await, "one more bye");
    let cut = endless.read_u8().await.unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset);
    counted(&gateway, r#"reason="draining""#).await;
    gateway.running.wait().await;
}

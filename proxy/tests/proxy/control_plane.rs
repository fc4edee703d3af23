//! A proxy and its control plane: what is pushed holds, what is lost stays, and a restart forgets nothing.

use crate::mesh;
use std::path::Path;

use crate::mesh::{BIND, everything_to, policy, service_at};
use serde_json::json;
use tidegate_policy::model::{AppProtocol, Resource, ResourceName, ResourceType, TargetKind};
use tidegate_policy::snapshot::BindAddress;
use tidegate_proxy::config::{Applier, Change, GatewayPorts, LastGood};
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::client::Client;
use tidegate_testkit::control_plane::ScriptedControlPlane;
use tokio::net::TcpStream;

fn gateway(control_plane: &ScriptedControlPlane, state_dir: Option<&Path>) -> Running {
    let mut config = mesh::config();
    config.gateway = Some(GatewayPorts::Ephemeral);
    config.control_plane = Some(control_plane.uri().parse().unwrap());
    config.state_dir = state_dir.map(Into::into);
    Proxy::start(config).unwrap()
}

async fn ask(proxy: &Running) -> (u16, String) {
    let address = proxy.gateway_bound(BIND).await.unwrap();
    let answer = Client::http1(address).await.get("/").await;
    (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
}

async fn backend(name: &'static str) -> FaultBackend {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text(name).into());
    backend
}

fn limit(spec: serde_json::Value) -> Resource {
    policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), spec)
}

#[tokio::test]
async fn a_push_is_in_force_once_it_is_acknowledged() {
    let (one, two) = (backend("one").await, backend("two").await);
    let mut control_plane = ScriptedControlPlane::start().await;
    control_plane.kill().await;
    let proxy = gateway(&control_plane, None);
    // Were it there, it might have said by now that there is nothing.
    assert!(proxy.state().ready().unwrap_err().contains("control plane"));
    control_plane.restart().await;
    control_plane.set(&everything_to("v1", &[one.address()]));
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await, (200, "one".into()));
    assert_eq!(proxy.state().ready(), Ok(()));
    control_plane.set(&everything_to("v1", &[two.address()]));
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await, (200, "two".into()));
}

/// Every round connects as soon as the socket is there: a socket that is open before its route is would answer 404.
#[tokio::test]
async fn a_gateway_that_accepts_has_its_routes() {
    let one = backend("one").await;
    let control_plane = ScriptedControlPlane::start().await;
    control_plane.set(&everything_to("v1", &[one.address()]));
    for _ in 0..20 {
        let proxy = gateway(&control_plane, None);
        assert_eq!(ask(&proxy).await, (200, "one".into()));
    }
}

#[tokio::test]
async fn a_gateway_added_later_has_its_routes_when_it_accepts() {
    let one = backend("one").await;
    let control_plane = ScriptedControlPlane::start().await;
    for _ in 0..20 {
        control_plane.set(&[]);
        let proxy = gateway(&control_plane, None);
        control_plane.settled().await;
        control_plane.set(&everything_to("v1", &[one.address()]));
        assert_eq!(ask(&proxy).await, (200, "one".into()));
        drop(proxy);
        control_plane.disconnected().await;
    }
}

#[tokio::test]
async fn a_gateway_without_a_route_listens_all_the_same() {
    let control_plane = ScriptedControlPlane::start().await;
    let proxy = gateway(&control_plane, None);
    control_plane.set(&[Resource::Listener(mesh::listener(mesh::PORT))]);
    assert_eq!(ask(&proxy).await.0, 404);
}

#[tokio::test]
async fn a_renamed_gateway_keeps_serving() {
    let one = backend("one").await;
    let control_plane = ScriptedControlPlane::start().await;
    let proxy = gateway(&control_plane, None);
    for name in ["b", "a", "c"] {
        let mut all = everything_to("v1", &[one.address()]);
        for resource in &mut all {
            mesh::rename_gateway(resource, name);
        }
        control_plane.set(&all);
        control_plane.settled().await;
        assert_eq!(ask(&proxy).await, (200, "one".into()), "{name}");
    }
}

#[tokio::test]
async fn no_socket_is_open_before_the_first_whole_configuration() {
    let one = backend("one").await;
    let mut control_plane = ScriptedControlPlane::start().await;
    control_plane.kill().await;
    let proxy = gateway(&control_plane, None);
    let mut applier = Applier::new(proxy.state().clone());
    applier.apply(Change { upserts: vec![Resource::Listener(mesh::listener(mesh::PORT))], removed: vec![] });
    let rest = everything_to("v1", &[one.address()]);
    tokio::task::yield_now().await;
    assert_eq!(proxy.gateway(BIND), None);
    applier.apply(Change { upserts: rest, removed: vec![] });
    proxy.state().set_configured();
    assert_eq!(ask(&proxy).await, (200, "one".into()));
}

#[tokio::test]
async fn a_sidecar_refuses_connections_until_it_knows_its_policies() {
    let app = backend("app").await;
    let control_plane = ScriptedControlPlane::start().await;
    let spec = json!({"limits": [{"name": "none", "requests": 1, "per": "1h"}]});
    let mut all = service_at("v1", AppProtocol::Http1, &[]);
    all.push(policy("RateLimitPolicy", (TargetKind::Service, "v1"), spec));
    control_plane.set(&all);
    for _ in 0..10 {
        let mut config = mesh::sidecar_config(app.address(), AppProtocol::Http1);
        config.control_plane = Some(control_plane.uri().parse().unwrap());
        config.local.services = vec![ResourceName::new("shop", "v1")];
        let proxy = Proxy::start(config).unwrap();
        let address = proxy.inbound().unwrap();
        let mut client = loop {
            if TcpStream::connect(address).await.is_ok() {
                break Client::http1(address).await;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(client.get("/").await.status, 429);
    }
}

#[tokio::test]
async fn a_resource_that_cannot_be_used_is_refused_by_name_and_the_rest_applies() {
    let (one, two) = (backend("one").await, backend("two").await);
    let control_plane = ScriptedControlPlane::start().await;
    let proxy = gateway(&control_plane, None);
    let mut all = everything_to("v1", &[one.address()]);
    all.push(limit(json!({"limits": [{"name": "none", "requests": 1, "per": "1h"}]})));
    control_plane.set(&all);
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await, (200, "one".into()));
    let mut all = everything_to("v1", &[two.address()]);
    let bad = limit(json!({"limits": [{"name": "none", "requests": "lots", "per": "1h"}]}));
    all.push(bad.clone());
    control_plane.set(&all);
    let reason = control_plane.nacked(&bad).await;
    assert!(reason.contains("lots"), "{reason}");
    control_plane.settled().await;
    // The last good limit is still there, and has not forgotten.
    assert_eq!(ask(&proxy).await.0, 429);
}

/// A gateway whose sockets are where they are asked for, `offset` higher.
fn exact(control_plane: &ScriptedControlPlane, offset: u16, state_dir: &Path) -> Running {
    let mut config = mesh::config();
    config.gateway = Some(GatewayPorts::Offset(offset));
    config.control_plane = Some(control_plane.uri().parse().unwrap());
    config.state_dir = Some(state_dir.into());
    Proxy::start(config).unwrap()
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_refusal_and_its_release_with_an_acknowledgement() {
    let one = backend("one").await;
    let directory = tempfile::tempdir().unwrap();
    let mut control_plane = ScriptedControlPlane::start().await;
    let taken = std::net::TcpListener::bind(mesh::loopback(0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut listener = mesh::listener(port - 1);
    listener.addresses = vec![mesh::loopback(0).ip()];
    let bind = BindAddress { ip: Some(mesh::loopback(0).ip()), port: port - 1 };
    let listener = Resource::Listener(listener);
    let mut all = everything_to("v1", &[one.address()]);
    all.retain(|resource| !matches!(resource, Resource::Listener(_)));
    all.push(listener.clone());

    let proxy = exact(&control_plane, 1, directory.path());
    control_plane.set(&all);
    let reason = control_plane.nacked(&listener).await;
    assert!(reason.starts_with(&format!("127.0.0.1:{port}: ")), "{reason}");
    drop(taken);
    control_plane.acked(&listener).await;
    let address = proxy.gateway(bind).unwrap();
    assert_eq!(Client::http1(address).await.get("/").await.status, 200);

    // The proxy's own socket is not in its way.
    control_plane.set(&[]);
    control_plane.settled().await;
    control_plane.set(&all);
    control_plane.acked(&listener).await;
    control_plane.kill().await;
    drop(proxy);

    // What was bound at the last start need not be at this one.
    let taken = loop {
        // The proxy's sockets close after it was dropped.
        match std::net::TcpListener::bind(address) {
            Ok(taken) => break taken,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let proxy = exact(&control_plane, 1, directory.path());
    control_plane.restart().await;
    control_plane.nacked(&listener).await;
    drop(taken);
    control_plane.acked(&listener).await;
    assert_eq!(proxy.gateway(bind), Some(address));
}

#[tokio::test]
async fn a_listener_whose_address_is_not_of_this_machine_goes_when_it_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let control_plane = ScriptedControlPlane::start().await;
    let mut listener = mesh::listener(8080);
    // TEST-NET-1 (RFC 5737).
    listener.addresses = vec!["192.0.2.1".parse().unwrap()];
    let listener = Resource::Listener(listener);
    let proxy = exact(&control_plane, 0, directory.path());
    control_plane.set([&listener]);
    let reason = control_plane.nacked(&listener).await;
    assert!(reason.starts_with("192.0.2.1:8080: "), "{reason}");
    let listeners = &proxy.state().listeners;
    listeners.wait_until(|all| all.contains_key("gateway 192.0.2.1:8080")).await;
    control_plane.set(&[]);
    listeners.wait_until(|all| !all.contains_key("gateway 192.0.2.1:8080")).await;
}

#[tokio::test]
async fn a_dead_control_plane_changes_nothing_and_a_new_one_is_heard() {
    let (one, two) = (backend("one").await, backend("two").await);
    let mut control_plane = ScriptedControlPlane::start().await;
    let proxy = gateway(&control_plane, None);
    control_plane.set(&everything_to("v1", &[one.address()]));
    control_plane.settled().await;
    control_plane.kill().await;
    assert_eq!(ask(&proxy).await, (200, "one".into()));
    assert_eq!(proxy.state().ready(), Ok(()));
    control_plane.set(&everything_to("v1", &[two.address()]));
    control_plane.restart().await;
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await, (200, "two".into()));
    assert!(proxy.state().xds.is_connected());
}

#[tokio::test]
async fn a_restarted_proxy_starts_from_disk_while_nobody_answers() {
    let (one, two) = (backend("one").await, backend("two").await);
    let directory = tempfile::tempdir().unwrap();
    let mut control_plane = ScriptedControlPlane::start().await;
    let proxy = gateway(&control_plane, Some(directory.path()));
    control_plane.set(&everything_to("v1", &[one.address()]));
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await, (200, "one".into()));
    // It serves before it has written.
    while !directory.path().join("last-good").exists() {
        tokio::task::yield_now().await;
    }
    control_plane.kill().await;
    drop(proxy);

    let proxy = gateway(&control_plane, Some(directory.path()));
    assert_eq!(ask(&proxy).await, (200, "one".into()));
    assert_eq!(proxy.state().ready(), Ok(()));
    // What was removed meanwhile is removed, what changed is changed.
    let mut all = everything_to("v2", &[]);
    all.retain(|resource| !matches!(resource, Resource::Backend(_) | Resource::Endpoints(_)));
    all.extend(service_at("v2", AppProtocol::Http1, &[two.address()]));
    control_plane.set(&all);
    control_plane.restart().await;
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await, (200, "two".into()));
    let names: Vec<_> = proxy.state().store.load().backends().map(|b| b.label.to_string()).collect();
    assert_eq!(names, ["shop/v2:80"]);
}

#[tokio::test]
async fn a_damaged_file_is_not_used_and_does_not_stop_the_start() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("last-good"), "rubbish").unwrap();
    let one = backend("one").await;
    let control_plane = ScriptedControlPlane::start().await;
    control_plane.set(&everything_to("v1", &[one.address()]));
    let proxy = gateway(&control_plane, Some(directory.path()));
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await, (200, "one".into()));
}

#[tokio::test]
async fn a_policy_that_was_never_usable_denies_through_a_restart_and_until_it_is_removed() {
    let one = backend("one").await;
    let directory = tempfile::tempdir().unwrap();
    let mut control_plane = ScriptedControlPlane::start().await;
    let without = everything_to("v1", &[one.address()]);
    let rules = json!({"rules": [{"name": "r", "action": "Perhaps"}]});
    let bad = policy("AuthorizationPolicy", (TargetKind::HTTPRoute, "all"), rules);
    let with: Vec<_> = without.iter().cloned().chain([bad.clone()]).collect();
    control_plane.set(&with);
    let proxy = gateway(&control_plane, Some(directory.path()));
    let reason = control_plane.nacked(&bad).await;
    assert!(reason.contains("Perhaps"), "{reason}");
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await.0, 403);
    control_plane.set(&without);
    // What was refused is not in force for the control plane either, so that nothing else tells of its removal; and the
    // same was refused before, so that nothing else tells that it is refused again.
    while ask(&proxy).await.0 != 200 {
        tokio::task::yield_now().await;
    }
    control_plane.set(&with);
    while ask(&proxy).await.0 != 403 {
        tokio::task::yield_now().await;
    }
    // It is in force a moment before it is written, and what was written last was without it.
    let is_written = || {
        let written = LastGood::load(directory.path()).unwrap();
        written.iter().any(|(resource_type, ..)| resource_type == ResourceType::Policy)
    };
    while !is_written() {
        tokio::task::yield_now().await;
    }
    control_plane.kill().await;
    drop(proxy);

    let proxy = gateway(&control_plane, Some(directory.path()));
    assert_eq!(ask(&proxy).await.0, 403);
    assert_eq!(proxy.state().ready(), Ok(()));
    control_plane.set(&without);
    control_plane.restart().await;
    control_plane.settled().await;
    assert_eq!(ask(&proxy).await, (200, "one".into()));
}

//! How long clients may take for a head, and where.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::fixture::*;
use crate::model::{Mode, Resource, TargetKind, TargetRef};

const SOCKET: Scope = Scope::Gateway(BindAddress { ip: None, port: 8080 });

fn limit(text: &str, header: &str, targets: Vec<TargetRef>, mode: Mode) -> Resource {
    let mut policy = policy("TimeoutPolicy", text, targets, json!({"header": header}));
    policy.mode = mode;
    Resource::Policy(policy)
}

/// Two listeners on one socket, and the application of two Services.
fn build(policies: Vec<Resource>) -> Snapshot {
    let mut all = vec![
        Resource::Listener(listener("gw", "a", "a.example")),
        Resource::Listener(listener("gw", "b", "b.example")),
    ];
    all.extend(service("cart", 80, &[9001]));
    all.extend(service("front", 80, &[9002]));
    all.extend(policies);
    let app = Some(("127.0.0.1:3000".parse().unwrap(), AppProtocol::Http1));
    let local = Local { services: vec![name("cart"), name("front")], app, ..Local::default() };
    let (snapshot, rejected) = Snapshot::build(&resources(all), &local, &StateStore::new([0, 0]));
    assert_eq!(rejected, []);
    snapshot
}

fn seconds(snapshot: &Snapshot, scope: Scope, server_name: Option<&str>) -> Option<u64> {
    snapshot.head_limit(scope, server_name).map(|limit| limit.after.as_secs())
}

#[test]
fn a_listeners_own_limit_holds_where_it_is_known_who_is_meant() {
    let of = |section| vec![target(TargetKind::Gateway, "gw", section)];
    let snapshot = build(vec![
        limit("all", "9s", of(None), Mode::Enforce),
        limit("own", "3s", of(Some("a")), Mode::Enforce),
    ]);
    assert_eq!(seconds(&snapshot, SOCKET, Some("A.example")), Some(3));
    assert_eq!(seconds(&snapshot, SOCKET, Some("b.example")), Some(9));
    assert_eq!(seconds(&snapshot, SOCKET, None), Some(9), "the longest of both");
    assert_eq!(seconds(&snapshot, SOCKET, Some("c.example")), None);
    assert_eq!(snapshot.head_limit(SOCKET, Some("a.example")).unwrap().after, Duration::from_secs(3));
    let told = snapshot.head_limit(SOCKET, None).unwrap().said.clone().unwrap();
    assert_eq!((&*told.policy.name.name, &*told.rule.name), ("all", "header"));
}

#[test]
fn where_one_of_several_listeners_has_no_limit_the_socket_has_none() {
    let own = vec![target(TargetKind::Gateway, "gw", Some("a"))];
    let snapshot = build(vec![limit("own", "3s", own, Mode::Enforce)]);
    assert_eq!(seconds(&snapshot, SOCKET, None), None);
    assert_eq!(seconds(&snapshot, SOCKET, Some("a.example")), Some(3));
}

#[test]
fn a_services_limit_holds_at_its_own_sidecar_and_the_strictest_of_several() {
    let of = |service| vec![target(TargetKind::Service, service, None)];
    let snapshot = build(vec![
        limit("cart", "3s", of("cart"), Mode::Enforce),
        limit("front", "2s", of("front"), Mode::Enforce),
    ]);
    assert_eq!(seconds(&snapshot, Scope::Inbound, None), Some(2));
    assert_eq!(seconds(&snapshot, Scope::Outbound, None), None);
    assert_eq!(seconds(&snapshot, SOCKET, None), None);
}

#[test]
fn in_shadow_nobody_is_hurried() {
    let own = vec![target(TargetKind::Gateway, "gw", None)];
    let snapshot = build(vec![limit("own", "3s", own, Mode::Shadow)]);
    assert_eq!(seconds(&snapshot, SOCKET, None), None);
}

//! What a sidecar serves, as the control plane says, and an application with several ports behind it.

use serde_json::json;

use super::*;
use crate::model::fixture::*;
use crate::model::{AppProtocol, Resource, TargetKind, TargetRef, Workload};

fn local() -> Local {
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    Local {
        app: Some((at(8080), AppProtocol::Http1)),
        apps: [(9090, (at(9090), None)), (9100, (at(9100), Some(AppProtocol::Http1)))].into(),
        pod: Some(name("cart-1")),
        namespace: "shop".into(),
        ..Local::default()
    }
}

fn limit(text: &str, section: Option<&str>) -> Resource {
    let section = section.map(Into::into);
    let target = TargetRef { kind: TargetKind::Service, object: name("cart"), section };
    let spec = json!({"limits": [{"name": "all", "requests": 1, "per": "1h"}]});
    Resource::Policy(policy("RateLimitPolicy", text, vec![target], spec))
}

/// `cart` with the ports `http`, which leads to 8080, and `grpc`, which leads to 9090 and speaks HTTP/2.
fn mesh(workload: &[&str]) -> Resources {
    let [Resource::Backend(mut http), endpoints] = service("cart", 80, &[8080]) else { panic!() };
    let [Resource::Backend(mut grpc), more] = service("cart", 81, &[9090]) else { panic!() };
    http.port_name = Some("http".into());
    (grpc.port_name, grpc.protocol) = (Some("grpc".into()), AppProtocol::H2c);
    let services = workload.iter().map(|service| name(service)).collect();
    resources(vec![
        Resource::Backend(http),
        endpoints,
        Resource::Backend(grpc),
        more,
        limit("whole", None),
        limit("of-http", Some("http")),
        limit("of-grpc", Some("grpc")),
        Resource::Workload(Workload { name: name("cart-1"), services }),
        Resource::Workload(Workload { name: name("other"), services: vec![name("else")] }),
    ])
}

fn build(resources: &Resources, local: &Local) -> Snapshot {
    let (snapshot, rejected) = Snapshot::build(resources, local, &StateStore::new([0, 0]));
    assert_eq!(rejected, []);
    snapshot
}

/// The policies at one of the ports, by name.
fn applied(snapshot: &Snapshot, scope: Scope) -> Vec<String> {
    let rule = snapshot.inbound(scope).unwrap();
    rule.applied[0].iter().map(|policy| policy.name.name.to_string()).collect()
}

#[test]
fn a_sidecar_serves_what_the_control_plane_says_of_its_pod() {
    let snapshot = build(&mesh(&["cart"]), &local());
    assert_eq!(snapshot.served(), [name("cart")]);
    assert_eq!(build(&mesh(&[]), &local()).served(), []);
    assert!(applied(&build(&mesh(&[]), &local()), Scope::Inbound).is_empty());
    let written = Local { services: vec![name("else")], ..local() };
    assert_eq!(build(&mesh(&["cart"]), &written).served(), [name("else")], "what is written there wins");
    let nobody = Local { pod: None, ..local() };
    assert_eq!(build(&mesh(&["cart"]), &nobody).served(), []);
}

#[test]
fn each_port_of_the_application_has_the_policies_of_the_service_ports_that_lead_there() {
    let snapshot = build(&mesh(&["cart"]), &local());
    assert_eq!(applied(&snapshot, Scope::Inbound), ["of-http"]);
    assert_eq!(applied(&snapshot, Scope::InboundAt(9090)), ["of-grpc"]);
    assert_eq!(applied(&snapshot, Scope::InboundAt(9100)), ["whole"], "no port of the Service leads there");
    assert!(snapshot.inbound(Scope::InboundAt(1)).is_none(), "and nothing is known of any other");
    let single = Local { apps: BTreeMap::new(), ..local() };
    let all = applied(&build(&mesh(&["cart"]), &single), Scope::Inbound);
    assert_eq!(all, ["of-grpc", "of-http"], "one port stands for all");
}

#[test]
fn each_port_of_the_application_is_spoken_to_as_it_speaks() {
    let snapshot = build(&mesh(&["cart"]), &local());
    let app = |scope| snapshot.app(scope).map(|(address, protocol)| (address.port(), protocol));
    assert_eq!(app(Scope::Inbound), Some((8080, AppProtocol::Http1)));
    assert_eq!(app(Scope::InboundAt(9090)), Some((9090, AppProtocol::H2c)), "as its Service says");
    assert_eq!(app(Scope::InboundAt(9100)), Some((9100, AppProtocol::Http1)));
}

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_policy::model::ResourceType;
use tidegate_xds::Node;
use tidegate_xds::server::{Nack, Rejected};

use super::*;
use crate::grpc::NodeState;
use crate::publish::{Role, Scope};
use crate::source::{FileContent, FileText, Reading};
use crate::status::report;
use crate::world::Fold;

const MESH: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tidegate
  addresses: [{value: 127.0.0.1}]
  listeners: [{name: http, port: 80, protocol: HTTP}, {name: odd, port: 81, protocol: HTTP, allowedRoutes: {kinds: [{kind: CarrotRoute}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{name: edge, sectionName: http}, {name: edge, sectionName: nowhere}]
  rules: [{backendRefs: [{name: cart, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: l, namespace: shop, generation: 7}
spec:
  targetRefs: [{group: '', kind: Service, name: cart}, {group: '', kind: Service, name: gone}]
  limits: [{name: all, requests: 1, per: 1s}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tidegate}
spec: {controllerName: tidegate.io/gateway-controller}
";

/// A control plane without a world around it.
#[derive(Default)]
struct Plane {
    fold: Fold,
    world: Arc<World>,
    nodes: Vec<Arc<Mutex<NodeState>>>,
    transitions: Transitions,
}

impl Plane {
    fn with(text: &str) -> Self {
        let mut plane = Self::default();
        plane.write(text);
        plane
    }

    fn write(&mut self, text: &str) {
        let files = vec![FileContent { path: "mesh.yaml".into(), body: Ok(FileText::new(text)) }];
        let reading = Reading { files, root_listed: true, ..Reading::default() };
        self.world = self.fold.apply(&reading).unwrap();
    }

    /// A gateway proxy that runs everything.
    fn connect(&mut self) {
        let mut node = NodeState::new(&Node::default(), std::time::UNIX_EPOCH);
        node.role = Role::Gateway;
        node.scope = Scope::whole(Role::Gateway);
        let set = &self.world.published.of(Role::Gateway).set;
        for url in crate::grpc::TYPES {
            let all = set.of_type(url).map(|(name, resource)| (name.clone(), resource.version.clone()));
            node.acknowledge(url, all.collect::<Vec<_>>(), &[]);
        }
        self.nodes = vec![Arc::new(Mutex::new(node))];
    }

    fn look(&mut self, now: i64) -> Vec<Json> {
        let status = report(&self.world, &self.nodes);
        let (items, after) = manifests(&self.world, &status, &self.transitions, now);
        self.transitions = after;
        items
    }
}

fn of<'a>(items: &'a [Json], kind: &str) -> &'a Json {
    items.iter().find(|item| item["kind"] == kind).unwrap()
}

/// `type=status/reason`, each with `@generation`.
fn said(conditions: &Json) -> Vec<String> {
    let text = |c: &Json, field: &str| c[field].as_str().unwrap().to_owned();
    let line = |c: &Json| {
        let generation = &c["observedGeneration"];
        format!("{}={}/{}@{generation}", text(c, "type"), text(c, "status"), text(c, "reason"))
    };
    conditions.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn a_gateway_shows_itself_and_each_listener() {
    let mut plane = Plane::with(MESH);
    let items = plane.look(1);
    let status = &of(&items, "Gateway")["status"];
    let refs = "ResolvedRefs=False/ListenersNotResolved@1";
    assert_eq!(said(&status["conditions"]), ["Accepted=True/Accepted@1", refs, "Programmed=False/Pending@1"]);
    plane.connect();
    let items = plane.look(2);
    let status = &of(&items, "Gateway")["status"];
    assert_eq!(
        said(&status["conditions"]),
        ["Accepted=True/Accepted@1", refs, "Programmed=True/Programmed@1"]
    );
    assert_eq!(status["conditions"][2]["message"], "1/1 proxies run it");
    assert_eq!(status["addresses"], json!([{"type": "IPAddress", "value": "127.0.0.1"}]));
    let [http, odd] = status["listeners"].as_array().unwrap().as_slice() else { panic!("{status}") };
    assert_eq!((&http["name"], &http["attachedRoutes"]), (&json!("http"), &json!(1)));
    assert_eq!(http["supportedKinds"][0], json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}));
    assert_eq!(
        said(&http["conditions"]),
        [
            "Accepted=True/Accepted@1",
            "Conflicted=False/NoConflicts@1",
            "ResolvedRefs=True/ResolvedRefs@1",
            "Programmed=True/Programmed@1"
        ]
    );
    assert_eq!((&odd["supportedKinds"], &odd["attachedRoutes"]), (&json!([]), &json!(0)));
    assert_eq!(
        said(&odd["conditions"])[2..],
        ["ResolvedRefs=False/InvalidRouteKinds@1", "Programmed=False/Invalid@1"]
    );
}

/// A gateway proxy that could not bind the listener of this section, whatever it said of it before.
fn unbound(plane: &Plane, section: &str) {
    let listener = ResourceType::Listener.type_url();
    let set = &plane.world.published.of(Role::Gateway).set;
    let (name, resource) = set.of_type(listener).find(|(name, _)| name.ends_with(section)).unwrap();
    let (name, version) = (name.clone(), resource.version.clone());
    let reason = String::from("127.0.0.1:80: Address already in use");
    let rejected = vec![Rejected { name, version, reason, in_force: true }];
    let (acked, removed, message) = (Vec::new(), Vec::new(), String::new());
    let mut node = plane.nodes[0].lock();
    node.refuse(Nack { type_url: listener, rejected, acked, removed, message });
}

#[test]
fn a_listener_that_could_not_be_bound_is_not_programmed_and_leaves_its_siblings_alone() {
    let more = "{name: more, port: 82, protocol: HTTP}, {name: odd";
    let mesh = MESH.replace("{name: odd", more);
    let mut plane = Plane::with(&mesh);
    plane.connect();
    unbound(&plane, "/http");
    let items = plane.look(1);
    let status = &of(&items, "Gateway")["status"];
    assert_eq!(said(&status["conditions"])[2], "Programmed=False/AddressNotUsable@1");
    let message = status["conditions"][2]["message"].as_str().unwrap();
    assert!(message.contains("127.0.0.1:80: Address already in use"), "{message}");
    assert_eq!(said(&status["listeners"][0]["conditions"])[3], "Programmed=False/Invalid@1");
    assert_eq!(said(&status["listeners"][1]["conditions"])[3], "Programmed=True/Programmed@1");
    plane.connect();
    let items = plane.look(2);
    let status = &of(&items, "Gateway")["status"];
    assert_eq!(said(&status["conditions"])[2], "Programmed=True/Programmed@1");
}

#[test]
fn where_no_address_is_named_none_is_blamed_for_a_port_that_is_taken() {
    let mut plane = Plane::with(&MESH.replace("  addresses: [{value: 127.0.0.1}]\n", ""));
    plane.connect();
    unbound(&plane, "/http");
    let items = plane.look(1);
    let status = &of(&items, "Gateway")["status"];
    assert_eq!(said(&status["conditions"])[2], "Programmed=False/Invalid@1");
}

#[test]
fn a_route_shows_each_parent_with_what_the_api_server_fills_in() {
    let items = Plane::with(MESH).look(1);
    let parents = &of(&items, "HTTPRoute")["status"]["parents"];
    let group = "gateway.networking.k8s.io";
    let expected = json!({"group": group, "kind": "Gateway", "name": "edge", "sectionName": "http"});
    assert_eq!(parents[0]["parentRef"], expected);
    assert_eq!(parents[0]["controllerName"], "tidegate.io/gateway-controller");
    let fine = ["Accepted=True/Accepted@1", "ResolvedRefs=True/ResolvedRefs@1"];
    assert_eq!(said(&parents[0]["conditions"]), fine);
    assert_eq!(said(&parents[1]["conditions"])[0], "Accepted=False/NoMatchingParent@1");
}

#[test]
fn a_policy_shows_each_target_as_an_ancestor() {
    let mut plane = Plane::with(MESH);
    plane.connect();
    let items = plane.look(1);
    let policy = of(&items, "RateLimitPolicy");
    let ancestors = policy["status"]["ancestors"].as_array().unwrap();
    let expected = json!({"group": "", "kind": "Service", "name": "cart", "namespace": "shop"});
    assert_eq!(ancestors[0]["ancestorRef"], expected);
    assert_eq!(ancestors[0]["controllerName"], "tidegate.io/gateway-controller");
    let fine = ["Accepted=True/Accepted@7", "Programmed=True/Programmed@7"];
    assert_eq!(said(&ancestors[0]["conditions"]), fine);
    assert_eq!(policy["status"]["programmed"], "1/1", "for a column of kubectl");
    let missing = ["Accepted=False/TargetNotFound@7", "Programmed=False/Invalid@7"];
    assert_eq!(said(&ancestors[1]["conditions"]), missing);
}

#[test]
fn a_class_of_ours_is_accepted_and_what_is_not_ours_still_waits() {
    let items = Plane::with(MESH).look(1);
    let class = of(&items, "GatewayClass");
    assert_eq!(said(&class["status"]["conditions"]), ["Accepted=True/Accepted@1"]);
    assert_eq!(class["metadata"].get("namespace"), None);
    let text = MESH.replace("gatewayClassName: tidegate", "gatewayClassName: nginx");
    let text = text.replace("tidegate.io/gateway-controller", "example.com/other");
    let items = Plane::with(&text.replace("name: tidegate}", "name: nginx}")).look(1);
    let waiting = ["Accepted=Unknown/Pending@1", "Programmed=Unknown/Pending@1"];
    assert_eq!(said(&of(&items, "Gateway")["status"]["conditions"]), waiting);
    assert_eq!(said(&of(&items, "GatewayClass")["status"]["conditions"]), waiting[..1]);
    assert_eq!(of(&items, "HTTPRoute")["status"]["parents"], json!([]));
}

#[test]
fn a_manifest_is_as_written_and_says_nothing_of_kinds_that_have_no_status() {
    let text =
        MESH.replace("spec: {ports: [{port: 80}]}", "spec: {ports: [{port: 80}]}\nstatus: {mine: yes}");
    let items = Plane::with(&text).look(1);
    let service = of(&items, "Service");
    assert_eq!(service["apiVersion"], "v1");
    assert_eq!(service["spec"], json!({"ports": [{"port": 80}]}));
    assert_eq!(service.get("status"), None);
}

#[test]
fn times_stay_while_a_status_stays_and_generations_count_changes_of_the_content() {
    let mut plane = Plane::with(MESH);
    let condition = |items: &[Json]| of(items, "HTTPRoute")["status"]["parents"][0]["conditions"][1].clone();
    let first = condition(&plane.look(100));
    plane.write(&MESH.replace("metadata: {name: r,", "metadata: {labels: {a: b}, name: r,"));
    assert_eq!(condition(&plane.look(200)), first, "a label is no new generation");
    plane.write(&MESH.replace("name: cart, port: 80}]", "name: cart, port: 80, weight: 2}]"));
    let second = condition(&plane.look(300));
    assert_eq!(second["observedGeneration"], 2);
    assert_eq!(second["lastTransitionTime"], first["lastTransitionTime"]);
    plane.write(&MESH.replace("name: cart, port: 80}]", "name: cart, port: 9}]"));
    let third = condition(&plane.look(400));
    assert_eq!((&third["status"], &third["reason"]), (&json!("False"), &json!("BackendNotFound")));
    assert_ne!(third["lastTransitionTime"], first["lastTransitionTime"]);
}

#[test]
fn what_was_refused_is_shown_as_written_with_the_reason() {
    let text = MESH.replace("limits: [", "limit: [").replace("port: 80}]}]", "port: 80, weight: -1}]}]");
    let items = Plane::with(&text).look(1);
    let route = of(&items, "HTTPRoute");
    assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["weight"], -1);
    let conditions = &route["status"]["parents"][0]["conditions"];
    assert_eq!(said(conditions)[0], "Accepted=False/UnsupportedValue@1");
    assert!(conditions[0]["message"].as_str().unwrap().contains("weight"), "{conditions}");
    let ancestors = &of(&items, "RateLimitPolicy")["status"]["ancestors"];
    assert_eq!(said(&ancestors[1]["conditions"])[0], "Accepted=False/Invalid@7");
}

const TLS: &str = "\
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca, namespace: shop}
data: {ca.crt: \"-----BEGIN CERTIFICATE-----\\nMAIwAA==\\n-----END CERTIFICATE-----\"}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: cart}]
  validation: {hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}
";

#[test]
fn a_backend_tls_policy_shows_each_gateway_that_calls_its_target() {
    let mut plane = Plane::with(&(MESH.to_owned() + TLS));
    plane.connect();
    let items = plane.look(1);
    let status = &of(&items, "BackendTLSPolicy")["status"];
    assert_eq!(status.get("programmed"), None, "its CRD is not ours, and has no such field");
    let ancestors = status["ancestors"].as_array().unwrap();
    let group = "gateway.networking.k8s.io";
    let expected = json!({"group": group, "kind": "Gateway", "name": "edge", "namespace": "shop"});
    assert_eq!((ancestors.len(), &ancestors[0]["ancestorRef"]), (1, &expected));
    let fine =
        ["Accepted=True/Accepted@1", "ResolvedRefs=True/ResolvedRefs@1", "Programmed=True/Programmed@1"];
    assert_eq!(said(&ancestors[0]["conditions"]), fine);
}

#[test]
fn what_a_secret_holds_is_not_shown() {
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\n\
                  stringData: {tls.key: treasure}\ndata: {other: dHJlYXN1cmU=}\n";
    let items = Plane::with(&(MESH.to_owned() + secret)).look(1);
    let secret = of(&items, "Secret");
    assert_eq!(
        (&secret["stringData"], &secret["data"]),
        (&json!({"tls.key": "(hidden)"}), &json!({"other": "(hidden)"}))
    );
}

const SETS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more, namespace: shop}
spec:
  parentRef: {name: edge}
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: a.org}
  - {name: taken, port: 80, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: here, namespace: shop}
spec:
  parentRefs: [{kind: ListenerSet, name: more, sectionName: http}]
";

#[test]
fn a_listener_set_shows_its_own_listeners_and_counts_at_its_gateway() {
    let open = MESH.replace("  addresses:", "  allowedListeners: {namespaces: {from: Same}}\n  addresses:");
    let mut plane = Plane::with(&(open + SETS));
    plane.connect();
    let items = plane.look(1);
    assert_eq!(of(&items, "Gateway")["status"]["attachedListenerSets"], 1);
    let status = &of(&items, "ListenerSet")["status"];
    let fine = ["Accepted=True/ListenersNotValid@1", "Programmed=True/Programmed@1"];
    assert_eq!(said(&status["conditions"]), fine);
    let [http, taken] = status["listeners"].as_array().unwrap().as_slice() else { panic!("{status}") };
    assert_eq!((&http["name"], &http["attachedRoutes"]), (&json!("http"), &json!(1)));
    assert_eq!(said(&http["conditions"])[3], "Programmed=True/Programmed@1");
    let lost = [
        "Accepted=False/HostnameConflict@1",
        "Conflicted=True/HostnameConflict@1",
        "ResolvedRefs=True/ResolvedRefs@1",
        "Programmed=False/HostnameConflict@1",
    ];
    assert_eq!(said(&taken["conditions"]), lost);
    let route = items.iter().find(|item| item["metadata"]["name"] == "here").unwrap();
    let parents = route["status"]["parents"].as_array().unwrap();
    let group = "gateway.networking.k8s.io";
    let expected = json!({"group": group, "kind": "ListenerSet", "name": "more", "sectionName": "http"});
    assert_eq!((parents.len(), &parents[0]["parentRef"]), (1, &expected));
}

#[test]
fn a_listener_set_that_is_not_allowed_says_so_and_is_not_counted() {
    let items = Plane::with(&(MESH.to_owned() + SETS)).look(1);
    assert_eq!(of(&items, "Gateway")["status"]["attachedListenerSets"], 0);
    let status = &of(&items, "ListenerSet")["status"];
    let refused = ["Accepted=False/NotAllowed@1", "Programmed=False/NotAllowed@1"];
    assert_eq!(said(&status["conditions"]), refused);
    assert_eq!(said(&status["listeners"][0]["conditions"])[0], "Accepted=False/NotAllowed@1");
    let other = MESH.replace("gatewayClassName: tidegate", "gatewayClassName: other") + SETS;
    let items = Plane::with(&other).look(1);
    let waiting = ["Accepted=Unknown/Pending@1", "Programmed=Unknown/Pending@1"];
    assert_eq!(said(&of(&items, "ListenerSet")["status"]["conditions"]), waiting);
}

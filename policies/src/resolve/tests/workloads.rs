//! What a pod serves, and where a pod's own sidecar makes an endpoint one of the mesh.

use super::*;
use crate::model::{BackendName, MeshPeer};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}, {name: admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: canary, namespace: shop}
spec: {selector: {app: cart, track: canary}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: other}
spec: {selector: {app: cart}, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: admin, port: 9000}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: a}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: b}}
- {addresses: [10.0.0.3]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, namespace: shop, labels: {kubernetes.io/service-name: by-hand}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: a, namespace: shop}}]
---
";
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata:
  {name: a, namespace: shop, labels: {app: cart, track: canary}, annotations: {tidegate.io/mesh-ports: '8080, 9090'}}
spec: {serviceAccountName: cart, containers: [{name: app}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: cart}}
---
apiVersion: v1
kind: Pod
metadata: {name: idle, namespace: shop, labels: {app: nobody}}
---
";

fn shop(more: &str) -> Resolved {
    let parsed = parse(&Arc::from("shop.yaml"), &(SHOP.to_owned() + PODS + more));
    assert_eq!(parsed.diagnostics, []);
    resolve(&parsed.objects)
}

fn served(resolved: &Resolved, pod: &str) -> Vec<String> {
    let workload = &resolved.resources.workloads[&ResourceName::new("shop", pod)];
    workload.services.iter().map(ToString::to_string).collect()
}

/// Of each endpoint of a Service's port: its address, and whose identity it must have.
fn peers(resolved: &Resolved, port: u16) -> Vec<(String, Option<MeshPeer>)> {
    let wanted = |backend: &&BackendName| backend.to_string() == format!("shop/cart:{port}");
    let name = resolved.resources.endpoints.keys().find(wanted).unwrap();
    let endpoints = resolved.resources.endpoints[name].endpoints.iter();
    endpoints.map(|endpoint| (endpoint.address.to_string(), endpoint.mesh.clone())).collect()
}

#[test]
fn a_pod_serves_the_services_that_pick_it_and_those_whose_slices_name_it() {
    let resolved = shop("");
    assert_eq!(served(&resolved, "a"), ["shop/by-hand", "shop/canary", "shop/cart"]);
    assert_eq!(served(&resolved, "b"), ["shop/cart"], "and none of another namespace");
    assert_eq!(served(&resolved, "idle"), Vec::<String>::new());
}

#[test]
fn a_pod_with_a_sidecar_is_called_by_mtls_as_its_own_account_and_no_other_is() {
    let resolved = shop("");
    let account = |name: &str| Some(MeshPeer { service_accounts: vec![ResourceName::new("shop", name)] });
    let at = |port: u16, peers: [Option<MeshPeer>; 3]| {
        let named = (1..).map(|i| format!("10.0.0.{i}:{port}"));
        named.zip(peers).collect::<Vec<_>>()
    };
    assert_eq!(peers(&resolved, 80), at(8080, [account("cart"), None, None]));
    assert_eq!(
        peers(&resolved, 81),
        at(9000, [None, None, None]),
        "a port that does not lead to the sidecar"
    );
}

#[test]
fn what_is_written_at_a_service_wins_over_what_its_pods_say() {
    let written = |mtls: &str| {
        SHOP.replacen(
            "{name: cart, namespace: shop}",
            &format!("{{name: cart, namespace: shop, annotations: {{tidegate.io/mtls: {mtls}}}}}"),
            1,
        )
    };
    let of = |text: String| {
        let parsed = parse(&Arc::from("shop.yaml"), &(text + PODS));
        let all = peers(&resolve(&parsed.objects), 80);
        all.into_iter().map(|(_, peer)| peer.map(|peer| peer.service_accounts.len())).collect::<Vec<_>>()
    };
    assert_eq!(of(written("enabled")), [Some(0), Some(0), Some(0)]);
    assert_eq!(of(written("disabled")), [None, None, None]);
}

#[test]
fn a_pod_that_leaves_the_mesh_or_is_not_known_is_called_as_it_is() {
    let parsed = parse(&Arc::from("shop.yaml"), SHOP);
    assert!(peers(&resolve(&parsed.objects), 80).iter().all(|(_, peer)| peer.is_none()));
    assert_eq!(served(&resolve(&parsed.objects), "a"), ["shop/by-hand", "shop/cart"], "slices name it");
}

#[test]
fn ports_of_the_mesh_are_ports() {
    let wrong = PODS.replace("8080, 9090", "8080, http");
    let parsed = parse(&Arc::from("shop.yaml"), &wrong);
    let told: Vec<_> = parsed.diagnostics.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("tidegate.io/mesh-ports: `http` is no port"), "{told:?}");
}

#[test]
fn gateways_with_proxies_of_their_own_may_have_the_same_port() {
    let gateway = |name: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
             gatewayClassName: tidegate\n  listeners: [{{name: http, port: 80, protocol: HTTP}}]\n---\n"
        )
    };
    let parsed = parse(&Arc::from("shop.yaml"), &(gateway("a") + &gateway("b")));
    let served = |apart| {
        let controller = Controller { apart, ..Controller::default() };
        resolve_for(&controller, &parsed.objects).resources.listeners.len()
    };
    assert_eq!((served(false), served(true)), (1, 2));
}

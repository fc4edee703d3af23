use std::sync::Arc;

use tidegate_policy::document::{ObjectKey, parse};
use tidegate_policy::model::{
    Address, BackendKind, BackendName, Endpoint, Endpoints, ResourceName, Resources,
};
use tidegate_policy::resolve::resolve;

use super::{Guests, Published, Role, publish};
use crate::grpc::TYPES;

const MESH: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: outside}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: shop, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: inside}
spec:
  parentRefs: [{group: '', kind: Service, name: shop}]
  rules: [{backendRefs: [{name: shop, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{port: 3000}]
";

fn limit(name: &str, targets: &str) -> String {
    format!(
        "---\napiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: {name}}}\nspec: {{targetRefs: \
         [{targets}], limits: [{{name: all, requests: 1, per: 1s}}]}}\n"
    )
}

fn resources(text: &str) -> Resources {
    let parsed = parse(&Arc::from("mesh.yaml"), text);
    assert_eq!(parsed.diagnostics, []);
    resolve(&parsed.objects).resources
}

/// The names that a role is told, by the last part of the type URL.
fn told(published: &Published, role: Role) -> Vec<String> {
    let set = published.of(role);
    let short = |url: &str| url.rsplit('.').next().unwrap().to_owned();
    let of_type = |url| set.set.of_type(url).map(move |(name, _)| format!("{} {name}", short(url)));
    TYPES.iter().copied().flat_map(of_type).collect()
}

#[test]
fn a_gateway_and_a_sidecar_are_each_told_what_they_can_use() {
    let text = MESH.to_owned()
        + &limit("on-gateway", "{kind: Gateway, name: edge}")
        + &limit("on-both", "{kind: Gateway, name: edge}, {kind: Service, name: shop}")
        + &limit("on-inside", "{kind: HTTPRoute, name: inside}");
    let published = publish(&resources(&text), Guests::default(), &Published::default());
    let common =
        ["Backend default/shop:80", "Endpoints default/shop:80", "Policy RateLimitPolicy/default/on-both"];
    let gateway = told(&published, Role::Gateway);
    let sidecar = told(&published, Role::Sidecar);
    assert!(common.iter().all(|name| gateway.contains(&name.to_string())), "{gateway:?}");
    assert!(common.iter().all(|name| sidecar.contains(&name.to_string())), "{sidecar:?}");
    let only =
        |a: &[String], b: &[String]| a.iter().filter(|name| !b.contains(name)).cloned().collect::<Vec<_>>();
    assert_eq!(
        only(&gateway, &sidecar),
        ["Policy RateLimitPolicy/default/on-gateway", "Listener default/edge/http", "Route default/outside"]
    );
    assert_eq!(
        only(&sidecar, &gateway),
        ["Policy RateLimitPolicy/default/on-inside", "Route default/inside"]
    );
}

#[test]
fn a_policy_that_a_route_names_goes_where_the_route_goes() {
    let (outside, inside) = MESH.split_once("metadata: {name: inside}").unwrap();
    let named = "filters: [{type: ExtensionRef, extensionRef: {group: tidegate.io, kind: RateLimitPolicy, name: named}}]";
    let inside = inside.replacen("rules: [{", &format!("rules: [{{{named}, "), 1);
    let text =
        format!("{outside}metadata: {{name: inside}}{inside}") + &limit("named", "") + &limit("unnamed", "");
    let published = publish(&resources(&text), Guests::default(), &Published::default());
    let policies = |role| {
        let all = told(&published, role).into_iter();
        all.filter(|name| name.starts_with("Policy ")).collect::<Vec<_>>()
    };
    assert_eq!(policies(Role::Sidecar), ["Policy RateLimitPolicy/default/named"]);
    assert_eq!(policies(Role::Gateway), Vec::<String>::new());
}

#[test]
fn what_did_not_change_keeps_its_version_and_its_memory() {
    let before = publish(&resources(MESH), Guests::default(), &Published::default());
    let again = publish(&resources(MESH), Guests::default(), &Published::default());
    let after = publish(&resources(&MESH.replace("port: 3000", "port: 3001")), Guests::default(), &before);
    assert!(!again.differs(&before) && after.differs(&before));
    let of = |published: &Published, url: &str| {
        published.of(Role::Sidecar).set.get(url, "default/shop:80").cloned()
    };
    let (backend, endpoints) = (TYPES[0], TYPES[1]);
    assert!(Arc::ptr_eq(&of(&before, backend).unwrap(), &of(&after, backend).unwrap()));
    let versions =
        [of(&before, endpoints).unwrap().version.clone(), of(&after, endpoints).unwrap().version.clone()];
    assert_ne!(versions[0], versions[1]);
    assert!(versions[0].len() == 16 && versions[0].bytes().all(|b| b.is_ascii_hexdigit()), "{versions:?}");
}

#[test]
fn every_resource_is_traced_back_to_its_object() {
    let published = publish(&resources(MESH), Guests::default(), &Published::default());
    let derived = |kind: &str, name: &str| {
        let key = ObjectKey { kind: kind.into(), namespace: "default".into(), name: name.into() };
        published.of(Role::Gateway).derived(&key).iter().map(|id| id.1.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(derived("Gateway", "edge"), ["default/edge/http"]);
    assert_eq!(derived("HTTPRoute", "outside"), ["default/outside"]);
    assert_eq!(derived("Service", "shop"), ["default/shop:80", "default/shop:80"]);
    assert!(derived("HTTPRoute", "inside").is_empty());
}

#[test]
fn what_no_message_can_carry_is_told_and_the_last_version_stays() {
    let name =
        BackendName { kind: BackendKind::Service, object: ResourceName::new("default", "shop"), port: 80 };
    let before = publish(&resources(MESH), Guests::default(), &Published::default());
    let mut huge = resources(MESH);
    let endpoint = |i: u32| {
        let host = format!("{i:0>240}.example").into();
        Endpoint::at(Address::Name { host, port: 1 })
    };
    let endpoints = (0..70_000).map(endpoint).collect();
    huge.endpoints.insert(name.clone(), Endpoints { backend: name, endpoints });
    let after = publish(&huge, Guests::default(), &before);
    assert!(!after.differs(&before));
    assert_eq!(after.too_large.len(), 1);
    assert_eq!(after.too_large[0].0.to_string(), "Service default/shop");
}

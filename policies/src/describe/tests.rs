use std::sync::Arc;

use super::*;
use crate::document;
use crate::story::World;

const MESH: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - name: cart
    backendRefs: [{name: cart, port: 80, weight: 9}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: zz-mesh, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: cart, port: 80}]
  rules:
  - name: all
    backendRefs: [{name: cart, port: 80}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: of-namespace, namespace: shop}
spec:
  targetRefs: [{kind: Namespace, name: shop}]
  limits: [{name: all, requests: 5, per: 1s}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: of-route, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}]
  limits: [{name: everyone, requests: 3, per: 1s}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: of-service, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  limits: [{name: everyone, requests: 3, per: 1s}]
---
apiVersion: tidegate.io/v1alpha1
kind: TimeoutPolicy
metadata: {name: patience, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  perTry: 2s
";

fn resources() -> Resources {
    let parsed = document::parse(&Arc::from("mesh.yaml"), MESH);
    assert_eq!(parsed.diagnostics, [], "the mesh is valid");
    World::resolve([&parsed]).resources
}

fn policies(held: &[Held]) -> Vec<&str> {
    held.iter().map(|one| &*one.policy).collect()
}

#[test]
fn a_service_says_where_it_is_met_and_what_holds_at_each_place() {
    let found = describe(&resources(), Subject::Service, "cart").unwrap();
    assert_eq!((&*found.kind, &*found.name), ("service", "shop/cart"));
    assert_eq!(policies(&found.attached), ["shop/of-service", "shop/patience"]);
    let [served, at_gateway, caller] = &found.places[..] else { panic!("{:#?}", found.places) };
    // The default of the namespace gives way where it is served; who calls minds the timeout.
    assert_eq!(
        (policies(&served.effective), policies(&served.overridden)),
        (vec!["shop/of-service"], vec!["shop/of-namespace"])
    );
    assert!(
        at_gateway.place.starts_with("at shop/edge/http, by HTTPRoute shop/web cart"),
        "{}",
        at_gateway.place
    );
    assert_eq!(policies(&at_gateway.effective), ["shop/of-service", "shop/patience"]);
    assert_eq!(policies(&at_gateway.overridden), ["shop/of-namespace", "shop/of-route"]);
    assert_eq!(at_gateway.leads_to, ["shop/cart:80, weight 9"]);
    assert!(caller.place.starts_with("in the sidecars of who calls Service shop/cart"));
    assert_eq!(policies(&caller.effective), ["shop/patience"]);
}

#[test]
fn a_route_and_a_gateway_say_what_holds_for_their_rules_and_listeners() {
    let route = describe(&resources(), Subject::Route, "shop/web").unwrap();
    assert_eq!(policies(&route.attached), ["shop/of-route"]);
    assert_eq!(route.places[0].leads_to.len(), 1);
    let gateway = describe(&resources(), Subject::Gateway, "edge").unwrap();
    let [listener] = &gateway.places[..] else { panic!("{gateway:?}") };
    assert_eq!(policies(&listener.effective), ["shop/of-namespace"]);
    assert!(listener.leads_to[0].starts_with("HTTPRoute shop/web (mesh.yaml:"), "{:?}", listener.leads_to);
    let text = gateway.to_string();
    assert!(
        text.contains("No policy names it") && text.contains("  holds: RateLimitPolicy shop/of-namespace"),
        "{text}"
    );
}

#[test]
fn what_is_not_there_says_what_is() {
    let unknown = describe(&resources(), Subject::Service, "card").unwrap_err().to_string();
    assert_eq!(unknown, "there is no service card; there is shop/cart");
    assert!("pod".parse::<Subject>().is_err());
    assert_eq!("Gateway".parse(), Ok(Subject::Gateway));
}

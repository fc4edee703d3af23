//! Whole replays; what they are made of is tested beside it.

mod logs;
mod parts;
mod profiles;
mod replays;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::decision::CallResult;
use crate::document;
use crate::story::Answer;
use crate::time::Timestamp;

pub(super) const SHOP: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tidegate}
spec: {controllerName: tidegate.io/gateway-controller}
---
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
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 9001}]
endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example]
  rules: [{name: all, backendRefs: [{name: cart, port: 80}]}]
---
";

/// A policy for the route.
pub(super) fn policy(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\n\
         spec:\n  targetRefs: [{{kind: HTTPRoute, name: cart}}]\n{spec}\n"
    )
}

pub(super) fn plan(policies: &str) -> Plan {
    let parsed = document::parse(&Arc::from("shop.yaml"), &format!("{SHOP}{policies}"));
    assert!(parsed.failed.is_empty(), "{:?}", parsed.diagnostics);
    Plan::new([&parsed], Side::Gateway).unwrap()
}

pub(super) fn request(millis: u64, path: &str, user: &str) -> Request {
    let mut request = Request { at: Timestamp::from_millis(1_000_000 + millis), ..Request::default() };
    assert!(request.set_target(path) && request.set_host("shop.example"));
    request.head.headers.insert("x-user", user.parse().unwrap());
    request.peer.address = "10.0.0.7:4000".parse().unwrap();
    request.logged = answered(200, 0);
    request
}

pub(super) fn answered(status: u16, millis: u64) -> Logged {
    let (result, latency) = (CallResult::Status(status), Duration::from_millis(millis));
    Logged { status: Some(status), answer: Some(Answer { result, latency }) }
}

pub(super) fn replay(plan: &Plan, requests: impl IntoIterator<Item = Request>) -> Simulator<'_> {
    let mut simulator = Simulator::new(plan, Answers::default(), 7);
    requests.into_iter().for_each(|mut request| simulator.push(&mut request));
    simulator.finish();
    simulator
}

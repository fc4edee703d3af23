//! One policy's way: documents -> resources -> wire -> snapshot -> verdict, with the functions that the control plane
//! and the proxy call.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, request};
use tidegate_policy::model::{AppProtocol, Peer, ResourceType, Resources};
use tidegate_policy::pipeline::{Progress, RequestContext, on_request};
use tidegate_policy::snapshot::{Local, Scope, Selected, Snapshot};
use tidegate_policy::state::StateStore;
use tidegate_policy::{Decisions, Outcome, Reason, Timestamp, codec, document, resolve};

const DOCUMENTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: checkout-1, namespace: shop, labels: {kubernetes.io/service-name: checkout}}
addressType: IPv4
ports: [{name: http, port: 9001}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: checkout, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: checkout, port: 80}]
  rules:
  - name: canary
    matches: [{headers: [{name: x-canary, value: '1'}]}]
    backendRefs: [{name: checkout-v2, port: 80}]
  - name: all
    backendRefs: [{name: checkout, port: 80}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: strict, namespace: shop}
spec:
  targetRefs: [{kind: HTTPRoute, name: checkout, sectionName: all}]
  limits:
  - {name: everyone, requests: 1, per: 1h}
";

/// What a proxy has after the control plane has read `text` and sent everything over the wire.
fn received(text: &str) -> Resources {
    let parsed = document::parse(&Arc::from("shop.yaml"), text);
    assert!(parsed.failed.is_empty(), "{:?}", parsed.diagnostics);
    let resolved = resolve::resolve(&parsed.objects);
    let mut received = Resources::default();
    for resource in resolved.resources.iter() {
        let (url, name, bytes) = codec::encode(&resource);
        let kind = ResourceType::from_type_url(url).expect("an URL of our own");
        received.insert(codec::decode(kind, &name, &bytes).expect("what was encoded"));
    }
    assert_eq!(received, resolved.resources);
    received
}

fn head(canary: bool) -> request::Parts {
    let mut builder = http::Request::builder().uri("/pay").header("host", "checkout");
    if canary {
        builder = builder.header("x-canary", "1");
    }
    builder.body(()).expect("a request").into_parts().0
}

fn caller(text: &str, state: &StateStore) -> Snapshot {
    let app = Some(("127.0.0.1:3000".parse().expect("an address"), AppProtocol::Http1));
    let local = Local { app, namespace: "shop".into(), ..Local::default() };
    let (snapshot, rejected) = Snapshot::build(&received(text), &local, state);
    assert_eq!(rejected, []);
    snapshot
}

fn send(snapshot: &Snapshot, canary: bool) -> (Selected, Decisions) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut head = head(canary);
    let selected = snapshot.route(Scope::Outbound, &head, &mut rng).expect("a rule");
    let peer = Peer { address: "127.0.0.1:5".parse().expect("an address"), identity: None };
    let mut decisions = Decisions::new();
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer,
        route: selected.rule.route.as_deref(),
        now: Timestamp::from_millis(1),
        unix: &|| Duration::ZERO,
        rng: &mut rng,
        decisions: &mut decisions,
        response_headers: &mut HeaderMap::new(),
        claims: &mut None,
        held: &mut Vec::new(),
    };
    let _ = on_request(&selected.target().filters, &mut cx, &mut Progress::default());
    (selected, decisions)
}

#[test]
fn a_limit_refuses_the_second_request_and_names_the_line_it_was_written_on() {
    let snapshot = caller(DOCUMENTS, &StateStore::new([0, 0]));
    assert_eq!(send(&snapshot, false).1[0].outcome, Outcome::Allowed);
    let (selected, decisions) = send(&snapshot, false);
    assert_eq!(&*selected.rule.name, "all");
    assert_eq!(selected.rule.source.as_ref().map(ToString::to_string).as_deref(), Some("shop.yaml:23"));
    assert_eq!(decisions[0].outcome, Outcome::Refused(Reason::RateLimited));
    assert_eq!(decisions[0].policy.name.to_string(), "shop/strict");
    assert_eq!(decisions[0].rule.source.to_string(), "shop.yaml:32");
}

#[test]
fn a_dangling_backend_fails_its_own_requests_and_nobody_elses() {
    let snapshot = caller(DOCUMENTS, &StateStore::new([0, 0]));
    let (canary, decisions) = send(&snapshot, true);
    assert!(decisions.is_empty(), "the limit is on the other rule");
    assert_eq!(canary.target().backend.as_ref().err(), Some(&Reason::InvalidBackend));
    let (stable, _) = send(&snapshot, false);
    assert_eq!(stable.target().backend.as_ref().map(|backend| backend.endpoints.len()).ok(), Some(1));
}

#[test]
fn an_edit_elsewhere_in_the_file_does_not_refill_the_limit() {
    let state = StateStore::new([0, 0]);
    send(&caller(DOCUMENTS, &state), false);
    let edited =
        DOCUMENTS.replace("x-canary, value: '1'", "x-canary, value: 'beta'").replace("\n---", "\n\n---");
    let snapshot = caller(&edited, &state);
    assert_eq!(send(&snapshot, false).1[0].outcome, Outcome::Refused(Reason::RateLimited));
}

#[test]
fn shadow_tells_what_it_would_have_refused() {
    let shadow = DOCUMENTS.replace("  limits:", "  mode: Shadow\n  limits:");
    let snapshot = caller(&shadow, &StateStore::new([0, 0]));
    send(&snapshot, false);
    assert_eq!(send(&snapshot, false).1[0].outcome, Outcome::WouldRefuse(Reason::RateLimited));
}

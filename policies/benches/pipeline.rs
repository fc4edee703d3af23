//! What the policies of one request cost: the match, header filters, a keyed limit and the breakers' leave to call.
//!
//! `cargo bench -p tidegate-policy --bench pipeline`
#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, request};
use tidegate_policy::balance::Wish;
use tidegate_policy::call::admit;
use tidegate_policy::model::Peer;
use tidegate_policy::pipeline::{Progress, RequestContext, on_request};
use tidegate_policy::snapshot::{Local, Scope, Snapshot};
use tidegate_policy::state::StateStore;
use tidegate_policy::{Decisions, Timestamp, document, resolve};

/// A route as a shop would have it. The limit and the caps are never reached.
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
endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}, {addresses: [127.0.0.3]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: checkout, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: checkout, port: 80}]
  rules:
  - name: all
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: x-tenant, value: shop}]
        add: [{name: x-seen-by, value: mesh}]
        remove: [x-debug]
    backendRefs: [{name: checkout, port: 80}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: per-user, namespace: shop}
spec:
  targetRefs: [{kind: HTTPRoute, name: checkout}]
  limits:
  - {name: each, requests: 1000000, per: 1s, key: [{type: Header, name: x-user}]}
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {name: breaker, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: checkout}]
  caps: [{scope: Backend, connections: 64, pending: 16, requests: 128}]
  breakers:
  - {name: errors, scope: Endpoint, consecutiveFailures: 5, open: 5s, probes: 3}
";

/// The filters do not run in the mesh's outbound side where the service is served elsewhere; a route's do.
fn snapshot(state: &StateStore) -> Snapshot {
    let parsed = document::parse(&Arc::from("shop.yaml"), DOCUMENTS);
    assert!(parsed.failed.is_empty(), "{:?}", parsed.diagnostics);
    let local = Local { namespace: "shop".into(), ..Local::default() };
    let (snapshot, rejected) = Snapshot::build(&resolve::resolve(&parsed.objects).resources, &local, state);
    assert!(rejected.is_empty(), "{rejected:?}");
    snapshot
}

fn head(user: u64) -> request::Parts {
    let builder = http::Request::get("/cart/7?page=2").header("host", "checkout").header("accept", "*/*");
    let builder = builder.header("x-user", format!("user-{user}")).header("x-debug", "1");
    builder.body(()).unwrap().into_parts().0
}

fn whole(criterion: &mut Criterion) {
    let state = StateStore::new([1, 2]);
    let snapshot = snapshot(&state);
    let peer = Peer { address: "127.0.0.1:5".parse().unwrap(), identity: None };
    let mut rng = fastrand::Rng::with_seed(7);
    let heads: Vec<_> = (0..1_000).map(head).collect();
    let mut turn = 0;
    let mut policies = move || {
        turn += 1;
        let now = Timestamp::from_millis(1_000 + turn / 1_000);
        let mut head = heads[turn as usize % heads.len()].clone();
        let selected = snapshot.route(Scope::Outbound, &head, &mut rng).unwrap();
        let (mut decisions, mut response_headers) = (Decisions::new(), HeaderMap::new());
        let mut cx = RequestContext {
            head: &mut head,
            peer: &peer,
            route: selected.rule.route.as_deref(),
            now,
            unix: &|| Duration::ZERO,
            rng: &mut rng,
            decisions: &mut decisions,
            response_headers: &mut response_headers,
            claims: &mut None,
            held: &mut Vec::new(),
        };
        let passed = on_request(&selected.target().filters, &mut cx, &mut Progress::default());
        assert!(passed.is_ok(), "{decisions:?}");
        let target = selected.target();
        let backend = target.backend.as_ref().unwrap();
        let attempt = admit(target, backend, Wish::default(), now, &mut rng, &mut decisions).unwrap();
        assert_eq!(head.headers["x-tenant"], "shop");
        (attempt, decisions)
    };
    criterion.bench_function("all policies of a request", |bencher| bencher.iter(|| black_box(policies())));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = whole
}
criterion_main!(benches);

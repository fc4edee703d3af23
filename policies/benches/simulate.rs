//! What a request of a replay costs: 50 routes, 20 policies, many requests under way, and two sets beside each other.
//!
//! `cargo bench -p tidegate-policy --bench simulate`
#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate_policy::Timestamp;
use tidegate_policy::decision::CallResult;
use tidegate_policy::document;
use tidegate_policy::simulate::{Answers, Comparison, Logged, Plan, Request, Side, Simulator};
use tidegate_policy::story::Answer;

const ROUTES: usize = 50;
const REQUESTS: u64 = 20_000;

/// A shop with as many services; two policies of five kinds for every fifth route, and for the Gateway.
fn documents() -> String {
    let mut out = String::from(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: tidegate, listeners: [{name: http, port: 80, protocol: HTTP}]}
",
    );
    for n in 0..ROUTES {
        let _ = write!(
            out,
            "---
apiVersion: v1
kind: Service
metadata: {{name: s{n}, namespace: shop}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{n}, namespace: shop, labels: {{kubernetes.io/service-name: s{n}}}}}
addressType: IPv4
ports: [{{name: http, port: 9001}}]
endpoints: [{{addresses: [10.0.{n}.1]}}, {{addresses: [10.0.{n}.2]}}, {{addresses: [10.0.{n}.3]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: s{n}, namespace: shop}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [shop.example]
  rules: [{{name: all, matches: [{{path: {{type: PathPrefix, value: /s{n}}}}}], backendRefs: [{{name: s{n}, port: 80}}]}}]
"
        );
    }
    let kinds = [
        (
            "RateLimitPolicy",
            "limits: [{name: each, requests: 50, per: 1s, key: [{type: Header, name: x-user}]}]",
        ),
        (
            "CircuitBreakerPolicy",
            "breakers: [{name: errors, scope: Endpoint, consecutiveFailures: 50, open: 1s}]",
        ),
        ("RetryPolicy", "{attempts: 2, retryOn: {statuses: [503]}}"),
        ("TimeoutPolicy", "{request: 5s}"),
    ];
    for (kind, spec) in kinds {
        for n in (0..ROUTES).step_by(10) {
            let target = format!("targetRefs: [{{kind: HTTPRoute, name: s{n}}}]");
            let spec = spec.strip_prefix('{').and_then(|spec| spec.strip_suffix('}')).unwrap_or(spec);
            let _ = write!(
                out,
                "---
apiVersion: tidegate.io/v1alpha1
kind: {kind}
metadata: {{name: p{n}, namespace: shop}}
spec: {{{target}, {spec}}}
"
            );
        }
    }
    out
}

fn plan() -> Plan {
    let parsed = document::parse(&Arc::from("shop.yaml"), &documents());
    assert!(parsed.failed.is_empty(), "{:?}", parsed.diagnostics);
    Plan::new([&parsed], Side::Gateway).unwrap()
}

/// 10 000 a second, each under way for 20 ms; one in a hundred fails. Each `run` is later than the one before, for the
/// plan remembers what was spent.
fn request(run: u64, n: u64) -> Request {
    let at = Duration::from_secs(1_767_225_600 + run * 60) + Duration::from_micros(n * 100);
    let mut request = Request { at: Timestamp::from(at), ..Request::default() };
    // Routes with policies are as frequent as others.
    assert!(request.set_target(&format!("/s{}/item/{}", n * 7 % 50, n % 1000)));
    assert!(request.set_host("shop.example"));
    request.head.headers.insert("x-user", format!("user-{}", n * n % 997).parse().unwrap());
    request.head.headers.insert("user-agent", "bench".parse().unwrap());
    let status = if n % 100 == 99 { 503 } else { 200 };
    let answer = Answer { result: CallResult::Status(status), latency: Duration::from_millis(20) };
    request.logged = Logged { status: Some(status), answer: Some(answer) };
    request
}

fn replay(criterion: &mut Criterion) {
    let plan = plan();
    let other = self::plan();
    let runs = Cell::new(0);
    let requests = || {
        runs.set(runs.get() + 1);
        (0..REQUESTS).map(|n| request(runs.get(), n)).collect::<Vec<_>>()
    };
    let mut group = criterion.benchmark_group("simulate");
    group.throughput(Throughput::Elements(REQUESTS));
    group.bench_function("50 routes, 20 policies", |bencher| {
        let run = |mut requests: Vec<Request>| {
            let mut simulator = Simulator::new(&plan, Answers::default(), 7);
            requests.iter_mut().for_each(|request| simulator.push(request));
            simulator.finish();
            (simulator.into_tally(), requests)
        };
        bencher.iter_batched(requests, run, BatchSize::LargeInput);
    });
    group.bench_function("the same, against another set", |bencher| {
        let run = |mut requests: Vec<Request>| {
            let mut comparison = Comparison::new((&plan, &other), Answers::default, 7);
            requests.iter_mut().for_each(|request| comparison.push(request));
            comparison.finish();
            (comparison.changed(), requests)
        };
        bencher.iter_batched(requests, run, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = replay
}
criterion_main!(benches);

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
use tidegate_policy::simulate::log::{Format, Line, Reader};
use tidegate_policy::simulate::{Answers, Comparison, Logged, Plan, Reorder, Request, Side, Simulator};
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

/// The same requests as [`request`], as Envoy's users log them.
fn line(run: u64, n: u64) -> Vec<u8> {
    let (second, micros) = (run * 60 + n / 10_000, n % 10_000 * 100);
    let (minute, hour) = (second / 60 % 60, second / 3600 % 24);
    let status = if n % 100 == 99 { 503 } else { 200 };
    format!(
        r#"{{"start_time": "2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z", "method": "GET", "path": "/s{s}/item/{item}", "authority": "shop.example", "response_code": {status}, "duration": 20, "x-user": "user-{user}"}}"#,
        day = 1 + second / 86_400,
        second = second % 60,
        s = n * 7 % 50,
        item = n % 1000,
        user = n * n % 997,
    )
    .into_bytes()
}

/// From lines of a log to the end, as the command does it.
fn read(criterion: &mut Criterion) {
    let plan = plan();
    let runs = Cell::new(0);
    let lines = || {
        runs.set(runs.get() + 1);
        (0..REQUESTS).map(|n| line(runs.get(), n)).collect::<Vec<_>>()
    };
    let reader = || Reader::new(Format::Envoy, "shop.example".parse().unwrap(), "", 7);
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(REQUESTS));
    group.bench_function("read", |bencher| {
        let run = |lines: Vec<Vec<u8>>| {
            let (mut reader, mut request) = (reader(), Request::default());
            assert!(lines.iter().all(|line| reader.read(line, &mut request) == Line::Request));
            lines
        };
        bencher.iter_batched(lines, run, BatchSize::LargeInput);
    });
    let (mut order, mut reader, mut request) = (Reorder::new(16_384), reader(), Request::default());
    let mut simulator = Simulator::new(&plan, Answers::default(), 7);
    group.bench_function("read, put in order and replay", |bencher| {
        let run = |lines: Vec<Vec<u8>>| {
            for line in &lines {
                assert!(reader.read(line, &mut request) == Line::Request);
                order.push(&mut request);
                while let Some(request) = order.pop(false) {
                    simulator.push(request);
                }
            }
            lines
        };
        bencher.iter_batched(lines, run, BatchSize::LargeInput);
    });
    group.finish();
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
    targets = replay, read
}
criterion_main!(benches);

//! What a decision costs under circuit breakers: ten and a thousand endpoints, each with breakers of its own.
//!
//! `cargo bench -p tidegate-policy --bench breakers`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use tidegate_policy::Timestamp;
use tidegate_policy::balance::Wish;
use tidegate_policy::call::admit;
use tidegate_policy::decision::{CallOutcome, CallResult, Decisions};
use tidegate_policy::document::from_value;
use tidegate_policy::resolve::resolve;
use tidegate_policy::snapshot::{Local, Scope, Snapshot};
use tidegate_policy::state::StateStore;

/// A proxy whose only backend has that policy, and health checks if so wanted.
fn proxy((spec, checked): (&Value, bool), endpoints: u16) -> (Snapshot, StateStore) {
    let endpoints: Vec<_> =
        (1..=endpoints).map(|port| json!({"address": "127.0.0.1", "port": port})).collect();
    let backend = json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "Backend",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"port": 80, "endpoints": endpoints},
    });
    let mut spec = spec.clone();
    let mut checks = json!({"checks": [{"name": "up", "tcp": {}}]});
    for spec in [&mut spec, &mut checks] {
        spec["targetRefs"] = json!([{"group": "tidegate.io", "kind": "Backend", "name": "cart"}]);
    }
    let policy = |kind: &str, spec: &Value| {
        let metadata = json!({"name": "b", "namespace": "shop"});
        json!({"apiVersion": "tidegate.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
    };
    let mut documents = vec![backend, policy("CircuitBreakerPolicy", &spec)];
    documents.extend(checked.then(|| policy("HealthCheckPolicy", &checks)));
    let objects: Vec<_> =
        documents.iter().map(|document| from_value(document).expect("a valid document")).collect();
    let state = StateStore::new([1, 2]);
    let local = Local { namespace: "shop".into(), ..Local::default() };
    let (snapshot, rejected) = Snapshot::build(&resolve(objects.iter()).resources, &local, &state);
    assert!(rejected.is_empty(), "{rejected:?}");
    (snapshot, state)
}

fn decisions(criterion: &mut Criterion) {
    let consecutive = json!({"scope": "Endpoint", "consecutiveFailures": 5});
    let rates = json!({
        "scope": "Endpoint",
        "failureRate": {"percent": 50, "minimumCalls": 20, "window": "10s"},
        "slowCallRate": {"percent": 50, "slowerThan": "1s", "minimumCalls": 20, "calls": 100},
        "latency": {"factor": 3, "minimumCalls": 20, "window": "10s"},
    });
    let caps = json!([{"scope": "Backend", "requests": 100}, {"scope": "Endpoint", "requests": 50}]);
    let mut group = criterion.benchmark_group("breakers");
    let specs = [
        ("a breaker for each", json!({"breakers": [consecutive]}), false),
        ("health checks as well", json!({"breakers": [consecutive]}), true),
        ("all detectors and caps", json!({"breakers": [rates], "caps": caps}), false),
    ];
    let each = specs.iter().flat_map(|spec| [10, 1000].map(|endpoints| (endpoints, spec)));
    for (endpoints, (name, spec, checked)) in each {
        let (snapshot, _state) = proxy((spec, *checked), endpoints);
        let name = format!("{endpoints}, {name}");
        let head = http::Request::get("http://cart/").header("host", "cart").body(()).expect("a request");
        let mut rng = fastrand::Rng::with_seed(7);
        let selected = snapshot.route(Scope::Outbound, &head.into_parts().0, &mut rng).expect("a rule");
        let target = selected.target();
        let backend = target.backend.as_ref().expect("a backend");
        let (mut rng, mut decisions) = (fastrand::Rng::with_seed(7), Decisions::new());
        let mut now = 0;
        group.bench_function(format!("{name}: admit"), |bencher| {
            bencher.iter(|| {
                decisions.clear();
                let at = Timestamp::from_nanos(black_box(1));
                admit(target, backend, Wish::default(), at, &mut rng, &mut decisions)
            });
        });
        group.bench_function(format!("{name}: admit and record"), |bencher| {
            bencher.iter(|| {
                decisions.clear();
                now += 1_000;
                let at = Timestamp::from_nanos(now);
                let admitted = admit(target, backend, Wish::default(), at, &mut rng, &mut decisions);
                let outcome =
                    CallOutcome { result: CallResult::Status(200), latency: at.since(Timestamp::ZERO) };
                admitted.map(|mut attempt| attempt.record(outcome, at))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = decisions
}
criterion_main!(benches);

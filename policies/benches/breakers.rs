//! What a decision costs under circuit breakers: ten endpoints, each with breakers of its own.
//!
//! `cargo bench -p tidegate-policy --bench breakers`

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use tidegate_policy::Timestamp;
use tidegate_policy::balance::EndpointState;
use tidegate_policy::balance::p2c::Wish;
use tidegate_policy::call::admit;
use tidegate_policy::decision::{CallOutcome, CallResult, Decisions};
use tidegate_policy::health::CircuitGuard;
use tidegate_policy::kind::Compiled;
use tidegate_policy::model::{
    Address, AppProtocol, BackendKind, BackendName, Meta, Mode, Policy, ResourceName, SourceMap, SourceRef,
};
use tidegate_policy::snapshot::{BackendState, Target};
use tidegate_policy::state::StateStore;

const ENDPOINTS: u16 = 10;

fn target(spec: Value) -> (Target, Arc<BackendState>) {
    let name = ResourceName::new("shop", "b");
    let policy = Policy {
        meta: Meta { source: SourceRef::Object { name: name.clone(), generation: 1 }, name, created: None },
        kind: "CircuitBreakerPolicy".into(),
        targets: Vec::new(),
        mode: Mode::Enforce,
        spec,
        lines: SourceMap::default(),
    };
    let kind = tidegate_policy::kinds::find("CircuitBreakerPolicy").expect("it is a kind");
    let Ok(Compiled::CircuitBreaker(circuit)) = kind.compile(&policy) else { panic!("not valid") };
    let object = ResourceName::new("shop", "cart");
    let name = BackendName { kind: BackendKind::Service, object, port: 80 };
    let address = |port| Address::Socket(([127, 0, 0, 1], port).into());
    let backend = Arc::new(BackendState {
        label: name.to_string().into(),
        name,
        protocol: AppProtocol::Http1,
        connect_timeout: None,
        proxy_protocol: None,
        tls: None,
        endpoints: (1..=ENDPOINTS).map(|port| Arc::new(EndpointState::new(address(port)))).collect(),
        retry_budget: Arc::default(),
    });
    let store = StateStore::new([1, 2]);
    let guard = CircuitGuard::bind(&circuit, (&backend.name, ""), &backend.endpoints, &store);
    let target = Target {
        backend: Ok(backend.clone()),
        weight: 1,
        filters: Box::default(),
        guard: Some(guard),
        mirrors: Box::default(),
        tls: None,
    };
    (target, backend)
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
    let mut group = criterion.benchmark_group("ten endpoints");
    for (name, spec) in [
        ("a breaker for each", json!({"breakers": [consecutive]})),
        ("all detectors and caps", json!({"breakers": [rates], "caps": caps})),
    ] {
        let (target, backend) = target(spec);
        let (mut rng, mut decisions) = (fastrand::Rng::with_seed(7), Decisions::new());
        let mut now = 0;
        group.bench_function(format!("{name}: admit"), |bencher| {
            bencher.iter(|| {
                decisions.clear();
                let at = Timestamp::from_nanos(black_box(1));
                admit(&target, &backend, Wish::default(), at, &mut rng, &mut decisions)
            });
        });
        group.bench_function(format!("{name}: admit and record"), |bencher| {
            bencher.iter(|| {
                decisions.clear();
                now += 1_000;
                let at = Timestamp::from_nanos(now);
                let admitted = admit(&target, &backend, Wish::default(), at, &mut rng, &mut decisions);
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

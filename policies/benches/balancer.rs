//! What it costs to pick an endpoint by two choices, among ten and among a thousand.
//!
//! `cargo bench -p tidegate-policy --bench balancer`

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidegate_policy::balance::EndpointState;
use tidegate_policy::balance::p2c::pick;
use tidegate_policy::model::Address;

fn endpoints(many: u16) -> Vec<Arc<EndpointState>> {
    let address = |port| Address::Socket(([127, 0, 0, 1], port).into());
    let endpoints: Vec<_> = (1..=many).map(|port| Arc::new(EndpointState::new(address(port)))).collect();
    for (i, endpoint) in endpoints.iter().enumerate() {
        endpoint.set_weight(1 + i as u32 % 3);
    }
    endpoints
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick of two");
    for many in [10, 1_000] {
        let endpoints = endpoints(many);
        let _busy: Vec<_> = endpoints.iter().step_by(7).map(EndpointState::start).collect();
        let mut rng = fastrand::Rng::with_seed(7);
        group.bench_function(BenchmarkId::new("all admitted", many), |bencher| {
            bencher.iter(|| pick(black_box(&endpoints), |_| true, &mut rng));
        });
        group.bench_function(BenchmarkId::new("half held back", many), |bencher| {
            bencher.iter(|| pick(black_box(&endpoints), |i| i % 2 == 0, &mut rng));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = picks
}
criterion_main!(benches);

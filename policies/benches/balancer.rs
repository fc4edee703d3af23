//! What it costs to choose an endpoint, among ten and among a thousand.
//!
//! `cargo bench -p tidegate-policy --bench balancer`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidegate_policy::Timestamp;
use tidegate_policy::balance::{
    Algorithm, Backing, Balancer, Choice, EndpointState, HashTable, Keyless, LoadBalancing, Sample, Wish,
};
use tidegate_policy::model::Address;
use tidegate_policy::state::StateStore;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn endpoints(many: u16) -> Vec<Arc<EndpointState>> {
    let address = |port| Address::Socket(([127, 0, 0, 1], port).into());
    let endpoints: Vec<_> = (1..=many).map(|port| Arc::new(EndpointState::new(address(port)))).collect();
    for (i, endpoint) in endpoints.iter().enumerate() {
        endpoint.set_weight(1 + i as u32 % 3);
        let sample = Sample { latency: Duration::from_micros(500 + (i as u64 * 37) % 1000), ok: true };
        endpoint.latency.record(sample, Duration::from_secs(10), NOW);
    }
    endpoints
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("choice");
    let algorithms = [
        Algorithm::PeakEwma,
        Algorithm::LeastRequest { choices: 2 },
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::Hash { table: HashTable::Ring { least: 4096, most: 262_144 }, keyless: Keyless::Random },
        Algorithm::Hash { table: HashTable::Maglev { size: 65_537 }, keyless: Keyless::Random },
    ];
    for algorithm in algorithms {
        for many in [10, 1_000] {
            let endpoints = endpoints(many);
            let _busy: Vec<_> = endpoints.iter().step_by(7).map(|endpoint| endpoint.start(NOW)).collect();
            let name = algorithm.as_str();
            let settings = Arc::new(LoadBalancing { algorithm: algorithm.clone(), ..LoadBalancing::new() });
            let backing = Backing { backend: "shop/cart:80", endpoints: &endpoints, ..Backing::default() };
            let balancer = Balancer::bind(&settings, backing, &StateStore::new([0, 0]));
            let mut rng = fastrand::Rng::with_seed(7);
            let mut key = 0_u64;
            let mut choice = || {
                key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let wish = Wish { key: Some(key), ..Wish::default() };
                Choice { balancer: black_box(&balancer), endpoints: &endpoints, wish, now: NOW }
            };
            group.bench_function(BenchmarkId::new(name, many), |bencher| {
                bencher.iter(|| choice().pick(|_| true, &mut rng));
            });
            group.bench_function(BenchmarkId::new(format!("{name}, half held back"), many), |bencher| {
                bencher.iter(|| choice().pick(|i| i % 2 == 0, &mut rng));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = picks
}
criterion_main!(benches);

//! What a keyed limit costs: with 100 000 keys alive, with ever new keys, and with one key that everybody uses, on one
//! thread and on eight.
//!
//! `cargo bench -p tidegate-policy --bench limiter`
#![allow(clippy::unwrap_used, reason = "a measurement")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement has a clock")]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, request};
use tidegate_policy::model::Peer;
use tidegate_policy::pipeline::{Filter, Progress, RequestContext, on_request};
use tidegate_policy::snapshot::{Local, Scope, Snapshot};
use tidegate_policy::state::StateStore;
use tidegate_policy::{Decisions, Timestamp, document, resolve};

const KEYS: usize = 100_000;

/// No request of the measurement is refused: it does not ask as often as the bucket holds.
const DOCUMENTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: checkout, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: checkout, port: 80}]
  rules: [{name: all, backendRefs: [{name: checkout, port: 80}]}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: per-user, namespace: shop}
spec:
  targetRefs: [{kind: HTTPRoute, name: checkout}]
  limits:
  - {name: each, requests: 1000000, per: 1s, burst: 4000000000, key: [{type: Header, name: x-user}]}
";

/// The filters of the one rule, the limit among them.
fn filters(state: &StateStore) -> Arc<[Arc<dyn Filter>]> {
    let parsed = document::parse(&Arc::from("shop.yaml"), DOCUMENTS);
    assert!(parsed.failed.is_empty(), "{:?}", parsed.diagnostics);
    let local = Local { namespace: "shop".into(), ..Local::default() };
    let (snapshot, _) = Snapshot::build(&resolve::resolve(&parsed.objects).resources, &local, state);
    let mut rng = fastrand::Rng::with_seed(7);
    let selected = snapshot.route(Scope::Outbound, &head(0), &mut rng).unwrap();
    let filters: Vec<_> = selected.target().filters.to_vec();
    assert!(!filters.is_empty());
    filters.into()
}

fn head(user: usize) -> request::Parts {
    let builder = http::Request::get("/cart").header("host", "checkout");
    builder.header("x-user", format!("user-{user}")).body(()).unwrap().into_parts().0
}

/// One request through the limit.
fn ask(filters: &[Arc<dyn Filter>], head: &mut request::Parts, now: Timestamp, rng: &mut fastrand::Rng) {
    let mut cx = RequestContext {
        head,
        peer: &Peer { address: ([127, 0, 0, 1], 5).into(), identity: None },
        route: None,
        now,
        unix: &|| Duration::ZERO,
        rng,
        decisions: &mut Decisions::new(),
        response_headers: &mut HeaderMap::new(),
        claims: &mut None,
        held: &mut Vec::new(),
    };
    assert!(on_request(filters, &mut cx, &mut Progress::default()).is_ok());
}

/// How long each of `threads` takes for `each` requests of the one key, all at once.
fn together(filters: &Arc<[Arc<dyn Filter>]>, threads: u64, each: u64) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for seed in 0..threads {
            scope.spawn(move || {
                let (mut head, mut rng) = (head(0), fastrand::Rng::with_seed(seed));
                for turn in 0..each {
                    ask(filters, &mut head, Timestamp::from_millis(1_000 + turn / 100), &mut rng);
                }
            });
        }
    });
    begun.elapsed()
}

fn many_keys(criterion: &mut Criterion) {
    let state = StateStore::new([1, 2]);
    let filters = filters(&state);
    let (mut rng, now) = (fastrand::Rng::with_seed(7), Timestamp::from_millis(1_000));
    // One head for all, and its value written anew: a request that was just read is not far away either.
    let mut head = head(0);
    let mut ask = |user: String| {
        head.headers.insert("x-user", HeaderValue::try_from(user).unwrap());
        ask(&filters, &mut head, now, &mut fastrand::Rng::with_seed(7));
    };
    (0..KEYS).for_each(|user| ask(format!("user-{user}")));
    criterion.bench_function("100 000 keys alive", |bencher| {
        bencher.iter(|| ask(format!("user-{}", rng.usize(..KEYS))));
    });
    // Each request from a key that was never seen before: what a flood costs.
    let mut stranger = 0_u64;
    criterion.bench_function("ever new keys", |bencher| {
        bencher.iter(|| {
            stranger += 1;
            ask(format!("stranger-{stranger}"));
        });
    });
}

fn one_key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one key for all");
    group.sample_size(10);
    for threads in [1, 8] {
        let state = StateStore::new([1, 2]);
        let filters = filters(&state);
        group.bench_function(BenchmarkId::new("threads", threads), |bencher| {
            bencher.iter_custom(|each| together(&filters, threads, each));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = many_keys, one_key
}
criterion_main!(benches);

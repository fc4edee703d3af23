//! What a push costs the proxy: to apply 1 000 and 10 000 routes at once, and one route that has changed among so many.
//!
//! `cargo bench -p tidegate-proxy --bench apply`
#![allow(clippy::unwrap_used, reason = "a measurement")]

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use tidegate_policy::model::{
    Accepts, AppProtocol, Backend, BackendKind, BackendName, BackendRef, Declared, Endpoint, Endpoints,
    HostPattern, Listener, ListenerName, Meta, PathMatch, Resource, ResourceName, Route, RouteKind,
    RouteMatch, RouteParent, RouteRule, SourceRef, Timeouts,
};
use tidegate_proxy::config::{Applier, Change, ProxyConfig};
use tidegate_proxy::telemetry::LogTarget;
use tidegate_proxy::{Proxy, Running};

fn name(object: &str) -> ResourceName {
    ResourceName::new("shop", object)
}

fn source() -> SourceRef {
    SourceRef::File { path: "shop.yaml".into(), line: 1 }
}

fn listener_name() -> ListenerName {
    ListenerName::own(name("edge"), "http")
}

/// Routes of forty teams to ten services.
fn route(i: usize, prefix: &str) -> Resource {
    let backend =
        BackendName { kind: BackendKind::Service, object: name(&format!("service-{}", i % 10)), port: 80 };
    Resource::Route(Route {
        kind: RouteKind::Http,
        meta: Meta { name: name(&format!("route-{i}")), source: source(), created: None },
        parents: vec![RouteParent::Listener {
            listener: listener_name(),
            hostnames: vec![HostPattern::parse(&format!("team-{}.example.com", i % 40)).unwrap()],
        }],
        rules: vec![RouteRule {
            name: Some("all".into()),
            source: source(),
            matches: vec![RouteMatch {
                path: PathMatch::Prefix(format!("{prefix}-{i}").into()),
                method: None,
                headers: Vec::new(),
                query: Vec::new(),
            }],
            filters: Vec::new(),
            backends: vec![BackendRef::to(backend, 1)],
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
        }],
    })
}

/// The listener and the services that they all share.
fn ground() -> Vec<Resource> {
    let mut all = vec![Resource::Listener(Listener {
        name: listener_name(),
        source: source(),
        addresses: Vec::new(),
        port: 8080,
        accepts: Accepts::Http { hostname: HostPattern::Any, tls: None },
        clients: None,
        client_certificate: None,
    })];
    for i in 0..10_u16 {
        let backend =
            BackendName { kind: BackendKind::Service, object: name(&format!("service-{i}")), port: 80 };
        let address = tidegate_policy::model::Address::Socket(([127, 0, 0, 1], 9_000 + i).into());
        let endpoints = vec![Endpoint::at(address)];
        all.push(Resource::Endpoints(Endpoints { backend: backend.clone(), endpoints }));
        all.push(Resource::Backend(Backend {
            name: backend,
            source: source(),
            port_name: None,
            protocol: AppProtocol::Http1,
            connect_timeout: None,
            cluster_ips: Vec::new(),
            declared: Declared::Nothing,
            tls: None,
            proxy_protocol: None,
        }));
    }
    all
}

/// A proxy that opens no socket but its admin port.
fn proxy() -> Running {
    let config = ProxyConfig {
        admin: ([127, 0, 0, 1], 0).into(),
        inbound: Some(([127, 0, 0, 1], 0).into()),
        local: tidegate_policy::snapshot::Local {
            namespace: "shop".into(),
            app: Some((([127, 0, 0, 1], 1).into(), AppProtocol::Http1)),
            ..Default::default()
        },
        access_log: LogTarget::Off,
        workers: 1,
        ..ProxyConfig::default()
    };
    Proxy::start(config).unwrap()
}

fn everything(routes: usize) -> Change {
    let mut upserts = ground();
    upserts.extend((0..routes).map(|i| route(i, "/cart")));
    Change { upserts, removed: Vec::new() }
}

fn applies(criterion: &mut Criterion) {
    let running = proxy();
    let mut group = criterion.benchmark_group("apply");
    group.sample_size(10);
    for routes in [1_000, 10_000] {
        group.bench_function(BenchmarkId::new("all routes", routes), |bencher| {
            let applier = || (Applier::new(running.state().clone()), everything(routes));
            bencher.iter_batched(
                applier,
                |(mut applier, change)| {
                    assert!(applier.apply(change).is_empty());
                    applier
                },
                BatchSize::LargeInput,
            );
        });
        let mut applier = Applier::new(running.state().clone());
        assert!(applier.apply(everything(routes)).is_empty());
        let mut edits = ["/cart", "/basket"].into_iter().cycle();
        group.bench_function(BenchmarkId::new("one changed route of", routes), |bencher| {
            bencher.iter(|| {
                let edited = route(7, edits.next().unwrap());
                assert!(applier.apply(Change { upserts: vec![edited], removed: Vec::new() }).is_empty());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, applies);
criterion_main!(benches);

//! What it costs to find the match of a request, at 10, 1 000 and 10 000 routes of realistic and of hostile shapes.
//!
//! `cargo bench -p tidegate-policy --bench matching -- 'hosts'` runs one shape.
#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::request;
use tidegate_policy::matching::{Candidate, HostMap, MatchTable, RequestView, RuleOrder, authority};
use tidegate_policy::model::{
    HeaderMatch, HostPattern, Meta, PathMatch, QueryMatch, ResourceName, RouteMatch, SourceRef, StringMatch,
};
use tidegate_policy::objects::compile_pattern;

const SIZES: [usize; 3] = [10, 1_000, 10_000];

type Hosts = HostMap<MatchTable<usize>>;

/// A way to write many routes: the host and the match of each, and a request for the last of so many.
struct Shape {
    name: &'static str,
    route: fn(usize) -> (String, RouteMatch),
    request: fn(usize) -> request::Parts,
}

fn prefix(path: &str) -> RouteMatch {
    let path = PathMatch::Prefix(path.trim_end_matches('/').into());
    RouteMatch { path, method: None, headers: Vec::new(), query: Vec::new() }
}

fn pattern(text: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::Regex(compile_pattern(text).unwrap()), ..prefix("/") }
}

fn with_header(name: &str, value: &str) -> RouteMatch {
    let value = StringMatch::Exact(value.into());
    RouteMatch { headers: vec![HeaderMatch { name: name.parse().unwrap(), value }], ..prefix("/") }
}

fn with_query(name: &str, value: &str) -> RouteMatch {
    let value = StringMatch::Exact(value.into());
    RouteMatch { query: vec![QueryMatch { name: name.into(), value }], ..prefix("/") }
}

/// As browsers send them: some headers that no match asks for.
fn get(host: &str, uri: &str, header: Option<(&str, &str)>) -> request::Parts {
    let mut builder = http::Request::get(uri).header("host", host).header("accept", "*/*");
    for (name, value) in [("user-agent", "curl/8"), ("accept-encoding", "gzip"), ("x-request-id", "0123")] {
        builder = builder.header(name, value);
    }
    if let Some((name, value)) = header {
        builder = builder.header(name, value);
    }
    builder.body(()).unwrap().into_parts().0
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "prefixes on one host",
        route: |i| (String::from("shop.example.com"), prefix(&format!("/team-{}/service-{i}", i % 40))),
        request: |i| get("shop.example.com", &format!("/team-{}/service-{i}/cart/7", i % 40), None),
    },
    Shape {
        name: "distinct hosts",
        route: |i| (format!("service-{i}.example.com"), prefix("/")),
        request: |i| get(&format!("service-{i}.example.com"), "/cart/7", None),
    },
    Shape {
        name: "wildcard hosts",
        route: |i| (format!("*.tenant-{i}.example.com"), prefix("/")),
        request: |i| get(&format!("shop.eu.tenant-{i}.example.com"), "/cart/7", None),
    },
    Shape {
        name: "one path, values of a header",
        route: |i| (String::new(), with_header("x-tenant", &format!("tenant-{i}"))),
        request: |i| get("shop.example.com", "/cart/7", Some(("x-tenant", &format!("tenant-{i}")))),
    },
    Shape {
        name: "one path, a header each",
        route: |i| (String::new(), with_header(&format!("x-flag-{i}"), "on")),
        request: |i| get("shop.example.com", "/cart/7", Some((&format!("x-flag-{i}"), "on"))),
    },
    Shape {
        name: "one path, values of a query parameter",
        route: |i| (String::new(), with_query("tenant", &format!("tenant-{i}"))),
        request: |i| get("shop.example.com", &format!("/cart?page=2&tenant=tenant-{i}"), None),
    },
    Shape {
        name: "regular expressions",
        route: |i| (String::new(), pattern(&format!("/api/v[0-9]+/resource-{i}/.*"))),
        request: |i| get("shop.example.com", &format!("/api/v2/resource-{i}/7"), None),
    },
];

fn build(shape: &Shape, routes: usize) -> Hosts {
    index(&(0..routes).map(shape.route).collect::<Vec<_>>())
}

fn index(routes: &[(String, RouteMatch)]) -> Hosts {
    let mut hosts = HostMap::<Vec<Candidate<usize>>>::default();
    for (i, (host, wanted)) in routes.iter().enumerate() {
        let meta = Meta {
            name: ResourceName::new("shop", format!("route-{i}")),
            source: SourceRef::File { path: "shop.yaml".into(), line: 1 },
            created: None,
        };
        let wanted = Arc::new(wanted.clone());
        let candidate = Candidate { wanted, order: RuleOrder::new(&meta, 0, 0), value: i };
        hosts.get_or_insert_with(&HostPattern::parse(host).unwrap(), Vec::new).push(candidate);
    }
    hosts.map(MatchTable::new)
}

fn find(hosts: &Hosts, head: &request::Parts) -> Option<usize> {
    let host = authority(head).ok()?.host;
    let request = RequestView::new(head);
    hosts.candidates(&host).find_map(|table| table.find(&request)).copied()
}

fn lookups(criterion: &mut Criterion) {
    for shape in SHAPES {
        let mut group = criterion.benchmark_group(shape.name);
        for routes in SIZES {
            let (hosts, head) = (build(shape, routes), (shape.request)(routes - 1));
            assert_eq!(find(&hosts, &head), Some(routes - 1), "{}", shape.name);
            group.bench_function(BenchmarkId::from_parameter(routes), |bencher| {
                bencher.iter(|| find(black_box(&hosts), black_box(&head)));
            });
        }
        group.finish();
    }
}

/// What a push costs: the index of 10 000 routes, their expressions compiled already.
fn builds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build the index");
    group.sample_size(10);
    for shape in SHAPES {
        let ready: Vec<_> = (0..10_000).map(shape.route).collect();
        group.bench_function(BenchmarkId::from_parameter(shape.name), |bencher| {
            bencher.iter(|| index(&ready));
        });
    }
    group.finish();
}

criterion_group!(benches, lookups, builds);
criterion_main!(benches);

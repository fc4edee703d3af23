//! What a lookup takes must not grow with what is configured. Counted, not timed.

use super::*;
use crate::model::HostPattern;

/// A way to write many routes, and a request that is for the last of them.
struct Shape {
    name: &'static str,
    wanted: fn(usize) -> String,
    asked: fn(usize) -> request::Parts,
}

fn get(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    request("GET", uri, headers)
}

/// Bits of a number as headers `h0`.. of the values 0 and 1.
fn bits(i: usize) -> Vec<(String, String)> {
    (0..14).map(|bit| (format!("h{bit}"), ((i >> bit) & 1).to_string())).collect()
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "exact paths",
        wanted: |i| format!("=/route-{i}/detail"),
        asked: |i| get(&format!("/route-{i}/detail"), &[]),
    },
    Shape {
        name: "prefixes",
        wanted: |i| format!("/route-{i}"),
        asked: |i| get(&format!("/route-{i}/a/b/c"), &[]),
    },
    Shape {
        name: "nested prefixes",
        wanted: |i| format!("/{}/{}/{}/x", i % 10, i / 10 % 30, i / 300),
        asked: |i| get(&format!("/{}/{}/{}/x/y", i % 10, i / 10 % 30, i / 300), &[]),
    },
    Shape {
        name: "one path, values of one header",
        wanted: |i| format!("/ x-tenant:{i}"),
        asked: |i| get("/", &[("x-tenant", &i.to_string())]),
    },
    Shape {
        name: "one path, a header of its own each",
        wanted: |i| format!("/ x-flag-{i}:1"),
        asked: |i| get("/", &[("accept", "*/*"), (&format!("x-flag-{i}"), "1"), ("user-agent", "curl")]),
    },
    Shape {
        name: "one path, values of one query parameter",
        wanted: |i| format!("/ ?tenant={i}"),
        asked: |i| get(&format!("/?a=1&b=2&tenant={i}"), &[]),
    },
    Shape {
        name: "one path, a query parameter of its own each",
        wanted: |i| format!("/ ?flag-{i}=1"),
        asked: |i| get(&format!("/?a=1&flag-{i}=1&b=2"), &[]),
    },
    Shape {
        name: "one path and method, two headers that only tell together",
        wanted: |i| format!("/a GET x-env:prod x-row:{} x-column:{}", i / 100, i % 100),
        asked: |i| {
            let (row, column) = ((i / 100).to_string(), (i % 100).to_string());
            get("/a", &[("x-env", "prod"), ("x-row", &row), ("x-column", &column)])
        },
    },
    Shape {
        name: "one path, fourteen headers of two values each",
        wanted: |i| {
            let pairs: Vec<_> = bits(i).iter().map(|(name, value)| format!("{name}:{value}")).collect();
            format!("/ {}", pairs.join(" "))
        },
        asked: |i| {
            let bits = bits(i);
            get("/", &bits.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>())
        },
    },
    Shape {
        name: "one path and one condition, the same each time",
        wanted: |_| String::from("/ x:1"),
        asked: |_| get("/", &[("x", "1")]),
    },
    Shape {
        name: "regular expressions of paths",
        wanted: |i| format!("~/api/v[0-9]+/resource-{i:05}/.*"),
        asked: |i| get(&format!("/api/v2/resource-{i:05}/x"), &[]),
    },
    Shape {
        name: "regular expressions without regard to case",
        wanted: |i| format!("~(?i)/Area/part-{i:05}/.*"),
        asked: |i| get(&format!("/area/PART-{i:05}/x"), &[]),
    },
    Shape {
        name: "regular expressions of a header",
        wanted: |i| format!("/ x-user:~.*(alpha-{i:05}|omega-{i:05})"),
        asked: |i| get("/", &[("x-user", &format!("team omega-{i:05}"))]),
    },
    Shape {
        name: "one regular expression with values of a header",
        wanted: |i| format!("~/[a-z]+ x-tenant:{i}"),
        asked: |i| get("/abc", &[("x-tenant", &i.to_string())]),
    },
    Shape {
        name: "methods of gRPC services",
        wanted: |i| format!("=/shop.Service{}/Method{}", i / 10, i % 10),
        asked: |i| get(&format!("/shop.Service{}/Method{}", i / 10, i % 10), &[]),
    },
    Shape {
        name: "methods of any gRPC service",
        wanted: |i| format!("*Method{i}"),
        asked: |i| get(&format!("/shop.Any/Method{i}"), &[]),
    },
];

fn table(shape: &Shape, routes: usize) -> MatchTable<String> {
    MatchTable::new((0..routes).map(|i| candidate(&(shape.wanted)(i), "r", None, i)).collect())
}

/// To find the last of so many routes.
fn work(shape: &Shape, table: &MatchTable<String>, routes: usize) -> u32 {
    let head = (shape.asked)(routes - 1);
    let (found, work) = table.find_counted(&RequestView::new(&head));
    let found = found.unwrap_or_else(|| panic!("{}: nothing found", shape.name));
    assert!(found.ends_with(&(shape.wanted)(routes - 1)), "{}: {found}", shape.name);
    work.total()
}

#[test]
fn ten_thousand_routes_take_little_more_work_than_ten_whatever_their_shape() {
    for shape in SHAPES {
        // To compile an expression takes long without optimisation.
        let most = if (shape.wanted)(0).contains('~') { 1_000 } else { 10_000 };
        let table_of_many = table(shape, most);
        let (few, many) = (work(shape, &table(shape, 10), 10), work(shape, &table_of_many, most));
        // A tree over fourteen binary headers is fourteen steps deep, and no more.
        assert!(many <= 2 * few + 20, "{}: {few} with ten routes, {many} with {most}", shape.name);
        nothing_is_found_with_little_work(shape, &table_of_many);
    }
}

fn nothing_is_found_with_little_work(shape: &Shape, table: &MatchTable<String>) {
    for uri in ["/", "/nothing/of/this", "/api/v2/resource-x/y?tenant=none&flag=1", "*"] {
        let head = get(uri, &[("x-tenant", "none"), ("x-user", "nobody"), ("h0", "1"), ("x-env", "prod")]);
        let (found, work) = table.find_counted(&RequestView::new(&head));
        assert_eq!(found, None, "{}: {uri}", shape.name);
        assert!(work.total() <= 30, "{}: {work:?} for {uri}", shape.name);
    }
}

#[test]
fn hosts_cost_a_lookup_for_each_label_and_no_more() {
    for kind in ["", "*."] {
        let mut hosts = HostMap::<usize>::default();
        for i in 0..10_000 {
            hosts.get_or_insert_with(&HostPattern::parse(&format!("{kind}h{i}.example.com")).unwrap(), || i);
        }
        let host = if kind.is_empty() { "h9999.example.com" } else { "a.h9999.example.com" };
        assert_eq!(hosts.candidates(host).collect::<Vec<_>>(), [&9_999], "{kind}");
    }
}

#[test]
fn a_long_request_costs_no_more_than_its_own_length() {
    let mut all: Vec<_> = (0..10_000).map(|i| candidate(&format!("/route-{i}"), "r", None, i)).collect();
    all.extend((0..1_000).map(|i| candidate(&format!("/ ?flag-{i}=1"), "q", None, i)));
    all.push(candidate("/", "r", None, 10_000));
    let table = MatchTable::new(all);
    let doubled = (0..3_000).map(|i| format!("x{i}=1&flag-1=2")).collect::<Vec<_>>().join("&");
    for uri in ["/".repeat(60_000), format!("/?{doubled}")] {
        let head = get(&uri, &[]);
        let (found, work) = table.find_counted(&RequestView::new(&head));
        assert_eq!(found.unwrap(), "r#10000 /");
        assert!(work.total() <= 3_100, "{work:?}");
    }
}

//! Sets of documents by chance: a gateway or a caller's sidecar, routes that compete, policies on all that they may be
//! attached to.

use std::fmt::Write as _;
use std::sync::Arc;

use fastrand::Rng;
use tidegate_policy::document::{Parsed, parse};

use super::live::{Backends, COPIES};
use super::requests::{pick, pick_one};

pub(super) const PATHS: [&str; 8] =
    ["/", "/cart", "/cart/a", "/cart/a/b", "/pay", "/pay/v2", "/users/7/cart", "/img/x.png"];
pub(super) const METHODS: [&str; 4] = ["GET", "GET", "POST", "DELETE"];
pub(super) const HOSTS: [&str; 4] = ["shop.example.com", "api.example.com", "example.com", "shop.test"];
pub(super) const HEADERS: [(&str, &[&str]); 3] =
    [("x-canary", &["1", "true"]), ("x-tenant", &["gold", "tin"]), ("x-kind", &["a", "b", "ab"])];
pub(super) const QUERIES: [&str; 4] = ["debug=1", "v=2", "v=2&debug=1", "q="];
pub(super) const USERS: [&str; 6] = ["ada", "bob", "cyd", "dee", "eve", "fay"];
const SERVICES: [&str; 3] = ["cart", "pay", "web"];

/// See the module.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) text: String,
    pub(super) parsed: Parsed,
    pub(super) side: Side,
}

/// Where requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Gateway,
    /// From an application of the namespace `shop`, at its sidecar.
    Outbound,
    /// At the sidecar of a workload that serves `shop/cart`.
    Inbound,
}

impl Documents {
    pub(super) fn generate(rng: &mut Rng, backends: &Backends) -> Self {
        let side = pick_one(rng, &[Side::Gateway, Side::Gateway, Side::Outbound, Side::Inbound]);
        let outbound = side == Side::Outbound;
        let mut text = String::from(EDGE);
        for (service, at) in SERVICES.iter().zip(0..) {
            endpoints(&mut text, service, [backends.port(at), backends.port(at + 3)]);
            balancing(&mut text, rng, service);
        }
        endpoints(&mut text, "copies", [backends.port(COPIES), backends.port(COPIES + 1)]);
        let routes = rng.usize(1..4);
        for number in 0..routes {
            route(&mut text, rng, (number, outbound));
        }
        for number in 0..rng.usize(2..9) {
            policy(&mut text, rng, (number, routes, outbound));
        }
        let parsed = parse(&Arc::from("set.yaml"), &text);
        assert!(parsed.diagnostics.is_empty(), "{:#?}\n{text}", parsed.diagnostics);
        Self { text, parsed, side }
    }

    pub(super) fn host(&self, rng: &mut Rng, hosts: &[&'static str]) -> String {
        match self.side {
            Side::Outbound if rng.u8(..20) == 0 => String::from("nobody.example.com"),
            Side::Outbound => format!("{}.shop", pick(rng, &SERVICES)),
            Side::Gateway | Side::Inbound => pick(rng, hosts).to_owned(),
        }
    }
}

const EDGE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
  - {name: api, port: 8080, protocol: HTTP, hostname: api.example.com}
";

fn endpoints(text: &mut String, service: &str, ports: [u16; 2]) {
    let [one, two] = ports;
    let _ = write!(
        text,
        "---
apiVersion: v1
kind: Service
metadata: {{name: {service}, namespace: shop}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{port: {one}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-2, namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{port: {two}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    );
}

/// Of each Service, so that the endpoint can be compared: by latency, two proxies would not agree.
fn balancing(text: &mut String, rng: &mut Rng, service: &str) {
    let how = match rng.u8(..4) {
        0 => "algorithm: Maglev\n  hashKey: [{type: Header, name: x-user}]\n  onMissingKey: Random",
        1 => "algorithm: RingHash\n  hashKey: [{type: Header, name: x-user}]\n  onMissingKey: Random",
        2 => "algorithm: Random",
        _ => "algorithm: RoundRobin",
    };
    let _ = write!(
        text,
        "---
apiVersion: tidegate.io/v1alpha1
kind: LoadBalancingPolicy
metadata: {{name: of-{service}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {service}}}]
  {how}
"
    );
}

fn route(text: &mut String, rng: &mut Rng, (number, outbound): (usize, bool)) {
    let parent = match outbound {
        true => format!("{{group: '', kind: Service, name: {}, port: 80}}", pick(rng, &SERVICES)),
        false => String::from("{name: edge}"),
    };
    let _ = write!(
        text,
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r{number}, namespace: shop}}
spec:
  parentRefs: [{parent}]
"
    );
    if !outbound && rng.bool() {
        let hosts = ["shop.example.com", "'*.example.com'", "api.example.com", "shop.test"];
        let _ = writeln!(text, "  hostnames: [{}]", pick(rng, &hosts));
    }
    text.push_str("  rules:\n");
    for rule in 0..rng.usize(1..4) {
        let _ = writeln!(text, "  - name: n{rule}");
        let matches: Vec<_> = (0..rng.usize(0..3)).map(|_| one_match(rng)).collect();
        if !matches.is_empty() {
            let _ = writeln!(text, "    matches: [{}]", matches.join(", "));
        }
        leads_to(text, rng);
    }
}

fn one_match(rng: &mut Rng) -> String {
    let mut parts = Vec::new();
    if rng.u8(..5) > 0 {
        let path = pick(rng, &PATHS);
        parts.push(match rng.u8(..6) {
            0 => format!("path: {{type: Exact, value: {path}}}"),
            1 => String::from("path: {type: RegularExpression, value: '/(cart|pay)/[a-z].*'}"),
            _ => format!("path: {{value: {path}}}"),
        });
    }
    if rng.u8(..4) == 0 {
        parts.push(format!("method: {}", pick(rng, &METHODS)));
    }
    if rng.u8(..3) == 0 {
        let (name, values) = pick_one(rng, &HEADERS);
        parts.push(format!("headers: [{{name: {name}, value: '{}'}}]", pick(rng, values)));
    }
    if rng.u8(..6) == 0 {
        parts.push(String::from("queryParams: [{name: v, value: '2'}]"));
    }
    format!("{{{}}}", parts.join(", "))
}

fn leads_to(text: &mut String, rng: &mut Rng) {
    match rng.u8(..12) {
        0 => {
            text.push_str("    filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302, hostname: other.example.com}}]\n");
            return;
        }
        1 => text.push_str("    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-tenant, value: gold}]}}]\n"),
        3 => text.push_str("    filters: [{type: RequestMirror, requestMirror: {percent: 50, backendRef: {name: copies, port: 80}}}]\n"),
        2 => text.push_str("    filters: [{type: URLRewrite, urlRewrite: {hostname: inner.example.com}}]\n"),
        _ => {}
    }
    let backends: Vec<_> = (0..rng.usize(1..4))
        .map(|at| {
            format!("{{name: {}, port: 80, weight: {}}}", SERVICES[at], pick_one(rng, &[0, 1, 1, 3, 9]))
        })
        .collect();
    let _ = writeln!(text, "    backendRefs: [{}]", backends.join(", "));
    if rng.u8(..6) == 0 {
        text.push_str("    retry: {attempts: 2, codes: [503], backoff: 1ms}\n");
    }
    if rng.u8(..6) == 0 {
        text.push_str("    timeouts: {request: 20s}\n");
    }
}

const GATEWAY_API: &str = "group: gateway.networking.k8s.io, ";

fn target(rng: &mut Rng, (routes, outbound): (usize, bool), of_rules: bool) -> String {
    let route = rng.usize(..routes);
    match rng.u8(..10) {
        0..=2 if of_rules => format!("{GATEWAY_API}kind: HTTPRoute, name: r{route}, sectionName: n0"),
        0..=4 => format!("{GATEWAY_API}kind: HTTPRoute, name: r{route}"),
        5 => String::from("kind: Namespace, name: shop"),
        6 if !outbound => format!("{GATEWAY_API}kind: Gateway, name: edge"),
        7 if !outbound => format!("{GATEWAY_API}kind: Gateway, name: edge, sectionName: api"),
        _ => format!("kind: Service, name: {}", pick(rng, &SERVICES)),
    }
}

fn policy(text: &mut String, rng: &mut Rng, (number, routes, outbound): (usize, usize, bool)) {
    let (kind, spec, of_rules) = match rng.u8(..14) {
        0..=3 => ("RateLimitPolicy", limits(rng), true),
        4..=5 => ("AuthorizationPolicy", rules(rng), true),
        6 => ("FaultPolicy", faults(rng), true),
        7 => ("RetryPolicy", retries(rng), true),
        8 => ("TimeoutPolicy", String::from("  request: 25s\n  perTry: 20s\n"), true),
        12..=13 => ("OverloadPolicy", overload(rng), true),
        9 => ("CircuitBreakerPolicy", breakers(rng), false),
        _ => ("CohortPolicy", cohorts(rng), true),
    };
    let target = match kind {
        "CohortPolicy" => format!("{GATEWAY_API}kind: HTTPRoute, name: r{}", rng.usize(..routes)),
        "CircuitBreakerPolicy" => format!("kind: Service, name: {}", pick(rng, &SERVICES)),
        _ => target(rng, (routes, outbound), of_rules),
    };
    let mode = if rng.u8(..5) == 0 { "  mode: Shadow\n" } else { "" };
    let _ = write!(
        text,
        "---
apiVersion: tidegate.io/v1alpha1
kind: {kind}
metadata: {{name: p{number}, namespace: shop}}
spec:
  targetRefs: [{{{target}}}]
{mode}{spec}"
    );
}

fn overload(rng: &mut Rng) -> String {
    let classes = "  classes: [{name: pay, when: \"request.path.startsWith('/pay')\"}]\n";
    let classes = if rng.bool() { classes } else { "" };
    format!("  limit: {}\n{classes}", rng.usize(1..9))
}

fn limits(rng: &mut Rng) -> String {
    let mut spec = match rng.u8(..5) {
        0 => String::from("  when: \"request.path != '/cart/a'\"\n  limits:\n"),
        1 => String::from("  responseHeaders: [RateLimit]\n  limits:\n"),
        _ => String::from("  limits:\n"),
    };
    for number in 0..rng.usize(1..3) {
        let (requests, per) = (rng.usize(1..12), pick(rng, &["1s", "10s", "1m", "1h"]));
        let _ = write!(spec, "  - {{name: l{number}, requests: {requests}, per: {per}");
        match rng.u8(..5) {
            0 => spec.push_str(", key: [{type: Header, name: x-user}]"),
            1 => spec.push_str(", key: [{type: Header, name: x-tenant, missing: Deny}, {type: Path}]"),
            2 => spec.push_str(", key: [{type: ClientAddress}]"),
            _ => {}
        }
        if rng.u8(..5) == 0 {
            spec.push_str(", cost: {expression: \"request.method == 'GET' ? 1 : 3\"}");
        }
        if rng.u8(..4) == 0 {
            let _ = write!(spec, ", burst: {}", requests * 2);
        }
        spec.push_str("}\n");
    }
    spec
}

fn rules(rng: &mut Rng) -> String {
    let mut spec = String::from("  rules:\n");
    for number in 0..rng.usize(1..3) {
        let action = pick(rng, &["Deny", "Deny", "Allow", "Audit"]);
        let to = match rng.u8(..5) {
            0 => String::from("{methods: [POST, DELETE]}"),
            1 => format!("{{paths: [{{exact: {}}}]}}", pick(rng, &PATHS)),
            2 => String::from("{paths: [{template: '/users/{id}/cart'}]}"),
            3 => String::from("{headers: [{name: x-tenant, exact: tin}]}"),
            _ => format!("{{paths: [{{prefix: {}}}]}}", pick(rng, &PATHS)),
        };
        let from = match rng.u8(..4) {
            0 => ", from: [{ipBlocks: [127.0.0.0/8]}]",
            1 => ", from: [{not: {ipBlocks: [10.0.0.0/8]}}]",
            _ => "",
        };
        let _ = writeln!(spec, "  - {{name: a{number}, action: {action}, to: [{to}]{from}}}");
    }
    spec
}

fn faults(rng: &mut Rng) -> String {
    let percent = pick_one(rng, &[5, 30, 50]);
    match rng.u8(..4) {
        0 => String::from(
            "  faults: [{name: f, header: {name: x-fault, atGateways: true}, abort: {status: 503}}]\n",
        ),
        1 => format!("  faults: [{{name: f, percent: {percent}, abort: {{status: 503}}}}]\n"),
        2 => format!("  faults: [{{name: f, percent: {percent}, delay: {{fixed: 1ms}}}}]\n"),
        _ => format!(
            "  faults:\n  - {{name: f, when: \"request.path.startsWith('/cart')\", percent: {percent}, abort: {{status: 418}}}}\n"
        ),
    }
}

fn retries(rng: &mut Rng) -> String {
    let attempts = rng.usize(1..4);
    format!(
        "  retryOn: {{conditions: [GatewayError], statuses: [500]}}\n  attempts: {attempts}\n  backoff: {{base: 1ms, max: 1ms}}\n  \
         budget: {{percent: 20, minPerSecond: 1, interval: 10s}}\n"
    )
}

fn breakers(rng: &mut Rng) -> String {
    let scope = pick(rng, &["Endpoint", "Backend"]);
    format!("  breakers: [{{name: b, scope: {scope}, consecutiveFailures: {}, open: 5s}}]\n", rng.usize(2..5))
}

fn cohorts(rng: &mut Rng) -> String {
    match rng.u8(..2) {
        0 => String::from("  key: [{type: Header, name: x-user}]\n"),
        _ => String::from("  key: [{type: Header, name: x-tenant}, {type: Header, name: x-user}]\n"),
    }
}

//! Where throwing bytes begins: a little of everything that a parser knows.

use std::sync::Arc;

use crate::model::ResourceType;
use crate::{codec, document, resolve};

const DOCUMENTS: [&str; 10] = [
    include_str!("../../examples/RateLimitPolicy.yaml"),
    include_str!("../../examples/CircuitBreakerPolicy.yaml"),
    include_str!("../../examples/CohortPolicy.yaml"),
    include_str!("../../examples/LoadBalancingPolicy.yaml"),
    include_str!("../../examples/FaultPolicy.yaml"),
    include_str!("../../examples/OverloadPolicy.yaml"),
    include_str!("../../examples/HealthCheckPolicy.yaml"),
    include_str!("../../examples/JwtAuthenticationPolicy.yaml"),
    include_str!("../../examples/AuthorizationPolicy.yaml"),
    ROUTES,
];

const CASES: [&str; 2] = [
    include_str!("../../cases/policies/RateLimitPolicy.yaml"),
    include_str!("../../cases/policies/CircuitBreakerPolicy.yaml"),
];

/// A gateway with what its routes can do.
const ROUTES: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, protocol: HTTP, port: 80, hostname: '*.example.com'}]
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop, creationTimestamp: '2026-01-02T03:04:05Z'}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 9001}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example.com]
  rules:
  - name: all
    matches: [{path: {type: PathPrefix, value: /cart}, headers: [{name: x-a, value: b}]}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-b, value: c}], remove: [x-d]}}
    - {type: CORS, cors: {allowOrigins: ['https://*.example.com'], maxAge: 5}}
    timeouts: {request: 1h30m, backendRequest: 500ms}
    sessionPersistence: {type: Cookie, sessionName: tg}
    backendRefs: [{name: cart, port: 80, weight: 3}]
";

const PEM: &str = "explained\n-----BEGIN CERTIFICATE-----\nMAMwAQU=\n-----END CERTIFICATE-----\n\
    -----BEGIN PRIVATE KEY-----\nAQIDBA==\n-----END PRIVATE KEY-----\n";

const LOG: [&str; 3] = [
    r#"{"time":"2026-11-28T18:10:28.123Z","duration_ms":23.5,"tidegate.direction":"gateway","http.request.method":"GET","url.path":"/a","server.address":"a","client.address":"10.1.2.3","http.response.status_code":200}"#,
    r#"{"START_TIME":"2026-11-28T18:10:28+01:00",":authority":"a","path":"/a?b=%20c","response_code":503,"response_flags":"UF,DC","duration":"1e9","x-user":"ann","grpc_status":"NotFound"}"#,
    r#"v:80 10.1.2.3 - - [10/Oct/2000:13:55:36 -0700] "GET http://h/a\"?x HTTP/1.1" 200 1 "r" "u""#,
];

/// Of RFC 8037, A.1.
pub(super) const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// Signed with it.
pub(super) const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.\
    eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlLmNvbSIsInN1YiI6ImFubiIsImF1ZCI6InNob3AiLCJwbGFuIjoiZ29sZCIs\
    ImV4cCI6NDEwMjQ0NDgwMH0.\
    Trx7J-F5mbJf6reu6h1mBYnQPStfoPDPvh3vMSrZ49wwDeccFN0x9Y2NqPsjsxNYsI2whlbogwe6qvgzLDCgBQ";

/// Of the property with this name.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts: &[&str] = match target {
        "access_log" => &LOG,
        "authority" => &["shop.example.com:8080", "[2001:db8::1]:80", "A.b.", "10.0.0.1"],
        "cases" => &CASES,
        "cookie" => &["tg=abc; other=1", "a=b;tg=\"x\" ;tg=y", "tg = c"],
        "document" => &DOCUMENTS,
        "duration" => &["1h30m", "250ms", "10s", "99999h99999m99999s99999ms"],
        "expression" => &[
            "request.headers['x-a'] in ['b', \"c\"] && !(source.port > 1024)",
            "has(request.query.user) ? size(request.path) * 2 : int(request.query['n'])",
        ],
        "host_pattern" => &["*.example.com", "shop.Example.com", "a"],
        "origin" => &["https://shop.example.com", "http://*.example.com:8080", "https://[::1]:1", "http://*"],
        "path" => &["cart/../x", "%7euser/%2e%2e/a", "a;p=1/.%2fb", "a%5c..%2F", "é/{b}|c//d"],
        "pem" => &[PEM],
        "session" => &["AQAAAAEAAAACAAAAAAAAAAM", "AWR4xIBkeMSAASNFZ4mrze8"],
        "timestamp" => &["2026-01-02T03:04:05Z", "2024-02-29T23:59:60.5+14:00", "0000-01-01t00:00:00-23:59"],
        "token" => &[TOKEN],
        _ => return resources(),
    };
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What the documents become on the wire, behind the number of its type.
fn resources() -> Vec<Vec<u8>> {
    let parsed = document::parse(&Arc::from("seeds.yaml"), &DOCUMENTS.join("\n---\n"));
    let resolved = resolve::resolve(&parsed.objects);
    let wire = resolved.resources.iter().map(|resource| {
        let kind = resource.resource_type();
        let number = ResourceType::PUSH_ORDER.iter().position(|one| *one == kind).unwrap_or_default();
        [vec![number as u8], codec::encode(&resource).2].concat()
    });
    wire.collect()
}

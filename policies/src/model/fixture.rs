//! Short ways to write resources, for tests of this crate.

use std::net::SocketAddr;

use regex::Regex;

use super::*;

pub(crate) fn name(text: &str) -> ResourceName {
    text.parse().unwrap_or_else(|_| ResourceName::new("shop", text))
}

pub(crate) fn source(line: u32) -> SourceRef {
    SourceRef::File { path: "test.yaml".into(), line }
}

pub(crate) fn meta(text: &str) -> Meta {
    Meta { name: name(text), source: source(1), created: None }
}

pub(crate) fn listener_name(gateway: &str, section: &str) -> ListenerName {
    ListenerName::own(name(gateway), section)
}

/// On port 8080 of all addresses.
pub(crate) fn listener(gateway: &str, section: &str, hostname: &str) -> Listener {
    Listener {
        name: listener_name(gateway, section),
        source: source(1),
        addresses: Vec::new(),
        port: 8080,
        accepts: Accepts::Http { hostname: HostPattern::parse(hostname).unwrap(), tls: None },
        clients: None,
        client_certificate: None,
    }
}

pub(crate) fn on_listener(gateway: &str, section: &str, hostnames: &[&str]) -> RouteParent {
    let hostnames = hostnames.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    RouteParent::Listener { listener: listener_name(gateway, section), hostnames }
}

pub(crate) fn service_name(text: &str, port: u16) -> BackendName {
    BackendName { kind: BackendKind::Service, object: name(text), port }
}

/// A Service's port with the endpoints `127.0.0.1:port`.
pub(crate) fn service(text: &str, port: u16, endpoints: &[u16]) -> [Resource; 2] {
    let endpoint = |port: &u16| Endpoint::at(Address::Socket(SocketAddr::from(([127, 0, 0, 1], *port))));
    let backend = Backend {
        name: service_name(text, port),
        source: source(1),
        port_name: Some("http".into()),
        protocol: AppProtocol::Http1,
        declared: Declared::Nothing,
        connect_timeout: None,
        proxy_protocol: None,
        cluster_ips: Vec::new(),
        tls: None,
    };
    let endpoints =
        Endpoints { backend: backend.name.clone(), endpoints: endpoints.iter().map(endpoint).collect() };
    [Resource::Backend(backend), Resource::Endpoints(endpoints)]
}

/// `=/exact`, `~regex`, `*Method` of any gRPC service, or a prefix; then `METHOD`, `header:value` and `?query=value` in
/// any order, where a value may be a `~regex` too.
pub(crate) fn matching(text: &str) -> RouteMatch {
    let mut found = RouteMatch {
        path: PathMatch::Prefix("".into()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    };
    let regex = |text: &str| Regex::new(&format!("^(?:{text})$")).unwrap();
    let value = |text: &str| match text.strip_prefix('~') {
        Some(text) => StringMatch::Regex(regex(text)),
        None => StringMatch::Exact(text.into()),
    };
    for part in text.split_whitespace() {
        let pair = |sep| part.trim_start_matches('?').split_once(sep).unwrap();
        match part.as_bytes()[0] {
            b'=' => found.path = PathMatch::Exact(part[1..].into()),
            b'~' => found.path = PathMatch::Regex(regex(&part[1..])),
            b'*' => found.path = PathMatch::AnyService(part[1..].into()),
            b'/' => found.path = PathMatch::Prefix(part.trim_end_matches('/').into()),
            b'?' => {
                let (name, text) = pair('=');
                found.query.push(QueryMatch { name: name.into(), value: value(text) });
            }
            _ if part.contains(':') => {
                let (name, text) = pair(':');
                found.headers.push(HeaderMatch { name: name.parse().unwrap(), value: value(text) });
            }
            _ => found.method = Some(part.parse().unwrap()),
        }
    }
    found
}

pub(crate) fn to(service: &str, weight: u32) -> BackendRef {
    BackendRef::to(service_name(service, 80), weight)
}

pub(crate) fn rule(rule: &str, matches: &[&str], backends: Vec<BackendRef>) -> RouteRule {
    RouteRule {
        name: Some(rule.into()),
        source: source(1),
        matches: matches.iter().map(|text| matching(text)).collect(),
        filters: Vec::new(),
        backends,
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    }
}

pub(crate) fn route(text: &str, parents: Vec<RouteParent>, rules: Vec<RouteRule>) -> Route {
    Route { kind: RouteKind::Http, meta: meta(text), parents, rules }
}

pub(crate) fn target(kind: TargetKind, object: &str, section: Option<&str>) -> TargetRef {
    let object = match kind {
        TargetKind::Namespace => ResourceName::new(object, object),
        _ => name(object),
    };
    TargetRef { kind, object, section: section.map(Into::into) }
}

pub(crate) fn policy(kind: &str, text: &str, targets: Vec<TargetRef>, spec: serde_json::Value) -> Policy {
    let (mode, lines) = (Mode::Enforce, SourceMap::default());
    Policy { meta: meta(text), kind: kind.into(), targets, mode, spec, lines }
}

pub(crate) fn resources(all: impl IntoIterator<Item = Resource>) -> Resources {
    let mut resources = Resources::default();
    all.into_iter().for_each(|resource| resources.insert(resource));
    resources
}

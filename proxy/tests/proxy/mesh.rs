//! A proxy in this process, and short ways to tell it what to do.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;

use http::Request;
use serde_json::Value;
use tidegate_policy::model::*;
use tidegate_policy::snapshot::BindAddress;
use tidegate_proxy::config::{Applier, Change, GatewayPorts};
use tidegate_proxy::telemetry::LogTarget;
use tidegate_proxy::{Proxy, ProxyConfig, Running};
use tidegate_testkit::body::{TestBody, empty, full};

pub(crate) const PORT: u16 = 8080;
pub(crate) const BIND: BindAddress = BindAddress { ip: None, port: PORT };

/// On free ports, silent.
pub(crate) fn config() -> ProxyConfig {
    ProxyConfig {
        admin: loopback(0),
        access_log: LogTarget::Off,
        workers: 2,
        node: String::from("test"),
        ..ProxyConfig::default()
    }
}

/// A sidecar in front of `app`.
pub(crate) fn sidecar_config(app: SocketAddr, protocol: AppProtocol) -> ProxyConfig {
    let mut config = config();
    config.inbound = Some(loopback(0));
    config.local.app = Some((app, protocol));
    config
}

pub(crate) fn sidecar(app: SocketAddr) -> Running {
    Proxy::start(sidecar_config(app, AppProtocol::Http1)).unwrap()
}

/// A gateway whose one listener leads to what the test applies.
pub(crate) struct Gateway {
    pub(crate) running: Running,
    pub(crate) applier: Applier,
}

impl Gateway {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let mut config = config();
        config.gateway = Some(GatewayPorts::Ephemeral);
        change(&mut config);
        let running = Proxy::start(config).unwrap();
        let applier = Applier::new(running.state().clone());
        Self { running, applier }
    }

    /// One rule for every path, to `endpoints`.
    pub(crate) async fn to(mut self, endpoints: &[SocketAddr]) -> Self {
        self.apply(everything_to("v1", endpoints));
        self.address().await;
        self
    }

    pub(crate) fn apply(&mut self, upserts: Vec<Resource>) {
        assert_eq!(self.applier.apply(Change { upserts, removed: Vec::new() }), []);
    }

    pub(crate) async fn address(&self) -> SocketAddr {
        self.running.gateway_bound(BIND).await.unwrap()
    }
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Listener, route and one Service with these endpoints.
pub(crate) fn everything_to(service: &str, endpoints: &[SocketAddr]) -> Vec<Resource> {
    let mut all = service_at(service, AppProtocol::Http1, endpoints);
    all.push(Resource::Listener(listener(PORT)));
    all.push(Resource::Route(route(service)));
    all
}

pub(crate) fn service_at(service: &str, protocol: AppProtocol, endpoints: &[SocketAddr]) -> Vec<Resource> {
    let backend = Backend {
        name: backend_name(service),
        source: source(),
        port_name: None,
        protocol,
        connect_timeout: None,
        proxy_protocol: None,
        cluster_ips: Vec::new(),
        declared: Declared::Nothing,
        tls: None,
    };
    let endpoint = |address: &SocketAddr| Endpoint::at(Address::Socket(*address));
    let endpoints =
        Endpoints { backend: backend.name.clone(), endpoints: endpoints.iter().map(endpoint).collect() };
    vec![Resource::Backend(backend), Resource::Endpoints(endpoints)]
}

pub(crate) fn listener(port: u16) -> Listener {
    Listener {
        name: listener_name(),
        source: source(),
        addresses: Vec::new(),
        port,
        accepts: Accepts::Http { hostname: HostPattern::Any, tls: None },
        clients: None,
        client_certificate: None,
    }
}

pub(crate) fn rename_gateway(resource: &mut Resource, name: &str) {
    let gateway = ResourceName::new("shop", name);
    match resource {
        Resource::Listener(listener) => listener.name.gateway = gateway,
        Resource::Route(route) => {
            for parent in &mut route.parents {
                if let RouteParent::Listener { listener, .. } = parent {
                    listener.gateway = gateway.clone();
                }
            }
        }
        _ => {}
    }
}

pub(crate) fn route(service: &str) -> Route {
    Route {
        kind: RouteKind::Http,
        meta: meta("all"),
        parents: vec![RouteParent::Listener {
            listener: listener_name(),
            hostnames: vec![HostPattern::parse("").unwrap()],
        }],
        rules: vec![RouteRule {
            name: Some("all".into()),
            source: source(),
            matches: vec![RouteMatch {
                path: PathMatch::Prefix("".into()),
                method: None,
                headers: Vec::new(),
                query: Vec::new(),
            }],
            filters: Vec::new(),
            backends: vec![BackendRef::to(backend_name(service), 1)],
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
        }],
    }
}

pub(crate) fn policy(kind: &str, target: (TargetKind, &str), spec: Value) -> Resource {
    Resource::Policy(Policy {
        meta: meta("policy"),
        kind: kind.into(),
        targets: vec![TargetRef {
            kind: target.0,
            object: ResourceName::new("shop", target.1),
            section: None,
        }],
        mode: Mode::Enforce,
        spec,
        lines: SourceMap::default(),
    })
}

pub(crate) fn backend_name(service: &str) -> BackendName {
    BackendName { kind: BackendKind::Service, object: ResourceName::new("shop", service), port: 80 }
}

fn listener_name() -> ListenerName {
    ListenerName::own(ResourceName::new("shop", "edge"), "http")
}

fn meta(name: &str) -> Meta {
    Meta { name: ResourceName::new("shop", name), source: source(), created: None }
}

fn source() -> SourceRef {
    SourceRef::File { path: "test.yaml".into(), line: 1 }
}

pub(crate) fn get(path: &str) -> Request<TestBody> {
    Request::get(path).body(empty()).unwrap()
}

pub(crate) fn post(path: &str, body: &'static str) -> Request<TestBody> {
    Request::post(path).body(full(body)).unwrap()
}

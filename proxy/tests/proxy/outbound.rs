//! The outbound side of a sidecar in this process, and connections that were led to it.

use std::net::SocketAddr;

use http::Request;
use tidegate_policy::model::{AppProtocol, PathMatch, Resource, RouteParent};
use tidegate_proxy::config::{Applier, Change, HeaderSite};
use tidegate_proxy::{Proxy, ProxyConfig, Running};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Answer, Client, RawClient};
use tidegate_testkit::proxy_header::v2;

use crate::mesh::{backend_name, config, loopback, route, service_at};

pub(crate) const CLIENT: &str = "192.0.2.9:4321";
/// ClusterIPs: of loopback, and with nobody behind them.
pub(crate) const CART: &str = "127.96.0.1:80";
pub(crate) const PAY: &str = "127.96.0.2:80";

pub(crate) struct Sidecar {
    pub(crate) running: Running,
    applier: Applier,
}

impl Sidecar {
    pub(crate) fn start() -> Self {
        Self::with(|config| config.accept_proxy_protocol.sites = vec![HeaderSite::Outbound])
    }

    pub(crate) fn with(change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let mut config = config();
        config.outbound = Some(loopback(0));
        config.local.namespace = "shop".into();
        change(&mut config);
        let running = Proxy::start(config).unwrap();
        let applier = Applier::new(running.state().clone());
        Self { running, applier }
    }

    pub(crate) fn apply(&mut self, upserts: Vec<Resource>) {
        assert_eq!(self.applier.apply(Change { upserts, removed: Vec::new() }), []);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.outbound().unwrap()
    }

    pub(crate) async fn http1(&self, destination: &str) -> Client {
        Client::http1_after(&to(destination), self.address()).await
    }

    pub(crate) async fn raw(&self, destination: &str) -> RawClient {
        let mut client = RawClient::connect(self.address()).await;
        client.write(to(destination)).await;
        client
    }

    pub(crate) async fn get(&self, destination: &str, host: &str, path: &str) -> Answer {
        let request = Request::get(path).header("host", host).body(empty()).unwrap();
        self.http1(destination).await.call(request).await
    }

    pub(crate) fn metrics(&self, name: &str) -> String {
        let text = self.running.state().telemetry.render_metrics(&Default::default());
        text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join("\n")
    }
}

/// What a redirected connection to `destination` begins with.
pub(crate) fn to(destination: &str) -> Vec<u8> {
    v2(CLIENT.parse().unwrap(), destination.parse().unwrap(), b"")
}

/// A Service with a ClusterIP.
pub(crate) fn service(name: &str, cluster_ip: &str, endpoints: &[SocketAddr]) -> Vec<Resource> {
    let mut all = service_at(name, AppProtocol::Http1, endpoints);
    for resource in &mut all {
        if let Resource::Backend(backend) = resource {
            backend.cluster_ips = vec![cluster_ip.parse::<SocketAddr>().unwrap().ip()];
        }
    }
    all
}

/// A route of the Service `parent` that leads one path to the Service `to`.
pub(crate) fn mesh_route(parent: &str, path: &str, to: &str) -> Resource {
    let mut route = route(to);
    let service = backend_name(parent).object;
    route.parents = vec![RouteParent::Service { service, port: Some(80) }];
    route.rules[0].matches[0].path = PathMatch::Prefix(path.into());
    Resource::Route(route)
}

//! An application with several ports behind one sidecar: each connection comes to the port that it was meant for, under the
//! policies of that port alone.

use std::net::SocketAddr;

use serde_json::json;
use tidegate_policy::model::{AppProtocol, Policy, Resource, ResourceName, TargetKind, TargetRef, Workload};
use tidegate_proxy::config::{Applier, Change, HeaderSite};
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::client::Client;
use tidegate_testkit::proxy_header::v2;

use crate::mesh::{policy, service_at, sidecar_config};

const CALLER: &str = "192.0.2.9:4000";

/// `http` leads to 8080, where HTTP/1 is spoken, and `grpc` to 9090, where HTTP/2 is.
struct Pod {
    running: Running,
    applier: Applier,
    inbound: SocketAddr,
}

async fn app(name: &'static str) -> FaultBackend {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text(name).into());
    backend
}

impl Pod {
    fn start(http: &FaultBackend, grpc: &FaultBackend) -> Self {
        let mut config = sidecar_config(http.address(), AppProtocol::Http1);
        config.accept_proxy_protocol.sites = vec![HeaderSite::Inbound];
        config.local.namespace = "shop".into();
        config.local.pod = Some(ResourceName::new("shop", "cart-1"));
        config.local.apps = [(9090, (grpc.address(), None))].into();
        let running = Proxy::start(config).unwrap();
        let inbound = running.inbound().unwrap();
        let applier = Applier::new(running.state().clone());
        Self { running, applier, inbound }
    }

    fn apply(&mut self, upserts: Vec<Resource>) {
        assert_eq!(self.applier.apply(Change { upserts, removed: Vec::new() }), []);
    }

    /// Status and body of a call that was meant for a port of the pod.
    async fn call(&self, port: u16, http2: bool) -> (u16, String) {
        let header = v2(CALLER.parse().unwrap(), SocketAddr::from(([192, 0, 2, 1], port)), &[]);
        let mut client = match http2 {
            false => Client::http1_after(&header, self.inbound).await,
            true => Client::http2_after(&header, self.inbound).await,
        };
        let answer = client.get("/").await;
        (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
    }
}

fn port(name: &str, port: u16, protocol: AppProtocol, target: u16) -> Vec<Resource> {
    let mut all = service_at("cart", protocol, &[SocketAddr::from(([192, 0, 2, 1], target))]);
    for resource in &mut all {
        match resource {
            Resource::Backend(backend) => {
                backend.name.port = port;
                backend.port_name = Some(name.into());
            }
            Resource::Endpoints(endpoints) => endpoints.backend.port = port,
            _ => {}
        }
    }
    all
}

fn serves(services: &[&str]) -> Resource {
    let services = services.iter().map(|service| ResourceName::new("shop", *service)).collect();
    Resource::Workload(Workload { name: ResourceName::new("shop", "cart-1"), services })
}

fn refused_at(section: &str) -> Resource {
    let spec = json!({"limits": [{"name": "none", "requests": 1, "per": "1h"}]});
    let Resource::Policy(written) = policy("RateLimitPolicy", (TargetKind::Service, "cart"), spec) else {
        panic!()
    };
    let targets =
        written.targets.iter().map(|target| TargetRef { section: Some(section.into()), ..target.clone() });
    let targets = targets.collect();
    Resource::Policy(Policy { targets, ..written })
}

#[tokio::test]
async fn each_connection_comes_to_the_port_that_it_was_meant_for() {
    let (http, grpc) = (app("http").await, app("grpc").await);
    let mut pod = Pod::start(&http, &grpc);
    pod.apply(
        [port("http", 80, AppProtocol::Http1, 8080), port("grpc", 81, AppProtocol::H2c, 9090)].concat(),
    );
    pod.apply(vec![serves(&["cart"])]);
    assert_eq!(pod.call(8080, false).await, (200, "http".into()));
    assert_eq!(pod.call(9090, true).await, (200, "grpc".into()));
    assert_eq!(
        pod.call(7777, false).await,
        (200, "http".into()),
        "what is for no port of its own is for the first"
    );
    assert_eq!(grpc.seen()[0].version, http::Version::HTTP_2, "as the Service says that it speaks");
    assert_eq!(http.seen()[0].version, http::Version::HTTP_11);
    drop(pod.running);
}

#[tokio::test]
async fn a_policy_of_one_port_holds_there_and_comes_and_goes_with_what_the_pod_serves() {
    let (http, grpc) = (app("http").await, app("grpc").await);
    let mut pod = Pod::start(&http, &grpc);
    pod.apply(
        [port("http", 80, AppProtocol::Http1, 8080), port("grpc", 81, AppProtocol::H2c, 9090)].concat(),
    );
    pod.apply(vec![refused_at("grpc")]);
    for _ in 0..3 {
        assert_eq!(pod.call(9090, true).await.0, 200, "nobody has said that this pod serves it");
    }
    pod.apply(vec![serves(&["cart"])]);
    let limited = [pod.call(9090, true).await.0, pod.call(9090, true).await.0];
    assert_eq!(limited, [200, 429]);
    assert_eq!(pod.call(8080, false).await.0, 200, "the other port has none");
    pod.apply(vec![serves(&[])]);
    assert_eq!(pod.call(9090, true).await.0, 200);
}

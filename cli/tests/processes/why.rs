//! `tidegate why`: a request that is refused at its second hop, told by both; real proxies, a real control plane, and the
//! command as a process.

use std::fs;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tidegate_control_plane::Running as ControlPlane;
use tidegate_control_plane::decisions::Why;
use tidegate_policy::model::{AppProtocol, ResourceName};
use tidegate_proxy::telemetry::LogTarget;
use tidegate_proxy::{Proxy, ProxyConfig, Running};
use tokio::runtime::Runtime;

use super::process::{app, command, get};
use super::shared_limits::args;

const PATIENCE: Duration = Duration::from_secs(30);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pay, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: checkout, port: 80}]
  rules:
  - name: all
    backendRefs: [{name: checkout, port: 80}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: strict, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: checkout}]
  limits:
  - name: everyone
    requests: 1
    per: 1h
";

struct Mesh {
    runtime: Runtime,
    plane: ControlPlane,
    caller: Running,
    serving: Running,
    dir: tempfile::TempDir,
}

impl Mesh {
    fn start() -> Self {
        let (dir, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        fs::write(dir.path().join("mesh.yaml"), MESH).unwrap();
        let plane = runtime.block_on(tidegate_control_plane::start(&args(dir.path()))).unwrap();
        let serving = Proxy::start(serving(plane.grpc)).unwrap();
        until(|| serving.state().ready().is_ok());
        let inbound = serving.inbound().unwrap();
        fs::write(dir.path().join("endpoints.yaml"), endpoints(inbound)).unwrap();
        let caller = Proxy::start(caller(plane.grpc)).unwrap();
        until(|| caller.state().ready().is_ok());
        let mesh = Self { runtime, plane, caller, serving, dir };
        until(|| mesh.why("nothing").0 == Some(1));
        mesh
    }

    /// The exit code of the command, and what it says.
    fn why(&self, id: &str) -> (Option<i32>, String) {
        let url = format!("http://{}", self.plane.admin);
        let output = command(&["why", id, "--control-plane", &url]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn pay(&self) -> u16 {
        let parent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
        get(self.caller.outbound().unwrap(), "http://checkout.shop/pay?card=1", &parent).0
    }

    fn end(self) {
        for sidecar in [self.caller, self.serving] {
            sidecar.shutdown();
            self.runtime.block_on(sidecar.wait());
        }
        self.runtime.block_on(self.plane.shutdown());
    }
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn config(name: &str, control_plane: SocketAddr) -> ProxyConfig {
    let mut config = ProxyConfig {
        control_plane: Some(format!("http://{control_plane}").parse().unwrap()),
        node: name.to_owned(),
        admin: any(),
        access_log: LogTarget::Off,
        workers: 1,
        ..ProxyConfig::default()
    };
    config.local.namespace = "shop".into();
    config
}

fn caller(control_plane: SocketAddr) -> ProxyConfig {
    ProxyConfig { outbound: Some(any()), ..config("web-1", control_plane) }
}

fn serving(control_plane: SocketAddr) -> ProxyConfig {
    let mut config = ProxyConfig { inbound: Some(any()), ..config("checkout-1", control_plane) };
    config.local.services = vec![ResourceName::new("shop", "checkout")];
    config.local.app = Some((app(), AppProtocol::Http1));
    config
}

fn endpoints(serving: SocketAddr) -> String {
    format!(
        "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: checkout-1
  namespace: shop
  labels: {{kubernetes.io/service-name: checkout}}
addressType: IPv4
ports: [{{port: {}}}]
endpoints: [{{addresses: ['{}']}}]
",
        serving.port(),
        serving.ip()
    )
}

fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "this never came");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn both_hops_of_a_request_that_the_second_refused_are_shown_with_their_lines() {
    let mesh = Mesh::start();
    until(|| mesh.pay() == 429);
    let (code, text) = mesh.why(TRACE);
    assert_eq!(code, Some(0), "{text}");
    let (first, second) = (text.find("web-1 outbound: GET"), text.find("checkout-1 inbound: GET"));
    assert!(first.is_some() && first < second, "{text}");
    for part in [
        "route shop/pay rule all (",
        "backend shop/checkout:80 at 127.0.0.1:",
        "answered by the mesh, at the next hop",
        "RateLimitPolicy shop/strict everyone (",
        "mesh.yaml:12)\n    backend",
        "mesh.yaml:21): refused rate_limited",
        "refused here: rate_limited",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("card=1") && !text.contains('\x1b'), "{text}");
    mesh.end();
}

#[test]
fn one_proxy_is_asked_at_its_own_port_and_who_cannot_be_asked_is_told() {
    let mesh = Mesh::start();
    until(|| mesh.pay() == 429);
    let serving = format!("http://{}", mesh.serving.admin());
    let output = command(&["why", TRACE, "--json", "--admin", &serving]).output().unwrap();
    let why: Why = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((why.answered, why.unanswered, output.status.code()), (1, 0, Some(0)));
    assert!(why.hops.iter().all(|hop| hop.node == "checkout-1" && hop.trace_id == TRACE), "{why:?}");
    assert!(why.hops.iter().any(|hop| hop.kept == "refused"), "{why:?}");

    let closed = "http://127.0.0.1:1";
    let output = command(&["why", "unknown", "--admin", &serving, "--admin", closed]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("1 of 2 proxies could not be asked: http://127.0.0.1:1/"), "{text}");
    assert_eq!(command(&["why", "unknown", "--admin", &serving]).output().unwrap().status.code(), Some(1));
    let nobody = command(&["why", TRACE, "--control-plane", closed]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("cannot ask http://127.0.0.1:1/"));
    mesh.end();
}

#[test]
fn files_and_a_running_control_plane_describe_a_service_alike_and_explain_says_the_line() {
    let mesh = Mesh::start();
    let url = format!("http://{}", mesh.plane.admin);
    let folder = mesh.dir.path().to_str().unwrap();
    let said = |args: &[&str]| {
        let output = command(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let running = said(&["describe", "service", "checkout", "--control-plane", &url]);
    let written = said(&["describe", "service", "shop/checkout", "--policies", folder]);
    assert_eq!(running, written);
    assert!(running.1.contains("holds: RateLimitPolicy shop/strict"), "{}", running.1);
    assert_eq!(said(&["describe", "gateway", "edge", "--control-plane", &url]).0, Some(2));

    let ask =
        ["explain", "GET", "http://checkout/pay", "--policies", folder, "--as", "serving", "shop/checkout"];
    let (code, text) = said(&ask);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("mesh.yaml:21): allowed remaining=0"), "{text}");
    mesh.end();
}

//! A sidecar that knows what its application calls, and a pod that learns what it serves.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value as Json;

use super::process::{Tidegate, address_after, app, get};

struct Plane {
    process: Tidegate,
    grpc: SocketAddr,
    admin: SocketAddr,
}

impl Plane {
    fn start(policies: &Path, listen: &str) -> Self {
        let policies = policies.to_str().unwrap();
        let flags = ["--policies", policies, "--listen", listen, "--admin", "127.0.0.1:0"];
        let mut process = Tidegate::start(&[&["control-plane"][..], &flags].concat());
        let ready = process.hear_of(&["control plane is ready"]);
        Self { process, grpc: address_after(&ready, "grpc="), admin: address_after(&ready, "admin=") }
    }

    /// How many resources the only proxy is to have; waits until it has said that it has them.
    fn told(&self) -> u64 {
        loop {
            let status: Json = serde_json::from_str(&get(self.admin, "/status", "").1).unwrap();
            let node = &status["nodes"][0];
            if let Some(of) = node["of"].as_u64().filter(|of| node["acknowledged"] == *of) {
                return of;
            }
        }
    }
}

fn service(name: &str, app: SocketAddr, at: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: shop }}
spec: {{ clusterIP: {at}, ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: {name}, namespace: shop, labels: {{ kubernetes.io/service-name: {name} }} }}
addressType: IPv4
ports: [{{ name: http, port: {} }}]
endpoints: [{{ addresses: [{}], targetRef: {{ kind: Pod, name: {name}-1 }} }}]
---
",
        app.port(),
        app.ip()
    )
}

fn sidecar(control_plane: SocketAddr, state: &Path, more: &[&str]) -> Tidegate {
    let (url, state) = (format!("http://{control_plane}"), state.to_str().unwrap().to_owned());
    let own = ["proxy", "--sidecar", "--control-plane", &url, "--state-dir", &state, "--namespace", "shop"];
    Tidegate::start(&[&own[..], &["--admin", "127.0.0.1:0", "--access-log", "off"], more].concat())
}

#[test]
fn a_sidecar_on_demand_learns_of_a_service_by_the_first_call_and_of_no_other() {
    let (dir, app) = (tempfile::tempdir().unwrap(), app());
    let (policies, state) = (dir.path().join("mesh"), dir.path().join("state"));
    fs::create_dir(&policies).unwrap();
    let others: String =
        (1..=40).map(|i| service(&format!("other-{i}"), app, &format!("10.96.1.{i}"))).collect();
    fs::write(policies.join("mesh.yaml"), service("hello", app, "10.96.0.1") + &others).unwrap();
    let plane = Plane::start(&policies, "127.0.0.1:0");
    let flags = ["--on-demand", "--outbound", "127.0.0.1:0"];
    let mut calling = sidecar(plane.grpc, &state, &flags);
    let outbound = address_after(&calling.hear_of(&["listening", "outbound"]), "address=");
    assert_eq!(get(outbound, "http://hello.shop/", ""), (200, "hello".into()), "the first call waits for it");
    assert_eq!(plane.told(), 3, "its backend, its endpoints, and that this is all");
    assert_eq!(get(outbound, "http://nobody.shop/", "").0, 404);
    assert_eq!(plane.told(), 4);

    // It comes to be, and is known by then: nobody asks twice.
    fs::write(policies.join("late.yaml"), service("nobody", app, "10.96.0.2")).unwrap();
    while get(outbound, "http://nobody.shop/", "").0 != 200 {}

    // What was learnt holds without a control plane, and over a restart without one.
    let Plane { process, grpc, .. } = plane;
    drop(process);
    calling.hear_of(&["no control plane"]);
    assert_eq!(get(outbound, "http://hello.shop/", "").0, 200);
    drop(calling);
    let mut again = sidecar(grpc, &state, &flags);
    let outbound = address_after(&again.hear_of(&["listening", "outbound"]), "address=");
    assert_eq!(get(outbound, "http://hello.shop/", "").0, 200);
    assert_eq!(get(outbound, "http://other-1.shop/", "").0, 404, "nobody is there to be asked");
    let plane = Plane::start(&policies, &grpc.to_string());
    again.hear_of(&["connected to the control plane"]);
    while get(outbound, "http://other-1.shop/", "").0 != 200 {}
    assert_eq!(plane.told(), 9, "three Services");
}

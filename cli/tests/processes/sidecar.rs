//! `tidegate run --sidecar`: the outbound sides of several workloads, side by side from one directory.

use std::collections::HashSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use super::process::{Tidegate, address, app, free_port, get};

/// The outbound side of a workload in `namespace`, and where it listens.
fn sidecar(dir: &Path, namespace: &str, more: &[&str]) -> (Tidegate, SocketAddr) {
    let dir = dir.to_str().unwrap();
    let own = ["--namespace", namespace, "--workload", "web", "--outbound", "127.0.0.1:0"];
    let flags = [&["run", "--sidecar", "--policies", dir][..], &own, more];
    let mut run = Tidegate::start(&flags.concat());
    let outbound = address(&run.hear("outbound "));
    run.hear("policies ");
    (run, outbound)
}

#[test]
fn sidecars_of_several_namespaces_run_from_one_directory_and_each_sees_its_own_routes() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    fs::write(dir.path().join("mesh.yaml"), mesh(port, app())).unwrap();
    let (_shop, shop) = sidecar(dir.path(), "shop", &[]);
    let (_other, other) = sidecar(dir.path(), "other", &[]);
    let host = "x-case: 1\r\n";
    for (outbound, path, status) in [
        (shop, "/producer", 200),
        (shop, "/consumer", 404),
        (other, "/producer", 404),
        (other, "/consumer", 200),
    ] {
        assert_eq!(get(outbound, &format!("http://hello.shop{path}"), host).0, status, "{outbound} {path}");
    }
    let closed = TcpStream::connect(("127.0.0.1", port));
    assert!(closed.is_err(), "a sidecar opens no listener of a Gateway");
}

#[test]
fn sidecars_that_start_at_the_same_moment_each_find_a_place_for_their_status() {
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().to_str().unwrap();
    let flags = ["run", "--sidecar", "--policies", policies, "--outbound", "127.0.0.1:0"];
    let mut runs: Vec<_> = (0..8).map(|_| Tidegate::start(&flags)).collect();
    let places: HashSet<_> = runs.iter_mut().map(|run| address(&run.hear("status "))).collect();
    assert_eq!(places.len(), runs.len());
}

/// A Gateway that no sidecar may open; a Service with a route of its own namespace and one of another.
fn mesh(port: u16, app: SocketAddr) -> String {
    let route = |namespace: &str, path: &str| {
        format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: hello, namespace: {namespace} }}
spec:
  parentRefs: [{{ group: '', kind: Service, name: hello, namespace: shop, port: 80 }}]
  rules:
    - matches: [{{ path: {{ value: {path} }} }}]
      backendRefs: [{{ name: hello, namespace: shop, port: 80 }}]
"
        )
    };
    let (producer, consumer) = (route("shop", "/producer"), route("other", "/consumer"));
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: edge, namespace: shop }}
spec:
  gatewayClassName: tidegate
  addresses: [{{ type: IPAddress, value: 127.0.0.1 }}]
  listeners: [{{ name: http, port: {port}, protocol: HTTP }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: hello, namespace: shop }}
spec: {{ clusterIP: 127.9.0.1, ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: hello, namespace: shop, labels: {{ kubernetes.io/service-name: hello }} }}
addressType: IPv4
ports: [{{ name: http, port: {} }}]
endpoints: [{{ addresses: [{}] }}]
{producer}{consumer}",
        app.port(),
        app.ip()
    )
}

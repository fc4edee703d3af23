//! `tidegate run` as a person uses it: a sidecar without a file, and a gateway whose files are edited.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::process::{Tidegate, address, app, free_port, get};
use serde_json::Value;

#[test]
fn a_sidecar_without_any_file_passes_requests_on_and_says_that_no_policy_is_active() {
    let app = app();
    let mut run = Tidegate::start(&[
        "run",
        "--app",
        &app.to_string(),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    let sidecar = address(&run.hear("listen "));
    run.hear("policies  none");
    assert_eq!(get(sidecar, "/", ""), (200, String::from("hello")));
}

#[test]
fn an_edit_is_in_force_at_once_and_a_mistake_changes_nothing() {
    let app = app();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    fs::write(dir.path().join("mesh.yaml"), mesh(port, app)).unwrap();
    let limits = dir.path().join("limits.yaml");
    fs::write(&limits, limit("requests: 1000")).unwrap();

    let mut run = Tidegate::start(&[
        "run",
        "--policies",
        dir.path().to_str().unwrap(),
        "--status",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    let status = address(&run.hear("status "));
    assert!(run.hear("policies ").contains("1 active"));
    let gateway = SocketAddr::from(([127, 0, 0, 1], address(&run.hear("listen ")).port()));
    assert_eq!(get(gateway, "/", "").0, 200);

    let before = generation(status);
    replace(&limits, &limit("requests: 1"));
    run.hear("in force  RateLimitPolicy default/slow");
    assert!(generation(status) > before);
    let codes: Vec<u16> = (0..3).map(|_| get(gateway, "/", "x-user: alice\r\n").0).collect();
    assert_eq!(codes, [200, 429, 429]);

    replace(&limits, &limit("request: 1000"));
    let error = run.hear("error ");
    assert!(error.contains("limits.yaml:") && error.contains("request"), "{error}");
    assert_eq!(get(gateway, "/", "x-user: alice\r\n").0, 429, "the last valid version stays in force");

    replace(&limits, &limit("requests: 1000"));
    run.hear("fixed ");
    run.hear("in force  RateLimitPolicy default/slow");
    assert_eq!(get(gateway, "/", "x-user: bob\r\n").0, 200);
    assert_eq!(get(gateway, "/", "x-user: bob\r\n").0, 200);
}

fn generation(status: SocketAddr) -> u64 {
    let (code, body) = get(status, "/status", "");
    assert_eq!(code, 200);
    serde_json::from_str::<Value>(&body).unwrap()["generation"].as_u64().unwrap()
}

/// As editors save: a new file takes the old one's place.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("tmp");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

/// A limit that is not refilled within any test.
fn limit(requests: &str) -> String {
    format!(
        r"apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{ name: slow }}
spec:
  targetRefs: [{{ group: gateway.networking.k8s.io, kind: Gateway, name: edge }}]
  limits:
    - name: per-user
      {requests}
      per: 1h
      burst: 1
      key: [{{ type: Header, name: x-user }}]
"
    )
    .replace("      burst: 1\n", if requests == "requests: 1" { "      burst: 1\n" } else { "" })
}

/// A gateway with one route for everything.
pub(crate) fn mesh(port: u16, app: SocketAddr) -> String {
    format!(
        r"apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: edge }}
spec:
  gatewayClassName: tidegate
  addresses: [{{ type: IPAddress, value: 127.0.0.1 }}]
  listeners: [{{ name: http, port: {port}, protocol: HTTP }}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: all }}
spec:
  parentRefs: [{{ name: edge }}]
  rules: [{{ backendRefs: [{{ name: hello, port: 80 }}] }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: hello }}
spec: {{ ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: hello, labels: {{ kubernetes.io/service-name: hello }} }}
addressType: IPv4
ports: [{{ name: http, port: {} }}]
endpoints: [{{ addresses: [{}] }}]
",
        app.port(),
        app.ip()
    )
}

//! mTLS without a cluster, as the README has it: tokens, a control plane that signs, and two sidecars.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use super::process::{Tidegate, address_after, app, command, free_port, get};

/// What `tidegate token` prints, in a file.
fn token(dir: &Path, account: &str) -> String {
    let tokens = dir.join("join-tokens");
    let flags = ["token", "--namespace", "shop", "--service-account", account, "--tokens"];
    let out = command(&flags).arg(tokens).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let path = dir.join(format!("{account}.token"));
    fs::write(&path, out.stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

fn proxy(control_plane: &str, root: &str, token: &str, more: &[&str]) -> Tidegate {
    let own = ["proxy", "--control-plane", control_plane, "--trust-root", root, "--identity-token", token];
    let rest =
        ["--wait-for-identity", "--namespace", "shop", "--admin", "127.0.0.1:0", "--access-log", "off"];
    Tidegate::start(&[&own[..], &rest, more].concat())
}

#[test]
fn two_sidecars_join_with_tokens_and_call_each_other_by_mtls_only() {
    let (dir, inbound, app) = (tempfile::tempdir().unwrap(), free_port(), app());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(dir.path().join("mesh")).unwrap();
    fs::write(dir.path().join("mesh/mesh.yaml"), mesh(inbound)).unwrap();
    let (cart, web) = (token(dir.path(), "cart"), token(dir.path(), "web"));
    let (policies, ca, tokens) = (path("mesh"), path("ca"), path("join-tokens"));
    let mut control_plane = Tidegate::start(&[
        "control-plane",
        "--policies",
        &policies,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--ca-dir",
        &ca,
        "--join-tokens",
        &tokens,
    ]);
    let ready = control_plane.hear_of(&["control plane is ready"]);
    let url = format!("https://{}", address_after(&ready, "grpc="));
    let root = path("ca/trust-bundle.pem");
    let (inbound, app) = (format!("127.0.0.1:{inbound}"), app.to_string());
    let serving = ["--service", "cart", "--inbound", &inbound, "--app", &app, "--node", "cart-1"];
    let mut served = proxy(&url, &root, &cart, &serving);
    served.hear_of(&["listening", "inbound"]);
    let calling = ["--sidecar", "--workload", "web", "--outbound", "127.0.0.1:0"];
    let mut calling = proxy(&url, &root, &web, &calling);
    let outbound = address_after(&calling.hear_of(&["listening", "outbound"]), "address=");
    let line = control_plane.hear_of(&["proxy connected", "cart-1"]);
    assert!(
        line.contains("spiffe://cluster.local/ns/shop/sa/cart"),
        "it is known by its certificate: {line}"
    );

    assert_eq!(get(outbound, "http://cart.shop/", ""), (200, "hello".into()));
    let mut plain = TcpStream::connect(&inbound).unwrap();
    let (mut answer, request) = (Vec::new(), b"GET / HTTP/1.1\r\nhost: cart\r\n\r\n");
    std::io::Write::write_all(&mut plain, request).unwrap();
    let read = std::io::Read::read_to_end(&mut plain, &mut answer);
    assert!(read.is_err() || answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

/// A Service whose sidecar is called by mTLS and by nothing else.
fn mesh(port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: cart
  namespace: shop
  annotations: {{ tidegate.io/mtls: enabled, tidegate.io/service-accounts: cart }}
spec: {{ clusterIP: 127.9.0.2, ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: cart, namespace: shop, labels: {{ kubernetes.io/service-name: cart }} }}
addressType: IPv4
ports: [{{ name: http, port: {port} }}]
endpoints: [{{ addresses: [127.0.0.1] }}]
---
apiVersion: tidegate.io/v1alpha1
kind: MeshTlsPolicy
metadata: {{ name: strict, namespace: shop }}
spec: {{ targetRefs: [{{ kind: Namespace, name: shop }}], mtls: Strict }}
"
    )
}

//! One limit for several proxies, lent by a real control plane over real sockets. Without a share nothing passes here, so
//! whatever does was lent, reported and assigned.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tidegate_control_plane::{ControlPlaneArgs, ControllerArgs, IdentityArgs, QuotaArgs};
use tidegate_policy::model::{AppProtocol, ResourceName};
use tidegate_proxy::telemetry::LogTarget;
use tidegate_proxy::{Proxy, ProxyConfig, Running};
use tokio::runtime::Runtime;

use super::process::{app, get};

const REQUESTS: usize = 40;
const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: shared, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: checkout}]
  scope: Mesh
  mesh: {fallbackPercent: 0}
  limits: [{name: all, requests: 40, per: 1h, key: [{type: Header, name: x-user}]}]
";

pub(crate) fn args(policies: &Path) -> ControlPlaneArgs {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    ControlPlaneArgs {
        identity: IdentityArgs::default(),
        policies: Some(policies.to_owned()),
        listen: any,
        admin: any,
        classes: ControllerArgs::default(),
        status_file: None,
        quota: QuotaArgs::default(),
        is_first: true,
    }
}

fn sidecar(name: &str, control_plane: SocketAddr, app: SocketAddr) -> Running {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = ProxyConfig {
        control_plane: Some(format!("http://{control_plane}").parse().unwrap()),
        node: name.to_owned(),
        admin: any,
        inbound: Some(any),
        access_log: LogTarget::Off,
        workers: 1,
        ..ProxyConfig::default()
    };
    config.local.namespace = "shop".into();
    config.local.services = vec![ResourceName::new("shop", "checkout")];
    config.local.app = Some((app, AppProtocol::Http1));
    Proxy::start(config).unwrap()
}

/// Asks all in turn until `enough` have passed or nothing has for a while; how many passed.
fn passed(sidecars: &[&Running], user: &str, enough: usize) -> usize {
    let (mut passed, mut last) = (0, Instant::now());
    while passed < enough && last.elapsed() < Duration::from_secs(20) {
        for sidecar in sidecars {
            let address = sidecar.inbound().unwrap();
            if get(address, "/", &format!("x-user: {user}\r\n")).0 == 200 {
                (passed, last) = (passed + 1, Instant::now());
            }
        }
        sleep(Duration::from_millis(20));
    }
    passed
}

#[test]
fn two_sidecars_let_through_what_one_limit_says_and_one_that_ends_leaves_its_share_to_the_other() {
    let (dir, runtime, app) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap(), app());
    fs::write(dir.path().join("mesh.yaml"), MESH).unwrap();
    let plane = runtime.block_on(tidegate_control_plane::start(&args(dir.path()))).unwrap();
    let (one, two) = (sidecar("one", plane.grpc, app), sidecar("two", plane.grpc, app));
    while one.state().ready().is_err() || two.state().ready().is_err() {
        sleep(Duration::from_millis(10));
    }
    // Parts of requests may lie where nobody asks.
    assert!(passed(&[&one, &two], "ann", REQUESTS - 2) >= REQUESTS - 2);
    for sidecar in [&one, &two, &one, &two, &one, &two] {
        get(sidecar.inbound().unwrap(), "/", "x-user: ann\r\n");
    }
    assert_eq!(get(one.inbound().unwrap(), "/", "x-user: ann\r\n").0, 429);

    assert!(passed(&[&one, &two], "bob", 4) >= 4);
    one.shutdown();
    runtime.block_on(one.wait());
    let rest = passed(&[&two], "bob", REQUESTS - 8);
    assert!(rest >= REQUESTS - 8, "{rest} of what the first left behind");
    two.shutdown();
    runtime.block_on(two.wait());
    runtime.block_on(plane.shutdown());
}

/// Another control plane, as the rate limit service.
const SERVED: &str = "\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: edge}
spec:
  domain: edge
  limits: [{name: user, requests: 5, per: 1h, key: [{type: Descriptor, name: user}]}]
";
const ASKING: &str = "\
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {name: limits, namespace: shop}
spec: {endpoints: [{address: 127.0.0.1, port: PORT}]}
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: asked, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: checkout}]
  scope: Service
  service: {backendRef: {kind: Backend, name: limits}, domain: edge, timeout: 1s, onFailure: Deny}
  limits: [{name: user, descriptor: [{key: user, from: {type: Header, name: x-user}}]}]
";

#[test]
fn two_sidecars_let_through_what_a_rate_limit_service_says_and_nothing_once_it_is_gone() {
    let (served, asking) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (runtime, app) = (Runtime::new().unwrap(), app());
    fs::write(served.path().join("edge.yaml"), SERVED).unwrap();
    let service = runtime.block_on(tidegate_control_plane::start(&args(served.path()))).unwrap();
    let text = ASKING.replace("PORT", &service.grpc.port().to_string());
    fs::write(asking.path().join("asking.yaml"), text).unwrap();
    let plane = runtime.block_on(tidegate_control_plane::start(&args(asking.path()))).unwrap();
    let sidecars = [sidecar("one", plane.grpc, app), sidecar("two", plane.grpc, app)];
    while sidecars.iter().any(|sidecar| sidecar.state().ready().is_err()) {
        sleep(Duration::from_millis(10));
    }
    let passed = |user: &str| {
        let ask = |at: &Running| get(at.inbound().unwrap(), "/", &format!("x-user: {user}\r\n")).0 == 200;
        (0..8).map(|n| &sidecars[n % 2]).filter(|sidecar| ask(sidecar)).count()
    };
    assert_eq!([passed("ann"), passed("bob")], [5, 5]);
    runtime.block_on(service.shutdown());
    assert_eq!(passed("eve"), 0);
    for sidecar in sidecars {
        sidecar.shutdown();
        runtime.block_on(sidecar.wait());
    }
    runtime.block_on(plane.shutdown());
}

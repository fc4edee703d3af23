//! What some proxies know of a failing endpoint, heard by others: real proxies, a real control plane, real sockets. No
//! proxy has a breaker of its own here, so whoever leaves an endpoint alone was told to.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tidegate_control_plane::Running as ControlPlane;
use tidegate_proxy::telemetry::LogTarget;
use tidegate_proxy::{Proxy, ProxyConfig, Running};
use tokio::runtime::Runtime;

use super::process::{app, get};
use super::shared_limits::args;

const PATIENCE: Duration = Duration::from_secs(30);

/// An endpoint that answers 503 until it is mended, and counts whom it answers.
#[derive(Clone, Default)]
struct Failing {
    asked: Arc<AtomicUsize>,
    mended: Arc<AtomicBool>,
}

impl Failing {
    fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, this) = (listener.local_addr().unwrap(), self.clone());
        std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(|s| this.answer(s)));
        address
    }

    fn answer(&self, mut stream: TcpStream) {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let status = if self.mended.load(Ordering::SeqCst) { "200 OK" } else { "503 Broken" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

struct Mesh {
    runtime: Runtime,
    plane: Option<ControlPlane>,
    failing: Failing,
    _dir: tempfile::TempDir,
}

impl Mesh {
    fn start() -> Self {
        let (dir, runtime, failing) =
            (tempfile::tempdir().unwrap(), Runtime::new().unwrap(), Failing::default());
        let (good, bad) = (app().port(), failing.serve().port());
        let documents = format!(
            "\
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: shop, namespace: example}}
spec:
  port: 80
  endpoints: [{{address: 127.0.0.1, port: {good}}}, {{address: 127.0.0.1, port: {bad}}}]
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {{name: share, namespace: example}}
spec:
  targetRefs: [{{group: tidegate.io, kind: Backend, name: shop}}]
  shared: {{quorum: 2, failures: 4, hold: 1h}}
"
        );
        fs::write(dir.path().join("mesh.yaml"), documents).unwrap();
        let plane = runtime.block_on(tidegate_control_plane::start(&args(dir.path()))).unwrap();
        Self { runtime, plane: Some(plane), failing, _dir: dir }
    }

    fn sidecar(&self, name: &str) -> Running {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = ProxyConfig {
            control_plane: Some(format!("http://{}", self.plane.as_ref().unwrap().grpc).parse().unwrap()),
            node: name.to_owned(),
            admin: any,
            outbound: Some(any),
            access_log: LogTarget::Off,
            workers: 1,
            ..ProxyConfig::default()
        };
        config.local.namespace = "shop".into();
        let sidecar = Proxy::start(config).unwrap();
        until(|| sidecar.state().ready().is_ok());
        sidecar
    }

    /// Calls that `sidecar` makes until one has failed.
    fn fail(&self, sidecar: &Running) {
        until(|| call(sidecar) == 503);
    }

    fn suspects(&self) -> usize {
        self.plane.as_ref().unwrap().status().suspects.len()
    }

    fn end(mut self, sidecars: Vec<Running>) {
        for sidecar in sidecars {
            sidecar.shutdown();
            self.runtime.block_on(sidecar.wait());
        }
        self.runtime.block_on(self.plane.take().unwrap().shutdown());
    }
}

fn call(sidecar: &Running) -> u16 {
    get(sidecar.outbound().unwrap(), "/", "").0
}

fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "this never came");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_two_sidecars_saw_fail_a_third_and_one_that_starts_later_leave_alone() {
    let mesh = Mesh::start();
    let (one, two, third) = (mesh.sidecar("one"), mesh.sidecar("two"), mesh.sidecar("third"));
    for _ in 0..2 {
        mesh.fail(&one);
        mesh.fail(&two);
    }
    until(|| mesh.suspects() == 1);
    // Its word is on the way to the third.
    until(|| {
        let before = mesh.failing.asked();
        (0..20).for_each(|_| _ = call(&third));
        mesh.failing.asked() == before
    });
    let later = mesh.sidecar("later");
    until(|| {
        let before = mesh.failing.asked();
        (0..20).for_each(|_| _ = call(&later));
        mesh.failing.asked() == before
    });
    mesh.end(vec![one, two, third, later]);
}

#[test]
fn one_sidecar_alone_cannot_have_an_endpoint_left_alone() {
    let mesh = Mesh::start();
    let (liar, other) = (mesh.sidecar("liar"), mesh.sidecar("other"));
    for _ in 0..20 {
        mesh.fail(&liar);
    }
    mesh.failing.mended.store(true, Ordering::SeqCst);
    let before = mesh.failing.asked();
    (0..50).for_each(|_| assert_eq!(call(&other), 200));
    assert!(mesh.failing.asked() > before, "it is called as before");
    assert_eq!(mesh.suspects(), 0);
    mesh.end(vec![liar, other]);
}

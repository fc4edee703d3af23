//! Endpoints that cannot be healthy, and what a proxy says of them.

#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_policy::model::{Resource, TargetKind};
use tidegate_proxy::Running;
use tidegate_proxy::admin::AdminSource;
use tidegate_testkit::backend::FaultBackend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::mesh::{Gateway, policy};

/// A check by HTTP that turns with every answer.
pub(super) fn check(path: &str) -> Value {
    json!({"name": "ready", "http": {"path": path}, "interval": "100ms", "timeout": "2s",
        "unhealthyThreshold": 1, "healthyThreshold": 1})
}

/// Of the Service `v1`.
pub(super) fn health(checks: Value, extra: Value) -> Resource {
    health_of("v1", TargetKind::Service, checks, extra)
}

pub(super) fn health_of(target: &str, kind: TargetKind, checks: Value, extra: Value) -> Resource {
    let mut spec = json!({"checks": checks});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    policy("HealthCheckPolicy", (kind, target), spec)
}

/// What status says of each check of each endpoint.
pub(super) fn endpoints(running: &Running) -> Vec<Value> {
    let status = running.state().status();
    let guards = status["health_checks"].as_array().unwrap();
    guards.iter().flat_map(|guard| guard["endpoints"].as_array().unwrap().clone()).collect()
}

pub(super) fn all_states(gateway: &Gateway) -> Vec<Value> {
    endpoints(&gateway.running)
}

fn endpoint(gateway: &Gateway, address: SocketAddr) -> Option<Value> {
    all_states(gateway).into_iter().find(|told| told["endpoint"] == address.to_string())
}

pub(super) fn state_of(gateway: &Gateway, address: SocketAddr) -> Option<String> {
    endpoint(gateway, address).map(|told| told["state"].as_str().unwrap().to_owned())
}

/// Waits until something is so; only a test that is broken waits long.
pub(super) async fn until(gateway: &Gateway, wanted: impl Fn(&Gateway) -> bool) {
    let waiting = async {
        while !wanted(gateway) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "{:#?}", all_states(gateway));
}

pub(super) async fn in_state(gateway: &Gateway, backend: &FaultBackend, state: &str) {
    until(gateway, |gateway| state_of(gateway, backend.address()).as_deref() == Some(state)).await;
}

/// What an endpoint failed with, once it is unhealthy.
pub(super) async fn failing(gateway: &Gateway, address: SocketAddr) -> String {
    until(gateway, |gateway| state_of(gateway, address).as_deref() == Some("unhealthy")).await;
    endpoint(gateway, address).unwrap()["last_failure"].as_str().unwrap().to_owned()
}

pub(super) fn path_count(backend: &FaultBackend, path: &str) -> usize {
    backend.seen().iter().filter(|head| head.uri.path() == path).count()
}

/// Where nobody listens.
pub(super) async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// What a server that is none does with a connection.
#[derive(Clone, Copy)]
pub(super) enum Raw {
    Silent,
    Garbage,
    Closes,
    EndlessHead,
    CutBody,
}

pub(super) async fn raw(what: Raw) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(misbehave(stream, what));
        }
    });
    address
}

async fn misbehave(mut stream: TcpStream, what: Raw) {
    let mut buffer = [0; 4096];
    match what {
        Raw::Silent => while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {},
        Raw::Garbage => {
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n").await;
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        }
        Raw::Closes => drop(stream.read(&mut buffer).await),
        Raw::EndlessHead => {
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while stream.write_all(b"x-more: and more\r\n").await.is_ok() {}
        }
        Raw::CutBody => {
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        }
    }
}

/// Holds connections as long as the other side does, and counts them.
pub(super) async fn hold(listener: TcpListener, open: Arc<AtomicUsize>, most: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let now = open.fetch_add(1, Ordering::Relaxed) + 1;
        most.fetch_max(now, Ordering::Relaxed);
        let open = open.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

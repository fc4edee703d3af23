//! Two sidecars with identities, and whoever gave them.

use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::Value;
use tempfile::NamedTempFile;
use tidegate_policy::model::{AppProtocol, MeshPeer, Mode, Policy, Resource, ResourceName, TargetKind};
use tidegate_proxy::config::{Applier, Change};
use tidegate_proxy::identity::{IdentityClock, IdentityConfig};
use tidegate_proxy::{Proxy, ProxyConfig, Running};
use tidegate_testkit::authority::{TestAuthority, TestClock};

use crate::mesh::{backend_name, policy, sidecar_config};
use crate::outbound::{CART, Sidecar, service};

/// A token, for as long as somebody may want to read it.
pub(super) struct Token(NamedTempFile);

impl Token {
    pub(super) fn of(name: &str) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        write!(file, "{name}").unwrap();
        Self(file)
    }
}

/// What gives a proxy the identity of a token.
pub(super) fn identity(authority: &TestAuthority, clock: &TestClock, token: &Token) -> IdentityConfig {
    IdentityConfig {
        token: Some(token.0.path().to_owned()),
        ca: Some(authority.uri().parse().unwrap()),
        clock: Some(IdentityClock(std::sync::Arc::new(clock.clone()))),
        ..IdentityConfig::of(authority.trust_domain())
    }
}

/// Waits until a proxy has had so many certificates.
pub(super) async fn certified(running: &Running, count: u64) {
    let identity = running.state().identity.clone().unwrap();
    let mut changes = identity.changes();
    let wait = changes.wait_for(|seen| *seen >= count);
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, wait).await.expect("a certificate").unwrap();
}

/// The inbound side of a workload that serves `cart`.
pub(super) struct Served {
    pub(super) running: Running,
    pub(super) applier: Applier,
    _token: Token,
}

impl Served {
    pub(super) async fn start(authority: &TestAuthority, clock: &TestClock, app: SocketAddr) -> Self {
        Self::with(authority, clock, (app, AppProtocol::Http1), |_| {}).await
    }

    pub(super) async fn with(
        authority: &TestAuthority,
        clock: &TestClock,
        (app, protocol): (SocketAddr, AppProtocol),
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Self {
        let token = Token::of("shop/cart");
        let mut config = sidecar_config(app, protocol);
        config.local.namespace = "shop".into();
        config.local.services = vec![backend_name("cart").object];
        config.identity = Some(identity(authority, clock, &token));
        change(&mut config);
        let running = Proxy::start(config).unwrap();
        certified(&running, 1).await;
        let applier = Applier::new(running.state().clone());
        Self { running, applier, _token: token }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.running.inbound().unwrap()
    }

    pub(super) fn apply(&mut self, upserts: Vec<Resource>) {
        assert_eq!(self.applier.apply(Change { upserts, removed: Vec::new() }), []);
    }

    pub(super) fn metrics(&self, name: &str) -> String {
        let text = self.running.state().telemetry.render_metrics(&Default::default());
        text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join("\n")
    }
}

/// The outbound side of the workload of a token, which may call `cart` at `endpoint`.
pub(super) struct Caller {
    pub(super) sidecar: Sidecar,
    _token: Token,
}

impl Caller {
    pub(super) async fn start(authority: &TestAuthority, clock: &TestClock, name: &str) -> Self {
        let this = Self::without_waiting(authority, clock, name);
        certified(&this.sidecar.running, 1).await;
        this
    }

    pub(super) fn without_waiting(authority: &TestAuthority, clock: &TestClock, name: &str) -> Self {
        let token = Token::of(name);
        let sidecar = Sidecar::with(|config| {
            config.accept_proxy_protocol.sites = vec![tidegate_proxy::config::HeaderSite::Outbound];
            config.identity = Some(identity(authority, clock, &token));
        });
        Self { sidecar, _token: token }
    }

    pub(super) fn to(mut self, endpoint: SocketAddr) -> Self {
        self.sidecar.apply(cart(endpoint, Some(&MeshPeer::default())));
        self
    }

    pub(super) fn calling(mut self, endpoint: SocketAddr, accounts: &[&str]) -> Self {
        let accounts = accounts.iter().map(|account| ResourceName::new("shop", *account));
        let peer = MeshPeer { service_accounts: accounts.collect() };
        self.sidecar.apply(cart(endpoint, Some(&peer)));
        self
    }

    /// Status, reason and body.
    pub(super) async fn get(&self) -> (u16, Option<String>, String) {
        let answer = self.sidecar.get(CART, "cart", "/").await;
        let reason = answer.reason().map(str::to_owned);
        (answer.status.as_u16(), reason, String::from_utf8_lossy(&answer.body).into_owned())
    }
}

/// The Service `cart` with one endpoint.
pub(super) fn cart(endpoint: SocketAddr, mesh: Option<&MeshPeer>) -> Vec<Resource> {
    let mut all = service("cart", CART, &[endpoint]);
    for resource in &mut all {
        if let Resource::Endpoints(endpoints) = resource {
            endpoints.endpoints[0].mesh = mesh.cloned();
        }
    }
    all
}

/// A policy for `cart`, with the Service that it is for.
pub(super) fn for_cart(kind: &str, spec: Value, mode: Mode) -> Vec<Resource> {
    let mut all = service("cart", CART, &[]);
    let written = policy(kind, (TargetKind::Service, "cart"), spec);
    if let Resource::Policy(written) = written {
        all.push(Resource::Policy(Policy { mode, ..written }));
    }
    all
}

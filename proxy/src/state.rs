//! What all parts of a running proxy share, and what the admin port shows of it.

mod admin;
mod xds;

use std::sync::Arc;

use anyhow::Context as _;
use tidegate_policy::kinds::rate_limit::Leases;
use tidegate_policy::snapshot::Local;
use tidegate_xds::client::dial::Dial;
use tidegate_xds::client::grpc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{ProxyConfig, Store};
use crate::demand::Demand;
use crate::effects::Effects;
use crate::http3::Adverts;
use crate::identity::{Introduced, WorkloadIdentity};
use crate::jwks::Arrivals;
use crate::limits::Services;
use crate::limits::crowd::Crowd;
use crate::limits::store::ExactStore;
use crate::plugins::Plugins;
use crate::telemetry::Telemetry;
use crate::upstream::Pools;

pub use crate::listener::{ListenerStatus, Listeners};
pub use xds::XdsStatus;

/// One per proxy.
#[derive(Debug)]
pub struct ProxyState {
    pub config: ProxyConfig,
    pub store: Store,
    pub telemetry: Arc<Telemetry>,
    pub listeners: Listeners,
    pub xds: XdsStatus,
    /// Cancelled when the proxy begins to drain.
    pub draining: CancellationToken,
    /// Whether traffic is judged by a configuration that somebody gave: by the control plane, by the last good one on
    /// disk, or because none is needed.
    configured: watch::Sender<bool>,
    /// Every downstream connection and every tunnel, so that a drain can wait for the last one.
    pub(crate) connections: TaskTracker,
    pub(crate) pools: Arc<Pools>,
    pub(crate) effects: Effects,
    /// Where limits are counted that all proxies share.
    pub(crate) exact: Option<ExactStore>,
    /// Who else counts limits.
    pub(crate) services: Services,
    /// What is lent to this proxy of limits that all proxies share.
    pub(crate) leases: Arc<Leases>,
    /// What the proxy itself can bear, if that is written.
    pub(crate) crowd: Option<Arc<Crowd>>,
    pub(crate) http3: Adverts,
    /// Of issuers of tokens.
    pub(crate) keys: Arrivals,
    /// What the application calls, where nothing else is told.
    pub(crate) demand: Option<Demand>,
    pub(crate) plugins: Plugins,
    /// Who this workload is, if it is to be anybody.
    pub identity: Option<Arc<WorkloadIdentity>>,
    pub(crate) clock: Clock,
}

impl ProxyState {
    pub(crate) fn new(config: ProxyConfig, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let configured = watch::Sender::new(config.control_plane.is_none());
        let clock = Clock::start(config.played.map(|played| played.clock));
        let local = Local { node: config.node.as_str().into(), ..config.local.clone() };
        let store = Store::new(local, clock, config.state_dir.as_deref());
        let identity = config.identity.as_ref().map(WorkloadIdentity::new);
        Arc::new(Self {
            leases: store.leases(),
            store,
            effects: Effects::default(),
            // Whoever has flags has checked the address.
            exact: config.redis.as_deref().and_then(|address| ExactStore::new(address).ok()),
            services: Services::default(),
            crowd: Crowd::new(config.max_requests, config.max_memory),
            http3: Adverts::default(),
            keys: Arrivals::default(),
            demand: config.on_demand.then(Demand::new),
            plugins: Plugins::new(config.workers, &config.node),
            pools: Arc::new(Pools::new(telemetry.clone(), identity.clone())),
            identity,
            listeners: Listeners::default(),
            xds: XdsStatus::default(),
            draining: CancellationToken::new(),
            connections: TaskTracker::new(),
            config,
            telemetry,
            configured,
            clock,
        })
    }

    /// A whole configuration is in force.
    pub fn set_configured(&self) {
        self.configured.send_replace(true);
    }

    pub(crate) fn is_configured(&self) -> bool {
        *self.configured.borrow()
    }

    /// Waits until a whole configuration is in force.
    pub(crate) async fn configured(&self) {
        // Fails only without a sender, and that is `self`.
        let _ = self.configured.subscribe().wait_for(|configured| *configured).await;
    }

    /// Waits until what a host or an address means is in force, where that is only known when it is called.
    pub(crate) async fn settle(&self, key: &str) {
        if let Some(demand) = self.demand.as_ref().filter(|demand| !demand.knows(key)) {
            demand.settle(key, || self.xds.is_connected()).await;
        }
    }

    /// # Errors
    /// One line that says what the proxy is waiting for.
    pub fn ready(&self) -> Result<(), String> {
        if self.draining.is_cancelled() {
            return Err(String::from("draining"));
        }
        if !self.is_configured() {
            return Err(String::from("waiting for the first configuration from the control plane"));
        }
        if let Some(identity) = &self.identity {
            identity.ready()?;
        }
        let is_gateway = self.config.gateway.is_some();
        self.listeners.ready(|| if is_gateway { self.store.load().binds() } else { Vec::new() })
    }

    /// The way to the control plane; `None` without one. By TLS it hears who we are.
    ///
    /// # Errors
    /// Its address cannot be used.
    pub(crate) fn control_plane(&self) -> anyhow::Result<Option<Dial>> {
        let Some(url) = &self.config.control_plane else { return Ok(None) };
        let used = || -> Result<Dial, tonic::transport::Error> {
            let dial = grpc::endpoint(url.to_string())?;
            match &self.identity {
                Some(identity) if url.scheme() == Some(&http::uri::Scheme::HTTPS) => {
                    dial.secured(Arc::new(Introduced(identity.clone())))
                }
                _ => Ok(dial),
            }
        };
        used().map(Some).with_context(|| format!("--control-plane {url} cannot be used"))
    }
}

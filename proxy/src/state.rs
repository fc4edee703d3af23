//! What all parts of a running proxy share, and what the admin port shows of it.

mod admin;
mod xds;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{ProxyConfig, Store};
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
    configured: AtomicBool,
    pub(crate) pools: Arc<Pools>,
    pub(crate) clock: Clock,
}

impl ProxyState {
    pub(crate) fn new(config: ProxyConfig, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let configured = AtomicBool::new(config.control_plane.is_none());
        let clock = Clock::start();
        Arc::new(Self {
            store: Store::new(config.local.clone(), clock),
            pools: Arc::new(Pools::new(telemetry.clone())),
            listeners: Listeners::default(),
            xds: XdsStatus::default(),
            draining: CancellationToken::new(),
            config,
            telemetry,
            configured,
            clock,
        })
    }

    /// A whole configuration is in force.
    pub fn set_configured(&self) {
        self.configured.store(true, Ordering::Release);
    }

    /// # Errors
    /// One line that says what the proxy is waiting for.
    pub fn ready(&self) -> Result<(), String> {
        if self.draining.is_cancelled() {
            return Err(String::from("draining"));
        }
        if !self.configured.load(Ordering::Acquire) {
            return Err(String::from("waiting for the first configuration from the control plane"));
        }
        self.listeners.ready()
    }
}

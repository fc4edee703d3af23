//! Which sockets are open, and which should be but are not.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use parking_lot::Mutex;
use serde::Serialize;
use tidegate_policy::snapshot::BindAddress;

/// Every listener of a proxy, by name: `inbound`, `outbound`, `gateway *:80`.
#[derive(Debug, Default)]
pub struct Listeners(Mutex<BTreeMap<String, ListenerStatus>>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerStatus {
    Bound(SocketAddr),
    /// Why not; it is tried again.
    Failed(String),
}

impl Listeners {
    pub(crate) fn set(&self, name: impl Into<String>, status: ListenerStatus) {
        self.0.lock().insert(name.into(), status);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.lock().remove(name);
    }

    /// Where `name` really listens.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        match self.0.lock().get(name) {
            Some(ListenerStatus::Bound(address)) => Some(*address),
            _ => None,
        }
    }

    /// All of them, for the admin port.
    pub fn all(&self) -> BTreeMap<String, ListenerStatus> {
        self.0.lock().clone()
    }

    /// Ready while nothing failed, or at least something works: one bad Gateway must not take the others out of
    /// service.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let all = self.0.lock();
        if all.is_empty() || all.values().any(|status| matches!(status, ListenerStatus::Bound(_))) {
            return Ok(());
        }
        Err(all.keys().fold(String::from("no listener could be bound:"), |text, name| text + " " + name))
    }
}

/// How a gateway's socket is called in status and log.
pub(crate) fn gateway_name(bind: BindAddress) -> String {
    match bind.ip {
        Some(ip) => format!("gateway {}", SocketAddr::new(ip, bind.port)),
        None => format!("gateway *:{}", bind.port),
    }
}

//! Which sockets are open, and which should be but are not.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;
use tidegate_policy::snapshot::BindAddress;
use tokio::sync::watch;

/// Every listener of a proxy, by name: `inbound`, `outbound`, `gateway *:80`, `gateway *:443 http3`.
#[derive(Debug, Default)]
pub struct Listeners(watch::Sender<BTreeMap<String, ListenerStatus>>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerStatus {
    /// The address is taken; who connects is refused until the first configuration is here.
    Waiting(SocketAddr),
    Bound(SocketAddr),
    /// Why not; it is tried again.
    Failed(String),
}

impl Listeners {
    pub(crate) fn set(&self, name: impl Into<String>, status: ListenerStatus) {
        let name = name.into();
        // Who waits for changes is not woken by each vain attempt.
        self.0.send_if_modified(|all| {
            let is_new = all.get(&name) != Some(&status);
            all.insert(name, status);
            is_new
        });
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.send_modify(|all| drop(all.remove(name)));
    }

    /// Where `name` really listens, or will.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        bound(&self.0.borrow(), name)
    }

    /// Waits until `name` listens, and says where.
    pub async fn wait_for(&self, name: &str) -> Option<SocketAddr> {
        let mut all = self.0.subscribe();
        // Fails only without a sender, and that is `self`.
        let all = all.wait_for(|all| bound(all, name).is_some()).await.ok()?;
        bound(&all, name)
    }

    /// Waits until none is [`ListenerStatus::Waiting`].
    pub async fn opened(&self) {
        self.wait_until(|all| !all.values().any(|status| matches!(status, ListenerStatus::Waiting(_)))).await;
    }

    /// Waits until the listeners are as wanted.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&BTreeMap<String, ListenerStatus>) -> bool) {
        // Fails only without a sender, and that is `self`.
        let _ = self.0.subscribe().wait_for(|all| wanted(all)).await;
    }

    /// Wakes after every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<String, ListenerStatus>> {
        self.0.subscribe()
    }

    /// All of them, for the admin port.
    pub fn all(&self) -> BTreeMap<String, ListenerStatus> {
        self.0.borrow().clone()
    }

    /// Whether any of them is as asked.
    pub(crate) fn any(&self, asked: impl FnMut(&ListenerStatus) -> bool) -> bool {
        self.0.borrow().values().any(asked)
    }

    /// Ready while nothing failed, or at least something works: one bad Gateway must not take the others out of
    /// service.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let all = self.0.borrow();
        if all.is_empty() || all.values().any(|status| !matches!(status, ListenerStatus::Failed(_))) {
            return Ok(());
        }
        Err(all.keys().fold(String::from("no listener could be bound:"), |text, name| text + " " + name))
    }
}

fn bound(all: &BTreeMap<String, ListenerStatus>, name: &str) -> Option<SocketAddr> {
    match all.get(name) {
        Some(ListenerStatus::Bound(address) | ListenerStatus::Waiting(address)) => Some(*address),
        _ => None,
    }
}

/// How a gateway's socket is called in status and log.
pub(crate) fn gateway_name(bind: BindAddress) -> String {
    format!("gateway {}", socket_name(bind))
}

/// The same for the socket beside it that is for HTTP/3.
pub(crate) fn http3_name(bind: BindAddress) -> String {
    gateway_name(bind) + " http3"
}

pub(super) fn socket_name(bind: BindAddress) -> String {
    match bind.ip {
        Some(ip) => SocketAddr::new(ip, bind.port).to_string(),
        None => format!("*:{}", bind.port),
    }
}

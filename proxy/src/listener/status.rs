//! Which sockets are open, and which should be but are not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tidegate_policy::snapshot::BindAddress;
use tokio::sync::watch;

/// Every listener of a proxy, by name: `inbound`, `outbound`, `gateway *:80`, `gateway *:443 http3`.
#[derive(Debug, Default)]
pub struct Listeners(watch::Sender<BTreeMap<String, ListenerStatus>>, AtomicBool);

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

    /// Ready once all sockets of the first configuration are open, those of Gateways `wanted`: who is told so may connect at
    /// once. After that, while nothing failed, or at least something works: one bad Gateway must not take the others out
    /// of service, and neither must one that is new.
    pub(crate) fn ready(&self, wanted: impl FnOnce() -> Vec<BindAddress>) -> Result<(), String> {
        let all = self.0.borrow();
        if !self.1.load(Ordering::Relaxed) {
            let waits = |(name, status): (&String, &ListenerStatus)| {
                matches!(status, ListenerStatus::Waiting(_)).then(|| name.clone())
            };
            let missing = || wanted().into_iter().map(gateway_name).find(|name| !all.contains_key(name));
            if let Some(name) = all.iter().find_map(waits).or_else(missing) {
                return Err(format!("opening {name}"));
            }
            self.1.store(true, Ordering::Relaxed);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn ready(listeners: &Listeners, wanted: &[u16]) -> Result<(), String> {
        listeners.ready(|| wanted.iter().map(|port| BindAddress { ip: None, port: *port }).collect())
    }

    #[test]
    fn who_is_told_that_a_sidecar_is_ready_may_connect_at_once() {
        let listeners = Listeners::default();
        listeners.set("inbound", ListenerStatus::Bound(HERE));
        listeners.set("outbound", ListenerStatus::Waiting(HERE));
        assert_eq!(ready(&listeners, &[]), Err("opening outbound".into()));
        listeners.set("outbound", ListenerStatus::Bound(HERE));
        assert_eq!(ready(&listeners, &[]), Ok(()));
    }

    #[test]
    fn a_gateway_is_ready_when_all_its_first_sockets_were_tried_and_a_new_one_changes_nothing() {
        let listeners = Listeners::default();
        assert_eq!(ready(&listeners, &[80, 443]), Err("opening gateway *:80".into()));
        listeners.set("gateway *:80", ListenerStatus::Bound(HERE));
        assert_eq!(ready(&listeners, &[80, 443]), Err("opening gateway *:443".into()));
        listeners.set("gateway *:443", ListenerStatus::Failed("taken".into()));
        assert_eq!(ready(&listeners, &[80, 443]), Ok(()));
        assert_eq!(ready(&listeners, &[80, 443, 8443]), Ok(()));
        listeners.remove("gateway *:80");
        assert!(ready(&listeners, &[443]).is_err(), "nothing works");
    }

    #[test]
    fn a_gateway_without_listeners_is_ready() {
        assert_eq!(ready(&Listeners::default(), &[]), Ok(()));
    }
}

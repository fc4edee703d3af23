//! Which listeners lack an address, as the control plane was told and as it is.
//!
//! A listener that cannot be bound is in force all the same, and tried again (see `listener::follow`); here is only
//! seen to it that the control plane hears of it, and of the end of it. No socket is kept open here.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_policy::model::{Resource, ResourceType};
use tidegate_policy::snapshot::BindAddress;
use tidegate_xds::client::Want;
use tokio::sync::{Notify, mpsc};

use crate::listener::{ListenerStatus, gateway_name, probe};
use crate::state::ProxyState;

/// What a listener asks of the machine.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Of the resource.
    pub(super) name: String,
    binds: Vec<BindAddress>,
}

/// Why addresses could not be bound when they were tried ahead of the change that asks for them.
pub(super) type Foreseen = BTreeMap<BindAddress, String>;

/// See the module.
#[derive(Debug)]
pub(super) struct Binds {
    proxy: Arc<ProxyState>,
    told: Mutex<BTreeMap<String, Told>>,
    reconnected: Notify,
}

#[derive(Debug)]
struct Told {
    binds: Vec<BindAddress>,
    /// What was said of them; `None`: nothing is wrong.
    failure: Option<String>,
}

impl Wanted {
    /// `None` for what is no listener.
    pub(super) fn of(resource: &Resource) -> Option<Self> {
        let Resource::Listener(listener) = resource else { return None };
        Some(Self { name: listener.name.to_string(), binds: BindAddress::of(listener) })
    }
}

impl Binds {
    pub(super) fn new(proxy: Arc<ProxyState>) -> Self {
        Self { proxy, told: Mutex::default(), reconnected: Notify::new() }
    }

    pub(super) fn proxy(&self) -> &ProxyState {
        &self.proxy
    }

    /// Tries the addresses that are new with `wanted`, before it is applied: afterwards the trial might be in the way
    /// of the socket that is to stay.
    pub(super) fn foresee(&self, wanted: &[Wanted]) -> Foreseen {
        let Some(ports) = self.proxy.config.gateway else { return Foreseen::new() };
        let held = self.proxy.store.load().binds();
        let mut foreseen = Foreseen::new();
        for bind in wanted.iter().flat_map(|wanted| &wanted.binds).filter(|bind| !held.contains(bind)) {
            let Err(error) = probe(*bind, ports) else { continue };
            // Perhaps by our own socket, which goes with this change or the next: time will tell.
            let is_ours =
                error.kind() == io::ErrorKind::AddrInUse && held.iter().any(|h| h.port == bind.port);
            if !is_ours {
                foreseen.insert(*bind, error.to_string());
            }
        }
        foreseen
    }

    /// What is to be said of a listener that is in force now, which is taken as said.
    pub(super) fn judge(&self, wanted: Wanted, foreseen: &Foreseen) -> Option<String> {
        self.proxy.config.gateway?;
        let Wanted { name, binds } = wanted;
        // Held while the sockets are looked at: one that changes after that finds what was said here.
        let mut told = self.told.lock();
        let failure = self.failure(&binds, |bind| Some(foreseen.get(&bind).cloned()))?;
        told.insert(name, Told { binds, failure: failure.clone() });
        failure
    }

    pub(super) fn forget(&self, removed: &[String]) {
        let mut told = self.told.lock();
        removed.iter().for_each(|name| drop(told.remove(name)));
    }

    /// What was to be sent again may be lost with the stream.
    pub(super) fn reconnected(&self) {
        self.reconnected.notify_one();
    }

    /// Asks for each listener again of which something else is true than was said, for ever.
    pub(super) async fn follow(&self, wants: mpsc::Sender<Want>) {
        let mut sockets = self.proxy.listeners.subscribe();
        loop {
            sockets.borrow_and_update();
            let names = self.outdated();
            let want = Want::Again { type_url: ResourceType::Listener.type_url(), names };
            if !matches!(&want, Want::Again { names, .. } if names.is_empty())
                && wants.send(want).await.is_err()
            {
                return;
            }
            tokio::select! {
                // Fails only without a sender, and that lives as long as the proxy.
                _ = sockets.changed() => {}
                () = self.reconnected.notified() => {}
            }
        }
    }

    fn outdated(&self) -> Vec<String> {
        let told = self.told.lock();
        let is_outdated =
            |told: &Told| self.failure(&told.binds, |_| None).is_some_and(|now| now != told.failure);
        told.iter().filter(|(_, told)| is_outdated(told)).map(|(name, _)| name.clone()).collect()
    }

    /// Why `binds` are not all bound, if one is not. `unopened` stands in for sockets that were not tried yet; where it
    /// knows nothing either, only a failure of another one can be told.
    fn failure(
        &self,
        binds: &[BindAddress],
        unopened: impl Fn(BindAddress) -> Option<Option<String>>,
    ) -> Option<Option<String>> {
        let sockets = self.proxy.listeners.all();
        let one = |bind: &BindAddress| match sockets.get(&gateway_name(*bind)) {
            Some(ListenerStatus::Failed(why)) => Some(Some(why.clone())),
            Some(_) => Some(None),
            None => unopened(*bind),
        };
        let known: Vec<_> = binds.iter().map(one).collect();
        let failures: Vec<String> = known.iter().flatten().flatten().cloned().collect();
        match failures.is_empty() {
            false => Some(Some(failures.join("; "))),
            true => known.iter().all(Option::is_some).then_some(None),
        }
    }
}

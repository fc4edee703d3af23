//! The UDP socket beside a gateway's TCP socket, for HTTP/3. It is there while what comes by TCP is HTTPS and nothing
//! else, and TCP does not depend on it.

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_policy::snapshot::BindAddress;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::accept::Acceptor;
use super::status::{ListenerStatus, http3_name};
use crate::http3::{self, Endpoint};
use crate::state::ProxyState;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Beside(Option<Socket>);

/// Told of nowhere any more, and closed, when dropped.
#[derive(Debug)]
struct Socket {
    proxy: Arc<ProxyState>,
    bind: BindAddress,
    _stop: DropGuard,
}

impl Beside {
    /// Opens or closes the socket; whether all is as wanted. `stop` ends it with the other one.
    pub(super) fn reconcile(
        &mut self,
        acceptor: &Acceptor,
        (bind, local): (BindAddress, SocketAddr),
        stop: &CancellationToken,
    ) -> bool {
        let proxy = &acceptor.proxy;
        let name = http3_name(bind);
        let Some(tls) = http3::tls(proxy, bind).filter(|_| proxy.config.http3) else {
            self.0 = None;
            // It may have failed.
            if proxy.listeners.all().contains_key(&name) {
                proxy.listeners.remove(&name);
            }
            return true;
        };
        if self.0.is_some() {
            return true;
        }
        match Endpoint::open(local, bind, acceptor.clone(), tls) {
            Ok(endpoint) => {
                tracing::info!(listener = name, address = %local, "listening");
                let token = stop.child_token();
                proxy.connections.spawn(endpoint.run(token.clone()));
                self.0 = Some(Socket { proxy: proxy.clone(), bind, _stop: token.drop_guard() });
                proxy.http3.set(bind, local.port());
                proxy.listeners.set(name, ListenerStatus::Bound(local));
                true
            }
            Err(error) => {
                let status = ListenerStatus::Failed(format!("{local} by UDP: {error}"));
                if proxy.listeners.all().get(&name) != Some(&status) {
                    tracing::error!(listener = name, %error, "no HTTP/3; trying again every second");
                }
                proxy.listeners.set(name, status);
                false
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.proxy.http3.remove(self.bind);
        self.proxy.listeners.remove(&http3_name(self.bind));
    }
}

//! Sockets that come and go with Gateway objects.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tidegate_policy::snapshot::{BindAddress, Scope};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::accept::{Acceptor, Site, bind, reserve};
use super::beside::Beside;
use super::status::{ListenerStatus, gateway_name, http3_name, socket_name};
use crate::config::GatewayPorts;
use crate::telemetry::Direction;

/// Between two attempts to bind what could not be bound: the port may become free.
const RETRY: Duration = Duration::from_secs(1);
/// How long a listener without a route stays closed: its routes are mostly in the same push, one message behind.
const SETTLE: Duration = Duration::from_millis(250);

/// The sockets of the listeners in force.
struct Sockets {
    acceptor: Acceptor,
    ports: GatewayPorts,
    stop: CancellationToken,
    open: BTreeMap<BindAddress, Open>,
    /// Not open yet, for want of a route; since when.
    waiting: BTreeMap<BindAddress, Instant>,
}

struct Open {
    local: SocketAddr,
    token: CancellationToken,
    beside: Beside,
    _stop: DropGuard,
}

/// Keeps the open sockets equal to those the snapshot asks for, until `stop`. A socket that cannot be bound is an error
/// in log and status, and the others live on.
///
/// No socket opens before the first whole configuration, nor ahead of the routes of its own push: a refused connection
/// is tried again elsewhere, a 404 is believed.
pub(crate) async fn follow(acceptor: Acceptor, ports: GatewayPorts, stop: CancellationToken) {
    tokio::select! {
        () = acceptor.proxy.configured() => {}
        () = stop.cancelled() => return,
    }
    let proxy = acceptor.proxy.clone();
    let mut changed = proxy.store.subscribe();
    let mut sockets =
        Sockets { acceptor, ports, stop: stop.clone(), open: BTreeMap::new(), waiting: BTreeMap::new() };
    loop {
        changed.borrow_and_update();
        let again = sockets.reconcile();
        tokio::select! {
            // Fails only without a sender, and the store that is it lives as long as the proxy.
            _ = changed.changed() => {}
            () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {}
            () = stop.cancelled() => return,
        }
    }
}

impl Sockets {
    /// Closes and opens; returns when to try again what could not be opened now.
    fn reconcile(&mut self) -> Option<Duration> {
        let proxy = self.acceptor.proxy.clone();
        let snapshot = proxy.store.load();
        let wanted = snapshot.binds();
        for stale in proxy.listeners.all().keys().filter(|name| name.starts_with("gateway ")) {
            if !wanted.iter().any(|bind| [gateway_name(*bind), http3_name(*bind)].contains(stale)) {
                proxy.listeners.remove(stale);
            }
        }
        self.open.retain(|address, _| wanted.contains(address));
        self.waiting.retain(|address, _| wanted.contains(address));
        let mut again = None;
        for address in wanted {
            if self.open.contains_key(&address) {
                continue;
            }
            let retry = match self.patience(address, snapshot.has_routes(address)) {
                Duration::ZERO => (!self.open(address)).then_some(RETRY),
                wait => Some(wait),
            };
            again = again.into_iter().chain(retry).min();
        }
        let mut beside = true;
        for (address, open) in &mut self.open {
            beside &= open.beside.reconcile(&self.acceptor, (*address, open.local), &open.token);
        }
        again.into_iter().chain((!beside).then_some(RETRY)).min()
    }

    /// How long a socket is still to wait for a route.
    fn patience(&mut self, address: BindAddress, has_routes: bool) -> Duration {
        if has_routes {
            self.waiting.remove(&address);
            return Duration::ZERO;
        }
        SETTLE.saturating_sub(self.waiting.entry(address).or_insert_with(Instant::now).elapsed())
    }

    /// Whether it could be opened.
    fn open(&mut self, address: BindAddress) -> bool {
        let listeners = &self.acceptor.proxy.listeners;
        let name = gateway_name(address);
        match open_socket(address, self.ports) {
            Ok((listener, local)) => {
                tracing::info!(listener = name, address = %local, "listening");
                listeners.set(name, ListenerStatus::Bound(local));
                let token = self.stop.child_token();
                let _stop = token.clone().drop_guard();
                let open = Open { local, token: token.clone(), beside: Beside::default(), _stop };
                self.open.insert(address, open);
                let acceptor = self.acceptor.clone();
                let site = Site { scope: Scope::Gateway(address), direction: Direction::Gateway };
                tokio::spawn(async move { acceptor.run(listener, site, token).await });
                true
            }
            Err(error) => {
                let status = ListenerStatus::Failed(error.to_string());
                if listeners.all().get(&name) != Some(&status) {
                    tracing::error!(listener = name, %error, "cannot listen; trying again every second");
                }
                listeners.set(name, status);
                false
            }
        }
    }
}

fn open_socket(address: BindAddress, ports: GatewayPorts) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = take(address, ports, bind)?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}

/// Whether a gateway could listen there now: the address is taken and given back, and nobody can connect meanwhile.
///
/// # Errors
/// As opening the socket would give.
pub(crate) fn probe(address: BindAddress, ports: GatewayPorts) -> io::Result<()> {
    take(address, ports, reserve).map(drop)
}

fn take<T>(
    address: BindAddress,
    ports: GatewayPorts,
    bind: fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let port = match ports {
        GatewayPorts::Ephemeral => 0,
        GatewayPorts::Offset(offset) => shifted(address.port, offset)?,
    };
    let on = |ip: IpAddr| bind(SocketAddr::new(ip, port));
    let taken = match (address.ip, ports) {
        (Some(ip), _) => on(ip),
        (None, GatewayPorts::Ephemeral) => on(Ipv4Addr::LOCALHOST.into()),
        // Machines without IPv6 exist.
        (None, _) => on(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| on(Ipv4Addr::UNSPECIFIED.into())),
    };
    taken.map_err(|error| explained(&error, BindAddress { port, ..address }))
}

/// With the address that was really asked for, and the usual way out.
fn explained(error: &io::Error, address: BindAddress) -> io::Error {
    let address = socket_name(address);
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "; with --port-offset 8000, port 80 becomes 8080",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{address}: {error}{hint}"))
}

fn shifted(port: u16, offset: u16) -> io::Result<u16> {
    port.checked_add(offset)
        .ok_or_else(|| io::Error::other(format!("port {port} plus --port-offset {offset} is beyond 65535")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_as_it_was_asked_for() {
        let taken = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let port = taken.local_addr().unwrap().port();
        let address = BindAddress { ip: Some(Ipv4Addr::LOCALHOST.into()), port: port - 1 };
        let error = open_socket(address, GatewayPorts::Offset(1)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("127.0.0.1:{port}: ")), "{error}");
    }

    #[test]
    fn a_port_that_needs_a_privilege_comes_with_the_flag_that_avoids_it() {
        let error = explained(&io::ErrorKind::PermissionDenied.into(), BindAddress { ip: None, port: 80 })
            .to_string();
        assert!(error.contains("--port-offset"), "{error}");
    }
}

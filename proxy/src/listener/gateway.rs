//! Sockets that come and go with Gateway objects.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tidegate_policy::snapshot::{BindAddress, Scope};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::accept::{Acceptor, Site, bind};
use super::status::{ListenerStatus, gateway_name};
use crate::config::GatewayPorts;
use crate::telemetry::Direction;

/// Between two attempts to bind what could not be bound: the port may become free.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the open sockets equal to those the snapshot asks for, until `stop`. A socket that cannot be bound is an error
/// in log and status, and the others live on.
pub(crate) async fn follow(acceptor: Acceptor, ports: GatewayPorts, stop: CancellationToken) {
    let mut changed = acceptor.proxy.store.subscribe();
    let mut open: BTreeMap<BindAddress, DropGuard> = BTreeMap::new();
    loop {
        changed.borrow_and_update();
        let missing = reconcile(&acceptor, ports, &mut open, &stop);
        tokio::select! {
            // Fails only without a sender, and the store that is it lives as long as the acceptor.
            _ = changed.changed() => {}
            () = tokio::time::sleep(RETRY), if missing => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Closes and opens; returns whether something could not be opened.
fn reconcile(
    acceptor: &Acceptor,
    ports: GatewayPorts,
    open: &mut BTreeMap<BindAddress, DropGuard>,
    stop: &CancellationToken,
) -> bool {
    let listeners = &acceptor.proxy.listeners;
    let wanted = acceptor.proxy.store.load().binds();
    let named = listeners.all();
    for stale in named.keys().filter(|name| name.starts_with("gateway ")) {
        if !wanted.iter().any(|bind| gateway_name(*bind) == *stale) {
            listeners.remove(stale);
        }
    }
    open.retain(|address, _| wanted.contains(address));
    let mut missing = false;
    for address in wanted {
        if open.contains_key(&address) {
            continue;
        }
        let name = gateway_name(address);
        match open_socket(address, ports) {
            Ok((listener, local)) => {
                tracing::info!(listener = name, address = %local, "listening");
                listeners.set(name, ListenerStatus::Bound(local));
                let token = stop.child_token();
                open.insert(address, token.clone().drop_guard());
                let acceptor = acceptor.clone();
                let site = Site { scope: Scope::Gateway(address), direction: Direction::Gateway };
                tokio::spawn(async move { acceptor.run(listener, site, token).await });
            }
            Err(error) => {
                let status = ListenerStatus::Failed(error.to_string());
                if named.get(&name) != Some(&status) {
                    tracing::error!(listener = name, %error, "cannot listen; trying again every second");
                }
                listeners.set(name, status);
                missing = true;
            }
        }
    }
    missing
}

fn open_socket(address: BindAddress, ports: GatewayPorts) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = match (ports, address.ip) {
        (GatewayPorts::Ephemeral, ip) => bind((ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0).into()),
        (GatewayPorts::Offset(offset), Some(ip)) => bind((ip, shifted(address.port, offset)?).into()),
        (GatewayPorts::Offset(offset), None) => {
            let port = shifted(address.port, offset)?;
            let all = |ip: IpAddr| bind(SocketAddr::new(ip, port));
            // Machines without IPv6 exist.
            all(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| all(Ipv4Addr::UNSPECIFIED.into()))
        }
    }?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}

fn shifted(port: u16, offset: u16) -> io::Result<u16> {
    port.checked_add(offset)
        .ok_or_else(|| io::Error::other(format!("port {port} plus --port-offset {offset} is beyond 65535")))
}

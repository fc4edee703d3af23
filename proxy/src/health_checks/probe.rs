//! One check, from the connection to the verdict, within its timeout.

use std::net::SocketAddr;

use tidegate_policy::health::check::{Cause, CheckRule, Finding, HealthGuard, Probe};
use tidegate_policy::model::{Address, AppProtocol};
use tokio::time::timeout;

use super::exchange::{self, Asked};
use super::grpc;
use crate::proxy_protocol::header;
use crate::upstream::{Protocol, UpstreamStream, connect_speaking};

/// Asks one endpoint. Whatever it does or does not do, there is a finding when the timeout is over, and all that
/// belongs to the check is gone.
pub(super) async fn probe(guard: &HealthGuard, check: &CheckRule, address: &Address) -> Finding {
    match timeout(check.timing.timeout, ask(guard, check, address)).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(cause)) => Finding::Failed(cause),
        Err(_) => Finding::Failed(Cause::TimedOut),
    }
}

async fn ask(guard: &HealthGuard, check: &CheckRule, address: &Address) -> Result<Finding, Cause> {
    let protocol = match (&check.probe, guard.backend.protocol) {
        (Probe::Grpc { .. }, _) | (_, AppProtocol::H2c) => Protocol::Http2,
        (_, AppProtocol::Http1) => Protocol::Http1,
    };
    let address = check.port.map_or_else(|| address.clone(), |port| at_port(address, port));
    let stream = connect(guard, check, (&address, protocol)).await?;
    let asked = Asked {
        protocol,
        tls: guard.tls.is_some(),
        host: match &guard.tls {
            Some(tls) => tls.settings.verification.hostname.to_string(),
            None => address.to_string(),
        },
    };
    match &check.probe {
        Probe::Tcp => Ok(Finding::Passed),
        Probe::Http(probe) => exchange::http(stream, &asked, probe).await,
        Probe::Grpc { service } => grpc::health(stream, &asked, service, check.timing.timeout).await,
    }
}

/// As calls connect. Where connections say whom they are for, this one is for nobody (`LOCAL`).
async fn connect(
    guard: &HealthGuard,
    check: &CheckRule,
    (address, protocol): (&Address, Protocol),
) -> Result<UpstreamStream, Cause> {
    let first = guard.backend.proxy_protocol.map(|version| header(version, None)).unwrap_or_default();
    let tls = guard.tls.as_ref().map(|tls| &*tls.settings);
    let connected = connect_speaking(address, check.timing.timeout, &first, (tls, Some(protocol))).await;
    connected.map_err(Cause::of_connecting)
}

fn at_port(address: &Address, port: u16) -> Address {
    match address {
        Address::Socket(address) => Address::Socket(SocketAddr::new(address.ip(), port)),
        Address::Name { host, .. } => Address::Name { host: host.clone(), port },
    }
}

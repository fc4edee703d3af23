//! One check, from the connection to the verdict, within its timeout.

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_policy::balance::EndpointState;
use tidegate_policy::health::check::{Cause, CheckRule, Finding, HealthGuard, Probe};
use tidegate_policy::mesh::Way;
use tidegate_policy::model::{Address, AppProtocol};
use tokio::time::timeout;

use super::exchange::{self, Asked};
use super::grpc;
use crate::identity::{MeshConnector, WorkloadIdentity};
use crate::proxy_protocol::header;
use crate::upstream::{Protocol, UpstreamStream, connect_mesh, connect_speaking};

/// Asks one endpoint. Whatever it does or does not do, there is a finding when the timeout is over, and all that
/// belongs to the check is gone.
pub(super) async fn probe(by: Asking<'_>, check: &CheckRule, endpoint: &EndpointState) -> Finding {
    match timeout(check.timing.timeout, ask(by, check, endpoint)).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(cause)) => Finding::Failed(cause),
        Err(_) => Finding::Failed(Cause::TimedOut),
    }
}

/// For whom is asked, and who asks.
type Asking<'a> = (&'a HealthGuard, Option<&'a Arc<WorkloadIdentity>>);

async fn ask(by: Asking<'_>, check: &CheckRule, endpoint: &EndpointState) -> Result<Finding, Cause> {
    let (guard, _) = by;
    let protocol = match (&check.probe, guard.backend.protocol) {
        (Probe::Grpc { .. }, _) | (_, AppProtocol::H2c) => Protocol::Http2,
        (_, AppProtocol::Http1) => Protocol::Http1,
    };
    let stream = connect(by, check, (endpoint, protocol)).await?;
    let address = checked_at(check, endpoint);
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
    (guard, identity): Asking<'_>,
    check: &CheckRule,
    (endpoint, protocol): (&EndpointState, Protocol),
) -> Result<UpstreamStream, Cause> {
    let address = &checked_at(check, endpoint);
    // At a port of its own there is no proxy before it.
    let is_mesh = guard.tls.is_none() && check.port.is_none();
    let by_mesh = is_mesh && guard.backend.way(endpoint, identity.is_some()) == Way::Mesh;
    let first = guard.backend.proxy_protocol.map(|version| header(version, None)).unwrap_or_default();
    let tls = guard.tls.as_ref().map(|tls| &*tls.settings);
    let limit = check.timing.timeout;
    let connected = if by_mesh {
        match MeshConnector::new(identity, guard.backend.peer(endpoint), Some(protocol)) {
            Ok(connector) => connect_mesh(address, limit, &first, &connector).await,
            Err(reason) => Err(reason),
        }
    } else {
        connect_speaking(address, limit, &first, (tls, Some(protocol))).await
    };
    connected.map_err(Cause::of_connecting)
}

fn checked_at(check: &CheckRule, endpoint: &EndpointState) -> Address {
    check.port.map_or_else(|| endpoint.address.clone(), |port| at_port(&endpoint.address, port))
}

fn at_port(address: &Address, port: u16) -> Address {
    match address {
        Address::Socket(address) => Address::Socket(SocketAddr::new(address.ip(), port)),
        Address::Name { host, .. } => Address::Name { host: host.clone(), port },
    }
}

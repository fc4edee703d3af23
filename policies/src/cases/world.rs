use std::net::SocketAddr;
use std::sync::Arc;

use super::format::{Given, PeerSpec};
use crate::document::Parsed;
use crate::model::{AppProtocol, Identity, Peer};
use crate::resolve::Resolved;
use crate::snapshot::{Local, Snapshot};
use crate::state::StateStore;
use crate::story;

/// Where the application of a sidecar would listen.
const APP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);
/// Who asks, where nothing is said about it.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40_000);

/// Everything one case is about, as a proxy has it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) snapshot: Snapshot,
    pub(super) resolved: Resolved,
    pub(super) side: Side,
    pub(super) peer: Peer,
}

/// Which side of which proxy the requests come in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Gateway,
    Caller,
    Serving,
}

impl World {
    /// # Errors
    /// What a proxy would refuse, and a `given` that makes no sense.
    pub(super) fn build(parsed: &[Parsed], given: [&Given; 2]) -> Result<Self, String> {
        let (side, local) = local(given)?;
        let story::World { snapshot, resolved } =
            story::World::build(parsed, &local, &StateStore::new([0, 0]))?;
        Ok(Self { snapshot, resolved, side, peer: peer(given) })
    }
}

fn local(given: [&Given; 2]) -> Result<(Side, Local), String> {
    let caller = given.iter().rev().find_map(|given| given.caller.as_ref());
    let serving = given.iter().rev().map(|given| &given.serving).find(|serving| !serving.is_empty());
    let app = Some((APP, AppProtocol::Http1));
    let zone = given.iter().rev().find_map(|given| given.zone.as_deref()).map(Arc::from);
    let local = Local { zone, node: "case".into(), ..Local::default() };
    match (caller, serving) {
        (None, None) => Ok((Side::Gateway, local)),
        (Some(caller), None) => {
            let local = Local { app, namespace: caller.namespace.as_str().into(), ..local };
            Ok((Side::Caller, local))
        }
        (None, Some(serving)) => {
            let services: Result<Vec<_>, _> = serving.iter().map(|name| name.parse()).collect();
            let services = services.map_err(|error| format!("serving: {error}"))?;
            Ok((Side::Serving, Local { app, services, ..local }))
        }
        (Some(_), Some(_)) => Err(String::from("`caller` and `serving` are two sides: write one")),
    }
}

fn peer(given: [&Given; 2]) -> Peer {
    let none = PeerSpec::default();
    let written = given.iter().rev().find_map(|given| given.peer.as_ref()).unwrap_or(&none);
    let identity = written.identity.as_deref().map(|id| Identity(Arc::from(id)));
    Peer { address: written.address.map_or(PEER, |address| address.0), identity }
}

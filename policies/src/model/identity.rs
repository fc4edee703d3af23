use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

/// A workload's SPIFFE id as verified by mTLS, e.g. `spiffe://cluster.local/ns/shop/sa/checkout`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Identity(pub Arc<str>);

/// The other side of a downstream connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// `None` on plain text: never guessed from headers.
    pub identity: Option<Identity>,
}

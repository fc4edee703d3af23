//! The way to an address that is no Service's: to that address and nowhere else, past every route and policy.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{BackendState, Rule, Selected, Snapshot, Target};
use crate::balance::EndpointState;
use crate::model::{Address, AppProtocol, BackendKind, BackendName, ResourceName};

const NAME: &str = "passthrough";

impl Snapshot {
    /// Whether an address is a ClusterIP with a port of its Service. To any other, a sidecar has nothing to say: its
    /// traffic takes [`Selected::passthrough`].
    pub fn serves(&self, address: SocketAddr) -> bool {
        self.outbound.port_at(address).is_some()
    }
}

impl Selected {
    /// To `address` itself. Made once for each connection: whoever shares it shares connections to the address.
    pub fn passthrough(address: SocketAddr, protocol: AppProtocol) -> Self {
        let name = ResourceName::new("", NAME);
        let backend = BackendState {
            name: BackendName { kind: BackendKind::Backend, object: name, port: address.port() },
            // One label for all addresses: there may be any number of them.
            label: NAME.into(),
            protocol,
            connect_timeout: None,
            endpoints: Box::new([Arc::new(EndpointState::new(Address::Socket(address)))]),
            retry_budget: Arc::default(),
        };
        let target = Target {
            backend: Ok(Arc::new(backend)),
            weight: 1,
            filters: Box::default(),
            guard: None,
            mirrors: Box::default(),
        };
        let rule = Rule { name: NAME.into(), ..Rule::empty() }.leading_to(vec![(target, Box::default())]);
        Self { rule: Arc::new(rule), target: 0 }
    }
}

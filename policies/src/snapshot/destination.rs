//! What a sidecar knows of an address that its application calls, before any request is read.

use std::net::SocketAddr;
use std::sync::Arc;

use super::outbound::PortRules;
use super::{BackendState, Gate, Rule, Selected, Snapshot, Target};
use crate::balance::{Balancer, EndpointState};
use crate::call::CallPlan;
use crate::health::{CapKey, Together};
use crate::model::{Address, AppProtocol, Backend, BackendKind, BackendName, Declared, ResourceName};
use crate::reason::Reason;

const NAME: &str = "passthrough";

/// What clients of an address send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// HTTP and nothing else: it is declared, or routes for HTTP are there, which must not be passed by in another
    /// guise.
    Http,
    /// HTTP, which we carry on by TLS, or TLS of their own. Nothing else may pass: it would go to the endpoints in clear.
    HttpOrTls,
    /// Bytes that are not to be looked at.
    Opaque,
    /// Nobody has said: their first bytes have to tell, if they are the ones to begin.
    Anything,
}

impl Expected {
    /// Where no route says what a Service's port is for.
    pub(super) fn of(backend: &Backend) -> Self {
        match (backend.declared, &backend.tls) {
            (Declared::Http, _) => Self::Http,
            (_, Some(_)) => Self::HttpOrTls,
            (Declared::Other, None) => Self::Opaque,
            (Declared::Nothing, None) => Self::Anything,
        }
    }
}

impl Snapshot {
    pub fn expected(&self, address: SocketAddr) -> Expected {
        match self.outbound.port_at(address) {
            Some(PortRules::Routed(_)) => Expected::Http,
            Some(PortRules::Direct { expected, .. }) => *expected,
            None => Expected::Anything,
        }
    }

    /// Where opaque bytes to an address go: to an endpoint of the Service whose address it is, else to the address.
    ///
    /// # Errors
    /// [`Reason::NoRoute`] where the Service has routes: they replace the direct way, and are for HTTP.
    pub fn stream(&self, address: SocketAddr) -> Result<Selected, Reason> {
        match self.outbound.port_at(address) {
            Some(PortRules::Direct { rule, .. }) => Ok(Selected {
                rule: rule.clone(),
                target: 0,
                session: None,
                key: None,
                counted: CapKey::Uncounted,
            }),
            Some(PortRules::Routed(_)) => Err(Reason::NoRoute),
            None => Ok(Selected::passthrough(address, AppProtocol::default())),
        }
    }

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
        let endpoints = Box::new([Arc::new(EndpointState::new(Address::Socket(address)))]);
        let backend = BackendState {
            name: BackendName { kind: BackendKind::Backend, object: name, port: address.port() },
            // One label for all addresses: there may be any number of them.
            label: NAME.into(),
            protocol,
            connect_timeout: None,
            proxy_protocol: None,
            tls: None,
            mtls: None,
            balancer: Balancer::plain(&endpoints[..]).into(),
            endpoints,
            placements: Box::default(),
            _roster: Arc::default(),
            retry_budget: Arc::default(),
        };
        let target = Target {
            backend: Ok(Arc::new(backend)),
            weight: 1,
            filters: Box::default(),
            gate: Gate::default(),
            guard: None,
            health: None,
            together: Together::default(),
            balancer: None,
            mirrors: Box::default(),
            plan: CallPlan::default(),
            tls: None,
        };
        let rule = Rule { name: NAME.into(), ..Rule::empty() }.leading_to(vec![(target, Box::default())]);
        Self { rule: Arc::new(rule), target: 0, session: None, key: None, counted: CapKey::Uncounted }
    }
}

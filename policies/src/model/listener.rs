use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Certificate, ClientValidation, HostPattern, ResourceName, SourceRef};

/// One listener of one Gateway: `namespace/gateway/section`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerName {
    pub gateway: ResourceName,
    pub section: Arc<str>,
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.gateway, self.section)
    }
}

impl Serialize for ListenerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place where a gateway proxy accepts HTTP: without TLS, HTTP/1.1 and HTTP/2 with prior knowledge, told apart by
/// bytes; with TLS, as ALPN says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: ListenerName,
    pub source: SourceRef,
    /// Addresses to bind; empty means all.
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub hostname: HostPattern,
    /// `None`: without TLS. Never empty; several differ in the kind of their keys.
    pub tls: Option<Vec<Certificate>>,
    /// How clients' certificates are judged; `None`: nobody is asked for one. Only with `tls`.
    pub clients: Option<ClientValidation>,
    /// What backends that are called by TLS are shown if they ask, on the way of the routes of this listener.
    pub client_certificate: Option<Certificate>,
}

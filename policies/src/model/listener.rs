use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Certificate, ClientValidation, HostPattern, ResourceName, SourceRef};

/// One listener at one Gateway: `namespace/gateway/section`, or `namespace/gateway/namespace/set/section` where a
/// ListenerSet brings it. A Gateway and its ListenerSets may use the same section names (GEP-1713).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerName {
    pub gateway: ResourceName,
    /// The ListenerSet that it is written in; `None`: the Gateway itself.
    pub set: Option<ResourceName>,
    pub section: Arc<str>,
}

impl ListenerName {
    /// A listener that is written in the Gateway.
    pub fn own(gateway: ResourceName, section: impl Into<Arc<str>>) -> Self {
        Self { gateway, set: None, section: section.into() }
    }

    /// The object that it is written in.
    pub fn owner(&self) -> &ResourceName {
        self.set.as_ref().unwrap_or(&self.gateway)
    }

    /// The kind of the object that it is written in, as in `kind:` of the document.
    pub const fn owner_kind(&self) -> &'static str {
        if self.set.is_some() { "ListenerSet" } else { "Gateway" }
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.gateway)?;
        if let Some(set) = &self.set {
            write!(f, "{set}/")?;
        }
        f.write_str(&self.section)
    }
}

impl Serialize for ListenerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place where a gateway proxy accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: ListenerName,
    pub source: SourceRef,
    /// Addresses to bind; empty means all.
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub accepts: Accepts,
    /// How clients' certificates are judged; `None`: nobody is asked for one. Only where TLS ends here.
    pub clients: Option<ClientValidation>,
    /// What backends that are called by TLS are shown if they ask, on the way of the routes of this listener.
    pub client_certificate: Option<Certificate>,
}

/// What a listener accepts, and how far it looks inside: what its routes can tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Requests. Without TLS, HTTP/1.1 and HTTP/2 with prior knowledge, told apart by bytes; with TLS, as ALPN says.
    Http { hostname: HostPattern, tls: Option<Vec<Certificate>> },
    /// Connections that begin with TLS, told apart by the server name that the client asks for; whatever is inside.
    Tls { hostname: HostPattern, mode: TlsMode },
    /// Connections, all for one route.
    Tcp,
}

/// Where the TLS of a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// At the backend; only the first message of the client is read on the way.
    Passthrough,
    /// At the listener. Never empty; several certificates differ in the kind of their keys.
    Terminate(Vec<Certificate>),
}

impl Listener {
    /// The names that it is for.
    pub fn hostname(&self) -> &HostPattern {
        match &self.accepts {
            Accepts::Http { hostname, .. } | Accepts::Tls { hostname, .. } => hostname,
            Accepts::Tcp => &HostPattern::Any,
        }
    }

    /// What it shows to clients, where TLS ends at it.
    pub fn certificates(&self) -> Option<&[Certificate]> {
        match &self.accepts {
            Accepts::Http { tls, .. } => tls.as_deref(),
            Accepts::Tls { mode: TlsMode::Terminate(certificates), .. } => Some(certificates),
            Accepts::Tls { mode: TlsMode::Passthrough, .. } | Accepts::Tcp => None,
        }
    }
}

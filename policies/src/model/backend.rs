use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::{BackendTls, ResourceName, SourceRef};

/// Which kind of object a backend was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum BackendKind {
    /// v1 `Service` with `EndpointSlice`s.
    Service,
    /// tidegate.io `Backend`.
    Backend,
}

/// One port of one Service or Backend: the unit that is balanced over, capped and broken.
/// Prints as `namespace/name:port`, with `backend:` before a tidegate.io Backend.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendName {
    pub kind: BackendKind,
    pub object: ResourceName,
    pub port: u16,
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            BackendKind::Service => write!(f, "{}:{}", self.object, self.port),
            BackendKind::Backend => write!(f, "backend:{}:{}", self.object, self.port),
        }
    }
}

impl fmt::Debug for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ProxyProtocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "V1" => Ok(Self::V1),
            "V2" => Ok(Self::V2),
            _ => Err(()),
        }
    }
}

impl Serialize for BackendName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a backend's endpoints speak. Gateway API GEP-1911 `appProtocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AppProtocol {
    /// HTTP/1.1. gRPC requests (`content-type: application/grpc`) still go out as HTTP/2.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (`kubernetes.io/h2c`); by TLS, HTTP/2 and nothing else.
    H2c,
}

/// What a Service port's `appProtocol` says of the bytes that its clients send. They may still be spoken to in another
/// form: clients of a port for HTTP/2 may send HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Declared {
    /// Nothing is written: the bytes themselves have to tell.
    #[default]
    Nothing,
    Http,
    /// Something that is not HTTP in clear: never looked into.
    Other,
}

/// A version of the PROXY protocol (HAProxy, doc/proxy-protocol.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Bytes; quicker to read.
    V2,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    pub name: BackendName,
    pub source: SourceRef,
    /// The port's name in its Service, which a policy's `sectionName` may give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_name: Option<Arc<str>>,
    pub protocol: AppProtocol,
    pub declared: Declared,
    /// How long one connection attempt may take; `None` means the proxy's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// Addresses that stand for the Service as a whole; none for a headless one and for a Backend.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<IpAddr>,
    /// `None`: without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// What connections begin with, to tell whom they are for; `None`: with nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// The endpoints of one backend; replaced as a whole whenever one of them changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    pub backend: BackendName,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    pub address: Address,
    /// Relative share of the backend's traffic; 1 unless written otherwise, 0 takes none.
    pub weight: u32,
    pub placement: Placement,
    /// `None`: it is called as the backend says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh: Option<MeshPeer>,
}

/// A proxy of the mesh stands before an endpoint, and is called by mTLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct MeshPeer {
    /// The service accounts, of one of which it must have the identity; none: of any in the trust domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<ResourceName>,
}

/// Where an endpoint is, and when its turn comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Placement {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// The zones whose proxies are to call it (EndpointSlice `hints.forZones`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub for_zones: Vec<Arc<str>>,
    /// 0 is called first; the next only if those before cannot take it.
    #[serde(skip_serializing_if = "is_first")]
    pub priority: u32,
}

fn is_first(priority: &u32) -> bool {
    *priority == 0
}

impl Endpoint {
    /// With weight 1, nowhere in particular.
    pub fn at(address: Address) -> Self {
        Self { address, weight: 1, placement: Placement::default(), mesh: None }
    }
}

/// Where an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Socket(SocketAddr),
    /// A DNS name, resolved by the proxy when it connects.
    Name {
        host: Arc<str>,
        port: u16,
    },
}

impl Address {
    pub const fn port(&self) -> u16 {
        match self {
            Self::Socket(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => fmt::Display::fmt(address, f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

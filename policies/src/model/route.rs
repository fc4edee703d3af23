use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use regex::Regex;
use serde::{Serialize, Serializer};

use super::{BackendName, HostPattern, ListenerName, Meta, ResourceName, RouteFilter, SourceRef, TargetKind};

/// An HTTPRoute or GRPCRoute whose parents and backends have been looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub kind: RouteKind,
    pub meta: Meta,
    pub parents: Vec<RouteParent>,
    pub rules: Vec<RouteRule>,
}

/// Which object a route was made from; routes of different kinds may have the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum RouteKind {
    #[default]
    Http,
    /// Its backends are spoken to as HTTP/2, whatever they say.
    Grpc,
}

/// Where a route is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RouteParent {
    /// A Gateway listener, with the hostnames that listener and route have in common.
    Listener { listener: ListenerName, hostnames: Vec<HostPattern> },
    /// GAMMA: a Service (one port of it, or all). Judged in the sidecar of the caller.
    Service { service: ResourceName, port: Option<u16> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    pub name: Option<Arc<str>>,
    pub source: SourceRef,
    /// ORed; never empty (no match written means every path).
    pub matches: Vec<RouteMatch>,
    pub filters: Vec<RouteFilter>,
    pub backends: Vec<BackendRef>,
    pub timeouts: Timeouts,
    pub retry: Option<Retry>,
    pub session: Option<SessionPersistence>,
}

/// All parts must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    pub path: PathMatch,
    pub method: Option<Method>,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
}

/// Gateway API `HTTPPathMatch`: compared with the path as sent, without query.
#[derive(Clone, Debug)]
pub enum PathMatch {
    Exact(Arc<str>),
    /// By path element, without trailing slash; empty matches everything.
    Prefix(Arc<str>),
    /// The whole path must match.
    Regex(Regex),
    /// gRPC: this method, of any service (`/*/Method`).
    AnyService(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    pub name: HeaderName,
    pub value: StringMatch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    pub name: Arc<str>,
    pub value: StringMatch,
}

#[derive(Clone, Debug)]
pub enum StringMatch {
    Exact(Arc<str>),
    /// The whole value must match.
    Regex(Regex),
}

impl BackendRef {
    /// Without filters.
    pub fn to(target: BackendName, weight: u32) -> Self {
        Self { identity: target.to_string().into(), target: Ok(target), weight, filters: Vec::new() }
    }
}

impl RouteKind {
    /// As in `kind:` of the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
        }
    }

    /// What policies call it.
    pub const fn target(self) -> TargetKind {
        match self {
            Self::Http => TargetKind::HTTPRoute,
            Self::Grpc => TargetKind::GRPCRoute,
        }
    }
}

impl StringMatch {
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(want) => **want == *value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl PartialEq for StringMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}
impl Eq for StringMatch {}

impl PartialEq for PathMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::AnyService(a), Self::AnyService(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}
impl Eq for PathMatch {}

impl Serialize for StringMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(value) => serializer.serialize_str(value),
            Self::Regex(regex) => serializer.collect_str(&format_args!("~{}", regex.as_str())),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRef {
    /// An invalid reference keeps its weight: its share of the requests fails with 500, as specified.
    pub target: Result<BackendName, InvalidRef>,
    /// What is written, in the form of a [`BackendName`]: the same whether or not `target` is valid today, so that no
    /// user moves when it changes.
    pub identity: Arc<str>,
    pub weight: u32,
    pub filters: Vec<RouteFilter>,
}

/// Why a backendRef cannot be used; the reasons of the Gateway API's `ResolvedRefs` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum InvalidRef {
    InvalidKind,
    BackendNotFound,
    RefNotPermitted,
    UnsupportedProtocol,
}

/// `None` means no limit of this kind was written; zero has already been turned into `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// The whole transaction, retries included.
    pub request: Option<Duration>,
    /// One attempt.
    pub backend_request: Option<Duration>,
}

/// How a client goes back to where it was answered from (GEP-1619).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPersistence {
    pub carrier: SessionCarrier,
    /// How long a session lasts at most.
    pub absolute_timeout: Option<Duration>,
    /// How long it lasts without a request.
    pub idle_timeout: Option<Duration>,
}

/// What the client brings its session in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCarrier {
    Cookie {
        /// `None`: a name of the rule's own.
        name: Option<Arc<str>>,
        path: Arc<str>,
        /// The client keeps it as long as `absolute_timeout`, and not only until it is closed.
        permanent: bool,
    },
    Header(HeaderName),
}

/// When and how often a request is sent again (GEP-1731). Connection errors are, wherever there is a stanza.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Response statuses that are tried again, 400 to 599.
    pub codes: Box<[u16]>,
    /// Retries: one less than the most requests that one request can become.
    pub attempts: u32,
    /// At least this long between two attempts; `None` leaves it to the proxy.
    pub backoff: Option<Duration>,
}

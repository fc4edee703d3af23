//! The validated vocabulary of the mesh: what a proxy is told, with illegal states left out.
//!
//! Documents (what people write) become these in [`crate::resolve`]; [`crate::codec`] carries them over the wire;
//! [`crate::snapshot`] indexes them for requests. Nothing here decides anything.

mod backend;
mod certificate;
mod cors;
mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod host;
mod identity;
mod listener;
mod name;
mod policy;
mod resources;
mod route;
mod source;
mod stream_route;
mod tls;
mod workload;

pub use backend::{
    Address, AppProtocol, Backend, BackendKind, BackendName, Declared, Endpoint, Endpoints, MeshPeer,
    Placement, ProxyProtocol,
};
pub use certificate::{Certificate, PrivateKey};
pub use cors::{Cors, InvalidOrigin, Listed, OriginHost, OriginPattern};
pub use filter::{HeaderModifier, Mirror, PathModifier, Redirect, Rewrite, RouteFilter, Share, WebScheme};
pub use host::{HostPattern, InvalidHost};
pub use identity::{Identity, Peer};
pub use listener::{Accepts, Listener, ListenerName, TlsMode};
pub use name::{InvalidName, ResourceName};
pub use policy::{Mode, Policy, PolicyKey, PolicyRef, TargetKind, TargetRef};
pub use resources::{Replaced, Resource, ResourceType, Resources};
pub use route::{
    BackendRef, HeaderMatch, InvalidRef, PathMatch, QueryMatch, Retry, Route, RouteKind, RouteMatch,
    RouteParent, RouteRule, SessionCarrier, SessionPersistence, StringMatch, Timeouts,
};
pub use source::{Meta, SourceMap, SourceRef};
pub use stream_route::{StreamBackend, StreamKind, StreamRoute, StreamRule};
pub use tls::{AltName, BACKEND_TLS_POLICY, BackendTls, ClientMode, ClientValidation, Trust, Verification};
pub use workload::{Destination, Workload};

use std::sync::Arc;

use serde::Serialize;

use super::{BackendName, InvalidRef, Meta, RouteParent, SourceRef, TargetKind};

/// A TCPRoute or TLSRoute whose parents and backends have been looked up: where whole connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRoute {
    pub kind: StreamKind,
    pub meta: Meta,
    /// Of a TCPRoute, without hostnames to choose by: any.
    pub parents: Vec<RouteParent>,
    pub rule: StreamRule,
}

/// What tells the connections of a route apart from others of its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum StreamKind {
    /// Nothing: they are all for it.
    Tcp,
    /// The server name in the first message of TLS.
    Tls,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRule {
    pub name: Option<Arc<str>>,
    pub source: SourceRef,
    pub backends: Vec<StreamBackend>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamBackend {
    /// An invalid reference keeps its weight: its share of the connections is closed.
    pub target: Result<BackendName, InvalidRef>,
    pub weight: u32,
}

impl StreamKind {
    /// As in `kind:` of the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCPRoute",
            Self::Tls => "TLSRoute",
        }
    }

    /// As what policies are attached to.
    pub const fn target(self) -> TargetKind {
        match self {
            Self::Tcp => TargetKind::TCPRoute,
            Self::Tls => TargetKind::TLSRoute,
        }
    }
}

//! Gateway API `TCPRoute`, `TLSRoute` and `UDPRoute`: which connections go where, whatever they carry.
//!
//! Three kinds for authors, one [`StreamRouteSpec`] for the rest of the code: they differ in what tells connections
//! apart, and in the listeners that take them. UDPRoute is read so that its author is told that nothing here serves UDP.

use schemars::JsonSchema;
use serde::Deserialize;

use super::http_route::{check_backend, check_parents};
use super::rules::{check_hostname, check_section_name};
use super::{Faults, HttpBackendRef, Object, ParentRef, Spec, StreamRoute, Written, one, service_kind};

/// A route for connections, of whichever kind.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRouteSpec {
    pub kind: StreamRouteKind,
    pub parent_refs: Vec<ParentRef>,
    /// Of a TLSRoute, which has at least one: the server names (SNI, RFC 6066 section 3) that it is for.
    pub hostnames: Vec<String>,
    /// Exactly one.
    pub rules: Vec<StreamRuleSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamRouteKind {
    Tcp,
    Tls,
    Udp,
}

/// Spec of a TCPRoute, and of a UDPRoute.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["useDefaultGateways"]))]
pub(crate) struct TcpRouteSpec {
    #[serde(default)]
    #[schemars(length(max = 32))]
    parent_refs: Vec<ParentRef>,
    #[schemars(length(min = 1, max = 1))]
    rules: Vec<StreamRuleSpec>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["useDefaultGateways"]))]
pub(crate) struct TlsRouteSpec {
    #[serde(default)]
    #[schemars(length(max = 32))]
    parent_refs: Vec<ParentRef>,
    #[schemars(length(min = 1, max = 1024))]
    hostnames: Vec<String>,
    #[schemars(length(min = 1, max = 1))]
    rules: Vec<StreamRuleSpec>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct UdpRouteSpec(TcpRouteSpec);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamRuleSpec {
    pub name: Option<String>,
    #[schemars(length(min = 1, max = 16))]
    pub backend_refs: Vec<StreamBackendRef>,
}

/// Gateway API `BackendRef`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamBackendRef {
    /// The empty group is the core one, of Service.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    #[serde(default = "service_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Absent: the route's own.
    pub namespace: Option<String>,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Required for a Service; a Backend has one port only.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
}

impl StreamRouteKind {
    /// As in `kind:` of the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCPRoute",
            Self::Tls => "TLSRoute",
            Self::Udp => "UDPRoute",
        }
    }
}

impl StreamBackendRef {
    /// The same reference, as the rules of HTTP routes have it.
    pub(crate) fn as_backend_ref(&self) -> HttpBackendRef {
        HttpBackendRef {
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port: self.port,
            weight: self.weight,
            filters: Vec::new(),
        }
    }
}

impl Spec for TcpRouteSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        check(&object.spec.clone().into_spec(StreamRouteKind::Tcp), faults);
    }

    fn wrap(object: Written<Self>) -> Object {
        wrap(object, |spec| spec.into_spec(StreamRouteKind::Tcp))
    }
}

impl Spec for UdpRouteSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        check(&object.spec.0.clone().into_spec(StreamRouteKind::Udp), faults);
    }

    fn wrap(object: Written<Self>) -> Object {
        wrap(object, |spec| spec.0.into_spec(StreamRouteKind::Udp))
    }
}

impl Spec for TlsRouteSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        check(&object.spec.clone().into_spec(), faults);
    }

    fn wrap(object: Written<Self>) -> Object {
        wrap(object, Self::into_spec)
    }
}

impl TcpRouteSpec {
    fn into_spec(self, kind: StreamRouteKind) -> StreamRouteSpec {
        let Self { parent_refs, rules } = self;
        StreamRouteSpec { kind, parent_refs, hostnames: Vec::new(), rules }
    }
}

impl TlsRouteSpec {
    fn into_spec(self) -> StreamRouteSpec {
        let Self { parent_refs, hostnames, rules } = self;
        StreamRouteSpec { kind: StreamRouteKind::Tls, parent_refs, hostnames, rules }
    }
}

fn wrap<S>(object: Written<S>, spec: impl FnOnce(S) -> StreamRouteSpec) -> Object {
    let Written { meta, labels, annotations, spec: own, lines } = object;
    let route: StreamRoute = Written { meta, labels, annotations, spec: spec(own), lines };
    Object::StreamRoute(Box::new(route))
}

fn check(spec: &StreamRouteSpec, faults: &mut Faults) {
    check_parents(&spec.parent_refs, faults);
    for (i, hostname) in spec.hostnames.iter().enumerate() {
        let at = format!("/hostnames/{i}");
        if hostname.is_empty() {
            faults.error(at, "a hostname must not be empty");
        } else {
            check_hostname(&at, hostname, faults);
        }
    }
    for (i, rule) in spec.rules.iter().enumerate() {
        if let Some(name) = &rule.name {
            check_section_name(&format!("/rules/{i}/name"), name, faults);
        }
        for (j, backend) in rule.backend_refs.iter().enumerate() {
            check_backend(&format!("/rules/{i}/backendRefs/{j}"), &backend.as_backend_ref(), faults);
        }
    }
}

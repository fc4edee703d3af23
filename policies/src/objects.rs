//! The kinds of objects people write, as written: Gateway API, Kubernetes core and tidegate.io specs.
//!
//! A spec holds the author's words with the defaults that the kind's CRD gives; its `check` refuses what a JSON
//! schema cannot. What objects mean to each other (does the parent exist, may this backend be used) is not judged
//! here but in [`crate::resolve`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::model::{Meta, Policy, SourceMap};

mod backend;
mod backend_tls_policy;
mod config_map;
mod duration;
mod endpoint_slice;
mod fault;
mod gateway;
mod gateway_class;
mod grpc_route;
mod http_route;
mod label;
mod listener_set;
mod metadata;
mod namespace;
mod pod;
mod policy;
mod reference_grant;
mod rules;
mod secret;
mod service;
mod stream_route;

pub use backend::{BackendEndpoint, BackendProtocol, BackendSpec};
pub use backend_tls_policy::{
    BackendTlsPolicySpec, BackendTlsValidation, LocalObjectRef, LocalTargetRef, SubjectAltName,
    SubjectAltNameType,
};
pub use config_map::ConfigMapSpec;
pub use duration::{GepDuration, InvalidDuration};
pub use endpoint_slice::{AddressType, EndpointConditions, EndpointSliceSpec, SliceEndpoint, SlicePort};
pub use fault::Fault;
pub(crate) use fault::Faults;
pub use gateway::{
    AddressKind, AllowedListeners, AllowedRoutes, CertificateRef, FromNamespaces, FrontendConfig,
    FrontendPort, FrontendTls, FrontendValidation, FrontendValidationMode, GatewayAddress, GatewayBackendTls,
    GatewaySpec, GatewayTlsSpec, InfrastructureSpec, ListenerNamespaces, ListenerProtocol, ListenerSpec,
    ListenerTlsSpec, LocalParametersRef, ObjectRef, RouteGroupKind, RouteNamespaces, TlsMode,
};
pub use gateway_class::{GatewayClassSpec, ParametersRef};
pub use grpc_route::{GrpcMatchSpec, GrpcMethodSpec, GrpcRouteSpec, GrpcRule};
pub(crate) use http_route::is_request_path;
pub use http_route::{
    CookieConfigSpec, CookieLifetime, CorsSpec, ExtensionRefSpec, FilterType, FractionSpec, HeaderMatchSpec,
    HeaderModifierSpec, HeaderPair, HttpBackendRef, HttpFilterSpec, HttpRouteSpec, HttpRule, MatchMethod,
    MatchSpec, MirrorBackendRef, MirrorSpec, ParentRef, PathMatchSpec, PathMatchType, PathModifierSpec,
    PathModifierType, QueryMatchSpec, REDIRECT_STATUSES, RedirectSpec, RetrySpec, RewriteSpec, SchemeSpec,
    SessionCookieSpec, SessionHeaderSpec, SessionPersistenceSpec, SessionType, TimeoutsSpec, ValueMatchType,
    compile_pattern,
};
pub use label::{LabelExpression, LabelOperator, LabelSelector};
pub use listener_set::{ListenerSetSpec, ParentGatewayRef};
pub(crate) use metadata::{Metadata, default_namespace};
pub use namespace::NamespaceSpec;
pub use pod::{MESH_PORTS, PodSpec};
pub use policy::{PolicyTargetRef, PolicyTargets};
pub use reference_grant::{GrantFrom, GrantTo, ReferenceGrantSpec};
pub(crate) use rules::{is_dns_label, is_dns_subdomain};
pub use secret::{SecretSpec, TLS_SECRET};
pub use service::SERVICE_ACCOUNTS;
pub use service::{IntOrString, ServicePort, ServiceSpec, TransportProtocol};
pub(crate) use service::{MTLS, MTLS_ENABLED, PROXY_PROTOCOL};
pub use stream_route::{StreamBackendRef, StreamRouteKind, StreamRouteSpec, StreamRuleSpec};
pub(crate) use stream_route::{TcpRouteSpec, TlsRouteSpec, UdpRouteSpec};

/// The group of Gateway, HTTPRoute and their kin.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The group of Backend and every policy kind.
pub const TIDEGATE_GROUP: &str = "tidegate.io";

/// One object of any kind, valid in itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    GatewayClass(Box<GatewayClass>),
    Gateway(Box<Gateway>),
    ListenerSet(Box<ListenerSet>),
    HttpRoute(Box<HttpRoute>),
    ReferenceGrant(Box<ReferenceGrant>),
    Namespace(Box<Namespace>),
    GrpcRoute(Box<GrpcRoute>),
    /// A TCPRoute, TLSRoute or UDPRoute.
    StreamRoute(Box<StreamRoute>),
    Service(Box<Service>),
    EndpointSlice(Box<EndpointSlice>),
    Pod(Box<Pod>),
    Backend(Box<Backend>),
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
    BackendTlsPolicy(Box<BackendTlsPolicy>),
    Policy(Box<Policy>),
    /// A well-known kind that the mesh has no use for.
    Ignored,
}

pub type GatewayClass = Written<GatewayClassSpec>;
pub type Gateway = Written<GatewaySpec>;
pub type ListenerSet = Written<ListenerSetSpec>;
pub type HttpRoute = Written<HttpRouteSpec>;
pub type ReferenceGrant = Written<ReferenceGrantSpec>;
pub type Namespace = Written<NamespaceSpec>;
pub type GrpcRoute = Written<GrpcRouteSpec>;
pub type StreamRoute = Written<StreamRouteSpec>;
pub type Service = Written<ServiceSpec>;
pub type EndpointSlice = Written<EndpointSliceSpec>;
pub type Pod = Written<PodSpec>;
pub type Backend = Written<BackendSpec>;
pub type Secret = Written<SecretSpec>;
pub type ConfigMap = Written<ConfigMapSpec>;
pub type BackendTlsPolicy = Written<BackendTlsPolicySpec>;

/// An object as its author wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<S> {
    pub meta: Meta,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub spec: S,
    /// The line of every list item that is itself an object (`/rules/0/backendRefs/1`), by pointer relative to the
    /// spec; relative to the document for an EndpointSlice, which has no `spec`.
    pub lines: SourceMap,
}

/// A spec that can judge itself.
pub(crate) trait Spec: DeserializeOwned + JsonSchema {
    /// Reports what the schema cannot say. Pointers are relative to the spec.
    fn check(object: &Written<Self>, faults: &mut Faults);

    fn wrap(object: Written<Self>) -> Object;
}

impl Object {
    /// Identity and place; `None` for [`Object::Ignored`].
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::GatewayClass(o) => Some(&o.meta),
            Self::Gateway(o) => Some(&o.meta),
            Self::ListenerSet(o) => Some(&o.meta),
            Self::HttpRoute(o) => Some(&o.meta),
            Self::ReferenceGrant(o) => Some(&o.meta),
            Self::Namespace(o) => Some(&o.meta),
            Self::GrpcRoute(o) => Some(&o.meta),
            Self::StreamRoute(o) => Some(&o.meta),
            Self::Service(o) => Some(&o.meta),
            Self::EndpointSlice(o) => Some(&o.meta),
            Self::Pod(o) => Some(&o.meta),
            Self::Backend(o) => Some(&o.meta),
            Self::Secret(o) => Some(&o.meta),
            Self::ConfigMap(o) => Some(&o.meta),
            Self::BackendTlsPolicy(o) => Some(&o.meta),
            Self::Policy(o) => Some(&o.meta),
            Self::Ignored => None,
        }
    }

    /// As in `kind:` of the document; `None` for [`Object::Ignored`].
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::GatewayClass(_) => Some("GatewayClass"),
            Self::Gateway(_) => Some("Gateway"),
            Self::ListenerSet(_) => Some("ListenerSet"),
            Self::HttpRoute(_) => Some("HTTPRoute"),
            Self::ReferenceGrant(_) => Some("ReferenceGrant"),
            Self::Namespace(_) => Some("Namespace"),
            Self::GrpcRoute(_) => Some("GRPCRoute"),
            Self::StreamRoute(o) => Some(o.spec.kind.as_str()),
            Self::Service(_) => Some("Service"),
            Self::EndpointSlice(_) => Some("EndpointSlice"),
            Self::Pod(_) => Some("Pod"),
            Self::Backend(_) => Some("Backend"),
            Self::Secret(_) => Some("Secret"),
            Self::ConfigMap(_) => Some("ConfigMap"),
            Self::BackendTlsPolicy(_) => Some("BackendTLSPolicy"),
            Self::Policy(o) => Some(&o.kind),
            Self::Ignored => None,
        }
    }
}

fn gateway_group() -> String {
    GATEWAY_GROUP.to_owned()
}

fn gateway_kind() -> String {
    String::from("Gateway")
}

fn service_kind() -> String {
    String::from("Service")
}

const fn one() -> u32 {
    1
}

//! Gateway API `HTTPRoute`: which requests go where, and what changes on the way.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{GepDuration, gateway_group, gateway_kind, one, service_kind};

mod check;
mod check_filters;
mod filters;
mod pattern;
mod retry;
mod session;

pub(crate) use check::{check_backend, check_parents, check_pattern, check_spec};
pub(crate) use filters::is_request_path;
pub use filters::{
    CorsSpec, ExtensionRefSpec, FilterType, FractionSpec, HeaderModifierSpec, HeaderPair, HttpFilterSpec,
    MirrorBackendRef, MirrorSpec, PathModifierSpec, PathModifierType, REDIRECT_STATUSES, RedirectSpec,
    RewriteSpec, SchemeSpec,
};
pub use pattern::compile_pattern;
pub use retry::RetrySpec;
pub use session::{
    CookieConfigSpec, CookieLifetime, SessionCookieSpec, SessionHeaderSpec, SessionPersistenceSpec,
    SessionType,
};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["useDefaultGateways"]))]
pub struct HttpRouteSpec {
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentRef>,
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub hostnames: Vec<String>,
    #[serde(default = "default_rules")]
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<HttpRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    #[serde(default = "gateway_group")]
    #[schemars(length(max = 253))]
    pub group: String,
    #[serde(default = "gateway_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Absent: the route's own.
    pub namespace: Option<String>,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// A listener of a Gateway or ListenerSet, or a port name of a Service.
    pub section_name: Option<String>,
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRule {
    pub name: Option<String>,
    /// ORed. Absent: one match, every path.
    #[serde(default = "default_matches")]
    #[schemars(length(max = 64))]
    pub matches: Vec<MatchSpec>,
    #[schemars(length(max = 16))]
    pub filters: Vec<HttpFilterSpec>,
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<HttpBackendRef>,
    pub timeouts: TimeoutsSpec,
    pub retry: Option<RetrySpec>,
    pub session_persistence: Option<SessionPersistenceSpec>,
}

/// All parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchSpec {
    pub path: PathMatchSpec,
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatchSpec>,
    #[schemars(length(max = 16))]
    pub query_params: Vec<QueryMatchSpec>,
    pub method: Option<MatchMethod>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PathMatchSpec {
    #[serde(rename = "type")]
    pub kind: PathMatchType,
    #[schemars(length(max = 1024))]
    pub value: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathMatchType {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatchSpec {
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryMatchSpec {
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    #[default]
    Exact,
    RegularExpression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MatchMethod {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpBackendRef {
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
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub filters: Vec<HttpFilterSpec>,
}

/// `0s` switches a timeout off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TimeoutsSpec {
    pub request: Option<GepDuration>,
    pub backend_request: Option<GepDuration>,
}

impl Default for PathMatchSpec {
    fn default() -> Self {
        Self { kind: PathMatchType::PathPrefix, value: String::from("/") }
    }
}

impl MatchMethod {
    pub fn method(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Head => http::Method::HEAD,
            Self::Post => http::Method::POST,
            Self::Put => http::Method::PUT,
            Self::Delete => http::Method::DELETE,
            Self::Connect => http::Method::CONNECT,
            Self::Options => http::Method::OPTIONS,
            Self::Trace => http::Method::TRACE,
            Self::Patch => http::Method::PATCH,
        }
    }
}

fn default_rules() -> Vec<HttpRule> {
    vec![HttpRule { matches: default_matches(), ..HttpRule::default() }]
}

fn default_matches() -> Vec<MatchSpec> {
    vec![MatchSpec::default()]
}

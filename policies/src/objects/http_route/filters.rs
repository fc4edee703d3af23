//! The filters that a route may hold, as written.

use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{HttpBackendRef, service_kind};

/// What a redirect may answer with.
pub const REDIRECT_STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// One filter of a rule or a backendRef. Those of the kinds in `x-ignored` are refused by their `type`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["externalAuth"]))]
pub struct HttpFilterSpec {
    #[serde(rename = "type")]
    pub kind: FilterType,
    pub request_header_modifier: Option<HeaderModifierSpec>,
    pub response_header_modifier: Option<HeaderModifierSpec>,
    pub request_redirect: Option<RedirectSpec>,
    pub url_rewrite: Option<RewriteSpec>,
    pub cors: Option<CorsSpec>,
    pub request_mirror: Option<MirrorSpec>,
    pub extension_ref: Option<ExtensionRefSpec>,
}

/// Gateway API `LocalObjectReference`: a policy in the route's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionRefSpec {
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum FilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestMirror,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    #[serde(rename = "CORS")]
    Cors,
    ExternalAuth,
    ExtensionRef,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderModifierSpec {
    /// Replaces every field of the name.
    #[schemars(length(max = 16))]
    pub set: Vec<HeaderPair>,
    /// Appends to what is there.
    #[schemars(length(max = 16))]
    pub add: Vec<HeaderPair>,
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderPair {
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// What is absent stays as the client asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedirectSpec {
    pub scheme: Option<SchemeSpec>,
    #[schemars(length(min = 1, max = 253))]
    pub hostname: Option<String>,
    pub path: Option<PathModifierSpec>,
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    #[serde(default = "found")]
    pub status_code: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchemeSpec {
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RewriteSpec {
    #[schemars(length(min = 1, max = 253))]
    pub hostname: Option<String>,
    pub path: Option<PathModifierSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathModifierSpec {
    #[serde(rename = "type")]
    pub kind: PathModifierType,
    #[schemars(length(max = 1024))]
    pub replace_full_path: Option<String>,
    /// Only where the rule has one match, and that is a PathPrefix.
    #[schemars(length(max = 1024))]
    pub replace_prefix_match: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathModifierType {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

/// `*` in a list stands alone and means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsSpec {
    /// `scheme://host[:port]`; the host may begin with `*`.
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub allow_origins: Vec<String>,
    pub allow_credentials: bool,
    #[schemars(length(max = 9))]
    pub allow_methods: Vec<String>,
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub allow_headers: Vec<String>,
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub expose_headers: Vec<String>,
    /// Seconds; absent: 5.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_age: Option<u32>,
}

/// At most one of `percent` and `fraction`; with neither, every request is mirrored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorSpec {
    pub backend_ref: MirrorBackendRef,
    #[schemars(range(max = 100))]
    pub percent: Option<u32>,
    pub fraction: Option<FractionSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorBackendRef {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct FractionSpec {
    #[schemars(range(max = 2_147_483_647))]
    pub numerator: u32,
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub denominator: u32,
}

impl MirrorBackendRef {
    /// The same reference, as a rule's backendRefs have it.
    pub(crate) fn as_backend_ref(&self) -> HttpBackendRef {
        HttpBackendRef {
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port: self.port,
            weight: 1,
            filters: Vec::new(),
        }
    }
}

/// Whether a text can be the path of a request: no query, no fragment.
pub(crate) fn is_request_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(['?', '#']) && text.parse::<PathAndQuery>().is_ok()
}

const fn hundred() -> u32 {
    100
}

const fn found() -> u16 {
    302
}

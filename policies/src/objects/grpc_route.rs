//! Gateway API `GRPCRoute`: which gRPC calls go where.

use schemars::JsonSchema;
use serde::Deserialize;

use super::http_route::{check_pattern, check_spec};
use super::{
    Faults, FilterType, HeaderMatchSpec, HttpBackendRef, HttpFilterSpec, HttpRouteSpec, HttpRule, MatchSpec,
    Object, ParentRef, SessionPersistenceSpec, Spec, TimeoutsSpec, ValueMatchType, Written,
};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["useDefaultGateways"]))]
pub struct GrpcRouteSpec {
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentRef>,
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub hostnames: Vec<String>,
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub rules: Vec<GrpcRule>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRule {
    pub name: Option<String>,
    /// ORed. Absent: every call.
    #[schemars(length(max = 64))]
    pub matches: Vec<GrpcMatchSpec>,
    /// Header modifiers and mirrors only.
    #[schemars(length(max = 16))]
    pub filters: Vec<HttpFilterSpec>,
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<HttpBackendRef>,
    pub session_persistence: Option<SessionPersistenceSpec>,
}

/// All parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcMatchSpec {
    pub method: Option<GrpcMethodSpec>,
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatchSpec>,
}

/// At least one of both names; what is absent or empty matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcMethodSpec {
    #[serde(rename = "type")]
    pub kind: ValueMatchType,
    #[schemars(length(max = 1024))]
    pub service: String,
    #[schemars(length(max = 1024))]
    pub method: String,
}

impl GrpcRouteSpec {
    /// The route as an HTTPRoute, with everything but the matches of methods.
    pub(crate) fn as_http(&self) -> HttpRouteSpec {
        let rule = |rule: &GrpcRule| HttpRule {
            name: rule.name.clone(),
            matches: rule.matches.iter().map(GrpcMatchSpec::headers_only).collect(),
            filters: rule.filters.clone(),
            backend_refs: rule.backend_refs.clone(),
            timeouts: TimeoutsSpec::default(),
            retry: None,
            session_persistence: rule.session_persistence.clone(),
        };
        HttpRouteSpec {
            parent_refs: self.parent_refs.clone(),
            hostnames: self.hostnames.clone(),
            rules: self.rules.iter().map(rule).collect(),
        }
    }
}

impl GrpcMatchSpec {
    fn headers_only(&self) -> MatchSpec {
        MatchSpec { headers: self.headers.clone(), ..MatchSpec::default() }
    }
}

impl Spec for GrpcRouteSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        check_spec(&object.spec.as_http(), faults);
        for (i, rule) in object.spec.rules.iter().enumerate() {
            let at = format!("/rules/{i}");
            check_kinds(&at, &rule.filters, faults);
            for (j, backend) in rule.backend_refs.iter().enumerate() {
                check_kinds(&format!("{at}/backendRefs/{j}"), &backend.filters, faults);
            }
            for (j, wanted) in rule.matches.iter().enumerate() {
                if let Some(method) = &wanted.method {
                    check_method(&format!("{at}/matches/{j}/method"), method, faults);
                }
            }
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::GrpcRoute(Box::new(object))
    }
}

fn check_kinds(at: &str, filters: &[HttpFilterSpec], faults: &mut Faults) {
    for (i, filter) in filters.iter().enumerate() {
        let only_http = [FilterType::RequestRedirect, FilterType::UrlRewrite, FilterType::Cors];
        if only_http.contains(&filter.kind) {
            let message = format!("a GRPCRoute has no filter {}", filter.kind.name());
            faults.error(format!("{at}/filters/{i}/type"), message);
        }
    }
}

fn check_method(at: &str, wanted: &GrpcMethodSpec, faults: &mut Faults) {
    if wanted.service.is_empty() && wanted.method.is_empty() {
        return faults.error(at, "needs a `service`, a `method`, or both");
    }
    for (field, value) in [("service", &wanted.service), ("method", &wanted.method)] {
        let at = format!("{at}/{field}");
        match wanted.kind {
            ValueMatchType::RegularExpression => check_pattern(&at, value, faults),
            ValueMatchType::Exact if value.is_empty() || is_grpc_name(value, field == "service") => {}
            ValueMatchType::Exact => {
                faults.error(at, format!("`{value}` cannot be the name of a gRPC {field}"));
            }
        }
    }
}

/// The pattern of the CRD: identifiers, for a service joined by dots.
fn is_grpc_name(name: &str, dots: bool) -> bool {
    let identifier = |part: &str| {
        part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    };
    match dots {
        true => name.strip_prefix('.').unwrap_or(name).split('.').all(identifier),
        false => identifier(name),
    }
}

//! The rules of an HTTPRoute: matches and filters compiled, backendRefs looked up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::backends::{app_protocol, external_name, tcp_ports};
use super::extensions::{self, Level};
use super::filters::{filters, only_prefix};
use super::grants::Referrer;
use super::objects::Objects;
use crate::matching::target::normalize_path;
use crate::model::{
    BackendKind, BackendName, BackendRef, HeaderMatch, InvalidRef, PathMatch, PolicyKey, QueryMatch,
    ResourceName, RouteFilter, RouteKind, RouteMatch, RouteRule, SourceRef, StringMatch, Timeouts,
};
use crate::objects::{
    ExtensionRefSpec, GATEWAY_GROUP, GepDuration, HttpBackendRef, HttpRoute, HttpRule, MatchSpec,
    PathMatchSpec, PathMatchType, RetrySpec, SessionPersistenceSpec, TIDEGATE_GROUP, ValueMatchType,
    compile_pattern,
};

/// A backendRef that cannot be used: the reason of `ResolvedRefs`, and a message that names its place.
#[derive(Debug)]
pub(super) struct Invalid {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// `mesh`: all parents are Services, so backendRefs may cross namespaces (GEP-1324).
///
/// # Errors
/// What cannot be carried out. The check of documents refuses it too; this is the second lock.
pub(super) fn rules(
    objects: &Objects<'_>,
    (kind, route): (RouteKind, &HttpRoute),
    mesh: bool,
    invalid: &mut Vec<Invalid>,
) -> Result<Vec<RouteRule>, String> {
    let referrer =
        Referrer { group: GATEWAY_GROUP, kind: kind.as_str(), namespace: &route.meta.name.namespace };
    let asked = Asked { referrer, mesh, carries: Carries::Requests };
    let mut finder = Finder { objects, asked, route, invalid };
    let mut rules = Vec::new();
    for (at, written) in route.spec.rules.iter().enumerate() {
        let at = format!("/rules/{at}");
        let matches = matches(written)?;
        let prefix = only_prefix(&matches);
        let own = filters(&mut finder, (Level::Rule, &at), &written.filters, prefix)?;
        let mut below = Vec::new();
        for (position, backend) in written.backend_refs.iter().enumerate() {
            let at = format!("{at}/backendRefs/{position}");
            below.push(filters(&mut finder, (Level::BackendRef, &at), &backend.filters, prefix)?);
        }
        let backends = written.backend_refs.iter().zip(below).enumerate();
        let backends = backends.map(|(position, (backend, filters))| BackendRef {
            target: finder.backend(&format!("{at}/backendRefs/{position}"), backend),
            identity: identity(route, backend),
            weight: backend.weight,
            filters,
        });
        rules.push(RouteRule {
            name: written.name.as_deref().map(Into::into),
            source: route.meta.at(route.lines.line(&at)),
            filters: own,
            backends: backends.collect(),
            matches,
            timeouts: Timeouts {
                request: limit(written.timeouts.request),
                backend_request: limit(written.timeouts.backend_request),
            },
            retry: written.retry.as_ref().map(RetrySpec::compile),
            session: written.session_persistence.as_ref().map(SessionPersistenceSpec::compile).transpose()?,
        });
    }
    Ok(rules)
}

/// Who asks for a backend, and what for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) referrer: Referrer<'a>,
    /// Between services no grant is needed.
    pub(super) mesh: bool,
    pub(super) carries: Carries,
}

/// What a backend is to be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// In a protocol that its port names.
    Requests,
    /// Whatever clients send.
    Streams,
}

impl Invalid {
    pub(super) fn new(why: InvalidRef, source: &SourceRef, message: &str) -> Self {
        Self { reason: reason(why), message: format!("{source}: {message}") }
    }
}

/// Looks up what the rules of one route name, and collects what cannot be used.
pub(super) struct Finder<'a, 'o> {
    objects: &'a Objects<'o>,
    asked: Asked<'a>,
    route: &'a HttpRoute,
    invalid: &'a mut Vec<Invalid>,
}

impl Finder<'_, '_> {
    pub(super) fn backend(&mut self, at: &str, written: &HttpBackendRef) -> Result<BackendName, InvalidRef> {
        lookup(self.objects, self.asked, written).map_err(|(why, message)| {
            self.refuse(at, reason(why), &message);
            why
        })
    }

    pub(super) fn policy(
        &mut self,
        at: &str,
        beside: (Level, &[RouteFilter]),
        written: &ExtensionRefSpec,
    ) -> Option<PolicyKey> {
        let found = extensions::lookup(self.objects, &self.route.meta.name.namespace, beside, written);
        found.map_err(|(reason, message)| self.refuse(at, reason, &message)).ok()
    }

    fn refuse(&mut self, at: &str, reason: &'static str, message: &str) {
        let source = self.route.meta.at(self.route.lines.line(at));
        self.invalid.push(Invalid { reason, message: format!("{source}: {message}") });
    }
}

/// As [`BackendName`] prints, where it can be told.
fn identity(route: &HttpRoute, backend: &HttpBackendRef) -> Arc<str> {
    let namespace = backend.namespace.as_deref().unwrap_or(&route.meta.name.namespace);
    let kind = match (backend.group.as_str(), backend.kind.as_str()) {
        ("", "Service") => String::new(),
        (TIDEGATE_GROUP, "Backend") => String::from("backend:"),
        (group, kind) => format!("{kind}.{group}:"),
    };
    let port = backend.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{kind}{namespace}/{}{port}", backend.name).into()
}

pub(super) fn reason(why: InvalidRef) -> &'static str {
    match why {
        InvalidRef::InvalidKind => "InvalidKind",
        InvalidRef::BackendNotFound => "BackendNotFound",
        InvalidRef::RefNotPermitted => "RefNotPermitted",
        InvalidRef::UnsupportedProtocol => "UnsupportedProtocol",
    }
}

/// # Errors
/// Why the backend cannot be used, with a message that does not say where.
pub(super) fn lookup(
    objects: &Objects<'_>,
    Asked { referrer: from, mesh, carries }: Asked<'_>,
    backend: &HttpBackendRef,
) -> Result<BackendName, (InvalidRef, String)> {
    let own = from.namespace;
    let namespace = backend.namespace.as_deref().unwrap_or(own);
    let object = ResourceName::new(namespace, backend.name.as_str());
    let called = match (backend.group.as_str(), backend.kind.as_str()) {
        ("", "Service") => BackendKind::Service,
        (TIDEGATE_GROUP, "Backend") => BackendKind::Backend,
        (group, kind) => {
            let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
            let message = format!("a {kind} cannot be called; use a Service or a Backend.{TIDEGATE_GROUP}");
            return Err((InvalidRef::InvalidKind, message));
        }
    };
    if !mesh && !objects.grants.permit(from, (&backend.group, &backend.kind), &object) {
        let message = format!(
            "{} {object} is in another namespace, and no ReferenceGrant in `{namespace}` allows it to {}s of `{own}`",
            backend.kind, from.kind
        );
        return Err((InvalidRef::RefNotPermitted, message));
    }
    let port = match called {
        BackendKind::Service => service_port(objects, &object, backend.port, carries)?,
        BackendKind::Backend => backend_port(objects, &object, backend.port)?,
    };
    Ok(BackendName { kind: called, object, port })
}

fn service_port(
    objects: &Objects<'_>,
    name: &ResourceName,
    wanted: Option<u16>,
    carries: Carries,
) -> Result<u16, (InvalidRef, String)> {
    let missing = |message| (InvalidRef::BackendNotFound, message);
    let service = objects.services.get(name);
    let service = service.ok_or_else(|| missing(format!("there is no Service {name}")))?;
    if service.spec.is_external_name() {
        return Err((InvalidRef::InvalidKind, external_name(service)));
    }
    let port = tcp_ports(service).map(|(_, port)| port).find(|port| Some(port.port) == wanted);
    let other = service.spec.ports.iter().find(|port| Some(port.port) == wanted);
    if let (None, Carries::Streams, Some(other)) = (port, carries, other) {
        let message = format!("port {} of Service {name} is not a TCP port", other.port);
        return Err((InvalidRef::UnsupportedProtocol, message));
    }
    let port = port.ok_or_else(|| {
        let ports: Vec<_> = tcp_ports(service).map(|(_, port)| port.port.to_string()).collect();
        let wanted = wanted.map(|port| format!(" {port}")).unwrap_or_default();
        match ports.as_slice() {
            [] => missing(format!("Service {name} has no TCP ports at all")),
            ports => missing(format!("Service {name} has no port{wanted}, only {}", ports.join(", "))),
        }
    })?;
    let tls = objects.tls.of_port(BackendKind::Service, name, &port.name);
    match app_protocol(port, tls.is_some()) {
        _ if carries == Carries::Streams => Ok(port.port),
        Some(_) => Ok(port.port),
        None => {
            let protocol = port.app_protocol.as_deref().unwrap_or_default();
            let mut message = format!("port {} of Service {name} speaks `{protocol}`", port.port);
            if app_protocol(port, true).is_some() {
                message += ": a BackendTLSPolicy must say whom to trust there";
            }
            Err((InvalidRef::UnsupportedProtocol, message))
        }
    }
}

fn backend_port(
    objects: &Objects<'_>,
    name: &ResourceName,
    wanted: Option<u16>,
) -> Result<u16, (InvalidRef, String)> {
    let port = objects.backends.get(name).map(|backend| backend.spec.port());
    let port = port.ok_or_else(|| (InvalidRef::BackendNotFound, format!("there is no Backend {name}")))?;
    match wanted {
        Some(wanted) if wanted != port => {
            let message = format!("Backend {name} has port {port}, not {wanted}");
            Err((InvalidRef::BackendNotFound, message))
        }
        _ => Ok(port),
    }
}

/// No match written means every path.
fn matches(rule: &HttpRule) -> Result<Vec<RouteMatch>, String> {
    if rule.matches.is_empty() {
        return Ok(vec![route_match(&MatchSpec::default())?]);
    }
    rule.matches.iter().map(route_match).collect()
}

fn route_match(written: &MatchSpec) -> Result<RouteMatch, String> {
    // Of several entries with equivalent names, only the first counts.
    let mut headers = Vec::<HeaderMatch>::new();
    for header in &written.headers {
        let name = header_name(&header.name)?;
        if !headers.iter().any(|known| known.name == name) {
            headers.push(HeaderMatch { name, value: value(header.kind, &header.value)? });
        }
    }
    let (mut query, mut seen) = (Vec::new(), BTreeSet::new());
    for param in written.query_params.iter().filter(|param| seen.insert(&param.name)) {
        let value = value(param.kind, &param.value)?;
        query.push(QueryMatch { name: param.name.as_str().into(), value });
    }
    let method = written.method.map(|method| method.method());
    Ok(RouteMatch { path: path(&written.path)?, method, headers, query })
}

fn path(written: &PathMatchSpec) -> Result<PathMatch, String> {
    let value = written.value.as_str();
    // As requests are, or it could not be met.
    let normal = || normalize_path(value).map_err(|fault| format!("`{value}` is not a path: {fault}"));
    Ok(match written.kind {
        PathMatchType::Exact => PathMatch::Exact((*normal()?).into()),
        PathMatchType::PathPrefix => PathMatch::Prefix(normal()?.trim_end_matches('/').into()),
        PathMatchType::RegularExpression => PathMatch::Regex(compile_pattern(value)?),
    })
}

fn value(kind: ValueMatchType, text: &str) -> Result<StringMatch, String> {
    Ok(match kind {
        ValueMatchType::Exact => StringMatch::Exact(text.into()),
        ValueMatchType::RegularExpression => StringMatch::Regex(compile_pattern(text)?),
    })
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| format!("`{text}` is not a header name"))
}

/// Zero switches a limit off.
fn limit(written: Option<GepDuration>) -> Option<Duration> {
    written.map(|limit| limit.get()).filter(|limit| !limit.is_zero())
}

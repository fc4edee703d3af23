use std::collections::{HashMap, HashSet};

use http::HeaderName;

use super::super::rules::{Reference, check_distinct, check_hostname, check_section_name};
use super::super::{Faults, GATEWAY_GROUP, Object, Spec, TIDEGATE_GROUP, Written};
use super::check_filters::{Site, check_filters};
use super::{
    HttpBackendRef, HttpRouteSpec, HttpRule, MatchSpec, ParentRef, PathMatchSpec, PathMatchType,
    TimeoutsSpec, ValueMatchType, compile_pattern,
};
use crate::matching::target::normalize_path;

/// Limit of the HTTPRoute CRD over all rules together.
const MAX_MATCHES: usize = 128;

impl Spec for HttpRouteSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        check_spec(&object.spec, faults);
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::HttpRoute(Box::new(object))
    }
}

/// What a schema cannot say about a route, of whichever kind.
pub(crate) fn check_spec(spec: &HttpRouteSpec, faults: &mut Faults) {
    check_parents(&spec.parent_refs, faults);
    for (i, hostname) in spec.hostnames.iter().enumerate() {
        let at = format!("/hostnames/{i}");
        if hostname.is_empty() {
            faults.error(at, "a hostname must not be empty");
        } else {
            check_hostname(&at, hostname, faults);
        }
    }
    check_rules(&spec.rules, faults);
}

pub(crate) fn check_parents(parent_refs: &[ParentRef], faults: &mut Faults) {
    let mut parents = HashSet::new();
    for (i, parent) in parent_refs.iter().enumerate() {
        let at = format!("/parentRefs/{i}");
        check_parent(&at, parent, faults);
        if !parents.insert(parent) {
            faults.error(at, format!("{} `{}` is written twice", parent.kind, parent.name));
        } else if let Some(field) = parent_refs[..i].iter().find_map(|other| told_apart_by_one(other, parent))
        {
            faults.error_with_help(
                at,
                format!(
                    "{} `{}` is written more than once, and only one has a `{field}`",
                    parent.kind, parent.name
                ),
                format!("give each a `{field}`, or none"),
            );
        }
    }
    if parent_refs.is_empty() {
        faults.warn("", "without parentRefs the route attaches to nothing");
    }
}

/// The rule of `parentRefs` that the CRDs have in CEL: of one parent, either all have the field or none.
fn told_apart_by_one(a: &ParentRef, b: &ParentRef) -> Option<&'static str> {
    let parent = |of: &ParentRef| (of.group.clone(), of.kind.clone(), of.namespace.clone(), of.name.clone());
    if parent(a) != parent(b) {
        return None;
    }
    let fields = [
        ("sectionName", a.section_name.is_some(), b.section_name.is_some()),
        ("port", a.port.is_some(), b.port.is_some()),
    ];
    fields.iter().find(|(_, one, other)| one != other).map(|(field, ..)| *field)
}

fn check_parent(at: &str, parent: &ParentRef, faults: &mut Faults) {
    let ParentRef { group, kind, namespace, .. } = parent;
    Reference { group, kind, namespace: namespace.as_deref() }.check(at, faults);
    if let Some(section) = &parent.section_name {
        check_section_name(&format!("{at}/sectionName"), section, faults);
    }
    match (parent.group.as_str(), parent.kind.as_str()) {
        (GATEWAY_GROUP, "Service") => faults.error_with_help(
            at,
            "there is no Service in the group gateway.networking.k8s.io",
            "add `group: \"\"`, the group of Service",
        ),
        ("", "Gateway") => faults.error_with_help(
            format!("{at}/group"),
            "there is no Gateway in the core group",
            format!("leave `group` out or write {GATEWAY_GROUP}"),
        ),
        _ => {}
    }
}

fn check_rules(rules: &[HttpRule], faults: &mut Faults) {
    let matches: usize = rules.iter().map(|r| r.matches.len()).sum();
    if matches > MAX_MATCHES {
        faults.error("/rules", format!("{matches} matches in all; at most {MAX_MATCHES} are allowed"));
    }
    let (mut names, mut sessions) = (HashMap::new(), HashMap::new());
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("/rules/{i}");
        if let Some(name) = &rule.name {
            check_section_name(&format!("{at}/name"), name, faults);
            if let Some(first) = names.insert(name, i) {
                faults.error(format!("{at}/name"), format!("rule {first} is named `{name}` too"));
            }
        }
        for (j, route_match) in rule.matches.iter().enumerate() {
            check_match(&format!("{at}/matches/{j}"), route_match, faults);
        }
        check_filters(&at, &rule.filters, Site::of(rule), faults);
        for (j, backend) in rule.backend_refs.iter().enumerate() {
            check_backend(&format!("{at}/backendRefs/{j}"), backend, faults);
            let site = Site { backends: false, ..Site::of(rule) };
            check_filters(&format!("{at}/backendRefs/{j}"), &backend.filters, site, faults);
        }
        check_timeouts(&at, &rule.timeouts, faults);
        if let Some(session) = &rule.session_persistence {
            session.check(&at, faults);
            if let Some((field, name)) = session.name()
                && let Some(first) = sessions.insert(name, i)
            {
                let message =
                    format!("rule {first} names its sessions `{name}` too: clients can keep one of both");
                faults.warn(format!("{at}/sessionPersistence/{field}"), message);
            }
        }
        if let Some(retry) = &rule.retry {
            retry.check(&at, &rule.timeouts, faults);
        }
    }
}

fn check_match(at: &str, route_match: &MatchSpec, faults: &mut Faults) {
    check_path(&format!("{at}/path/value"), &route_match.path, faults);
    for (i, header) in route_match.headers.iter().enumerate() {
        let at = format!("{at}/headers/{i}");
        check_header_name(&format!("{at}/name"), &header.name, faults);
        check_value(&at, header.kind, &header.value, faults);
    }
    let headers = route_match.headers.iter().map(|header| &header.name);
    check_distinct(&format!("{at}/headers"), headers, "/name", faults);
    for (i, query) in route_match.query_params.iter().enumerate() {
        let at = format!("{at}/queryParams/{i}");
        check_parameter_name(&format!("{at}/name"), &query.name, faults);
        check_value(&at, query.kind, &query.value, faults);
    }
    let parameters = route_match.query_params.iter().map(|query| &query.name);
    check_distinct(&format!("{at}/queryParams"), parameters, "/name", faults);
}

fn check_value(at: &str, kind: ValueMatchType, value: &str, faults: &mut Faults) {
    if kind == ValueMatchType::RegularExpression {
        check_pattern(&format!("{at}/value"), value, faults);
    }
}

fn check_path(at: &str, path: &PathMatchSpec, faults: &mut Faults) {
    if path.kind == PathMatchType::RegularExpression {
        return check_pattern(at, &path.value, faults);
    }
    let value = &path.value;
    if !value.starts_with('/') {
        return faults.error(at, format!("`{value}` must begin with `/`"));
    }
    // The CRD's own list: such a path could never be met after normalisation.
    let banned = ["//", "/./", "/../", "%2f", "%2F", "#"].into_iter().find(|b| value.contains(b));
    let banned = banned.or_else(|| ["/..", "/."].into_iter().find(|b| value.ends_with(b)));
    if let Some(banned) = banned {
        faults.error(at, format!("`{value}` must not contain `{banned}`"));
    } else if value.contains('?') {
        faults.error_with_help(at, format!("`{value}` holds a query"), "match the query with `queryParams`");
    } else if let Some(strange) = value.chars().find(|c| !is_path_character(*c)) {
        let help = "percent-encode it, or use type RegularExpression";
        faults.error_with_help(at, format!("`{value}` must not contain `{strange}`"), help);
    } else if let Err(fault) = normalize_path(value) {
        faults.error(at, format!("`{value}` is not a path: {fault}"));
    }
}

/// RFC 3986 `pchar`, `/` and the `%` of an escape: the CRD's list.
fn is_path_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-/._~!$&'()*+,;=:@%".contains(c)
}

/// The CRD gives parameters the names of headers.
fn check_parameter_name(at: &str, name: &str, faults: &mut Faults) {
    if name.parse::<HeaderName>().is_err() {
        let help = "use letters, digits and !#$%&'*+-.^_`|~";
        faults.error_with_help(at, format!("`{name}` cannot name a parameter here"), help);
    }
}

pub(crate) fn check_pattern(at: &str, pattern: &str, faults: &mut Faults) {
    if let Err(error) = compile_pattern(pattern) {
        faults.error(at, format!("`{pattern}` is not a regular expression: {error}"));
    }
}

pub(super) fn check_header_name(at: &str, name: &str, faults: &mut Faults) {
    if name.parse::<HeaderName>().is_err() {
        faults.error(at, format!("`{name}` is not a header name"));
    }
}

pub(crate) fn check_backend(at: &str, backend: &HttpBackendRef, faults: &mut Faults) {
    let HttpBackendRef { group, kind, namespace, .. } = backend;
    Reference { group, kind, namespace: namespace.as_deref() }.check(at, faults);
    match (backend.group.as_str(), backend.kind.as_str()) {
        ("", "Service") if backend.port.is_none() => faults.error_with_help(
            at,
            format!("the Service `{}` needs a `port`", backend.name),
            format!("add `port`; to name a Backend, add `group: {TIDEGATE_GROUP}, kind: Backend`"),
        ),
        ("", "Backend") => faults.error_with_help(
            at,
            "there is no Backend in the core group",
            format!("add `group: {TIDEGATE_GROUP}`"),
        ),
        _ => {}
    }
}

fn check_timeouts(at: &str, timeouts: &TimeoutsSpec, faults: &mut Faults) {
    let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request) else { return };
    if !request.get().is_zero() && backend > request {
        faults.error(
            format!("{at}/timeouts/backendRequest"),
            format!("{backend} is longer than the whole request may take ({request})"),
        );
    }
}

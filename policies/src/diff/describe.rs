//! Parts of routes in a line each, for people; two that differ in effect differ in words.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::model::{
    BackendName, BackendRef, HeaderMatch, HeaderModifier, InvalidRef, PathMatch, PathModifier, QueryMatch,
    Retry, RouteFilter, RouteMatch, SessionCarrier, SessionPersistence, StringMatch, Timeouts,
};

/// One line: `GET /cart/* x-canary=1 ?debug=~.*`.
pub(super) fn wanted(wanted: &RouteMatch) -> String {
    let path = match &wanted.path {
        PathMatch::Exact(path) => path.to_string(),
        PathMatch::Prefix(prefix) => format!("{prefix}/*"),
        PathMatch::Regex(regex) => format!("~{}", regex.as_str()),
        PathMatch::AnyService(method) => format!("/*/{method}"),
    };
    let value = |value: &StringMatch| match value {
        StringMatch::Exact(value) => format!("={value:?}"),
        StringMatch::Regex(regex) => format!("=~{:?}", regex.as_str()),
    };
    let header = |h: &HeaderMatch| format!("{}{}", h.name, value(&h.value));
    let query = |q: &QueryMatch| format!("?{}{}", q.name, value(&q.value));
    let mut headers: Vec<_> = wanted.headers.iter().map(header).collect();
    let mut queries: Vec<_> = wanted.query.iter().map(query).collect();
    headers.sort();
    queries.sort();
    let method = wanted.method.iter().map(ToString::to_string);
    method.chain([path]).chain(headers).chain(queries).collect::<Vec<_>>().join(" ")
}

pub(super) fn backends(backends: &[BackendRef]) -> String {
    let one = |backend: &BackendRef| {
        let filters = filters(&backend.filters);
        let filters = if filters.is_empty() { filters } else { format!(" [{filters}]") };
        format!("{}{filters}", share(&backend.target, &backend.identity, backend.weight))
    };
    // In whatever order: weights are shares.
    let mut all: Vec<_> = backends.iter().map(one).collect();
    all.sort();
    all.join(", ")
}

pub(super) fn share(target: &Result<BackendName, InvalidRef>, written: &str, weight: u32) -> String {
    match target {
        Ok(name) if name.to_string() == *written => format!("{name} (weight {weight})"),
        Ok(name) => format!("{name} as {written} (weight {weight})"),
        Err(why) => format!("{written} (weight {weight}, {why:?})"),
    }
}

pub(super) fn filters(filters: &[RouteFilter]) -> String {
    filters.iter().map(filter).collect::<Vec<_>>().join("; ")
}

fn filter(filter: &RouteFilter) -> String {
    match filter {
        RouteFilter::RequestHeaders(change) => format!("request headers {}", headers(change)),
        RouteFilter::ResponseHeaders(change) => format!("response headers {}", headers(change)),
        RouteFilter::Redirect(to) => {
            let mut text = format!("redirect {}", to.status.as_u16());
            text.extend(to.scheme.map(|scheme| format!(" scheme {}", scheme.as_str())));
            text.extend(to.hostname.as_ref().map(|host| format!(" host {host}")));
            text.extend(to.port.map(|port| format!(" port {port}")));
            text.extend(to.path.as_ref().map(|to| format!(" path {}", path(to))));
            text
        }
        RouteFilter::Rewrite(to) => {
            let mut text = String::from("rewrite");
            text.extend(to.hostname.as_ref().map(|host| format!(" host {host}")));
            text.extend(to.path.as_ref().map(|to| format!(" path {}", path(to))));
            text
        }
        RouteFilter::Cors(cors) => format!("CORS {cors:?}"),
        RouteFilter::Mirror(mirror) => {
            let share = mirror.share;
            format!("mirror {}/{} to {}", share.numerator(), share.denominator(), mirror.backend)
        }
        RouteFilter::Extension(policy) => format!("{} {}", policy.kind, policy.name),
        RouteFilter::Invalid => String::from("invalid: every request fails"),
    }
}

fn path(path: &PathModifier) -> String {
    match path {
        PathModifier::Full(path) => format!("{path:?}"),
        PathModifier::Prefix { matched, replacement } => format!("{matched:?} to {replacement:?}"),
    }
}

fn headers(change: &HeaderModifier) -> String {
    let set = change.set.iter().map(|(name, value)| format!("set {name}={value:?}"));
    let add = change.add.iter().map(|(name, value)| format!("add {name}={value:?}"));
    let remove = change.remove.iter().map(|name| format!("remove {name}"));
    set.chain(add).chain(remove).collect::<Vec<_>>().join(", ")
}

pub(super) fn timeouts(timeouts: Timeouts) -> String {
    let named = [("request", timeouts.request), ("backendRequest", timeouts.backend_request)];
    let written = named.into_iter().filter_map(|(name, limit)| Some(format!("{name} {:?}", limit?)));
    written.collect::<Vec<_>>().join(", ")
}

pub(super) fn retry(retry: &Retry) -> String {
    let mut text = format!("attempts {}", retry.attempts);
    if !retry.codes.is_empty() {
        let codes: Vec<_> = retry.codes.iter().map(ToString::to_string).collect();
        text += &format!(", codes {}", codes.join(" "));
    }
    text.extend(retry.backoff.map(|backoff| format!(", backoff {backoff:?}")));
    text
}

pub(super) fn session(session: &SessionPersistence) -> String {
    let mut text = match &session.carrier {
        SessionCarrier::Cookie { name, path, permanent } => {
            let lasts = if *permanent { ", kept" } else { "" };
            format!("cookie {} for {path}{lasts}", name.as_deref().unwrap_or("of the rule"))
        }
        SessionCarrier::Header(name) => format!("header {name}"),
    };
    text.extend(session.absolute_timeout.map(|time| format!(", at most {time:?}")));
    text.extend(session.idle_timeout.map(|time| format!(", idle {time:?}")));
    text
}

/// What tells bytes apart that are shown to nobody.
pub(super) fn digest(bytes: &[u8]) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

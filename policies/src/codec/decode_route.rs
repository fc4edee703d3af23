use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use regex::Regex;

use super::decode::{Result, duration, fault, hostname, list, name, optional, port, required, unknown};
use super::{At, CodecError, proto};
use crate::model::{
    BackendRef, HeaderMatch, InvalidRef, Meta, PathMatch, QueryMatch, Retry, Route, RouteKind, RouteMatch,
    RouteParent, RouteRule, SessionCarrier, SessionPersistence, StringMatch, Timeouts,
};
use crate::objects::compile_pattern;
use crate::pick::{is_cookie_name, is_cookie_path};

impl TryFrom<proto::Route> for Route {
    type Error = CodecError;

    fn try_from(message: proto::Route) -> Result<Self> {
        let kind = match proto::RouteKind::try_from(message.kind) {
            Ok(proto::RouteKind::Http) => RouteKind::Http,
            Ok(proto::RouteKind::Grpc) => RouteKind::Grpc,
            Ok(proto::RouteKind::Unspecified) | Err(_) => return unknown(message.kind).at("kind"),
        };
        let meta: Meta = required(message.meta).and_then(TryInto::try_into).at("meta")?;
        let parents = list(message.parents, "parents", TryInto::try_into)?;
        let rules = list(message.rules, "rules", |message| rule(&meta, message))?;
        Ok(Self { kind, meta, parents, rules })
    }
}

impl TryFrom<proto::RouteParent> for RouteParent {
    type Error = CodecError;

    fn try_from(message: proto::RouteParent) -> Result<Self> {
        use proto::route_parent::Parent;
        Ok(match required(message.parent)? {
            Parent::Listener(parent) => Self::Listener {
                listener: required(parent.listener).and_then(TryInto::try_into).at("listener")?,
                hostnames: list(parent.hostnames, "hostnames", |text| hostname(&text))?,
            },
            Parent::Service(parent) => Self::Service {
                service: required(parent.service).and_then(TryInto::try_into).at("service")?,
                port: parent.port.map(port).transpose().at("port")?,
            },
        })
    }
}

fn rule(route: &Meta, message: proto::RouteRule) -> Result<RouteRule> {
    if message.matches.is_empty() {
        return fault("a rule without a match").at("matches");
    }
    let request = message.request_timeout.map(limit).transpose().at("request_timeout")?;
    let backend_request =
        message.backend_request_timeout.map(limit).transpose().at("backend_request_timeout")?;
    Ok(RouteRule {
        name: optional(&message.name).map(|text| name(text.to_string())).transpose().at("name")?,
        source: route.at(Some(message.line)),
        matches: list(message.matches, "matches", TryInto::try_into)?,
        filters: list(message.filters, "filters", TryInto::try_into)?,
        backends: list(message.backends, "backends", TryInto::try_into)?,
        timeouts: Timeouts { request: request.flatten(), backend_request: backend_request.flatten() },
        retry: message.retry.map(TryInto::try_into).transpose().at("retry")?,
        session: message.session.map(TryInto::try_into).transpose().at("session")?,
    })
}

impl TryFrom<proto::SessionPersistence> for SessionPersistence {
    type Error = CodecError;

    fn try_from(message: proto::SessionPersistence) -> Result<Self> {
        use proto::session_persistence::Carrier;
        let carrier = match required(message.carrier)? {
            Carrier::Cookie(proto::SessionCookie { name, path, permanent }) => {
                if !(name.is_empty() || is_cookie_name(&name)) {
                    return fault(format!("`{name}` is not the name of a cookie")).at("cookie.name");
                }
                if !is_cookie_path(&path) {
                    return fault(format!("`{path}` is not the path of a cookie")).at("cookie.path");
                }
                SessionCarrier::Cookie { name: optional(&name), path: path.into(), permanent }
            }
            Carrier::Header(name) => SessionCarrier::Header(header_name(&name).at("header")?),
        };
        let absolute_timeout = message.absolute_timeout.map(duration).transpose().at("absolute_timeout")?;
        let idle_timeout = message.idle_timeout.map(duration).transpose().at("idle_timeout")?;
        Ok(Self { carrier, absolute_timeout, idle_timeout })
    }
}

impl TryFrom<proto::Retry> for Retry {
    type Error = CodecError;

    fn try_from(message: proto::Retry) -> Result<Self> {
        let code = |code| match u16::try_from(code) {
            Ok(code @ 400..=599) => Ok(code),
            _ => fault(format!("{code} is not the status of a failure")),
        };
        let codes = list(message.codes, "codes", code)?;
        let backoff = message.backoff.map(duration).transpose().at("backoff")?;
        Ok(Self { codes: codes.into(), attempts: message.attempts, backoff })
    }
}

/// Zero means no limit.
fn limit<D>(message: D) -> Result<Option<Duration>>
where
    Duration: TryFrom<D>,
{
    duration(message).map(|limit| Some(limit).filter(|limit| !limit.is_zero()))
}

impl TryFrom<proto::RouteMatch> for RouteMatch {
    type Error = CodecError;

    fn try_from(message: proto::RouteMatch) -> Result<Self> {
        let method = optional(&message.method).map(|text| Method::from_bytes(text.as_bytes())).transpose();
        let header = |message: proto::NamedMatch| {
            let name = header_name(&message.name).at("name")?;
            Ok(HeaderMatch { name, value: value(message.kind)? })
        };
        let query = |message: proto::NamedMatch| {
            let name = message.name.into();
            Ok(QueryMatch { name, value: value(message.kind)? })
        };
        Ok(Self {
            path: required(message.path).and_then(TryInto::try_into).at("path")?,
            method: method.map_err(|error| CodecError::new(error.to_string())).at("method")?,
            headers: list(message.headers, "headers", header)?,
            query: list(message.query, "query", query)?,
        })
    }
}

impl TryFrom<proto::PathMatch> for PathMatch {
    type Error = CodecError;

    fn try_from(message: proto::PathMatch) -> Result<Self> {
        use proto::path_match::Kind;
        match required(message.kind)? {
            Kind::Exact(path) if path.starts_with('/') => Ok(Self::Exact(path.into())),
            Kind::Exact(path) => fault(format!("`{path}` does not begin with a slash")).at("exact"),
            Kind::Prefix(prefix) if prefix.is_empty() => Ok(Self::Prefix(prefix.into())),
            Kind::Prefix(prefix) if prefix.starts_with('/') && !prefix.ends_with('/') => {
                Ok(Self::Prefix(prefix.into()))
            }
            Kind::Prefix(prefix) => {
                fault(format!("`{prefix}` does not begin with a slash, or ends with one")).at("prefix")
            }
            Kind::Regex(pattern) => regex(&pattern).map(Self::Regex).at("regex"),
            Kind::AnyService(method) => name(method).map(Self::AnyService).at("any_service"),
        }
    }
}

impl TryFrom<proto::BackendRef> for BackendRef {
    type Error = CodecError;

    fn try_from(message: proto::BackendRef) -> Result<Self> {
        use proto::backend_ref::Target;
        let target = match required(message.target).at("target")? {
            Target::Backend(name) => Ok(name.try_into().at("backend")?),
            Target::Invalid(why) => Err(invalid_ref(why).at("invalid")?),
        };
        let filters = list(message.filters, "filters", TryInto::try_into)?;
        let identity = message.identity.into();
        Ok(Self { target, identity, weight: message.weight, filters })
    }
}

pub(super) fn invalid_ref(why: i32) -> Result<InvalidRef> {
    match proto::InvalidRef::try_from(why) {
        Ok(proto::InvalidRef::InvalidKind) => Ok(InvalidRef::InvalidKind),
        Ok(proto::InvalidRef::BackendNotFound) => Ok(InvalidRef::BackendNotFound),
        Ok(proto::InvalidRef::NotPermitted) => Ok(InvalidRef::RefNotPermitted),
        Ok(proto::InvalidRef::UnsupportedProtocol) => Ok(InvalidRef::UnsupportedProtocol),
        Ok(proto::InvalidRef::Unspecified) | Err(_) => unknown(why),
    }
}

fn value(kind: Option<proto::named_match::Kind>) -> Result<StringMatch> {
    use proto::named_match::Kind;
    match required(kind)? {
        Kind::Exact(value) => Ok(StringMatch::Exact(Arc::from(value))),
        Kind::Regex(pattern) => regex(&pattern).map(StringMatch::Regex).at("regex"),
    }
}

fn regex(pattern: &str) -> Result<Regex> {
    compile_pattern(pattern).map_err(CodecError::new)
}

pub(super) fn header_name(text: &str) -> Result<HeaderName> {
    text.parse().map_err(|_| CodecError::new(format!("`{text}` is not a header name")))
}

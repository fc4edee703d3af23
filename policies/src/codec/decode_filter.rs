use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::decode::{Result, fault, hostname, list, port, required, unknown};
use super::decode_route::header_name;
use super::{At, CodecError, proto};
use crate::model::{
    Cors, HeaderModifier, HostPattern, Listed, Mirror, PathModifier, PolicyKey, Redirect, Rewrite,
    RouteFilter, Share, WebScheme,
};
use crate::objects::{REDIRECT_STATUSES, is_request_path};

impl TryFrom<proto::RouteFilter> for RouteFilter {
    type Error = CodecError;

    fn try_from(message: proto::RouteFilter) -> Result<Self> {
        use proto::route_filter::Filter;
        match required(message.filter)? {
            Filter::RequestHeaders(m) => m.try_into().map(Self::RequestHeaders).at("request_headers"),
            Filter::ResponseHeaders(m) => m.try_into().map(Self::ResponseHeaders).at("response_headers"),
            Filter::Redirect(m) => m.try_into().map(Self::Redirect).at("redirect"),
            Filter::Rewrite(m) => m.try_into().map(Self::Rewrite).at("rewrite"),
            Filter::Cors(m) => m.try_into().map(Self::Cors).at("cors"),
            Filter::Mirror(m) => m.try_into().map(Self::Mirror).at("mirror"),
            Filter::Extension(m) => m.try_into().map(Self::Extension).at("extension"),
            Filter::Invalid(proto::InvalidFilter {}) => Ok(Self::Invalid),
        }
    }
}

impl TryFrom<proto::PolicyKey> for PolicyKey {
    type Error = CodecError;

    fn try_from(message: proto::PolicyKey) -> Result<Self> {
        let name = required(message.name).and_then(TryInto::try_into).at("name")?;
        Ok(Self { kind: message.kind.into(), name })
    }
}

impl TryFrom<proto::HeaderModifier> for HeaderModifier {
    type Error = CodecError;

    fn try_from(message: proto::HeaderModifier) -> Result<Self> {
        let header = |message: proto::Header| {
            let value = HeaderValue::from_bytes(&message.value);
            let value = value.map_err(|error| CodecError::new(error.to_string())).at("value")?;
            Ok((header_name(&message.name).at("name")?, value))
        };
        Ok(Self {
            set: list(message.set, "set", header)?,
            add: list(message.add, "add", header)?,
            remove: list(message.remove, "remove", |name| header_name(&name))?,
        })
    }
}

impl TryFrom<proto::Redirect> for Redirect {
    type Error = CodecError;

    fn try_from(message: proto::Redirect) -> Result<Self> {
        let scheme = match proto::WebScheme::try_from(message.scheme) {
            Ok(proto::WebScheme::Unspecified) => None,
            Ok(proto::WebScheme::Http) => Some(WebScheme::Http),
            Ok(proto::WebScheme::Https) => Some(WebScheme::Https),
            Err(_) => return unknown(message.scheme).at("scheme"),
        };
        let status = u16::try_from(message.status).ok().filter(|status| REDIRECT_STATUSES.contains(status));
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.ok_or_else(|| CodecError::new(format!("{} does not redirect", message.status)));
        Ok(Self {
            scheme,
            hostname: precise(&message.hostname).at("hostname")?,
            path: message.path.map(TryInto::try_into).transpose().at("path")?,
            port: message.port.map(port).transpose().at("port")?,
            status: status.at("status")?,
        })
    }
}

impl TryFrom<proto::Rewrite> for Rewrite {
    type Error = CodecError;

    fn try_from(message: proto::Rewrite) -> Result<Self> {
        Ok(Self {
            hostname: precise(&message.hostname).at("hostname")?,
            path: message.path.map(TryInto::try_into).transpose().at("path")?,
        })
    }
}

impl TryFrom<proto::PathModifier> for PathModifier {
    type Error = CodecError;

    fn try_from(message: proto::PathModifier) -> Result<Self> {
        use proto::path_modifier::Kind;
        Ok(match required(message.kind)? {
            Kind::Full(whole) => Self::Full(path(whole).at("full")?),
            Kind::Prefix(prefix) => Self::Prefix {
                matched: bare(prefix.matched).at("prefix.matched")?,
                replacement: bare(prefix.replacement).at("prefix.replacement")?,
            },
        })
    }
}

impl TryFrom<proto::Cors> for Cors {
    type Error = CodecError;

    fn try_from(message: proto::Cors) -> Result<Self> {
        Ok(Self {
            origins: listed(message.origins, "origins")?,
            credentials: message.credentials,
            methods: listed(message.methods, "methods")?,
            headers: listed(message.headers, "headers")?,
            expose: listed(message.expose, "expose")?,
            max_age: message.max_age,
        })
    }
}

impl TryFrom<proto::Mirror> for Mirror {
    type Error = CodecError;

    fn try_from(message: proto::Mirror) -> Result<Self> {
        let proto::Mirror { backend, numerator, denominator } = message;
        let share = Share::new(numerator, denominator);
        let share = share.ok_or_else(|| CodecError::new(format!("{numerator} of {denominator} is no share")));
        Ok(Self { backend: required(backend).and_then(TryInto::try_into).at("backend")?, share: share? })
    }
}

fn listed<T: FromStr<Err: ToString>>(messages: Vec<String>, field: &str) -> Result<Listed<T>> {
    if matches!(&messages[..], [all] if all == "*") {
        return Ok(Listed::All);
    }
    let item = |text: String| text.parse().map_err(|error: T::Err| CodecError::new(error.to_string()));
    list(messages, field, item).map(Listed::Only)
}

/// No wildcard: a request goes to one host.
fn precise(text: &str) -> Result<Option<Arc<str>>> {
    match hostname(text)? {
        HostPattern::Any => Ok(None),
        HostPattern::Exact(name) => Ok(Some(name)),
        HostPattern::Suffix(_) => fault(format!("`{text}` is not one host")),
    }
}

fn path(text: String) -> Result<Arc<str>> {
    if text.is_empty() || is_request_path(&text) {
        return Ok(text.into());
    }
    fault(format!("`{text}` is not a path"))
}

fn bare(text: String) -> Result<Arc<str>> {
    if text.ends_with('/') {
        return fault(format!("`{text}` ends with a slash"));
    }
    path(text)
}

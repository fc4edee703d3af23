use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, request};

use super::format::Step;
use super::world::{Side, World};
use crate::matching::target::normalize_path;
use crate::snapshot::{BindAddress, Scope};

/// A request as the proxy has read it, and where it came in.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) head: request::Parts,
    pub(super) scope: Scope,
    pub(super) grpc: bool,
}

/// The request of that number, from 0, among those of the step.
///
/// # Errors
/// `when` is no request. `Ok(None)`: the proxy refuses its target.
pub(super) fn sent(world: &World, step: &Step, number: u32) -> Result<Option<Sent>, String> {
    let (method, url) = step.when.split_once(' ').ok_or("expected a method and an URL")?;
    let grpc = method == "GRPC";
    let method = if grpc { Method::POST } else { method.parse().map_err(|_| "no such method")? };
    let (scheme, rest) = url.split_once("://").ok_or("expected an URL with scheme and host")?;
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let target = match target {
        "" => String::from("/"),
        // As `OPTIONS http://host/*` cannot be told from a path, it is written like this.
        "/*" if method == Method::OPTIONS => String::from("*"),
        target if target.starts_with('?') => format!("/{target}"),
        target => target.to_owned(),
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target.as_str(), None),
    };
    let path = if path == "*" { Ok(path.into()) } else { normalize_path(path) };
    let Ok(path) = path else { return Ok(None) };
    let target = query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
    let target = PathAndQuery::try_from(target).map_err(|error| error.to_string())?;
    let mut head = Request::new(()).into_parts().0;
    head.method = method;
    head.uri = Uri::from(target);
    head.headers.insert(HOST, HeaderValue::from_str(host).map_err(|error| error.to_string())?);
    if grpc {
        head.version = Version::HTTP_2;
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    }
    let numbered = |value: &String| value.replace("{n}", &number.to_string());
    let written = step.headers.iter().map(|(name, value)| (name.clone(), numbered(value)));
    for (name, value) in headers(&written.collect())? {
        head.headers.append(name, value);
    }
    Ok(Some(Sent { scope: scope(world, step, scheme, host)?, head, grpc }))
}

/// Headers as they are written.
pub(super) fn headers(written: &BTreeMap<String, String>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let pair = |(name, value): (&String, &String)| {
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("{name}: not a header value"))?;
        Ok((name, value))
    };
    written.iter().map(pair).collect()
}

fn scope(world: &World, step: &Step, scheme: &str, host: &str) -> Result<Scope, String> {
    match (world.side, step.to) {
        (Side::Caller, Some(to)) => Ok(Scope::OutboundTo(to.0)),
        (Side::Caller, None) => Ok(Scope::Outbound),
        (Side::Serving, None) => Ok(Scope::Inbound),
        (Side::Gateway | Side::Serving, Some(_)) => Err(String::from("`to` is for a caller's sidecar")),
        (Side::Gateway, None) => {
            let default = if scheme == "https" { 443 } else { 80 };
            let written = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            let port = written.unwrap_or(default);
            let binds = world.snapshot.binds();
            let known = binds.iter().find(|bind| bind.port == port).copied();
            Ok(Scope::Gateway(known.unwrap_or(BindAddress { ip: None, port })))
        }
    }
}

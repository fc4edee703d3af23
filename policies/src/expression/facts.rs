//! What expressions may ask of a request; read where it lies, when it is asked for.

use std::fmt::Debug;

use cel::common::types::{CelInt, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use http::{HeaderName, request, response};

use super::by_name::{ByName, Lookup};
use super::claims::Claimed;
use crate::jwt::Claims;
use crate::matching::{RequestView, authority};
use crate::model::Peer;
use crate::pipeline::RequestContext;

/// See the module.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) head: &'a request::Parts,
    pub(crate) peer: &'a Peer,
    pub(crate) route: Option<&'a str>,
    /// Of a verified token.
    pub(crate) claims: Option<&'a Claims>,
}

/// What expressions may ask of a response.
#[derive(Debug)]
pub(crate) struct ResponseFacts<'a>(pub(crate) &'a response::Parts);

/// What expressions may ask of a connection of which no request is read. All else fails, `has(…)` too: nobody knows.
#[derive(Debug)]
pub(crate) struct ConnectionFacts<'a>(pub(crate) &'a Peer);

/// What is asked for by `has(source.identity)`: the operand of `has` is `source`, and so is a value of its own.
#[derive(Clone, Copy, Debug)]
enum Group<'a> {
    Request(&'a request::Parts),
    Source(&'a Peer),
    Destination(Option<&'a str>),
    /// `jwt`.
    Token(Option<&'a Claims>),
}

/// Headers, or the parameters of the query, by name.
#[derive(Clone, Copy, Debug)]
enum Fields<'a> {
    Headers(&'a request::Parts),
    Query(&'a request::Parts),
    Response(&'a response::Parts),
}

impl<'a> Facts<'a> {
    /// As a filter sees the request.
    pub(crate) fn of(cx: &'a RequestContext<'_>) -> Self {
        Self { head: cx.head, peer: cx.peer, route: cx.route, claims: cx.claims.as_deref() }
    }
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let (group, field) = name.split_once('.').map_or((name, None), |(group, field)| (group, Some(field)));
        let group = match group {
            "request" => Group::Request(self.head),
            "source" => Group::Source(self.peer),
            "destination" => Group::Destination(self.route),
            "jwt" => Group::Token(self.claims),
            _ => return None,
        };
        group.resolve(field)
    }
}

impl VariableResolver for ConnectionFacts<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let (group, field) = name.split_once('.').map_or((name, None), |(group, field)| (group, Some(field)));
        if group == "source" { Group::Source(self.0).resolve(field) } else { None }
    }
}

impl<'a> Group<'a> {
    /// Itself, or a field of it.
    fn resolve<'v>(self, field: Option<&str>) -> Option<CowVal<'v, 'v>>
    where
        'a: 'v,
    {
        match field {
            None => Some(CowVal::owned(ByName(self))),
            Some(field) => self.find(field).map(CowVal::Owned),
        }
    }
}

impl<'a> Lookup for Group<'a> {
    fn find<'v>(&self, name: &str) -> Option<Box<dyn Val + 'v>>
    where
        Self: 'v,
    {
        let text = |text: &'a str| -> Option<Box<dyn Val + 'v>> { Some(Box::new(CelString::from(text))) };
        let owned = |text: String| -> Option<Box<dyn Val + 'v>> { Some(Box::new(CelString::from(text))) };
        match (*self, name) {
            (Self::Request(head), "method") => text(head.method.as_str()),
            (Self::Request(head), "path") => text(head.uri.path()),
            (Self::Request(head), "host") => owned(host(head)?),
            (Self::Request(head), "protocol") => text(protocol(head)),
            (Self::Request(head), "headers") => Some(Box::new(ByName(Fields::Headers(head)))),
            (Self::Request(head), "query") => Some(Box::new(ByName(Fields::Query(head)))),
            (Self::Source(peer), "address") => owned(peer.address.ip().to_canonical().to_string()),
            (Self::Source(peer), "port") => Some(Box::new(CelInt::from(i64::from(peer.address.port())))),
            (Self::Source(peer), "identity") => text(&peer.identity.as_ref()?.0),
            (Self::Destination(route), "route") => text(route?),
            (Self::Token(claims), "claims") => Some(Box::new(ByName(Claimed(claims.map(Claims::all))))),
            _ => None,
        }
    }
}

impl VariableResolver for ResponseFacts<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        match name {
            "response.status" => Some(CowVal::owned(CelInt::from(i64::from(self.0.status.as_u16())))),
            "response.headers" => Some(CowVal::owned(ByName(Fields::Response(self.0)))),
            _ => None,
        }
    }
}

fn host(head: &request::Parts) -> Option<String> {
    authority(head).ok().map(|authority| authority.host.into_owned())
}

fn protocol(head: &request::Parts) -> &'static str {
    match head.version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        http::Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

impl Lookup for Fields<'_> {
    fn find<'v>(&self, name: &str) -> Option<Box<dyn Val + 'v>>
    where
        Self: 'v,
    {
        let text = self.text(name)?;
        Some(Box::new(CelString::from(text)))
    }
}

impl Fields<'_> {
    fn text(&self, name: &str) -> Option<String> {
        match self {
            Self::Headers(head) => {
                let name = HeaderName::try_from(name).ok()?;
                RequestView::new(head).header(&name).map(std::borrow::Cow::into_owned)
            }
            Self::Response(head) => {
                let values = head.headers.get_all(HeaderName::try_from(name).ok()?);
                let values: Vec<_> = values.iter().map(|value| value.to_str().ok()).collect::<Option<_>>()?;
                (!values.is_empty()).then(|| values.join(","))
            }
            Self::Query(head) => RequestView::new(head).query(name).map(str::to_owned),
        }
    }
}

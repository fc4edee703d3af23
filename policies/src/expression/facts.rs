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
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        match name {
            "request.method" => text(self.head.method.as_str()),
            "request.path" => text(self.head.uri.path()),
            "request.host" => Some(CowVal::owned(CelString::from(host(self.head)?))),
            "request.protocol" => text(protocol(self.head)),
            "request.headers" => Some(CowVal::owned(ByName(Fields::Headers(self.head)))),
            "request.query" => Some(CowVal::owned(ByName(Fields::Query(self.head)))),
            "source.address" => {
                Some(CowVal::owned(CelString::from(self.peer.address.ip().to_canonical().to_string())))
            }
            "source.port" => Some(CowVal::owned(CelInt::from(i64::from(self.peer.address.port())))),
            "source.identity" => text(&self.peer.identity.as_ref()?.0),
            "destination.route" => text(self.route?),
            "jwt.claims" => Some(CowVal::owned(ByName(Claimed(self.claims.map(Claims::all))))),
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

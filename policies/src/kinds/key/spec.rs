//! A part of a key as it is written.

use std::sync::Arc;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::ClientAddress;
use super::template::Templates;
use super::{KeyPart, Missing, Source};
use crate::document::crd::rules;
use crate::expression::{Expression, Kind};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::pick::is_cookie_name;

/// One part of what tells requests apart.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rules::only_with("trustedHops", "type", &["ClientAddress"]),
    rules::only_with("prefix", "type", &["ClientAddress"]),
    rules::only_with("expression", "type", &["Expression"]),
    rules::needed_with("expression", "type", &["Expression"]),
]))]
pub(in crate::kinds) struct KeySpec {
    pub(in super::super) r#type: KeyType,
    /// Of the header, cookie, query parameter, claim or descriptor entry; for these types only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// For type Claim, in place of `name`: the names of a claim within others, from the outside in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    path: Vec<String>,
    /// For type ClientAddress: how many proxies before this one are trusted to have told in x-forwarded-for from whom a request
    /// came. Default 0: the address is that of the connection. A request with fewer entries than that came past them, and
    /// is counted by its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 16))]
    trusted_hops: Option<u8>,
    /// For type ClientAddress: count networks and not single addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<PrefixSpec>,
    /// For type PathTemplate: `/users/{id}/orders`, where `{…}` or `*` is any one element, and `**` at the end is all that
    /// follows. The first that fits is counted; a path that fits none does not have this part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    templates: Vec<String>,
    /// For type Expression: a text, a number or a truth value, in CEL over `request`, `source`, `destination` and
    /// `jwt.claims`. A request for which it fails does not have this part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    expression: Option<String>,
    /// What becomes of requests without this part. Default: Share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<MissingSpec>,
}

/// How many bits of an address count.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PrefixSpec {
    /// Default: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    ipv4: Option<u8>,
    /// Default: 128. An attacker is often given a whole /64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    ipv6: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum MissingSpec {
    /// They share one bucket.
    Share,
    /// The limit does not count them.
    Skip,
    /// They are refused.
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(in super::super) enum KeyType {
    /// The IP address of the other side of the connection, or of whom trusted proxies have told.
    ClientAddress,
    /// The value of a request header; all its values, in order, where there are several.
    Header,
    /// The value of a cookie; all its values, in order, where there are several.
    Cookie,
    /// The value of a query parameter, percent-decoded; the first where there are several.
    QueryParameter,
    /// The path without the query.
    Path,
    /// Which template the path is like.
    PathTemplate,
    /// The HTTP method.
    Method,
    /// The SPIFFE id that mTLS verified.
    PeerIdentity,
    /// The host name, without the port.
    Host,
    /// The route that was matched; its namespace and name.
    Route,
    /// What an expression says.
    Expression,
    /// A claim of the token that a JwtAuthenticationPolicy has verified: a text, number or truth value, or a list of them.
    Claim,
    /// The server name that a client asks for by TLS (SNI), in `newConnections` only. It is known where TLS passes through, or
    /// a socket's listeners are told apart by it; elsewhere a connection does not have this part.
    ServerName,
    /// The value of a descriptor's entry, in a policy with a `domain` only. A descriptor without it is not counted.
    Descriptor,
}

impl KeySpec {
    pub(in super::super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<KeyPart> {
        self.refuse_strangers(at, cx);
        let source = match self.r#type {
            KeyType::ClientAddress => self.address(at, cx),
            KeyType::Header => Source::Header(self.header(at, cx)?),
            KeyType::Cookie => Source::Cookie(self.cookie(at, cx)?),
            KeyType::QueryParameter => Source::QueryParameter(self.named(at, cx)?.into()),
            KeyType::Descriptor => Source::Descriptor(self.named(at, cx)?.into()),
            KeyType::Path => Source::Path,
            KeyType::PathTemplate => Source::PathTemplate(self.templates(at, cx)?),
            KeyType::Method => Source::Method,
            KeyType::PeerIdentity => Source::PeerIdentity,
            KeyType::Host => Source::Host,
            KeyType::Route => Source::Route,
            KeyType::Expression => Source::Expression(self.expression(at, cx)?),
            KeyType::ServerName => {
                let message =
                    "ServerName goes with `newConnections` only: what a request asks for is its Host";
                cx.error(format!("{at}/type"), message);
                return None;
            }
            KeyType::Claim => {
                Source::Claim(check::claim(cx, at, ("name", self.name.as_deref()), &self.path)?)
            }
        };
        Some(KeyPart { source, missing: self.missing() })
    }

    /// As a part of what is counted apart of connections, of which nothing has been read but whom they ask for by TLS.
    pub(in super::super) fn of_connection(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<KeyPart> {
        self.refuse_strangers(at, cx);
        if self.trusted_hops.is_some() {
            let message = "there is no x-forwarded-for before a request: a connection's address is its own, or what a \
                           PROXY protocol header says";
            cx.error(format!("{at}/trustedHops"), message);
        }
        let source = match self.r#type {
            KeyType::ClientAddress => self.address(at, cx),
            KeyType::ServerName => Source::ServerName,
            KeyType::PeerIdentity => {
                let message = "connections are counted before TLS, which tells who the peer is: use ClientAddress or \
                               ServerName";
                cx.error(format!("{at}/type"), message);
                return None;
            }
            other => {
                let message = format!(
                    "connections are counted before any request is read, and have no {other:?}: use ClientAddress or \
                     ServerName"
                );
                cx.error(format!("{at}/type"), message);
                return None;
            }
        };
        Some(KeyPart { source, missing: self.missing() })
    }

    fn missing(&self) -> Missing {
        match self.missing {
            None | Some(MissingSpec::Share) => Missing::Share,
            Some(MissingSpec::Skip) => Missing::Skip,
            Some(MissingSpec::Deny) => Missing::Deny,
        }
    }

    /// Whether it is written what becomes of requests without it.
    pub(in super::super) fn says_missing(&self) -> bool {
        self.missing.is_some()
    }

    /// What an entry of a descriptor is called that has the value of this part. `remote_address` is Envoy's word.
    pub(in super::super) fn entry_name(&self) -> Option<&str> {
        match self.r#type {
            KeyType::Header
            | KeyType::Cookie
            | KeyType::QueryParameter
            | KeyType::Claim
            | KeyType::Descriptor => self.name.as_deref(),
            KeyType::ClientAddress => Some("remote_address"),
            KeyType::Path => Some("path"),
            KeyType::PathTemplate => Some("path_template"),
            KeyType::Method => Some("method"),
            KeyType::PeerIdentity => Some("peer_identity"),
            KeyType::Host => Some("host"),
            KeyType::Route => Some("route"),
            KeyType::Expression | KeyType::ServerName => None,
        }
    }

    /// Whether a value of it can be written as text.
    pub(in super::super) fn is_text(&self) -> bool {
        self.r#type != KeyType::ClientAddress
    }

    /// Fields that go with other types are a mistake somewhere.
    fn refuse_strangers(&self, at: &str, cx: &mut CompileContext<'_>) {
        let is = |types: &[KeyType]| types.contains(&self.r#type);
        let named =
            [KeyType::Header, KeyType::Cookie, KeyType::QueryParameter, KeyType::Claim, KeyType::Descriptor];
        for (field, written, fits, types) in [
            ("name", self.name.is_some(), is(&named), "Header, Cookie, QueryParameter, Claim and Descriptor"),
            ("path", !self.path.is_empty(), is(&[KeyType::Claim]), "Claim"),
            ("trustedHops", self.trusted_hops.is_some(), is(&[KeyType::ClientAddress]), "ClientAddress"),
            ("prefix", self.prefix.is_some(), is(&[KeyType::ClientAddress]), "ClientAddress"),
            ("templates", !self.templates.is_empty(), is(&[KeyType::PathTemplate]), "PathTemplate"),
            ("expression", self.expression.is_some(), is(&[KeyType::Expression]), "Expression"),
        ] {
            if written && !fits {
                cx.error(format!("{at}/{field}"), format!("`{field}` goes with type {types} only"));
            }
        }
    }

    fn named(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<&str> {
        let name = self.name.as_deref().filter(|name| !name.is_empty());
        if name.is_none() {
            cx.error(at, format!("type {:?} needs a `name`", self.r#type));
        }
        name
    }

    fn header(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<HeaderName> {
        let name = self.named(at, cx)?;
        let header = HeaderName::try_from(name).ok();
        if header.is_none() {
            cx.error(format!("{at}/name"), format!("`{name}` is not the name of a header"));
        }
        header
    }

    fn cookie(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Arc<str>> {
        let name = self.named(at, cx)?;
        if !is_cookie_name(name) {
            cx.error(format!("{at}/name"), format!("`{name}` is not the name of a cookie"));
            return None;
        }
        Some(name.into())
    }

    fn address(&self, at: &str, cx: &mut CompileContext<'_>) -> Source {
        let all = ClientAddress::default();
        let (ipv4, ipv6) = self.prefix.as_ref().map_or((None, None), |prefix| (prefix.ipv4, prefix.ipv6));
        let address = ClientAddress {
            hops: self.trusted_hops.unwrap_or(0),
            ipv4: ipv4.unwrap_or(all.ipv4),
            ipv6: ipv6.unwrap_or(all.ipv6),
        };
        check::within(cx, &format!("{at}/trustedHops"), address.hops.into(), 0..=16);
        check::within(cx, &format!("{at}/prefix/ipv4"), address.ipv4.into(), 1..=32);
        check::within(cx, &format!("{at}/prefix/ipv6"), address.ipv6.into(), 1..=128);
        Source::ClientAddress(address)
    }

    fn templates(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Templates> {
        let templates = Templates::new(&self.templates);
        templates.map_err(|(i, why)| cx.error(format!("{at}/templates/{i}"), why)).ok()
    }

    fn expression(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Arc<Expression>> {
        let Some(text) = &self.expression else {
            cx.error(at, "type Expression needs an `expression`");
            return None;
        };
        check::expression(cx, &format!("{at}/expression"), text, Kind::Text)
    }
}

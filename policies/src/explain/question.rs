//! The request that is asked about, as it is written on a command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, request};

use crate::matching::target::normalize_path;
use crate::model::{AppProtocol, Identity, Peer, ResourceName};
use crate::snapshot::{BindAddress, Local, Scope, Snapshot};
use crate::story::Asked;

/// Where the application of a sidecar would listen.
const APP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);
/// Who asks, where nothing is said about it.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

/// Which proxy the request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    Gateway,
    /// The sidecar of a workload in this namespace, from that workload.
    Caller(Arc<str>),
    /// The sidecar of a workload that serves this Service.
    Serving(ResourceName),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Question {
    pub side: Side,
    pub peer: Peer,
    method: Method,
    grpc: bool,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why there is no such request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuestion {
    #[error("`{0}` is no method")]
    Method(String),
    #[error("`{0}`: write a URL with scheme and host, such as http://shop.example.com/cart")]
    Url(String),
    #[error("the path of `{0}` cannot be read in one way only: the proxy answers 400 before any policy")]
    Path(String),
    #[error("`{0}`: write a header as `name: value`")]
    Header(String),
    #[error("peer `{0}`: write an IP address, with or without a port, or a SPIFFE id")]
    Peer(String),
    #[error("`{0}`: write `gateway`, `caller NAMESPACE` or `serving NAMESPACE/NAME`")]
    Side(String),
}

impl Question {
    /// `method` may be `GRPC`: a call of `/service/method`.
    ///
    /// # Errors
    /// Something is not what it should be.
    pub fn new(
        side: Side,
        peer: Peer,
        (method, url): (&str, &str),
        headers: &[String],
    ) -> Result<Self, InvalidQuestion> {
        let grpc = method == "GRPC";
        let bad = |_| InvalidQuestion::Method(method.to_owned());
        let method = if grpc { Method::POST } else { method.parse().map_err(bad)? };
        let uri = url
            .parse::<Uri>()
            .ok()
            .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some());
        let uri = uri.ok_or_else(|| InvalidQuestion::Url(url.to_owned()))?;
        let headers = headers.iter().map(|written| header(written)).collect::<Result<_, _>>()?;
        Ok(Self { side, peer, method, grpc, uri, headers })
    }

    /// What the proxy knows of itself that the request comes to.
    pub fn local(&self) -> Local {
        let local = Local { node: "explain".into(), ..Local::default() };
        let app = Some((APP, AppProtocol::Http1));
        match &self.side {
            Side::Gateway => local,
            Side::Caller(namespace) => Local { app, namespace: namespace.clone(), ..local },
            Side::Serving(service) => {
                let namespace = service.namespace.clone();
                Local { app, services: vec![service.clone()], namespace, ..local }
            }
        }
    }

    pub(super) fn scheme(&self) -> &str {
        self.uri.scheme_str().unwrap_or("http")
    }

    pub(super) fn host(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// As the proxy has read it.
    pub(super) fn asked(&self, snapshot: &Snapshot) -> Result<(request::Parts, Asked<'_>), InvalidQuestion> {
        let unreadable = || InvalidQuestion::Path(self.uri.to_string());
        let path = normalize_path(self.uri.path()).map_err(|_| unreadable())?;
        let target = match self.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_string(),
        };
        let mut head = Request::new(()).into_parts().0;
        head.method = self.method.clone();
        head.uri = PathAndQuery::try_from(target).map(Uri::from).map_err(|_| unreadable())?;
        head.headers.insert(HOST, HeaderValue::from_str(self.host()).map_err(|_| unreadable())?);
        if self.grpc {
            head.version = Version::HTTP_2;
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        for (name, value) in &self.headers {
            head.headers.append(name, value.clone());
        }
        let secure = self.scheme() == "https";
        let sni = self.uri.host().filter(|_| secure && self.side == Side::Gateway);
        Ok((head, Asked { scope: self.scope(snapshot, secure), sni, grpc: self.grpc }))
    }

    fn scope(&self, snapshot: &Snapshot, secure: bool) -> Scope {
        match self.side {
            Side::Caller(_) => Scope::Outbound,
            Side::Serving(_) => Scope::Inbound,
            Side::Gateway => {
                let port = self.uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
                let known = snapshot.binds().into_iter().find(|bind| bind.port == port);
                Scope::Gateway(known.unwrap_or(BindAddress { ip: None, port }))
            }
        }
    }
}

impl Side {
    /// The words behind `--as`.
    ///
    /// # Errors
    /// They are none of what there is.
    pub fn parse(words: &[String]) -> Result<Self, InvalidQuestion> {
        let bad = || InvalidQuestion::Side(words.join(" "));
        match words {
            [] => Ok(Self::Gateway),
            [gateway] if gateway == "gateway" => Ok(Self::Gateway),
            [caller, namespace] if caller == "caller" => Ok(Self::Caller(namespace.as_str().into())),
            [serving, name] if serving == "serving" => name.parse().map(Self::Serving).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

/// Who asks: an address, a SPIFFE id as mTLS would have verified it, or both.
///
/// # Errors
/// It is neither.
pub fn peer(written: &[String]) -> Result<Peer, InvalidQuestion> {
    let mut peer = Peer { address: PEER, identity: None };
    for one in written {
        let alone = || one.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PEER.port()));
        if one.starts_with("spiffe://") {
            peer.identity = Some(Identity(one.as_str().into()));
        } else if let Ok(address) = one.parse::<SocketAddr>().or_else(|_| alone()) {
            peer.address = address;
        } else {
            return Err(InvalidQuestion::Peer(one.clone()));
        }
    }
    Ok(peer)
}

fn header(written: &str) -> Result<(HeaderName, HeaderValue), InvalidQuestion> {
    let read = written.split_once(':').and_then(|(name, value)| {
        Some((name.trim().parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
    });
    read.ok_or_else(|| InvalidQuestion::Header(written.to_owned()))
}

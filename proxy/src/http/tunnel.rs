//! Protocol upgrades (RFC 9110 section 7.8), WebSocket above all, and CONNECT: once both sides agree, bytes are only
//! copied.
//!
//! A WebSocket is asked for in two ways: by `upgrade` in HTTP/1.1, by extended CONNECT in HTTP/2 (RFC 8441). In here it is
//! the former, so that routes and policies know but one; each end is spoken to in its own.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, request, response};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tidegate_policy::jwt::Claims;
use tidegate_policy::pipeline::{Cut, Ongoing, OpenedBy};
use tidegate_policy::snapshot::{Selected, Snapshot};
use tidegate_policy::{Decisions, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::headers::upgrade_wanted;
use super::names::Names;
use super::record::Record;
use super::response_body::ResponseBody;
use super::rest::Resumed;
use super::server::ConnectionContext;
use super::websocket;
use super::wire::Wire;
use crate::intake::cut;
use crate::listener::Rewound;
use crate::tcp::{Passed, Pipes, Raw, Relay};
use crate::upstream::{OpenCall, UpstreamStream};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// A client that wants a tunnel.
#[derive(Debug)]
pub(crate) struct Downstream {
    wish: Wish,
    upgrade: OnUpgrade,
}

#[derive(Debug)]
enum Wish {
    /// By HTTP/1.1, with the key if it is a WebSocket.
    Upgrade {
        protocol: HeaderValue,
        key: Option<HeaderValue>,
    },
    /// A WebSocket, by HTTP/2; the key is ours.
    Extended {
        key: HeaderValue,
    },
    Connect,
}

impl Downstream {
    /// `None` where no tunnel is asked for that we can carry; the request then goes on as if none were.
    pub(crate) fn wanted(head: &mut request::Parts, names: Names, rng: &mut fastrand::Rng) -> Option<Self> {
        let wish = if let Some(protocol) = upgrade_wanted(head, names) {
            Wish::Upgrade { protocol, key: head.headers.get(SEC_WEBSOCKET_KEY).cloned() }
        } else if head.method != Method::CONNECT {
            return None;
        } else if let Some(protocol) = head.extensions.get::<Protocol>() {
            if !protocol.as_str().eq_ignore_ascii_case("websocket") {
                return None;
            }
            head.method = Method::GET;
            Wish::Extended { key: websocket::key(rng) }
        } else {
            Wish::Connect
        };
        head.extensions.remove::<Protocol>();
        let upgrade = head.extensions.remove::<OnUpgrade>()?;
        Some(Self { wish, upgrade })
    }

    /// Asks the next hop for the same.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        let protocol = match &self.wish {
            Wish::Upgrade { protocol, .. } => protocol.clone(),
            Wish::Extended { key } => {
                headers.insert(SEC_WEBSOCKET_KEY, key.clone());
                headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
                WEBSOCKET
            }
            Wish::Connect => return,
        };
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }

    /// The endpoint's agreement as this client wants to read it.
    fn told(&self, head: &mut response::Parts) -> Result<(), Reason> {
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        match &self.wish {
            Wish::Upgrade { .. } if switched => {}
            Wish::Upgrade { key, .. } => {
                let key = key.as_ref().ok_or(Reason::UpstreamProtocol)?;
                (head.status, head.version) = (StatusCode::SWITCHING_PROTOCOLS, Version::HTTP_11);
                head.headers.insert(UPGRADE, WEBSOCKET);
                head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers.insert(SEC_WEBSOCKET_ACCEPT, websocket::accept(key));
            }
            Wish::Extended { key } => {
                let shown = head.headers.remove(SEC_WEBSOCKET_ACCEPT);
                if switched && shown != Some(websocket::accept(key)) {
                    return Err(Reason::UpstreamProtocol);
                }
                head.status = StatusCode::OK;
                for gone in [UPGRADE, CONNECTION] {
                    head.headers.remove(gone);
                }
            }
            Wish::Connect if switched => return Err(Reason::UpstreamProtocol),
            Wish::Connect => {}
        }
        // RFC 9110 9.3.6: there is no body that they could be about.
        for gone in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(gone);
        }
        Ok(())
    }

    /// The endpoint has agreed: passes its answer on, and then bytes both ways until both sides have ended.
    pub(crate) fn open(
        self,
        (head, upstream): (response::Parts, OnUpgrade),
        call: Box<OpenCall>,
        mut record: Record,
        opened: Opened,
    ) -> Response<ResponseBody> {
        let proxy = opened.connection.proxy.clone();
        record.status = Some(head.status);
        let relay = Relay {
            // Whoever upgrades means to be silent at times.
            idle_timeout: None,
            drain: proxy.draining.clone(),
            drain_timeout: proxy.config.drain_timeout,
            pipes: Pipes::of_this_process(),
        };
        let tunnel = Tunnel { record, passed: Passed::default(), opened };
        proxy.connections.spawn(tunnel.carry(relay, self.upgrade, upstream, call));
        Response::from_parts(head, ResponseBody::head_only())
    }
}

/// The endpoint's end of the tunnel, with `head` as the client wants to read it; `None` for an answer like any other.
///
/// # Errors
/// [`Reason::UpstreamProtocol`]: nobody asked for it, or it is no agreement to what was asked for.
pub(super) fn agreed(
    head: &mut response::Parts,
    downstream: Option<&Downstream>,
) -> Result<Option<OnUpgrade>, Reason> {
    let upstream = head.extensions.remove::<OnUpgrade>();
    match (upstream, downstream) {
        (Some(upstream), Some(downstream)) => downstream.told(head).map(|()| Some(upstream)),
        (Some(_), None) => Err(Reason::UpstreamProtocol),
        // To these clients, any success would be the beginning of the tunnel.
        (None, Some(Downstream { wish: Wish::Extended { .. } | Wish::Connect, .. }))
            if head.status.is_success() =>
        {
            Err(Reason::UpstreamProtocol)
        }
        (None, _) if head.status == StatusCode::SWITCHING_PROTOCOLS => Err(Reason::UpstreamProtocol),
        (None, _) => Ok(None),
    }
}

/// What opened a tunnel: by this it is judged again when the configuration changes.
pub(crate) struct Opened {
    pub(super) connection: Arc<ConnectionContext>,
    /// As the policies saw it that were asked whether it may.
    pub(super) head: Box<request::Parts>,
    pub(super) selected: Selected,
}

impl Opened {
    fn judge_again(
        &self,
        claims: Option<&Claims>,
        snapshot: &Snapshot,
        decisions: &mut Decisions,
    ) -> Result<(), Cut> {
        let (connection, route) = (&self.connection, self.selected.rule.route.as_deref());
        let server_name = connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        let opened_by = Some(OpenedBy { head: &self.head, route, claims });
        let backend = self.selected.target().backend.as_ref().ok().map(|backend| &backend.name);
        let mut cx = Ongoing { peer: &connection.peer, server_name, opened_by, decisions };
        snapshot.judge_again(connection.scope, backend, &mut cx)
    }
}

/// What has passed, told when the tunnel ends, however it ends.
struct Tunnel {
    record: Record,
    passed: Passed,
    opened: Opened,
}

impl Tunnel {
    async fn carry(mut self, relay: Relay, downstream: OnUpgrade, upstream: OnUpgrade, call: Box<OpenCall>) {
        let (downstream, upstream) = match tokio::try_join!(downstream, upstream) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "upgrade failed");
                return;
            }
        };
        let passed = &self.passed;
        let relayed = async move {
            match (of_client(downstream), of_endpoint(upstream)) {
                (Ok(mut downstream), Ok(mut upstream)) => {
                    relay.run(&mut downstream, &mut upstream, passed).await
                }
                (downstream, upstream) => {
                    let (mut downstream, mut upstream) = (boxed(downstream), boxed(upstream));
                    relay.run(&mut downstream, &mut upstream, passed).await
                }
            }
        };
        let until = call.ends.at.filter(|_| call.ends.of_streams);
        let timed = async {
            match until {
                None => relayed.await.reason(),
                Some(at) => match tokio::time::timeout_at(at, relayed).await {
                    Ok(ended) => ended.reason(),
                    Err(_) => Some(Reason::RequestTimeout),
                },
            }
        };
        let claims = self.record.claims.as_deref();
        let judge =
            |snapshot: &Snapshot, said: &mut Decisions| self.opened.judge_again(claims, snapshot, said);
        let (reason, said) = tokio::select! {
            reason = timed => (reason, None),
            (cut, said) = cut(&self.opened.connection.proxy, judge) => (Some(cut.reason), Some(said)),
        };
        self.record.decisions.extend(said.into_iter().flatten());
        if reason == Some(Reason::RequestTimeout) {
            let reached = call.ends.limit.as_ref().and_then(|limit| limit.reached(Reason::RequestTimeout));
            self.record.decisions.extend(reached);
        }
        self.record.reason = reason;
        self.count();
        self.record.complete();
        drop(call);
    }

    fn count(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        self.record.upload.get_or_insert_default().count(passed.received());
        self.record.bytes_out += passed.sent();
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.count();
    }
}

/// The connection that was upgraded, with what was read of it already; back where it is of another kind.
fn of_client(upgraded: Upgraded) -> Result<Rewound<Wire<TcpStream>>, Upgraded> {
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<Resumed<Wire<TcpStream>>>>()?;
    Ok(io.into_inner().rewound(&read_buf))
}

/// The same for the other end.
fn of_endpoint(upgraded: Upgraded) -> Result<Rewound<UpstreamStream>, Upgraded> {
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<UpstreamStream>>()?;
    Ok(Rewound::new(read_buf.into(), io.into_inner()))
}

/// One type for both kinds.
fn boxed<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: Result<Rewound<S>, Upgraded>,
) -> Box<dyn Stream> {
    match stream {
        Ok(stream) => Box::new(stream),
        Err(upgraded) => Box::new(TokioIo::new(upgraded)),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Raw for Box<dyn Stream> {}

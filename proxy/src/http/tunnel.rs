//! Protocol upgrades (RFC 9110 section 7.8), WebSocket above all: once both sides agree, bytes are only copied.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, request};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::headers::upgrade_wanted;
use super::record::Record;
use super::response_body::ResponseBody;
use super::wire::Wire;
use crate::listener::Rewound;
use crate::state::ProxyState;
use crate::tcp::{Passed, Pipes, Raw, Relay};
use crate::upstream::{OpenCall, UpstreamStream};

/// A client that wants to switch to `protocol`.
#[derive(Debug)]
pub(crate) struct Downstream {
    protocol: HeaderValue,
    upgrade: OnUpgrade,
}

impl Downstream {
    /// `None` where no upgrade is asked for that we can carry; the request then goes on as if none were.
    pub(crate) fn wanted(head: &mut request::Parts) -> Option<Self> {
        let protocol = upgrade_wanted(head)?;
        let upgrade = head.extensions.remove::<OnUpgrade>()?;
        Some(Self { protocol, upgrade })
    }

    /// Asks the next hop for the same.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(UPGRADE, self.protocol.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }

    /// The endpoint has agreed: passes its answer on, and then bytes both ways until both sides have ended.
    pub(crate) fn open(
        self,
        mut response: Response<Incoming>,
        call: Box<OpenCall>,
        mut record: Record,
        proxy: &ProxyState,
    ) -> Response<ResponseBody> {
        let upstream = hyper::upgrade::on(&mut response);
        let (head, _) = response.into_parts();
        record.status = Some(head.status);
        let relay = Relay {
            // Whoever upgrades means to be silent at times.
            idle_timeout: None,
            drain: proxy.draining.clone(),
            drain_timeout: proxy.config.drain_timeout,
            pipes: Pipes::of_this_process(),
        };
        let tunnel = Tunnel { record, passed: Passed::default() };
        proxy.connections.spawn(tunnel.carry(relay, self.upgrade, upstream, call));
        Response::from_parts(head, ResponseBody::head_only())
    }
}

/// What has passed, told when the tunnel ends, however it ends.
struct Tunnel {
    record: Record,
    passed: Passed,
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
        let ended = match (unwrapped::<Wire<TcpStream>>(downstream), unwrapped::<UpstreamStream>(upstream)) {
            (Ok(mut downstream), Ok(mut upstream)) => {
                relay.run(&mut downstream, &mut upstream, &self.passed).await
            }
            (downstream, upstream) => {
                let (mut downstream, mut upstream) = (boxed(downstream), boxed(upstream));
                relay.run(&mut downstream, &mut upstream, &self.passed).await
            }
        };
        self.record.reason = ended.reason();
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

/// The connection that was upgraded, with what was read of it already; back where it is of another kind.
fn unwrapped<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    upgraded: Upgraded,
) -> Result<Rewound<S>, Upgraded> {
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<S>>()?;
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

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.count();
    }
}

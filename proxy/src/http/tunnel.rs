//! Protocol upgrades (RFC 9110 section 7.8), WebSocket above all: once both sides agree, bytes are only copied.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, request};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tidegate_policy::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;

use super::body::Upload;
use super::headers::upgrade_wanted;
use super::record::Record;
use super::response_body::ResponseBody;
use crate::upstream::OpenCall;

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

    /// The endpoint has agreed: passes its answer on, and then bytes both ways until one side ends.
    pub(crate) fn open(
        self,
        mut response: Response<Incoming>,
        call: Box<OpenCall>,
        mut record: Record,
        connections: &TaskTracker,
    ) -> Response<ResponseBody> {
        let upstream = hyper::upgrade::on(&mut response);
        let (head, _) = response.into_parts();
        record.status = Some(head.status);
        let upload = record.upload.get_or_insert_default().clone();
        let tunnel = Tunnel { record, received: upload, sent: Arc::default() };
        connections.spawn(tunnel.carry(self.upgrade, upstream, call));
        Response::from_parts(head, ResponseBody::head_only())
    }
}

/// What has passed, told when the tunnel ends, however it ends.
struct Tunnel {
    record: Record,
    received: Arc<Upload>,
    sent: Arc<Upload>,
}

impl Tunnel {
    async fn carry(mut self, downstream: OnUpgrade, upstream: OnUpgrade, call: Box<OpenCall>) {
        let (downstream, upstream) = match tokio::try_join!(downstream, upstream) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "upgrade failed");
                return;
            }
        };
        let mut downstream = Counted { io: TokioIo::new(downstream), count: self.received.clone() };
        let mut upstream = Counted { io: TokioIo::new(upstream), count: self.sent.clone() };
        if let Err(error) = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await {
            tracing::debug!(%error, "tunnel broke");
            self.record.reason = Some(Reason::UpstreamReset);
        }
        self.record.bytes_out = self.sent.bytes();
        self.record.complete();
        drop(call);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.record.bytes_out = self.sent.bytes();
    }
}

/// Counts what is read.
struct Counted {
    io: TokioIo<Upgraded>,
    count: Arc<Upload>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.count.count(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

//! Protocol upgrades (RFC 9110 section 7.8), WebSocket above all: once both sides agree, bytes are only copied.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tidegate_policy::Reason;

use super::body::ResponseBody;
use super::headers::upgrade_wanted;
use super::record::Record;
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
    ) -> Response<ResponseBody> {
        let upstream = hyper::upgrade::on(&mut response);
        let (head, _) = response.into_parts();
        record.status = Some(head.status);
        tokio::spawn(copy(self.upgrade, upstream, call, record));
        Response::from_parts(head, ResponseBody::head_only())
    }
}

async fn copy(downstream: OnUpgrade, upstream: OnUpgrade, call: Box<OpenCall>, mut record: Record) {
    let (downstream, upstream) = match tokio::try_join!(downstream, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return;
        }
    };
    let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
    match tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await {
        Ok((_, sent)) => record.bytes_out = sent,
        Err(error) => {
            tracing::debug!(%error, "tunnel broke");
            record.reason = Some(Reason::UpstreamReset);
        }
    }
    record.complete();
    drop(call);
}

//! HTTP/1.1 connections: each carries one request at a time, and idles on a stack in between.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate_policy::Reason;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::group::Group;
use super::lease::Unanswered;
use super::pool::EndpointPool;
use super::tls::UpstreamStream;
use crate::http::RequestBody;

/// The sending half of a connection, and word of the connection's end.
///
/// hyper can lose a request that is handed over at the very moment the connection ends: it then lies in the channel
/// between the two halves and is given back only when this half goes as well. So it does, when the end is known.
#[derive(Debug)]
pub(crate) struct Sender {
    half: Option<SendRequest<RequestBody>>,
    ended: oneshot::Receiver<Infallible>,
}

/// Of one response, read and not yet wanted by its client; a head must fit.
const MAX_BUFFER: usize = 128 * 1024;
/// How long a connection may take, after its response, to be ready for the next request (the rest of the request
/// body may still be on its way).
const SETTLE: Duration = Duration::from_secs(1);

/// Idle connections; the last one used is taken first, so that the surplus ages and is closed.
#[derive(Debug, Default)]
pub(crate) struct Http1Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

/// Makes a connection of `stream`. `held` is held until the connection has ended, whoever ends it.
///
/// # Errors
/// [`Reason::ConnectFailed`].
pub(crate) async fn handshake(
    stream: UpstreamStream,
    group: &Arc<Group>,
    held: impl Send + 'static,
) -> Result<Sender, Reason> {
    let (sender, connection) = Builder::new()
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Reason::ConnectFailed)?;
    let group = group.clone();
    let (end, ended) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream connection ended");
        }
        drop((held, end));
        group.freed.notify_one();
    });
    Ok(Sender { half: Some(sender), ended })
}

impl Sender {
    pub(super) async fn send(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let (half, asked) = match (&mut self.half, request.take()) {
            (Some(half), Some(asked)) => (half, asked),
            (_, asked) => return Err(Unanswered::never_sent(asked)),
        };
        let mut sending = pin!(half.try_send_request(asked));
        tokio::select! {
            biased;
            answered = &mut sending => return Ok(answered?),
            _ = &mut self.ended => self.half = None,
        }
        Ok(sending.await?)
    }

    fn is_ready(&self) -> bool {
        self.half.as_ref().is_some_and(SendRequest::is_ready)
    }

    fn is_closed(&self) -> bool {
        self.half.as_ref().is_none_or(SendRequest::is_closed)
    }

    async fn ready(&mut self) -> bool {
        match &mut self.half {
            Some(half) => half.ready().await.is_ok(),
            None => false,
        }
    }
}

impl Http1Pool {
    /// The youngest idle connection that is alive, as far as one can know.
    pub(crate) fn take(&self) -> Option<Sender> {
        loop {
            let idle = self.0.lock().pop()?;
            if idle.sender.is_ready() {
                return Some(idle.sender);
            }
        }
    }

    fn put(&self, sender: Sender, most: usize, since: Instant) {
        let mut idle = self.0.lock();
        if idle.len() < most {
            idle.push(Idle { sender, since });
        }
    }

    /// Closes connections that are dead or have been idle for `limit`.
    pub(crate) fn reap(&self, now: Instant, limit: Duration) {
        let mut idle = self.0.lock();
        idle.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < limit);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub(crate) fn evict_one(&self) -> bool {
        let mut idle = self.0.lock();
        if idle.is_empty() {
            return false;
        }
        drop(idle.remove(0));
        true
    }
}

/// Gives a connection back after its response has been read to the end.
pub(crate) fn give_back(mut sender: Sender, pool: Arc<EndpointPool>, now: Instant) {
    if sender.is_closed() {
        return;
    }
    if sender.is_ready() {
        pool.idle_http1().put(sender, pool.most_idle, now);
        pool.group.freed.notify_one();
        return;
    }
    // Outside of a runtime (at exit) nobody needs the connection any more.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        if let Ok(true) = tokio::time::timeout(SETTLE, sender.ready()).await {
            pool.idle_http1().put(sender, pool.most_idle, Instant::now());
            pool.group.freed.notify_one();
        }
    });
}

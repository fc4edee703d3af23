//! One connection: its requests, each in a task of its own, its limits and its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::{Code, ConnectionError};
use h3::server::{self, RequestResolver};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange;
use super::quic::{Connection, Latest, number};
use crate::http::{ConnectionContext, MAX_HEADER_BYTES, last_requests};
use crate::telemetry::ConnectionSide;

/// The most requests of one connection at a time; RFC 9114, section 6.1, asks for no fewer.
pub(super) const MAX_REQUESTS: u32 = 100;
/// Without a request for this long, a connection is closed.
const IDLE: Duration = Duration::from_secs(60);

struct Serving {
    h3: server::Connection<Connection, Bytes>,
    quic: quinn::Connection,
    latest: Latest,
    context: Arc<ConnectionContext>,
    requests: TaskTracker,
    /// Whether there ever was a request.
    begun: bool,
}

/// Why no more requests are taken.
enum End {
    Drain,
    Idle,
    /// Closed, by whichever side.
    Closed,
}

/// Serves a connection until it ends; after `drain`, no longer than its requests in flight last.
pub(super) async fn serve(quic: quinn::Connection, context: ConnectionContext, drain: CancellationToken) {
    let _counted = context.proxy.telemetry.connection(ConnectionSide::Downstream);
    let connection = Connection::new(quic.clone());
    let latest = connection.latest();
    let mut builder = server::builder();
    builder.max_field_section_size(MAX_HEADER_BYTES.into()).send_grease(false);
    let h3 = match builder.build(connection).await {
        Ok(h3) => h3,
        Err(error) => return tracing::debug!(%error, "downstream connection ended"),
    };
    let (context, requests) = (Arc::new(context), TaskTracker::new());
    let mut serving = Serving { h3, quic, latest, context, requests, begun: false };
    let ended = match serving.run(&drain).await {
        Ok(End::Drain) => serving.drain(&drain).await,
        Ok(End::Idle) => serving.finish().await,
        Ok(End::Closed) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "downstream connection ended");
    }
    // They notice by themselves that their connection is gone.
    serving.requests.close();
    serving.requests.wait().await;
}

impl Serving {
    /// Takes requests.
    async fn run(&mut self, drain: &CancellationToken) -> Result<End, ConnectionError> {
        loop {
            tokio::select! {
                accepted = self.h3.accept() => match accepted? {
                    Some(request) => self.spawn(request),
                    None => return Ok(End::Closed),
                },
                () = tokio::time::sleep(IDLE) => {
                    if self.requests.is_empty() {
                        return Ok(End::Idle);
                    }
                }
                () = drain.cancelled() => return Ok(End::Drain),
            }
            if self.context.takes_back_too_much() {
                tracing::debug!(client = %self.context.peer.address, "too many requests taken back; closing");
                self.quic.close(number(Code::H3_EXCESSIVE_LOAD), b"too many requests taken back");
                return Ok(End::Closed);
            }
        }
    }

    fn spawn(&mut self, request: RequestResolver<Connection, Bytes>) {
        self.begun = true;
        if let Some(aside) = self.latest.take() {
            self.requests.spawn(exchange::serve(self.context.clone(), request, aside));
        }
    }

    /// Takes what is on its way, and then no more.
    async fn drain(&mut self, drain: &CancellationToken) -> Result<(), ConnectionError> {
        if self.begun {
            // A warning (RFC 9114, section 5.2): nothing is refused yet.
            self.h3.shutdown(MAX_REQUESTS as usize).await?;
        }
        let over = last_requests(drain);
        tokio::pin!(over);
        loop {
            tokio::select! {
                accepted = self.h3.accept() => match accepted? {
                    Some(request) => self.spawn(request),
                    None => return Ok(()),
                },
                () = &mut over => return self.finish().await,
            }
        }
    }

    /// Refuses what comes now, and waits for what is in flight.
    async fn finish(&mut self) -> Result<(), ConnectionError> {
        // The first that is not taken is the one after the last.
        self.h3.shutdown(1).await?;
        self.requests.close();
        loop {
            tokio::select! {
                accepted = self.h3.accept() => match accepted? {
                    // Dropped, it is rejected.
                    Some(_late) => {}
                    None => return Ok(()),
                },
                () = self.requests.wait() => return Ok(()),
            }
        }
    }
}

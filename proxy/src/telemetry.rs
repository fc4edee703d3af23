//! What the proxy tells about each request: one span per hop, one log line, a few counters.
//!
//! The request path calls [`Telemetry::begin`] and drives the returned [`Exchange`]; everything that may wait
//! (export, writing, scraping) happens elsewhere, behind bounded queues. Nothing here may block or slow a
//! request: what does not fit a queue is dropped and counted.

mod access_log;
mod attributes;
mod decisions;
mod exchange;
mod exporter;
mod fields;
mod metrics;
mod propagate;
mod settings;
mod stream;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request;
use tidegate_policy::decision::DecisionRecord;
use tidegate_policy::model::Peer;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::http::Names;

pub use access_log::LogTarget;
pub use decisions::{DecisionQuery, DecisionSettings, InvalidQuery};
pub use exchange::{AttemptInfo, Destination, Exchange, Finished, PluginTime};
pub use metrics::{BreakerSample, ConnectionGuard, ConnectionSide, EjectedSample, HealthSample, Scrape};
pub(crate) use metrics::{MirrorResult, RefusedConnection, resident_memory};
pub use settings::{Sampling, TelemetryConfig, TraceSettings};
pub(crate) use stream::StreamRecord;

use access_log::{AccessLog, LogWriter};
use decisions::Decisions;
use exporter::SpanQueue;
use metrics::Metrics;
use trace::Tracing;

/// Where requests are told about. One per process; shared by all listeners.
#[derive(Debug)]
pub struct Telemetry {
    tracing: Tracing,
    log: AccessLog,
    metrics: Arc<Metrics>,
    decisions: Decisions,
}

/// Ends telemetry in order; without it, what is still queued at exit is lost.
#[derive(Debug)]
pub struct TelemetryGuard {
    spans: Option<SpanQueue>,
    log: Option<LogWriter>,
    bound: Duration,
}

/// Which way a request goes through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To our own application.
    Inbound,
    /// From our own application.
    Outbound,
    /// Through a gateway's listener.
    Gateway,
}

impl Direction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Gateway => "gateway",
        }
    }
}

impl Telemetry {
    /// Starts the exporter task on `runtime` and the log thread.
    ///
    /// Never fails: a collector address that makes no sense, or a log file that cannot be opened, is reported
    /// with `tracing::error` and that output stays off, for traffic is worth more than its record.
    #[must_use = "without the guard nothing is flushed at exit"]
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is of no use once it is started")]
    pub fn start(config: TelemetryConfig, runtime: &Handle) -> (Arc<Self>, TelemetryGuard) {
        let metrics = Arc::new(Metrics::new(config.series_cap));
        let (log, log_writer) = AccessLog::start(&config.access_log, &metrics);
        let bound = config.flush_bound;
        let (tracing, spans) = Tracing::start(&config, runtime, &metrics);
        let decisions = Decisions::new(config.decisions, config.node.as_deref());
        let telemetry = Arc::new(Self { tracing, log, metrics, decisions });
        (telemetry, TelemetryGuard { spans, log: log_writer, bound })
    }

    /// A request head has arrived. Continues the trace it names, or starts one.
    pub fn begin(self: &Arc<Self>, head: &request::Parts, peer: &Peer, direction: Direction) -> Exchange {
        self.begin_at((head, Names::of(&head.headers)), (peer, direction), Instant::now())
    }

    /// The same, for whoever knows the names in the head, and what time it is.
    pub(crate) fn begin_at(
        self: &Arc<Self>,
        head: (&request::Parts, Names),
        from: (&Peer, Direction),
        now: Instant,
    ) -> Exchange {
        Exchange::begin(self.clone(), head, from, now)
    }

    /// Whether anybody wants to know more of a request than that it was.
    fn tells(&self) -> bool {
        self.log.is_on() || self.tracing.records()
    }

    /// A connection has been accepted whose bytes are not looked at.
    pub(crate) fn stream(
        self: &Arc<Self>,
        client: Peer,
        server: SocketAddr,
        direction: Direction,
    ) -> StreamRecord {
        StreamRecord::new(self.clone(), client, server, direction)
    }

    /// Counts a connection for as long as the guard is held.
    pub fn connection(&self, side: ConnectionSide) -> ConnectionGuard {
        self.metrics.connection(side)
    }

    /// A connection was closed before anything was read of it.
    pub(crate) fn refused(&self, why: RefusedConnection) {
        self.metrics.refused(why);
    }

    /// Copies of a request have ended, all in one way.
    pub(crate) fn mirrored(&self, result: MirrorResult, copies: usize) {
        self.metrics.mirrored(result, copies as u64);
    }

    /// What is kept of single requests, the newest first.
    pub fn decisions(&self, query: &DecisionQuery) -> Vec<DecisionRecord> {
        self.decisions.find(query)
    }

    /// All metrics in Prometheus' text format (OpenMetrics 1.0), with what only the caller knows at this moment.
    pub fn render_metrics(&self, scrape: &Scrape) -> String {
        self.metrics.render(scrape)
    }
}

impl TelemetryGuard {
    /// Sends and writes what is still queued, within [`TelemetryConfig::flush_bound`].
    pub async fn shutdown(self) {
        let spans = async {
            if let Some(spans) = self.spans {
                spans.flush(self.bound).await;
            }
        };
        let log = async {
            if let Some(log) = self.log {
                log.flush(self.bound).await;
            }
        };
        tokio::join!(spans, log);
    }
}

/// What the next is told of the trace that the sender of `headers` is in.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn passed_on(headers: &http::HeaderMap) -> Option<http::HeaderMap> {
    let mut out = http::HeaderMap::new();
    propagate::inject(&propagate::extract(headers)?, &mut out);
    Some(out)
}

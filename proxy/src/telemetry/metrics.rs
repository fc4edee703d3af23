//! Counters, gauges and histograms, in the names that the dashboards use.
//!
//! Counting happens on the request path with atomics and short read locks; rendering happens on the admin port's
//! runtime. Every family is capped (see [`series`]).

mod decisions;
mod health;
mod labels;
mod plugins;
mod scrape;
mod series;
mod streams;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tidegate_policy::decision::{CallResult, Decision};

use super::Direction;
use super::exchange::{Finished, Record};
use super::fields;
use decisions::DecisionCounts;
pub use health::HealthSample;
use labels::{
    AttemptLabels, DirectionLabel, RequestLabels, ResultLabel, RetryLabels, RouteLabels, SideLabel,
    SignalLabel, VersionLabel, Word,
};
pub(crate) use scrape::resident_memory;
pub use scrape::{BreakerSample, EjectedSample, Scrape};
use series::Series;
use streams::StreamCounts;

/// Seconds. Half a millisecond is what a near backend takes; beyond ten seconds it is not the number that matters.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Which side of the proxy a connection is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionSide {
    Downstream,
    Upstream,
}

/// An open connection holds this.
#[derive(Debug)]
#[must_use = "the connection counts as closed once this is dropped"]
pub struct ConnectionGuard(Gauge);

/// Why a connection was closed before anything was read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedConnection {
    /// Its PROXY protocol header is missing, late or malformed, or not to be believed.
    ProxyHeader,
    /// It leads back to this proxy.
    Loop,
}

/// What may be dropped rather than make traffic wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    AccessLog,
}

/// How the copy of a request for a mirror ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MirrorResult {
    /// By the mirror, whatever it said.
    Answered,
    Failed,
    /// The body was larger than what is copied.
    TooLarge,
    /// The request itself was not sent whole.
    BrokenOff,
    /// Too many requests were being mirrored already.
    Busy,
}

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    cap: usize,
    requests: Series<RequestLabels, Counter>,
    durations: Series<RouteLabels, Histogram>,
    attempts: Series<AttemptLabels, Counter>,
    retries: Series<RetryLabels, Counter>,
    decisions: Arc<DecisionCounts>,
    in_flight: [Gauge; 3],
    connections: [(Gauge, Counter); 2],
    dropped: [Counter; 2],
    mirrors: [Counter; 5],
    refused: [Counter; 2],
    pub(super) streams: StreamCounts,
}

impl Metrics {
    pub(super) fn new(cap: usize) -> Self {
        let mut registry = Registry::default();
        let requests = Series::new(cap, Counter::default);
        registry.register("tidegate_requests", "Requests that have ended", requests.clone());
        let durations = Series::new(cap, || Histogram::new(BUCKETS));
        registry.register_with_unit(
            "tidegate_request_duration",
            "From the request head to the end of the response body",
            Unit::Seconds,
            durations.clone(),
        );
        let attempts = Series::new(cap, Counter::default);
        registry.register("tidegate_attempts", "Calls to endpoints, by result", attempts.clone());
        let retries = Series::new(cap, Counter::default);
        registry.register(
            "tidegate_retries",
            "Attempts that failed and might be made again, by what was decided",
            retries.clone(),
        );
        let decisions = Arc::new(DecisionCounts::new(cap));
        registry.register_collector(Box::new(decisions.clone()));
        register_process(&mut registry);
        Self {
            cap,
            requests,
            durations,
            attempts,
            retries,
            decisions,
            in_flight: register_in_flight(&mut registry),
            connections: register_connections(&mut registry),
            dropped: register_dropped(&mut registry),
            mirrors: register_mirrors(&mut registry),
            refused: register_refused(&mut registry),
            streams: StreamCounts::register(&mut registry, cap),
            registry,
        }
    }

    pub(super) fn begun(&self, direction: Direction) {
        self.in_flight[direction as usize].inc();
    }

    pub(super) fn ended(&self, record: &Record, finished: &Finished, duration: Duration) {
        self.in_flight[record.direction as usize].dec();
        let direction = Word(record.direction.as_str());
        let destination = record.destination.as_ref();
        let route = destination.and_then(|destination| destination.route.clone());
        self.requests.with(
            &RequestLabels {
                direction,
                route: route.clone(),
                backend: destination.and_then(|destination| destination.backend.clone()),
                code: finished.status.as_u16(),
                grpc_code: Word(finished.grpc_status.map_or("", fields::grpc_code)),
                reason: Word(finished.reason.map_or("", |reason| reason.flag())),
            },
            Counter::inc,
        );
        let seconds = duration.as_secs_f64();
        self.durations.with(&RouteLabels { direction, route }, |histogram| histogram.observe(seconds));
        self.decided(&finished.decisions);
    }

    pub(super) fn decided(&self, decisions: &[Decision]) {
        decisions.iter().for_each(|decision| self.decisions.count(decision));
    }

    pub(super) fn attempted(&self, record: &Record, result: CallResult) {
        if let Some(attempt) = &record.attempt {
            self.connected(&attempt.backend, result);
        }
    }

    /// An endpoint of `backend` was called.
    pub(super) fn connected(&self, backend: &Arc<str>, result: CallResult) {
        let result = match result {
            CallResult::Status(status) => status_class(status),
            CallResult::Grpc(code) => fields::grpc_code(code),
            CallResult::Connected => "connected",
            CallResult::Failed(reason) => reason.flag(),
        };
        self.attempts.with(&AttemptLabels { backend: backend.clone(), result: Word(result) }, Counter::inc);
    }

    pub(super) fn retried(&self, backend: &Arc<str>, decision: &'static str) {
        self.retries.with(&RetryLabels { backend: backend.clone(), decision }, Counter::inc);
    }

    pub(super) fn mirrored(&self, result: MirrorResult, copies: u64) {
        self.mirrors[result as usize].inc_by(copies);
    }

    pub(super) fn refused(&self, why: RefusedConnection) {
        self.refused[why as usize].inc();
    }

    pub(super) fn dropped(&self, signal: Signal, count: u64) {
        self.dropped[signal as usize].inc_by(count);
    }

    #[cfg(test)]
    pub(super) fn dropped_so_far(&self, signal: Signal) -> u64 {
        self.dropped[signal as usize].get()
    }

    pub(super) fn connection(&self, side: ConnectionSide) -> ConnectionGuard {
        let (open, all) = &self.connections[side as usize];
        open.inc();
        all.inc();
        ConnectionGuard(open.clone())
    }

    pub(super) fn render(&self, scrape: &Scrape) -> String {
        let mut out = String::new();
        let now = scrape::registry(scrape, self.cap);
        // Writing to a String cannot fail.
        let _ = text::encode_registry(&mut out, &self.registry);
        let _ = text::encode(&mut out, &now);
        out
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

fn register_in_flight(registry: &mut Registry) -> [Gauge; 3] {
    let family = Family::<DirectionLabel, Gauge>::default();
    registry.register("tidegate_in_flight_requests", "Requests that have not ended yet", family.clone());
    [Direction::Inbound, Direction::Outbound, Direction::Gateway]
        .map(|d| family.get_or_create_owned(&DirectionLabel { direction: d.as_str() }))
}

fn register_connections(registry: &mut Registry) -> [(Gauge, Counter); 2] {
    let open = Family::<SideLabel, Gauge>::default();
    let all = Family::<SideLabel, Counter>::default();
    registry.register("tidegate_connections", "Open connections", open.clone());
    registry.register("tidegate_connections_opened", "Connections opened so far", all.clone());
    ["downstream", "upstream"].map(|side| {
        let label = SideLabel { side };
        (open.get_or_create_owned(&label), all.get_or_create_owned(&label))
    })
}

fn register_dropped(registry: &mut Registry) -> [Counter; 2] {
    let family = Family::<SignalLabel, Counter>::default();
    let help = "Spans and log lines dropped rather than make traffic wait";
    registry.register("tidegate_telemetry_dropped", help, family.clone());
    ["traces", "access_log"].map(|signal| family.get_or_create_owned(&SignalLabel { signal }))
}

fn register_mirrors(registry: &mut Registry) -> [Counter; 5] {
    let family = Family::<ResultLabel, Counter>::default();
    registry.register("tidegate_mirror", "Copies of requests for mirrors, by how they ended", family.clone());
    ["answered", "failed", "too_large", "broken_off", "busy"]
        .map(|result| family.get_or_create_owned(&ResultLabel { result }))
}

fn register_refused(registry: &mut Registry) -> [Counter; 2] {
    let family = Family::<ResultLabel, Counter>::default();
    let help = "Connections closed before anything was read of them, by why";
    registry.register("tidegate_connections_refused", help, family.clone());
    ["proxy_header", "loop"].map(|result| family.get_or_create_owned(&ResultLabel { result }))
}

fn register_process(registry: &mut Registry) {
    let build = Info::new(VersionLabel { version: env!("CARGO_PKG_VERSION") });
    registry.register("tidegate_build", "Which Tidegate this is", build);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started = ConstGauge::new(started.as_secs_f64());
    registry.register_with_unit("process_start_time", "Unix time of the start", Unit::Seconds, started);
}

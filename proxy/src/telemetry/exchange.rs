//! One request on its way through the proxy, as telemetry sees it.
//!
//! The request path owns an [`Exchange`] from the request head to the end of the response body and tells it what
//! happens. However the exchange ends, it is counted and logged exactly once: dropped without
//! [`Exchange::finish`], it counts as given up by the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, request};
use tidegate_policy::decision::CallResult;
use tidegate_policy::health::Transition;
use tidegate_policy::model::{Identity, Peer, SourceRef};
use tidegate_policy::snapshot::Selected;
use tidegate_policy::{Decisions, Reason};
use tokio::time::Instant;

use super::propagate::parent;
use super::trace::RequestTrace;
use super::{Direction, Telemetry};
use crate::http::{Names, X_REQUEST_ID};

/// See the module.
#[derive(Debug)]
pub struct Exchange(Option<Open>);

#[derive(Debug)]
struct Open {
    telemetry: Arc<Telemetry>,
    record: Record,
    trace: RequestTrace,
    /// One of several attempts at the same time: of the request itself, another tells.
    beside: bool,
}

/// Where routing sent the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `namespace/name` of the route, if one matched.
    pub route: Option<Arc<str>>,
    /// Name of the rule, else its index.
    pub rule: Arc<str>,
    /// Where the rule is written.
    pub source: Option<SourceRef>,
    /// The picked backend; `None` where the backendRef is invalid.
    pub backend: Option<Arc<str>>,
    /// The backend's weight in its rule.
    pub weight: u32,
}

/// One attempt to get the answer from an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptInfo {
    pub backend: Arc<str>,
    pub endpoint: Arc<str>,
    /// The backend's weight in its rule.
    pub weight: u32,
    /// From 1.
    pub number: u32,
    /// Whether the endpoint is called by TLS.
    pub tls: bool,
}

/// What one plugin cost one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginTime {
    /// `namespace/name` of its policy.
    pub plugin: Arc<str>,
    pub callbacks: u32,
    /// In all of them, by the clock.
    pub time: Duration,
    /// CPU time of the same, where it was measured: for requests whose spans are recorded.
    pub cpu: Option<Duration>,
    /// It has answered in the backend's place, or has had the stream reset.
    pub answered: bool,
    /// It came to an end in one of them, or while it was waited for.
    pub failed: bool,
}

/// How an exchange ended: told once, when the response body has ended or was dropped.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What the client was sent; 499 where it went away before.
    pub status: StatusCode,
    /// `grpc-status` of a gRPC response, from its trailers or its head.
    pub grpc_status: Option<u8>,
    /// Why the mesh answered, or cut the answer short; `None` for a backend's whole answer.
    pub reason: Option<Reason>,
    pub decisions: Decisions,
    /// Plugins that saw it, and what they cost; for traces.
    pub plugins: Vec<PluginTime>,
    /// Bytes of the request body that were received.
    pub bytes_in: u64,
    /// Bytes of the response body that were sent.
    pub bytes_out: u64,
}

/// What is known of a request before it ends. Cheap to take: everything is counted by reference. Where nobody is told of
/// single requests, it says no more than what metrics count.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) direction: Direction,
    pub(super) started: Instant,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) host: Option<HeaderValue>,
    pub(super) user_agent: Option<HeaderValue>,
    /// `x-request-id`, as the next hop is told it.
    pub(super) id: Option<HeaderValue>,
    pub(super) grpc: bool,
    /// Over TLS.
    pub(super) secure: bool,
    pub(super) client: SocketAddr,
    pub(super) identity: Option<Identity>,
    pub(super) destination: Option<Destination>,
    /// The last attempt.
    pub(super) attempt: Option<AttemptInfo>,
    /// `traceparent`, where nobody else looks at it.
    pub(super) parent: Option<HeaderValue>,
    /// Somebody who may wants to know what is decided.
    pub(super) asked: bool,
    /// The mesh answered, at another hop.
    pub(super) refused_there: bool,
}

impl Exchange {
    pub(super) fn begin(
        telemetry: Arc<Telemetry>,
        (head, names): (&request::Parts, Names),
        (peer, direction): (&Peer, Direction),
        now: Instant,
    ) -> Self {
        telemetry.metrics.begun(direction);
        let (record, trace) = (Record::new(direction, now), RequestTrace::default());
        let mut open = Open { telemetry, record, trace, beside: false };
        if names.has(Names::CONTENT_TYPE) {
            let content_type = head.headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
            open.record.grpc = content_type.starts_with(b"application/grpc");
        }
        let id = Some(&head.headers).filter(|_| names.has(Names::X_REQUEST_ID));
        // As it came, for what is refused before it is given one.
        open.record.id = id.and_then(|headers| headers.get(X_REQUEST_ID)).cloned();
        if open.telemetry.tells() {
            open.record.describe(head, peer);
            let incoming = Some(&head.headers).filter(|_| names.has(Names::TRACEPARENT));
            open.trace = open.telemetry.tracing.begin(incoming, &open.record);
        } else if open.telemetry.decisions.is_on() {
            open.record.describe(head, peer);
            open.record.parent = names.has(Names::TRACEPARENT).then(|| parent(&head.headers)).flatten();
        }
        Self(Some(open))
    }

    /// The request came over TLS.
    pub fn secure(&mut self) {
        if let Some(open) = &mut self.0 {
            open.record.secure = true;
        }
    }

    /// The id by which the request is known on its way is in these headers.
    pub(crate) fn identified(&mut self, headers: &HeaderMap) {
        if let Some(open) = &mut self.0
            && (open.telemetry.tells() || open.telemetry.decisions.is_on())
        {
            open.record.id = headers.get(X_REQUEST_ID).cloned();
        }
    }

    /// Somebody who may wants to know what is decided of it.
    pub(crate) fn asked(&mut self) {
        if let Some(open) = &mut self.0 {
            open.record.asked = true;
        }
    }

    /// The answer that is passed on is the mesh's, at another hop.
    pub(crate) fn refused_there(&mut self) {
        if let Some(open) = &mut self.0 {
            open.record.refused_there = true;
        }
    }

    /// Routing has picked a rule and a backend.
    pub fn decided(&mut self, destination: impl Into<Destination>) {
        if let Some(open) = &mut self.0 {
            open.record.destination = Some(destination.into());
        }
    }

    /// A call to an endpoint is about to be made: starts its span and writes the trace context into `headers`.
    /// An attempt that is still open is ended.
    pub fn attempt(&mut self, info: AttemptInfo, headers: &mut HeaderMap) {
        if let Some(open) = &mut self.0 {
            open.telemetry.tracing.attempt(&mut open.trace, &open.record, &info, headers);
            open.record.attempt = Some(info);
        }
    }

    /// The attempt has a response head, or has failed.
    pub fn attempt_done(&mut self, result: CallResult) {
        if let Some(open) = &mut self.0 {
            open.telemetry.metrics.attempted(&open.record, result);
            open.trace.attempt_done(&open.record, result);
        }
    }

    /// The end of the attempt made a breaker change its state.
    pub fn transition(&mut self, transition: &Transition) {
        if let Some(open) = &mut self.0 {
            open.trace.transition(transition);
        }
    }

    /// For an attempt at the same time as others: tells of it, and of nothing else.
    pub(crate) fn beside(&self) -> Self {
        Self(self.0.as_ref().map(|open| Open {
            telemetry: open.telemetry.clone(),
            record: open.record.clone(),
            trace: open.trace.beside(),
            beside: true,
        }))
    }

    /// The attempt of this other one is the answer.
    pub(crate) fn adopt(&mut self, mut other: Self) {
        if let (Some(open), Some(other)) = (&mut self.0, &mut other.0) {
            open.record.attempt = other.record.attempt.take();
            open.trace.adopt(&mut other.trace);
        }
    }

    /// A failed attempt might be made again; this is what was decided.
    pub fn retry(&mut self, backend: &Arc<str>, decision: &'static str) {
        if let Some(open) = &mut self.0 {
            open.telemetry.metrics.retried(backend, decision);
        }
    }

    /// The response body has ended or was dropped.
    #[expect(clippy::needless_pass_by_value, reason = "an end is told once, with all it has")]
    pub fn finish(mut self, finished: Finished) {
        self.finish_at(&finished, Instant::now());
    }

    /// The same, for whoever knows what time it is.
    pub(crate) fn finish_at(&mut self, finished: &Finished, now: Instant) {
        self.close(finished, now);
    }

    /// Whether somebody is going to read what is told of this request on its span.
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.trace.is_recorded())
    }

    /// The request's trace id in hex, if it is in a trace: for error pages and the proxy's own log.
    pub fn trace_id(&self) -> Option<String> {
        Some(self.0.as_ref()?.trace.context()?.trace_id().to_string())
    }

    fn close(&mut self, finished: &Finished, now: Instant) {
        let Some(Open { telemetry, record, trace, beside }) = &mut self.0 else { return };
        if *beside {
            trace.end_client(record, None);
            self.0 = None;
            return;
        }
        let duration = now.saturating_duration_since(record.started);
        telemetry.metrics.ended(record, finished, duration);
        telemetry.log.write(record, finished, duration, trace.context());
        telemetry.decisions.write(record, finished, duration, trace.context());
        trace.end(record, finished);
        self.0 = None;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.close(&Finished::client_gone(), Instant::now());
        }
    }
}

impl From<&Selected> for Destination {
    fn from(selected: &Selected) -> Self {
        let target = selected.target();
        Self {
            route: selected.rule.route.clone(),
            rule: selected.rule.name.clone(),
            source: selected.rule.source.clone(),
            backend: target.backend.as_ref().ok().map(|backend| backend.label.clone()),
            weight: target.weight,
        }
    }
}

impl Finished {
    fn client_gone() -> Self {
        Self {
            status: Reason::ClientGone.answer().status,
            grpc_status: None,
            reason: Some(Reason::ClientGone),
            decisions: Decisions::new(),
            plugins: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }
}

impl Record {
    fn new(direction: Direction, started: Instant) -> Self {
        Self {
            direction,
            started,
            method: Method::GET,
            uri: Uri::default(),
            version: Version::HTTP_11,
            host: None,
            user_agent: None,
            id: None,
            grpc: false,
            secure: false,
            client: SocketAddr::from(([0, 0, 0, 0], 0)),
            identity: None,
            destination: None,
            attempt: None,
            parent: None,
            asked: false,
            refused_there: false,
        }
    }

    fn describe(&mut self, head: &request::Parts, peer: &Peer) {
        (self.method, self.uri, self.version) = (head.method.clone(), head.uri.clone(), head.version);
        self.host = head.headers.get(HOST).cloned();
        self.user_agent = head.headers.get(USER_AGENT).cloned();
        (self.client, self.identity) = (peer.address, peer.identity.clone());
    }
}

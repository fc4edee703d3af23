//! One request in few bytes: texts of its own, cut short, and the rest by reference.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, TraceId};
use tidegate_policy::decision::{DecisionRecord, Said};
use tidegate_policy::model::Identity;
use tidegate_policy::{Decision, Reason};

use super::query::DecisionQuery;
use super::trace_of;
use crate::telemetry::Direction;
use crate::telemetry::exchange::{Destination, Finished, Record};
use crate::telemetry::fields;

/// The longest text taken from a request: it may be kept thousands of times.
const MAX_TEXT: usize = 256;
/// The most decisions of one request. Attempts may bring more; how it began and how it ended is among these.
const MAX_DECISIONS: usize = 32;

/// Why a request is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Refused,
    Asked,
    Sample,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Kept {
    why: Why,
    pub(super) started: SystemTime,
    duration: Duration,
    direction: Direction,
    id: Option<Box<str>>,
    trace: Option<TraceId>,
    method: Box<str>,
    host: Option<Box<str>>,
    path: Box<str>,
    client: SocketAddr,
    identity: Option<Identity>,
    destination: Option<Destination>,
    endpoint: Option<Arc<str>>,
    attempts: u32,
    status: u16,
    grpc_status: Option<u8>,
    reason: Option<Reason>,
    decisions: Box<[Decision]>,
}

impl Kept {
    pub(super) fn of(
        why: Why,
        (record, finished): (&Record, &Finished),
        duration: Duration,
        context: Option<&SpanContext>,
    ) -> Self {
        let now = SystemTime::now();
        Self {
            why,
            started: now.checked_sub(duration).unwrap_or(now),
            duration,
            direction: record.direction,
            id: record.id.as_ref().map(|id| short(&String::from_utf8_lossy(id.as_bytes()))),
            trace: trace_of(record, context),
            method: short(record.method.as_str()),
            host: fields::authority(record).map(|authority| short(authority.as_str())),
            path: short(record.uri.path()),
            client: record.client,
            identity: record.identity.clone(),
            destination: record.destination.clone(),
            endpoint: record.attempt.as_ref().map(|attempt| attempt.endpoint.clone()),
            attempts: record.attempt.as_ref().map_or(0, |attempt| attempt.number),
            status: finished.status.as_u16(),
            grpc_status: finished.grpc_status,
            reason: finished.reason,
            decisions: first_and_last(&finished.decisions),
        }
    }

    /// Bytes that it holds alone, about.
    pub(super) fn size(&self) -> usize {
        let texts = [Some(&self.method), Some(&self.path), self.host.as_ref(), self.id.as_ref()];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        let identity = self.identity.as_ref().map_or(0, |identity| identity.0.len());
        size_of::<Self>() + texts + identity + size_of_val(&*self.decisions)
    }

    pub(super) fn answers(&self, query: &DecisionQuery) -> bool {
        let is_id = |wanted: &str| self.id.as_deref().is_some_and(|id| *id == *short(wanted));
        let is_trace = |wanted: &str| {
            self.trace.is_some_and(|trace| TraceId::from_hex(wanted).is_ok_and(|wanted| wanted == trace))
        };
        query.id.as_deref().is_none_or(|id| is_id(id) || (id.len() == 32 && is_trace(id)))
            && query.request_id.as_deref().is_none_or(is_id)
            && query.trace_id.as_deref().is_none_or(is_trace)
            && (!query.refused || self.why == Why::Refused)
    }

    pub(super) fn record(&self, node: &str) -> DecisionRecord {
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let destination = self.destination.as_ref();
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
        DecisionRecord {
            node: node.to_owned(),
            direction: self.direction.as_str().to_owned(),
            time_unix_micros: micros(since),
            duration_micros: micros(self.duration),
            request_id: text(&self.id),
            trace_id: self.trace.map(|trace| trace.to_string()).unwrap_or_default(),
            kept: self.why.as_str().to_owned(),
            method: self.method.to_string(),
            host: text(&self.host),
            path: self.path.to_string(),
            client: self.client.to_string(),
            peer: self.identity.as_ref().map(|identity| identity.0.to_string()),
            route: destination.and_then(|to| to.route.as_deref()).map(str::to_owned),
            rule: destination.map(|to| to.rule.to_string()),
            source: destination.and_then(|to| to.source.as_ref()).map(ToString::to_string),
            backend: destination.and_then(|to| to.backend.as_deref()).map(str::to_owned),
            endpoint: self.endpoint.as_deref().map(str::to_owned),
            attempts: self.attempts,
            status: self.status,
            grpc_status: self.grpc_status,
            reason: self.reason.map(|reason| reason.flag().to_owned()),
            decisions: self.decisions.iter().map(Said::from).collect(),
        }
    }
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Asked => "asked",
            Self::Sample => "sample",
        }
    }
}

fn first_and_last(decisions: &[Decision]) -> Box<[Decision]> {
    if decisions.len() <= MAX_DECISIONS {
        return decisions.into();
    }
    let half = MAX_DECISIONS / 2;
    let (first, last) = (&decisions[..half], &decisions[decisions.len() - half..]);
    first.iter().chain(last).cloned().collect()
}

fn short(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(MAX_TEXT)].into()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

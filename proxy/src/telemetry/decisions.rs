//! What is kept of single requests, to be asked for later: all that were refused, the newest of them, and a few others.
//!
//! The few are those whose trace id, else request id, falls under a fixed hash: every hop of a request keeps it, or none
//! does. What is not kept costs that hash; what is kept copies its texts, for a slice of the head would hold all of it.

mod kept;
mod query;
mod ring;

use std::hash::Hasher;
use std::time::Duration;

use opentelemetry::trace::{SpanContext, TraceId};
use rustc_hash::FxHasher;
use tidegate_policy::decision::DecisionRecord;

use super::exchange::{Finished, Record};
use kept::{Kept, Why};
pub use query::{DecisionQuery, InvalidQuery};
use ring::Ring;

/// How much of requests is kept.
#[derive(Clone, Copy, Debug)]
pub struct DecisionSettings {
    /// Refused requests; 0 keeps none at all.
    pub refused: usize,
    /// Other requests.
    pub others: usize,
    /// Bytes of all that is kept of refused ones, and as many of others.
    pub bytes: usize,
    /// One of so many that were not refused; 0: none but those that ask for it.
    pub one_in: u64,
}

impl Default for DecisionSettings {
    fn default() -> Self {
        Self { refused: 4_096, others: 1_024, bytes: 4 << 20, one_in: 100 }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Decisions {
    refused: Ring<Kept>,
    others: Ring<Kept>,
    one_in: u64,
    node: String,
}

impl Decisions {
    pub(super) fn new(settings: DecisionSettings, node: Option<&str>) -> Self {
        Self {
            refused: Ring::new(settings.refused, settings.bytes),
            others: Ring::new(settings.others, settings.bytes),
            one_in: settings.one_in,
            node: node.unwrap_or_default().to_owned(),
        }
    }

    /// Whether anything is kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.refused.capacity() > 0
    }

    pub(super) fn write(
        &self,
        record: &Record,
        finished: &Finished,
        duration: Duration,
        context: Option<&SpanContext>,
    ) {
        let refused = finished.reason.is_some() || record.refused_there;
        let (ring, why) = match (refused, record.asked) {
            _ if !self.is_on() => return,
            (true, _) => (&self.refused, Why::Refused),
            (false, true) => (&self.others, Why::Asked),
            (false, false) if self.is_of_sample(record, context) => (&self.others, Why::Sample),
            (false, false) => return,
        };
        let kept = Kept::of(why, (record, finished), duration, context);
        let size = kept.size();
        ring.push(kept, size);
    }

    /// What is kept and asked for, the newest first.
    pub(super) fn find(&self, query: &DecisionQuery) -> Vec<DecisionRecord> {
        let is_it = |kept: &Kept| kept.answers(query);
        let mut found = self.refused.find(query.limit, is_it);
        if !query.refused {
            found.extend(self.others.find(query.limit, is_it));
            found.sort_by_key(|kept| std::cmp::Reverse(kept.started));
            found.truncate(query.limit);
        }
        found.iter().map(|kept| kept.record(&self.node)).collect()
    }

    fn is_of_sample(&self, record: &Record, context: Option<&SpanContext>) -> bool {
        if self.one_in == 0 {
            return false;
        }
        let mut hasher = FxHasher::default();
        match (trace_of(record, context), &record.id) {
            (Some(trace), _) => hasher.write(&trace.to_bytes()),
            (None, Some(id)) => hasher.write(id.as_bytes()),
            (None, None) => return false,
        }
        hasher.finish().is_multiple_of(self.one_in)
    }
}

/// The trace that a request is in, whether it is looked at or only passed on.
fn trace_of(record: &Record, context: Option<&SpanContext>) -> Option<TraceId> {
    let passed_on = || TraceId::from_hex(record.parent.as_ref()?.to_str().ok()?.get(3..35)?).ok();
    context.map(SpanContext::trace_id).or_else(passed_on).filter(|id| *id != TraceId::INVALID)
}

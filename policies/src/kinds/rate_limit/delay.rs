//! `onLimit.delay`: who comes too early waits for his turn instead of being refused, in the order of arrival.
//!
//! A turn is a spend that lies ahead: the bucket is spent at once, and the request goes on when it would have been let
//! through. So nobody who comes later overtakes, and what waits is bounded by the rate times the longest wait.
//! Who gives up gives his turn back if nobody stands behind him; otherwise it passes unused, for those behind were told
//! when theirs comes.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::RateLimitPolicySpec;
use super::cell::Rate;
use super::filter::{Part, Ruling, Wish, undo};
use super::scope::{Counters, Scope};
use super::state::{self, LimitState};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;
use crate::pipeline::{Held, RequestContext};
use crate::time::Timestamp;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DelaySpec {
    /// The longest wait, 1ms to 1m. Who would have to wait longer is refused at once.
    at_most: GepDuration,
}

/// One request's turn in one bucket, until it goes on.
#[derive(Debug)]
struct Turn {
    state: Arc<LimitState>,
    key: u128,
    cost: u32,
    /// Of the request, where it has one of its own.
    rate: Option<Rate>,
    /// What the bucket says after it.
    after: u64,
    taken_at: Timestamp,
    has_come: bool,
}

impl DelaySpec {
    pub(super) fn compile(&self, spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) -> Duration {
        if spec.scope != Scope::Local {
            cx.error("/onLimit/delay", "`delay` goes with `scope: Local` only: each proxy lets its own wait");
        }
        for (i, _) in spec.limits.iter().enumerate().filter(|(_, limit)| limit.response_cost.is_some()) {
            let message = "with `delay`, a request must cost what is known before it: write `cost`";
            cx.error(format!("/limits/{i}/responseCost"), message);
        }
        check::duration_within(cx, "/onLimit/delay/atMost", self.at_most, ("1ms", "1m"))
    }
}

/// A turn in every bucket, or in none: the longest wait counts.
pub(super) fn take_turns<'a>(
    parts: &[Part<'a>],
    patience: Duration,
    cx: &mut RequestContext<'_>,
) -> Option<Ruling<'a>> {
    let (now, mut turns) = (cx.now, SmallVec::<[_; 4]>::new());
    let mut longest: Option<(Wish<'a>, Duration)> = None;
    let mut tightest: Option<Ruling<'a>> = None;
    for part in parts {
        let turn = match part.bucket.reserve(part.wish.cost, now, patience) {
            Ok(turn) => turn,
            // Another request was faster since the look.
            Err(wait) => {
                let spends: SmallVec<[_; 4]> = turns.iter().map(|(_, after)| *after).collect();
                undo(parts, &spends);
                return Some(Ruling::Refused(part.wish.limit, wait));
            }
        };
        if longest.is_none_or(|(_, wait)| turn.wait > wait) {
            longest = Some((part.wish, turn.wait));
        }
        let is_tighter = |ruling: &Ruling<'_>| matches!(ruling, Ruling::Allowed(_, level) if turn.level.remaining < level.remaining);
        if tightest.as_ref().is_none_or(is_tighter) {
            tightest = Some(Ruling::Allowed(part.wish.limit, turn.level));
        }
        turns.push((part.wish, turn.after));
    }
    let (wish, wait) = longest?;
    if wait.is_zero() {
        return tightest;
    }
    // In Shadow nobody waits, so nobody gives up.
    if !wish.limit.shadow {
        cx.held.extend(turns.into_iter().filter_map(|(wish, after)| wish.turn(after, now)));
    }
    Some(Ruling::Delayed(wish.limit, wait))
}

impl Wish<'_> {
    fn turn(&self, after: u64, taken_at: Timestamp) -> Option<Box<dyn Held>> {
        let (key, cost) = (self.key, self.cost);
        match self.counters() {
            Counters::Here(state) => {
                let state = Arc::clone(state);
                Some(Box::new(Turn { state, key, cost, rate: self.rate(), after, taken_at, has_come: false }))
            }
            Counters::Lent(_) => None,
        }
    }
}

impl Held for Turn {
    fn on_resume(&mut self) {
        self.has_come = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.has_come {
            let bucket = self.state.bucket(self.key, self.taken_at);
            self.rate.into_iter().fold(bucket, state::Bucket::with).retract(self.cost, self.after);
        }
    }
}

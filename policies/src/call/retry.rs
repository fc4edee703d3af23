//! Whether a request is sent again, and when. Pure: the shell sends, waits and keeps what can be replayed.
//!
//! Source: GEP-1731 for what a `retry` stanza asks for; RFC 9110 section 9.2.2 for what may be repeated unasked.

use std::time::Duration;

use http::Method;

use super::budget::RetryBudget;
use super::latency::Latency;
use super::plan::{Backoff, RetryRule};
use super::pushback::Pushback;
use crate::decision::{CallResult, Decision, Detail, Outcome};
use crate::time::Timestamp;

/// Jitter on top of a written least wait grows up to this, or to the wait itself where that is longer.
const MAX_SPREAD: Duration = Duration::from_secs(10);

/// The retries of one request.
#[derive(Debug)]
pub struct Retries<'r> {
    rule: &'r RetryRule,
    idempotent: bool,
    /// A method of which the rule speaks.
    listed: bool,
    made: u32,
    /// Of these, made beside another attempt.
    hedges: u32,
}

/// How an attempt ended, as far as another one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub result: CallResult,
    /// It is certain that no application has seen the request, whatever the result says.
    pub unsent: bool,
    /// The request's body can be sent from its beginning once more.
    pub replayable: bool,
    /// What the answer says about another attempt.
    pub asked: Option<Pushback>,
}

/// What follows from the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// What the attempt gave is the answer.
    Settled(Settled),
    /// Another attempt, after this wait.
    Again { after: Duration },
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// An answer, or a failure, that the rule does not ask to be tried again.
    NotRetried,
    /// All retries have been made.
    Exhausted,
    /// The request may have been processed, and twice may be once too often.
    Unsafe,
    /// The body is gone: too large to be kept.
    BodyGone,
    /// The backend gets as many retries as it may.
    OverBudget,
    /// The answer asks for none, or for a longer wait than the rule has patience for.
    PushedBack,
    /// The whole request would be over before another attempt began.
    OutOfTime,
    /// Nobody is left who is well, and a second attempt beside the first would wait in the same line.
    NoOther,
}

impl Settled {
    /// What metrics and decisions call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRetried => "not_retried",
            Self::Exhausted => "exhausted",
            Self::Unsafe => "unsafe",
            Self::BodyGone => "body_gone",
            Self::OverBudget => "over_budget",
            Self::PushedBack => "pushed_back",
            Self::OutOfTime => "out_of_time",
            Self::NoOther => "no_other",
        }
    }
}

/// Whether a request of this method may be repeated without being asked to (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || *method == Method::PUT || *method == Method::DELETE
}

impl<'r> Retries<'r> {
    pub fn new(rule: &'r RetryRule, method: &Method) -> Self {
        let listed = rule.methods.is_empty() || rule.methods.contains(method);
        Self { rule, idempotent: is_idempotent(method) || rule.allow_unsafe, listed, made: 0, hedges: 0 }
    }

    /// As they stand after so many.
    pub(crate) fn after(rule: &'r RetryRule, method: &Method, made: u32) -> Self {
        Self { made, ..Self::new(rule, method) }
    }

    /// How many have been made.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// Decides after an attempt, with so much time `left` for the whole request. A retry is taken from `budget` and counted
    /// here.
    pub fn next(
        &mut self,
        ended: Ended,
        (now, left): (Timestamp, Option<Duration>),
        budget: &RetryBudget,
        rng: &mut fastrand::Rng,
    ) -> Next {
        if let Err(settled) = self.judge(ended) {
            return Next::Settled(settled);
        }
        let after = match (self.rule.max_wait, ended.asked) {
            (Some(_), Some(Pushback::Never)) => return Next::Settled(Settled::PushedBack),
            (Some(most), Some(Pushback::After(asked))) if asked > most => {
                return Next::Settled(Settled::PushedBack);
            }
            (Some(_), Some(Pushback::After(asked))) => asked.max(self.wait(rng)),
            (Some(_), None) | (None, _) => self.wait(rng),
        };
        if left.is_some_and(|left| after >= left) {
            return Next::Settled(Settled::OutOfTime);
        }
        // Last, because it takes.
        if !budget.retry(self.rule.budget, now) {
            return Next::Settled(Settled::OverBudget);
        }
        self.made += 1;
        Next::Again { after }
    }

    /// Whether the rule asks for another attempt, and may make one.
    pub(super) fn judge(&self, ended: Ended) -> Result<(), Settled> {
        let safe = self.rule.on.wants(&ended).filter(|_| self.listed).ok_or(Settled::NotRetried)?;
        if self.made >= self.rule.attempts {
            Err(Settled::Exhausted)
        } else if !safe && !self.idempotent {
            Err(Settled::Unsafe)
        } else if !ended.replayable {
            Err(Settled::BodyGone)
        } else {
            Ok(())
        }
    }

    /// The policy's word on what [`Retries::next`] has just said.
    pub fn decision(&self, next: Next) -> Option<Decision> {
        let said = self.rule.said.as_ref()?;
        match next {
            Next::Again { .. } => Some(said.decide(Outcome::Retried, Some(Detail::Attempt(self.made + 1)))),
            Next::Settled(Settled::NotRetried) => None,
            Next::Settled(settled) => Some(said.decide(Outcome::NotRetried, Some(Detail::Settled(settled)))),
        }
    }

    /// The policy's word on what [`Retries::hedge`] has just said.
    pub fn hedge_decision(&self, hedged: Result<(), Settled>) -> Option<Decision> {
        let said = self.rule.said.as_ref()?;
        Some(match hedged {
            Ok(()) => said.decide(Outcome::Hedged, Some(Detail::Attempt(self.made + 1))),
            Err(settled) => said.decide(Outcome::NotRetried, Some(Detail::Settled(settled))),
        })
    }

    /// Whether an attempt that ended so is the answer, whatever others beside it would say.
    pub fn is_answer(&self, ended: &Ended) -> bool {
        self.rule.on.wants(ended).is_none()
    }

    /// How long an attempt that begins now may go unanswered before another is made beside it; `None`: none is.
    pub fn hedge_after(&self, latency: Option<&Latency>, now: Timestamp) -> Option<Duration> {
        let hedge = self.rule.hedge.as_ref()?;
        let may = self.listed && self.idempotent && self.hedges < hedge.max && self.made < self.rule.attempts;
        hedge.delay(latency, now).filter(|_| may)
    }

    /// Takes one attempt beside those under way, which is counted as a retry.
    ///
    /// # Errors
    /// Why there is none.
    pub fn hedge(
        &mut self,
        replayable: bool,
        (now, left): (Timestamp, Option<Duration>),
        budget: &RetryBudget,
    ) -> Result<(), Settled> {
        let most = self.rule.hedge.as_ref().map_or(0, |hedge| hedge.max);
        if self.made >= self.rule.attempts || self.hedges >= most {
            return Err(Settled::Exhausted);
        } else if !self.listed || !self.idempotent {
            return Err(Settled::Unsafe);
        } else if !replayable {
            return Err(Settled::BodyGone);
        } else if left.is_some_and(|left| left.is_zero()) {
            return Err(Settled::OutOfTime);
        } else if !budget.retry(self.rule.budget, now) {
            return Err(Settled::OverBudget);
        }
        (self.made, self.hedges) = (self.made + 1, self.hedges + 1);
        Ok(())
    }

    fn wait(&self, rng: &mut fastrand::Rng) -> Duration {
        let factor = 1_u32.checked_shl(self.made).unwrap_or(u32::MAX);
        match self.rule.backoff {
            Backoff::Exponential { base, max } => jitter(base.saturating_mul(factor).min(max), rng),
            Backoff::AtLeast(minimum) => {
                let spread = minimum.saturating_mul(factor).min(minimum.max(MAX_SPREAD));
                minimum.saturating_add(jitter(spread, rng))
            }
        }
    }
}

fn jitter(up_to: Duration, rng: &mut fastrand::Rng) -> Duration {
    Duration::from_nanos(rng.u64(..=u64::try_from(up_to.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;

//! Whether a request is sent again, and when. Pure: the shell sends, waits and keeps what can be replayed.
//!
//! Source: GEP-1731 for what a `retry` stanza asks for; RFC 9110 section 9.2.2 for what may be repeated unasked.

use std::time::Duration;

use http::Method;

use super::budget::RetryBudget;
use crate::decision::CallResult;
use crate::model::Retry;
use crate::reason::Reason;
use crate::time::Timestamp;

/// The first wait where the rule sets none, and what waits then grow up to.
const BASE: Duration = Duration::from_millis(25);
const MAX_UNSET: Duration = Duration::from_millis(250);
/// Jitter on top of a written backoff grows up to this, or to the backoff itself where that is longer.
const MAX_SPREAD: Duration = Duration::from_secs(10);

/// The retries of one request.
#[derive(Debug)]
pub struct Retries<'r> {
    rule: &'r Retry,
    idempotent: bool,
    made: u32,
}

/// How an attempt ended, as far as another one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub result: CallResult,
    /// It is certain that no application has seen the request, whatever the result says.
    pub unsent: bool,
    /// The request's body can be sent from its beginning once more.
    pub replayable: bool,
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
}

/// Whether a request of this method may be repeated without being asked to (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || *method == Method::PUT || *method == Method::DELETE
}

impl<'r> Retries<'r> {
    pub fn new(rule: &'r Retry, method: &Method) -> Self {
        Self { rule, idempotent: is_idempotent(method), made: 0 }
    }

    /// Decides after an attempt. A retry is taken from `budget` and counted here.
    pub fn next(
        &mut self,
        ended: Ended,
        budget: &RetryBudget,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Next {
        if let Err(settled) = self.judge(ended) {
            return Next::Settled(settled);
        }
        // Last, because it takes.
        if !budget.retry(now) {
            return Next::Settled(Settled::OverBudget);
        }
        let after = self.wait(rng);
        self.made += 1;
        Next::Again { after }
    }

    fn judge(&self, ended: Ended) -> Result<(), Settled> {
        let safe = match ended.result {
            // Whoever lists a code says that such an answer may be asked for again, whatever the method.
            CallResult::Status(status) if self.rule.codes.contains(&status) => true,
            CallResult::Status(_) | CallResult::Grpc(_) | CallResult::Connected => {
                return Err(Settled::NotRetried);
            }
            CallResult::Failed(reason) if is_connection_failure(reason) => {
                ended.unsent || reason.answer().retry_safe || self.idempotent
            }
            CallResult::Failed(_) => return Err(Settled::NotRetried),
        };
        if self.made >= self.rule.attempts {
            Err(Settled::Exhausted)
        } else if !safe {
            Err(Settled::Unsafe)
        } else if !ended.replayable {
            Err(Settled::BodyGone)
        } else {
            Ok(())
        }
    }

    /// Exponential, with full jitter above the minimum that the rule sets (GEP-1731: never earlier than `backoff`).
    fn wait(&self, rng: &mut fastrand::Rng) -> Duration {
        let factor = 1_u32.checked_shl(self.made).unwrap_or(u32::MAX);
        match self.rule.backoff {
            None => jitter(BASE.saturating_mul(factor).min(MAX_UNSET), rng),
            Some(minimum) => {
                let spread = minimum.saturating_mul(factor).min(minimum.max(MAX_SPREAD));
                minimum.saturating_add(jitter(spread, rng))
            }
        }
    }
}

/// Failures of the way to the endpoint or of the endpoint itself. What the mesh refused is not retried: the caps and
/// breakers that said no guard every endpoint of the backend.
fn is_connection_failure(reason: Reason) -> bool {
    match reason {
        Reason::ConnectFailed
        | Reason::ConnectTimeout
        | Reason::UpstreamTlsUntrusted
        | Reason::UpstreamTlsFailed
        | Reason::UpstreamReset
        | Reason::UpstreamProtocol
        | Reason::RequestTimeout => true,
        Reason::BadRequest
        | Reason::ConnectRefused
        | Reason::UpgradeUnsupported
        | Reason::Misdirected
        | Reason::BadHandshake
        | Reason::NoRoute
        | Reason::NoBackend
        | Reason::InvalidBackend
        | Reason::InvalidFilter
        | Reason::UpstreamTlsInvalid
        | Reason::NoEndpoint
        | Reason::Unauthenticated
        | Reason::RateLimited
        | Reason::CircuitOpen
        | Reason::EndpointsOpen
        | Reason::ConnectionCap
        | Reason::PendingCap
        | Reason::RequestCap
        | Reason::ClientGone
        | Reason::ClientStalled
        | Reason::IdleTimeout
        | Reason::Draining
        | Reason::Internal => false,
    }
}

fn jitter(up_to: Duration, rng: &mut fastrand::Rng) -> Duration {
    Duration::from_nanos(rng.u64(..=u64::try_from(up_to.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(codes: &[u16], attempts: u32, backoff: Option<u64>) -> Retry {
        Retry { codes: codes.into(), attempts, backoff: backoff.map(Duration::from_millis) }
    }

    fn status(code: u16) -> Ended {
        Ended { result: CallResult::Status(code), unsent: false, replayable: true }
    }

    fn failed(reason: Reason) -> Ended {
        Ended { result: CallResult::Failed(reason), unsent: false, replayable: true }
    }

    fn first(rule: &Retry, method: &Method, ended: Ended) -> Next {
        let rng = &mut fastrand::Rng::with_seed(1);
        Retries::new(rule, method).next(ended, &RetryBudget::default(), Timestamp::ZERO, rng)
    }

    fn retried(rule: &Retry, method: &Method, ended: Ended) -> bool {
        matches!(first(rule, method, ended), Next::Again { .. })
    }

    #[test]
    fn listed_codes_are_retried_and_others_are_not() {
        let rule = rule(&[502, 503], 1, None);
        assert!(retried(&rule, &Method::GET, status(503)));
        for code in [200, 404, 500, 504] {
            assert_eq!(first(&rule, &Method::GET, status(code)), Next::Settled(Settled::NotRetried));
        }
        let grpc = Ended { result: CallResult::Grpc(14), ..status(200) };
        assert_eq!(first(&rule, &Method::POST, grpc), Next::Settled(Settled::NotRetried));
    }

    #[test]
    fn a_listed_code_lets_a_post_be_sent_again() {
        assert!(retried(&rule(&[503], 1, None), &Method::POST, status(503)));
    }

    #[test]
    fn connection_errors_are_retried_without_any_code() {
        let rule = rule(&[], 1, None);
        for reason in
            [Reason::ConnectFailed, Reason::ConnectTimeout, Reason::UpstreamReset, Reason::RequestTimeout]
        {
            assert!(retried(&rule, &Method::GET, failed(reason)), "{reason:?}");
        }
        assert!(!retried(&rule, &Method::GET, status(503)));
    }

    #[test]
    fn a_post_is_sent_again_only_if_nobody_can_have_seen_it() {
        let rule = rule(&[503], 1, None);
        assert!(retried(&rule, &Method::POST, failed(Reason::ConnectFailed)));
        for reason in [Reason::UpstreamReset, Reason::RequestTimeout, Reason::UpstreamProtocol] {
            let next = first(&rule, &Method::POST, failed(reason));
            assert_eq!(next, Next::Settled(Settled::Unsafe), "{reason:?}");
        }
        let unsent = Ended { unsent: true, ..failed(Reason::UpstreamReset) };
        assert!(retried(&rule, &Method::PATCH, unsent));
    }

    #[test]
    fn what_the_mesh_refused_is_refused() {
        let rule = rule(&[503], 3, None);
        for reason in Reason::ALL.into_iter().filter(|reason| !is_connection_failure(*reason)) {
            let next = first(&rule, &Method::GET, failed(reason));
            assert_eq!(next, Next::Settled(Settled::NotRetried), "{reason:?}");
        }
    }

    #[test]
    fn a_body_that_is_gone_is_not_sent_again() {
        let gone = Ended { replayable: false, ..status(503) };
        let next = first(&rule(&[503], 1, None), &Method::PUT, gone);
        assert_eq!(next, Next::Settled(Settled::BodyGone));
    }

    #[test]
    fn two_attempts_are_two_retries() {
        let (rule, budget) = (rule(&[503], 2, None), RetryBudget::default());
        let (mut retries, mut rng) = (Retries::new(&rule, &Method::GET), fastrand::Rng::with_seed(1));
        let mut next = || retries.next(status(503), &budget, Timestamp::ZERO, &mut rng);
        assert!(matches!(next(), Next::Again { .. }) && matches!(next(), Next::Again { .. }));
        assert_eq!(next(), Next::Settled(Settled::Exhausted));
    }

    #[test]
    fn an_empty_budget_ends_it_and_a_settled_request_takes_nothing_from_it() {
        let (rule, budget) = (rule(&[503], 20, None), RetryBudget::default());
        let mut rng = fastrand::Rng::with_seed(1);
        let mut next =
            |ended| Retries::new(&rule, &Method::GET).next(ended, &budget, Timestamp::ZERO, &mut rng);
        for _ in 0..100 {
            assert_eq!(next(status(200)), Next::Settled(Settled::NotRetried));
        }
        for _ in 0..10 {
            assert!(matches!(next(status(503)), Next::Again { .. }));
        }
        assert_eq!(next(status(503)), Next::Settled(Settled::OverBudget));
    }

    proptest! {
        #[test]
        fn the_wait_is_never_below_the_backoff_and_never_above_its_bound(
            backoff in 0_u64..100_000, made in 0_u32..200, seed in any::<u64>(),
        ) {
            let rule = rule(&[], u32::MAX, Some(backoff));
            let retries = Retries { made, ..Retries::new(&rule, &Method::GET) };
            let (wait, minimum) = (retries.wait(&mut fastrand::Rng::with_seed(seed)), Duration::from_millis(backoff));
            prop_assert!(wait >= minimum);
            prop_assert!(wait <= minimum + minimum.max(MAX_SPREAD));
            prop_assert!(made > 0 || wait <= minimum * 2);
        }

        #[test]
        fn without_a_backoff_the_wait_is_short_and_differs(made in 0_u32..200, seed in any::<u64>()) {
            let rule = rule(&[], u32::MAX, None);
            let retries = Retries { made, ..Retries::new(&rule, &Method::GET) };
            let rng = &mut fastrand::Rng::with_seed(seed);
            let waits = [retries.wait(rng), retries.wait(rng)];
            prop_assert!(waits.iter().all(|wait| *wait <= MAX_UNSET) && waits[0] != waits[1]);
        }
    }
}

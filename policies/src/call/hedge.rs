//! When a second attempt is made beside a first one that has not answered ("hedging"; J. Dean and L. A. Barroso, "The Tail at
//! Scale", 2013). Pure: the shell races the attempts and drops the losers.

use std::sync::Arc;
use std::time::Duration;

use super::healthy::is_well;
use super::latency::Latency;
use crate::balance::EndpointState;
use crate::snapshot::Target;
use crate::time::Timestamp;

/// When to ask somebody else too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hedge {
    pub after: HedgeAfter,
    /// So many attempts beside the first, at most; each is one of the rule's `attempts` too.
    pub max: u32,
}

/// How long an attempt may go unanswered before the next is made beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    Fixed(Duration),
    /// As long as so many of a thousand of the backend's calls take at most. Until enough of them are known: no hedge.
    Permille(u32),
}

impl Hedge {
    pub fn asks_latency(&self) -> bool {
        matches!(self.after, HedgeAfter::Permille(_))
    }

    /// How long to wait for an attempt that begins now.
    pub(super) fn delay(&self, latency: Option<&Latency>, now: Timestamp) -> Option<Duration> {
        match self.after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::Permille(permille) => latency?.quantile(permille, now),
        }
    }
}

/// Whether anybody is left who would take a call: a second question to the same endpoint waits in the same line, so where it
/// is the only one that is well, there is none. Health checks and breakers are asked, as they are before every call.
pub fn has_other(target: &Target, tried: &[Arc<EndpointState>], now: Timestamp) -> bool {
    let Ok(backend) = &target.backend else { return false };
    let is_left = |(index, endpoint): (usize, &Arc<EndpointState>)| {
        let untried = !tried.iter().any(|one| Arc::ptr_eq(one, endpoint));
        untried && endpoint.weight() > 0 && is_well(target, index, endpoint, now)
    };
    backend.endpoints.iter().enumerate().any(is_left)
}

//! When a second attempt is made beside a first one that has not answered ("hedging"; J. Dean and L. A. Barroso, "The Tail at
//! Scale", 2013). Pure: the shell races the attempts and drops the losers.

use std::sync::Arc;
use std::time::Duration;

use super::latency::Latency;
use crate::balance::EndpointState;
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

/// Whether anybody is left to ask: a second question to the same endpoint waits in the same line.
pub fn has_other(endpoints: &[Arc<EndpointState>], tried: &[Arc<EndpointState>]) -> bool {
    let untried = |endpoint: &&Arc<EndpointState>| !tried.iter().any(|one| Arc::ptr_eq(one, endpoint));
    endpoints.iter().filter(untried).any(|endpoint| endpoint.weight() > 0)
}

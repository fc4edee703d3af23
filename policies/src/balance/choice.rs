//! The question for one call, and what is wanted of the answer besides balance.

use std::sync::Arc;

use super::{Balancer, EndpointState, SlowStart};
use crate::health::CapKey;
use crate::time::Timestamp;

/// What is wanted of a choice besides balance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// Taken if it is among the endpoints and admitted, whatever its load and its weight: who has a session there goes
    /// back there.
    pub prefer: Option<&'a Arc<EndpointState>>,
    /// Tried before, the latest last: taken only where no other is left, the latest last of all.
    pub avoid: &'a [Arc<EndpointState>],
    /// The hash of what the request has to go by, where it is asked for; see [`super::HashKey`].
    pub key: Option<u64>,
    /// Whom it is counted with, where caps count keys apart.
    pub counted: CapKey,
}

/// The endpoint for one call.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub balancer: &'a Balancer,
    /// Those that the balancer was bound to, in their order.
    pub endpoints: &'a [Arc<EndpointState>],
    pub wish: Wish<'a>,
    pub now: Timestamp,
}

/// As an algorithm asks.
pub(super) struct Asked<'a, A> {
    pub(super) endpoints: &'a [Arc<EndpointState>],
    /// Not these.
    pub(super) barred: &'a [Arc<EndpointState>],
    pub(super) admits: &'a A,
    pub(super) key: Option<u64>,
    pub(super) slow_start: Option<&'a SlowStart>,
    pub(super) now: Timestamp,
}

impl Choice<'_> {
    /// The index of an endpoint that `admits` lets through; `None` where there is none with a weight. None of those to
    /// avoid as long as there is another; where there is none, the first of them is forgiven first.
    pub fn pick(&self, admits: impl Fn(usize) -> bool, rng: &mut fastrand::Rng) -> Option<usize> {
        match &self.balancer.instead {
            Some(instead) => Choice { balancer: instead, ..*self }.would_pick(admits, rng),
            None => self.would_pick(admits, rng),
        }
    }

    /// The same, in Shadow too.
    pub(super) fn would_pick(
        &self,
        admits: impl Fn(usize) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        if let Some(index) = self.preferred().filter(|index| admits(*index)) {
            return Some(index);
        }
        let Wish { avoid, key, .. } = self.wish;
        (0..=avoid.len()).find_map(|forgiven| {
            let asked = Asked {
                endpoints: self.endpoints,
                barred: &avoid[forgiven..],
                admits: &admits,
                key,
                slow_start: self.balancer.settings.slow_start.as_ref(),
                now: self.now,
            };
            self.balancer.among(&asked, rng)
        })
    }

    /// Where the one who asks has a session.
    pub fn preferred(&self) -> Option<usize> {
        let Wish { prefer, avoid, .. } = self.wish;
        let prefer = prefer.filter(|prefer| !avoid.iter().any(|tried| Arc::ptr_eq(tried, prefer)))?;
        self.endpoints.iter().position(|one| Arc::ptr_eq(one, prefer))
    }
}

impl<A: Fn(usize) -> bool> Asked<'_, A> {
    pub(super) fn takes(&self, index: usize) -> bool {
        let Some(endpoint) = self.endpoints.get(index) else { return false };
        !self.barred.iter().any(|tried| Arc::ptr_eq(tried, endpoint)) && (self.admits)(index)
    }
}

//! Which endpoints would take a call now: asked once for each admission, however often the pick looks.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::super::healthy::Healthy;
use crate::balance::EndpointState;
use crate::health::{BoundCap, Cap, CircuitGuard};
use crate::time::Timestamp;

/// A bit for each endpoint; 512 of them fit without an allocation.
pub(super) struct Admitting(SmallVec<[u64; 8]>);

const BITS: usize = u64::BITS as usize;

impl Admitting {
    fn none(len: usize) -> Self {
        Self(smallvec![0; len.div_ceil(BITS)])
    }

    pub(super) fn all(len: usize) -> Self {
        Self(smallvec![u64::MAX; len.div_ceil(BITS)])
    }

    /// Those whose breakers would let this call through; of one that ramps, that is decided by chance.
    pub(super) fn ask(
        guard: &CircuitGuard,
        endpoints: &[Arc<EndpointState>],
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Self {
        Self::of(guard, endpoints, |guarded| {
            guarded.would_admit(now) && guarded.breakers.iter().all(|b| b.breaker.ramp_admits(now, rng))
        })
    }

    /// The same, where all that ramp take what comes.
    pub(super) fn ask_whatever_ramps(
        guard: &CircuitGuard,
        endpoints: &[Arc<EndpointState>],
        now: Timestamp,
    ) -> Self {
        Self::of(guard, endpoints, |guarded| guarded.would_admit(now))
    }

    fn of(
        guard: &CircuitGuard,
        endpoints: &[Arc<EndpointState>],
        mut admits: impl FnMut(&crate::health::GuardedEndpoint) -> bool,
    ) -> Self {
        let mut these = Self::none(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            if guard.endpoint(index, endpoint).is_none_or(&mut admits) {
                these.0[index / BITS] |= 1 << (index % BITS);
            }
        }
        these
    }

    /// Takes out endpoints that health checks keep calls from.
    pub(super) fn without_unhealthy(&mut self, healthy: Healthy<'_>, endpoints: &[Arc<EndpointState>]) {
        if healthy.is_asked() {
            let unhealthy = (0..endpoints.len()).filter(|index| !healthy.admits(*index, &endpoints[*index]));
            unhealthy.for_each(|index| self.bar(index));
        }
    }

    /// Takes out endpoints whose cap on requests is reached, and returns one of these caps.
    pub(super) fn without_full<'g>(
        &mut self,
        guard: &'g CircuitGuard,
        endpoints: &[Arc<EndpointState>],
    ) -> Option<&'g BoundCap> {
        if !guard.caps_endpoints() {
            return None;
        }
        let mut found = None;
        for (index, endpoint) in endpoints.iter().enumerate() {
            let cap = guard.endpoint(index, endpoint).and_then(|guarded| guarded.caps.as_ref());
            if let Some(cap) =
                cap.filter(|cap| self.has(index) && endpoint.weight() > 0 && cap.is_full(Cap::Requests))
            {
                self.bar(index);
                found = Some(cap);
            }
        }
        found
    }

    pub(super) fn has(&self, index: usize) -> bool {
        self.0[index / BITS] & 1 << (index % BITS) != 0
    }

    pub(super) fn bar(&mut self, index: usize) {
        self.0[index / BITS] &= !(1 << (index % BITS));
    }
}

//! How many endpoints of a backend may be kept from calls at once, and what is done where too many are.
//!
//! Health checks count too: an endpoint that they find unhealthy takes of the share as one that is ejected does, for it is as
//! much missed; and neither is left over for the panic threshold (Envoy, "Panic threshold": what is not healthy, for whatever
//! reason, is not available). What checks find is never overruled by the share: if they find more unhealthy than may be
//! ejected, no breaker ejects one more, and those that were ejected before stay so until their time is over.
//!
//! An endpoint is ejected while one of its breakers is open or half-open. Whoever wants to open one asks here, under one
//! lock for the backend, so that the share of ejected endpoints is never above what is written, however many threads ask.
//! A push that takes endpoints away may leave too many of the rest ejected: then the first of them are pardoned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::breaker::{Breaker, PhaseChange, Trip};
use super::{SharedEndpoint, Turns};
use crate::balance::EndpointState;
use crate::time::Timestamp;

/// As written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionLimits {
    /// Of the endpoints that take calls.
    pub max_percent: u8,
    /// One may be ejected even if that is more than the percents say.
    pub at_least_one: bool,
    /// Where less than so many percent are left, all are used, ejected or not; 0: never.
    pub panic_percent: u8,
    /// The last one that is left may be ejected as well, and one that is the only one in any case.
    pub last_too: bool,
}

/// See the module. Lives in the state store, so that calls under a snapshot before the last push are counted too.
#[derive(Debug)]
pub(crate) struct Ejections {
    members: Mutex<Members>,
    /// How many are ejected (high half), and of how many (low half).
    counts: AtomicU64,
    /// The endpoints are others than before: there may be too many ejected among them.
    changed: AtomicBool,
    pub(super) turns: Turns,
}

/// Whether health checks keep calls from an endpoint, by its number.
pub(crate) type Unhealthy<'a> = &'a dyn Fn(usize, &Arc<EndpointState>) -> bool;

#[derive(Debug)]
struct Members {
    limits: EjectionLimits,
    all: Vec<Member>,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<EndpointState>,
    pub(super) breakers: Vec<Arc<Breaker>>,
    /// What others say of it.
    pub(super) shared: Option<Arc<SharedEndpoint>>,
}

impl Default for EjectionLimits {
    fn default() -> Self {
        Self { max_percent: 50, at_least_one: false, panic_percent: 0, last_too: false }
    }
}

impl EjectionLimits {
    /// How many of `all` endpoints.
    pub fn most(self, all: u32) -> u32 {
        let share = u64::from(all) * u64::from(self.max_percent.min(100)) / 100;
        let least = self.at_least_one || self.last_too && all == 1;
        let share = u32::try_from(share).unwrap_or(all).max(u32::from(least)).min(all);
        if self.last_too { share } else { share.min(all.saturating_sub(1)) }
    }

    /// Both, where so few of `all` are `left` that all are used.
    pub(crate) fn panic(self, left: u32, all: u32) -> Option<(u32, u32)> {
        let is_panic = u64::from(left) * 100 < u64::from(self.panic_percent) * u64::from(all);
        is_panic.then_some((left, all))
    }
}

impl Default for Ejections {
    fn default() -> Self {
        let members = Members { limits: EjectionLimits::default(), all: Vec::new() };
        Self {
            members: Mutex::new(members),
            counts: AtomicU64::new(0),
            changed: AtomicBool::new(false),
            turns: Turns::default(),
        }
    }
}

impl Ejections {
    /// The endpoints and limits of a new snapshot.
    pub(super) fn set(&self, limits: EjectionLimits, all: Vec<Member>) {
        let mut members = self.members.lock();
        *members = Members { limits, all };
        self.recount(&members);
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Opens the breaker of an endpoint, if one more may be ejected beside those that are `unhealthy`. Else it stays closed and says why it should not be.
    pub(super) fn eject(
        &self,
        endpoint: &Arc<EndpointState>,
        trip: Trip,
        unhealthy: Unhealthy<'_>,
        now: Timestamp,
    ) -> Option<PhaseChange> {
        let members = self.members.lock();
        if !members.may_eject(endpoint, unhealthy) {
            trip.spare();
            return None;
        }
        let change = trip.open(now);
        self.recount(&members);
        change
    }

    /// Lets `suspect` have an endpoint left alone, if one more may be.
    pub(super) fn suspect(&self, endpoint: &Arc<EndpointState>, suspect: impl FnOnce(bool)) {
        let members = self.members.lock();
        suspect(members.may_eject(endpoint, &|_, _| false));
        self.recount(&members);
    }

    /// An endpoint may have come back.
    pub(super) fn refresh(&self) {
        self.recount(&self.members.lock());
    }

    /// Pardons whoever is too many since the last push.
    pub(super) fn settle(&self, now: Timestamp) {
        if !self.changed.load(Ordering::Relaxed) || !self.changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let members = self.members.lock();
        let (ejected, all) = members.count();
        let excess = ejected.saturating_sub(members.limits.most(all));
        let ejected = members.all.iter().filter(|member| member.counts() && member.is_ejected());
        for member in ejected.take(usize::try_from(excess).unwrap_or(usize::MAX)) {
            member.breakers.iter().for_each(|breaker| _ = breaker.pardon(now));
            member.shared.iter().for_each(|shared| shared.overrule());
        }
        self.recount(&members);
    }

    /// How many of how many are left, where that is so few that all are used.
    pub(crate) fn panic(&self, limits: EjectionLimits) -> Option<(u32, u32)> {
        let (ejected, all) = self.counts();
        limits.panic(all.saturating_sub(ejected), all)
    }

    /// How many endpoints are ejected, and of how many.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let counts = self.counts.load(Ordering::Relaxed);
        ((counts >> 32) as u32, counts as u32)
    }

    fn recount(&self, members: &Members) {
        let (ejected, all) = members.count();
        self.counts.store(u64::from(ejected) << 32 | u64::from(all), Ordering::Relaxed);
        self.turns.note();
    }
}

impl Members {
    fn may_eject(&self, endpoint: &Arc<EndpointState>, unhealthy: Unhealthy<'_>) -> bool {
        let is_it = |member: &Member| Arc::ptr_eq(&member.endpoint, endpoint);
        match self.all.iter().enumerate().find(|(_, member)| is_it(member)) {
            Some((index, member))
                if member.counts() && !member.is_ejected() && !unhealthy(index, endpoint) =>
            {
                let is_gone = |(index, member): &(usize, &Member)| {
                    member.counts() && (member.is_ejected() || unhealthy(*index, &member.endpoint))
                };
                let gone = self.all.iter().enumerate().filter(is_gone).count();
                let (_, all) = self.count();
                u32::try_from(gone).unwrap_or(u32::MAX) < self.limits.most(all)
            }
            // One more breaker of it changes nothing, and what takes no calls, or is unhealthy, is not missed.
            _ => true,
        }
    }

    fn count(&self) -> (u32, u32) {
        let taking = self.all.iter().filter(|member| member.counts());
        taking.fold((0, 0), |(ejected, all), member| (ejected + u32::from(member.is_ejected()), all + 1))
    }
}

impl Member {
    fn counts(&self) -> bool {
        self.endpoint.weight() > 0
    }

    fn is_ejected(&self) -> bool {
        self.breakers.iter().any(|breaker| breaker.phase().holds_back())
            || self.shared.as_ref().is_some_and(|shared| shared.is_avoided())
    }
}

#[cfg(test)]
mod tests;

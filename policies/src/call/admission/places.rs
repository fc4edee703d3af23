//! Places under caps: of several, all or none.

use std::sync::Arc;

use smallvec::SmallVec;

use super::refuse;
use crate::balance::EndpointState;
use crate::decision::{Decisions, Detail};
use crate::health::{BoundCap, Cap, CapKey, CapPermit, CircuitGuard};
use crate::pipeline::LocalReply;
use crate::reason::Reason;

/// Three of the scopes fit without an allocation.
pub(crate) type CapPermits = SmallVec<[CapPermit; 3]>;

/// A place under each of these caps. What was taken of the first ones is given back where a later one refuses; in Shadow it
/// counts as taken above the limit from then on, for enforcement would not have taken it.
pub(super) fn take<'a>(
    (guard, cap): (&CircuitGuard, Cap),
    caps: impl Iterator<Item = &'a BoundCap>,
    places: &mut CapPermits,
    (shadowed, decisions): (&mut bool, &mut Decisions),
) -> Result<(), LocalReply> {
    for bound in caps {
        if *shadowed {
            places.push(bound.count_excess(cap));
            continue;
        }
        let place = bound.acquire(cap, guard.circuit.mode);
        if place.as_ref().is_none_or(CapPermit::is_excess) {
            refused(guard, (bound, cap), decisions)?;
            *shadowed = true;
            places.iter_mut().for_each(CapPermit::turn_excess);
        }
        places.extend(place);
    }
    Ok(())
}

/// The cap on a request's key, if there is one. Whoever has no key, and must have one, is refused.
pub(super) fn of_key(
    (guard, cap): (&CircuitGuard, Cap),
    key: CapKey,
    (shadowed, decisions): (&mut bool, &mut Decisions),
) -> Result<Option<BoundCap>, LocalReply> {
    let Some(keyed) = guard.key_caps() else { return Ok(None) };
    match key {
        CapKey::Uncounted => Ok(None),
        CapKey::Of(key) => Ok(Some(keyed.of(key))),
        CapKey::Missing => {
            if !std::mem::replace(shadowed, true) {
                refused(guard, (&keyed.of_nobody(), cap), decisions)?;
            }
            Ok(None)
        }
    }
}

/// Leave to open a connection to this endpoint; `None` where there is none.
pub(crate) fn connection(guard: &CircuitGuard, endpoint: &Arc<EndpointState>) -> Option<CapPermits> {
    let mode = guard.circuit.mode;
    guard.caps_on(endpoint).map(|cap| cap.acquire(Cap::Connections, mode)).collect()
}

/// Leave to wait for a connection to this endpoint.
pub(crate) fn pending(
    guard: &CircuitGuard,
    endpoint: &Arc<EndpointState>,
    decisions: &mut Decisions,
) -> Result<CapPermits, LocalReply> {
    let (mut places, mut shadowed) = (CapPermits::new(), false);
    take((guard, Cap::Pending), guard.caps_on(endpoint), &mut places, (&mut shadowed, decisions))?;
    Ok(places)
}

/// Leave to try once more.
pub(crate) fn retry(
    guard: &CircuitGuard,
    key: CapKey,
    decisions: &mut Decisions,
) -> Result<CapPermits, LocalReply> {
    let (mut places, mut shadowed) = (CapPermits::new(), false);
    let own = of_key((guard, Cap::Retries), key, (&mut shadowed, decisions))?;
    let caps = guard.shared_caps().chain(&own);
    take((guard, Cap::Retries), caps, &mut places, (&mut shadowed, decisions))?;
    Ok(places)
}

/// Writes down that no connection to this endpoint may be opened: the reply, unless the policy is in Shadow.
pub(crate) fn connection_cap_reached(
    guard: &CircuitGuard,
    endpoint: &Arc<EndpointState>,
    decisions: &mut Decisions,
) -> Result<(), LocalReply> {
    let limited = || guard.caps_on(endpoint).filter(|cap| cap.limit(Cap::Connections).is_some());
    match limited().find(|cap| cap.is_full(Cap::Connections)).or_else(|| limited().next()) {
        Some(cap) => refused(guard, (cap, Cap::Connections), decisions),
        None => Ok(()),
    }
}

/// Writes down that this cap is reached.
pub(super) fn refused(
    guard: &CircuitGuard,
    (bound, cap): (&BoundCap, Cap),
    decisions: &mut Decisions,
) -> Result<(), LocalReply> {
    let reason = match cap {
        Cap::Connections => Reason::ConnectionCap,
        Cap::Pending => Reason::PendingCap,
        Cap::Requests => Reason::RequestCap,
        Cap::Retries => Reason::RetryCap,
    };
    let Some(rule) = bound.rule() else { return Ok(()) };
    let detail = bound.limit(cap).map(Detail::Cap);
    refuse(guard, decisions, &rule.rule, (reason, detail)).map_or(Ok(()), Err)
}

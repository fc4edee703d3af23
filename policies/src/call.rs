//! What may be called next, and what a call's outcome means: caps, breakers and balancing in one admission.
//!
//! The shell asks [`admit`] before every attempt and holds the returned [`Attempt`] while the call lasts; every
//! count the attempt took is given back when it is dropped, so a cancelled call leaks nothing.

use std::sync::Arc;

use crate::balance::EndpointState;
use crate::decision::{CallOutcome, Decisions};
use crate::pipeline::LocalReply;
use crate::snapshot::{BackendState, Target};
use crate::time::Timestamp;

/// Leave to call one endpoint once.
#[derive(Debug)]
pub struct Attempt {
    pub endpoint: Arc<EndpointState>,
}

/// Decides whether and where the next attempt goes: backend breaker, request cap, then P2C among the endpoints
/// whose own breakers admit. What the rules said is appended to `decisions`.
///
/// # Errors
/// The refusal, with its headers (`retry-after` while a circuit is open).
pub fn admit(
    target: &Target,
    backend: &BackendState,
    now: Timestamp,
    rng: &mut fastrand::Rng,
    decisions: &mut Decisions,
) -> Result<Attempt, LocalReply> {
    let _ = (target, backend, now, rng, decisions);
    Err(crate::reason::Reason::NoEndpoint.into())
}

/// A request that waits for a connection holds this; it counts against the cap on pending requests.
#[derive(Debug)]
pub struct PendingPermit(());

/// An open connection holds this; it counts against the cap on connections.
#[derive(Debug)]
pub struct ConnectionPermit(());

impl Attempt {
    /// Leave to open one more connection, or `None` at the cap: wait for a pooled one, as pending.
    pub fn open_connection(&self) -> Option<ConnectionPermit> {
        Some(ConnectionPermit(()))
    }

    /// Leave to wait for a pooled connection.
    ///
    /// # Errors
    /// [`crate::Reason::PendingCap`] at the cap.
    pub fn wait_pending(&self, decisions: &mut Decisions) -> Result<PendingPermit, LocalReply> {
        let _ = decisions;
        Ok(PendingPermit(()))
    }

    /// Tells the breakers how the call ended. The in-flight count is kept until the returned guard is dropped (the
    /// response body may still stream).
    pub fn record(&mut self, outcome: CallOutcome, now: Timestamp) {
        let _ = (outcome, now);
    }
}

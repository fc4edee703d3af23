//! Which of a rule's backends takes a request: by weight and chance, or by who asks.
//!
//! Everything that keeps a user where they are is computed from what every proxy knows alike (names, weights and the
//! request itself), by hashes that are written down in [`hash`]: so sidecars agree without talking to each other, and
//! go on agreeing after a restart or an upgrade. Nothing here remembers a request, and no user's key is ever shown.

mod cohort;
mod cookie;
pub(crate) mod hash;
mod rendezvous;
mod session;
mod user;

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, request};

use crate::decision::Decisions;
use crate::model::Peer;

pub use cohort::{BoundCohort, Cohort, Seat};
pub use cookie::{CookieSettings, SameSite, is_cookie_name, is_cookie_path};
pub use session::{Leads, Session, Sessions};
pub use user::{KeySource, Missing, UserKey, UserKeys};

pub(crate) use cookie::values as cookie_values;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use session::token_again;

/// What the choice of a backend may look at, and where it says what it did.
pub struct PickContext<'a> {
    /// As the client sent it: no filter has run yet.
    pub head: &'a request::Parts,
    pub peer: &'a Peer,
    /// The request came over TLS.
    pub secure: bool,
    /// Tells the time since the Unix epoch, by the clock on the wall: other proxies read what this one writes. Few rules ask.
    pub unix: &'a dyn Fn() -> Duration,
    pub rng: &'a mut fastrand::Rng,
    pub decisions: &'a mut Decisions,
    /// See [`crate::pipeline::RequestContext::response_headers`].
    pub response_headers: &'a mut HeaderMap,
}

impl fmt::Debug for PickContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickContext")
            .field("head", self.head)
            .field("peer", self.peer)
            .finish_non_exhaustive()
    }
}

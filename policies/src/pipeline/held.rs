//! What a filter keeps of a request beyond its judgement: a place that it takes up, a cost that only the answer tells.

use std::fmt::Debug;
use std::num::NonZeroU32;

use http::response;

use crate::time::Timestamp;

/// Dropped when the answer is out, when the client has gone, or when the request came to nothing.
pub trait Held: Debug + Send + Sync {
    /// Called when the request goes on after an effect.
    fn on_resume(&mut self) {}

    /// Called once with the head of the answer, whoever gave it, before any filter changes it.
    fn on_response(&mut self, _head: &response::Parts, _now: Timestamp) {}

    /// How fast the body of a backend's answer may go out, if it is to be held back.
    fn bytes_per_second(&self) -> Option<NonZeroU32> {
        None
    }
}

/// How fast the body of a backend's answer may go out: the slowest that anybody wants.
pub fn slowest(held: &[Box<dyn Held>]) -> Option<NonZeroU32> {
    held.iter().filter_map(|held| held.bytes_per_second()).min()
}

/// Shows an answer to all that is held.
pub fn answered(held: &mut [Box<dyn Held>], head: &response::Parts, now: Timestamp) {
    held.iter_mut().for_each(|held| held.on_response(head, now));
}

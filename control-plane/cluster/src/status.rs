//! Tells objects how they fare: `.status`, written by server-side apply, by the leader alone, and only what changed.

mod merge;
mod planner;
mod writer;

pub use merge::{is_shared, merge, own};
pub use planner::{Outcome, Plan, Planner, Write};
pub(crate) use writer::{FIELD_MANAGER, keep};

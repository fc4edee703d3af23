//! The pure policy core: documents in, verdicts out, no I/O.
//!
//! Everything that decides lives here; the sidecar, the control plane and the command line call the same
//! functions. This crate must not touch tokio, hyper, tonic, the file system, a clock or a thread's RNG: time
//! comes in as [`Timestamp`], randomness as a seeded [`fastrand::Rng`], configuration as text or as
//! [`model`] values. `clippy.toml` beside this crate and a dependency test hold it to that.

pub mod attach;
pub mod balance;
pub mod call;
pub mod cases;
pub mod codec;
pub mod decision;
pub mod describe;
pub mod diff;
pub mod document;
pub mod explain;
pub(crate) mod expression;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod jwt;
pub mod kind;
pub mod kinds;
pub mod lint;
pub mod matching;
pub mod mesh;
pub mod model;
pub mod objects;
pub mod overload;
pub mod pick;
pub mod pipeline;
pub mod plugin;
pub mod reason;
pub mod resolve;
pub(crate) mod retry_after;
pub mod simulate;
pub mod snapshot;
pub mod state;
pub mod story;
pub(crate) mod sync;
pub mod time;

pub use decision::{Decision, Decisions, Outcome};
pub use reason::Reason;
pub use time::Timestamp;

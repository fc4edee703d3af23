//! What many proxies know of failing endpoints, put together, as sans-I/O state machines: time is an argument, messages
//! are values, and nothing here waits.
//!
//! Each proxy has a [`Witness`] for each endpoint that it calls, and says what it has seen as a [`Statement`]. A [`Board`]
//! takes the statements of all and says which endpoints are suspect: where as many failures came in a row as would trip
//! the breaker of one proxy, only seen by several.
//!
//! # What is promised
//!
//! * Fewer than a quorum never make an endpoint suspect, whatever they say and how often. A proxy has one voice, and what
//!   it says counts for no more than its part of the quorum.
//! * Who has called the endpoint with success since it began to fail for others speaks against it: an endpoint that only
//!   some cannot reach is theirs to avoid.
//! * Every suspicion ends: when most who called the endpoint since then had success, or when nobody has seen a failure
//!   for as long as is written.
//! * As long as nothing fails, nobody has anything to say: whose endpoints are fine is asked when one is said to fail.
//!
//! Statements are about the past and say how long ago, so clocks need not agree.

mod board;
mod rules;
mod statement;
mod votes;
mod witness;

pub use board::{Board, Most};
pub use rules::Rules;
pub use statement::{Failing, Statement};
pub use votes::Suspicion;
pub use witness::Witness;

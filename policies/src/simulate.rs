//! Replays traffic through policies on a virtual clock: yesterday's log, or traffic that is made up, against tomorrow's limits.
//!
//! Requests go the way of every request, as a [`crate::story`]; many are under way at one time, so that places, permits and
//! breakers are held for as long as a call would last. Everything here is bounded whatever comes: what is remembered of the
//! traffic are [sums](Tally), [series](Series) of a fixed number of steps, and the [most frequent](Frequent) keys. The same
//! traffic, seed and documents give the same result anywhere.
//!
//! What a log cannot say is said by [`Plan::notes`]: a replay must never look more certain than it is.

mod answers;
mod compare;
mod frequent;
pub mod log;
mod order;
mod outcomes;
mod plan;
pub mod profile;
mod queue;
mod request;
mod series;
mod simulator;
mod tally;
#[cfg(test)]
mod tests;
mod threshold;

pub use answers::Answers;
pub use compare::{Change, Comparison, Ended, Example};
pub use frequent::Frequent;
pub use order::Reorder;
pub use outcomes::Outcomes;
pub use plan::{Plan, Side};
pub use request::{Logged, Request};
pub use series::Series;
pub use simulator::Simulator;
pub use tally::{BackendTally, Column, KeyTally, RouteTally, RuleTally, Tally, Verdict};
pub use threshold::{Measured, Threshold};

//! Who is served when there is more to do than a service can: no more at one time than it takes, the important ones first,
//! tenants alike or by their weights, and the others told at once.
//!
//! [`Gradient`] learns how much that is; [`Gate`] counts who is in service and lets the next in. All of it is told the time and
//! waits for nothing: a request whose turn has not come has a [`Ticket`], a future of the standard library that the shell
//! awaits for as long as it may. However a request ends, its [`Place`] is dropped and with it everything that it took.

mod gate;
mod gradient;
mod queue;
mod ticket;

pub use gate::{Arrival, Gate, Limit, Load, Place, Settings};
pub use gradient::{Bounds, Gradient};
pub use queue::{CLASSES, Kin, MOST_WEIGHT, Queueing};
pub use ticket::Ticket;

#[cfg(test)]
mod simulation;

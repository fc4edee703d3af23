//! Leases of rate limits that many proxies share, as sans-I/O state machines: time is an argument, messages are
//! values, and nothing here waits.
//!
//! A [`Server`] divides one limit among the clients that report demand for it. A [`Lease`] is what one client holds
//! of it, and a [`Cell`] is what its requests spend.
//!
//! # What is promised
//!
//! * The shares that clients may hold never add up to more than the limit, whatever messages are lost, late,
//!   doubled or out of order, and across restarts of the server. Two rules make it so. A share counts as held until
//!   a later one was reported as applied, or until its lease has run out; only what is left is given to others.
//!   And a lease runs from the moment at which the client sent the report that the assignment answers, a moment
//!   that both sides agree lies before the server received it: a late assignment is a shorter one.
//! * Capacity moves, tokens do not: a raised share starts without the tokens it has room for. So within any time
//!   `t`, all clients together admit at most `burst + rate × t`, plus one request for each client whose part of the
//!   burst is less than one.
//! * A client that is cut off keeps its share for `ttl + reuse`, then falls back to a cap of its own. From then on the
//!   bound grows by that cap for every client that is cut off, and by no more.
//!
//! Both clocks must run at the same speed; they need not agree on the time.

mod bucket;
mod cell;
mod client;
mod divide;
mod message;
mod owner;
mod server;

pub use cell::{Cell, Rate};
pub use client::{Fallback, Lease, State};
pub use message::{Assignment, BucketId, ClientId, Held, Report, Share, Terms, Usage, Version};
pub use owner::owner;
pub use server::Server;

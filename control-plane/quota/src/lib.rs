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
//! * Tokens are never made twice. A raised share brings room; tokens come with it only from the server's store, which
//!   earns for the part that nobody holds and takes back what clients have no room for. So within any time `t`, all
//!   clients together admit at most `burst + rate × t`, plus one request for each client whose part of the burst is less
//!   than one. A server that restarts knows nothing of what was spent before: of a bucket that nobody reports as long as
//!   shares are lent, that can be one burst more.
//! * A client that has no share yet, or is cut off for `ttl + reuse`, admits what its fallback says. What it admits
//!   before its first share is taken from the store; when it is cut off, the bound grows by the fallback of each such
//!   client, and by no more.
//! * What some have no room for goes to those who refuse requests, within one report and one rebalance.
//!
//! Both clocks must run at the same speed; they need not agree on the time.

mod bucket;
mod cell;
mod client;
mod divide;
mod message;
mod owner;
mod server;
mod store;

pub use cell::{Cell, Level, Rate};
pub use client::{Fallback, Lease, State};
pub use message::{
    Assignment, BucketId, ClientId, Held, Limit, MESH_DOMAIN, Report, Share, Terms, Tokens, Usage, Version,
};
pub use owner::owner;
pub use server::{Most, Server, Slice};

//! A control plane in a cluster, against an API server that does as it is told, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod api;
mod checking;
mod gateways;
mod identity;
mod leading;
mod objects;
mod proxy;
mod rotating;
mod source;
mod state;
mod status;
mod support;
mod webhook;

//! The command as its users meet it: whole processes over real sockets.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]

mod commands;
mod mtls;
mod on_demand;
mod process;
mod rolling;
mod run;
mod shared_limits;
mod shared_outliers;
mod sidecar;
mod simulate;
mod why;

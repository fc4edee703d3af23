//! The control plane in a Kubernetes cluster: what a directory of files is to it elsewhere, the API is here.
//!
//! This crate is the only place that knows Kubernetes' API. What it reads becomes readings for the fold of
//! [`tidegate_control_plane`], which computes and serves as ever; what it writes is status, and what only one of several
//! replicas may do.

pub mod app;
pub mod args;
pub mod check;

mod clock;
mod errors;
mod events;
pub mod gateways;
pub mod identity;
pub mod kinds;
pub mod leader;
mod peers;
mod secrets;
pub mod source;
pub mod status;
pub mod webhook;

use std::hash::{BuildHasher, RandomState};

pub use app::{Options, RunError, Started, run, start};
pub use args::{ClusterArgs, with_kubernetes};

/// For what must differ between replicas, and need not be secret.
fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

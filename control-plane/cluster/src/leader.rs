//! Who of several replicas does what must be done by one: writes statuses, makes Gateways' objects, renews certificates.
//!
//! By a Lease, as Kubernetes' own components do. Serving proxies needs no leader.

mod election;
mod lease;

pub use election::{Action, Election, Record, Terms};
pub(crate) use lease::{Lease, elect};

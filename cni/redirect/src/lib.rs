//! Which connections of a network namespace are led to its sidecar, and how iptables is told.
//!
//! Three ask for the same: `tidegate redirect` in a pod's init container, the CNI plugin on its node, and injection, which
//! writes down for both of them what they shall do. So what is asked for is a value ([`Rules`]), what is written is pure
//! ([`script`]), and only [`tables`] runs a program, in the network namespace of the thread that calls it.

mod rules;
mod script;
pub mod tables;

pub use rules::{Inbound, MAX_WRITTEN_BYTES, Rules};
pub use script::{Family, Found, missing, script};

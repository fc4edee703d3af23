//! The data plane: accepts connections, asks the policy core, moves the bytes.

pub mod admin;
pub mod telemetry;

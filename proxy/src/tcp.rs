//! Connections whose bytes are none of our business: opaque TCP, and TLS that is ended elsewhere.
//!
//! Nothing in here looks at what passes. Where a connection goes is decided by its caller.

mod relay;

pub(crate) use relay::{Passed, Relay};

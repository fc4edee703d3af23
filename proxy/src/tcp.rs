//! Connections whose bytes are none of our business: opaque TCP, and TLS that is ended elsewhere.
//!
//! Nothing in here looks at what passes; plugins may. Where a connection goes is decided by its caller.

mod forward;
mod relay;
mod splice;

pub(crate) use forward::{Abort, Carried, IDLE_TIMEOUT, Upstream, carry, meet_plugins, open};
pub(crate) use relay::{Passed, Relay};
pub(crate) use splice::{Pipes, Raw};

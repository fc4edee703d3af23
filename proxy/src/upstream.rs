//! The upstream side: a call to a backend, in as many attempts as it takes, over pooled connections.

mod call;
mod connect;
mod group;
mod http1;
mod http2;
mod lease;
mod open_call;
mod pool;
mod race;
mod retry;
mod spare;
mod target;
mod tls;

pub(crate) use call::{Answered, Call};
pub(crate) use connect::{connect_mesh, connect_opaque, connect_speaking, keepalive};
pub(crate) use open_call::{OpenCall, report};
pub(crate) use pool::{Pools, Protocol};
pub(crate) use retry::{X_TIDEGATE_ATTEMPT, call};
pub(crate) use target::head_copy;
pub(crate) use tls::{UpstreamStream, failure as tls_failure, prepare, refused_us};

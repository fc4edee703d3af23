//! The upstream side: one call to one endpoint, over a pooled connection.

mod call;
mod connect;
mod group;
mod http1;
mod http2;
mod lease;
mod open_call;
mod pool;
mod target;

pub(crate) use call::{Answered, Call, call};
pub(crate) use connect::keepalive;
pub(crate) use open_call::OpenCall;
pub(crate) use pool::Pools;

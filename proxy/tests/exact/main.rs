//! Limits that a Redis counts for all proxies together.

mod counting;
mod redis;
mod strangers;

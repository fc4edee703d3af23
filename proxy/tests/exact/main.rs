//! Limits that somebody else counts for all proxies together: a Redis, or a rate limit service.

mod counting;
mod redis;
mod service;
mod strangers;

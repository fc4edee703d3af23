//! Limits that somebody else counts for all proxies together: a Redis, or a rate limit service.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

mod asked;
mod counting;
#[path = "../proxy/mesh.rs"]
mod mesh;
mod proxies;
mod redis;
mod service;
mod strangers;

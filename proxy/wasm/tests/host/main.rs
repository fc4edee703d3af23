//! The host, from outside: plugins written by hand in the text format, one for each thing to be seen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

mod calls;
mod connections;
mod lives;
mod loading;
mod module;
mod phases;
mod streams;
mod wasi;
mod world;

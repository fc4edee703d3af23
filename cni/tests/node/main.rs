//! The plugin as a node has it: asking a scripted API server over real sockets, called as a runtime calls it, installed into
//! directories. What needs a network namespace of its own is in `.ci/cni.py`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod asking;
mod calls;
mod installing;
mod server;

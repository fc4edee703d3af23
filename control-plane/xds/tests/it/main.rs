//! The protocol from outside: each rule by itself, random histories, and real sockets.
#![cfg(test)]

mod asking;
mod client;
mod convergence;
mod in_force;
mod loopback;

mod session;
mod support;
mod wire;

//! Whole proxies in this process, on loopback. One binary for all of them: a test costs no link of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

mod backend_tls;
mod carried_tunnels;
mod client_certificates;
mod cohorts;
mod control_plane;
mod failures;
mod filters;
mod forwarding;
mod grpc_routes;
mod grpc_web;
mod h1_upstreams;
mod h2_conformance;
mod h2_upstreams;
mod hardening;
mod headers_in;
mod headers_out;
mod informational;
mod lifecycle;
mod mesh;
mod mirrors;
mod opaque;
mod outbound;
mod pairings;
mod retries;
mod sessions;
mod shared_connections;
mod sidecar;
mod smuggling;
mod streams;
mod tcp_routes;
mod telemetry;
mod tls;
mod tls_routes;
mod translation;
mod tunnels;

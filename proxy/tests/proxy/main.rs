//! Whole proxies in this process, on loopback. One binary for all of them: a test costs no link of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

mod backend_tls;
mod client_certificates;
mod cohorts;
mod control_plane;
mod failures;
mod filters;
mod forwarding;
mod grpc_routes;
mod hardening;
mod http3;
mod lifecycle;
mod mesh;
mod mirrors;
mod opaque;
mod outbound;
mod retries;
mod sessions;
mod sidecar;
mod streams;
mod tcp_routes;
mod telemetry;
mod tls;
mod tls_routes;

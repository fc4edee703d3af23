//! The data plane: accepts connections, asks the policy core, moves the bytes.
//!
//! What is decided, [`tidegate_policy`] decides; this crate is the I/O around it. [`app`] is the only module that
//! knows everyone. The story of one request reads top to bottom in `http/handler.rs`.

pub mod admin;
pub mod app;
mod clock;
pub mod config;
mod decisions;
mod demand;
mod effects;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod health_checks;
mod http;
mod http3;
pub mod identity;
mod inbound;
mod intake;
mod jwks;
pub mod limits;
mod listener;
mod outbound;
mod outliers;
pub mod plugins;
mod probes;
mod proxy_protocol;
pub mod state;
mod tcp;
pub mod telemetry;
mod trust;
mod upstream;
mod wait_ready;
mod workers;

pub use app::{Proxy, Running, run};
pub use clock::{HeldClock, Played};
pub use config::{ProxyArgs, ProxyConfig};
pub use listener::{ListenerStatus, Listeners};
/// The host of plugins, for those who run one without a proxy.
pub use tidegate_wasm as wasm;
pub use wait_ready::{WaitArgs, wait_ready};

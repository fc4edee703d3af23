//! How the proxy is told what to do: flags at start ([`ProxyArgs`]), then resources from the control plane.

mod apply;
mod args;
mod duration;
mod proxy_config;
mod store;

pub use apply::{Applier, Change};
pub use args::ProxyArgs;
pub use proxy_config::{ConfigError, GatewayPorts, ProxyConfig};
pub use store::Store;

//! How the proxy is told what to do: flags at start ([`ProxyArgs`]), then resources from the control plane.

mod apply;
mod args;
mod duration;
mod file;
mod proxy_config;
mod store;
pub(crate) mod xds;

pub use apply::{Applied, Applier};
pub use args::ProxyArgs;
pub use file::{LastGood, LoadError};
pub use proxy_config::{ConfigError, GatewayPorts, ProxyConfig};
pub use store::Store;

//! How the proxy is told what to do: flags at start ([`ProxyArgs`]), then resources from the control plane.

mod apply;
mod args;
mod binds;
mod duration;
mod last_good;
mod proxy_config;
mod proxy_headers;
mod store;
pub(crate) mod xds;

pub use apply::{Applier, Change};
pub use args::ProxyArgs;
pub use last_good::{LastGood, LoadError, Stored};
pub use proxy_config::{ConfigError, GatewayPorts, ProxyConfig};
pub use proxy_headers::{HeaderSite, ProxyHeaders};
pub use store::Store;

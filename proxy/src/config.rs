//! How the proxy is told what to do: flags at start ([`ProxyArgs`]), then resources from the control plane.

mod apply;
mod args;
mod binds;
pub(crate) mod counters;
pub(crate) mod duration;
mod explain_to;
mod last_good;
mod on_disk;
mod proxy_config;
mod proxy_headers;
mod store;
pub(crate) mod xds;

pub use crate::probes::{Asks, Probe};
pub use apply::{Applier, Change};
pub use args::ProxyArgs;
pub use counters::CountersFile;
pub use explain_to::ExplainTo;
pub use last_good::{LastGood, Stored};
pub use on_disk::LoadError;
pub use proxy_config::{ConfigError, GatewayPorts, ProxyConfig};
pub use proxy_headers::{HeaderSite, ProxyHeaders};
pub use store::Store;

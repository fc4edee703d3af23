//! Delta xDS (ADS) as sans-I/O state machines, with thin tonic adapters.
//!
//! The crate moves opaque resources, each a name, a version and bytes under a type URL. It must not know what is
//! in them: decoding and judging is the business of whoever implements [`client::ConfigHandler`].
//! The protocol is Envoy's incremental xDS:
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>.

pub mod backoff;
pub mod ca;
pub mod client;
pub mod decisions;
pub mod outliers;
pub mod quota;
mod resources;
pub mod rls;
pub mod server;
mod wire;

pub use resources::{Name, ResourceSet, TooLarge, Version, Versioned};
pub use tidegate_proto::envoy::config::core::v3::{Locality, Node};
pub use tidegate_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
pub use wire::{MAX_MESSAGE_BYTES, UNCERTAIN};

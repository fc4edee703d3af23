//! Parts for tests: a scripted control plane, backends that misbehave on demand, clients.

pub mod authority;
pub mod backend;
pub mod body;
pub mod client;
pub mod control_plane;
pub mod frames;
pub mod http3;
pub mod otlp;
pub mod pki;
pub mod proxy_header;

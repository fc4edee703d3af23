//! The control plane: watches policy documents, checks them, pushes them to every proxy.
//!
//! A fold with I/O at its two ends: [`source`] reads, [`index`], [`world`] and [`publish`] compute, [`grpc`] and
//! [`admin`] tell. What a document means is [`tidegate_policy`]'s business, how bytes travel [`tidegate_xds`]'s.

pub mod admin;
pub mod answer;
pub mod app;
pub mod decisions;
pub mod grpc;
pub mod identity;
pub mod index;
mod limits;
pub mod metrics;
mod news;
mod outliers;
mod pace;
pub mod publish;
mod quotas;
pub mod source;
pub mod status;
pub mod world;

pub use app::{ControlPlaneArgs, ControllerArgs, Running, StartError, run, start, start_from};
pub use identity::IdentityArgs;
pub use quotas::{PeersError, QuotaArgs};

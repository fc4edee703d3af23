//! What a sidecar is told of itself, and the answers to what it asks.

use super::decode::{Result, list, required};
use super::{At, CodecError, proto};
use crate::model::{Destination, Workload};

impl From<&Workload> for proto::Workload {
    fn from(workload: &Workload) -> Self {
        let services = workload.services.iter().map(Into::into).collect();
        Self { pod: Some((&workload.name).into()), services }
    }
}

impl TryFrom<proto::Workload> for Workload {
    type Error = CodecError;

    fn try_from(message: proto::Workload) -> Result<Self> {
        let name = required(message.pod).and_then(TryInto::try_into).at("pod")?;
        Ok(Self { name, services: list(message.services, "services", TryInto::try_into)? })
    }
}

impl From<&Destination> for proto::Destination {
    fn from(found: &Destination) -> Self {
        Self { key: found.key.clone(), known: found.known }
    }
}

impl From<proto::Destination> for Destination {
    fn from(message: proto::Destination) -> Self {
        Self { key: message.key, known: message.known }
    }
}

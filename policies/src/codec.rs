//! Model <-> proto. Encoding is total; decoding validates and names the fault.
//!
//! Equal resources have equal bytes, so the hash of the bytes can be a resource's version.

mod decode;
mod decode_filter;
mod decode_route;
mod decode_tls;
mod encode;
mod encode_filter;
mod encode_tls;
mod stream;
#[cfg(test)]
mod tests;
mod workload;

use std::fmt;

use prost::Message;
use tidegate_proto::tidegate::v1 as proto;

use crate::model::{Resource, ResourceType};

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct CodecError {
    /// Path of the field, e.g. `rules[0].matches[1].path`; empty for the whole message.
    pub field: String,
    pub message: String,
}

/// The type URL, the xDS name and the message of a resource.
pub fn encode(resource: &Resource) -> (&'static str, String, Vec<u8>) {
    let bytes = match resource {
        Resource::Backend(backend) => proto::Backend::from(backend).encode_to_vec(),
        Resource::Endpoints(endpoints) => proto::Endpoints::from(endpoints).encode_to_vec(),
        Resource::Policy(policy) => proto::Policy::from(policy).encode_to_vec(),
        Resource::Listener(listener) => proto::Listener::from(listener).encode_to_vec(),
        Resource::Route(route) => proto::Route::from(route).encode_to_vec(),
        Resource::StreamRoute(route) => proto::StreamRoute::from(route).encode_to_vec(),
        Resource::Workload(workload) => proto::Workload::from(workload).encode_to_vec(),
        Resource::Destination(found) => proto::Destination::from(found).encode_to_vec(),
    };
    (resource.resource_type().type_url(), resource.name(), bytes)
}

/// Reads a resource, which must have the name under which it was sent.
///
/// # Errors
/// The first fault that is found.
pub fn decode(resource_type: ResourceType, name: &str, bytes: &[u8]) -> Result<Resource, CodecError> {
    let resource = decode_any(resource_type, bytes)?;
    let own = resource.name();
    if own != name {
        return Err(CodecError::new(format!("the message is of `{own}`, but was sent as `{name}`")));
    }
    Ok(resource)
}

/// Reads a resource, whatever its name.
pub(crate) fn decode_any(resource_type: ResourceType, bytes: &[u8]) -> Result<Resource, CodecError> {
    Ok(match resource_type {
        ResourceType::Backend => Resource::Backend(read::<proto::Backend>(bytes)?.try_into()?),
        ResourceType::Endpoints => Resource::Endpoints(read::<proto::Endpoints>(bytes)?.try_into()?),
        ResourceType::Policy => Resource::Policy(read::<proto::Policy>(bytes)?.try_into()?),
        ResourceType::Listener => Resource::Listener(read::<proto::Listener>(bytes)?.try_into()?),
        ResourceType::Route => Resource::Route(read::<proto::Route>(bytes)?.try_into()?),
        ResourceType::StreamRoute => Resource::StreamRoute(read::<proto::StreamRoute>(bytes)?.try_into()?),
        ResourceType::Workload => Resource::Workload(read::<proto::Workload>(bytes)?.try_into()?),
        ResourceType::Destination => Resource::Destination(read::<proto::Destination>(bytes)?.into()),
    })
}

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, CodecError> {
    M::decode(bytes).map_err(|error| CodecError::new(error.to_string()))
}

impl CodecError {
    fn new(message: impl Into<String>) -> Self {
        Self { field: String::new(), message: message.into() }
    }
}

/// Says in which field an error happened, from the inside out.
trait At<T> {
    fn at(self, field: impl fmt::Display) -> Result<T, CodecError>;
}

impl<T> At<T> for Result<T, CodecError> {
    fn at(self, field: impl fmt::Display) -> Self {
        self.map_err(|CodecError { field: inner, message }| {
            let field = if inner.is_empty() { field.to_string() } else { format!("{field}.{inner}") };
            CodecError { field, message }
        })
    }
}

//! What both ends put on the wire: the generated service, size limits, and how a NACK names what it refused.

use prost::Message;
use prost_types::Any;
use tidegate_proto::google::rpc::Status;
use tidegate_proto::tidegate::v1::{RejectedResource, RejectedResources};

use crate::client::Rejection;

pub(crate) mod discovery {
    #![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/envoy.service.discovery.v3.rs"));
}

/// No message of either direction may be larger, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// The subscription that means every resource of a type.
pub(crate) const WILDCARD: &str = "*";

/// The version of what a client has, but told with a NACK: no server gives it, so that whatever comes next differs.
pub const UNCERTAIN: &str = "";

/// `system_version_info` of a response that more responses of the same set follow. The field is free text for
/// people in Envoy's protocol, so other clients are not disturbed; ours knows a type is complete without it.
pub(crate) const PARTIAL: &str = "partial";

const REJECTED_TYPE_URL: &str = "type.googleapis.com/tidegate.v1.RejectedResources";
/// google.rpc.Code.INVALID_ARGUMENT
const INVALID_ARGUMENT: i32 = 3;

/// The message of a NACK is for people and repeats only so many of the reasons.
const MESSAGE_REASONS: usize = 3;

/// Builds the `error_detail` of a NACK.
pub(crate) fn encode_rejections(rejected: Vec<Rejection>) -> Status {
    let mut message: Vec<_> =
        rejected.iter().take(MESSAGE_REASONS).map(|r| format!("{}: {}", r.name, r.reason)).collect();
    if rejected.len() > MESSAGE_REASONS {
        message.push(format!("and {} more", rejected.len() - MESSAGE_REASONS));
    }
    let message = message.join("; ");
    let resource =
        |Rejection { name, reason, in_force }: Rejection| RejectedResource { name, reason, in_force };
    let resources = rejected.into_iter().map(resource).collect();
    let value = RejectedResources { resources }.encode_to_vec();
    let details = vec![Any { type_url: REJECTED_TYPE_URL.to_owned(), value }];
    Status { code: INVALID_ARGUMENT, message, details }
}

/// The resources that a NACK names; none when it does not say.
pub(crate) fn decode_rejections(status: &Status) -> Vec<RejectedResource> {
    let Some(detail) = status.details.iter().find(|d| d.type_url == REJECTED_TYPE_URL) else {
        return Vec::new();
    };
    // Details that cannot be read say nothing: the whole response then counts as refused.
    RejectedResources::decode(detail.value.as_slice()).unwrap_or_default().resources
}

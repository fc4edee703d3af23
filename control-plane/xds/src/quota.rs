//! Quotas of shared limits by Envoy's rate limit quota service (RLQS): the generated client and server, and what their
//! messages say in the words of [`tidegate_quota`].
//!
//! A client that knows our extension has leases. A plain Envoy does not: what it is told is in [`envoy`].

mod envoy;
mod message;

pub use generated::rate_limit_quota_service_client::RateLimitQuotaServiceClient;
pub use generated::rate_limit_quota_service_server::{RateLimitQuotaService, RateLimitQuotaServiceServer};

pub use envoy::envoy_response;
pub use message::{
    Names, abandon, abandoned, assignments, bucket_id, by_client, client, domain, named_assignments,
    relayed_reports, reports, response, split, usage_reports,
};
pub use tidegate_proto::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::{
    BucketAction, bucket_action,
};
pub use tidegate_proto::envoy::service::rate_limit_quota::v3::rate_limit_quota_usage_reports::BucketQuotaUsage;
pub use tidegate_proto::envoy::service::rate_limit_quota::v3::{
    BucketId as BucketNames, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
};
pub use tidegate_quota::MESH_DOMAIN;

/// A request header: the stream is that of a server, named so, which passes on what its own clients report of buckets that
/// the other one owns. Then every message names its domain, and the reports are those of many clients.
pub const RELAYED_BY: &str = "tidegate-relayed-by";

mod generated {
    #![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/envoy.service.rate_limit_quota.v3.rs"));
}

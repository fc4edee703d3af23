//! Envoy's rate limit quota service (RLQS): the generated client and server, and what leases look like on its wire.
//!
//! To the public messages ours add, in fields that others skip, what makes a lease safe: see [`tidegate_quota`]. Who does not
//! know those fields gets a token bucket and how long it may be used.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/rate_limit_quota/v3/rlqs.proto>.

mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use generated::rate_limit_quota_service_client::RateLimitQuotaServiceClient;
pub use generated::rate_limit_quota_service_server::{RateLimitQuotaService, RateLimitQuotaServiceServer};
pub use read::{assignments, reports};
use tidegate_proto::envoy::service::rate_limit_quota::v3::{
    BucketId as WireBucket,
    rate_limit_quota_response::{
        BucketAction,
        bucket_action::{AbandonAction, BucketAction as Action, QuotaAssignmentAction},
    },
    rate_limit_quota_usage_reports::BucketQuotaUsage,
};
pub use tidegate_proto::envoy::service::rate_limit_quota::v3::{
    RateLimitQuotaResponse, RateLimitQuotaUsageReports,
};
use tidegate_proto::envoy::r#type::v3::rate_limit_strategy::Strategy;
use tidegate_proto::envoy::r#type::v3::{RateLimitStrategy, TokenBucket};
use tidegate_proto::tidegate::v1::{LeaseAssignment, LeaseReport, LeaseVersion};
pub use tidegate_quota::{Assignment, BucketId, ClientId, Report};
use tidegate_quota::{Limit, Share, Version};

mod generated {
    #![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/envoy.service.rate_limit_quota.v3.rs"));
}

/// The domain that our own proxies ask by.
pub const MESH_DOMAIN: &str = "tidegate.io/mesh";

/// What a bucket is known by.
pub type Names = BTreeMap<String, String>;

/// What a client of ours sends.
pub fn usage_reports(domain: &str, reports: &[(Names, Report)]) -> RateLimitQuotaUsageReports {
    let usage = |(names, report): &(Names, Report)| BucketQuotaUsage {
        bucket_id: Some(wire_bucket(names)),
        time_elapsed: report.usage.elapsed.try_into().ok(),
        num_requests_allowed: report.usage.allowed,
        num_requests_denied: report.usage.denied,
        last_report: None,
        lease: Some(LeaseReport {
            stamp_nanos: nanos(report.stamp),
            held: report.held.map(|held| wire_version(held.version)),
            held_billionths: report.held.map_or(0, |held| held.share.as_billionths()),
            leaves: report.leaves,
            client: report.client,
            returned_millionths: report.returned.0,
        }),
    };
    let usages = (0..).zip(reports.iter().map(usage)).collect();
    RateLimitQuotaUsageReports { domain: domain.to_owned(), bucket_quota_usages: usages }
}

/// What one client is told, each with the limit of its bucket.
pub fn response<'a>(
    told: impl IntoIterator<Item = (&'a Names, &'a Assignment, Limit)>,
) -> RateLimitQuotaResponse {
    let action = |(names, assignment, limit): (&Names, &Assignment, Limit)| BucketAction {
        bucket_id: Some(wire_bucket(names)),
        bucket_action: Some(Action::QuotaAssignmentAction(QuotaAssignmentAction {
            assignment_time_to_live: assignment.terms.lease().try_into().ok(),
            rate_limit_strategy: Some(strategy(assignment.share, limit)),
            lease: Some(LeaseAssignment {
                version: Some(wire_version(assignment.version)),
                billionths: assignment.share.as_billionths(),
                stamp_nanos: nanos(assignment.stamp),
                renews: assignment.renews,
                client: assignment.client,
                tokens_millionths: assignment.tokens.0,
                ttl_nanos: nanos(assignment.terms.ttl),
                reuse_nanos: nanos(assignment.terms.reuse),
            }),
        })),
    };
    RateLimitQuotaResponse { bucket_action: told.into_iter().map(action).collect() }
}

/// That there is no limit of this bucket: nothing more is to be reported of it.
pub fn abandoned<'a>(buckets: impl IntoIterator<Item = &'a Names>) -> RateLimitQuotaResponse {
    let action = |names| BucketAction {
        bucket_id: Some(wire_bucket(names)),
        bucket_action: Some(Action::AbandonAction(AbandonAction {})),
    };
    RateLimitQuotaResponse { bucket_action: buckets.into_iter().map(action).collect() }
}

/// A share of a limit as others understand it: a bucket that holds its part of the burst, at least one request, and is
/// filled in proportion.
fn strategy(share: Share, Limit { rate, .. }: Limit) -> RateLimitStrategy {
    const FILL: Duration = Duration::from_millis(100);
    let whole = u128::from(Share::WHOLE.as_billionths());
    let part = u128::from(share.as_billionths());
    let (requests, per) = (u128::from(rate.requests), rate.per.as_nanos().max(1));
    let burst = (u128::from(rate.burst) * part / whole).max(1);
    // Whole requests about as often as that, and exactly as long as they take to be earned.
    let tokens = (requests * part / whole * FILL.as_nanos() / per).max(1);
    let interval = tokens.saturating_mul(per).saturating_mul(whole).div_ceil((requests * part).max(1));
    let interval = Duration::from_nanos(u64::try_from(interval).unwrap_or(u64::MAX));
    let number = |number: u128| u32::try_from(number).unwrap_or(u32::MAX);
    RateLimitStrategy {
        strategy: Some(Strategy::TokenBucket(TokenBucket {
            max_tokens: number(burst),
            tokens_per_fill: Some(number(tokens)),
            fill_interval: interval.try_into().ok(),
        })),
    }
}

fn wire_bucket(names: &Names) -> WireBucket {
    WireBucket { bucket: names.clone() }
}

fn wire_version(version: Version) -> LeaseVersion {
    LeaseVersion { epoch: version.epoch, number: version.number }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

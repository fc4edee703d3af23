//! What others sent, as far as it is to be used.

use std::time::Duration;

use tidegate_proto::envoy::service::rate_limit_quota::v3::RateLimitQuotaResponse;
use tidegate_proto::envoy::service::rate_limit_quota::v3::{
    rate_limit_quota_response::bucket_action::BucketAction as Action,
    rate_limit_quota_usage_reports::BucketQuotaUsage,
};
use tidegate_proto::tidegate::v1::{LeaseAssignment, LeaseReport, LeaseVersion};
use tidegate_quota::{Assignment, BucketId, ClientId, Held, Report, Share, Terms, Tokens, Usage, Version};

use super::{Names, RateLimitQuotaUsageReports};

/// Of a bucket, names and values together.
const LONGEST_NAMES: usize = 64 * 1024;

/// The reports of a message, each with its bucket's names. Where a client says nothing of leases, it is `stranger`, and the
/// report counts as sent at `now`, by the server's clock. Reports without a bucket are left out.
pub fn reports(
    message: &RateLimitQuotaUsageReports,
    domain: &str,
    (stranger, now): (ClientId, Duration),
) -> Vec<(Names, Report)> {
    let report = |usage: &BucketQuotaUsage| {
        let names = &usage.bucket_id.as_ref()?.bucket;
        let length: usize = names.iter().map(|(name, value)| name.len() + value.len()).sum();
        (length <= LONGEST_NAMES).then_some(())?;
        let lease = usage.lease.unwrap_or(LeaseReport {
            client: stranger,
            stamp_nanos: super::nanos(now),
            ..LeaseReport::default()
        });
        let elapsed = usage.time_elapsed.and_then(|elapsed| elapsed.try_into().ok()).unwrap_or_default();
        let (allowed, denied) = (usage.num_requests_allowed, usage.num_requests_denied);
        let held = lease
            .held
            .map(|held| Held { version: version(held), share: Share::billionths(lease.held_billionths) });
        let report = Report {
            client: lease.client,
            bucket: BucketId::named(domain, names),
            stamp: Duration::from_nanos(lease.stamp_nanos),
            held,
            usage: Usage { allowed, denied, elapsed },
            returned: Tokens(lease.returned_millionths),
            leaves: lease.leaves,
        };
        Some((names.clone(), report))
    };
    message.bucket_quota_usages.values().filter_map(report).collect()
}

/// The assignments of a message that say what a lease needs.
pub fn assignments(message: &RateLimitQuotaResponse, domain: &str) -> Vec<Assignment> {
    let assignment = |names: &Names, lease: LeaseAssignment| {
        Some(Assignment {
            client: lease.client,
            bucket: BucketId::named(domain, names),
            version: version(lease.version?),
            share: Share::billionths(lease.billionths),
            terms: Terms {
                ttl: Duration::from_nanos(lease.ttl_nanos),
                reuse: Duration::from_nanos(lease.reuse_nanos),
            },
            tokens: Tokens(lease.tokens_millionths),
            stamp: Duration::from_nanos(lease.stamp_nanos),
            renews: lease.renews,
        })
    };
    let actions = message.bucket_action.iter().filter_map(|action| {
        let Action::QuotaAssignmentAction(assigned) = action.bucket_action.as_ref()? else { return None };
        assignment(&action.bucket_id.as_ref()?.bucket, assigned.lease?)
    });
    actions.collect()
}

fn version(version: LeaseVersion) -> Version {
    Version { epoch: version.epoch, number: version.number }
}

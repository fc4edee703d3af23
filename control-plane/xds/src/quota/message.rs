//! Reports and assignments as messages. What cannot be read is left out: a lease that hears nothing ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use tidegate_proto::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::BucketAction;
use tidegate_proto::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::bucket_action::{
    AbandonAction, BucketAction as Action, QuotaAssignmentAction,
};
use tidegate_proto::envoy::service::rate_limit_quota::v3::rate_limit_quota_usage_reports::BucketQuotaUsage;
use tidegate_proto::envoy::service::rate_limit_quota::v3::{
    BucketId as BucketNames, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
};
use tidegate_proto::tidegate::v1::{LeaseAssignment, LeaseReport, LeaseVersion};
use tidegate_quota::{Assignment, BucketId, ClientId, Held, Report, Share, Terms, Tokens, Usage, Version};

/// What a bucket is called on the wire, without its domain.
pub type Names = BTreeMap<String, String>;

/// No report covers more: what is beyond is a mistake, and would be too much to reckon with.
const LONGEST_ELAPSED: Duration = Duration::from_secs(24 * 60 * 60);

/// The same at both ends, whatever of it they keep.
pub fn bucket_id(domain: &str, names: &Names) -> BucketId {
    BucketId::named(domain, names)
}

/// What a client says.
pub fn usage_reports(domain: &str, reports: &[(Names, Report)]) -> RateLimitQuotaUsageReports {
    let usages = reports.iter().map(|(names, report)| BucketQuotaUsage {
        bucket_id: Some(BucketNames { bucket: names.clone() }),
        time_elapsed: report.usage.elapsed.try_into().ok(),
        num_requests_allowed: report.usage.allowed,
        num_requests_denied: report.usage.denied,
        last_report: None,
        lease: Some(LeaseReport {
            stamp_nanos: nanos(report.stamp),
            held: report.held.map(|held| to_version(held.version)),
            held_billionths: report.held.map_or(0, |held| held.share.as_billionths()),
            leaves: report.leaves,
            client: report.client,
            returned_millionths: report.returned.0,
        }),
    });
    RateLimitQuotaUsageReports { domain: domain.to_owned(), bucket_quota_usages: usages.collect() }
}

/// The domain that a message names; of the first message of a stream, that of all others as well.
pub fn domain(message: &RateLimitQuotaUsageReports) -> Option<&str> {
    Some(message.domain.as_str()).filter(|domain| !domain.is_empty())
}

/// Who says it, if it is one of ours.
pub fn client(message: &RateLimitQuotaUsageReports) -> Option<ClientId> {
    message.bucket_quota_usages.iter().find_map(|usage| usage.lease.as_ref()).map(|lease| lease.client)
}

/// What a server hears. Of whoever has no leases, `now` is the stamp and nothing is known of what is held. What names
/// another client than `client` is left out: a stream speaks for one.
pub fn reports(
    message: &RateLimitQuotaUsageReports,
    domain: &str,
    client: ClientId,
    now: Duration,
) -> Vec<(Names, Report)> {
    let theirs = |usage: &&BucketQuotaUsage| usage.lease.as_ref().is_none_or(|lease| lease.client == client);
    let usages = message.bucket_quota_usages.iter().filter(theirs);
    usages.filter_map(|usage| report(usage, domain, client, now)).collect()
}

/// What a server hears of another one, which speaks for many clients. Each has a lease, and says who it is.
pub fn relayed_reports(message: &RateLimitQuotaUsageReports, domain: &str) -> Vec<(Names, Report)> {
    let read = |usage: &BucketQuotaUsage| {
        let client = usage.lease.as_ref()?.client;
        report(usage, domain, client, Duration::ZERO)
    };
    message.bucket_quota_usages.iter().filter_map(read).collect()
}

/// `now` is the stamp of who has none.
fn report(
    usage: &BucketQuotaUsage,
    domain: &str,
    client: ClientId,
    now: Duration,
) -> Option<(Names, Report)> {
    let names = usage.bucket_id.as_ref()?.bucket.clone();
    let lease = usage.lease.as_ref();
    let report = Report {
        client,
        bucket: bucket_id(domain, &names),
        stamp: lease.map_or(now, |lease| Duration::from_nanos(lease.stamp_nanos)),
        held: lease.and_then(held),
        usage: used(usage),
        returned: Tokens(lease.map_or(0, |lease| lease.returned_millionths)),
        leaves: lease.is_some_and(|lease| lease.leaves),
    };
    Some((names, report))
}

/// What a server gives to those who have leases.
pub fn response(assignments: &[(Names, Assignment)]) -> RateLimitQuotaResponse {
    let actions = assignments.iter().map(|(names, assignment)| {
        let Assignment { client, version, share, terms, tokens, stamp, renews, .. } = *assignment;
        let lease = LeaseAssignment {
            version: Some(to_version(version)),
            billionths: share.as_billionths(),
            stamp_nanos: nanos(stamp),
            renews,
            client,
            millionths: tokens.0,
            ttl_nanos: nanos(terms.ttl),
            reuse_nanos: nanos(terms.reuse),
        };
        let assigned = QuotaAssignmentAction {
            assignment_time_to_live: terms.lease().try_into().ok(),
            rate_limit_strategy: None,
            lease: Some(lease),
        };
        action(names, Action::QuotaAssignmentAction(assigned))
    });
    RateLimitQuotaResponse { bucket_action: actions.collect() }
}

/// The same in messages of about so many bytes at most, for clients that take no larger ones.
pub fn split(response: RateLimitQuotaResponse, bytes: usize) -> Vec<RateLimitQuotaResponse> {
    let (mut parts, mut left) = (Vec::<RateLimitQuotaResponse>::new(), 0);
    for action in response.bucket_action {
        let size = action.encoded_len();
        let has_room = size <= left;
        left = if has_room { left } else { bytes }.saturating_sub(size);
        match parts.last_mut() {
            Some(part) if has_room => part.bucket_action.push(action),
            _ => parts.push(RateLimitQuotaResponse { bucket_action: vec![action] }),
        }
    }
    parts
}

/// What a server says of buckets that it gives nothing of, to anybody.
pub fn abandon<'a>(buckets: impl IntoIterator<Item = &'a Names>) -> RateLimitQuotaResponse {
    let actions = buckets.into_iter().map(|names| action(names, Action::AbandonAction(AbandonAction {})));
    RateLimitQuotaResponse { bucket_action: actions.collect() }
}

/// The leases that a client is given.
pub fn assignments(response: &RateLimitQuotaResponse, domain: &str) -> Vec<Assignment> {
    named_assignments(response, domain).into_iter().map(|(_, assignment)| assignment).collect()
}

/// The same, each with the names of its bucket.
pub fn named_assignments(response: &RateLimitQuotaResponse, domain: &str) -> Vec<(Names, Assignment)> {
    let read = |action: &BucketAction| {
        let (lease, names) = (lease(action)?, &action.bucket_id.as_ref()?.bucket);
        let assignment = Assignment {
            client: lease.client,
            bucket: bucket_id(domain, names),
            version: from_version(lease.version.as_ref()?),
            share: Share::billionths(lease.billionths),
            terms: Terms {
                ttl: Duration::from_nanos(lease.ttl_nanos),
                reuse: Duration::from_nanos(lease.reuse_nanos),
            },
            tokens: Tokens(lease.millionths),
            stamp: Duration::from_nanos(lease.stamp_nanos),
            renews: lease.renews,
        };
        Some((names.clone(), assignment))
    };
    response.bucket_action.iter().filter_map(read).collect()
}

/// An answer to many clients as one for each. What is no lease names nobody, and is left out.
pub fn by_client(response: RateLimitQuotaResponse) -> BTreeMap<ClientId, RateLimitQuotaResponse> {
    let mut parts = BTreeMap::<ClientId, RateLimitQuotaResponse>::new();
    for action in response.bucket_action {
        if let Some(client) = lease(&action).map(|lease| lease.client) {
            parts.entry(client).or_default().bucket_action.push(action);
        }
    }
    parts
}

fn lease(action: &BucketAction) -> Option<&LeaseAssignment> {
    match &action.bucket_action {
        Some(Action::QuotaAssignmentAction(assigned)) => assigned.lease.as_ref(),
        _ => None,
    }
}

/// The buckets that a client shall speak of no more until somebody asks for them again.
pub fn abandoned(response: &RateLimitQuotaResponse, domain: &str) -> Vec<BucketId> {
    let read = |action: &BucketAction| match &action.bucket_action {
        Some(Action::AbandonAction(_)) => Some(bucket_id(domain, &action.bucket_id.as_ref()?.bucket)),
        _ => None,
    };
    response.bucket_action.iter().filter_map(read).collect()
}

pub(super) fn action(names: &Names, action: Action) -> BucketAction {
    BucketAction { bucket_id: Some(BucketNames { bucket: names.clone() }), bucket_action: Some(action) }
}

fn used(usage: &BucketQuotaUsage) -> Usage {
    let elapsed = usage.time_elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok());
    Usage {
        allowed: usage.num_requests_allowed,
        denied: usage.num_requests_denied,
        elapsed: elapsed.unwrap_or_default().min(LONGEST_ELAPSED),
    }
}

fn held(lease: &LeaseReport) -> Option<Held> {
    let version = from_version(lease.held.as_ref()?);
    Some(Held { version, share: Share::billionths(lease.held_billionths) })
}

fn to_version(version: Version) -> LeaseVersion {
    LeaseVersion { epoch: version.epoch, number: version.number }
}

fn from_version(version: &LeaseVersion) -> Version {
    Version { epoch: version.epoch, number: version.number }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

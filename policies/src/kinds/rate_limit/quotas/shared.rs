//! Quotas that a store counts for all proxies together (`scope: Exact`).

use std::time::Duration;

use smallvec::SmallVec;

use super::calendar::Window;
use super::{BoundQuota, Demand};
use crate::kinds::rate_limit::filter::RateLimitFilter;
use crate::kinds::rate_limit::key;
use crate::pipeline::{Holds, RequestContext, SharedBucket};

/// A quota that counts a request, and the window of it.
pub(in crate::kinds::rate_limit) type Due<'a> = SmallVec<[(Demand<'a>, Window); 2]>;

impl RateLimitFilter {
    /// The quotas of which the request would spend.
    ///
    /// # Errors
    /// This one lets no such request pass.
    pub(in crate::kinds::rate_limit) fn due(
        &self,
        wall: Duration,
        cx: &RequestContext<'_>,
    ) -> Result<Due<'_>, &BoundQuota> {
        let mut due = Due::new();
        for quota in &self.quotas {
            let demand = quota.demand(cx, self.seed).map_err(|()| quota)?;
            due.extend(demand.map(|demand| (demand, quota.calendar.window(wall))));
        }
        Ok(due)
    }
}

/// What a store is asked for. Another calendar begins anew.
pub(in crate::kinds::rate_limit) fn bucket(
    Demand { quota, most, cost, .. }: &Demand<'_>,
    window: Window,
    cx: &RequestContext<'_>,
) -> SharedBucket {
    let mut key = key::bytes(&quota.key, cx);
    key.extend(quota.calendar.describe().into_bytes());
    SharedBucket {
        limit: quota.rule.name.clone(),
        key,
        holds: Holds::Window { requests: most.requests.get(), end: window.end() },
        cost: *cost,
    }
}

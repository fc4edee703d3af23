//! Quotas that a store counts for all proxies together (`scope: Exact`).

use std::time::Duration;

use smallvec::SmallVec;

use super::BoundQuota;
use super::calendar::Window;
use crate::kinds::rate_limit::filter::{RateLimitFilter, holds};
use crate::kinds::rate_limit::key::{self, Key};
use crate::pipeline::{Holds, RequestContext, SharedBucket};

/// A quota that counts a request, and the window of it.
pub(in crate::kinds::rate_limit) type Due<'a> = SmallVec<[(&'a BoundQuota, Window); 2]>;

impl RateLimitFilter {
    /// The quotas of which the request would spend one.
    ///
    /// # Errors
    /// This one lets no such request pass.
    pub(in crate::kinds::rate_limit) fn due(
        &self,
        wall: Duration,
        cx: &RequestContext<'_>,
    ) -> Result<Due<'_>, &BoundQuota> {
        let counted = |quota: &&BoundQuota| holds(quota.when.as_deref(), cx);
        let mut due = Due::new();
        for quota in self.quotas.iter().filter(counted) {
            match key::of(&quota.key, cx, self.seed) {
                Key::Of(_) => due.push((quota, quota.calendar.window(wall))),
                Key::Skip => {}
                Key::Deny => return Err(quota),
            }
        }
        Ok(due)
    }
}

/// What a store is asked for. Another calendar begins anew.
pub(in crate::kinds::rate_limit) fn bucket(
    quota: &BoundQuota,
    window: Window,
    cx: &RequestContext<'_>,
) -> SharedBucket {
    let mut key = key::bytes(&quota.key, cx);
    key.extend(quota.calendar.describe().into_bytes());
    SharedBucket {
        limit: quota.rule.name.clone(),
        key,
        holds: Holds::Window { requests: quota.requests.get(), end: window.end() },
        cost: 1,
    }
}

//! What clients are told, each in its own way; a queue that is full drops it.

use std::time::Duration;

use tidegate_quota::{Assignment, Rate};
use tidegate_xds::quota::{
    self, Names, RateLimitQuotaResponse, by_client, envoy_response, named_assignments, response,
};

use super::Desk;
use super::caller::{Caller, Speaks};

/// Of one answer; our proxies take four times as much.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// An assignment of a bucket with these names, which is a share of this limit.
pub(in crate::quotas) type Told = (Names, Assignment, Rate);

impl Desk {
    pub(in crate::quotas) fn tell(&mut self, caller: &Caller, told: Vec<Told>, now: Duration) {
        let message = match caller.speaks {
            Speaks::Plainly => envoy_response(&told, now),
            Speaks::ForItself | Speaks::ForMany => {
                let given = told.into_iter().map(|(names, assignment, _)| (names, assignment));
                response(&given.collect::<Vec<_>>())
            }
        };
        self.send(caller, message);
    }

    /// Passes on what another replica gives to clients of this one.
    pub(in crate::quotas) fn pass(&mut self, answer: RateLimitQuotaResponse, now: Duration) {
        for (client, part) in by_client(answer) {
            match self.clients.get(&client).cloned() {
                Some(caller) if caller.speaks == Speaks::Plainly => {
                    let given = named_assignments(&part, &caller.domain).into_iter();
                    let told = given.filter_map(|(names, given)| {
                        let limit = self.limits.limit(&caller.domain, &names)?;
                        Some((names, given, limit.rate))
                    });
                    self.tell(&caller, told.collect(), now);
                }
                Some(caller) if caller.speaks == Speaks::ForItself => self.send(&caller, part),
                // It is gone, or speaks to another replica now: who gives hears that with its next report.
                _ => {}
            }
        }
    }

    fn send(&mut self, caller: &Caller, message: RateLimitQuotaResponse) {
        for part in quota::split(message, ANSWER_BYTES) {
            let many = part.bucket_action.len() as u64;
            match caller.outbox.try_send(Ok(part)) {
                Ok(()) => self.counts.assignments += many,
                Err(_) => self.counts.dropped += many,
            }
        }
    }
}

//! `retry` of a rule (GEP-1731, `HTTPRouteRetry`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::{GepDuration, TimeoutsSpec};
use crate::model::Retry;
use crate::objects::{Faults, one};

/// More retries than this help nobody; what is written above it counts as this much.
const MAX_ATTEMPTS: u32 = 100;

/// When a request is sent to a backend again. Present but empty: after connection errors, once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetrySpec {
    /// Response statuses that are tried again.
    #[serde(default)]
    #[schemars(inner(range(min = 400, max = 599)))]
    pub codes: Vec<u16>,
    /// Retries, not counting the first request.
    #[serde(default = "one")]
    pub attempts: u32,
    /// At least this long between two attempts.
    pub backoff: Option<GepDuration>,
}

impl RetrySpec {
    pub(super) fn check(&self, at: &str, timeouts: &TimeoutsSpec, faults: &mut Faults) {
        if self.attempts > MAX_ATTEMPTS {
            let attempts = self.attempts;
            faults.warn(
                format!("{at}/retry/attempts"),
                format!("{attempts} retries; no more than {MAX_ATTEMPTS} are made"),
            );
        }
        if let (Some(backoff), Some(request)) = (self.backoff, timeouts.request)
            && !request.get().is_zero()
            && backoff >= request
        {
            faults.warn(
                format!("{at}/retry/backoff"),
                format!(
                    "after {backoff} the whole request has timed out ({request}): nothing is ever retried"
                ),
            );
        }
    }

    pub(crate) fn compile(&self) -> Retry {
        let mut codes = self.codes.clone();
        codes.sort_unstable();
        codes.dedup();
        Retry {
            codes: codes.into(),
            attempts: self.attempts.min(MAX_ATTEMPTS),
            backoff: self.backoff.map(Into::into),
        }
    }
}

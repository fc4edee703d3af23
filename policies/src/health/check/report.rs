//! What health checks know of a backend, in words: what the admin page shows and `tidegate status backends` reads.

use serde::{Deserialize, Serialize};

use super::{CheckStatus, HealthGuard};
use crate::model::Mode;
use crate::time::Timestamp;

/// One `HealthCheckPolicy` at work on one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// `namespace/name`.
    pub policy: String,
    /// `file:line`, or `namespace/name@generation`.
    pub source: String,
    pub mode: Mode,
    pub backend: String,
    /// A sidecar checks only what its application calls.
    pub checked: bool,
    pub healthy_endpoints: u32,
    pub all_endpoints: u32,
    /// So few are healthy, by the checks alone, that health is ignored.
    pub ignored: bool,
    pub endpoints: Vec<CheckReport>,
}

/// One check of one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    pub endpoint: String,
    pub check: String,
    pub source: String,
    /// `healthy`, `unhealthy`, or `unknown` before the first check.
    pub state: String,
    /// In this state since so many seconds; `None` if it has never been in another.
    pub for_seconds: Option<f64>,
    /// What it failed with last: a word, and more of it.
    pub last_failure: Option<String>,
    pub last_failure_seconds_ago: Option<f64>,
    pub next_check_in_seconds: Option<f64>,
}

impl HealthReport {
    pub fn of(guard: &HealthGuard, now: Timestamp) -> Self {
        let standing = guard.standing();
        Self {
            policy: guard.health.policy.name.to_string(),
            source: guard.health.policy.source.to_string(),
            mode: guard.health.mode,
            backend: guard.backend.name.to_string(),
            checked: guard.is_watched(now),
            healthy_endpoints: standing.healthy,
            all_endpoints: standing.all,
            ignored: standing.is_panic(guard.health.panic_percent),
            endpoints: guard.status().map(|status| CheckReport::of(&status, now)).collect(),
        }
    }
}

impl CheckReport {
    fn of(CheckStatus { rule, endpoint, view }: &CheckStatus, now: Timestamp) -> Self {
        let state = match (view.healthy, view.judged) {
            (true, true) => "healthy",
            (false, true) => "unhealthy",
            (_, false) => "unknown",
        };
        Self {
            endpoint: endpoint.to_string(),
            check: rule.name.to_string(),
            source: rule.source.to_string(),
            state: state.to_owned(),
            for_seconds: view.since.map(|since| now.since(since).as_secs_f64()),
            last_failure: view.failed.map(|(cause, _)| format!("{}: {cause}", cause.as_str())),
            last_failure_seconds_ago: view.failed.map(|(_, at)| now.since(at).as_secs_f64()),
            next_check_in_seconds: view.due.map(|due| due.since(now).as_secs_f64()),
        }
    }
}

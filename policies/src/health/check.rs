//! Active health checks: what endpoints are asked beside traffic, and what follows from their answers.
//!
//! Pure: the shell asks, reports a [`Finding`] with the time, and is told when to ask again. What is configured comes
//! with each event and what is known lives in the state store, by policy, check, backend and endpoint: so an edit of an
//! interval or a threshold never puts an endpoint back in use that is known to fail.
//! (Envoy, "Health checking", for thresholds, the panic threshold and the weight of the first answer.)

mod cause;
mod guard;
mod machine;
mod report;
mod share;
mod state;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::decision::RuleRef;
use crate::model::{Mode, PolicyRef};

pub use cause::Cause;
pub use guard::{CheckPlace, CheckStatus, HealthChange, HealthGuard};
pub use machine::{CheckView, Turn};
pub use report::{CheckReport, HealthReport};
pub use share::{Standing, is_panic};

/// A `HealthCheckPolicy`, compiled.
#[derive(Debug)]
pub struct HealthCheck {
    pub policy: Arc<PolicyRef>,
    pub mode: Mode,
    /// An endpoint is healthy if all of them find it so.
    pub checks: Box<[CheckRule]>,
    pub initial: Initial,
    /// With a smaller share of healthy endpoints than this, health is ignored; 0: never.
    pub panic_percent: u8,
    /// The rule that is named when health is ignored.
    pub panic_rule: Arc<RuleRef>,
    /// A sidecar checks what it called within this time.
    pub idle_after: Duration,
}

/// What is thought of an endpoint before it has been checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    #[default]
    Healthy,
    Unhealthy,
}

#[derive(Debug)]
pub struct CheckRule {
    pub rule: Arc<RuleRef>,
    pub probe: Probe,
    pub timing: CheckTiming,
    /// Asked at this port instead of the endpoint's own.
    pub port: Option<u16>,
}

/// How an endpoint is asked.
#[derive(Debug)]
pub enum Probe {
    Http(HttpProbe),
    /// `grpc.health.v1.Health/Check` for this service; only SERVING will do.
    Grpc {
        service: Arc<str>,
    },
    /// It accepts a connection; by TLS, the handshake as well.
    Tcp,
}

#[derive(Debug)]
pub struct HttpProbe {
    pub method: Method,
    /// With the query, if there is one.
    pub path: Arc<str>,
    pub host: Option<HeaderValue>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub statuses: Statuses,
    /// Of one that wants no more calls: it gets none from the first such answer on.
    pub draining: Statuses,
}

/// A set of HTTP statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(pub Vec<RangeInclusive<u16>>);

/// When to ask, and how many answers it takes to believe them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckTiming {
    /// From the beginning of one check to that of the next.
    pub interval: Duration,
    /// The same while the endpoint is unhealthy.
    pub unhealthy_interval: Duration,
    pub timeout: Duration,
    /// Each wait is longer or shorter by up to this much of itself.
    pub jitter_percent: u8,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
}

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Passed,
    Failed(Cause),
    /// The endpoint itself says that it wants no more calls: it need not say so twice.
    Draining(Cause),
}

impl Statuses {
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl HttpProbe {
    /// What an answer with this status means.
    pub fn judge(&self, status: u16) -> Finding {
        if self.draining.contains(status) {
            Finding::Draining(Cause::Draining(status))
        } else if self.statuses.contains(status) {
            Finding::Passed
        } else {
            Finding::Failed(Cause::Status(status))
        }
    }
}

impl Finding {
    pub const fn cause(self) -> Option<Cause> {
        match self {
            Self::Passed => None,
            Self::Failed(cause) | Self::Draining(cause) => Some(cause),
        }
    }
}

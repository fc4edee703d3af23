//! On what a breaker tripped, in words that an operator can check.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::health::{Counts, Span};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evidence {
    FailureRate {
        counts: Counts,
        window: Span,
    },
    SlowCalls {
        counts: Counts,
        window: Span,
        slower_than: Duration,
    },
    Consecutive {
        failures: u32,
    },
    /// Shares of successes, from 0 to 1: the endpoint's, the mean of the others, and the bound that follows from it.
    SuccessRate {
        own: f64,
        peers: f64,
        bound: f64,
    },
    /// The endpoint's usual latency, and that of the others.
    Latency {
        own: Duration,
        peers: Duration,
        factor: f64,
    },
    /// A response asked to be left alone for so long.
    RetryAfter(Duration),
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FailureRate { counts: Counts { calls, failures }, window } => {
                write!(f, "{failures} of {calls} calls failed within {window}")
            }
            Self::SlowCalls { counts: Counts { calls, failures }, window, slower_than } => {
                write!(f, "{failures} of {calls} calls took longer than {slower_than:?} within {window}")
            }
            Self::Consecutive { failures: 1 } => f.write_str("a call failed"),
            Self::Consecutive { failures } => write!(f, "{failures} calls in a row failed"),
            Self::SuccessRate { own, peers, bound } => write!(
                f,
                "{:.1} % of calls succeeded, where the other endpoints have {:.1} % (outlier below {:.1} %)",
                own * 100.0,
                peers * 100.0,
                bound * 100.0
            ),
            Self::Latency { own, peers, factor } => write!(
                f,
                "latency is usually {own:.1?}, that of the other endpoints {peers:.1?} (outlier from {factor} times)"
            ),
            Self::RetryAfter(wait) => write!(f, "a response asked to wait {wait:?}"),
        }
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

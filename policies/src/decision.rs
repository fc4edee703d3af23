//! What the policies said about one request: the record that makes every refusal traceable to a line of YAML.

mod record;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use smallvec::SmallVec;

use crate::balance::Balanced;
use crate::call::Settled;
use crate::health::BreakerPhase;
use crate::jwt::TokenFault;
use crate::model::{PolicyRef, SourceRef};
use crate::overload::Load;
use crate::pick::KeySource;
use crate::reason::Reason;

pub use record::{DecisionRecord, Said};

/// One policy rule's word on one request (or on one attempt of it).
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    pub policy: Arc<PolicyRef>,
    pub rule: Arc<RuleRef>,
    pub outcome: Outcome,
    /// What the rule knew when it decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// What a rule knew, in one value; prints (and serializes) as `remaining=3`, `state=half_open`. A value and not a
/// text, because most decisions allow and are read by nobody: they must not allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Requests that the tightest limit would still let through at once.
    Remaining(u32),
    /// How long until the refusing limit lets one more through.
    RetryAfter(Duration),
    /// How long the request waits for its turn.
    Delayed(Duration),
    /// How things stood at the gate of a service.
    Load(Load),
    /// How fast the body of the answer may go out.
    BytesPerSecond(u32),
    /// The breaker's phase when it was asked.
    State(BreakerPhase),
    /// The cap that is reached.
    Cap(u32),
    /// So many endpoints are ejected that all are used: how many are left, and of how many.
    Panic { left: u32, all: u32 },
    /// How many of the endpoints are healthy.
    Healthy { healthy: u32, all: u32 },
    /// Where the key of the user was found; never the key itself.
    Key(KeySource),
    /// How the endpoint was chosen.
    Balanced(Balanced),
    /// What is wrong with the token; never the token itself.
    Token(TokenFault),
    /// Whether the rule matches cannot be told: it asks for what is not there. It counts against the one who asks.
    Undecidable,
    /// The store of shared counters gave no answer: the proxy decided by its own.
    StoreUnanswered,
    /// The number of the attempt that follows, from 2.
    Attempt(u32),
    /// Why there is no further attempt.
    Settled(Settled),
    /// The rate limit service gave no answer: it was decided by what is written for that.
    ServiceUnanswered,
    /// The rate limit service was not asked, because the policy is in Shadow.
    ServiceNotAsked,
}

/// One rule inside a policy: its name and the line it was written on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    pub name: Arc<str>,
    pub source: SourceRef,
}

/// What a rule decided. `Would…` comes from `mode: Shadow` and changes nothing on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Allowed,
    /// Passes, and is to be told of.
    Audited,
    Refused(Reason),
    WouldRefuse(Reason),
    /// The backend after which the rule is named.
    Picked,
    WouldPick,
    /// The request is sent again.
    Retried,
    /// The request is sent to another endpoint too.
    Hedged,
    /// It would have been sent again, but for what the detail says.
    NotRetried,
    WouldRetry,
    /// A fault that the request goes on with.
    Injected,
    WouldInject,
}

impl Outcome {
    /// The word that metrics, log and span use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Audited => "audited",
            Self::Refused(_) => "refused",
            Self::WouldRefuse(_) => "would_refuse",
            Self::Picked => "picked",
            Self::WouldPick => "would_pick",
            Self::Retried => "retried",
            Self::Hedged => "hedged",
            Self::NotRetried => "not_retried",
            Self::WouldRetry => "would_retry",
            Self::Injected => "injected",
            Self::WouldInject => "would_inject",
        }
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remaining(n) => write!(f, "remaining={n}"),
            Self::RetryAfter(d) => write!(f, "retry_after={:.3}s", d.as_secs_f64()),
            Self::Delayed(d) => write!(f, "delayed={:.3}s", d.as_secs_f64()),
            Self::Load(Load { limit, in_flight, queued }) => {
                write!(f, "limit={limit} in_flight={in_flight} queued={queued}")
            }
            Self::BytesPerSecond(n) => write!(f, "bytes_per_second={n}"),
            Self::State(phase) => write!(f, "state={}", phase.as_str()),
            Self::Cap(n) => write!(f, "cap={n}"),
            Self::Panic { left, all } => write!(f, "panic={left}/{all}"),
            Self::Healthy { healthy, all } => write!(f, "healthy={healthy}/{all}"),
            Self::Key(source) => write!(f, "key={}", source.as_str()),
            Self::Balanced(how) => write!(f, "{how}"),
            Self::Attempt(n) => write!(f, "attempt={n}"),
            Self::Settled(settled) => write!(f, "retry={}", settled.as_str()),
            Self::Token(fault) => write!(f, "token={fault}"),
            Self::Undecidable => f.write_str("match=undecidable"),
            Self::StoreUnanswered => f.write_str("store=unanswered"),
            Self::ServiceUnanswered => f.write_str("service=unanswered"),
            Self::ServiceNotAsked => f.write_str("service=not_asked"),
        }
    }
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All decisions of one request, in the order they were taken. Two fit without an allocation.
pub type Decisions = SmallVec<[Decision; 2]>;

/// Adds what a policy has said. Mostly it has not said anything, and `extend` asks for room first, which costs more than all
/// that there is to do.
pub(crate) fn add(decisions: &mut Decisions, said: Option<Decision>) {
    if let Some(said) = said {
        decisions.push(said);
    }
}

/// How a call to an endpoint ended, as breakers and balancers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOutcome {
    pub result: CallResult,
    /// From the moment the attempt was admitted to its response head (or failure).
    pub latency: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// An HTTP response head with this status.
    Status(u16),
    /// A gRPC response: HTTP 200 and this `grpc-status`.
    Grpc(u8),
    /// An opaque connection was opened: all that can be known of it.
    Connected,
    /// No response: connect error, reset, timeout, protocol error.
    Failed(Reason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_reads_as_name_and_value() {
        assert_eq!(Detail::Remaining(3).to_string(), "remaining=3");
        assert_eq!(Detail::RetryAfter(Duration::from_millis(1500)).to_string(), "retry_after=1.500s");
        assert_eq!(Detail::State(BreakerPhase::HalfOpen).to_string(), "state=half_open");
        assert_eq!(Detail::Healthy { healthy: 1, all: 3 }.to_string(), "healthy=1/3");
        assert_eq!(Detail::Cap(128).to_string(), "cap=128");
        assert_eq!(Detail::Token(TokenFault::NotYetValid).to_string(), "token=not_yet_valid");
        assert_eq!(Detail::Key(KeySource::PeerIdentity).to_string(), "key=peer_identity");
    }
}

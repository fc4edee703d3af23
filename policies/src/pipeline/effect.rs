//! What a filter needs done before it can judge. It says so by a value; the shell does it, and the filter goes on with
//! what came of it. So the core waits for nothing, and a run can be replayed.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::jwt::KeysAwaited;
use crate::model::{BackendKind, PolicyRef, ResourceName};
use crate::overload::Ticket;
use crate::plugin::{Plugged, Plugin};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Buckets that all proxies share are to be spent, all or none.
    Spend(Spend),
    /// A rate limit service is to be asked.
    Ask(Ask),
    /// The request's turn comes after so long.
    Wait(Duration),
    /// The keys of an issuer are to be waited for.
    Keys(KeysAwaited),
    /// The request's turn comes when others have had theirs: to be awaited for no longer than the ticket's patience.
    Turn(Ticket),
    /// A plugin is to be told of the request's head, and may change it.
    Plugin(Arc<Plugin>),
}

/// What came of an [`Effect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performed {
    Spent(Spent),
    Waited,
    Answered(Answer),
    /// The ticket says whether the turn has come.
    Turned(Ticket),
    Plugged(Plugged),
    /// There is no such store or service, or it did not answer in time.
    Unanswered,
}

/// Buckets of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    pub policy: Arc<PolicyRef>,
    pub buckets: Vec<SharedBucket>,
    /// Beyond which nobody waits for the answer.
    pub timeout: Duration,
}

/// One bucket, and how much of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBucket {
    /// The limit's name, in its policy.
    pub limit: Arc<str>,
    /// What is counted apart, the same for the same request at every proxy. It holds what clients sent: to be hashed
    /// before it is stored.
    pub key: Vec<u8>,
    pub holds: Holds,
    pub cost: u32,
}

/// How much a bucket holds, and when there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// At most `burst`, and `requests` more per `per`.
    Rate {
        requests: u32,
        per: Duration,
        burst: u32,
        /// The number changes from request to request: whatever it is, what was spent of the bucket stays spent in
        /// proportion.
        in_proportion: bool,
    },
    /// `requests` until `end`, since the Unix epoch; another end is another bucket.
    Window { requests: u32, end: Duration },
}

/// What the store says of all buckets that were asked for together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    pub allowed: bool,
    /// In the order of the question: requests that would pass at once; and, if allowed, how long until there is one more,
    /// else until what was wanted is there.
    pub levels: Vec<(u32, Duration)>,
}

/// A question to a rate limit service, by Envoy's protocol (`envoy.service.ratelimit.v3`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub policy: Arc<PolicyRef>,
    pub service: Arc<ServiceRef>,
    pub domain: Arc<str>,
    /// All of them must pass.
    pub descriptors: Vec<AskedDescriptor>,
    /// Beyond which nobody waits for the answer.
    pub timeout: Duration,
}

/// What is counted under one key of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedDescriptor {
    pub entries: Vec<(Arc<str>, String)>,
    /// How much of it is wanted; at least 1.
    pub hits: u32,
}

/// The backend that a service is behind, as a policy names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceRef {
    pub kind: BackendKind,
    pub object: ResourceName,
    /// `None`: the only one of a Backend.
    pub port: Option<u16>,
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == BackendKind::Backend {
            f.write_str("backend:")?;
        }
        write!(f, "{}", self.object)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// What a rate limit service says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Of all descriptors together.
    pub allowed: bool,
    /// Of each descriptor, in the order of the question, if the service says so.
    pub said: Vec<Said>,
    /// For the backend, if the request passes.
    pub request_headers: Vec<(HeaderName, HeaderValue)>,
    /// For the client.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// To refuse with; empty for none.
    pub body: Bytes,
}

/// What a rate limit service says of one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub allowed: bool,
    /// `None` where no limit of the service counts it.
    pub limit: Option<ServiceLimit>,
}

/// How a limit of a service stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLimit {
    /// So many requests per so long.
    pub quota: Option<(NonZeroU32, Duration)>,
    pub remaining: u32,
    /// Until there is more.
    pub reset: Option<Duration>,
}

//! What a filter needs done before it can judge. It says so by a value; the shell does it, and the filter goes on with
//! what came of it. So the core waits for nothing, and a run can be replayed.

use std::sync::Arc;
use std::time::Duration;

use crate::model::PolicyRef;
use crate::overload::Ticket;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Buckets that all proxies share are to be spent, all or none.
    Spend(Spend),
    /// The request's turn comes after so long.
    Wait(Duration),
    /// The request's turn comes when others have had theirs: to be awaited for no longer than the ticket's patience.
    Turn(Ticket),
}

/// What came of an [`Effect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performed {
    Spent(Spent),
    Waited,
    /// The ticket says whether the turn has come.
    Turned(Ticket),
    /// There is no such store, or it did not answer in time.
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
    pub requests: u32,
    pub per: Duration,
    pub burst: u32,
    pub cost: u32,
}

/// What the store says of all buckets that were asked for together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    pub allowed: bool,
    /// In the order of the question: requests that would pass at once; and, if allowed, how long until there is one more,
    /// else until what was wanted is there.
    pub levels: Vec<(u32, Duration)>,
}

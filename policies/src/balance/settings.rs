//! What a policy says of balancing, without any state.

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::decision::RuleRef;
use crate::expression::Facts;
use crate::model::{Mode, PolicyRef};

/// A `LoadBalancingPolicy`, compiled; or what holds where nothing is written.
#[derive(Debug)]
pub struct LoadBalancing {
    /// `None` where nothing is written: nobody has to be told of it.
    pub origin: Option<Origin>,
    pub algorithm: Algorithm,
}

/// Where it is written, for decisions.
#[derive(Clone, Debug)]
pub struct Origin {
    pub policy: Arc<PolicyRef>,
    pub mode: Mode,
    /// Named after the algorithm, with its line.
    pub rule: Arc<RuleRef>,
}

/// How one of the endpoints is chosen.
#[derive(Clone, Debug)]
pub enum Algorithm {
    /// Of two drawn by weight, the one where a call is expected to end sooner.
    PeakEwma,
    /// Of so many drawn by weight, the one with the least in flight per weight.
    LeastRequest { choices: u32 },
    /// In turn, by weight.
    RoundRobin,
    /// By weight and chance.
    Random,
}

/// Who asks, for the key that requests are hashed by.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a>(pub(crate) &'a Facts<'a>);

/// What of a request decides where it goes.
pub trait HashKey: Debug + Send + Sync {
    /// `None` for one that does not have it.
    fn of(&self, asker: Asker<'_>) -> Option<u64>;
}

/// The time constant of averages, where nothing is written.
pub(crate) const DECAY: Duration = Duration::from_secs(10);

static UNWRITTEN: LazyLock<Arc<LoadBalancing>> = LazyLock::new(|| Arc::new(LoadBalancing::new()));

impl LoadBalancing {
    /// What holds where nothing is written, to begin with.
    pub fn new() -> Self {
        Self { origin: None, algorithm: Algorithm::PeakEwma }
    }

    /// The one that holds where nothing is written.
    pub fn unwritten() -> Arc<Self> {
        UNWRITTEN.clone()
    }
}

impl Default for LoadBalancing {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::PeakEwma => "PeakEwma",
            Self::LeastRequest { .. } => "LeastRequest",
            Self::RoundRobin => "RoundRobin",
            Self::Random => "Random",
        }
    }
}

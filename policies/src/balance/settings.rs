//! What a policy says of balancing, without any state.

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::slow_start::SlowStart;
use crate::decision::RuleRef;
use crate::expression::Facts;
use crate::model::{Mode, Peer, PolicyRef};

/// A `LoadBalancingPolicy`, compiled; or what holds where nothing is written.
#[derive(Clone, Debug)]
pub struct LoadBalancing {
    /// `None` where nothing is written: nobody has to be told of it.
    pub origin: Option<Origin>,
    pub algorithm: Algorithm,
    /// The time constant of the endpoints' averages.
    pub decay: Duration,
    /// For algorithms that hash.
    pub key: Option<Arc<dyn HashKey>>,
    /// For algorithms that hash: how many times its share of what is in flight an endpoint may have. Above 1.
    pub max_load: Option<f64>,
    pub locality: Locality,
    /// How many times the traffic that is its share the healthy part of a priority or zone can take. At least 1.
    pub overprovisioning: f64,
    pub slow_start: Option<SlowStart>,
    /// How many endpoints of each priority and zone this proxy calls.
    pub subset: Option<u32>,
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
    /// By the key of the request.
    Hash { table: HashTable, keyless: Keyless },
}

/// How keys are spread over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    /// With so many points on it.
    Ring { least: u32, most: u32 },
    /// With so many slots, a prime.
    Maglev { size: u32 },
}

/// What chooses for requests without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyless {
    PeakEwma,
    Random,
}

/// Which zones are called first.
#[derive(Clone, Debug, Default)]
pub struct Locality {
    pub prefer: Prefer,
    /// Where calls go that their own zone cannot take, in this order; then all other zones.
    pub failover: Vec<Arc<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Zones mean nothing.
    #[default]
    Nothing,
    /// The zone of the proxy.
    SameZone,
    /// The endpoints that are meant for the zone of the proxy (EndpointSlice `hints.forZones`); zones mean nothing where
    /// an endpoint has no hint.
    Hints,
}

/// Who asks, for the key that requests are hashed by.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a>(pub(crate) &'a Facts<'a>);

/// What of a request decides where it goes.
pub trait HashKey: Debug + Send + Sync {
    /// `None` for one that does not have it.
    fn of(&self, asker: Asker<'_>) -> Option<u64>;

    /// The same for a connection that is carried as a whole.
    fn of_connection(&self, peer: &Peer) -> Option<u64>;

    /// Whether it goes by what a token claims, which is known only when the policies have judged.
    fn asks_claims(&self) -> bool {
        false
    }

    /// For people.
    fn describe(&self) -> String;
}

/// Envoy's: a zone with 71 % of its endpoints well takes all of its traffic, one with fewer spills some.
pub(crate) const OVERPROVISIONING: f64 = 1.4;
/// The time constant of averages, where nothing is written.
pub(crate) const DECAY: Duration = Duration::from_secs(10);

static UNWRITTEN: LazyLock<Arc<LoadBalancing>> = LazyLock::new(|| Arc::new(LoadBalancing::new()));

impl LoadBalancing {
    /// What holds where nothing is written, to begin with.
    pub fn new() -> Self {
        Self {
            origin: None,
            algorithm: Algorithm::PeakEwma,
            decay: DECAY,
            key: None,
            max_load: None,
            locality: Locality::default(),
            overprovisioning: OVERPROVISIONING,
            slow_start: None,
            subset: None,
        }
    }

    /// For people: `Maglev by header:x-user`, `LeastRequest of 2`; `None` where nothing is written.
    pub fn describe(&self) -> Option<String> {
        self.origin.as_ref()?;
        let name = self.algorithm.as_str();
        Some(match (&self.algorithm, &self.key) {
            (Algorithm::LeastRequest { choices }, _) => format!("{name} of {choices}"),
            (Algorithm::Hash { .. }, Some(key)) => format!("{name} by {}", key.describe()),
            _ => name.to_owned(),
        })
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
            Self::Hash { table: HashTable::Ring { .. }, .. } => "RingHash",
            Self::Hash { table: HashTable::Maglev { .. }, .. } => "Maglev",
        }
    }
}

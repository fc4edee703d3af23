//! What a decision tells of a choice.

use std::fmt;

use super::{Algorithm, Choice};
use crate::decision::{Decision, Detail, Outcome};
use crate::model::Mode;

/// How an endpoint was chosen. Prints as `by=key`, `by=load spilled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balanced {
    pub by: By,
    /// It is not among those that are asked first: another priority or zone.
    pub spilled: bool,
    /// In Shadow: another endpoint would have been chosen.
    pub elsewhere: bool,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The client has been there before.
    Session,
    Load,
    Turn,
    Chance,
    Key,
    /// The request has no key, and so something else.
    NoKey,
}

impl fmt::Display for Balanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::Session => "session",
            By::Load => "load",
            By::Turn => "turn",
            By::Chance => "chance",
            By::Key => "key",
            By::NoKey => "no_key",
        };
        let spilled = if self.spilled { " spilled" } else { "" };
        let elsewhere = if self.elsewhere { " elsewhere" } else { "" };
        write!(f, "by={by}{spilled}{elsewhere}")
    }
}

impl Choice<'_> {
    /// What is to be said of `index`, which was picked; `None` where nobody has written how to balance. In Shadow,
    /// what would have been picked if no breaker held anything back.
    pub fn told(&self, index: usize, rng: &fastrand::Rng) -> Option<Decision> {
        let origin = self.balancer.settings.origin.as_ref()?;
        let (outcome, would) = match origin.mode {
            Mode::Enforce => (Outcome::Picked, index),
            // Nothing may move, the random numbers neither.
            Mode::Shadow => {
                (Outcome::WouldPick, self.would_pick(|_| true, &mut rng.clone()).unwrap_or(index))
            }
        };
        let detail = Balanced {
            by: self.by(would),
            spilled: self.balancer.is_spilled(would),
            elsewhere: would != index,
        };
        Some(Decision {
            policy: origin.policy.clone(),
            rule: origin.rule.clone(),
            outcome,
            detail: Some(Detail::Balanced(detail)),
        })
    }

    fn by(&self, index: usize) -> By {
        if self.preferred() == Some(index) {
            return By::Session;
        }
        match self.balancer.settings.algorithm {
            Algorithm::PeakEwma | Algorithm::LeastRequest { .. } => By::Load,
            Algorithm::RoundRobin => By::Turn,
            Algorithm::Random => By::Chance,
            Algorithm::Hash { .. } if self.wish.key.is_some() => By::Key,
            Algorithm::Hash { .. } => By::NoKey,
        }
    }
}

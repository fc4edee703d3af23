//! Settings joined to the endpoints of one backend.

use std::sync::Arc;
use std::time::Duration;

use super::choice::Asked;
use super::pool::{Member, Pool, draw_among};
use super::settings::{Algorithm, DECAY};
use super::turns::Turn;
use super::{EndpointState, LoadBalancing};
use crate::model::Mode;
use crate::state::{StateKey, StateStore};

/// See the module. Immutable but for the counters that it holds.
#[derive(Debug)]
pub struct Balancer {
    pub settings: Arc<LoadBalancing>,
    /// What picks in place of one that is in Shadow.
    pub(super) instead: Option<Box<Balancer>>,
    pools: Box<[Pool]>,
    weights: Box<[u32]>,
}

/// What a balancer is joined to.
#[derive(Clone, Copy, Debug)]
pub struct Backing<'a> {
    /// As the backend prints.
    pub backend: &'a str,
    pub endpoints: &'a [Arc<EndpointState>],
}

impl Balancer {
    /// What moves with every call is found again in `state` by policy and backend.
    pub fn bind(settings: &Arc<LoadBalancing>, backing: Backing<'_>, state: &StateStore) -> Self {
        let owner =
            settings.origin.as_ref().map_or_else(String::new, |origin| origin.policy.name.to_string());
        let owner: Arc<str> = format!("balancer/{owner}|{}", backing.backend).into();
        let weights: Box<[u32]> = backing.endpoints.iter().map(|endpoint| endpoint.weight()).collect();
        let members = (0_u32..).zip(&weights).filter(|(_, weight)| **weight > 0);
        let members = members.map(|(index, weight)| Member { index, weight: *weight }).collect();
        let turn = matches!(settings.algorithm, Algorithm::RoundRobin)
            .then(|| state.get_or_insert(StateKey::new(owner.clone(), "turn"), || Turn::beginning_at(0)));
        let pools = Box::new([Pool::new(members, turn)]);
        let in_shadow = settings.origin.as_ref().is_some_and(|origin| origin.mode == Mode::Shadow);
        let instead = in_shadow.then(|| Box::new(Self::bind(&LoadBalancing::unwritten(), backing, state)));
        Self { settings: settings.clone(), instead, pools, weights }
    }

    /// Where nothing is written, and nothing has to be kept.
    pub fn plain(endpoints: &[Arc<EndpointState>]) -> Self {
        let nothing = StateStore::new([0, 0]);
        Self::bind(&LoadBalancing::unwritten(), Backing { backend: "", endpoints }, &nothing)
    }

    /// The time constant of the endpoints' averages.
    pub fn decay(&self) -> Duration {
        DECAY
    }

    /// Whether an endpoint is not among those that are asked first.
    pub(super) fn is_spilled(&self, _index: usize) -> bool {
        false
    }

    pub(super) fn among<A: Fn(usize) -> bool>(
        &self,
        asked: &Asked<'_, A>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let picked = self.pools.iter().find_map(|pool| pool.pick(&self.settings, asked, rng));
        picked.or_else(|| self.any(asked, rng))
    }

    /// Whoever is left, wherever it is.
    fn any<A: Fn(usize) -> bool>(&self, asked: &Asked<'_, A>, rng: &mut fastrand::Rng) -> Option<usize> {
        let weight = |at: usize| match self.weights[at] {
            0 => 0,
            weight if asked.takes(at) => weight,
            _ => 0,
        };
        draw_among(self.weights.len(), weight, rng)
    }
}

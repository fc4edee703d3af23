//! Settings joined to the endpoints of one backend.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::choice::Asked;
use super::places::{Rank, by_rank, subset};
use super::pool::{Carried, Member, Parts, Pool, draw_among};
use super::settings::Algorithm;
use super::spill::Spill;
use super::table::{Seat, Table};
use super::turns::{Round, Turn};
use super::{EndpointState, LoadBalancing};
use crate::model::{Mode, Placement};
use crate::pick::hash::{self, SUBSET};
use crate::state::{StateKey, StateStore};

/// See the module. Immutable but for the counters that it holds.
#[derive(Debug)]
pub struct Balancer {
    pub settings: Arc<LoadBalancing>,
    /// What picks in place of one that is in Shadow.
    pub(super) instead: Option<Box<Balancer>>,
    /// By rank, those to be called first coming first.
    pools: Box<[Pool]>,
    spill: Spill,
    /// By endpoint: which pool it is in.
    homes: Box<[Option<u16>]>,
    weights: Box<[u32]>,
}

/// What a balancer is joined to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backing<'a> {
    /// As the backend prints.
    pub backend: &'a str,
    pub endpoints: &'a [Arc<EndpointState>],
    /// Where these are, one by one; those that are not listed are nowhere.
    pub placements: &'a [Placement],
    /// Where the proxy is, if anybody knows.
    pub zone: Option<&'a str>,
    /// What tells the proxy from others.
    pub node: &'a str,
}

impl Balancer {
    /// What moves with every call is found again in `state` by policy and backend.
    pub fn bind(settings: &Arc<LoadBalancing>, backing: Backing<'_>, state: &StateStore) -> Self {
        let weights: Box<[u32]> = backing.endpoints.iter().map(|endpoint| endpoint.weight()).collect();
        let members = (0_u32..).zip(&weights).filter(|(_, weight)| **weight > 0);
        let members: Vec<_> = members.map(|(index, weight)| Member { index, weight: *weight }).collect();
        let ranks = by_rank(&members, backing.placements, &settings.locality, backing.zone);
        let mut homes = vec![None; weights.len()];
        let mut pools = Vec::new();
        for (rank, members) in ranks {
            let name = |member: &Member| backing.endpoints[member.index as usize].label.clone();
            let members = subset(members, settings.subset, backing.node, name);
            let home = u16::try_from(pools.len()).ok();
            members.iter().for_each(|member| homes[member.index as usize] = home);
            let parts = parts(settings, (rank, &members), backing, state);
            pools.push(Pool::new(members.into(), parts));
        }
        let in_shadow = settings.origin.as_ref().is_some_and(|origin| origin.mode == Mode::Shadow);
        let instead = in_shadow.then(|| Box::new(Self::bind(&LoadBalancing::unwritten(), backing, state)));
        let spill = Spill::new(pools.len(), settings.overprovisioning);
        let (pools, homes) = (pools.into(), homes.into());
        Self { settings: settings.clone(), instead, pools, spill, homes, weights }
    }

    /// Where nothing is written, and nothing has to be kept.
    pub fn plain(endpoints: &[Arc<EndpointState>]) -> Self {
        let backing = Backing { endpoints, ..Backing::default() };
        Self::bind(&LoadBalancing::unwritten(), backing, &StateStore::new([0, 0]))
    }

    /// By what is in flight alone: what calls have shown before plays no part.
    #[cfg(test)]
    pub(crate) fn by_load(endpoints: &[Arc<EndpointState>]) -> Self {
        let backing = Backing { endpoints, ..Backing::default() };
        let settings = LoadBalancing {
            algorithm: super::Algorithm::LeastRequest { choices: 2 },
            ..(*LoadBalancing::unwritten()).clone()
        };
        Self::bind(&settings.into(), backing, &StateStore::new([0, 0]))
    }

    /// Whether there is more than one group of endpoints.
    pub(crate) fn is_spread(&self) -> bool {
        self.pools.len() > 1
    }

    /// The time constant of the endpoints' averages.
    pub fn decay(&self) -> Duration {
        self.settings.decay
    }

    /// Counts a call to an endpoint until it is dropped, where that matters.
    pub fn carry(&self, index: usize) -> Option<Carried> {
        self.pools.get(usize::from((*self.homes.get(index)?)?))?.carry()
    }

    /// Whether this proxy calls an endpoint as long as others can be called.
    pub fn calls(&self, index: usize) -> bool {
        self.homes.get(index).is_some_and(Option::is_some)
    }

    /// Whether an endpoint is not among those that are asked first.
    pub(super) fn is_spilled(&self, index: usize) -> bool {
        self.homes.get(index).is_some_and(|home| home.is_some_and(|home| home > 0))
    }

    pub(super) fn among<A: Fn(usize) -> bool>(
        &self,
        asked: &Asked<'_, A>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let first = match self.pools.len() {
            0 | 1 => 0,
            _ => self.spill.group(lot(asked.key, rng), asked.now, |i| self.pools[i].healthy(asked.admits)),
        };
        let mut pick = |i: usize| self.pools[i].pick(&self.settings, asked, rng);
        let picked = (first < self.pools.len()).then(|| pick(first)).flatten();
        let picked = picked.or_else(|| (0..self.pools.len()).filter(|i| *i != first).find_map(pick));
        picked.or_else(|| self.any(asked, rng))
    }

    /// Whoever is left, whether this proxy calls it usually or not.
    fn any<A: Fn(usize) -> bool>(&self, asked: &Asked<'_, A>, rng: &mut fastrand::Rng) -> Option<usize> {
        let weight = |at: usize| match self.weights[at] {
            0 => 0,
            weight if asked.takes(at) => weight.into(),
            _ => 0,
        };
        self.settings.subset.and_then(|_| draw_among(self.weights.len(), weight, rng))
    }
}

/// Those who go by a key spill by it.
fn lot(key: Option<u64>, rng: &mut fastrand::Rng) -> u16 {
    key.map_or_else(|| rng.u16(..), |key| (hash::under([1, 1], key) >> 48) as u16)
}

fn parts(
    settings: &LoadBalancing,
    (rank, members): (Rank, &[Member]),
    backing: Backing<'_>,
    state: &StateStore,
) -> Parts {
    let policy = settings.origin.as_ref().map_or_else(String::new, |origin| origin.policy.name.to_string());
    let owner: Arc<str> = format!("balancer/{policy}|{}", backing.backend).into();
    let key = |what: &str| StateKey::new(owner.clone(), format!("{what}|{}|{}", rank.0, rank.1));
    let mut parts = Parts::default();
    match settings.algorithm {
        Algorithm::RoundRobin => {
            let begin = || Turn::beginning_at(hash::of(SUBSET, &[backing.node.as_bytes()]));
            let round = Round::new(members.iter().map(|member| member.weight));
            parts.turn = Some((round, state.get_or_insert(key("turn"), begin)));
        }
        Algorithm::Hash { table, .. } => {
            let seat = |member: &Member| Seat {
                name: backing.endpoints[member.index as usize].label.as_bytes(),
                weight: member.weight,
            };
            let seats: Vec<_> = members.iter().map(seat).collect();
            parts.table = Some(Table::of(table, &seats, &owner, state));
            parts.load = settings.max_load.map(|_| state.get_or_insert(key("load"), AtomicU32::default));
        }
        Algorithm::PeakEwma | Algorithm::LeastRequest { .. } | Algorithm::Random => {}
    }
    parts
}

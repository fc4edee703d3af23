//! Endpoints that are balanced over together, and how one of them is chosen.
//!
//! Candidates are drawn by weight and drawn again if they are not admitted, which gives the admitted ones exactly their
//! weights' shares. Where too many are held back for that, all are looked at once.

use std::sync::Arc;

use super::alias::Alias;
use super::choice::Asked;
use super::settings::{Algorithm, DECAY};
use super::turns::{Round, Turn};
use super::{EndpointState, LoadBalancing};

/// An endpoint with a weight above zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Its place among the backend's endpoints.
    pub(super) index: u32,
    pub(super) weight: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) members: Box<[Member]>,
    alias: Alias,
    turns: Option<(Round, Arc<Turn>)>,
}

/// Draws before all are looked at: with nine of ten held back, one in five choices comes to that.
const TRIES: usize = 16;

impl Pool {
    pub(super) fn new(members: Box<[Member]>, turn: Option<Arc<Turn>>) -> Self {
        let weights: Vec<_> = members.iter().map(|member| member.weight).collect();
        let turns = turn.map(|turn| (Round::new(weights.iter().copied()), turn));
        Self { members, alias: Alias::new(&weights), turns }
    }

    /// The index of one of the backend's endpoints.
    pub(super) fn pick<A: Fn(usize) -> bool>(
        &self,
        settings: &LoadBalancing,
        asked: &Asked<'_, A>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let at = match settings.algorithm {
            Algorithm::PeakEwma => self.best_of(2, asked, rng, |a, b| sooner(a, b, asked)),
            Algorithm::LeastRequest { choices } => {
                self.best_of(choices, asked, rng, |a, b| less_loaded(a, b, asked.endpoints))
            }
            Algorithm::RoundRobin => self.turn(asked, rng),
            Algorithm::Random => self.draw(asked, None, rng),
        };
        at.map(|at| self.index(at))
    }

    fn index(&self, at: usize) -> usize {
        self.members[at].index as usize
    }

    /// Draws `choices` endpoints, each another one than the best so far. The first drawn is kept unless a later one `beats`
    /// it, so that among equals the weights decide.
    fn best_of<A: Fn(usize) -> bool>(
        &self,
        choices: u32,
        asked: &Asked<'_, A>,
        rng: &mut fastrand::Rng,
        beats: impl Fn(&Member, &Member) -> bool,
    ) -> Option<usize> {
        let mut best = self.draw(asked, None, rng)?;
        for _ in 1..choices {
            let Some(other) = self.draw(asked, Some(best), rng) else { break };
            if beats(&self.members[other], &self.members[best]) {
                best = other;
            }
        }
        Some(best)
    }

    fn turn<A: Fn(usize) -> bool>(&self, asked: &Asked<'_, A>, rng: &mut fastrand::Rng) -> Option<usize> {
        let (round, turn) = self.turns.as_ref().filter(|_| !self.members.is_empty())?;
        for _ in 0..round.patience() {
            let at = round.of(turn.next(), |at| self.members[at].weight);
            if let Some(at) = at.filter(|at| self.is_free(*at, asked)) {
                return Some(at);
            }
        }
        self.draw(asked, None, rng)
    }

    /// One by weight among those that are free, without `except`.
    fn draw<A: Fn(usize) -> bool>(
        &self,
        asked: &Asked<'_, A>,
        except: Option<usize>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let fits = |at: usize| Some(at) != except && self.is_free(at, asked);
        if self.members.len() > 2 {
            for _ in 0..TRIES {
                let at = self.alias.draw(rng);
                if fits(at) {
                    return Some(at);
                }
            }
        }
        draw_among(self.members.len(), |at| if fits(at) { self.members[at].weight } else { 0 }, rng)
    }

    fn is_free<A: Fn(usize) -> bool>(&self, at: usize, asked: &Asked<'_, A>) -> bool {
        asked.takes(self.index(at))
    }
}

/// Draws a place with probability proportional to its weight. Two passes.
pub(super) fn draw_among(
    len: usize,
    weight: impl Fn(usize) -> u32,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let total: u64 = (0..len).map(|at| u64::from(weight(at))).sum();
    if total == 0 {
        return None;
    }
    let mut left = rng.u64(..total);
    let mut last = None;
    for at in 0..len {
        let weight = u64::from(weight(at));
        if weight == 0 {
            continue;
        }
        last = Some(at);
        if left < weight {
            return last;
        }
        left -= weight;
    }
    // Only where another thread closed an endpoint between the two passes.
    last
}

/// Whether `a` has less in flight per weight.
fn less_loaded(a: &Member, b: &Member, endpoints: &[Arc<EndpointState>]) -> bool {
    let load =
        |of: &Member, by: &Member| u64::from(endpoints[of.index as usize].in_flight()) * u64::from(by.weight);
    load(a, b) < load(b, a)
}

/// Costs that differ by less than an eighth are alike: no two averages are ever equal, and a difference that means nothing
/// must not take all calls from one endpoint.
const ALIKE: f64 = 1.0 - 1.0 / 8.0;
/// What an endpoint of which nothing is known is taken to cost while the first call is on its way, in nanoseconds.
const UNKNOWN: f64 = 1e9;

/// Whether a call is expected to end sooner at `a`: by the latency there, times the calls in flight per weight and this one.
///
/// `average * (1 + in_flight * mean / weight)`, with the mean of the two weights. For equal weights that is Finagle's
/// `average * (in_flight + 1)`. To divide by the weight as a whole would send every call that meets idle endpoints to
/// the heavier one, which has its greater share by being drawn more often already.
fn sooner<A>(a: &Member, b: &Member, asked: &Asked<'_, A>) -> bool {
    let (of_a, of_b) = (&asked.endpoints[a.index as usize], &asked.endpoints[b.index as usize]);
    let mean = (f64::from(a.weight) + f64::from(b.weight)) / 2.0;
    let load = |of: &EndpointState, weight: u32| 1.0 + f64::from(of.in_flight()) * mean / f64::from(weight);
    let (load_a, load_b) = (load(of_a, a.weight), load(of_b, b.weight));
    let (known_a, known_b) = (of_a.latency.nanos(), of_b.latency.nanos());
    // Idle, it is as good as the other one; one call at a time then shows what it is.
    let guess = |other: f64, load: f64| if load > 1.0 { other.max(UNKNOWN) } else { other };
    let (cost_a, cost_b) = match (known_a > 0.0, known_b > 0.0) {
        (true, true) => {
            (of_a.latency.cost(known_b, DECAY, asked.now), of_b.latency.cost(known_a, DECAY, asked.now))
        }
        (true, false) => (known_a, guess(known_a, load_b)),
        (false, true) => (guess(known_b, load_a), known_b),
        (false, false) => (1.0, 1.0),
    };
    cost_a * load_a < cost_b * load_b * ALIKE
}

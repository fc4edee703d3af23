//! Endpoints that are balanced over together, and how one of them is chosen.
//!
//! Candidates are drawn by weight and drawn again if they are not admitted, which gives the admitted ones exactly their
//! weights' shares. Where too many are held back for that, all are looked at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::alias::Alias;
use super::choice::Asked;
use super::settings::{Algorithm, Keyless};
use super::table::{Table, last_resort};
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
    parts: Parts,
}

/// What only some algorithms have.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) turn: Option<(Round, Arc<Turn>)>,
    pub(super) table: Option<Arc<Table>>,
    /// What is in flight by this pool, where an endpoint may have only so much of it.
    pub(super) load: Option<Arc<AtomicU32>>,
}

/// A call in flight by a pool, until it is dropped.
#[derive(Debug)]
pub struct Carried(Arc<AtomicU32>);

/// Draws before all are looked at: with nine of ten held back, one in five choices comes to that.
const TRIES: usize = 16;

impl Pool {
    pub(super) fn new(members: Box<[Member]>, parts: Parts) -> Self {
        let weights: Vec<_> = members.iter().map(|member| member.weight).collect();
        Self { members, alias: Alias::new(&weights), parts }
    }

    /// The index of one of the backend's endpoints.
    pub(super) fn pick<A: Fn(usize) -> bool>(
        &self,
        settings: &LoadBalancing,
        asked: &Asked<'_, A>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let sooner = |a: &Member, b: &Member| sooner((a, b), settings, asked);
        let at = match (&settings.algorithm, asked.key) {
            (Algorithm::Hash { .. }, Some(key)) => self.by_key(key, settings.max_load, asked),
            (Algorithm::PeakEwma, _) | (Algorithm::Hash { keyless: Keyless::PeakEwma, .. }, None) => {
                self.best_of(2, asked, rng, sooner)
            }
            (Algorithm::Random, _) | (Algorithm::Hash { keyless: Keyless::Random, .. }, None) => {
                self.draw(asked, None, rng)
            }
            (Algorithm::LeastRequest { choices }, _) => {
                self.best_of(*choices, asked, rng, |a, b| less_loaded(a, b, asked.endpoints))
            }
            (Algorithm::RoundRobin, _) => self.turn(asked, rng),
        };
        at.map(|at| self.index(at))
    }

    /// How much of the pool's weight is admitted, from 0 to 1.
    pub(super) fn healthy(&self, admits: impl Fn(usize) -> bool) -> f64 {
        let admitted = self.members.iter().filter(|member| admits(member.index as usize));
        let admitted: u64 = admitted.map(|member| u64::from(member.weight)).sum();
        admitted as f64 / self.alias.total().max(1) as f64
    }

    /// Counts a call that this pool has chosen for, where that matters.
    pub(super) fn carry(&self) -> Option<Carried> {
        let load = self.parts.load.as_ref()?;
        load.fetch_add(1, Ordering::Relaxed);
        Some(Carried(load.clone()))
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
        let (round, turn) = self.parts.turn.as_ref().filter(|_| !self.members.is_empty())?;
        for _ in 0..round.patience() {
            let at = round.of(turn.next(), |at| self.members[at].weight);
            if let Some(at) = at.filter(|at| self.is_free(*at, asked) && self.is_warm(*at, asked, rng)) {
                return Some(at);
            }
        }
        self.draw(asked, None, rng)
    }

    /// The key's own place, or the next that is free and has no more than its share of the load. Of keys that find none
    /// soon, each has an order of its own over all members.
    fn by_key<A: Fn(usize) -> bool>(
        &self,
        key: u64,
        max_load: Option<f64>,
        asked: &Asked<'_, A>,
    ) -> Option<usize> {
        let table = self.parts.table.as_ref()?;
        let name = |at: usize| &asked.endpoints[self.index(at)].label;
        let has_room = |at: usize| max_load.is_none_or(|factor| self.has_room(at, factor, asked));
        let fits = |at: usize| self.is_free(at, asked) && has_room(at);
        table.find(key, 4 * self.members.len() + 64, fits).or_else(|| {
            let free = (0..self.members.len()).filter(|at| self.is_free(*at, asked));
            free.min_by_key(|at| (!has_room(*at), last_resort(key, name(*at).as_bytes())))
        })
    }

    /// Consistent hashing with bounded loads (V. Mirrokni, M. Thorup, M. Zadimoghaddam, 2016): with this call, an endpoint has
    /// no more in flight than `factor` times its share, rounded up.
    fn has_room<A>(&self, at: usize, factor: f64, asked: &Asked<'_, A>) -> bool {
        let Some(load) = &self.parts.load else { return true };
        let total = f64::from(load.load(Ordering::Relaxed)) + 1.0;
        let share = f64::from(self.members[at].weight) / self.alias.total().max(1) as f64;
        f64::from(asked.endpoints[self.index(at)].in_flight()) + 1.0 <= (factor * total * share).ceil()
    }

    /// One by weight among those that are free, without `except`.
    fn draw<A: Fn(usize) -> bool>(
        &self,
        asked: &Asked<'_, A>,
        except: Option<usize>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let fits = |at: usize| Some(at) != except && self.is_free(at, asked);
        let only = match (self.members.len(), except) {
            (1, _) => Some(0),
            (2, Some(one)) => Some(1 - one),
            _ => None,
        };
        if let Some(only) = only {
            // Whatever it weighs, and however new it is.
            return fits(only).then_some(only);
        }
        for _ in 0..TRIES {
            let at = self.alias.draw(rng);
            if fits(at) && self.is_warm(at, asked, rng) {
                return Some(at);
            }
        }
        let warm = |at: usize| (u64::from(self.members[at].weight) << 16, self.warmth(at, asked));
        let weight = |at: usize| match fits(at).then(|| warm(at)) {
            None => 0,
            Some((weight, share)) if share >= 1.0 => weight,
            Some((weight, share)) => ((weight as f64 * share) as u64).max(1),
        };
        draw_among(self.members.len(), weight, rng)
    }

    fn is_free<A: Fn(usize) -> bool>(&self, at: usize, asked: &Asked<'_, A>) -> bool {
        asked.takes(self.index(at))
    }

    /// What the weight of an endpoint is multiplied by while it is new.
    fn warmth<A>(&self, at: usize, asked: &Asked<'_, A>) -> f64 {
        let endpoint = &asked.endpoints[self.index(at)];
        asked.slow_start.map_or(1.0, |slow| endpoint.warmth.share(slow, asked.now))
    }

    /// As often as its warmth says.
    fn is_warm<A>(&self, at: usize, asked: &Asked<'_, A>, rng: &mut fastrand::Rng) -> bool {
        let share = self.warmth(at, asked);
        share >= 1.0 || f64::from(rng.u32(..)) < share * f64::from(u32::MAX)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Draws a place with probability proportional to its weight. Two passes.
pub(super) fn draw_among(
    len: usize,
    weight: impl Fn(usize) -> u64,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let total: u64 = (0..len).map(&weight).fold(0, u64::saturating_add);
    if total == 0 {
        return None;
    }
    let mut left = rng.u64(..total);
    let mut last = None;
    for at in 0..len {
        let weight = weight(at);
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
fn sooner<A>((a, b): (&Member, &Member), settings: &LoadBalancing, asked: &Asked<'_, A>) -> bool {
    let (decay, now) = (settings.decay, asked.now);
    let (of_a, of_b) = (&asked.endpoints[a.index as usize], &asked.endpoints[b.index as usize]);
    let mean = (f64::from(a.weight) + f64::from(b.weight)) / 2.0;
    let load = |of: &EndpointState, weight: u32| 1.0 + f64::from(of.in_flight()) * mean / f64::from(weight);
    let (load_a, load_b) = (load(of_a, a.weight), load(of_b, b.weight));
    let (known_a, known_b) = (of_a.latency.nanos(), of_b.latency.nanos());
    // Idle, it is as good as the other one; one call at a time then shows what it is.
    let guess = |other: f64, load: f64| if load > 1.0 { other.max(UNKNOWN) } else { other };
    let (cost_a, cost_b) = match (known_a > 0.0, known_b > 0.0) {
        (true, true) => (of_a.latency.cost(known_b, decay, now), of_b.latency.cost(known_a, decay, now)),
        (true, false) => (known_a, guess(known_a, load_b)),
        (false, true) => (guess(known_b, load_a), known_b),
        (false, false) => (1.0, 1.0),
    };
    cost_a * load_a < cost_b * load_b * ALIKE
}

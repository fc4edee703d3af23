//! The endpoints of a backend, each compared with the others: by the share of its successes and by its latency.
//!
//! An endpoint is measured against the others, without itself: among few endpoints, one that is far off would else move
//! the mean and the deviation so much that it could never be an outlier. Latencies are compared by their geometric mean,
//! which one call that hangs hardly moves. What is compared is worked out ten times in each window and not at each call.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::breaker::{Among, Breaker, BreakerParams, Evidence, PeerLatency, SuccessRate};
use super::window::Ring;
use crate::time::Timestamp;

/// What peers that all do alike still differ by, as a share: at least so much counts as one standard deviation, so that one
/// failure is no outlier among endpoints that never fail.
const LEAST_DEVIATION: f64 = 0.05;

/// The calls of one endpoint within the window of the comparison.
#[derive(Debug)]
pub(super) struct Recent(Ring<Sums>);

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    calls: u32,
    successes: u32,
    /// Of the logarithms of the latencies in nanoseconds.
    logarithms: f64,
}

/// How one endpoint does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Standing {
    calls: u32,
    /// From 0 to 1.
    success: f64,
    latency: Duration,
}

/// One rule that compares, on the endpoints of one backend.
#[derive(Debug)]
pub(crate) struct Peers {
    params: BreakerParams,
    breakers: Box<[Arc<Breaker>]>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    made: Timestamp,
    rows: Box<[Row]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    standing: Option<Standing>,
    judged: bool,
}

impl Recent {
    pub(super) fn new(window: Duration) -> Self {
        Self(Ring::new(window))
    }

    pub(super) fn record(&mut self, ok: bool, latency: Duration, now: Timestamp) {
        let Some(sums) = self.0.bucket(now) else { return };
        sums.calls = sums.calls.saturating_add(1);
        sums.successes = sums.successes.saturating_add(u32::from(ok));
        sums.logarithms += (latency.as_secs_f64() * 1e9).max(1.0).ln();
    }

    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        let sums = self.0.live(now).fold(Sums::default(), |sum, bucket| Sums {
            calls: sum.calls.saturating_add(bucket.calls),
            successes: sum.successes.saturating_add(bucket.successes),
            logarithms: sum.logarithms + bucket.logarithms,
        });
        let calls = f64::from(sums.calls.max(1));
        Standing {
            calls: sums.calls,
            success: f64::from(sums.successes) / calls,
            latency: Duration::from_secs_f64((sums.logarithms / calls).exp().min(1e18) / 1e9),
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Peers {
    /// `None` if nothing is to be compared. `breakers`: one for each endpoint, in their order.
    pub(super) fn new(params: BreakerParams, breakers: Box<[Arc<Breaker>]>) -> Option<Self> {
        params.compared_over()?;
        let rows = vec![Row::default(); breakers.len()].into();
        Some(Self { params, breakers, table: Mutex::new(Table { made: Timestamp::ZERO, rows }) })
    }

    /// Whether endpoint number `index`, of which a call has just ended, is an outlier; told once for each comparison.
    pub(super) fn judge(&self, index: usize, now: Timestamp) -> Option<Evidence> {
        let mut table = self.table.lock();
        self.refresh(&mut table, now);
        let row = table.rows.get_mut(index).filter(|row| !row.judged)?;
        row.judged = true;
        let own = row.standing?;
        let others = table.rows.iter().enumerate().filter(|(i, _)| *i != index);
        let others: Vec<Standing> = others.filter_map(|(_, row)| row.standing).collect();
        let by_success = self.params.success_rate.and_then(|rule| rule.judge(own, &others));
        by_success.or_else(|| self.params.latency.and_then(|rule| rule.judge(own, &others)))
    }

    /// A time before the last comparison is that of a clock which was set back.
    fn refresh(&self, table: &mut Table, now: Timestamp) {
        let every = self.params.compared_over().unwrap_or_default() / 10;
        if now >= table.made && now.since(table.made) < every {
            return;
        }
        table.made = now;
        for (row, breaker) in table.rows.iter_mut().zip(&self.breakers) {
            *row = Row { standing: breaker.standing(now), judged: false };
        }
    }
}

impl Among {
    fn takes(self, standing: Standing) -> bool {
        standing.calls >= self.minimum_calls
    }

    /// The others that count, if they are enough.
    fn peers(self, own: Standing, others: &[Standing]) -> Option<Vec<Standing>> {
        let peers: Vec<_> = others.iter().copied().filter(|other| self.takes(*other)).collect();
        let enough = peers.len() + 1 >= usize::try_from(self.minimum_endpoints).unwrap_or(usize::MAX);
        (self.takes(own) && enough && !peers.is_empty()).then_some(peers)
    }
}

impl SuccessRate {
    fn judge(self, own: Standing, others: &[Standing]) -> Option<Evidence> {
        let peers = self.among.peers(own, others)?;
        let count = f64::from(u32::try_from(peers.len()).unwrap_or(u32::MAX));
        let mean = peers.iter().map(|peer| peer.success).sum::<f64>() / count;
        let variance = peers.iter().map(|peer| (peer.success - mean).powi(2)).sum::<f64>() / count;
        let bound = mean - self.standard_deviations * variance.sqrt().max(LEAST_DEVIATION);
        (own.success < bound).then_some(Evidence::SuccessRate { own: own.success, peers: mean, bound })
    }
}

impl PeerLatency {
    /// Against the median of the others, so that a second slow one does not hide the first.
    fn judge(self, own: Standing, others: &[Standing]) -> Option<Evidence> {
        let peers = self.among.peers(own, others)?;
        let mut latencies: Vec<_> = peers.iter().map(|peer| peer.latency).collect();
        latencies.sort_unstable();
        let median = latencies[(latencies.len() - 1) / 2];
        let is_outlier = own.latency >= self.minimum && own.latency >= median.mul_f64(self.factor);
        let Self { factor, .. } = self;
        is_outlier.then_some(Evidence::Latency { own: own.latency, peers: median, factor })
    }
}

#[cfg(test)]
mod tests;

//! One metric per label set, with a cap: what clients or backends send must not grow memory without end.

use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use rustc_hash::FxHashMap;

/// What is counted where a new label set no longer fits.
pub(super) const OTHER: &str = "other";

/// Labels that know how to give up what makes them many.
pub(super) trait Labels: Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// The label set that takes what does not fit: few of these exist whatever the traffic.
    fn overflow(&self) -> Self;
}

/// See the module; clones share their series. Looking up a known label set takes a read lock and no allocation.
#[derive(Clone)]
pub(super) struct Series<L, M> {
    map: Arc<RwLock<FxHashMap<L, M>>>,
    cap: usize,
    make: fn() -> M,
}

impl<L: Labels, M> Series<L, M> {
    pub(super) fn new(cap: usize, make: fn() -> M) -> Self {
        Self { map: Arc::default(), cap, make }
    }

    pub(super) fn with<R>(&self, labels: &L, f: impl FnOnce(&M) -> R) -> R {
        if let Some(metric) = self.map.read().get(labels) {
            return f(metric);
        }
        let mut map = self.map.write();
        let fits = map.len() < self.cap || map.contains_key(labels);
        let key = if fits { labels.clone() } else { labels.overflow() };
        f(map.entry(key).or_insert_with(self.make))
    }

    pub(super) fn each(&self, mut f: impl FnMut(&L, &M) -> fmt::Result) -> fmt::Result {
        self.map.read().iter().try_for_each(|(labels, metric)| f(labels, metric))
    }
}

impl<L: Labels, M> Debug for Series<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series").field("len", &self.map.read().len()).field("cap", &self.cap).finish()
    }
}

impl<L: Labels + EncodeLabelSet, M: EncodeMetric + TypedMetric> EncodeMetric for Series<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.each(|labels, metric| metric.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.map.read().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    impl Labels for u32 {
        fn overflow(&self) -> Self {
            u32::MAX
        }
    }

    #[test]
    fn beyond_the_cap_everything_is_counted_as_other() {
        let series: Series<u32, Counter> = Series::new(3, Counter::default);
        for labels in 0..1_000 {
            series.with(&labels, Counter::inc);
            series.with(&0, Counter::inc);
        }
        assert_eq!(series.map.read().len(), 4);
        assert_eq!(series.with(&0, Counter::get), 1_001);
        assert_eq!(series.with(&u32::MAX, Counter::get), 997);
    }
}

//! Metrics that plugins define. By name, for the whole process: what one VM counts, its successor counts on.

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::status::Status;

/// Names in a process.
const MAX_METRICS: usize = 4096;
const MAX_NAME: usize = 256;

/// Upper bounds of a histogram's buckets: powers of two, since nobody says of what.
pub const BUCKETS: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Registry>);

#[derive(Debug, Default)]
struct Registry {
    numbers: FxHashMap<Arc<str>, u32>,
    list: Vec<(Arc<str>, Metric)>,
}

/// One metric and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    Counter(u64),
    Gauge(u64),
    Histogram(Box<Histogram>),
}

/// `buckets[n]` holds values up to `2^n`, not counting those of the buckets before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    pub buckets: [u64; BUCKETS],
    pub count: u64,
    pub sum: u64,
}

impl Metrics {
    /// The same name is the same metric; of another type, it is none.
    pub(crate) fn define(&self, kind: u32, name: &[u8]) -> Result<u32, Status> {
        let metric = match kind {
            0 => Metric::Counter(0),
            1 => Metric::Gauge(0),
            2 => Metric::Histogram(Box::default()),
            _ => return Err(Status::BadArgument),
        };
        let name = std::str::from_utf8(name).map_err(|_| Status::BadArgument)?;
        if name.len() > MAX_NAME {
            return Err(Status::BadArgument);
        }
        let mut registry = self.0.lock();
        if let Some(number) = registry.numbers.get(name).copied() {
            let same = registry
                .get(number)
                .is_some_and(|own| std::mem::discriminant(own) == std::mem::discriminant(&metric));
            return if same { Ok(number) } else { Err(Status::BadArgument) };
        }
        if registry.list.len() >= MAX_METRICS {
            return Err(Status::InternalFailure);
        }
        let name: Arc<str> = name.into();
        registry.list.push((name.clone(), metric));
        let number = u32::try_from(registry.list.len()).map_err(|_| Status::InternalFailure)?;
        registry.numbers.insert(name, number);
        Ok(number)
    }

    pub(crate) fn increment(&self, number: u32, by: i64) -> Result<(), Status> {
        match self.0.lock().get(number).ok_or(Status::NotFound)? {
            Metric::Counter(value) => {
                *value = value.wrapping_add(u64::try_from(by).map_err(|_| Status::BadArgument)?);
            }
            Metric::Gauge(value) => *value = value.saturating_add_signed(by),
            Metric::Histogram(_) => return Err(Status::BadArgument),
        }
        Ok(())
    }

    pub(crate) fn record(&self, number: u32, value: u64) -> Result<(), Status> {
        match self.0.lock().get(number).ok_or(Status::NotFound)? {
            Metric::Counter(own) => *own = own.wrapping_add(value),
            Metric::Gauge(own) => *own = value,
            Metric::Histogram(own) => {
                // Bits of what is one less: up to 1 there are none, up to 2 there is one…
                let bits = u64::BITS - value.saturating_sub(1).leading_zeros();
                let bucket = usize::try_from(bits).unwrap_or(BUCKETS).min(BUCKETS - 1);
                own.buckets[bucket] += 1;
                own.count += 1;
                own.sum = own.sum.wrapping_add(value);
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, number: u32) -> Result<u64, Status> {
        match self.0.lock().get(number).ok_or(Status::NotFound)? {
            Metric::Counter(value) | Metric::Gauge(value) => Ok(*value),
            Metric::Histogram(_) => Err(Status::BadArgument),
        }
    }

    /// How all of them stand.
    pub fn snapshot(&self) -> Vec<(Arc<str>, Metric)> {
        self.0.lock().list.clone()
    }
}

impl Registry {
    fn get(&mut self, number: u32) -> Option<&mut Metric> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.list.get_mut(at).map(|(_, metric)| metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statuses_are_those_that_sdks_expect() {
        let metrics = Metrics::default();
        let counter = metrics.define(0, b"c").unwrap();
        let gauge = metrics.define(1, b"g").unwrap();
        let histogram = metrics.define(2, b"h").unwrap();
        assert_eq!(metrics.define(3, b"x"), Err(Status::BadArgument));
        assert_eq!(metrics.define(1, b"c"), Err(Status::BadArgument));
        assert_eq!(metrics.increment(99, 1), Err(Status::NotFound));
        assert_eq!(metrics.record(0, 1), Err(Status::NotFound));
        metrics.increment(counter, 5).unwrap();
        assert_eq!(metrics.increment(counter, -1), Err(Status::BadArgument));
        assert_eq!(metrics.define(0, b"c"), Ok(counter));
        assert_eq!(metrics.get(counter), Ok(5));
        metrics.record(gauge, 7).unwrap();
        metrics.increment(gauge, -9).unwrap();
        assert_eq!(metrics.get(gauge), Ok(0));
        for value in [0, 1, 2, 3, 1024, u64::MAX] {
            metrics.record(histogram, value).unwrap();
        }
        assert_eq!(metrics.get(histogram), Err(Status::BadArgument));
        let Metric::Histogram(own) = &metrics.snapshot()[2].1 else { panic!() };
        assert_eq!((own.buckets[0], own.buckets[1], own.buckets[2], own.buckets[10]), (2, 1, 1, 1));
        assert_eq!((own.buckets[BUCKETS - 1], own.count), (1, 6));
    }
}

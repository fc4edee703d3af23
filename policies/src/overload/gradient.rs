//! How many requests a service can take at one time, learnt from how long they take.
//!
//! The idea is that of the published gradient limits: while latency stays what it is without a queue, more may be under way;
//! once it has grown by half, what is too many waits in the service, and costs latency without any throughput. What is our
//! own here is how the latency without a queue is known. Nobody is held back for the sake of a measurement: each time that
//! the limit is lowered, the requests after it are the measurement. If they take less in proportion, there was a queue; if
//! they take as long as before, the service itself has become slower, and that is its latency from now on.
//!
//! Latency is from admission to the head of the answer: how fast a client reads says nothing about the service.

use std::time::Duration;

use crate::time::Timestamp;

/// Latency beyond this many times that without a queue is too much.
const TOLERATED: f64 = 1.5;
/// Up to here, the limit rises at its full pace.
const CALM: f64 = 1.1;
/// A service that takes less than its latency divided by this has become faster.
const FASTER: f64 = 1.25;
/// Where a limit that is too high goes, as a part of what would just leave no queue. Below 1, so that the low end of each turn
/// is without a queue, whatever was taken for the latency without one.
const AIM: f64 = 0.9;
/// What remains of a limit that is lowered, at least and at most.
const LOWERED: (f64, f64) = (0.5, 0.9);
/// The same while nobody knows yet where the queue ends.
const SEARCHING: f64 = 0.65;
/// Of what a lowered limit would save if all of it was queue: less than this, and it was not.
const PAYS: f64 = 0.5;
/// How fast the latency without a queue follows what is measured: at any time, and at the low end of a turn.
const FOLLOWS: f64 = 0.2;
const LEARNS: f64 = 0.5;
/// Of one window.
const FEWEST_SAMPLES: u32 = 100;
/// Where there are fewer requests, a window ends after this time with so many.
const LONGEST_WINDOW: Duration = Duration::from_secs(2);
const ENOUGH_SAMPLES: u32 = 20;
/// One sample counts no more than so many times the latency without a queue.
const OUTLIER: f64 = 10.0;

/// What the limit may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub min: u32,
    pub max: u32,
    pub initial: u32,
}

/// A limit that learns. A state machine: it is told of each answer and of the time.
#[derive(Debug)]
pub struct Gradient {
    bounds: Bounds,
    limit: f64,
    /// The latency without a queue, in seconds.
    base: Option<f64>,
    /// Whether a lowered limit has shown that there was no queue.
    confirmed: bool,
    window: Window,
    /// Answers to come of requests from before the limit was lowered: they tell of what was.
    settling: u32,
    /// How the limit was lowered last, until it is known what that did.
    lowered: Option<Lowered>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Option<Timestamp>,
    sum: f64,
    count: u32,
    busiest: u32,
}

/// At which latency, and what remained of the limit.
#[derive(Clone, Copy, Debug)]
struct Lowered {
    latency: f64,
    remained: f64,
}

impl Gradient {
    pub fn new(bounds: Bounds) -> Self {
        let limit = bounds.initial.clamp(bounds.min, bounds.max);
        Self {
            bounds,
            limit: f64::from(limit),
            base: None,
            confirmed: false,
            window: Window::default(),
            // The first met no queue, for there was nobody yet.
            settling: limit,
            lowered: None,
        }
    }

    /// Other bounds: what was learnt stays, as far as they let it.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.set(self.limit);
    }

    pub fn limit(&self) -> u32 {
        // Between bounds that are whole.
        self.limit as u32
    }

    /// An answer has begun, `in_flight` requests being under way with its own.
    pub fn sample(&mut self, latency: Duration, in_flight: u32, now: Timestamp) {
        if self.settling > 0 {
            self.settling -= 1;
            return;
        }
        let most = self.base.map_or(f64::INFINITY, |base| base * OUTLIER);
        let since = *self.window.since.get_or_insert(now);
        self.window.sum += latency.as_secs_f64().min(most);
        self.window.count += 1;
        self.window.busiest = self.window.busiest.max(in_flight);
        let count = self.window.count;
        let wanted = FEWEST_SAMPLES.max(self.limit().saturating_mul(2));
        if count >= wanted || (count >= ENOUGH_SAMPLES && now.since(since) >= LONGEST_WINDOW) {
            let window = std::mem::take(&mut self.window);
            self.judge(window.sum / f64::from(count), window.busiest);
        }
    }

    fn judge(&mut self, latency: f64, busiest: u32) {
        let base = *self.base.get_or_insert(latency);
        let lowered = self.lowered.take();
        if f64::from(busiest) * 2.0 < self.limit {
            // The limit holds nobody back, so nothing can be learnt of it; and there is no queue of our making.
            return self.learn(latency, FOLLOWS);
        }
        if let Some(lowered) = lowered {
            return self.weigh(lowered, latency);
        }
        if latency * FASTER < base {
            // At once, before the limit rises by what it seems to save.
            self.base = Some(latency);
            return;
        }
        if latency < base {
            self.learn(latency, FOLLOWS);
        }
        if latency > base * TOLERATED || !self.confirmed {
            return self.lower(latency, busiest);
        }
        let calm = if latency > base * CALM { 0.5 } else { 1.0 };
        self.set(self.limit + self.limit.sqrt() * calm);
    }

    /// What came of a lowered limit.
    fn weigh(&mut self, Lowered { latency: before, remained }: Lowered, latency: f64) {
        let saved = (before - latency) / before;
        if saved < PAYS * (1.0 - remained) {
            // It was of no use: that is how long the service takes.
            self.base = Some(latency);
            self.confirmed = true;
            self.set(self.limit / remained);
        } else if self.confirmed && self.base.is_some_and(|base| latency <= base * TOLERATED) {
            self.learn(latency, LEARNS);
        } else {
            self.lower(latency, self.limit());
        }
    }

    fn lower(&mut self, latency: f64, in_flight: u32) {
        let aim = self.base.map_or(1.0, |base| AIM * base / latency).clamp(LOWERED.0, LOWERED.1);
        let remained = if self.confirmed { aim } else { SEARCHING };
        self.lowered = Some(Lowered { latency, remained });
        self.settling = in_flight;
        self.set(self.limit * remained);
    }

    fn learn(&mut self, latency: f64, weight: f64) {
        self.base = self.base.map(|base| base + (latency - base) * weight);
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(f64::from(self.bounds.min), f64::from(self.bounds.max));
    }
}

#[cfg(test)]
mod tests;

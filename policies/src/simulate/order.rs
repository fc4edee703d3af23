use std::collections::VecDeque;

use super::Request;
use super::queue::Queue;
use crate::time::Timestamp;

/// Puts requests in the order in which they came, as far as a bounded window goes: logs are written when requests end.
///
/// The window is as wide as it may be until one of that width was seen, then four times as wide as any request was ever
/// out of its place: what waits is then still in the processor's caches when its turn comes. A request that is late all the
/// same makes it as wide as it may be again.
#[derive(Debug)]
pub struct Reorder {
    widest: usize,
    /// By how many places any request came after one that it should have come before.
    seen: usize,
    waiting: Queue<Waiting>,
    requests: Vec<Request>,
    free: Vec<usize>,
    number: u64,
    /// The latest time so far and since which number about: a pair for [`TOGETHER`] of those that came later than any before
    /// them, for no more than the window is wide.
    records: VecDeque<(Timestamp, u64)>,
    last: Timestamp,
    late: u64,
}

/// Time, number, place.
type Waiting = (Timestamp, u64, usize);

/// No window is narrower, if it may be as wide.
const LEAST: usize = 256;
/// So many times what was seen.
const MARGIN: usize = 4;
/// So coarse is it known which one it was that came later than any before.
const TOGETHER: u64 = 16;

impl Reorder {
    /// `window`: at most so many wait for one that came earlier.
    pub fn new(window: usize) -> Self {
        Self {
            widest: window.max(1),
            seen: 0,
            waiting: Queue::new(),
            requests: Vec::new(),
            free: Vec::new(),
            number: 0,
            records: VecDeque::new(),
            last: Timestamp::ZERO,
            late: 0,
        }
    }

    /// Takes a request out of `request`, and leaves an old one in it.
    pub fn push(&mut self, request: &mut Request) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.requests.push(Request::default());
            self.requests.len() - 1
        });
        std::mem::swap(&mut self.requests[place], request);
        let at = self.requests[place].at;
        self.measure(at);
        self.waiting.push((at, self.number, place));
        self.number += 1;
    }

    /// The next one, if the window is full, which it can be more than once after a request; with `all`, if there is one.
    /// Its time is never before that of the last.
    pub fn pop(&mut self, all: bool) -> Option<&mut Request> {
        if !all && self.waiting.len() <= self.window() {
            return None;
        }
        let (at, _, place) = self.waiting.pop()?;
        self.free.push(place);
        let request = &mut self.requests[place];
        if at < self.last {
            self.late += 1;
            self.seen = self.widest;
            request.at = self.last;
        }
        self.last = self.last.max(at);
        Some(request)
    }

    /// How many came too late for the window, and count as if they had come with the one before.
    pub fn late(&self) -> u64 {
        self.late
    }

    fn window(&self) -> usize {
        if self.number <= self.widest as u64 {
            return self.widest;
        }
        self.seen.saturating_mul(MARGIN).max(LEAST).min(self.widest)
    }

    /// How far from its place the one that comes now is, at most.
    fn measure(&mut self, at: Timestamp) {
        let number = self.number;
        match self.records.back_mut() {
            Some((latest, _)) if *latest > at => {
                let first = self.records.partition_point(|(latest, _)| *latest <= at);
                let since = self.records.get(first).map_or(number, |(_, first)| *first);
                self.seen = self.seen.max(usize::try_from(number - since).unwrap_or(usize::MAX));
            }
            Some((latest, since)) if number - *since < TOGETHER => *latest = at,
            _ => {
                self.records.push_back((at, number));
                if self.records.len() as u64 * TOGETHER > self.widest as u64 + TOGETHER {
                    self.records.pop_front();
                }
            }
        }
    }
}

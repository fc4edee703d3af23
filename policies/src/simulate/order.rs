use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Request;
use crate::time::Timestamp;

/// Puts requests in the order in which they came, as far as a bounded window goes: logs are written when requests end.
#[derive(Debug)]
pub struct Reorder {
    window: usize,
    /// Time, number, place.
    waiting: BinaryHeap<Reverse<(Timestamp, u64, usize)>>,
    requests: Vec<Request>,
    free: Vec<usize>,
    number: u64,
    last: Timestamp,
    late: u64,
}

impl Reorder {
    /// `window`: so many wait for one that came earlier.
    pub fn new(window: usize) -> Self {
        Self {
            window: window.max(1),
            waiting: BinaryHeap::new(),
            requests: Vec::new(),
            free: Vec::new(),
            number: 0,
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
        self.waiting.push(Reverse((self.requests[place].at, self.number, place)));
        self.number += 1;
    }

    /// The next one, if the window is full; with `all`, if there is one. Its time is never before that of the last.
    pub fn pop(&mut self, all: bool) -> Option<&mut Request> {
        if !all && self.waiting.len() <= self.window {
            return None;
        }
        let Reverse((at, _, place)) = self.waiting.pop()?;
        self.free.push(place);
        let request = &mut self.requests[place];
        if at < self.last {
            self.late += 1;
            request.at = self.last;
        }
        self.last = self.last.max(at);
        Some(request)
    }

    /// How many came too late for the window, and count as if they had come with the one before.
    pub fn late(&self) -> u64 {
        self.late
    }
}

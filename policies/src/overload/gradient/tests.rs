use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const BOUNDS: Bounds = Bounds { min: 1, max: 1000, initial: 20 };

/// A server with so many workers and exponential service times, asked by as many as the limit lets at any time.
struct Server {
    rng: fastrand::Rng,
    workers: usize,
    mean: f64,
    now: f64,
    /// When each worker is done, and since when its request is under way.
    busy: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: VecDeque<f64>,
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

impl Server {
    fn new(seed: u64, workers: usize, mean: f64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { rng, workers, mean, now: 0.0, busy: BinaryHeap::new(), waiting: VecDeque::new() }
    }

    fn in_flight(&self) -> u32 {
        (self.busy.len() + self.waiting.len()) as u32
    }

    /// Lets requests in up to `most`, then goes on until the next answer.
    fn next(&mut self, most: u32) -> Duration {
        while self.in_flight() < most {
            self.waiting.push_back(self.now);
        }
        while self.busy.len() < self.workers
            && let Some(since) = self.waiting.pop_front()
        {
            let done = self.now - self.mean * (1.0 - self.rng.f64()).ln();
            self.busy.push(Reverse((nanos(done), nanos(since))));
        }
        let Reverse((done, since)) = self.busy.pop().unwrap();
        self.now = done as f64 / 1e9;
        Duration::from_nanos(done - since)
    }

    /// The mean limit over so many answers.
    fn run(&mut self, gradient: &mut Gradient, answers: u32) -> f64 {
        let mut sum = 0.0;
        for _ in 0..answers {
            let latency = self.next(gradient.limit());
            let now = Timestamp::from_nanos(nanos(self.now));
            gradient.sample(latency, self.in_flight() + 1, now);
            sum += f64::from(gradient.limit());
        }
        sum / f64::from(answers)
    }
}

fn assert_about(limit: f64, workers: usize, when: &str) {
    assert_within(limit, workers, (2.0, when));
}

/// One in some thousand services is still on its way down when it is looked at.
fn assert_again(limit: f64, workers: usize, when: &str) {
    assert_within(limit, workers, (2.5, when));
}

fn assert_within(limit: f64, workers: usize, (most, when): (f64, &str)) {
    let ratio = limit / workers as f64;
    assert!((0.8..most).contains(&ratio), "{when}: {limit} for {workers} workers");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever answers say, the limit stays within its bounds.
    #[test]
    fn the_limit_stays_within_its_bounds(
        min in 1..50_u32, more in 0..100_u32, initial in 0..500_u32,
        samples in prop::collection::vec((0..5_000_u64, 0..300_u32), 1..3_000),
    ) {
        let bounds = Bounds { min, max: min + more, initial };
        let (mut gradient, mut now) = (Gradient::new(bounds), Timestamp::ZERO);
        for (millis, in_flight) in samples {
            now = now + Duration::from_millis(millis % 100);
            gradient.sample(Duration::from_millis(millis), in_flight, now);
            prop_assert!((bounds.min..=bounds.max).contains(&gradient.limit()));
        }
    }

    /// Wherever it begins, it finds what the server can take: no less, and less than twice as much.
    #[test]
    fn it_finds_what_the_server_can_take(seed: u64, workers in 4..150_usize, initial in 1..800_u32) {
        let mut gradient = Gradient::new(Bounds { initial, ..BOUNDS });
        let mut server = Server::new(seed, workers, 0.02);
        server.run(&mut gradient, 60_000);
        let limit = server.run(&mut gradient, 60_000);
        assert_about(limit, workers, "settled");
    }

    /// A service that becomes slower or faster by itself is not held back for that.
    #[test]
    fn it_recovers_from_a_shift_of_latency_either_way(seed: u64, workers in 8..100_usize, factor in 2.0..8.0_f64) {
        let mut gradient = Gradient::new(BOUNDS);
        let mut server = Server::new(seed, workers, 0.02);
        server.run(&mut gradient, 60_000);
        server.mean *= factor;
        server.run(&mut gradient, 30_000);
        assert_again(server.run(&mut gradient, 60_000), workers, "slower");
        server.mean /= factor;
        server.run(&mut gradient, 30_000);
        assert_again(server.run(&mut gradient, 60_000), workers, "faster again");
    }

    /// The same for a service that loses workers and gets them back.
    #[test]
    fn it_follows_a_change_of_capacity(seed: u64, workers in 16..100_usize) {
        let mut gradient = Gradient::new(BOUNDS);
        let mut server = Server::new(seed, workers, 0.02);
        server.run(&mut gradient, 60_000);
        server.workers = workers / 4;
        server.run(&mut gradient, 30_000);
        assert_about(server.run(&mut gradient, 60_000), workers / 4, "fewer");
        server.workers = workers;
        server.run(&mut gradient, 60_000);
        assert_about(server.run(&mut gradient, 60_000), workers, "back");
    }
}

#[test]
fn it_never_sticks_at_the_least_it_may_be() {
    let mut gradient = Gradient::new(Bounds { min: 2, max: 500, initial: 2 });
    // Slower and slower: no lowered limit ever pays.
    let mut now = Timestamp::ZERO;
    for round in 0..2_000_u64 {
        now = now + Duration::from_millis(50);
        gradient.sample(Duration::from_millis(10 + round), gradient.limit(), now);
    }
    let mut server = Server::new(1, 50, 0.02);
    server.now = 200.0;
    server.run(&mut gradient, 60_000);
    assert_about(server.run(&mut gradient, 30_000), 50, "after all that");
}

#[test]
fn what_holds_nobody_back_is_left_as_it_is() {
    let mut gradient = Gradient::new(BOUNDS);
    for round in 0..10_000 {
        gradient.sample(Duration::from_millis(20), 3, Timestamp::from_millis(round * 10));
    }
    assert_eq!(gradient.limit(), 20);
}

#[test]
fn other_bounds_hold_at_once_and_what_was_learnt_stays() {
    let mut gradient = Gradient::new(BOUNDS);
    let mut server = Server::new(1, 50, 0.02);
    server.run(&mut gradient, 60_000);
    let learnt = gradient.limit();
    gradient.set_bounds(Bounds { min: 1, max: 2000, initial: 5 });
    assert_eq!(gradient.limit(), learnt);
    gradient.set_bounds(Bounds { min: 1, max: 10, initial: 5 });
    assert_eq!(gradient.limit(), 10);
}

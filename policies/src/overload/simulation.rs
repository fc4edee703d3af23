//! A service that is asked for twice what it can do, one tenant asking for most of it: with the gate and without, on a virtual
//! clock. `cargo test -p tidegate-policy simulation -- --nocapture` prints the figures.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use http::Response;
use parking_lot::Mutex;

use super::{Arrival, Bounds, Gate, Limit, Place, Queueing, Settings, Ticket};
use crate::pipeline::Held;
use crate::time::Timestamp;

const WORKERS: usize = 20;
/// In seconds, exponential: the service can do 1000 requests a second.
const SERVICE: f64 = 0.02;
const CAPACITY: f64 = WORKERS as f64 / SERVICE;
/// After which a client has gone; the service does its work all the same.
const PATIENCE: f64 = 0.25;
const SECONDS: f64 = 60.0;
/// Not counted.
const WARM_UP: f64 = 10.0;

/// Who asks, how often a second, of which class.
const ASKS: [(&str, f64, usize); 7] = [
    ("critical", 100.0, 0),
    ("noisy", 1400.0, 1),
    ("quiet-1", 100.0, 1),
    ("quiet-2", 100.0, 1),
    ("quiet-3", 100.0, 1),
    ("quiet-4", 100.0, 1),
    ("quiet-5", 100.0, 1),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    Done(u64),
    OutOfPatience(u64),
}

#[derive(Default)]
struct Counted {
    asked: u32,
    in_time: u32,
    latencies: Vec<f64>,
}

struct Request {
    tenant: usize,
    asked: f64,
    place: Option<Place>,
    ticket: Option<Ticket>,
}

/// Tells which request's turn has come.
struct Bell(u64, Arc<Mutex<Vec<u64>>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().push(self.0);
    }
}

struct World {
    rng: fastrand::Rng,
    gate: Option<Arc<Gate>>,
    now: f64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    requests: BTreeMap<u64, Request>,
    last: u64,
    /// The service: who is worked on, and its own queue.
    at_work: usize,
    waiting: VecDeque<u64>,
    rung: Arc<Mutex<Vec<u64>>>,
    counted: [Counted; ASKS.len()],
}

impl World {
    fn new(seed: u64, gate: Option<Settings>) -> Self {
        let mut world = Self {
            rng: fastrand::Rng::with_seed(seed),
            gate: gate.map(|settings| Arc::new(Gate::new(settings))),
            now: 0.0,
            events: BinaryHeap::new(),
            requests: BTreeMap::new(),
            last: 0,
            at_work: 0,
            waiting: VecDeque::new(),
            rung: Arc::default(),
            counted: Default::default(),
        };
        (0..ASKS.len()).for_each(|tenant| world.next_arrival(tenant));
        world
    }

    fn stamp(&self) -> Timestamp {
        Timestamp::from_nanos((self.now * 1e9) as u64)
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.rng.f64()).ln()
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.events.push(Reverse((((self.now + seconds) * 1e9) as u64, event)));
    }

    fn next_arrival(&mut self, tenant: usize) {
        let wait = self.exponential(1.0 / ASKS[tenant].1);
        self.after(wait, Event::Arrives(tenant));
    }

    fn run(mut self) -> [Counted; ASKS.len()] {
        while let Some(Reverse((at, event))) = self.events.pop() {
            self.now = at as f64 / 1e9;
            if self.now > SECONDS {
                break;
            }
            match event {
                Event::Arrives(tenant) => self.arrives(tenant),
                Event::Done(id) => self.done(id),
                Event::OutOfPatience(id) => self.out_of_patience(id),
            }
            self.answer_bells();
        }
        self.counted
    }

    fn counts(&self) -> bool {
        self.now > WARM_UP
    }

    fn arrives(&mut self, tenant: usize) {
        self.next_arrival(tenant);
        if self.counts() {
            self.counted[tenant].asked += 1;
        }
        self.last += 1;
        let (id, now) = (self.last, self.stamp());
        let mut request = Request { tenant, asked: self.now, place: None, ticket: None };
        if let Some(gate) = &self.gate {
            match gate.arrive((ASKS[tenant].2, tenant as u128), now).0 {
                Arrival::Admitted(place) => request.place = Some(place),
                Arrival::Shed => return,
                Arrival::Waits(place, mut ticket) => {
                    let waker = Waker::from(Arc::new(Bell(id, self.rung.clone())));
                    let polled = Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker));
                    assert!(polled.is_pending());
                    self.after(ticket.patience().as_secs_f64(), Event::OutOfPatience(id));
                    (request.place, request.ticket) = (Some(place), Some(ticket));
                    self.requests.insert(id, request);
                    return;
                }
            }
        }
        self.requests.insert(id, request);
        self.send(id);
    }

    fn answer_bells(&mut self) {
        loop {
            let rung = std::mem::take(&mut *self.rung.lock());
            if rung.is_empty() {
                return;
            }
            for id in rung {
                let now = self.stamp();
                let Some(request) = self.requests.get_mut(&id) else { continue };
                let Some(mut ticket) = request.ticket.take() else { continue };
                let mut cx = Context::from_waker(Waker::noop());
                assert_eq!(Pin::new(&mut ticket).poll(&mut cx), Poll::Ready(()));
                if ticket.begin(now) {
                    self.send(id);
                } else {
                    self.requests.remove(&id);
                }
            }
        }
    }

    fn out_of_patience(&mut self, id: u64) {
        let waits = self.requests.get(&id).and_then(|request| request.ticket.clone());
        if let Some(ticket) = waits {
            ticket.give_up();
            if !ticket.begin(self.stamp()) {
                self.requests.remove(&id);
            }
        }
    }

    /// To the service.
    fn send(&mut self, id: u64) {
        self.waiting.push_back(id);
        self.work();
    }

    fn work(&mut self) {
        while self.at_work < WORKERS
            && let Some(id) = self.waiting.pop_front()
        {
            self.at_work += 1;
            let takes = self.exponential(SERVICE);
            self.after(takes, Event::Done(id));
        }
    }

    fn done(&mut self, id: u64) {
        self.at_work -= 1;
        self.work();
        let Some(mut request) = self.requests.remove(&id) else { return };
        let (took, now) = (self.now - request.asked, self.stamp());
        if let Some(place) = &mut request.place {
            place.on_response(&Response::new(()).into_parts().0, now);
        }
        if self.counts() && took <= PATIENCE {
            self.counted[request.tenant].in_time += 1;
            self.counted[request.tenant].latencies.push(took);
        }
    }
}

fn settings(limit: Limit) -> Settings {
    let ms = Duration::from_millis;
    Settings { limit, queueing: Queueing { most: 100, max_wait: ms(100), target: ms(20), interval: ms(100) } }
}

/// Of each who asks, the part that was answered in time; and all that was, as a part of what the service can do.
#[allow(clippy::disallowed_macros, reason = "a table for whoever asks to see it")]
fn shown(name: &str, counted: &mut [Counted; ASKS.len()]) -> (Vec<f64>, f64) {
    println!("{name}");
    println!("{:>10} {:>9} {:>13} {:>7} {:>8}", "who", "asked/s", "in time/s", "share", "p99 ms");
    let seconds = SECONDS - WARM_UP;
    let mut parts = Vec::new();
    for ((who, ..), counted) in ASKS.iter().zip(counted.iter_mut()) {
        counted.latencies.sort_by(f64::total_cmp);
        let p99 = counted.latencies.get(counted.latencies.len() * 99 / 100).copied().unwrap_or(f64::NAN);
        let (asked, served) = (f64::from(counted.asked), f64::from(counted.in_time));
        parts.push(served / asked);
        let share = served / asked * 100.0;
        let (asked, served, p99) = (asked / seconds, served / seconds, p99 * 1000.0);
        println!("{who:>10} {asked:>9.0} {served:>13.0} {share:>6.1}% {p99:>8.1}");
    }
    let goodput = counted.iter().map(|counted| f64::from(counted.in_time)).sum::<f64>() / seconds / CAPACITY;
    println!("{:>10} {:>32.1}% of what it can do\n", "all", goodput * 100.0);
    (parts, goodput)
}

#[test]
fn at_twice_the_load_the_important_and_the_quiet_are_served_and_without_a_gate_nobody_is() {
    let mut without = World::new(1, None).run();
    let (_, lost) = shown("without a policy", &mut without);
    assert!(lost < 0.1, "a queue without an end leaves nothing in time");
    let learnt = Limit::Learnt(Bounds { min: 1, max: 1000, initial: 20 });
    for (name, limit) in [("fixed limit of 24", Limit::Fixed(24)), ("limit learnt from latency", learnt)] {
        for seed in 1..4 {
            let mut counted = World::new(seed, Some(settings(limit))).run();
            let (parts, goodput) = shown(&format!("{name}, run {seed}"), &mut counted);
            assert!(parts[0] >= 0.99, "critical: {}", parts[0]);
            assert!(parts[2..].iter().all(|part| *part >= 0.95), "quiet: {parts:?}");
            assert!(goodput >= 0.9, "goodput: {goodput}");
        }
    }
}

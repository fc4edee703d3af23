use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::answers::Answers;
use super::plan::Plan;
use super::queue::Queue;
use super::request::{Logged, Request};
use super::tally::{Tally, Verdict};
use crate::overload::Ticket;
use crate::story::{Asked, Step, Story, Teller};
use crate::time::Timestamp;

/// Replays requests in the order in which they came. What is under way at one time is bounded; beyond, the one that would
/// end first ends early.
#[derive(Debug)]
pub struct Simulator<'p> {
    plan: &'p Plan,
    teller: Teller<'p>,
    answers: Answers,
    seed: u64,
    stories: Vec<Story>,
    flights: Vec<Flight>,
    free: Vec<usize>,
    /// When, number, place, and which step of the request that is there.
    next: Queue<(Timestamp, u64, usize, u32)>,
    turns: Arc<Turns>,
    number: u64,
    now: Timestamp,
    tally: Tally,
    /// What came of each request since it was last asked for, if anybody asks.
    verdicts: Option<Vec<(u64, Verdict)>>,
}

/// What belongs to a request under way, beside its story.
#[derive(Debug)]
struct Flight {
    number: u64,
    at: Timestamp,
    logged: Logged,
    /// So that no request depends on how many others are under way.
    draws: fastrand::Rng,
    answers: fastrand::Rng,
    waited: Duration,
    /// The backend that is being called.
    calling: Option<usize>,
    attempts: u32,
    turn: Option<(Ticket, Timestamp)>,
    step: u32,
}

/// Whose turn has come.
#[derive(Debug, Default)]
struct Turns {
    /// Whether there are any: mostly there are none, and that is asked after each step.
    any: AtomicBool,
    come: Mutex<Vec<(usize, u32)>>,
}

struct Turn {
    turns: Arc<Turns>,
    of: (usize, u32),
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.turns.push(self.of);
    }
}

impl Turns {
    fn push(&self, of: (usize, u32)) {
        self.come.lock().push(of);
        self.any.store(true, Ordering::Release);
    }

    fn pop(&self) -> Option<(usize, u32)> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut come = self.come.lock();
        let next = come.pop();
        self.any.store(!come.is_empty(), Ordering::Release);
        next
    }
}

/// So many requests are under way at one time at most.
const MOST_IN_FLIGHT: usize = 1 << 16;
/// What makes a stream of numbers for answers of the one for draws.
const OF_ANSWERS: u64 = 0x9e37_79b9_7f4a_7c15;

impl<'p> Simulator<'p> {
    /// The same traffic and seed give the same result.
    pub fn new(plan: &'p Plan, answers: Answers, seed: u64) -> Self {
        let teller = Teller {
            snapshot: &plan.world.snapshot,
            epoch: Duration::ZERO,
            connects: false,
            rng: fastrand::Rng::with_seed(seed),
        };
        Self {
            plan,
            teller,
            answers,
            seed,
            stories: Vec::new(),
            flights: Vec::new(),
            free: Vec::new(),
            next: Queue::new(),
            turns: Arc::default(),
            number: 0,
            now: Timestamp::ZERO,
            tally: Tally::default(),
            verdicts: None,
        }
    }

    /// Keeps what comes of each request until [`Simulator::verdicts`] asks for it.
    #[must_use]
    pub fn telling(self) -> Self {
        Self { verdicts: Some(Vec::new()), ..self }
    }

    /// What has come of requests since it was last asked, by their numbers from 0. For one that tells.
    pub fn verdicts(&mut self) -> impl Iterator<Item = (u64, Verdict)> + '_ {
        self.verdicts.iter_mut().flat_map(|verdicts| verdicts.drain(..))
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    pub fn into_tally(self) -> Tally {
        self.tally
    }

    /// A request comes; not before the one before. Leaves another one in `request`, whose buffers can be used.
    pub fn push(&mut self, request: &mut Request) {
        let at = request.at.max(self.now);
        self.go_on(at);
        self.now = at;
        self.answers.remember(request.logged);
        self.tally.came(at, request.logged.status);
        let place = self.place();
        let (number, logged) = (self.number, request.logged);
        self.number += 1;
        let seed = self.seed ^ number.wrapping_mul(OF_ANSWERS);
        let flight = &mut self.flights[place];
        *flight = Flight::new(number, (at, logged), seed, flight.step.wrapping_add(1));
        let story = &mut self.stories[place];
        std::mem::swap(&mut story.head, &mut request.head);
        std::mem::swap(&mut story.peer, &mut request.peer);
        let scope = self.plan.scope(&story.head, request.secure);
        let asked = Asked { scope, sni: None, grpc: request.grpc };
        self.tell(place, |teller, story, answers| teller.begin(story, &asked, at, answers));
        self.take_turns();
    }

    /// Ends all that is under way.
    pub fn finish(&mut self) {
        self.go_on(Timestamp::from_nanos(u64::MAX));
    }

    /// Everything that happens up to then.
    fn go_on(&mut self, until: Timestamp) {
        while self.next.first().is_some_and(|(at, ..)| *at <= until) {
            self.happen();
        }
    }

    fn happen(&mut self) {
        let Some((at, _, place, step)) = self.next.pop() else { return };
        if self.flights[place].step != step {
            return;
        }
        self.now = self.now.max(at);
        // Has waited long enough for its turn.
        if let Some((ticket, _)) = &self.flights[place].turn {
            ticket.give_up();
        }
        self.resume(place, at);
        self.take_turns();
    }

    fn resume(&mut self, place: usize, at: Timestamp) {
        let flight = &mut self.flights[place];
        if let Some((_, since)) = flight.turn.take() {
            flight.waited += at.since(since);
        }
        self.tell(place, |teller, story, answers| teller.resume(story, at, answers));
    }

    /// Those who waited for others to leave.
    fn take_turns(&mut self) {
        loop {
            let Some((place, step)) = self.turns.pop() else { return };
            if self.flights[place].step == step && self.flights[place].turn.is_some() {
                self.resume(place, self.now);
            }
        }
    }

    /// The next step of a story, and what follows from it.
    fn tell(&mut self, place: usize, go_on: impl FnOnce(&mut Teller<'p>, &mut Story, &mut Answers) -> Step) {
        let (story, flight) = (&mut self.stories[place], &mut self.flights[place]);
        self.answers.logged = flight.logged;
        std::mem::swap(&mut self.teller.rng, &mut flight.draws);
        std::mem::swap(&mut self.answers.rng, &mut flight.answers);
        let called = flight.calling.take();
        let step = go_on(&mut self.teller, story, &mut self.answers);
        std::mem::swap(&mut self.teller.rng, &mut flight.draws);
        std::mem::swap(&mut self.answers.rng, &mut flight.answers);
        if let Some(backend) = called {
            self.tally.returned(backend, story.has_failed());
        }
        if story.told.attempts > flight.attempts {
            flight.attempts = story.told.attempts;
            flight.calling = story.told.backend().map(|backend| self.tally.called(backend, self.now));
        }
        flight.step = flight.step.wrapping_add(1);
        match step {
            Step::Done => self.done(place),
            Step::Until(at) => self.next.push((at, flight.number, place, flight.step)),
            Step::Waits(at) => {
                flight.waited += at.since(self.now);
                self.next.push((at, flight.number, place, flight.step));
            }
            Step::Turn(ticket) => self.wait_for(place, ticket),
        }
    }

    fn wait_for(&mut self, place: usize, ticket: Ticket) {
        let flight = &mut self.flights[place];
        let of = (place, flight.step);
        let waker = Waker::from(Arc::new(Turn { turns: self.turns.clone(), of }));
        if let Poll::Ready(()) = pin!(ticket.clone()).poll(&mut Context::from_waker(&waker)) {
            self.turns.push(of);
        }
        self.next.push((self.now + ticket.patience(), flight.number, place, flight.step));
        flight.turn = Some((ticket, self.now));
    }

    fn done(&mut self, place: usize) {
        let (story, flight) = (&self.stories[place], &self.flights[place]);
        self.tally.ended(story, flight.at, flight.waited);
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.push((flight.number, Verdict::of(&story.told)));
        }
        self.free.push(place);
    }

    fn place(&mut self) -> usize {
        while self.free.is_empty() && self.stories.len() >= MOST_IN_FLIGHT && !self.next.is_empty() {
            self.tally.cut_short += 1;
            self.happen();
        }
        self.free.pop().unwrap_or_else(|| {
            self.stories.push(Story::new(Request::default().peer));
            self.flights.push(Flight::new(0, (Timestamp::ZERO, Logged::default()), 0, 0));
            self.stories.len() - 1
        })
    }
}

impl Flight {
    fn new(number: u64, (at, logged): (Timestamp, Logged), seed: u64, step: u32) -> Self {
        Self {
            number,
            at,
            logged,
            draws: fastrand::Rng::with_seed(seed),
            answers: fastrand::Rng::with_seed(seed ^ OF_ANSWERS.rotate_left(17)),
            waited: Duration::ZERO,
            calling: None,
            attempts: 0,
            turn: None,
            step,
        }
    }
}

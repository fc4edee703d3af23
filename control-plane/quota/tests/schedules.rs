//! Whatever the network and the servers do, the shares that are held never add up to more than the limit.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_quota::{
    Assignment, BucketId, Fallback, Lease, Limit, Most, Rate, Report, Server, Share, State, Terms, Tokens,
    Usage,
};

const TERMS: Terms = Terms { ttl: Duration::from_millis(1500), reuse: Duration::from_millis(1500) };
const RATE: Rate = Rate { requests: 1000, per: Duration::from_secs(1), burst: 100 };
/// What passes at this rate is little beside what a burst too many would be.
const SLOW: Rate = Rate { requests: 10, per: Duration::from_secs(1), burst: 100 };
const MOST: Most = Most { buckets: 10, members: 100 };
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Request { client: usize, requests: u64 },
    Report(usize),
    Rebalance,
    Deliver(usize),
    Lose(usize),
    Double(usize),
    Rejoin { client: usize, crashed: bool },
    Restart,
}

enum Message {
    Up(Report),
    Down(Assignment),
}

struct World {
    rate: Rate,
    now: Duration,
    epoch: u64,
    server: Server,
    clients: Vec<Lease>,
    /// One that crashed is another client when it comes back.
    ids: Vec<u64>,
    wire: Vec<Message>,
    next_id: u64,
    begun: Duration,
    admitted: u64,
    restarts: u64,
}

fn lease(id: u64, rate: Rate, now: Duration) -> Lease {
    Lease::new(id, BucketId([0; 16]), rate, Fallback::Share(Share::NONE), now)
}

impl World {
    fn new() -> Self {
        Self::of(RATE)
    }

    fn of(rate: Rate) -> Self {
        let now = Duration::from_secs(10);
        let ids: Vec<u64> = (0..CLIENTS as u64).collect();
        let clients = ids.iter().map(|id| lease(*id, rate, now)).collect();
        let server = Server::new(MOST, 0, Duration::ZERO);
        Self {
            rate,
            now,
            epoch: 0,
            server,
            clients,
            ids,
            wire: Vec::new(),
            next_id: CLIENTS as u64,
            begun: now,
            admitted: 0,
            restarts: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pass(millis) => self.now += Duration::from_millis(millis),
            Step::Request { client, requests } => {
                let cell = self.clients[client].cell();
                self.admitted += (0..requests).filter(|_| cell.take(1, self.now).is_ok()).count() as u64;
            }
            Step::Report(client) => {
                let report = self.clients[client].report(self.now);
                self.wire.push(Message::Up(report));
            }
            Step::Rebalance => {
                self.wire.extend(self.server.rebalance(self.now).into_iter().map(Message::Down));
            }
            Step::Deliver(i) if i < self.wire.len() => {
                let message = self.wire.remove(i);
                self.deliver(&message);
            }
            Step::Lose(i) if i < self.wire.len() => drop(self.wire.swap_remove(i)),
            Step::Double(i) if i < self.wire.len() => {
                let copy = match &self.wire[i] {
                    Message::Up(report) => Message::Up(*report),
                    Message::Down(assignment) => Message::Down(*assignment),
                };
                self.deliver(&copy);
            }
            Step::Deliver(_) | Step::Lose(_) | Step::Double(_) => {}
            Step::Rejoin { client, crashed } => self.rejoin(client, crashed),
            Step::Restart => {
                self.epoch += 1;
                self.restarts += 1;
                self.server = Server::new(MOST, self.epoch, self.now);
            }
        }
        let now = self.now;
        self.clients.iter_mut().for_each(|client| client.tick(now));
    }

    fn deliver(&mut self, message: &Message) {
        match message {
            Message::Up(report) => {
                self.server.report(report, Limit { rate: self.rate, terms: TERMS }, self.now);
            }
            Message::Down(assignment) => {
                if let Some(i) = self.ids.iter().position(|id| *id == assignment.client) {
                    self.clients[i].assign(assignment, self.now);
                }
            }
        }
    }

    fn rejoin(&mut self, client: usize, crashed: bool) {
        if crashed {
            self.ids[client] = self.next_id;
            self.next_id += 1;
        }
        let left = self.now;
        self.now += Duration::from_millis(1);
        let mut before =
            std::mem::replace(&mut self.clients[client], lease(self.ids[client], self.rate, self.now));
        if !crashed {
            self.wire.push(Message::Up(before.leave(left)));
        }
    }

    /// What the rate alone lets pass.
    fn earned(&self) -> u64 {
        (self.now - self.begun).as_millis() as u64 * self.rate.requests / 1000
    }

    fn held(&self) -> u64 {
        self.clients.iter().filter_map(Lease::share).map(Share::as_billionths).sum()
    }

    /// A round without faults: reports, rebalance, assignments.
    fn round(&mut self, requests: [u64; CLIENTS]) {
        self.step(&Step::Pass(200));
        for (client, requests) in requests.into_iter().enumerate() {
            self.step(&Step::Request { client, requests });
            self.step(&Step::Report(client));
        }
        self.flush();
        self.step(&Step::Rebalance);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.wire.is_empty() {
            self.step(&Step::Deliver(0));
        }
    }

    fn percent(&self, client: usize) -> u64 {
        self.clients[client].share().map_or(0, |share| share.as_billionths() / 10_000_000)
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u64..700).prop_map(Step::Pass),
        8 => (0..CLIENTS, 0_u64..1500).prop_map(|(client, requests)| Step::Request { client, requests }),
        8 => (0..CLIENTS).prop_map(Step::Report),
        6 => Just(Step::Rebalance),
        16 => (0_usize..6).prop_map(Step::Deliver),
        1 => (0_usize..6).prop_map(Step::Lose),
        2 => (0_usize..6).prop_map(Step::Double),
        1 => (0..CLIENTS, any::<bool>()).prop_map(|(client, crashed)| Step::Rejoin { client, crashed }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_shares_held_never_exceed_the_limit_in_any_schedule(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            prop_assert!(world.held() <= Share::WHOLE.as_billionths(), "{} after {step:?}", world.held());
        }
    }

    #[test]
    fn no_more_than_the_burst_and_the_rate_pass_in_any_schedule(steps in steps()) {
        let mut world = World::of(SLOW);
        for step in steps.iter().filter(|step| !matches!(step, Step::Restart)) {
            world.step(step);
            let most = world.earned() + SLOW.burst;
            prop_assert!(world.admitted <= most, "{} > {most} after {step:?}", world.admitted);
        }
    }

    /// A server that restarts knows nothing of what was spent before it, of buckets that nobody reports as long as shares are
    /// lent.
    #[test]
    fn a_server_that_restarts_gives_at_most_one_burst_too_much(steps in steps()) {
        let mut world = World::of(SLOW);
        for step in &steps {
            world.step(step);
            let most = world.earned() + SLOW.burst * (1 + world.restarts);
            prop_assert!(world.admitted <= most, "{} > {most} after {step:?}", world.admitted);
        }
    }
}

#[test]
fn shares_follow_demand_within_five_reports_and_idle_ones_return() {
    let mut world = World::new();
    (0..5).for_each(|_| world.round([900, 20, 20, 0]));
    assert!(world.percent(0) >= 70, "{}", world.percent(0));
    assert!((10..=14).contains(&world.percent(1)), "{}", world.percent(1));
    (0..10).for_each(|_| world.round([0, 900, 0, 0]));
    assert!(world.percent(1) >= 90, "{}", world.percent(1));
    assert!(world.percent(0) <= 2, "{}", world.percent(0));
}

#[test]
fn equal_demand_beyond_the_limit_is_divided_equally() {
    let mut world = World::new();
    (0..8).for_each(|_| world.round([500, 500, 500, 500]));
    (0..CLIENTS).for_each(|client| assert_eq!(world.percent(client), 24));
}

#[test]
fn one_that_is_cut_off_keeps_its_share_then_falls_back() {
    let mut world = World::new();
    (0..5).for_each(|_| world.round([900, 20, 20, 0]));
    let share = world.percent(0);
    let state = |world: &World| world.clients[0].state(world.now);
    assert_eq!(state(&world), State::Assigned);
    world.step(&Step::Pass(1500));
    assert_eq!((state(&world), world.percent(0)), (State::Reused, share));
    world.step(&Step::Pass(1500));
    assert_eq!((state(&world), world.clients[0].share()), (State::Fallback, None));
}

#[test]
fn a_server_that_restarts_keeps_shares_as_they_are_until_it_knows_all() {
    let mut world = World::new();
    (0..5).for_each(|_| world.round([900, 20, 20, 0]));
    let before: Vec<_> = (0..CLIENTS).map(|client| world.percent(client)).collect();
    world.step(&Step::Restart);
    for _ in 0..14 {
        world.round([0, 900, 0, 0]);
        assert_eq!((0..CLIENTS).map(|client| world.percent(client)).collect::<Vec<_>>(), before);
    }
    (0..12).for_each(|_| world.round([0, 900, 0, 0]));
    assert!(world.percent(1) >= 90, "{}", world.percent(1));
}

#[test]
fn clients_beyond_the_cap_are_not_kept() {
    let mut server = Server::new(Most { members: 2, ..MOST }, 0, Duration::ZERO);
    let now = Duration::from_secs(10);
    for client in 0..1000 {
        let usage = Usage { allowed: 1, denied: 0, elapsed: Duration::from_secs(1) };
        let (bucket, held, returned) = (BucketId([0; 16]), None, Tokens::NONE);
        let limit = Limit { rate: RATE, terms: TERMS };
        let report = Report { client, bucket, stamp: now, held, usage, returned, leaves: false };
        server.report(&report, limit, now);
    }
    assert_eq!(server.rebalance(now).len(), 2);
    // What they were seen to admit is still missing in the bucket.
    server.rebalance(now + TERMS.lease());
    assert_eq!(server.len(), 1);
    server.rebalance(now + TERMS.lease() + Duration::from_secs(1));
    server.rebalance(now + TERMS.lease() + Duration::from_secs(2));
    assert!(server.is_empty());
}

#[test]
fn buckets_beyond_the_cap_are_not_kept() {
    let mut server = Server::new(MOST, 0, Duration::ZERO);
    let now = Duration::from_secs(10);
    for i in 0..100 {
        let mut lease = Lease::new(1, BucketId([i; 16]), RATE, Fallback::Share(Share::NONE), now);
        server.report(&lease.report(now), Limit { rate: RATE, terms: TERMS }, now);
    }
    assert_eq!((server.len(), server.rebalance(now).len()), (10, 10));
}

#[test]
fn the_first_to_come_has_the_whole_burst_and_who_leaves_takes_nothing_along() {
    let mut world = World::new();
    world.step(&Step::Report(0));
    world.flush();
    world.step(&Step::Rebalance);
    world.flush();
    world.step(&Step::Request { client: 0, requests: 1000 });
    assert_eq!(world.admitted, RATE.burst);
    // Another comes as it leaves: the bucket is as empty as it was.
    world.step(&Step::Rejoin { client: 0, crashed: false });
    world.flush();
    world.step(&Step::Report(1));
    world.flush();
    world.step(&Step::Rebalance);
    world.flush();
    world.step(&Step::Request { client: 1, requests: 1000 });
    assert!(world.admitted <= RATE.burst + 2, "{}", world.admitted);
}

#[test]
fn a_bucket_that_moves_to_another_server_keeps_its_shares_until_the_new_owner_knows_them() {
    let mut world = World::new();
    (0..5).for_each(|_| world.round([900, 20, 20, 0]));
    let share = world.percent(0);
    let mut other = Server::new(MOST, 0, Duration::ZERO);
    other.take_over(|_| true, 7, world.now);
    world.server = other;
    (0..10).for_each(|_| world.round([0, 900, 0, 0]));
    assert_eq!(world.percent(0), share);
    (0..20).for_each(|_| world.round([0, 900, 0, 0]));
    assert!(world.percent(1) >= 90, "{}", world.percent(1));
}

#[test]
fn a_server_forgets_the_buckets_that_it_no_longer_owns() {
    let mut world = World::new();
    world.round([1, 1, 1, 1]);
    assert_eq!(world.server.len(), 1);
    world.server.take_over(|_| false, 7, world.now);
    assert!(world.server.is_empty());
}

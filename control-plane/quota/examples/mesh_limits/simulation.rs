//! Many sidecars, one limit: steps of ten milliseconds, every message one step under way, one seed.

use std::time::Duration;

use tidegate_quota::{
    Assignment, BucketId, ClientId, Fallback, Lease, Limit, Most, Rate, Report, Server, Share, Terms,
};

const STEP: Duration = Duration::from_millis(10);
const STEPS_PER_REPORT: u64 = 20;
const STEPS_PER_REBALANCE: u64 = 10;
const WINDOW: u64 = 1000;
const TERMS: Terms = Terms { ttl: Duration::from_secs(2), reuse: Duration::from_secs(3) };
const BUCKET: BucketId = BucketId([7; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// A tenth of the sidecars has nine tenths of the load.
    Skewed,
    /// Every sidecar works a second or two, then pauses.
    Bursty,
    /// Skewed, and one in fifty is replaced every second, a tenth of those without a farewell.
    Churning,
}

/// One window of ten seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Admitted, per request that the limit allows.
    pub(crate) admitted: f64,
    /// Jain's index of what sidecars got of their max-min fair part.
    pub(crate) fairness: f64,
    /// Both ways, per second.
    pub(crate) messages: f64,
}

struct Sidecar {
    id: ClientId,
    lease: Lease,
    /// Requests per step.
    load: f64,
    works: bool,
    due: f64,
    offered: f64,
    admitted: f64,
}

pub(crate) struct Simulation {
    load: Load,
    rate: Rate,
    rng: fastrand::Rng,
    step: u64,
    server: Server,
    sidecars: Vec<Sidecar>,
    up: Vec<Report>,
    down: Vec<Assignment>,
    next_id: ClientId,
    messages: u64,
}

impl Simulation {
    pub(crate) fn new(sidecars: usize, load: Load, seed: u64) -> Self {
        let requests = 100 * sidecars as u64;
        let rate = Rate { requests, per: Duration::from_secs(1), burst: requests / 10 };
        let mut simulation = Self {
            load,
            rate,
            rng: fastrand::Rng::with_seed(seed),
            step: 1,
            server: Server::new(Most { buckets: 10, members: 10_000 }, 0, Duration::ZERO),
            sidecars: Vec::new(),
            up: Vec::new(),
            down: Vec::new(),
            next_id: 0,
            messages: 0,
        };
        for i in 0..sidecars {
            let sidecar = simulation.sidecar(i, sidecars);
            simulation.sidecars.push(sidecar);
        }
        simulation
    }

    /// Three requests are made for every two that the limit allows.
    fn sidecar(&mut self, i: usize, of: usize) -> Sidecar {
        self.next_id += 1;
        let each = match self.load {
            Load::Bursty => 3.0,
            _ if i < of.div_ceil(10) => 0.9 * 10.0 * 1.5,
            _ => 0.1 * 10.0 / 9.0 * 1.5,
        };
        let fallback = Fallback::Share(Share::NONE);
        let lease = Lease::new(self.next_id, BUCKET, self.rate, fallback, self.now());
        Sidecar { id: self.next_id, lease, load: each, works: true, due: 0.0, offered: 0.0, admitted: 0.0 }
    }

    fn now(&self) -> Duration {
        STEP * u32::try_from(self.step).unwrap_or(u32::MAX)
    }

    /// Ten seconds.
    pub(crate) fn window(&mut self) -> Window {
        self.messages = 0;
        for sidecar in &mut self.sidecars {
            (sidecar.offered, sidecar.admitted) = (0.0, 0.0);
        }
        let mut gone = 0.0;
        for _ in 0..WINDOW {
            self.step += 1;
            self.deliver();
            if self.step.is_multiple_of(100) && self.load == Load::Churning {
                gone += self.churn();
            }
            self.requests();
            self.talk();
        }
        let total: f64 = gone + self.sidecars.iter().map(|sidecar| sidecar.admitted).sum::<f64>();
        Window {
            admitted: total / (self.rate.requests as f64 * 10.0),
            fairness: self.fairness(),
            messages: self.messages as f64 / 10.0,
        }
    }

    fn deliver(&mut self) {
        let now = self.now();
        for report in std::mem::take(&mut self.up) {
            self.server.report(&report, Limit { rate: self.rate, terms: TERMS }, now);
        }
        for assignment in std::mem::take(&mut self.down) {
            if let Some(to) = self.sidecars.iter_mut().find(|sidecar| sidecar.id == assignment.client)
                && to.lease.assign(&assignment, now)
            {
                self.up.push(to.lease.report(now));
            }
        }
    }

    fn requests(&mut self) {
        let now = self.now();
        for sidecar in &mut self.sidecars {
            if self.load == Load::Bursty && self.rng.u32(0..150) == 0 {
                sidecar.works = !sidecar.works;
            }
            if sidecar.works {
                sidecar.due += sidecar.load * 2.0 * self.rng.f64();
            }
            while sidecar.due >= 1.0 {
                sidecar.due -= 1.0;
                sidecar.offered += 1.0;
                sidecar.admitted += f64::from(u8::from(sidecar.lease.cell().take(1, now).is_ok()));
            }
        }
    }

    fn talk(&mut self) {
        let now = self.now();
        for sidecar in &mut self.sidecars {
            if (self.step + sidecar.id).is_multiple_of(STEPS_PER_REPORT) {
                sidecar.lease.tick(now);
                self.up.push(sidecar.lease.report(now));
            }
        }
        if self.step.is_multiple_of(STEPS_PER_REBALANCE) {
            self.down.extend(self.server.rebalance(now));
        }
        self.messages += (self.up.len() + self.down.len()) as u64;
    }

    /// Replaces one in fifty, and says what those had admitted.
    fn churn(&mut self) -> f64 {
        let (of, mut gone) = (self.sidecars.len(), 0.0);
        for _ in 0..of.div_ceil(50) {
            let i = self.rng.usize(0..of);
            let mut fresh = self.sidecar(i, of);
            self.up.push(fresh.lease.report(self.now()));
            let mut before = std::mem::replace(&mut self.sidecars[i], fresh);
            gone += before.admitted;
            if self.rng.u32(0..10) > 0 {
                let farewell = before.lease.leave(self.now());
                self.up.push(farewell);
            }
        }
        gone
    }

    fn fairness(&self) -> f64 {
        let limit = self.rate.requests as f64 * 10.0;
        let mut offered: Vec<f64> = self.sidecars.iter().map(|sidecar| sidecar.offered).collect();
        offered.sort_by(f64::total_cmp);
        let (mut left, mut level) = (limit, f64::INFINITY);
        for (done, demand) in offered.iter().enumerate() {
            let even = left / (offered.len() - done) as f64;
            if *demand > even {
                level = even;
                break;
            }
            left -= demand;
        }
        let parts = self.sidecars.iter().filter(|sidecar| sidecar.offered > 0.0);
        let got: Vec<f64> = parts.map(|sidecar| sidecar.admitted / sidecar.offered.min(level)).collect();
        let (sum, squares) = (got.iter().sum::<f64>(), got.iter().map(|x| x * x).sum::<f64>());
        sum * sum / (got.len() as f64 * squares)
    }
}

//! Active health checks: asks endpoints how they are, beside traffic and on the runtime that traffic does not share.
//!
//! When is said by the core ([`tidegate_policy::health::check`]), which also judges the answers; here is the asking. One
//! task looks through the snapshot in force for what is due, so checks follow every push by themselves: an endpoint that
//! is gone is not found any more, and a check under way ends with its timeout. No more than [`AT_ONCE`] are under way, the
//! longest overdue first; they share nothing with traffic, neither connections nor pools, caps or breakers.

mod exchange;
mod grpc;
mod probe;
mod told;

use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::health::check::{CheckPlace, Finding, HealthChange, HealthGuard};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::state::ProxyState;
pub(crate) use exchange::send;

/// Checks under way at one time.
const AT_ONCE: usize = 64;
/// Between two looks at what is due; so many checks that time runs out are made late, not in bursts.
const PAUSE: Duration = Duration::from_millis(20);
/// How soon is noticed that a sidecar's application calls a backend again.
const NOTICED: Duration = Duration::from_millis(250);
/// With nothing to check: until something changes.
const LONG: Duration = Duration::from_secs(3600);

struct Checker {
    proxy: Arc<ProxyState>,
    clock: Clock,
    rng: fastrand::Rng,
    under_way: JoinSet<Done>,
}

/// A check that has ended.
struct Done {
    guard: Arc<HealthGuard>,
    place: CheckPlace,
    finding: Finding,
}

/// Begins to check whatever the configuration in force wants checked, until `stop`.
pub(crate) fn start(proxy: &Arc<ProxyState>, runtime: &Handle, stop: CancellationToken) {
    let rng = fastrand::Rng::with_seed(clock::seed());
    let checker = Checker { clock: proxy.clock, proxy: proxy.clone(), rng, under_way: JoinSet::new() };
    runtime.spawn(stop.run_until_cancelled_owned(checker.run()));
}

impl Checker {
    async fn run(mut self) {
        let mut changes = self.proxy.store.subscribe();
        loop {
            let wait = self.begin_due();
            tokio::select! {
                Some(done) = self.under_way.join_next() => self.take(done.ok()),
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(wait) => {}
            }
            sleep(PAUSE).await;
            while let Some(done) = self.under_way.try_join_next() {
                self.take(done.ok());
            }
        }
    }

    /// Begins what is due and there is room for; says how long until something else is.
    fn begin_due(&mut self) -> Duration {
        let (now, mut next, mut due) = (self.clock.now(), LONG, Vec::new());
        let snapshot = self.proxy.store.load();
        for guard in snapshot.checks() {
            if !guard.is_watched(now) {
                next = next.min(NOTICED);
                continue;
            }
            for place in guard.places() {
                let at = guard.due(place, now, &mut self.rng);
                if at <= now {
                    due.push((at, guard, place));
                } else {
                    next = next.min(at.since(now));
                }
            }
        }
        due.sort_by_key(|(at, ..)| *at);
        let room = AT_ONCE.saturating_sub(self.under_way.len());
        for (_, guard, place) in due.into_iter().take(room) {
            if guard.begin(place, now, &mut self.rng) {
                self.under_way.spawn(check(self.proxy.clone(), guard.clone(), place));
            }
        }
        next
    }

    /// `None`: the check broke off. It is due again in time.
    fn take(&mut self, done: Option<Done>) {
        let Some(Done { guard, place, finding }) = done else { return };
        if let Some(change) = guard.report(place, finding, self.clock.now(), &mut self.rng) {
            tell(&guard, &change);
        }
    }
}

async fn check(proxy: Arc<ProxyState>, guard: Arc<HealthGuard>, place: CheckPlace) -> Done {
    let (rule, endpoint) = guard.at(place);
    let finding = probe::probe((&guard, proxy.identity.as_ref()), rule, endpoint).await;
    Done { guard, place, finding }
}

fn tell(guard: &HealthGuard, HealthChange { rule, endpoint, turn, healthy }: &HealthChange) {
    let (policy, source) = (&guard.health.policy.name, &rule.source);
    let (backend, check, mode) = (&guard.backend.label, &rule.name, guard.health.mode);
    let cause = turn.cause.map(tracing::field::display);
    if turn.healthy {
        tracing::info!(%backend, %endpoint, %policy, %check, %source, ?mode, healthy, failed = cause, "check passes again");
    } else {
        tracing::warn!(%backend, %endpoint, %policy, %check, %source, ?mode, cause, "endpoint is unhealthy");
    }
}

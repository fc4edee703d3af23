//! Fifty proxies with the production code of proxy and control plane, and a network that takes its time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidegate_outliers::{Board, Most, Statement, Suspicion};
use tidegate_policy::balance::Wish;
use tidegate_policy::call::admit;
use tidegate_policy::decision::{CallOutcome, CallResult, Decisions};
use tidegate_policy::document::parse;
use tidegate_policy::health::{Outliers, Suspect, Word};
use tidegate_policy::kinds::circuit_breaker::SharedRules;
use tidegate_policy::objects::Object;
use tidegate_policy::resolve::resolve;
use tidegate_policy::snapshot::{Local, Scope, Selected, Snapshot};
use tidegate_policy::state::StateStore;
use tidegate_policy::{Reason, Timestamp};

pub(crate) const PROXIES: usize = 50;
const ENDPOINTS: usize = 10;
/// Of each proxy, in a second.
const RATE: f64 = 20.0;
/// Milliseconds.
const BREAKS_AT: u64 = 5_000;
const ENDS_AT: u64 = 20_000;
/// Who has called the endpoint in so many milliseconds before the end, calls it still.
const RECENT: u64 = 3_000;
const TICK: u64 = 50;
const ONE_WAY: u64 = 2;
const BROKEN: &str = "10.0.0.0:80";

/// What is wrong with the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Every call fails.
    Dead,
    /// Every second one.
    Half,
    /// Five proxies cannot reach it.
    Unreachable,
    /// Nothing, but two proxies say that it fails.
    Slandered,
}

/// What came of it within fifteen seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) failed: usize,
    /// Proxies that no longer call the endpoint at the end.
    pub(crate) avoided: usize,
    pub(crate) messages: usize,
}

struct Proxy {
    selected: Selected,
    outliers: Arc<Outliers>,
    rng: fastrand::Rng,
    /// Calls to the endpoint of late.
    recent: usize,
    _snapshot: Snapshot,
}

pub(crate) struct Simulation {
    trouble: Trouble,
    proxies: Vec<Proxy>,
    board: Board,
    rules: SharedRules,
    /// On the way to the board, and back: when they arrive.
    up: VecDeque<(u64, usize, Vec<Word>)>,
    down: VecDeque<(u64, Arc<str>, Vec<Suspect>)>,
    asked: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    outcome: Outcome,
    rng: fastrand::Rng,
}

impl Trouble {
    pub(crate) const ALL: [Self; 4] = [Self::Dead, Self::Half, Self::Unreachable, Self::Slandered];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dead => "fails always",
            Self::Half => "fails half the time",
            Self::Unreachable => "fails for 5 proxies",
            Self::Slandered => "2 proxies lie",
        }
    }
}

/// By load and not by latency: an average that knows failures keeps calls away before any breaker does.
fn documents(shared: bool) -> Vec<Object> {
    let endpoints: String =
        (0..ENDPOINTS).map(|i| format!("    - {{address: 10.0.0.{i}, port: 80}}\n")).collect();
    let shared = if shared { "  shared: {quorum: 3, failures: 5}\n" } else { "" };
    let text = format!(
        "\
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: cart, namespace: shop}}
spec:
  port: 80
  endpoints:
{endpoints}---
apiVersion: tidegate.io/v1alpha1
kind: LoadBalancingPolicy
metadata: {{name: by-load, namespace: shop}}
spec:
  targetRefs: [{{group: tidegate.io, kind: Backend, name: cart}}]
  algorithm: LeastRequest
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {{name: each, namespace: shop}}
spec:
  targetRefs: [{{group: tidegate.io, kind: Backend, name: cart}}]
  breakers:
    - {{name: row, scope: Endpoint, consecutiveFailures: 5, open: 1m}}
    - {{name: rate, scope: Endpoint, failureRate: {{percent: 40, minimumCalls: 10, window: 10s}}, open: 1m}}
{shared}"
    );
    let parsed = parse(&Arc::from("mesh.yaml"), &text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.objects
}

impl Simulation {
    pub(crate) fn new(trouble: Trouble, shared: bool, seed: u64) -> Self {
        let objects = documents(shared);
        let resources = resolve(objects.iter()).resources;
        let proxy = |i: usize| {
            let state = StateStore::new([seed * 1000 + i as u64, 0]);
            let local = Local { namespace: "shop".into(), ..Local::default() };
            let (snapshot, rejected) = Snapshot::build(&resources, &local, &state);
            assert!(rejected.is_empty(), "{rejected:?}");
            let head = http::Request::get("http://cart/").header("host", "cart").body(());
            let head = head.expect("a request").into_parts().0;
            let mut rng = fastrand::Rng::with_seed(seed * 1000 + i as u64);
            let selected = snapshot.route(Scope::Outbound, &head, &mut rng);
            let selected = selected.expect("a rule");
            Proxy { selected, outliers: Outliers::of(&state), rng, recent: 0, _snapshot: snapshot }
        };
        let policies = objects.iter().filter_map(|object| match object {
            Object::Policy(policy) => Some(&**policy),
            _ => None,
        });
        Self {
            trouble,
            proxies: (0..PROXIES).map(proxy).collect(),
            board: Board::new(Most { backends: 10, endpoints: 100, reporters: 100 }, 0),
            rules: SharedRules::new(policies),
            up: VecDeque::new(),
            down: VecDeque::new(),
            asked: BTreeMap::new(),
            outcome: Outcome { failed: 0, avoided: 0, messages: 0 },
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        for millis in 0..ENDS_AT {
            for proxy in 0..PROXIES {
                if self.rng.f64() < RATE / 1000.0 {
                    self.call(proxy, millis);
                }
                if (millis + proxy as u64).is_multiple_of(TICK) {
                    self.speak(proxy, millis);
                }
            }
            self.deliver(millis);
            if millis.is_multiple_of(TICK) {
                self.judge(millis);
            }
            if millis == ENDS_AT - RECENT {
                self.proxies.iter_mut().for_each(|proxy| proxy.recent = 0);
            }
        }
        self.outcome.avoided = self.proxies.iter().filter(|proxy| proxy.recent == 0).count();
        self.outcome
    }

    fn fails(&mut self, proxy: usize, millis: u64) -> bool {
        millis >= BREAKS_AT
            && match self.trouble {
                Trouble::Dead => true,
                Trouble::Half => self.rng.bool(),
                Trouble::Unreachable => proxy < 5,
                Trouble::Slandered => false,
            }
    }

    fn call(&mut self, number: usize, millis: u64) {
        let now = Timestamp::from_millis(millis);
        let fails = self.fails(number, millis);
        let proxy = &mut self.proxies[number];
        let target = proxy.selected.target();
        let backend = target.backend.as_ref().expect("a backend");
        let mut decisions = Decisions::new();
        let admitted = admit(target, backend, Wish::default(), now, &mut proxy.rng, &mut decisions);
        let mut attempt = admitted.expect("nine endpoints are always there");
        let broken = &*attempt.endpoint.label == BROKEN;
        proxy.recent += usize::from(broken);
        let result = match broken && fails {
            true => CallResult::Failed(Reason::ConnectFailed),
            false => CallResult::Status(200),
        };
        self.outcome.failed += usize::from(broken && fails);
        attempt.record(CallOutcome { result, latency: Duration::from_millis(1) }, now);
    }

    /// What one proxy has to say goes on its way.
    fn speak(&mut self, number: usize, millis: u64) {
        let asked =
            |guard: &str, endpoint: &str| self.asked.get(guard).is_some_and(|asked| asked.contains(endpoint));
        let mut words = self.proxies[number].outliers.statements(asked, Timestamp::from_millis(millis));
        if self.trouble == Trouble::Slandered && number < 2 && millis >= BREAKS_AT {
            let guard = words.first().map_or_else(|| GUARD.into(), |(guard, _, _)| guard.clone());
            let age = Duration::from_millis(1);
            let failing = tidegate_outliers::Failing { failures: 1_000, age, ejected: true };
            words = vec![(guard, BROKEN.into(), Statement { success: None, failing: Some(failing) })];
        }
        if !words.is_empty() {
            self.outcome.messages += 1;
            self.up.push_back((millis + ONE_WAY, number, words));
        }
    }

    fn deliver(&mut self, millis: u64) {
        while let Some((_, reporter, words)) = self.up.pop_front_if(|(at, ..)| *at <= millis) {
            for (guard, endpoint, said) in words {
                let Some(rules) = self.rules.of_guard(&guard) else { continue };
                let now = Duration::from_millis(millis);
                self.board.take(reporter as u64, (&guard, &endpoint), said, rules, now);
            }
        }
        while let Some((_, guard, suspects)) = self.down.pop_front_if(|(at, ..)| *at <= millis) {
            for proxy in &self.proxies {
                proxy.outliers.told(&guard, suspects.clone(), Timestamp::from_millis(millis));
            }
        }
    }

    fn judge(&mut self, millis: u64) {
        for guard in self.board.judge(Duration::from_millis(millis)) {
            let suspect = |(endpoint, suspicion): (&Arc<str>, Suspicion)| Suspect {
                endpoint: endpoint.clone(),
                number: suspicion.number,
                failing: suspicion.failing,
                asked: suspicion.asked,
            };
            let suspects = self.board.suspects(&guard).map(suspect).collect();
            self.outcome.messages += PROXIES;
            self.down.push_back((millis + ONE_WAY, guard, suspects));
        }
        self.asked = self.board.asked();
    }
}

const GUARD: &str = "CircuitBreakerPolicy/shop/each|backend:shop/cart:80";

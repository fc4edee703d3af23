use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::balance::{Balancer, EndpointState, Wish};
use crate::decision::{CallResult, Detail, Outcome, RuleRef};
use crate::health::{
    Among, BreakerParams, BreakerPhase, BreakerRule, BreakerScope, CapLimits, CapRule, CapScope,
    CircuitBreaker, CircuitGuard, EjectionLimits, Failures, PeerLatency, Rate, SlowCalls, Span, SuccessRate,
};
use crate::model::{
    Address, AppProtocol, BackendKind, BackendName, Mode, PolicyRef, ResourceName, SourceRef,
};
use crate::pipeline::LocalReply;
use crate::state::StateStore;

/// A policy on one backend, and all its state.
struct Setup {
    store: StateStore,
    backend: Arc<BackendState>,
    target: Target,
    rng: fastrand::Rng,
    decisions: Decisions,
}

fn rule(name: &str) -> Arc<RuleRef> {
    Arc::new(RuleRef { name: name.into(), source: SourceRef::File { path: "p.yaml".into(), line: 7 } })
}

fn breaker(name: &str, scope: BreakerScope, failures: u32) -> BreakerRule {
    let open = Duration::from_millis(4500);
    let params = BreakerParams { consecutive_failures: Some(failures), open, ..BreakerParams::default() };
    BreakerRule { rule: rule(name), scope, params, failures: Failures::default(), honor_retry_after: None }
}

fn circuit(mode: Mode, limits: Option<CapLimits>, breakers: Vec<BreakerRule>) -> Arc<CircuitBreaker> {
    let name = ResourceName::new("shop", "breaker");
    let source = SourceRef::File { path: "p.yaml".into(), line: 1 };
    let policy = PolicyRef { kind: "CircuitBreakerPolicy".into(), name, source };
    let caps =
        limits.map(|limits| CapRule { rule: rule("caps[0]"), scope: CapScope::Backend, limits, key: None });
    let caps = caps.into_iter().collect();
    let breakers = breakers.into_iter().map(Arc::new).collect();
    Arc::new(CircuitBreaker { policy: Arc::new(policy), mode, caps, breakers, ejection: ALL, shared: None })
}

/// Endpoints are ejected whatever is left of them.
const ALL: EjectionLimits =
    EjectionLimits { max_percent: 100, at_least_one: true, panic_percent: 0, last_too: true };

fn with(circuit: &Arc<CircuitBreaker>, change: impl FnOnce(&mut CircuitBreaker)) -> Arc<CircuitBreaker> {
    let CircuitBreaker { policy, mode, caps, breakers, ejection, shared } = &**circuit;
    let (caps, breakers) = (caps.clone(), breakers.clone());
    let (policy, shared) = (policy.clone(), shared.clone());
    let mut changed = CircuitBreaker { policy, mode: *mode, caps, breakers, ejection: *ejection, shared };
    change(&mut changed);
    Arc::new(changed)
}

fn requests(limit: u32) -> Option<CapLimits> {
    Some(CapLimits { requests: Some(limit), ..CapLimits::default() })
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn ended(result: CallResult) -> CallOutcome {
    CallOutcome { result, latency: Duration::ZERO }
}

const FAILED: CallResult = CallResult::Status(503);
const OK: CallResult = CallResult::Status(200);

impl Setup {
    fn new(endpoints: u16, circuit: &Arc<CircuitBreaker>) -> Self {
        let make = |i| EndpointState::new(Address::Socket(([127, 0, 0, 1], 8000 + i).into()));
        let endpoints: Box<[_]> = (0..endpoints).map(|i| Arc::new(make(i))).collect();
        let name =
            BackendName { kind: BackendKind::Service, object: ResourceName::new("shop", "cart"), port: 80 };
        let backend = Arc::new(BackendState {
            mtls: None,
            label: name.to_string().into(),
            name,
            protocol: AppProtocol::Http1,
            connect_timeout: None,
            proxy_protocol: None,
            tls: None,
            balancer: Balancer::by_load(&endpoints).into(),
            endpoints,
            placements: Box::default(),
            _roster: Arc::default(),
            retry_budget: Arc::default(),
        });
        let target = Target {
            backend: Ok(Arc::clone(&backend)),
            weight: 1,
            filters: Box::default(),
            gate: crate::snapshot::Gate::default(),
            guard: None,
            balancer: None,
            health: None,
            together: crate::health::Together::default(),
            mirrors: Box::default(),
            plan: CallPlan::default(),
            tls: None,
        };
        let (rng, decisions) = (fastrand::Rng::with_seed(1), Decisions::new());
        let mut setup = Self { store: StateStore::new([0, 0]), backend, target, rng, decisions };
        setup.push(circuit);
        setup
    }

    /// A push: the same backend, bound anew.
    fn push(&mut self, circuit: &Arc<CircuitBreaker>) {
        self.target.guard = Some(self.bound(circuit, "r"));
    }

    fn bound(&self, circuit: &Arc<CircuitBreaker>, rule: &str) -> Arc<CircuitGuard> {
        CircuitGuard::bind(circuit, (&self.backend.name, rule), &self.backend.endpoints, &self.store)
    }

    fn guard(&self) -> &CircuitGuard {
        self.target.guard.as_deref().unwrap()
    }

    fn admit(&mut self, millis: u64) -> Result<Attempt, LocalReply> {
        self.decisions.clear();
        admit(&self.target, &self.backend, Wish::default(), at(millis), &mut self.rng, &mut self.decisions)
    }

    fn call(&mut self, result: CallResult, millis: u64) -> Option<Transition> {
        self.admit(millis).unwrap().record(ended(result), at(millis))
    }

    /// Fails calls until one more is refused.
    fn trip(&mut self, millis: u64) {
        for _ in 0..1000 {
            let Ok(mut attempt) = self.admit(millis) else { return };
            attempt.record(ended(FAILED), at(millis));
        }
        panic!("never refused");
    }

    fn refusal(&mut self, millis: u64) -> LocalReply {
        self.admit(millis).expect_err("refused")
    }

    fn decided(&self) -> (Outcome, Option<Detail>, &str) {
        let [decision] = &self.decisions[..] else { panic!("{:?}", self.decisions) };
        (decision.outcome, decision.detail, &decision.rule.name)
    }

    fn in_flight(&self) -> u32 {
        self.backend.endpoints.iter().map(|e| e.in_flight()).sum()
    }
}

#[test]
fn what_a_call_holds_can_move_to_any_thread() {
    fn free<T: Send + Sync + 'static>() {}
    free::<Attempt>();
    free::<PendingPermit>();
    free::<ConnectionPermit>();
    free::<CircuitGuard>();
}

#[test]
fn without_a_policy_every_endpoint_is_called_and_counted() {
    let mut setup = Setup::new(3, &circuit(Mode::Enforce, None, vec![]));
    setup.target.guard = None;
    let held: Vec<_> = (0..9).map(|_| setup.admit(0).unwrap()).collect();
    assert!(setup.decisions.is_empty());
    assert_eq!(setup.in_flight(), 9);
    assert!(setup.backend.endpoints.iter().all(|e| e.in_flight() > 0), "P2C spreads them");
    drop(held);
    assert_eq!(setup.in_flight(), 0);
}

#[test]
fn no_endpoint_is_a_refusal_of_its_own() {
    let none = circuit(Mode::Enforce, None, vec![breaker("b", BreakerScope::Endpoint, 1)]);
    assert_eq!(Setup::new(0, &none).refusal(0), Reason::NoEndpoint.into());
    let mut weightless = Setup::new(1, &none);
    weightless.backend.endpoints[0].set_weight(0);
    weightless.target.balancer = Some(Balancer::by_load(&weightless.backend.endpoints).into());
    assert_eq!(weightless.refusal(0), Reason::NoEndpoint.into());
}

#[test]
fn an_open_circuit_refuses_at_once_and_says_when_to_come_back() {
    let mut setup =
        Setup::new(2, &circuit(Mode::Enforce, None, vec![breaker("b", BreakerScope::Backend, 2)]));
    assert_eq!(setup.call(FAILED, 0), None);
    assert_eq!(setup.decided(), (Outcome::Allowed, Some(Detail::State(BreakerPhase::Closed)), "b"));
    let transition = setup.call(FAILED, 0).unwrap();
    assert_eq!((transition.to, transition.endpoint), (BreakerPhase::Open, None));
    let reply = setup.refusal(1000);
    assert_eq!(reply.reason, Reason::CircuitOpen);
    assert_eq!(reply.headers, [(http::header::RETRY_AFTER, "4".parse().unwrap())]);
    let open = Some(Detail::State(BreakerPhase::Open));
    assert_eq!(setup.decided(), (Outcome::Refused(Reason::CircuitOpen), open, "b"));
}

#[test]
fn a_probe_is_told_and_closes_the_circuit() {
    let mut setup =
        Setup::new(1, &circuit(Mode::Enforce, None, vec![breaker("b", BreakerScope::Backend, 1)]));
    setup.trip(0);
    let mut probe = setup.admit(4500).unwrap();
    assert_eq!(setup.decided(), (Outcome::Allowed, Some(Detail::State(BreakerPhase::HalfOpen)), "b"));
    assert_eq!(setup.refusal(4500).reason, Reason::CircuitOpen);
    let half_open = Some(Detail::State(BreakerPhase::HalfOpen));
    assert_eq!(setup.decided(), (Outcome::Refused(Reason::CircuitOpen), half_open, "b"));
    assert_eq!(probe.record(ended(OK), at(4600)).unwrap().to, BreakerPhase::Closed);
    assert!(setup.admit(4600).is_ok());
}

#[test]
fn calls_go_to_the_other_endpoints_while_one_is_open() {
    let mut setup =
        Setup::new(2, &circuit(Mode::Enforce, None, vec![breaker("b", BreakerScope::Endpoint, 1)]));
    let mut first = setup.admit(0).unwrap();
    let transition = first.record(ended(FAILED), at(0)).unwrap();
    assert_eq!(transition.endpoint.as_ref(), Some(&first.endpoint.label));
    for _ in 0..100 {
        let other = setup.admit(100).unwrap();
        assert_ne!(other.endpoint.label, first.endpoint.label);
    }
    assert_eq!(setup.call(FAILED, 200).map(|t| t.to), Some(BreakerPhase::Open));
    let reply = setup.refusal(500);
    assert_eq!(reply.reason, Reason::EndpointsOpen);
    assert_eq!(reply.headers[0].1, "4", "the one that opened first is probed first");
    assert_eq!(setup.admit(4500).unwrap().endpoint.label, first.endpoint.label);
}

#[test]
fn the_cap_on_requests_refuses_one_more_and_is_no_failure() {
    let breakers = vec![breaker("b", BreakerScope::Backend, 1)];
    let mut setup = Setup::new(1, &circuit(Mode::Enforce, requests(2), breakers));
    let (a, _b) = (setup.admit(0).unwrap(), setup.admit(0).unwrap());
    assert_eq!(setup.refusal(0), Reason::RequestCap.into());
    let outcome = Outcome::Refused(Reason::RequestCap);
    assert_eq!(setup.decided(), (outcome, Some(Detail::Cap(2)), "caps[0]"));
    assert_eq!(setup.guard().status().next().unwrap().calls, 0);
    drop(a);
    assert!(setup.admit(0).is_ok());
}

#[test]
fn a_probe_refused_by_the_cap_gives_its_slot_back() {
    let breakers = vec![breaker("b", BreakerScope::Backend, 1)];
    let mut setup = Setup::new(1, &circuit(Mode::Enforce, requests(1), breakers));
    let held = setup.admit(0).unwrap();
    setup.push(&circuit(Mode::Enforce, requests(9), vec![breaker("b", BreakerScope::Backend, 1)]));
    setup.trip(0);
    setup.push(&circuit(Mode::Enforce, requests(1), vec![breaker("b", BreakerScope::Backend, 1)]));
    assert_eq!(setup.refusal(5000).reason, Reason::RequestCap);
    drop(held);
    assert!(setup.admit(5000).is_ok());
}

#[test]
fn clients_that_leave_are_neither_success_nor_failure() {
    let mut setup =
        Setup::new(1, &circuit(Mode::Enforce, None, vec![breaker("b", BreakerScope::Backend, 1)]));
    assert_eq!(setup.call(CallResult::Failed(Reason::ClientGone), 0), None);
    setup.trip(0);
    setup.call(CallResult::Failed(Reason::ClientGone), 5000);
    assert!(setup.admit(5000).is_ok(), "the probe's slot is free again");
}

#[test]
fn a_call_is_counted_once_however_often_it_reports() {
    let mut setup =
        Setup::new(1, &circuit(Mode::Enforce, None, vec![breaker("b", BreakerScope::Backend, 2)]));
    let mut attempt = setup.admit(0).unwrap();
    for _ in 0..5 {
        assert_eq!(attempt.record(ended(FAILED), at(0)), None);
    }
    let mut gone = setup.admit(0).unwrap();
    gone.record(ended(CallResult::Failed(Reason::ClientGone)), at(0));
    assert_eq!(gone.record(ended(FAILED), at(0)), None);
}

#[test]
fn connections_and_pending_requests_are_capped() {
    let limits = CapLimits { connections: Some(1), pending: Some(1), ..CapLimits::default() };
    let mut setup = Setup::new(1, &circuit(Mode::Enforce, Some(limits), vec![]));
    let attempt = setup.admit(0).unwrap();
    assert_eq!(setup.decided(), (Outcome::Allowed, None, "caps[0]"));
    let connection = attempt.open_connection().unwrap();
    assert!(attempt.open_connection().is_none());
    let mut decisions = Decisions::new();
    let _pending = attempt.wait_pending(&mut decisions).unwrap();
    assert_eq!(attempt.wait_pending(&mut decisions).unwrap_err(), Reason::PendingCap.into());
    assert_eq!(attempt.connection_cap_reached(&mut decisions), Reason::ConnectionCap.into());
    let outcomes: Vec<_> = decisions.iter().map(|d| d.outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused(Reason::PendingCap), Outcome::Refused(Reason::ConnectionCap)]);
    drop(attempt);
    assert_eq!(setup.guard().usage().map(|cap| cap.used), [1, 1, 0], "permits outlive the attempt");
    drop(connection);
    assert_eq!(setup.guard().usage()[0].used, 0);
}

#[test]
fn shadow_refuses_nothing_and_tells_what_it_would_have() {
    let breakers = vec![breaker("b", BreakerScope::Backend, 1), breaker("e", BreakerScope::Endpoint, 1)];
    let mut setup = Setup::new(2, &circuit(Mode::Shadow, requests(1), breakers));
    let held = setup.admit(0).unwrap();
    let over = setup.admit(0).unwrap();
    let cap = Some(Detail::Cap(1));
    assert_eq!(setup.decided(), (Outcome::WouldRefuse(Reason::RequestCap), cap, "caps[0]"));
    drop((held, over));
    assert_eq!(setup.call(FAILED, 0).map(|t| t.to), Some(BreakerPhase::Open));
    let _through = setup.admit(0).unwrap();
    let open = Some(Detail::State(BreakerPhase::Open));
    assert_eq!(setup.decided(), (Outcome::WouldRefuse(Reason::CircuitOpen), open, "b"));
}

#[test]
fn shadow_moves_no_traffic_away_from_an_open_endpoint() {
    let mut setup =
        Setup::new(2, &circuit(Mode::Shadow, None, vec![breaker("e", BreakerScope::Endpoint, 1)]));
    let mut first = setup.admit(0).unwrap();
    first.record(ended(FAILED), at(0));
    let bad = Arc::clone(&first.endpoint);
    drop(first);
    let to_bad = (0..1000).filter(|_| Arc::ptr_eq(&setup.admit(1).unwrap().endpoint, &bad)).count();
    assert!((300..700).contains(&to_bad), "{to_bad}");
    assert_eq!(setup.decided().0, Outcome::Allowed, "another endpoint would have been there");
    for _ in 0..1000 {
        if setup.decided().0 != Outcome::Allowed {
            break;
        }
        let mut attempt = setup.admit(2).unwrap();
        attempt.record(ended(FAILED), at(2));
    }
    assert_eq!(setup.decided().0, Outcome::WouldRefuse(Reason::EndpointsOpen));
}

#[test]
fn a_call_that_only_shadow_let_through_counts_for_no_breaker() {
    let breakers = || vec![breaker("b", BreakerScope::Backend, 9), breaker("e", BreakerScope::Endpoint, 1)];
    let mut setup = Setup::new(1, &circuit(Mode::Shadow, None, breakers()));
    setup.call(FAILED, 0);
    setup.call(FAILED, 0);
    assert_eq!(setup.decided().0, Outcome::WouldRefuse(Reason::EndpointsOpen));
    assert_eq!(setup.guard().status().next().unwrap().calls, 1);
}

#[test]
fn a_call_that_shadow_did_not_move_counts_for_no_breaker_of_its_endpoint() {
    let breakers =
        vec![breaker("slow", BreakerScope::Endpoint, 9), breaker("fast", BreakerScope::Endpoint, 1)];
    let mut setup = Setup::new(2, &circuit(Mode::Shadow, None, breakers));
    let mut first = setup.admit(0).unwrap();
    first.record(ended(FAILED), at(0));
    let bad = Arc::clone(&first.endpoint);
    drop(first);
    for _ in 0..50 {
        let mut attempt = setup.admit(0).unwrap();
        let result = if Arc::ptr_eq(&attempt.endpoint, &bad) { FAILED } else { OK };
        attempt.record(ended(result), at(0));
    }
    let slow = setup.guard().status().find(|s| s.endpoint.as_ref() == Some(&bad.label)).unwrap();
    assert_eq!((&*slow.rule.name, slow.calls), ("slow", 1));
}

#[test]
fn a_push_keeps_open_circuits_open_and_counts_in_flight() {
    let breakers = || vec![breaker("b", BreakerScope::Backend, 2), breaker("e", BreakerScope::Endpoint, 9)];
    let mut setup = Setup::new(1, &circuit(Mode::Enforce, requests(5), breakers()));
    let _held = setup.admit(0).unwrap();
    setup.trip(0);
    let id = Arc::clone(&setup.guard().id);
    let mut changed = breakers();
    changed[1] = breaker("e", BreakerScope::Endpoint, 8);
    setup.push(&circuit(Mode::Enforce, requests(1), changed));
    assert_eq!(setup.guard().id, id);
    assert_eq!(setup.refusal(0).reason, Reason::CircuitOpen, "this breaker did not change");
    assert_eq!(setup.guard().usage()[2].used, 1);
    setup.push(&circuit(Mode::Enforce, requests(1), vec![breaker("b", BreakerScope::Backend, 3)]));
    assert_eq!(setup.refusal(0).reason, Reason::RequestCap, "this one did, and is closed again");
}

#[test]
fn status_tells_each_breaker_and_its_evidence() {
    let breakers = vec![breaker("b", BreakerScope::Backend, 9), breaker("e", BreakerScope::Endpoint, 2)];
    let mut setup = Setup::new(1, &circuit(Mode::Enforce, None, breakers));
    setup.call(OK, 100);
    setup.trip(200);
    let status: Vec<_> = setup.guard().status().collect();
    assert_eq!((&*status[0].rule.name, status[0].phase), ("b", BreakerPhase::Closed));
    assert_eq!((status[0].failures, status[0].calls), (2, 3));
    assert_eq!((status[1].phase, status[1].since), (BreakerPhase::Open, at(200)));
    assert_eq!(status[1].endpoint.as_deref(), Some("127.0.0.1:8000"));
    assert_eq!((status[1].failures, status[1].calls, status[1].until), (2, 3, Some(at(4700))));
    assert_eq!(status[1].transitions.opened, 1);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Admit,
    Record(usize, CallResult),
    Drop(usize),
    Push,
}

fn step() -> impl Strategy<Value = Step> {
    let results = [OK, FAILED, CallResult::Grpc(14), CallResult::Failed(Reason::ClientGone)];
    prop_oneof![
        (0_u64..3000).prop_map(Step::Wait),
        Just(Step::Admit),
        Just(Step::Admit),
        (any::<usize>(), prop::sample::select(results.to_vec())).prop_map(|(i, r)| Step::Record(i, r)),
        any::<usize>().prop_map(Step::Drop),
        Just(Step::Push),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_calls_wedges_a_backend_or_leaks_a_count(
        steps in prop::collection::vec(step(), 0..150),
        endpoints in 1_u16..4,
        shadow in any::<bool>(),
    ) {
        const CAP: u32 = 3;
        let mode = if shadow { Mode::Shadow } else { Mode::Enforce };
        let breakers = || vec![breaker("b", BreakerScope::Backend, 3), breaker("e", BreakerScope::Endpoint, 2)];
        let mut setup = Setup::new(endpoints, &circuit(mode, requests(CAP), breakers()));
        let (mut now, mut held) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Wait(ms) => now += ms,
                Step::Admit => match setup.admit(now) {
                    Ok(attempt) => held.push(attempt),
                    Err(_) => prop_assert!(!shadow, "shadow refuses nothing"),
                },
                Step::Record(i, result) if !held.is_empty() => {
                    let i = i % held.len();
                    let attempt: &mut Attempt = &mut held[i];
                    attempt.record(ended(result), at(now));
                }
                Step::Drop(i) if !held.is_empty() => drop(held.swap_remove(i % held.len())),
                Step::Push => setup.push(&circuit(mode, requests(CAP), breakers())),
                Step::Record(..) | Step::Drop(_) => {}
            }
            prop_assert_eq!(setup.in_flight() as usize, held.len());
            prop_assert_eq!(setup.guard().usage()[2].used as usize, held.len());
            prop_assert!(shadow || held.len() <= CAP as usize);
        }
        held.clear();
        prop_assert_eq!(setup.in_flight(), 0);
        prop_assert_eq!(setup.guard().usage()[2].used, 0);
        // Whatever happened, a backend that is well again is fully back after a few calls.
        for _ in 0..20 {
            now += 5000;
            prop_assert!(setup.admit(now).is_ok(), "never called again");
            setup.call(OK, now);
        }
        for status in setup.guard().status() {
            prop_assert!(status.phase == BreakerPhase::Closed || endpoints > 1, "{status:?}");
        }
    }
}

mod ejection;
mod keys;
mod places;
mod responses;
mod suspects;

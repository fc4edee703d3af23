//! How many endpoints may be left alone, and which.

use super::*;

fn limits(max_percent: u8, panic_percent: u8, last_too: bool) -> EjectionLimits {
    EjectionLimits { max_percent, at_least_one: false, panic_percent, last_too }
}

fn ejecting(ejection: EjectionLimits) -> Arc<CircuitBreaker> {
    let by_one = circuit(Mode::Enforce, None, vec![breaker("e", BreakerScope::Endpoint, 1)]);
    with(&by_one, |circuit| circuit.ejection = ejection)
}

fn comparing(change: impl FnOnce(&mut BreakerParams)) -> Arc<CircuitBreaker> {
    let mut rule = breaker("e", BreakerScope::Endpoint, 1000);
    change(&mut rule.params);
    with(&circuit(Mode::Enforce, None, vec![rule]), |circuit| circuit.ejection = limits(50, 0, false))
}

fn among(minimum_calls: u32) -> Among {
    Among { minimum_endpoints: 3, minimum_calls, window: Duration::from_secs(10) }
}

impl Setup {
    /// Endpoints that are ejected, by what their breakers say.
    fn ejected(&self) -> Vec<Arc<str>> {
        let holding = self.guard().status().filter(|status| status.phase.holds_back());
        holding.filter_map(|status| status.endpoint).collect()
    }

    /// A push after which only these endpoints are left.
    fn keep(&mut self, circuit: &Arc<CircuitBreaker>, keeps: impl Fn(&EndpointState) -> bool) {
        let kept = self.backend.endpoints.iter().filter(|endpoint| keeps(endpoint));
        let endpoints: Box<[_]> = kept.cloned().collect();
        let BackendState { name, label, .. } = &*self.backend;
        self.backend = Arc::new(BackendState {
            mtls: None,
            name: name.clone(),
            label: label.clone(),
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
        self.target.backend = Ok(Arc::clone(&self.backend));
        self.push(circuit);
    }

    /// Calls that end as each endpoint does.
    fn calls(&mut self, many: u64, ends: impl Fn(usize, u64) -> CallOutcome) {
        for i in 0..many {
            let mut attempt = self.admit(i * 10).unwrap();
            let is_it = |e: &Arc<EndpointState>| Arc::ptr_eq(e, &attempt.endpoint);
            let index = self.backend.endpoints.iter().position(is_it).unwrap();
            attempt.record(ends(index, i), at(i * 10));
        }
    }
}

#[test]
fn ejects_no_more_than_the_written_share_and_says_who_else_should_be() {
    let mut setup = Setup::new(5, &ejecting(limits(50, 0, false)));
    setup.calls(100, |_, _| ended(FAILED));
    assert_eq!(setup.ejected().len(), 2);
    let spared: Vec<_> = setup.guard().status().filter(|status| status.spared.is_some()).collect();
    assert_eq!(spared.len(), 3);
    assert_eq!(setup.guard().ejected(), (2, 5));
    setup.calls(300, |_, _| ended(OK));
    assert!(setup.guard().status().all(|status| status.spared.is_none()));
}

#[test]
fn a_single_endpoint_is_ejected_only_where_that_is_written() {
    let mut kept = Setup::new(1, &ejecting(limits(100, 0, false)));
    kept.calls(20, |_, _| ended(FAILED));
    assert!(kept.ejected().is_empty());
    let mut ejected = Setup::new(1, &ejecting(limits(50, 0, true)));
    ejected.call(FAILED, 0);
    assert_eq!(ejected.refusal(1).reason, Reason::EndpointsOpen);
}

#[test]
fn the_last_endpoint_is_kept_even_if_all_may_go() {
    let mut setup = Setup::new(3, &ejecting(limits(100, 0, false)));
    setup.calls(50, |_, _| ended(FAILED));
    assert_eq!(setup.ejected().len(), 2);
}

#[test]
fn a_share_below_one_endpoint_is_one_where_it_is_written() {
    let of = |at_least_one, all| EjectionLimits { at_least_one, ..limits(10, 0, false) }.most(all);
    assert_eq!([of(false, 4), of(true, 4), of(true, 1), of(true, 39)], [0, 1, 0, 3]);
}

#[test]
fn endpoints_without_a_weight_are_no_part_of_the_share() {
    let mut setup = Setup::new(4, &ejecting(limits(50, 0, false)));
    setup.backend.endpoints[2..].iter().for_each(|endpoint| endpoint.set_weight(0));
    setup.keep(&ejecting(limits(50, 0, false)), |_| true);
    setup.calls(50, |_, _| ended(FAILED));
    assert_eq!(setup.ejected().len(), 1);
}

#[test]
fn in_a_panic_all_endpoints_are_called_and_the_decision_says_so() {
    let mut setup = Setup::new(4, &ejecting(limits(75, 50, false)));
    setup.calls(2, |_, _| ended(FAILED));
    assert_eq!(setup.ejected().len(), 2);
    let gone = setup.ejected();
    assert!((0..50).all(|_| !gone.contains(&setup.admit(20).unwrap().endpoint.label)), "half is no panic");
    for _ in 0..1000 {
        if setup.ejected().len() < 3 {
            setup.call(FAILED, 20);
        }
    }
    assert_eq!(setup.ejected().len(), 3);
    let called: std::collections::BTreeSet<_> =
        (0..200).map(|_| setup.admit(30).unwrap().endpoint.label.clone()).collect();
    assert_eq!(called.len(), 4);
    let panic = Some(Detail::Panic { left: 1, all: 4 });
    assert_eq!(setup.decided(), (Outcome::Allowed, panic, "e"));
    for _ in 0..200 {
        setup.call(OK, 4520);
    }
    assert!(setup.ejected().is_empty(), "what is called in a panic is probed as well");
}

#[test]
fn a_push_that_takes_away_the_healthy_ones_pardons_the_others() {
    let circuit = ejecting(limits(50, 0, false));
    let mut setup = Setup::new(4, &circuit);
    setup.calls(20, |_, _| ended(FAILED));
    let ejected = setup.ejected();
    assert_eq!(ejected.len(), 2);
    setup.keep(&circuit, |endpoint| ejected.contains(&endpoint.label));
    let _called = setup.admit(210).unwrap();
    assert_eq!((setup.ejected().len(), setup.guard().ejected()), (1, (1, 2)));
}

#[test]
fn an_endpoint_that_succeeds_less_often_than_the_others_is_ejected() {
    let rate = SuccessRate { standard_deviations: 1.9, among: among(20) };
    let mut setup = Setup::new(3, &comparing(|params| params.success_rate = Some(rate)));
    setup.calls(300, |index, i| ended(if index == 1 && i % 3 == 0 { FAILED } else { OK }));
    assert_eq!(setup.ejected(), [setup.backend.endpoints[1].label.clone()]);
    let status = setup.guard().status().find(|status| status.phase.holds_back()).unwrap();
    let told = status.evidence.unwrap().to_string();
    assert!(told.contains("the other endpoints have 100.0 % (outlier below 90.5 %)"), "{told}");
}

#[test]
fn endpoints_that_fail_alike_are_no_outliers() {
    let rate = SuccessRate { standard_deviations: 1.9, among: among(20) };
    let mut setup = Setup::new(3, &comparing(|params| params.success_rate = Some(rate)));
    setup.calls(600, |_, i| ended(if i % 2 == 0 { FAILED } else { OK }));
    assert!(setup.ejected().is_empty());
}

fn took(millis: u64) -> CallOutcome {
    CallOutcome { result: OK, latency: Duration::from_millis(millis) }
}

#[test]
fn an_endpoint_that_is_slower_than_the_others_is_ejected_until_its_probes_are_fast() {
    let latency = PeerLatency { factor: 3.0, minimum: Duration::from_millis(10), among: among(10) };
    let mut setup = Setup::new(4, &comparing(|params| params.latency = Some(latency)));
    setup.calls(200, |index, _| took(if index == 2 { 90 } else { 20 + index as u64 }));
    assert_eq!(setup.ejected(), [setup.backend.endpoints[2].label.clone()]);
    let mut probe =
        (0..200).map(|_| setup.admit(60_000).unwrap()).find(|a| &*a.endpoint.label == "127.0.0.1:8002");
    let change = probe.as_mut().unwrap().record(took(80), at(60_000)).unwrap();
    assert_eq!(change.to, BreakerPhase::Open, "as slow as before");
}

#[test]
fn small_differences_and_single_calls_that_hang_make_no_outlier() {
    let latency = PeerLatency { factor: 3.0, minimum: Duration::from_millis(10), among: among(10) };
    let mut setup = Setup::new(4, &comparing(|params| params.latency = Some(latency)));
    setup.calls(200, |index, _| took(if index == 2 { 9 } else { 1 }));
    assert!(setup.ejected().is_empty());
    let mut setup = Setup::new(4, &comparing(|params| params.latency = Some(latency)));
    setup.calls(200, |index, i| took(if index == 1 && i % 40 == 0 { 5000 } else { 20 }));
    assert!(setup.ejected().is_empty());
}

#[test]
fn threads_never_eject_more_than_the_share() {
    let setup = Setup::new(10, &ejecting(limits(30, 0, false)));
    let highest = AtomicU32::new(0);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (setup, highest) = (&setup, &highest);
            scope.spawn(move || {
                let (mut rng, mut decisions) = (fastrand::Rng::with_seed(seed), Decisions::new());
                for i in 0..3000 {
                    decisions.clear();
                    let now = at(i * 5);
                    let wish = Wish::default();
                    let Ok(mut attempt) =
                        admit(&setup.target, &setup.backend, wish, now, &mut rng, &mut decisions)
                    else {
                        continue;
                    };
                    // All flap ten times a second.
                    let result = if i / 20 % 2 == 0 { FAILED } else { OK };
                    attempt.record(ended(result), now);
                    highest.fetch_max(setup.guard().ejected().0, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(highest.into_inner(), 3);
}

#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    SetBack(u64),
    Call(CallResult),
    Hold,
    Drop,
    /// Which endpoints a push leaves, and how many percent may be ejected.
    Push(u8, u8),
}

fn act() -> impl Strategy<Value = Act> {
    let results = [OK, FAILED, FAILED, CallResult::Failed(Reason::ClientGone)];
    prop_oneof![
        2 => (0_u64..3000).prop_map(Act::Wait),
        1 => (0_u64..50_000).prop_map(Act::SetBack),
        8 => prop::sample::select(results.to_vec()).prop_map(Act::Call),
        1 => Just(Act::Hold),
        1 => Just(Act::Drop),
        1 => (any::<u8>(), prop::sample::select(vec![10_u8, 50, 100])).prop_map(|(mask, percent)| Act::Push(mask, percent)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_share_holds_and_every_endpoint_comes_back(
        acts in prop::collection::vec(act(), 0..200), last_too in any::<bool>(),
    ) {
        let mut bounds = limits(50, 0, last_too);
        let mut setup = Setup::new(6, &ejecting(bounds));
        let all = setup.backend.endpoints.clone();
        let (mut now, mut held) = (1_000_000, Vec::new());
        for act in acts {
            match act {
                Act::Wait(ms) => now += ms,
                Act::SetBack(ms) => now -= ms.min(now),
                Act::Call(result) => if let Ok(mut attempt) = setup.admit(now) {
                    attempt.record(ended(result), at(now));
                },
                Act::Hold => held.extend(setup.admit(now)),
                Act::Drop => drop(held.pop()),
                Act::Push(mask, percent) => {
                    bounds = limits(percent, 0, last_too);
                    let left = |e: &EndpointState| all.iter().position(|a| a.label == e.label).is_some_and(|i| mask >> i & 1 == 1);
                    let endpoints: Vec<_> = all.iter().filter(|e| left(e)).cloned().collect();
                    if !endpoints.is_empty() {
                        setup.backend = Arc::new(BackendState {
                            mtls: None,
                            name: setup.backend.name.clone(),
                            label: setup.backend.label.clone(),
                            protocol: AppProtocol::Http1,
                            connect_timeout: None,
                            proxy_protocol: None,
                            tls: None,
                            balancer: Balancer::by_load(&endpoints).into(),
                            endpoints: endpoints.into(),
                            placements: Box::default(),
                            _roster: Arc::default(),
                            retry_budget: Arc::default(),
                        });
                        setup.target.backend = Ok(Arc::clone(&setup.backend));
                    }
                    setup.push(&ejecting(bounds));
                    drop(setup.admit(now));
                }
            }
            let many = u32::try_from(setup.backend.endpoints.len()).unwrap();
            prop_assert!(setup.ejected().len() as u32 <= bounds.most(many), "{:?} of {many}", setup.ejected());
        }
        held.clear();
        prop_assert_eq!(setup.in_flight(), 0);
        for _ in 0..400 {
            now += 100;
            let _ = setup.admit(now).map(|mut attempt| attempt.record(ended(OK), at(now)));
        }
        prop_assert!(setup.ejected().is_empty(), "never probed again: {:?}", setup.guard().status().collect::<Vec<_>>());
    }
}

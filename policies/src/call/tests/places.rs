//! Caps on endpoints, on rules and on retries.

use super::*;

fn capped(caps: &[(CapScope, CapLimits)]) -> Arc<CircuitBreaker> {
    let rules = caps.iter().enumerate().map(|(i, (scope, limits))| CapRule {
        rule: rule(&format!("caps[{i}]")),
        scope: *scope,
        limits: *limits,
        key: None,
    });
    with(&circuit(Mode::Enforce, None, vec![]), |circuit| circuit.caps = rules.collect())
}

fn of_requests(limit: u32) -> CapLimits {
    CapLimits { requests: Some(limit), ..CapLimits::default() }
}

#[test]
fn a_full_endpoint_is_passed_over_and_when_all_are_full_the_cap_refuses() {
    let mut setup = Setup::new(2, &capped(&[(CapScope::Endpoint, of_requests(2))]));
    let mut held: Vec<_> = (0..4).map(|_| setup.admit(0).unwrap()).collect();
    assert!(setup.backend.endpoints.iter().all(|endpoint| endpoint.in_flight() == 2));
    assert_eq!(setup.refusal(0), Reason::RequestCap.into());
    assert_eq!(setup.decided(), (Outcome::Refused(Reason::RequestCap), Some(Detail::Cap(2)), "caps[0]"));
    let freed = held.pop().unwrap().endpoint;
    assert_eq!(setup.admit(0).unwrap().endpoint.label, freed.label);
}

#[test]
fn a_request_that_one_cap_refuses_takes_no_place_under_another() {
    let both = [(CapScope::Backend, of_requests(5)), (CapScope::Endpoint, of_requests(1))];
    let mut setup = Setup::new(2, &capped(&both));
    let _held: Vec<_> = (0..2).map(|_| setup.admit(0).unwrap()).collect();
    (0..9).for_each(|_| assert_eq!(setup.refusal(0).reason, Reason::RequestCap));
    assert_eq!(setup.guard().usage()[2].used, 2);
}

#[test]
fn each_rule_has_its_own_places_and_shares_those_of_the_backend() {
    let both = [(CapScope::Rule, of_requests(2)), (CapScope::Backend, of_requests(3))];
    let circuit = capped(&both);
    let mut setup = Setup::new(1, &circuit);
    let (a, b) = (setup.bound(&circuit, "a"), setup.bound(&circuit, "b"));
    assert_eq!(a.id, b.id, "they share connections");
    let mut through = |guard: &Arc<CircuitGuard>| {
        setup.target.guard = Some(Arc::clone(guard));
        setup.admit(0)
    };
    let _held = [through(&a).unwrap(), through(&a).unwrap()];
    assert!(through(&a).is_err());
    let _other = through(&b).unwrap();
    assert!(through(&b).is_err(), "the backend is full");
}

#[test]
fn connections_are_counted_for_each_endpoint_and_for_all() {
    let of = |limit| CapLimits { connections: Some(limit), ..CapLimits::default() };
    let mut setup = Setup::new(2, &capped(&[(CapScope::Backend, of(3)), (CapScope::Endpoint, of(2))]));
    let (a, b) = (setup.admit(0).unwrap(), setup.admit(0).unwrap());
    assert_ne!(a.endpoint.label, b.endpoint.label);
    let _two = [a.open_connection().unwrap(), a.open_connection().unwrap()];
    assert!(a.open_connection().is_none());
    let mut decisions = Decisions::new();
    let _ = a.connection_cap_reached(&mut decisions);
    assert_eq!(&*decisions[0].rule.name, "caps[1]", "the cap that is full");
    assert_eq!(setup.guard().usage()[0].used, 2, "what was refused took nothing of the backend's");
    let _third = b.open_connection().unwrap();
    assert!(b.open_connection().is_none());
}

#[test]
fn retries_in_flight_are_capped_apart_from_requests() {
    let limits = CapLimits { retries: Some(1), ..CapLimits::default() };
    let setup = Setup::new(1, &capped(&[(CapScope::Backend, limits)]));
    let mut decisions = Decisions::new();
    let first = retry(&setup.target, CapKey::Uncounted, &mut decisions).unwrap();
    assert_eq!(retry(&setup.target, CapKey::Uncounted, &mut decisions).unwrap_err().reason, Reason::RetryCap);
    assert_eq!(decisions[0].outcome, Outcome::Refused(Reason::RetryCap));
    drop(first);
    assert!(retry(&setup.target, CapKey::Uncounted, &mut decisions).is_ok());
}

#[test]
fn shadow_counts_under_no_cap_what_one_of_them_would_have_refused() {
    let both = [(CapScope::Backend, of_requests(5)), (CapScope::Endpoint, of_requests(1))];
    let mut setup = Setup::new(1, &with(&capped(&both), |circuit| circuit.mode = Mode::Shadow));
    let _held: Vec<_> = (0..9).map(|_| setup.admit(0).unwrap()).collect();
    assert_eq!(setup.decided().0, Outcome::WouldRefuse(Reason::RequestCap));
    assert_eq!(setup.decided().2, "caps[1]", "never the backend's, which only one request came to");
}

#[test]
fn threads_never_have_more_in_flight_than_the_cap() {
    let setup = Setup::new(3, &circuit(Mode::Enforce, requests(4), vec![]));
    let (held, highest) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for seed in 0..8 {
            let (setup, held, highest) = (&setup, &held, &highest);
            scope.spawn(move || {
                let (mut rng, mut decisions) = (fastrand::Rng::with_seed(seed), Decisions::new());
                for _ in 0..5000 {
                    decisions.clear();
                    let admitted = admit(
                        &setup.target,
                        &setup.backend,
                        Wish::default(),
                        at(0),
                        &mut rng,
                        &mut decisions,
                    );
                    let Ok(attempt) = admitted else { continue };
                    highest.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    held.fetch_sub(1, Ordering::SeqCst);
                    drop(attempt);
                }
            });
        }
    });
    assert!(highest.into_inner() <= 4);
    assert_eq!(setup.in_flight(), 0);
    assert_eq!(setup.guard().usage()[2].used, 0);
}

proptest! {
    #[test]
    fn no_cap_is_ever_exceeded_and_all_places_come_back(
        steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..100),
        (backend, endpoint) in (1_u32..8, 1_u32..4),
    ) {
        let both = [(CapScope::Endpoint, of_requests(endpoint)), (CapScope::Backend, of_requests(backend))];
        let mut setup = Setup::new(3, &capped(&both));
        let mut held = Vec::new();
        for (enter, which) in steps {
            match enter {
                true => held.extend(setup.admit(0)),
                false if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                false => {}
            }
            prop_assert!(held.len() as u32 <= backend);
            prop_assert!(setup.backend.endpoints.iter().all(|e| e.in_flight() <= endpoint));
            prop_assert_eq!(setup.guard().usage()[2].used as usize, held.len());
        }
        held.clear();
        prop_assert_eq!((setup.guard().usage()[2].used, setup.in_flight()), (0, 0));
    }
}

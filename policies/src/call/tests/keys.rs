//! Caps on keys.

use std::collections::HashMap;

use super::*;
use crate::balance::Asker;
use crate::health::{Cap, CountedBy};
use crate::model::Peer;

/// Nobody asks: the tests say the key.
#[derive(Debug)]
struct Written;

impl CountedBy for Written {
    fn of(&self, _: Asker<'_>, _: [u64; 2]) -> CapKey {
        CapKey::Uncounted
    }

    fn of_connection(&self, _: &Peer, _: [u64; 2]) -> CapKey {
        CapKey::Uncounted
    }

    fn describe(&self) -> String {
        String::from("written")
    }
}

fn keyed(mode: Mode, limits: CapLimits) -> Arc<CircuitBreaker> {
    let cap = CapRule { rule: rule("keys"), scope: CapScope::Key, limits, key: Some(Arc::new(Written)) };
    with(&circuit(mode, requests(6), vec![]), |circuit| {
        circuit.caps = circuit.caps.iter().cloned().chain([cap]).collect();
    })
}

fn setup(mode: Mode, limit: u32) -> Setup {
    let limits = CapLimits { requests: Some(limit), retries: Some(1), ..CapLimits::default() };
    Setup::new(2, &keyed(mode, limits))
}

impl Setup {
    fn admit_of(&mut self, counted: CapKey) -> Result<Attempt, LocalReply> {
        self.decisions.clear();
        let wish = Wish { counted, ..Wish::default() };
        admit(&self.target, &self.backend, wish, at(0), &mut self.rng, &mut self.decisions)
    }
}

#[test]
fn one_key_at_its_cap_is_refused_and_the_others_are_not() {
    let mut setup = setup(Mode::Enforce, 2);
    let held: Vec<_> = (0..2).map(|_| setup.admit_of(CapKey::Of(1)).unwrap()).collect();
    assert_eq!(setup.admit_of(CapKey::Of(1)).unwrap_err().reason, Reason::RequestCap);
    assert_eq!(setup.decided(), (Outcome::Refused(Reason::RequestCap), Some(Detail::Cap(2)), "keys"));
    assert_eq!(setup.guard().usage()[2].used, 2, "what was refused took nothing of the backend's");
    assert!(setup.admit_of(CapKey::Of(2)).is_ok() && setup.admit_of(CapKey::Uncounted).is_ok());
    drop(held);
    assert!(setup.admit_of(CapKey::Of(1)).is_ok());
}

#[test]
fn who_must_have_a_key_and_has_none_is_refused() {
    let mut enforced = setup(Mode::Enforce, 2);
    assert_eq!(enforced.admit_of(CapKey::Missing).unwrap_err().reason, Reason::RequestCap);
    let mut shadow = setup(Mode::Shadow, 2);
    let _held = shadow.admit_of(CapKey::Missing).unwrap();
    assert_eq!(shadow.decided().0, Outcome::WouldRefuse(Reason::RequestCap));
    assert_eq!(shadow.guard().usage()[2].used, 1);
}

#[test]
fn each_key_has_retries_of_its_own() {
    let setup = setup(Mode::Enforce, 2);
    let mut decisions = Decisions::new();
    let first = retry(&setup.target, CapKey::Of(1), &mut decisions).unwrap();
    assert_eq!(retry(&setup.target, CapKey::Of(1), &mut decisions).unwrap_err().reason, Reason::RetryCap);
    assert!(retry(&setup.target, CapKey::Of(2), &mut decisions).is_ok());
    drop(first);
    assert!(retry(&setup.target, CapKey::Of(1), &mut decisions).is_ok());
}

#[test]
fn a_push_with_another_limit_keeps_what_is_in_flight() {
    let mut setup = setup(Mode::Enforce, 2);
    let _held = setup.admit_of(CapKey::Of(1)).unwrap();
    setup.push(&keyed(Mode::Enforce, CapLimits { requests: Some(1), ..CapLimits::default() }));
    assert_eq!(setup.admit_of(CapKey::Of(1)).unwrap_err().reason, Reason::RequestCap);
    let report = crate::health::GuardReport::of(setup.guard(), &setup.backend.name, at(0));
    let told = report.caps.iter().find(|cap| cap.scope == CapScope::Key).unwrap();
    assert_eq!((told.used, told.limit, told.of.as_deref()), (1, Some(1), Some("the fullest of 1 keys")));
}

proptest! {
    #[test]
    fn whatever_is_cancelled_no_key_has_one_more_than_its_cap_and_all_come_back_to_zero(
        steps in prop::collection::vec((0_u8..4, 0_u64..3, any::<prop::sample::Index>()), 0..120),
        limit in 1_u32..4,
    ) {
        let mut setup = setup(Mode::Enforce, limit);
        let (mut held, mut retries) = (Vec::new(), Vec::new());
        for (step, key, which) in steps {
            match step {
                0 => held.extend(setup.admit_of(CapKey::Of(key)).map(|attempt| (key, attempt))),
                1 => retries.extend(retry(&setup.target, CapKey::Of(key), &mut Decisions::new()).map(|one| (key, one))),
                // Cancelled: nothing is reported.
                2 if !held.is_empty() => drop(held.swap_remove(which.index(held.len()))),
                3 if !retries.is_empty() => drop(retries.swap_remove(which.index(retries.len()))),
                _ => {}
            }
            let mut of_key = HashMap::<u64, u32>::new();
            held.iter().for_each(|(key, _)| *of_key.entry(*key).or_default() += 1);
            prop_assert!(of_key.values().all(|held| *held <= limit));
            prop_assert!(retries.iter().all(|(key, _)| retries.iter().filter(|(other, _)| key == other).count() == 1));
        }
        drop((held, retries));
        let used = |cap| setup.guard().key_caps().unwrap().fullest(cap).1;
        prop_assert_eq!((used(Cap::Requests), used(Cap::Retries), setup.in_flight()), (0, 0, 0));
    }
}

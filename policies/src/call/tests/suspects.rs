//! Endpoints that fail for other proxies.

use std::collections::BTreeSet;

use tidegate_outliers::Rules;

use super::*;
use crate::health::{Outliers, SharedRule, Suspect};

fn sharing(mode: Mode, max_percent: u8) -> Arc<CircuitBreaker> {
    let rules =
        Rules { quorum: 3, failures: 5, percent: 60, settle: Duration::ZERO, hold: Duration::from_secs(30) };
    with(&circuit(mode, None, Vec::new()), |circuit| {
        circuit.ejection.max_percent = max_percent;
        circuit.ejection.last_too = false;
        circuit.shared = Some(SharedRule { rule: rule("shared"), rules, failures: Failures::default() });
    })
}

impl Setup {
    /// The control plane says that these are suspect, and no others.
    fn told(&self, suspects: &[usize]) {
        let suspect = |index: &usize| Suspect {
            endpoint: self.backend.endpoints[*index].label.clone(),
            number: 7,
            failing: 3,
            asked: 3,
        };
        let suspects = suspects.iter().map(suspect).collect();
        Outliers::of(&self.store).told(&self.guard().id, suspects, at(0));
    }

    /// Which endpoints calls go to.
    fn called(&mut self, millis: u64) -> BTreeSet<usize> {
        let endpoints = self.backend.endpoints.clone();
        let index = |attempt: &Attempt| endpoints.iter().position(|e| Arc::ptr_eq(e, &attempt.endpoint));
        (0..200).filter_map(|_| index(&self.admit(millis).unwrap())).collect()
    }
}

#[test]
fn what_fails_for_others_is_left_alone_until_they_say_otherwise() {
    let mut setup = Setup::new(4, &sharing(Mode::Enforce, 50));
    setup.told(&[1]);
    assert_eq!(setup.called(10), BTreeSet::from([0, 2, 3]));
    setup.told(&[]);
    assert_eq!(setup.called(20).len(), 4);
}

#[test]
fn a_push_forgets_no_suspect() {
    let sharing = sharing(Mode::Enforce, 50);
    let mut setup = Setup::new(4, &sharing);
    setup.told(&[1]);
    setup.push(&sharing);
    assert_eq!(setup.called(10), BTreeSet::from([0, 2, 3]));
}

#[test]
fn no_more_are_left_alone_than_may_be_ejected() {
    let mut setup = Setup::new(4, &sharing(Mode::Enforce, 50));
    // The first call after a push pardons whoever is too many: this is not about that.
    setup.called(0);
    setup.told(&[0, 1, 2, 3]);
    assert_eq!(setup.called(10).len(), 2);
}

#[test]
fn a_suspect_is_tried_by_one_call_when_its_time_has_come() {
    let mut setup = Setup::new(2, &sharing(Mode::Enforce, 50));
    setup.told(&[1]);
    let suspect = setup.backend.endpoints[1].label.clone();
    let mut tried =
        |millis| (0..200).filter(|_| setup.admit(millis).unwrap().endpoint.label == suspect).count();
    assert_eq!((tried(14_000), tried(46_000), tried(47_000)), (0, 1, 0));
}

#[test]
fn a_call_of_its_own_that_goes_well_counts_for_more_than_what_others_say() {
    let mut setup = Setup::new(2, &sharing(Mode::Enforce, 50));
    let mut under_way: Vec<_> = (0..2).map(|_| setup.admit(0).unwrap()).collect();
    setup.told(&[1]);
    assert_eq!(setup.called(10), BTreeSet::from([0]));
    let suspect = setup.backend.endpoints[1].clone();
    let mut of_suspect = under_way.iter_mut().filter(|attempt| Arc::ptr_eq(&attempt.endpoint, &suspect));
    of_suspect.next().unwrap().record(ended(OK), at(20));
    drop(under_way);
    assert_eq!(setup.called(30).len(), 2);
}

#[test]
fn what_is_only_tried_moves_no_call() {
    let mut setup = Setup::new(4, &sharing(Mode::Shadow, 50));
    setup.told(&[1]);
    assert_eq!(setup.called(10).len(), 4);
}

#[test]
fn who_comes_back_by_a_call_of_its_own_ends_the_panic() {
    let lonely = with(&sharing(Mode::Enforce, 50), |circuit| circuit.ejection.panic_percent = 60);
    let mut setup = Setup::new(2, &lonely);
    setup.called(0);
    setup.told(&[1]);
    assert_eq!(setup.guard().panic(), Some((1, 2)));
    let suspect = setup.backend.endpoints[1].clone();
    let attempts = (0..200).map(|_| setup.admit(10).unwrap());
    let mut of_suspect = attempts.filter(|attempt| Arc::ptr_eq(&attempt.endpoint, &suspect));
    let mut attempt = of_suspect.next().expect("in a panic all are called");
    attempt.record(ended(OK), at(20));
    assert_eq!(setup.guard().panic(), None);
}

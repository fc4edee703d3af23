//! The simulation of the example, with promises.

#[path = "../examples/shared_outliers/simulation.rs"]
mod simulation;

use simulation::{Outcome, PROXIES, Simulation, Trouble};

fn median(trouble: Trouble, shared: bool) -> Outcome {
    let mut runs: Vec<_> = (1..=3).map(|seed| Simulation::new(trouble, shared, seed).run()).collect();
    runs.sort_by_key(|run| run.failed);
    runs[1]
}

#[test]
fn a_dead_endpoint_costs_a_mesh_that_shares_a_tenth_of_the_failures() {
    let (local, shared) = (median(Trouble::Dead, false), median(Trouble::Dead, true));
    assert!(shared.failed * 10 <= local.failed, "{shared:?} instead of {local:?}");
    assert_eq!(shared.avoided, PROXIES);
}

#[test]
fn what_only_some_cannot_reach_the_others_still_call() {
    let outcome = median(Trouble::Unreachable, true);
    // Five, and whoever by chance has not called one endpoint of ten for three seconds.
    assert!(outcome.avoided <= 8, "{outcome:?}");
}

#[test]
fn fewer_liars_than_the_quorum_take_nobody_away() {
    let outcome = median(Trouble::Slandered, true);
    assert!(outcome.avoided <= 3, "{outcome:?}");
}

#[test]
fn sharing_never_costs_more_failures_than_it_saves() {
    for trouble in Trouble::ALL {
        let (local, shared) = (median(trouble, false), median(trouble, true));
        assert!(shared.failed <= local.failed + 5, "{}: {shared:?} instead of {local:?}", trouble.name());
        assert!(shared.messages < 3 * PROXIES * 15, "{}: {shared:?}", trouble.name());
    }
}

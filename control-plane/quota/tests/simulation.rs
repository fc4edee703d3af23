//! The simulation of the example, smaller and with promises.

#[path = "../examples/mesh_limits/simulation.rs"]
mod simulation;

use simulation::{Load, Simulation, Window};

/// The second window: in the first one demand becomes known.
fn window(sidecars: usize, load: Load) -> Window {
    let mut simulation = Simulation::new(sidecars, load, 3);
    simulation.window();
    simulation.window()
}

#[test]
fn a_shared_limit_under_skewed_load_is_used_within_five_percent_and_fairly() {
    for sidecars in [30, 100] {
        let window = window(sidecars, Load::Skewed);
        assert!((0.97..=1.02).contains(&window.admitted), "{sidecars}: {window:?}");
        assert!(window.fairness > 0.95, "{sidecars}: {window:?}");
        assert!(window.messages < 12.0 * sidecars as f64, "{sidecars}: {window:?}");
    }
}

#[test]
fn load_that_moves_faster_than_shares_do_wastes_some_and_never_exceeds_the_limit() {
    for (load, least) in [(Load::Bursty, 0.82), (Load::Churning, 0.9)] {
        let window = window(50, load);
        assert!((least..=1.02).contains(&window.admitted), "{load:?}: {window:?}");
    }
}

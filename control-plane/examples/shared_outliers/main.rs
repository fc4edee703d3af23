//! Prints how many requests an endpoint that breaks costs a mesh of fifty proxies, with breakers of their own and with what
//! they share, and what liars and proxies that alone cannot reach it do.
#![allow(clippy::print_stdout)]

mod simulation;

use simulation::{Outcome, Simulation, Trouble};

fn main() {
    println!("50 proxies, 10 endpoints, 20 requests a second each; one endpoint breaks");
    println!("trouble              breakers   failed requests (median of 9)  left alone by  messages");
    for trouble in Trouble::ALL {
        for shared in [false, true] {
            let mut runs: Vec<Outcome> =
                (1..=9).map(|seed| Simulation::new(trouble, shared, seed).run()).collect();
            runs.sort_by_key(|run| run.failed);
            let Outcome { failed, avoided, messages } = runs[runs.len() / 2];
            let (trouble, breakers) = (trouble.name(), if shared { "shared" } else { "local" });
            println!("{trouble:19}  {breakers:9}  {failed:29}  {avoided:10}/50  {messages:8}");
        }
    }
}

//! Prints how well a limit that many sidecars share is used, how fairly, and at what price in messages.
#![allow(clippy::print_stdout)]

mod simulation;

use simulation::{Load, Simulation};

fn main() {
    println!("sidecars  load      admitted/limit (10 s)  fairness  messages/s");
    for sidecars in [10, 100, 1000] {
        for load in [Load::Skewed, Load::Bursty, Load::Churning] {
            let mut simulation = Simulation::new(sidecars, load, 1);
            simulation.window();
            let windows: Vec<_> = (0..3).map(|_| simulation.window()).collect();
            let (low, high) = windows
                .iter()
                .fold((f64::MAX, 0.0_f64), |(low, high), w| (low.min(w.admitted), high.max(w.admitted)));
            let fairness = windows.iter().map(|w| w.fairness).sum::<f64>() / 3.0;
            let messages = windows.iter().map(|w| w.messages).sum::<f64>() / 3.0;
            let name = format!("{load:?}");
            println!("{sidecars:8}  {name:8}  {low:.3} to {high:.3}         {fairness:.3}     {messages:.0}");
        }
    }
}

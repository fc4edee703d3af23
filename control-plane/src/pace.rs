//! What is looked at anew several times a second, and whenever the documents have changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// Calls `look` at this pace until the shutdown, with the world where it is another one than the time before.
pub(crate) async fn keep(
    pace: Duration,
    world: &watch::Receiver<Arc<World>>,
    shutdown: &CancellationToken,
    mut look: impl FnMut(Option<&World>),
) {
    let mut generation = None::<u64>;
    let mut tick = interval(pace);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        let world = Arc::clone(&world.borrow());
        let is_new = generation.replace(world.generation) != Some(world.generation);
        look(is_new.then_some(&*world));
    }
}

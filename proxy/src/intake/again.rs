//! What was let in is judged again when the configuration changes: who may do something no longer does not go on doing it on a
//! connection that is open. Nothing is looked at in between.

use std::future::pending;

use tidegate_policy::Decisions;
use tidegate_policy::pipeline::Cut;
use tidegate_policy::snapshot::Snapshot;

use crate::state::ProxyState;

/// Waits until a configuration is in force under which it may not go on: how it is to be closed, and who says so. What is
/// decided before is dropped, lest what goes on for years gather a word for each change.
pub(crate) async fn cut(
    proxy: &ProxyState,
    judge: impl Fn(&Snapshot, &mut Decisions) -> Result<(), Cut>,
) -> (Cut, Decisions) {
    let mut changes = proxy.store.subscribe();
    loop {
        // First, for it may have changed since it was let in.
        let mut decisions = Decisions::new();
        if let Err(cut) = judge(&proxy.store.load(), &mut decisions) {
            return (cut, decisions);
        }
        if changes.changed().await.is_err() {
            return pending().await;
        }
    }
}

//! When to stop: one token for every reason a command may be asked to end.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Set for the processes that this program starts: they end when their standard input is closed. So a parent that
/// dies in any way, `SIGKILL` included, leaves no orphan.
pub(crate) const EXIT_ON_STDIN_CLOSE: &str = "TIDEGATE_EXIT_ON_STDIN_CLOSE";

/// A child that has not drained by then is stuck, and nobody is left to end it.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// A token that is cancelled by Ctrl-C, SIGTERM, or the end of the parent.
///
/// # Errors
/// When signal handlers cannot be installed.
pub(crate) fn token() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
        // A second signal means now.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    if std::env::var_os(EXIT_ON_STDIN_CLOSE).is_some() {
        watch_parent(token.clone());
    }
    Ok(token)
}

/// On a thread of its own: a blocking read must not hold up the runtime's end.
fn watch_parent(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut ignored = [0_u8; 64];
        while matches!(std::io::stdin().read(&mut ignored), Ok(n) if n > 0) {}
        stop.cancel();
        std::thread::sleep(ORPHAN_GRACE);
        std::process::exit(1);
    });
}

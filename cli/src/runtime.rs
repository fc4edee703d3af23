//! The runtimes commands run on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// As many threads as cores.
///
/// # Errors
/// When threads cannot be started.
pub(crate) fn many() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

/// One thread, the caller's.
///
/// # Errors
/// When the runtime cannot be set up.
pub(crate) fn one() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

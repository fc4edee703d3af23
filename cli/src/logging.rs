//! The program's own log, on standard error. What a command has to say to its user is not log and goes elsewhere.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// `TIDEGATE_LOG`, else `RUST_LOG`, else `usual`: filter directives as `tracing-subscriber` reads them.
pub(crate) fn start(usual: &str) {
    let directives = ["TIDEGATE_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let filter = EnvFilter::builder().parse_lossy(directives.as_deref().unwrap_or(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour(&io::stderr()))
        .init();
}

/// Colour is for terminals, and not for those who said no: <https://no-color.org>.
pub(crate) fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

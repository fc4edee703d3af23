//! What a command has to say to its user, on standard output: the only place that prints there.

use std::io::Write as _;

/// A closed pipe (`tidegate … | head`) is no reason to fail: whoever reads has seen enough.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

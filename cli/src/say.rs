//! What a command has to say to its user: the only place that prints.
//!
//! A closed pipe (`tidegate … | head`) is no reason to fail: whoever reads has seen enough.

use std::io::Write as _;

/// A line of a command's answer, on standard output.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A command's answer, on standard output.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What happens while a command runs, on standard error: standard output belongs to the access log.
pub(crate) fn news(lines: &[String]) {
    let mut out = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

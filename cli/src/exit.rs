//! Exit codes, in one place: 0 all is well, 1 a check failed, 2 a wrong flag or a configuration that cannot be used
//! (what clap answers to a wrong flag, too).

use std::process::ExitCode;

use anyhow::Result;

/// How a command that could do its work went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Well,
    /// It did what it was asked, and the answer is no.
    ChecksFailed,
    /// Something that it was given cannot be used, and it has said what.
    Unusable,
}

/// Turns the outcome into an exit code; an error is printed with its causes.
#[allow(clippy::print_stderr, reason = "an error is what the user has to see")]
pub(crate) fn code(done: Result<Done>) -> ExitCode {
    match done {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::ChecksFailed) => ExitCode::from(1),
        Ok(Done::Unusable) => ExitCode::from(2),
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            ExitCode::from(2)
        }
    }
}

//! What is known of one file between two readings.

use std::sync::Arc;

use tidegate_policy::document::{Diagnostic, Severity};

use super::claims::Words;
use crate::source::FileFault;

/// A file as it was last seen.
#[derive(Debug)]
pub(super) enum FileState {
    Read {
        hash: [u8; 32],
        words: Words,
        /// It may be about to be written.
        blank: bool,
    },
    /// No document where there were some.
    Emptied {
        hash: [u8; 32],
    },
    Fault(FileFault),
    /// In a folder that cannot be listed.
    OutOfSight,
    /// Gone in the very moment in which these came that cannot be read to the end: it may have been renamed to one of
    /// them, with a mistake.
    Renamed(Vec<Arc<str>>),
}

impl FileState {
    pub(super) fn is_text(&self, text: &[u8; 32]) -> bool {
        matches!(self, Self::Read { hash, .. } | Self::Emptied { hash } if hash == text)
    }

    /// Whether there may be objects in it that are not known.
    pub(super) fn hides(&self) -> bool {
        match self {
            Self::Read { words, .. } => !words.complete,
            Self::Fault(_) | Self::OutOfSight => true,
            Self::Emptied { .. } | Self::Renamed(_) => false,
        }
    }

    /// Whether it says all that it has to say, and all of that is valid.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Read { words, blank: false, .. } if words.is_whole())
    }

    /// Whether what it claims depends on nothing but itself: it need not be asked again.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Read { words, .. } if words.is_whole())
    }

    pub(super) fn diagnostics(&self, path: &str) -> Vec<Diagnostic> {
        match self {
            Self::Read { words, .. } => words.diagnostics.clone(),
            Self::Emptied { .. } => {
                let message = "the file is empty; what it held stays in force: delete the file to remove it";
                vec![warning(path, message)]
            }
            Self::Fault(cause) => vec![fault(path, &cause.to_string())],
            Self::OutOfSight => Vec::new(),
            Self::Renamed(to) => {
                let to = to.iter().map(|path| &**path).collect::<Vec<_>>().join(", ");
                let message = format!("the file is gone; what it held stays in force until {to} can be read");
                vec![warning(path, &message)]
            }
        }
    }
}

pub(super) fn fault(file: &str, message: &str) -> Diagnostic {
    let help = Some(String::from("what it held stays in force"));
    Diagnostic { help, ..note(Severity::Error, file, message) }
}

pub(super) fn warning(file: &str, message: &str) -> Diagnostic {
    note(Severity::Warning, file, message)
}

fn note(severity: Severity, file: &str, message: &str) -> Diagnostic {
    let field = String::new();
    Diagnostic {
        severity,
        file: file.into(),
        line: 0,
        column: 0,
        field,
        message: message.to_owned(),
        help: None,
    }
}

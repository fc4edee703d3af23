//! Cases: what a set of documents is expected to do, written as YAML that anyone can read, and decided by the
//! production code on a virtual clock.
//!
//! A file gives objects, sends requests and says what is to come of each; `policies/cases/` holds those that say what
//! the Gateway API says. Objects go the whole way of a policy: document, [`crate::resolve`], [`crate::codec`],
//! [`crate::snapshot`]; requests the whole way of a request: [`crate::matching::target`], routing, the
//! [`crate::pipeline`], [`crate::call`]. Only backends are played: each answers as the step says.
//!
//! Nothing here reads files or a clock: the caller brings texts, and the same file gives the same result anywhere.

mod compare;
mod coverage;
mod format;
mod play;
mod read;
mod request;
mod world;

use std::fmt;
use std::sync::Arc;

use crate::document::Diagnostic;

pub use coverage::Coverage;
pub use format::CaseFile;
pub use read::{Cases, Ran, parse};

/// Reads what a case names under `files`, relative to its own file: of a folder, every file of objects in it. Each as it is
/// to be shown, with its text.
pub type Load<'a> = dyn Fn(&str) -> Result<Vec<(Arc<str>, String)>, String> + 'a;

/// Something that did not come out as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    pub case: String,
    /// What was compared: `backend`, `request.path`.
    pub field: String,
    pub expected: String,
    pub got: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, case, field, expected, got } = self;
        write!(f, "{file}:{line}: {case}\n    {field}: expected {expected}\n    {field}: got      {got}")
    }
}

/// Runs every case of a file.
///
/// # Errors
/// The cases cannot be run: a file that cannot be read or is no cases.
pub fn run(file: &Arc<str>, text: &str, load: &Load<'_>) -> Result<Vec<Mismatch>, Vec<Diagnostic>> {
    let cases = parse(file, text)?;
    Ok(cases.run(load, &mut Coverage::default()).into_iter().flat_map(|ran| ran.mismatches).collect())
}

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::Mismatch;
use super::compare::{Findings, Place};
use super::format::{Case, CaseFile};
use super::play::Player;
use super::world::World;
use crate::document::{Diagnostic, Located, Parsed, Severity};

/// A file of cases that can be run.
#[derive(Debug)]
pub struct Cases {
    file: Arc<str>,
    located: Located<CaseFile>,
}

/// Reads a file of cases.
///
/// # Errors
/// Every field that is unknown, missing or of the wrong type, with its line.
pub fn parse(file: &Arc<str>, text: &str) -> Result<Cases, Vec<Diagnostic>> {
    let located = Located::read(file, text)?;
    Ok(Cases { file: file.clone(), located })
}

impl Cases {
    /// How many cases there are.
    pub fn len(&self) -> usize {
        self.located.value.cases.len()
    }

    /// A file without cases cannot be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs every case and tells what came out otherwise than it is written.
    pub fn run(&self, load: &dyn Fn(&str) -> Result<String, String>) -> Vec<Mismatch> {
        let mut all = Vec::new();
        for (at, case) in self.located.value.cases.iter().enumerate() {
            let mut findings = self.run_case(at, case, load);
            all.append(&mut findings.all);
        }
        all
    }

    fn run_case(&self, at: usize, case: &Case, load: &dyn Fn(&str) -> Result<String, String>) -> Findings {
        let line = |pointer: &str| self.located.lines.line(pointer).unwrap_or(1);
        let pointer = format!("/cases/{at}");
        let place = Place { file: self.file.clone(), case: case.name.clone(), line: line(&pointer) };
        let mut findings = Findings::new(place);
        let mut parsed = Vec::new();
        for (given, pointer) in [
            (&self.located.value.given, String::from("/given/objects")),
            (&case.given, format!("{pointer}/given/objects")),
        ] {
            for name in &given.files {
                match load(name) {
                    Ok(text) => parsed.push(crate::document::parse(&Arc::from(name.as_str()), &text)),
                    Err(error) => findings.told("files", name.clone(), error),
                }
            }
            parsed.push(self.located.objects(&self.file, &pointer));
        }
        findings.errors(&case.then.errors, &errors(&parsed));
        let world = match World::build(&parsed, [&self.located.value.given, &case.given]) {
            Ok(world) => world,
            Err(error) => {
                findings.told("given", String::from("a world"), error);
                return findings;
            }
        };
        findings.conditions(&case.then.conditions, &world);
        let mut player = Player::new(&world);
        for (number, step) in case.steps.iter().enumerate() {
            findings.place.line = line(&format!("{pointer}/steps/{number}"));
            match player.step(step) {
                Ok(observed) => findings.step(&step.then, &observed),
                Err(error) => findings.told("when", step.when.clone(), error),
            }
        }
        findings
    }
}

fn errors(parsed: &[Parsed]) -> Vec<String> {
    let all = parsed.iter().flat_map(|parsed| &parsed.diagnostics);
    all.filter(|d| d.severity == Severity::Error).map(ToString::to_string).collect()
}

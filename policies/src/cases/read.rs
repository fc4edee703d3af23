use std::sync::Arc;

use super::compare::{Findings, Place};
use super::format::{Case, CaseFile};
use super::play::Player;
use super::world::World;
use super::{Coverage, Load, Mismatch};
use crate::document::{Diagnostic, Located, Parsed, Severity};

/// A file of cases that can be run.
#[derive(Debug)]
pub struct Cases {
    file: Arc<str>,
    located: Located<CaseFile>,
}

/// What came of one case: nothing is amiss if nothing came out otherwise than it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub name: String,
    /// From 1.
    pub line: u32,
    pub mismatches: Vec<Mismatch>,
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

    /// Runs those cases whose names hold `part`.
    pub fn run_named(&self, part: &str, load: &Load<'_>, coverage: &mut Coverage) -> Vec<Ran> {
        let cases = self.located.value.cases.iter().enumerate();
        let named = cases.filter(|(_, case)| case.name.contains(part));
        let ran = named.map(|(at, case)| Ran {
            name: case.name.clone(),
            line: self.located.lines.line(&format!("/cases/{at}")).unwrap_or(1),
            mismatches: self.run_case(at, case, load, coverage).all,
        });
        ran.collect()
    }

    /// Runs every case.
    pub fn run(&self, load: &Load<'_>, coverage: &mut Coverage) -> Vec<Ran> {
        self.run_named("", load, coverage)
    }

    fn run_case(&self, at: usize, case: &Case, load: &Load<'_>, coverage: &mut Coverage) -> Findings {
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
                    Ok(texts) => {
                        parsed.extend(texts.iter().map(|(shown, text)| crate::document::parse(shown, text)));
                    }
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
        coverage.expect(&world.resolved.resources, &self.file);
        let mut player = Player::new(&world);
        for (number, step) in case.steps.iter().enumerate() {
            findings.place.line = line(&format!("{pointer}/steps/{number}"));
            match player.step(step) {
                Ok(observed) => {
                    coverage.show(&observed.shown);
                    findings.step(&step.then, &observed);
                }
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

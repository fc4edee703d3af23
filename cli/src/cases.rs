//! `tidegate test`: cases beside policies, decided by the code that decides in production, on a virtual clock.

mod files;
mod junit;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use tidegate_policy::cases::{self, Coverage, Ran};
use tidegate_policy::document::Diagnostic;

use crate::exit::Done;
use crate::{logging, say};
use files::CaseFile;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate test mesh/                 every *.test.yaml below a directory
  tidegate test mesh/cart.test.yaml --case canary
  tidegate test mesh/ --coverage      and which rules no case has shown
  tidegate test mesh/ --junit report.xml

A file of cases:
  given: {files: [.]}                 files and folders, relative to this one
  cases:
  - name: The eleventh request within a second is refused
    steps:
    - {when: GET http://shop.example.com/cart, times: 10, then: {status: 200}}
    - {when: GET http://shop.example.com/cart, then: {status: 429}}

Exit code 1 when a case does not hold, 2 when a file cannot be read.";

#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// Files of cases, and directories in which *.test.yaml are such files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only cases whose name holds this
    #[arg(long, value_name = "TEXT", default_value = "")]
    case: String,
    /// Tell which rules of the policies and routes have decided nothing in any case
    #[arg(long)]
    coverage: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Write a JUnit report, as CI systems read it
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What came of one file.
pub(crate) struct Outcome {
    pub(crate) path: Arc<str>,
    /// Else why it could not be run.
    pub(crate) ran: Result<Vec<Ran>, Vec<Diagnostic>>,
    pub(crate) took: std::time::Duration,
}

pub(crate) fn command(args: &TestArgs) -> Result<Done> {
    logging::start("warn");
    let files = files::find(&args.paths)?;
    if files.is_empty() {
        bail!("there is no file of cases: name one, or a directory with *.test.yaml in it");
    }
    let (outcomes, coverage) = run(&files, &args.case);
    if let Some(path) = &args.junit {
        let shown = path.display();
        std::fs::write(path, junit::render(&outcomes)).with_context(|| format!("cannot write {shown}"))?;
    }
    let coverage = args.coverage.then_some(&coverage);
    if args.json {
        say::text(&report::json(&outcomes, coverage)?);
    } else {
        say::text(&report::text(&outcomes, coverage, logging::colour(&std::io::stdout())));
    }
    let all = outcomes.iter().map(|outcome| outcome.ran.as_deref());
    let (mut ran, mut failed) = (0, 0);
    for cases in all {
        let Ok(cases) = cases else { return Ok(Done::Unusable) };
        ran += cases.len();
        failed += cases.iter().filter(|case| !case.mismatches.is_empty()).count();
    }
    if ran == 0 {
        bail!("no case has `{}` in its name", args.case);
    }
    Ok(if failed == 0 { Done::Well } else { Done::ChecksFailed })
}

/// Each file by itself, as many at a time as there are processors; told in the order of the files.
fn run(files: &[CaseFile], part: &str) -> (Vec<Outcome>, Coverage) {
    let next = AtomicUsize::new(0);
    let done = Mutex::new((Vec::new(), Coverage::default()));
    let work = || {
        while let Some((at, file)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, files.get(at)?)))
        {
            let (outcome, coverage) = run_file(file, part);
            let mut done = done.lock();
            done.0.push((at, outcome));
            done.1.merge(coverage);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| (0..threads.min(files.len())).for_each(|_| drop(scope.spawn(work))));
    let (mut outcomes, coverage) = done.into_inner();
    outcomes.sort_by_key(|(at, _)| *at);
    (outcomes.into_iter().map(|(_, outcome)| outcome).collect(), coverage)
}

fn run_file(file: &CaseFile, part: &str) -> (Outcome, Coverage) {
    let (begun, mut coverage) = (std::time::Instant::now(), Coverage::default());
    let ran = file.read().and_then(|text| {
        let cases = cases::parse(&file.shown, &text)?;
        Ok(cases.run_named(part, &|name| file.load(name), &mut coverage))
    });
    (Outcome { path: file.shown.clone(), ran, took: begun.elapsed() }, coverage)
}

#[cfg(test)]
mod tests;

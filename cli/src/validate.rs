//! `tidegate validate`: what the control plane would say of files, and what is valid but cannot be meant, without one.

mod explain;
mod json;
mod problem;
pub(crate) mod read;
mod render;
mod sarif;
mod snippet;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Result, bail};
use tidegate_control_plane::ControllerArgs;
use tidegate_policy::lint;

use crate::exit::Done;
use crate::{logging, say};
use problem::Report;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate validate mesh/                  a directory, as `run` reads it
  tidegate validate mesh/limits.yaml       one file; references to objects
                                           elsewhere are reported as missing
  helm template . | tidegate validate -    standard input
  tidegate validate mesh/ --format sarif   for code review tools
  tidegate validate --explain unreachable-rule

Errors are what would be refused. Warnings have the name of a lint, which says
what is valid and cannot have been meant; --explain tells more of it.

Exit code 1 when there is an error (with --deny-warnings, a warning), 2 when
a path cannot be read.";

#[derive(Debug, clap::Args)]
pub(crate) struct ValidateArgs {
    /// Files and directories, judged together as one set; `-` is standard input
    #[arg(required_unless_present = "explain", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to tell what was found
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Warnings make the check fail, too
    #[arg(long)]
    deny_warnings: bool,
    /// Does not tell what this lint finds; may be given several times
    #[arg(long, value_name = "LINT")]
    allow: Vec<String>,
    /// Says what a lint looks for, and what to do; `all` lists them
    #[arg(long, value_name = "LINT")]
    explain: Option<String>,
    #[command(flatten)]
    classes: ControllerArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
    /// SARIF 2.1.0, as code review tools read it
    Sarif,
}

pub(crate) fn command(args: &ValidateArgs) -> Result<Done> {
    logging::start("warn");
    if let Some(name) = &args.explain {
        say::text(&explain::text(name)?);
        return Ok(Done::Well);
    }
    for name in &args.allow {
        known(name)?;
    }
    let reading = read::read(&args.paths)?;
    let mut report = Report::of(&reading, &args.classes.controller());
    report.problems.retain(|problem| !problem.is_of(&args.allow));
    let format = if args.json { Format::Json } else { args.format };
    say::text(&match format {
        Format::Text => render::text(&report, logging::colour(&std::io::stdout())),
        Format::Json => json::render(&report)?,
        Format::Sarif => sarif::render(&report)?,
    });
    let fails = report.errors() > 0 || args.deny_warnings && report.warnings() > 0;
    Ok(if fails { Done::ChecksFailed } else { Done::Well })
}

fn known(name: &str) -> Result<&'static lint::Lint> {
    match (lint::find(name), lint::nearest(name)) {
        (Some(lint), _) => Ok(lint),
        (None, Some(meant)) => bail!("there is no lint `{name}`: did you mean `{meant}`?"),
        (None, None) => {
            let names: Vec<_> = lint::LINTS.iter().map(|lint| lint.name).collect();
            bail!("there is no lint `{name}`; there are {}", names.join(", "))
        }
    }
}

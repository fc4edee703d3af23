//! `tidegate diff`: what changes in effect from one set of documents to another, not in their text.

mod render;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Result;
use tidegate_control_plane::ControllerArgs;
use tidegate_control_plane::source::Reading;
use tidegate_control_plane::world::Fold;
use tidegate_policy::diff;
use tidegate_policy::model::Resources;
use tidegate_policy::resolve::{Controller, resolve_for};

use crate::exit::Done;
use crate::validate::read;
use crate::{logging, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate diff mesh/ mesh.new/          directories, as `run` reads them
  git worktree add /tmp/main main
  tidegate diff /tmp/main/mesh mesh      what a branch would change

Compared is what requests meet: which match leads where, which policies hold on
which way and what they say, backends and endpoints. Comments, the order of
documents, the names of files and what has no effect make no difference.

Exit code 0 when nothing changes, 1 when something does, 2 when one of the two
is not valid or cannot be read.";

#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// What holds now: a directory or a file
    before: PathBuf,
    /// What is to hold
    after: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    classes: ControllerArgs,
}

pub(crate) fn command(args: &DiffArgs) -> Result<Done> {
    logging::start("warn");
    let side = |path: &PathBuf| -> Result<_> {
        Ok(resources(&read::read(std::slice::from_ref(path))?, &args.classes.controller()))
    };
    let (before, after) = match (side(&args.before)?, side(&args.after)?) {
        (Ok(before), Ok(after)) => (before, after),
        (before, after) => {
            let errors: Vec<_> = [before.err(), after.err()].into_iter().flatten().flatten().collect();
            say::news(&errors);
            return Ok(Done::Unusable);
        }
    };
    let changes = diff::diff(&before, &after);
    if args.json {
        say::text(&render::json(&changes)?);
    } else {
        say::text(&render::text(&changes, logging::colour(&std::io::stdout())));
    }
    Ok(if changes.is_empty() { Done::Well } else { Done::ChecksFailed })
}

/// What documents lead to.
///
/// # Errors
/// What is wrong with them: what a document that is not valid would do, nobody can tell.
fn resources(reading: &Reading, controller: &Controller) -> Result<Resources, Vec<String>> {
    let world = Fold::new(controller.clone()).apply(reading).unwrap_or_default();
    let wrong = world.diagnostics.iter().filter(|found| found.is_error());
    let wrong: Vec<_> = wrong.map(ToString::to_string).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let objects = world.objects.values().filter_map(|indexed| indexed.object.as_deref());
    Ok(resolve_for(controller, objects).resources)
}

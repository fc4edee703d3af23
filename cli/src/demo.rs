//! `tidegate demo`: a whole mesh of real processes with load on it, live policies, and a verdict at the end.
//!
//! This file starts, repeats and ends; what is seen is in `watch`, what is expected in `expect`, and whether the
//! two agree in `judge`.

mod expect;
mod eyes;
mod judge;
mod layout;
mod load;
mod mesh;
mod metrics;
mod pacer;
mod policies;
mod process;
mod run;
mod screen;
mod service;
mod show;
mod summary;
mod table;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use tidegate_policy::objects::GepDuration;

pub(crate) use service::ServiceArgs;

use crate::exit::Done;
use crate::{logging, runtime, shutdown};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate demo                     watch it; edit the file that the hint names;
                                    Ctrl-C ends it
  tidegate demo --for 20s           end by itself; exit code 0 only if all acted
                                    as written
  tidegate demo --for 20s --no-tty  the same for a log: plain lines
  tidegate demo --rps 600           more users, and a noisier noisy one

The mesh: storefront (limited per user) calls checkout, a canary of v1 and v2;
checkout-v2 is bad from second 5 to 9 of every 15, and its circuit breaker
opens. All of it on 127.0.0.1, ports 19000 to 19123.";

/// A run must hold a bad phase of checkout-v2 and its recovery, or there is nothing to judge.
const SHORTEST: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// End after this long with a summary; at least 15s
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<GepDuration>,
    /// Plain lines instead of the live table (what happens anyway if the output is no terminal)
    #[arg(long)]
    no_tty: bool,
    /// Policy files to run on, in place of the demo's own
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Requests per second
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u32).range(15..=20_000))]
    rps: u32,
    /// Write access logs too, and leave all logs, and policy files that were written for this run, where they are
    #[arg(long)]
    keep: bool,
}

pub(crate) fn command(args: DemoArgs) -> Result<Done> {
    if args.duration.is_some_and(|d| d.get() < SHORTEST) {
        bail!("--for: less than 15s holds no bad phase of checkout-v2 with its recovery; try --for 20s");
    }
    logging::start("warn");
    runtime::many()?.block_on(run::run(args))
}

pub(crate) fn service_command(args: ServiceArgs) -> Result<Done> {
    logging::start("warn");
    runtime::one()?.block_on(async {
        service::run(args, shutdown::token()?).await?;
        Ok(Done::Well)
    })
}

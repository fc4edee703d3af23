//! `tidegate simulate`: traffic through policies on a virtual clock, by the code that decides in production.
//!
//! Reads files and shows what came of them; what comes of them is said by [`tidegate_policy::simulate`].

mod batches;
mod documents;
mod feed;
mod html;
mod input;
mod json;
mod plot;
mod progress;
mod report;
mod text;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use http::{HeaderName, HeaderValue};
use tidegate_policy::model::ResourceName;
use tidegate_policy::simulate::profile::Profile;
use tidegate_policy::simulate::{Answers, Comparison, Plan, Side, Simulator, Threshold};

use crate::exit::Done;
use crate::{logging, say};
use feed::{Replay, Runs};
use report::{Judged, Report};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate simulate --policies mesh/ --traffic access.log
      who would have been limited yesterday, by which rule; our own access log,
      Envoy's JSON or the common and combined log format, gzip or not
  tidegate simulate --policies new/ --against old/ --traffic - < access.log
      whose verdict changes between two sets of policies, and why
  tidegate simulate --policies mesh/ --profile sale.yaml --html sale.html
      traffic that is made up: rates, bursts, keys, latencies and failures
  tidegate simulate --policies mesh/ --traffic access.log.gz \\
      --fail-if 'limited > 1%' --fail-if 'status.5xx > 0'
      exit code 1 for a CI pipeline when it would get as bad as that

A threshold is MEASURE OPERATOR NUMBER[%]. Measures: requests, limited, refused,
would_refuse, delayed, retried, retries, failed, changed (with --against),
status.429, status.5xx, reason.no_route. Operators: > >= < <= == !=

A profile:
  duration: 10m
  clients:
  - request: GET http://shop.example.com/item/{key}
    headers: {x-user: '{key}'}
    rate: 200                                   # a second, by Poisson
    bursts: {on: 5s, off: 55s}
    key: {count: 10000, zipf: 1.1, prefix: user-}
  backends:
  - backend: shop/cart:80
    latency: {type: Lognormal, median: 20ms, p99: 200ms}
    failPercent: 0.5
    outages: [{from: 2m, to: 3m}]

A log tells no request's own headers, but for its user agent and what it has in
fields that begin with x-, or that --header names. Shared limits count as if one
proxy saw all traffic. What else is not as in production is told at the end.

Exit code 1 when a threshold is reached, 2 when something cannot be used.";

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// Ours
    Tidegate,
    /// Envoy's, or another one with a JSON object on each line
    Envoy,
    /// The common log format
    Common,
    /// The combined one: with referer and user agent
    Combined,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["traffic", "profile"])))]
pub(crate) struct SimulateArgs {
    /// Files and directories of policies, as `run` reads them
    #[arg(long, required = true, value_name = "PATH", num_args = 1..)]
    policies: Vec<PathBuf>,
    /// An access log, gzip or not; `-` is standard input
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    /// A profile of traffic that is made up, in YAML
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Other policies: tell which verdicts differ from theirs
    #[arg(long, value_name = "PATH", num_args = 1..)]
    against: Vec<PathBuf>,
    /// Where the traffic comes in: `gateway`, `caller:NAMESPACE` (the sidecar of who calls) or
    /// `serving:NAMESPACE/SERVICE` (that of who is called)
    #[arg(long = "as", value_name = "SIDE", default_value = "gateway", value_parser = side)]
    side: Side,
    /// How the log is written. Default: told by its first lines
    #[arg(long, value_name = "FORMAT", conflicts_with = "profile")]
    format: Option<FormatArg>,
    /// The host of requests of which the log tells none. Default: one that a route is for
    #[arg(long, value_name = "HOST", conflicts_with = "profile")]
    host: Option<HeaderValue>,
    /// A field of a JSON log that has the value of a header: `x-user=user_id`
    #[arg(long, value_name = "HEADER=FIELD", value_parser = header, conflicts_with = "profile")]
    header: Vec<(HeaderName, String)>,
    /// Exit code 1 if this is so: `limited > 1%`
    #[arg(long, value_name = "THRESHOLD", value_parser = |text: &str| text.parse::<Threshold>())]
    fail_if: Vec<Threshold>,
    /// The same seed gives the same result
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Write a report with plots, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn side(text: &str) -> Result<Side, String> {
    match text.split_once(':') {
        None if text == "gateway" => Ok(Side::Gateway),
        Some(("caller", namespace)) if !namespace.is_empty() => Ok(Side::Caller(namespace.into())),
        Some(("serving", services)) => {
            let read = |name: &str| name.parse::<ResourceName>().map_err(|error| format!("{name}: {error}"));
            services.split(',').map(read).collect::<Result<_, _>>().map(Side::Serving)
        }
        _ => Err(String::from("write gateway, caller:NAMESPACE or serving:NAMESPACE/SERVICE")),
    }
}

fn header(text: &str) -> Result<(HeaderName, String), String> {
    let (name, field) = text.split_once('=').ok_or("write HEADER=FIELD")?;
    let name = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
    Ok((name, field.to_owned()))
}

pub(crate) fn command(args: &SimulateArgs) -> Result<Done> {
    logging::start("warn");
    let (done, answer) = run(args)?;
    say::text(&answer);
    Ok(done)
}

/// How it went, and what there is to say.
fn run(args: &SimulateArgs) -> Result<(Done, String)> {
    if args.against.is_empty() && args.fail_if.iter().any(Threshold::asks_change) {
        bail!("`changed` is measured against other policies: name them by --against");
    }
    let Some(plan) = documents::plan(&args.policies, &args.side)? else { return Ok(unusable()) };
    let against = match &args.against[..] {
        [] => None,
        paths => match documents::plan(paths, &args.side)? {
            Some(plan) => Some(plan),
            None => return Ok(unusable()),
        },
    };
    match &args.profile {
        Some(path) => made_up(args, path, (&plan, against.as_ref())),
        None => logged(args, (&plan, against.as_ref())),
    }
}

fn made_up(args: &SimulateArgs, path: &PathBuf, plans: (&Plan, Option<&Plan>)) -> Result<(Done, String)> {
    let shown: Arc<str> = path.display().to_string().into();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let profile = match Profile::parse(&shown, &text) {
        Ok(profile) => profile,
        Err(faults) => {
            say::news(&faults.iter().map(ToString::to_string).collect::<Vec<_>>());
            return Ok(unusable());
        }
    };
    let mut traffic = profile.traffic(args.seed).map_err(anyhow::Error::msg)?;
    let began = traffic.began();
    let mut runs = runs(args, plans, || Answers::by(profile.models(), began));
    let replay = feed::profile(&mut traffic, &mut runs);
    tell(args, plans, &runs, &replay)
}

fn logged(args: &SimulateArgs, plans: (&Plan, Option<&Plan>)) -> Result<(Done, String)> {
    let Some(path) = &args.traffic else { bail!("name a log by --traffic, or a profile by --profile") };
    let mut runs = runs(args, plans, Answers::default);
    let replay = feed::log(args, path, plans.0, &mut runs)?;
    if replay.is_garbage() {
        say::news(&report::garbage(&replay));
        bail!("{}: most lines are no lines of an access log ({})", replay.source, replay.format);
    }
    tell(args, plans, &runs, &replay)
}

fn runs<'p>(
    args: &SimulateArgs,
    (plan, against): (&'p Plan, Option<&'p Plan>),
    answers: impl Fn() -> Answers,
) -> Runs<'p> {
    match against {
        None => Runs::One(Box::new(Simulator::new(plan, answers(), args.seed))),
        Some(before) => Runs::Two(Box::new(Comparison::new((before, plan), answers, args.seed))),
    }
}

fn tell(
    args: &SimulateArgs,
    (plan, against): (&Plan, Option<&Plan>),
    runs: &Runs<'_>,
    replay: &Replay,
) -> Result<(Done, String)> {
    let judged = args.fail_if.iter().map(|threshold| Judged::of(threshold, runs));
    let judged = judged.collect::<Result<Vec<_>>>()?;
    let mut notes = plan.notes().to_vec();
    let of_others = against.into_iter().flat_map(Plan::notes).filter(|note| !plan.notes().contains(note));
    notes.extend(of_others.map(|note| format!("of the others: {note}")));
    let report = Report { replay, runs, judged: &judged, notes: &notes };
    if let Some(path) = &args.html {
        let shown = path.display();
        std::fs::write(path, html::render(&report)).with_context(|| format!("cannot write {shown}"))?;
    }
    let answer = match args.json {
        true => format!("{}\n", json::render(&report)),
        false => text::render(&report, logging::colour(&std::io::stdout())),
    };
    let failed = judged.iter().any(|judged| judged.holds);
    Ok((if failed { Done::ChecksFailed } else { Done::Well }, answer))
}

/// Why was said.
fn unusable() -> (Done, String) {
    (Done::Unusable, String::new())
}

#[cfg(test)]
mod tests;

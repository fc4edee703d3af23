//! The one command people type: a whole mesh on one machine, or any one part of it.
//!
//! This crate starts, shows and sums up. It must not decide anything about traffic: that is the policy core's, and
//! what acts on it is the proxy's and the control plane's.

mod cases;
#[cfg(feature = "cluster")]
mod check;
mod crds;
mod demo;
mod describe;
mod diff;
mod exit;
mod explain;
mod http_client;
mod identity;
mod inject;
mod install;
mod logging;
mod manifests;
mod parts;
mod plugin;
mod prometheus;
mod redirect;
mod run;
mod runtime;
mod say;
mod schema;
mod shutdown;
mod simulate;
mod status;
mod validate;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

// A proxy runs in here as well: see its own main.rs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EXAMPLES: &str = "\
Examples:
  tidegate demo
      see limits, a breaker and a canary at work, live
  tidegate run --app 127.0.0.1:3000 --listen 127.0.0.1:8080
      a sidecar in front of one app, no file needed
  tidegate run --policies ./policies
      a gateway and its policies from a directory
  tidegate status
      what is in force, and what was refused and why

TIDEGATE_LOG, else RUST_LOG, filters the program's own log on standard error:
TIDEGATE_LOG=debug. Exit codes: 0 all is well, 1 a check failed, 2 a wrong flag
or a configuration that cannot be used.";

/// Traffic policy for every service: limits, breakers and canaries, written once as YAML, enforced by sidecars.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a small mesh with load on it, and watch what its policies do
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
    /// Run control plane and proxy in one process, for services of your own
    #[command(after_help = run::EXAMPLES)]
    Run(run::RunArgs),
    /// Run one sidecar or gateway
    #[command(after_help = parts::PROXY_EXAMPLES)]
    Proxy(tidegate_proxy::ProxyArgs),
    /// Run one control plane for many proxies
    #[command(after_help = parts::CONTROL_PLANE_EXAMPLES)]
    ControlPlane(parts::ControlPlaneFlags),
    /// Show every object of a running control plane: accepted, programmed on how many proxies, errors
    #[command(after_help = status::EXAMPLES)]
    Status(status::StatusArgs),
    /// Describe a service, route or gateway: everything attached to it, and what holds where
    #[command(after_help = describe::EXAMPLES)]
    Describe(describe::DescribeArgs),
    /// Explain the path of a request through policy files: rule, policies, call, backend
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::ExplainArgs),
    /// Say what was decided of one request at each hop, and on which line that is written
    #[command(after_help = why::EXAMPLES)]
    Why(why::WhyArgs),
    /// Make a join token, with which a workload proves who it is
    #[command(after_help = identity::TOKEN_EXAMPLES)]
    Token(identity::TokenArgs),
    /// Put a new root in the place of the authority's, without a gap
    #[command(after_help = identity::ROTATE_EXAMPLES)]
    RotateRoot(identity::RotateArgs),
    /// Ask a cluster whether everything is there that a mesh needs
    #[cfg(feature = "cluster")]
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Check policy files without running anything
    #[command(after_help = validate::EXAMPLES)]
    Validate(validate::ValidateArgs),
    /// Tell what changes in effect from one set of files to another
    #[command(after_help = diff::EXAMPLES)]
    Diff(diff::DiffArgs),
    /// Run cases that say what policies must do, without running anything else
    #[command(after_help = cases::EXAMPLES)]
    Test(cases::TestArgs),
    /// Replay traffic through policies: who would be limited, refused, moved or retried, by which rule
    #[command(after_help = simulate::EXAMPLES)]
    Simulate(simulate::SimulateArgs),
    /// Print the JSON Schema of a kind, for editors
    #[command(after_help = schema::EXAMPLES)]
    Schema(schema::SchemaArgs),
    /// Look at a proxy-wasm plugin, or run requests through it, without a proxy
    #[command(after_help = plugin::EXAMPLES)]
    Plugin(plugin::PluginArgs),
    /// Print the CustomResourceDefinitions of every tidegate.io kind
    #[command(after_help = crds::EXAMPLES)]
    Crds(crds::CrdsArgs),
    /// Print what `kubectl apply` installs on a cluster, without Helm
    #[command(after_help = install::EXAMPLES)]
    Install(install::InstallArgs),
    /// Add a sidecar to the pods of a file, as the admission webhook does in a cluster
    #[command(after_help = inject::EXAMPLES)]
    Inject(inject::InjectArgs),
    /// Lead the connections of a pod to its sidecar, by iptables
    #[command(after_help = redirect::EXAMPLES)]
    Redirect(redirect::RedirectArgs),
    /// One of the demo's services
    #[command(hide = true)]
    DemoService(demo::ServiceArgs),
}

fn main() -> ExitCode {
    let matches = parts::with_kubernetes(Cli::command()).get_matches();
    let command = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    let done = match command {
        Command::Demo(args) => demo::command(args),
        Command::Run(args) => run::command(args),
        Command::Proxy(args) => parts::proxy(args),
        Command::ControlPlane(args) => parts::control_plane(&args),
        #[cfg(feature = "cluster")]
        Command::Check(args) => check::command(args),
        Command::Validate(args) => validate::command(&args),
        Command::Diff(args) => diff::command(&args),
        Command::Test(args) => cases::command(&args),
        Command::Simulate(args) => simulate::command(&args),
        Command::Token(args) => identity::token(&args),
        Command::RotateRoot(args) => identity::rotate(&args),
        Command::Status(args) => status::command(&args),
        Command::Plugin(args) => plugin::command(&args),
        Command::Why(args) => why::command(&args),
        Command::Schema(args) => schema::command(&args),
        Command::Describe(args) => describe::command(&args),
        Command::Explain(args) => explain::command(&args),
        Command::Crds(args) => crds::command(&args),
        Command::Install(args) => install::command(&args),
        Command::Inject(args) => inject::command(&args),
        Command::Redirect(args) => redirect::command(&args),
        Command::DemoService(args) => demo::service_command(args),
    };
    exit::code(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_fit_a_terminal_of_eighty_columns() {
        let cli = Cli::command();
        for command in cli.get_subcommands().chain([&cli]) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let long: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{}: {long:#?}", command.get_name());
        }
    }
}

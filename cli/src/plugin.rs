//! `tidegate plugin`: looks at proxy-wasm plugins, and runs them, without any proxy.

mod connection;
mod inspect;
mod test;
mod world;

use anyhow::Result;

use crate::exit::Done;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate plugin inspect auth.wasm
      its ABI, what it imports, and what would keep it from being loaded
  tidegate plugin test auth.wasm --header 'x-token: abc'
      one request through it, and what it made of that
  tidegate plugin test redact.wasm --config-file redact.json --json \\
      --method POST --body '{\"card\": 1}' --response-body '{\"card\": 2}'
      bodies too; the answer is for programs
  tidegate plugin test guard.wasm --client $'GET a\\r\\n' --server $'1\\r\\n'
      a connection, and what of it passes each way

Exit codes: 0 all is well, 1 the plugin cannot be loaded, refuses its
configuration or failed, 2 a wrong flag or a file that cannot be read.";

#[derive(Debug, clap::Args)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what a module is: ABI, imports, exports, and what the host lacks for it
    Inspect(inspect::InspectArgs),
    /// Run a request or a connection through a plugin, and say what it does to them
    Test(Box<test::TestArgs>),
}

pub(crate) fn command(args: &PluginArgs) -> Result<Done> {
    match &args.command {
        Command::Inspect(args) => inspect::command(args),
        Command::Test(args) => test::command(args),
    }
}

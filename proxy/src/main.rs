//! `tidegate-proxy`: one data plane, told what to do by flags and by a control plane.

use clap::Parser;
use tidegate_proxy::{ProxyArgs, ProxyConfig, WaitArgs, wait_ready};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

// By measurement, see bench/README.md; how it is set up is said in .cargo/config.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The Tidegate proxy: a sidecar beside one application, or a gateway.
#[derive(Debug, Parser)]
#[command(name = "tidegate-proxy", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    proxy: ProxyArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Wait until the proxy that runs here is ready; exit code 1 if it is not in time
    WaitReady(WaitArgs),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(Command::WaitReady(args)) = &cli.command {
        return wait_ready(args);
    }
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    let config = ProxyConfig::try_from(cli.proxy)?;
    // The proxy has runtimes of its own; this one only waits for the signal.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tidegate_proxy::run(config, CancellationToken::new()))
}

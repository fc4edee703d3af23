//! `tidegate-control-plane`: serves policy documents of a directory, or of a Kubernetes cluster, to proxies.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use tidegate_cluster::{ClusterArgs, with_kubernetes};
use tidegate_control_plane::ControlPlaneArgs;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The Tidegate control plane: watches policy documents, checks them, pushes them to every proxy.
#[derive(Debug, Parser)]
#[command(name = "tidegate-control-plane", version)]
struct Cli {
    #[command(flatten)]
    control_plane: ControlPlaneArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let matches = with_kubernetes(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let filter =
        EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    let shutdown = CancellationToken::new();
    if let Err(error) = cancel_on_signal(shutdown.clone()) {
        tracing::error!(%error, "cannot listen for signals");
        return ExitCode::FAILURE;
    }
    match serve(&cli, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, code)) => {
            tracing::error!("{error}");
            ExitCode::from(code)
        }
    }
}

async fn serve(cli: &Cli, shutdown: CancellationToken) -> Result<(), (String, u8)> {
    if cli.cluster.kubernetes {
        let run = tidegate_cluster::run(&cli.control_plane, &cli.cluster, shutdown).await;
        return run.map_err(|error| (error.to_string(), error.exit_code()));
    }
    let run = tidegate_control_plane::run(&cli.control_plane, shutdown).await;
    run.map_err(|error| (error.to_string(), error.exit_code()))
}

fn cancel_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        let args = std::iter::once("tidegate-control-plane").chain(args.iter().copied());
        Cli::from_arg_matches(&with_kubernetes(Cli::command()).try_get_matches_from(args)?)
    }

    #[test]
    fn policies_come_from_a_directory_or_from_a_cluster_and_from_one_of_them() {
        assert!(parse(&["--policies", "mesh"]).unwrap().control_plane.policies.is_some());
        assert!(parse(&["--kubernetes"]).unwrap().cluster.kubernetes);
        assert!(parse(&[]).is_err());
        assert!(parse(&["--kubernetes", "--policies", "mesh"]).is_err());
    }
}

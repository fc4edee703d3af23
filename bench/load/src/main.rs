//! What stands around the proxies when they are measured: load, a backend, a certificate, and the floor.
//!
//! One thread each, so that a measurement can say which processor pays for what. It measures nothing of Tidegate by
//! itself and must not use its code: the floor is what hyper costs without us. `bench/compare.py` runs it.

mod body;
mod certificate;
mod churn;
mod client;
mod echo;
mod floor;
mod idle;
mod pace;
mod report;
#[cfg(test)]
mod tests;
mod ticker;

use clap::{Parser, Subcommand};

/// Load, backend and floor for bench/compare.py.
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send requests at a fixed rate, and tell how long after its due time each was answered
    Pace(pace::PaceArgs),
    /// Open a new connection for every request, as fast as answers come
    Churn(churn::ChurnArgs),
    /// Hold connections that have made one request each, until standard input ends
    Idle(idle::IdleArgs),
    /// Answer HTTP/1.1, HTTP/2 and gRPC: the backend
    Echo(echo::EchoArgs),
    /// Forward and nothing else: the least that a proxy on hyper costs
    Floor(floor::FloorArgs),
    /// Write a certificate for localhost, and its key
    Certificate(certificate::CertificateArgs),
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Pace(args) => pace::run(&args).await,
            Command::Churn(args) => churn::run(args).await,
            Command::Idle(args) => idle::run(&args).await,
            Command::Echo(args) => echo::run(args).await,
            Command::Floor(args) => floor::run(args).await,
            Command::Certificate(args) => certificate::write(&args),
        }
    })
}

//! Connections that made one request and then rest: what they cost the server in memory.

use std::io::{Read, Write};
use std::net::SocketAddr;

use anyhow::ensure;
use clap::Args;
use http::Request;
use tokio::task::spawn_blocking;

use crate::body::empty;
use crate::client::{Protocol, Target};

#[derive(Args, Debug)]
pub(crate) struct IdleArgs {
    /// Whom to ask
    address: SocketAddr,
    #[arg(long, default_value_t = 1000)]
    connections: usize,
}

pub(crate) async fn run(args: &IdleArgs) -> anyhow::Result<()> {
    let target = Target { address: args.address, protocol: Protocol::H1, tls: None };
    let mut held = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        let mut sender = target.connect().await?;
        let request = Request::get("/").header("host", "localhost").body(empty())?;
        let status = sender.call(request).await?;
        ensure!(status == 200, "the answer was {status}");
        held.push(sender);
    }
    writeln!(std::io::stdout(), "holding")?;
    spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    let gone = held.iter().filter(|sender| sender.is_closed()).count();
    ensure!(gone == 0, "{gone} connections were closed meanwhile");
    Ok(())
}

//! A new connection for every request: what accepting, and a TLS handshake, costs the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use http::Request;
use tokio::task::JoinSet;

use crate::body::empty;
use crate::client::{Protocol, Target, tls};
use crate::report::Report;

/// Every closed connection keeps its port for a minute, so clients take turns with the addresses of loopback.
const ADDRESSES: u32 = 250;

#[derive(Args, Debug)]
pub(crate) struct ChurnArgs {
    /// Whom to ask
    address: SocketAddr,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Connections at a time
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// By TLS 1.3, trusting the certificates of this file; no session is resumed
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

pub(crate) async fn run(args: ChurnArgs) -> anyhow::Result<()> {
    let tls = args.ca.as_deref().map(tls).transpose()?;
    let target = Target { address: args.address, protocol: Protocol::H1, tls };
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(args.seconds);
    let mut clients = JoinSet::new();
    for client in 0..args.connections {
        clients.spawn(one_by_one(target.clone(), client, end));
    }
    let mut report = Report::new()?;
    for (took, answer) in clients.join_all().await.into_iter().flatten() {
        report.record(took, answer.map_err(|error| format!("{error:#}")));
    }
    report.print(start.elapsed())
}

async fn one_by_one(target: Target, client: u32, end: Instant) -> Vec<(Duration, anyhow::Result<u16>)> {
    let mut seen = Vec::new();
    let mut turn = client;
    while Instant::now() < end {
        turn += 1;
        let own = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + turn % ADDRESSES);
        let begun = Instant::now();
        let answer = ask_once(&target, own).await;
        seen.push((begun.elapsed(), answer));
    }
    seen
}

async fn ask_once(target: &Target, own: Ipv4Addr) -> anyhow::Result<u16> {
    let mut sender = target.connect_from(own).await?;
    let request = Request::get("/").header("host", "localhost").body(empty())?;
    sender.call(request).await
}

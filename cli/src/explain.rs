//! `tidegate explain`: the whole path of a request that is described on the command line, decided as in production.

mod files;

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use tidegate_policy::explain::{Question, Side, explain, peer};
use tidegate_policy::state::StateStore;
use tidegate_policy::story::World;

use crate::exit::Done;
use crate::{logging, say};

pub(crate) use files::read;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate explain GET https://shop.example.com/cart --policies mesh/
  tidegate explain GET http://shop.example.com/cart -H 'x-canary: 1' \\
      --policies mesh/ --peer 10.0.0.7
  tidegate explain POST http://checkout.shop/pay --policies mesh/ \\
      --as caller shop           in the sidecar of a workload that calls
  tidegate explain POST http://checkout.shop/pay --policies mesh/ \\
      --as serving shop/checkout --peer spiffe://cluster.local/ns/shop/sa/web
  tidegate explain GRPC http://cart.shop/shop.Cart/Get --policies mesh/ --json

Nothing else is under way, limits are full, and backends answer 200 at once.

Exit code 1 when the mesh itself would answer, 2 when something cannot be read.";

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// GET, POST, …, or GRPC for a call of /service/method
    #[arg(value_name = "METHOD")]
    method: String,
    /// With scheme and host; at a gateway the port is that of the listener
    #[arg(value_name = "URL")]
    url: String,
    /// A header of the request; repeat for several
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Files and directories of documents, judged together as one set
    #[arg(long, value_name = "PATH", required = true)]
    policies: Vec<PathBuf>,
    /// Who asks: an address, or a SPIFFE id as mTLS would have verified it; repeat for both
    #[arg(long, value_name = "ADDRESS|SPIFFE-ID")]
    peer: Vec<String>,
    /// Which proxy it comes to: `gateway`, `caller NAMESPACE` or `serving NAMESPACE/NAME`
    #[arg(long = "as", value_name = "SIDE", num_args = 1..=2)]
    side: Vec<String>,
    /// For what is by chance: another number may pick another backend
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(args: &ExplainArgs) -> Result<Done> {
    logging::start("warn");
    let side = Side::parse(&args.side)?;
    let question = Question::new(side, peer(&args.peer)?, (&args.method, &args.url), &args.headers)?;
    let documents = read(&args.policies)?;
    let world = World::build(&documents, &question.local(), &StateStore::new([0, 0]));
    let world = world.map_err(|refused| anyhow!("a proxy would refuse these documents: {refused}"))?;
    let explanation = explain(&world, &question, args.seed)?;
    say::text(&if args.json {
        format!("{}\n", serde_json::to_string_pretty(&explanation)?)
    } else {
        explanation.to_string()
    });
    Ok(if explanation.reason.is_some() { Done::ChecksFailed } else { Done::Well })
}

//! `tidegate describe`: everything that is attached to an object, and what holds where requests meet it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use tidegate_policy::describe::{Described, Subject, describe};
use tidegate_policy::story::World;

use crate::exit::Done;
use crate::http_client::Client;
use crate::status::resolve;
use crate::{explain, logging, runtime, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate describe service shop/cart --policies mesh/
  tidegate describe route web --policies mesh/     where only one has the name
  tidegate describe gateway edge                   of a running control plane
  tidegate describe service cart --control-plane http://10.0.0.7:15014 --json

Exit code 2 when there is no such object, or nobody to ask.";

/// A page that takes longer than this is not worth waiting for.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct DescribeArgs {
    /// What it is
    #[arg(value_name = "service|route|gateway")]
    subject: Subject,
    /// NAMESPACE/NAME, or the name alone where only one object has it
    #[arg(value_name = "NAME")]
    name: String,
    /// Files and directories of documents, judged together as one set, instead of a control plane
    #[arg(long, value_name = "PATH", conflicts_with = "control_plane")]
    policies: Vec<PathBuf>,
    /// The control plane's admin address
    #[arg(long, env = "TIDEGATE_STATUS_URL", value_name = "URL", default_value = "http://127.0.0.1:15014")]
    control_plane: Uri,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(args: &DescribeArgs) -> Result<Done> {
    logging::start("warn");
    let described = if args.policies.is_empty() {
        runtime::one()?.block_on(ask(args))?
    } else {
        let documents = explain::read(&args.policies)?;
        describe(&World::resolve(&documents).resources, args.subject, &args.name)?
    };
    say::text(&if args.json {
        format!("{}\n", serde_json::to_string_pretty(&described)?)
    } else {
        described.to_string()
    });
    Ok(Done::Well)
}

/// What a control plane says of it.
async fn ask(args: &DescribeArgs) -> Result<Described> {
    let url = &args.control_plane;
    let authority = url.authority().ok_or_else(|| anyhow!("{url}: write it like http://127.0.0.1:15014"))?;
    let address = resolve(authority.host(), authority.port_u16().unwrap_or(80)).await?;
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '.');
    if !args.name.chars().all(named) {
        bail!("`{}` is no name of an object", args.name);
    }
    let path = format!("/describe?kind={}&name={}", args.subject, args.name);
    let request = Request::get(path).header(header::HOST, authority.as_str()).body(Default::default())?;
    let answer = Client::new(address, DEADLINE).send(request).await.with_context(|| {
        format!(
            "cannot ask {url}; is a control plane running there? (--control-plane, or --policies for files)"
        )
    })?;
    let (head, body): (_, Bytes) = answer.into_parts();
    match head.status {
        StatusCode::OK => serde_json::from_slice(&body)
            .with_context(|| format!("{url} does not answer like a control plane of this version")),
        _ => bail!("{}", String::from_utf8_lossy(&body).trim_end()),
    }
}

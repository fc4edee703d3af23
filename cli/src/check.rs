//! `tidegate check`: is everything there that a mesh in a cluster needs.

use std::io;

use anyhow::Result;
use tidegate_cluster::check::{Finding, Place, Verdict, check};

use crate::exit::Done;
use crate::{logging, runtime, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate check                        the cluster that $KUBECONFIG leads to
  tidegate check --namespace mesh       a control plane in another namespace

Exit code 1 when something is broken; what is only missing is told.";

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The control plane's namespace
    #[arg(long, value_name = "NS", env = "TIDEGATE_CP_NAMESPACE", default_value = "tidegate-system")]
    namespace: String,
    /// The control plane's Service, and service account
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_SERVICE", default_value = "tidegate-control-plane")]
    service: String,
    /// The Lease by which its replicas agree on one who writes
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_LEADER_LEASE", default_value = "tidegate-leader")]
    leader_lease: String,
    /// The ValidatingWebhookConfiguration
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_WEBHOOK_CONFIGURATION", default_value = "tidegate")]
    webhook_configuration: String,
    /// The Secret of the webhook's certificates
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_WEBHOOK_SECRET", default_value = "tidegate-webhook")]
    webhook_secret: String,
    /// The Secret of the authority that signs for workloads
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_CA_SECRET", default_value = "tidegate-ca")]
    ca_secret: String,
}

pub(crate) fn command(args: CheckArgs) -> Result<Done> {
    logging::start("off");
    let place = Place {
        namespace: args.namespace,
        service: args.service,
        lease: args.leader_lease,
        webhook_configuration: args.webhook_configuration,
        secrets: vec![args.webhook_secret, args.ca_secret],
    };
    let findings = runtime::one()?.block_on(async {
        let client = tidegate_cluster::app::client().await?;
        Ok::<_, anyhow::Error>(check(&client, &place).await)
    })?;
    let colour = logging::colour(&io::stdout());
    for finding in &findings {
        say::line(&render(finding, colour));
    }
    let is_broken = findings.iter().any(|finding| finding.verdict == Verdict::Broken);
    Ok(if is_broken { Done::ChecksFailed } else { Done::Well })
}

fn render(finding: &Finding, colour: bool) -> String {
    let (mark, code) = match finding.verdict {
        Verdict::Well => ("ok", "32"),
        Verdict::Lacking => ("--", "33"),
        Verdict::Broken => ("!!", "31"),
    };
    match colour {
        true => format!("\x1b[{code}m{mark}\x1b[0m  {}", finding.what),
        false => format!("{mark}  {}", finding.what),
    }
}

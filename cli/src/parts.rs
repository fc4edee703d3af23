//! `tidegate proxy` and `tidegate control-plane`: one part of the mesh as a process of its own, the same as the
//! binaries of that name.

use anyhow::Result;
use tidegate_control_plane::ControlPlaneArgs;
use tidegate_proxy::{ProxyArgs, ProxyConfig};

use crate::exit::Done;
use crate::{logging, runtime, shutdown};

pub(crate) const PROXY_EXAMPLES: &str = "\
Examples:
  tidegate proxy --inbound 127.0.0.1:8080 --app 127.0.0.1:3000
      a sidecar without policies
  tidegate proxy --control-plane http://10.0.0.7:15010 --node cart-1 \\
                 --service cart --inbound 0.0.0.0:8080 --app 127.0.0.1:3000
      a sidecar with the policies of Service `cart`
  tidegate proxy --control-plane http://10.0.0.7:15010 --sidecar \\
                 --namespace shop --workload web --outbound 127.0.0.1:15001
      the outbound side of workload `web`: calls are routed by the address that
      they wanted to reach, else by their Host header
  tidegate proxy --control-plane http://10.0.0.7:15010 --node edge-1 --gateway
      a gateway: listeners come from Gateway objects";

pub(crate) const CONTROL_PLANE_EXAMPLES: &str = "\
Examples:
  tidegate control-plane --policies mesh --listen 0.0.0.0:15010
  tidegate control-plane --kubernetes
      the cluster that $KUBECONFIG or the pod leads to
  curl http://127.0.0.1:15014/status";

pub(crate) fn proxy(args: ProxyArgs) -> Result<Done> {
    logging::start("info");
    let config = ProxyConfig::try_from(args)?;
    // The proxy has runtimes of its own; this one only waits.
    runtime::one()?.block_on(async {
        tidegate_proxy::run(config, shutdown::token()?).await?;
        Ok(Done::Well)
    })
}

/// The flags of a control plane, of a directory or of a cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct ControlPlaneFlags {
    #[command(flatten)]
    control_plane: ControlPlaneArgs,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: tidegate_cluster::ClusterArgs,
}

/// Lets a cluster take the place of a directory, where this build can read one.
pub(crate) fn with_kubernetes(command: clap::Command) -> clap::Command {
    #[cfg(feature = "cluster")]
    let command = command.mut_subcommand("control-plane", tidegate_cluster::with_kubernetes);
    command
}

pub(crate) fn control_plane(args: &ControlPlaneFlags) -> Result<Done> {
    logging::start("info,kube_client=off");
    runtime::many()?.block_on(async {
        let shutdown = shutdown::token()?;
        #[cfg(feature = "cluster")]
        if args.cluster.kubernetes {
            tidegate_cluster::run(&args.control_plane, &args.cluster, shutdown).await?;
            return Ok(Done::Well);
        }
        tidegate_control_plane::run(&args.control_plane, shutdown).await?;
        Ok(Done::Well)
    })
}

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

pub(crate) fn control_plane(args: &ControlPlaneArgs) -> Result<Done> {
    logging::start("info");
    runtime::many()?.block_on(async {
        tidegate_control_plane::run(args, shutdown::token()?).await?;
        Ok(Done::Well)
    })
}

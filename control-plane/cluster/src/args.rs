//! The flags that only a cluster needs, beside those of every control plane.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Command};

/// How to run a control plane in a cluster.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// Read the cluster's API instead of a directory. How it is reached is said by $KUBECONFIG, or by the pod that this
    /// runs in.
    #[arg(long, env = "TIDEGATE_CP_KUBERNETES")]
    pub kubernetes: bool,
    /// The namespace that this runs in: the Lease and the webhook's Secret are there.
    #[arg(long, value_name = "NS", env = "TIDEGATE_CP_NAMESPACE", default_value = "tidegate-system")]
    pub namespace: String,
    /// The Service under which proxies, and the API server, reach this control plane.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_SERVICE", default_value = "tidegate-control-plane")]
    pub service: String,
    /// Where the API server asks before it stores an object (HTTPS: /validate, /inject). Off unless it is given.
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_CP_WEBHOOK")]
    pub webhook: Option<SocketAddr>,
    /// Secret with the webhook's certificates; made and renewed unless somebody brings one with tls.crt and tls.key.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_WEBHOOK_SECRET", default_value = "tidegate-webhook")]
    pub webhook_secret: String,
    /// ValidatingWebhookConfiguration and MutatingWebhookConfiguration whose caBundle is kept current.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_WEBHOOK_CONFIGURATION", default_value = "tidegate")]
    pub webhook_configuration: String,
    /// Another name in the webhook's certificate, for a configuration that reaches it by `url`. Repeat for several.
    #[arg(
        long = "webhook-host",
        value_name = "NAME",
        env = "TIDEGATE_CP_WEBHOOK_HOSTS",
        value_delimiter = ','
    )]
    pub webhook_hosts: Vec<String>,
    /// Add sidecars to pods by the settings in this file, as `tidegate inject --settings` reads it; read again when it
    /// changes. Without it pods are left as they are.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CP_INJECTION")]
    pub injection: Option<PathBuf>,
    /// Sign certificates of workloads with the authority in this Secret, which has the files of --ca-dir; made unless it is
    /// there. Who asks is known by a token of its service account.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_CA_SECRET", conflicts_with = "ca_dir")]
    pub ca_secret: Option<String>,
    /// Whom tokens of service accounts must be meant for.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_TOKEN_AUDIENCE", default_value = "tidegate")]
    pub token_audience: String,
    /// Lease by which replicas agree on one who writes.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_LEADER_LEASE", default_value = "tidegate-leader")]
    pub leader_lease: String,
    /// This replica's name in the Lease. Defaults to the host's.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CP_IDENTITY")]
    pub identity: Option<String>,
    /// Image of the proxies that are run for Gateways. Without one, no Deployment is made for a Gateway.
    #[arg(long, value_name = "IMAGE", env = "TIDEGATE_CP_GATEWAY_IMAGE")]
    pub gateway_image: Option<String>,
}

impl ClusterArgs {
    /// Unique to this process: one that was restarted under its old name is another candidate.
    pub(crate) fn identity(&self) -> String {
        let host = || std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
        let name = self.identity.clone().or_else(host).unwrap_or_else(|| String::from("tidegate"));
        format!("{name}_{:08x}", crate::seed() & 0xffff_ffff)
    }
}

/// Lets `--kubernetes` stand in for `--policies` in a command that has both.
pub fn with_kubernetes(command: Command) -> Command {
    command.mut_arg("policies", |policies| {
        policies.required(false).required_unless_present("kubernetes").conflicts_with("kubernetes")
    })
}

//! `tidegate-cni`: a runtime's plugin where CNI_COMMAND is set, else what puts it onto a node.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tidegate_cni::install::{self, Installation};
use tidegate_cni::plugin;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const EXAMPLES: &str = "\
Examples:
  tidegate-cni install
      in a pod of the chart's DaemonSet (cni.enabled): copies itself to the node,
      adds itself to its network configuration, and keeps it so until it is ended
  tidegate-cni installed
      whether it is in place; exit code 1 if not, with the reason
  echo '{\"cniVersion\": \"1.0.0\"}' | CNI_COMMAND=VERSION tidegate-cni
      as a container runtime calls it";

/// Leads the connections of injected pods to their sidecars, from the node: a chained CNI plugin.
#[derive(Debug, Parser)]
#[command(name = "tidegate-cni", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put the plugin onto this node and keep it there; take it back when ended
    Install(Place),
    /// Say whether it is there
    Installed(Place),
}

#[derive(Debug, Args)]
struct Place {
    /// Where runtimes look for plugins, as it is mounted here
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CNI_BIN_DIR", default_value = "/host/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Where runtimes look for network configurations, as it is mounted here
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CNI_CONF_DIR", default_value = "/host/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// The same directory as the node names it
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CNI_NODE_CONF_DIR", default_value = "/etc/cni/net.d")]
    node_conf_dir: PathBuf,
    /// The network configuration to be added to; default: the first by name, which runtimes take
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CNI_CONF_NAME")]
    conf_name: Option<String>,
    /// The API server as the node reaches it; default: as this pod does
    #[arg(long, value_name = "URL", env = "TIDEGATE_CNI_API_SERVER")]
    api_server: Option<String>,
    /// With the service account's token and ca.crt
    #[arg(long, value_name = "DIR", default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    service_account_dir: PathBuf,
    /// Pods of these are never looked at; with commas between
    #[arg(long, value_name = "NAMES", env = "TIDEGATE_CNI_EXCLUDE_NAMESPACES", value_delimiter = ',')]
    exclude_namespaces: Vec<String>,
    /// How often it is all looked at, beside each change of the directory; in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

impl Place {
    fn installation(self) -> Result<Installation> {
        let server = match self.api_server.filter(|server| !server.is_empty()) {
            Some(server) => server,
            None => {
                in_cluster().context("no --api-server, and no KUBERNETES_SERVICE_HOST: is this a pod?")?
            }
        };
        Ok(Installation {
            binary: env::current_exe()?,
            bin_dir: self.bin_dir,
            conf_dir: self.conf_dir,
            node_conf_dir: self.node_conf_dir,
            conf_name: self.conf_name.filter(|name| !name.is_empty()),
            server,
            account_dir: self.service_account_dir,
            exclude_namespaces: self.exclude_namespaces,
        })
    }
}

/// As the kubelet tells every pod.
fn in_cluster() -> Option<String> {
    let (host, port) = (env::var("KUBERNETES_SERVICE_HOST").ok()?, env::var("KUBERNETES_SERVICE_PORT").ok()?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}

fn main() -> ExitCode {
    if env::var_os("CNI_COMMAND").is_some() {
        let is_well = plugin::run(|name| env::var(name).ok(), io::stdin().lock(), &mut io::stdout().lock());
        return if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match command(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use io::Write as _;
            let _ = writeln!(io::stderr(), "tidegate-cni: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> Result<()> {
    match command {
        Command::Installed(place) => place.installation()?.check(),
        Command::Install(place) => {
            let every = Duration::from_secs(place.every);
            let installation = place.installation()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (mut ended, mut stopped) =
                    (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
                let stop = async {
                    tokio::select! {
                        _ = ended.recv() => {}
                        _ = stopped.recv() => {}
                    }
                };
                install::run(&installation, every, &watch::Sender::new(0), stop).await
            })
        }
    }
}

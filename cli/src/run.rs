//! `tidegate run`: control plane and proxy in one process, for a person's own services on one machine.
//!
//! The two talk gRPC over a loopback port as they would across machines; this file only starts them, tells what
//! they say, and ends them in order. What is worth telling is decided in `news`.

mod news;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::builder::Resettable;
use tidegate_control_plane::{
    ControlPlaneArgs, ControllerArgs, IdentityArgs, QuotaArgs, Running as ControlPlane, StartError,
};
use tidegate_proxy::app::{Proxy, Running};
use tidegate_proxy::{ProxyArgs, ProxyConfig};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::exit::Done;
use crate::{logging, runtime, say, shutdown};
use news::News;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate run --app 127.0.0.1:3000 --listen 127.0.0.1:8080
      a sidecar in front of one app; no file, no policy
  tidegate run --app 127.0.0.1:3000 --listen 127.0.0.1:8080 \\
               --policies mesh --service shop
      the same, with the policies that files in mesh/ attach to the Service
      `shop`; add --outbound 127.0.0.1:9000 for the calls of the app: it sends
      them to port 9000, with the called Service as Host
  tidegate run --policies mesh --sidecar --namespace shop --workload web \\
               --outbound 127.0.0.1:9000
      the outbound side of one workload, several of them from one directory:
      routes whose parent is a Service, by the address that a connection wanted
      to reach before iptables redirected it here, or that a PROXY protocol
      header names (--accept-proxy-protocol), else by the Host header
  tidegate run --policies mesh --port-offset 8000
      a gateway: listeners come from Gateway objects, port 80 becomes 8080

Edit a file: it is in force as soon as it is saved. A file with mistakes is
refused with path and line, and the last valid version stays in force.";

/// Listeners of Gateways come and go with the configuration; this often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where `tidegate status` asks unless somebody says otherwise.
const STATUS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15014);

#[derive(Debug, clap::Args)]
#[command(
    mut_arg("inbound", |arg| arg.long("listen")),
    mut_arg("control_plane", |arg| arg.hide(true).env(Resettable::Reset)),
    mut_arg("gateway", |arg| arg.hide(true).env(Resettable::Reset))
)]
pub(crate) struct RunArgs {
    /// Directory of policy documents (*.yaml, *.yml, *.json), watched for changes
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Where `tidegate status` asks; only with --policies. Defaults to 127.0.0.1:15014, and like --admin to any free port
    /// where another run has that one; the address is told at the start
    #[arg(long, value_name = "ADDR")]
    status: Option<SocketAddr>,
    #[command(flatten)]
    classes: ControllerArgs,
    /// Keep this file current: every object as Kubernetes would show it, with its `.status`; only with --policies
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    #[command(flatten)]
    proxy: ProxyArgs,
}

pub(crate) fn command(args: RunArgs) -> Result<Done> {
    check(&args)?;
    // What these say is told as news.
    logging::start("warn,tidegate_control_plane=off,tidegate_proxy::listener::gateway=off");
    runtime::many()?.block_on(run(args))
}

/// What the proxy itself would say in terms of its own flags.
fn check(args: &RunArgs) -> Result<()> {
    let proxy = &args.proxy;
    if proxy.control_plane.is_some() {
        bail!("`run` brings its own control plane; to use another one: tidegate proxy --control-plane URL");
    }
    match (proxy.app, proxy.inbound) {
        (Some(_), None) => bail!("--app needs --listen ADDR: where requests for it are accepted"),
        (None, Some(_)) => bail!("--listen needs --app ADDR: where the application listens"),
        (None, None) if proxy.sidecar && proxy.outbound.is_none() => bail!(
            "--sidecar needs --outbound ADDR: where it accepts the calls of its workload; or --listen and --app"
        ),
        (None, None) if args.policies.is_none() => bail!(
            "nothing to run: give --app and --listen for a sidecar, or --policies DIR for a gateway\n\n{EXAMPLES}"
        ),
        _ => {}
    }
    if proxy.http3 && !proxy.gateway && (proxy.app.is_some() || proxy.sidecar || args.policies.is_none()) {
        bail!("--http3 is for gateways: give --policies DIR, and neither --app nor --sidecar");
    }
    if proxy.outbound.is_some() && args.policies.is_none() {
        bail!("--outbound needs --policies DIR: the services to call are written there");
    }
    Ok(())
}

async fn run(args: RunArgs) -> Result<Done> {
    let stop = shutdown::token()?;
    let control_plane = match &args.policies {
        Some(policies) => Some(start_control_plane(policies.clone(), &args).await?),
        None => None,
    };
    let mut flags = args.proxy;
    if let Some(control_plane) = &control_plane {
        flags.control_plane = Some(format!("http://{}", control_plane.grpc).parse()?);
        flags.gateway |= flags.app.is_none() && !flags.sidecar;
    }
    let proxy = start_proxy(flags)?;
    match &control_plane {
        Some(control_plane) => follow(control_plane, &proxy, &stop).await,
        None => {
            say::news(&news::places(&proxy, None));
            say::news(&[String::from("policies  none: every request is passed on")]);
            stop.cancelled().await;
        }
    }
    say::news(&[String::from("draining  (once more to end at once)")]);
    proxy.shutdown();
    proxy.wait().await;
    if let Some(control_plane) = control_plane {
        control_plane.shutdown().await;
    }
    Ok(Done::Well)
}

/// The address that nobody asked for, or any free port where another run on this machine has it.
fn own_or_any(default: SocketAddr) -> SocketAddr {
    let taken = TcpListener::bind(default).is_err();
    if taken { SocketAddr::new(default.ip(), 0) } else { default }
}

fn start_proxy(flags: ProxyArgs) -> Result<Running> {
    let admin_anywhere = flags.admin.is_none();
    let config = ProxyConfig::try_from(flags).map_err(anyhow::Error::from);
    // The proxy's own flag has another name here.
    config
        .and_then(|config| Proxy::start(ProxyConfig { admin_anywhere, ..config }))
        .map_err(|error| anyhow!(format!("{error:#}").replace("--inbound", "--listen")))
}

async fn start_control_plane(policies: PathBuf, args: &RunArgs) -> Result<ControlPlane> {
    let admin = args.status.unwrap_or_else(|| own_or_any(STATUS));
    let (classes, status_file) = (args.classes.clone(), args.status_file.clone());
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let quota = QuotaArgs::default();
    let identity = IdentityArgs::default();
    let mut plane = ControlPlaneArgs {
        policies: Some(policies),
        listen,
        admin,
        classes,
        status_file,
        quota,
        identity,
        is_first: true,
    };
    let mut started = tidegate_control_plane::start(&plane).await;
    // Several runs that start at once all find the default free, and only one of them gets it.
    if args.status.is_none()
        && matches!(&started, Err(StartError::Listen { address, .. }) if *address == admin)
    {
        plane.admin.set_port(0);
        started = tidegate_control_plane::start(&plane).await;
    }
    started.map_err(|error| match error {
        // The control plane's own flag has another name here.
        StartError::Listen { address, cause, .. } if address == admin => {
            anyhow!("cannot listen on --status {address}: {cause}; with port 0 it takes any free one")
        }
        other => other.into(),
    })
}

/// Tells what changes until `stop`.
async fn follow(control_plane: &ControlPlane, proxy: &Running, stop: &CancellationToken) {
    let mut world = control_plane.world();
    let mut nodes = control_plane.node_changes();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::select! {
        () = proxy.state().listeners.opened() => {}
        () = stop.cancelled() => return,
    }
    say::news(&news::places(proxy, Some(control_plane.admin)));
    let mut news = News::new(&proxy.state().config.local.services);
    say::news(&news.first(&world.borrow_and_update()));
    loop {
        let lines = news.look(&world.borrow(), &control_plane.status(), &proxy.state().listeners.all());
        say::news(&lines);
        tokio::select! {
            _ = looks.tick() => {}
            Ok(()) = world.changed() => {}
            Ok(()) = nodes.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

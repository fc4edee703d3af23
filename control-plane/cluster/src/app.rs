//! Puts the parts together. The only file here that knows everyone.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use tidegate_control_plane::source::Reading;
use tidegate_control_plane::status::Reporter;
use tidegate_control_plane::world::World;
use tidegate_control_plane::{ControlPlaneArgs, Running, StartError, start_from};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::args::ClusterArgs;
use crate::events::Events;
use crate::leader::{Election, Lease, Terms, elect};
use crate::peers::Home;
use crate::source::{Cluster, Timing};
use crate::webhook::{Answers, Injector, Keeper, Mutate, Ours, keep_ca_bundle, look_up, serve};
use crate::{gateways, identity, peers, status};

/// A connection on which nothing comes for so long is dead.
const SILENCE: Duration = Duration::from_secs(320);

/// What is not said by flags.
#[derive(Clone)]
pub struct Options {
    pub client: Client,
    pub timing: Timing,
    pub terms: Terms,
    /// Who adds the sidecar to pods, in the stead of who is told by `--injection`.
    pub mutate: Option<Arc<dyn Mutate>>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot reach a cluster: {0}")]
    Cluster(String),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("--injection: {0}")]
    Injection(String),
    #[error("stopped before the cluster was read")]
    Stopped,
}

/// A running control plane. Dropping it stops it.
#[derive(Debug)]
pub struct Started {
    pub running: Running,
    /// Where the webhook answers.
    pub webhook: Option<SocketAddr>,
    /// Whether this replica leads.
    pub leads: watch::Receiver<bool>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    _guard: DropGuard,
}

/// What the parts that write go by.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    pub(crate) world: watch::Receiver<Arc<World>>,
    pub(crate) nodes: watch::Receiver<u64>,
    pub(crate) reporter: Arc<Reporter>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("timing", &self.timing)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl RunError {
    /// The process's exit code: 2 where the command line is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start(error) => error.exit_code(),
            Self::Cluster(_) | Self::Injection(_) => 2,
            Self::Stopped => 0,
        }
    }
}

/// A client for the cluster that $KUBECONFIG or the pod's service account leads to.
///
/// # Errors
/// If neither does.
pub async fn client() -> Result<Client, RunError> {
    let failed = |error: &dyn std::error::Error| {
        RunError::Cluster(format!(
            "{error}; give a kubeconfig by $KUBECONFIG, or run it in a pod with a service account"
        ))
    };
    // Fails only if it was done before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = Config::infer().await.map_err(|e| failed(&e))?;
    // A watch is silent for longer than anything else, and ends before.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|e| failed(&e))
}

/// Runs a control plane in a cluster until `shutdown`.
///
/// # Errors
/// If the cluster is not to be found or an address is taken; later, if a part of it fails.
pub async fn run(
    args: &ControlPlaneArgs,
    cluster: &ClusterArgs,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let client = client().await?;
    let options = Options { client, timing: Timing::default(), terms: Terms::default(), mutate: None };
    let stop = shutdown.child_token();
    match start(args, cluster, options, stop).await {
        Ok(started) => started.until(shutdown).await,
        Err(RunError::Stopped) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Starts a control plane in a cluster; it serves once everything was read. The webhook answers before.
///
/// # Errors
/// If an address is taken, or `shutdown` comes before the cluster was read.
pub async fn start(
    args: &ControlPlaneArgs,
    flags: &ClusterArgs,
    options: Options,
    shutdown: CancellationToken,
) -> Result<Started, RunError> {
    let guard = shutdown.clone().drop_guard();
    let mut tasks = JoinSet::new();
    let cluster = Cluster::new(options.client.clone(), options.timing);
    let identity = flags.identity();
    let election = Election::new(identity.clone(), options.terms);
    let lease = Lease { namespace: flags.namespace.clone(), name: flags.leader_lease.clone() };
    let leads = elect(options.client.clone(), &lease, election, (&mut tasks, shutdown.clone()));
    let (publish, roots) = watch::channel(None);
    let webhook = match flags.webhook {
        Some(address) => {
            let mutate = mutate(flags, &options, &roots)?;
            let parts = (cluster.clone(), mutate, leads.clone());
            Some(start_webhook(flags, address, parts, (&mut tasks, shutdown.clone())).await?)
        }
        None => None,
    };
    let readings = cluster.read(shutdown.clone());
    let readings = first(readings, &shutdown).await.ok_or(RunError::Stopped)?;
    let signing = identity::signing(&cluster, flags, args.identity.trust_domain(), publish);
    let signing = shutdown.run_until_cancelled(signing).await.ok_or(RunError::Stopped)?;
    let mut args = args.clone();
    // Who makes proxies for each Gateway knows that they share nothing.
    args.classes.apart |= flags.gateway_image.is_some();
    let running = start_from(&args, readings, signing, shutdown.clone()).await?;
    let plane = Plane { world: running.world(), nodes: running.node_changes(), reporter: running.reporter() };
    let events = Events::new(options.client.clone(), &identity);
    let deploys = flags.gateway_image.is_some();
    tasks.spawn(status::keep(
        cluster.clone(),
        plane.clone(),
        (events, deploys),
        leads.clone(),
        shutdown.clone(),
    ));
    let home =
        Home { namespace: flags.namespace.clone(), service: flags.service.clone(), admin: running.admin };
    tasks.spawn(peers::keep(cluster.clone(), plane.clone(), home, leads.clone(), shutdown.clone()));
    let (domain, port) = (args.identity.trust_domain(), running.grpc.port());
    if let Some(settings) = gateways::Settings::of(flags, domain, &roots, port) {
        let keeping = gateways::keep(cluster, plane, (settings, roots), leads.clone(), shutdown.clone());
        tasks.spawn(keeping);
    }
    Ok(Started { running, webhook, leads, tasks, shutdown, _guard: guard })
}

impl Started {
    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// If a part of it fails: who runs it shall start it again rather than let it go on half-dead.
    pub async fn until(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { running, mut tasks, shutdown: stop, _guard, .. } = self;
        let serving = running.until(shutdown, "the cluster");
        tokio::pin!(serving);
        let served = tokio::select! {
            served = &mut serving => served,
            Some(ended) = tasks.join_next() => match ended {
                Err(error) => Err(StartError::Failed(error.to_string())),
                Ok(()) if stop.is_cancelled() => serving.await,
                // None of them ends by itself.
                Ok(()) => Err(StartError::Failed(String::from("it ended"))),
            },
        };
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        Ok(served?)
    }

    /// Stops all of it and waits until nothing runs any more.
    pub async fn shutdown(self) {
        let Self { running, mut tasks, shutdown, _guard, .. } = self;
        shutdown.cancel();
        running.shutdown().await;
        while tasks.join_next().await.is_some() {}
    }
}

/// Waits until there is something to start with; from then on every reading is handed on.
async fn first(
    mut readings: watch::Receiver<Option<Arc<Reading>>>,
    shutdown: &CancellationToken,
) -> Option<watch::Receiver<Arc<Reading>>> {
    let first = shutdown.run_until_cancelled(readings.wait_for(Option::is_some)).await?.ok()?.clone()?;
    readings.mark_unchanged();
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        while readings.changed().await.is_ok() {
            let next = readings.borrow_and_update().clone();
            if let Some(next) = next
                && sender.send(next).is_err()
            {
                return;
            }
        }
    });
    Some(receiver)
}

fn mutate(
    flags: &ClusterArgs,
    options: &Options,
    roots: &identity::Roots,
) -> Result<Option<Arc<dyn Mutate>>, RunError> {
    if options.mutate.is_some() {
        return Ok(options.mutate.clone());
    }
    let Some(path) = &flags.injection else { return Ok(None) };
    let injector = Injector::open(path, roots.clone()).map_err(RunError::Injection)?;
    Ok(Some(Arc::new(injector)))
}

async fn start_webhook(
    flags: &ClusterArgs,
    address: SocketAddr,
    (cluster, mutate, leads): (Cluster, Option<Arc<dyn Mutate>>, watch::Receiver<bool>),
    (tasks, shutdown): (&mut JoinSet<()>, CancellationToken),
) -> Result<SocketAddr, RunError> {
    let taken = |cause| StartError::Listen { flag: "--webhook", address, cause };
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let bound = listener.local_addr().map_err(taken)?;
    let secret = (&*flags.namespace, &*flags.webhook_secret);
    let keeper =
        Keeper::new(cluster.client.clone(), secret, (&flags.service, &flags.webhook_hosts), cluster.timing);
    let (identity, bundle) = (keeper.identity(), keeper.bundle());
    let ours = Ours {
        configuration: flags.webhook_configuration.clone(),
        namespace: flags.namespace.clone(),
        service: flags.service.clone(),
        hosts: flags.webhook_hosts.clone(),
    };
    let (looking, runtime) = (cluster.clone(), Handle::current());
    let namespaces = move |name: &str| look_up(&looking, &runtime, name);
    let answers = Answers { mutate, namespaces: Arc::new(namespaces) };
    tasks.spawn(keeper.run(leads.clone(), shutdown.clone()));
    tasks.spawn(keep_ca_bundle(cluster.client.clone(), ours, bundle, leads, shutdown.clone()));
    tasks.spawn(serve(listener, identity, answers, shutdown));
    Ok(bound)
}

//! Puts the control plane together: source -> fold -> hub and status. The only file here that knows everyone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tidegate_policy::resolve::Controller;
use tidegate_xds::rls::RateLimitServiceServer;
use tidegate_xds::server::grpc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admin;
use crate::decisions::{self, Decisions};
use crate::grpc::{ASKED, Hub, TYPES};
use crate::identity::{self, Certifier, IdentityArgs, IdentityError, Signing};
use crate::limits::Limits;
use crate::news;
use crate::outliers::{self, Outliers};
use crate::quotas::{self, Peers, PeersError, QuotaArgs, Quotas};
use crate::source::Reading;
use crate::source::file::{self, CannotOpen};
use crate::status::{self, Reporter, Status};
use crate::world::{Fold, World};

/// How to run a control plane from a directory of documents.
#[derive(Args, Clone, Debug)]
pub struct ControlPlaneArgs {
    /// Directory of policy documents (*.yaml, *.yml, *.json), watched for changes.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CP_POLICIES", required = true)]
    pub policies: Option<PathBuf>,
    /// Where proxies fetch their configuration (gRPC, delta xDS).
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_CP_LISTEN", default_value = "127.0.0.1:15010")]
    pub listen: SocketAddr,
    /// Where people and Prometheus ask: /status, /metrics, /ready.
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_CP_ADMIN", default_value = "127.0.0.1:15014")]
    pub admin: SocketAddr,
    #[command(flatten)]
    pub classes: ControllerArgs,
    /// Keep this file current: every object as Kubernetes would show it, with its `.status`, as one JSON List. It is
    /// replaced by rename, and only when it changes. Not inside the directory of policies.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_STATUS_FILE")]
    pub status_file: Option<PathBuf>,
    #[command(flatten)]
    pub quota: QuotaArgs,
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// No proxy can hold shares of mesh-wide limits that a control plane before this one lent: they are lent at once. For
    /// those who start all proxies themselves.
    #[arg(skip)]
    pub is_first: bool,
}

/// Which Gateways are ours.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgs {
    /// Gateways of this class are ours, with or without a GatewayClass object of that name.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_GATEWAY_CLASS", default_value = Controller::DEFAULT_CLASS)]
    pub gateway_class: String,
    /// So are those whose GatewayClass names this controller.
    #[arg(long, value_name = "DOMAIN/PATH", env = "TIDEGATE_CONTROLLER_NAME", default_value = Controller::DEFAULT_NAME)]
    pub controller_name: String,
    /// Each Gateway has proxies of its own (`tidegate-proxy --gateway-name`), so the same port of two of them is no
    /// conflict.
    #[arg(long = "gateways-apart", env = "TIDEGATE_GATEWAYS_APART")]
    pub apart: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Policies(#[from] CannotOpen),
    #[error("nothing says where policies are: give --policies DIR")]
    NoPolicies,
    #[error("cannot listen on {flag} {address}: {cause}")]
    Listen { flag: &'static str, address: SocketAddr, cause: std::io::Error },
    #[error(
        "--status-file {0} would be read as a policy document: keep it outside of the directory of policies"
    )]
    StatusFile(PathBuf),
    #[error(transparent)]
    Peers(#[from] PeersError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("a part of the control plane failed: {0}")]
    Failed(String),
}

impl ControllerArgs {
    pub fn controller(&self) -> Controller {
        let (name, gateway_class) = (self.controller_name.clone(), self.gateway_class.clone());
        Controller { name, gateway_class, apart: self.apart }
    }
}

impl Default for ControllerArgs {
    fn default() -> Self {
        let Controller { name, gateway_class, apart } = Controller::default();
        Self { gateway_class, controller_name: name, apart }
    }
}

impl StartError {
    /// The process's exit code: 2 where the command line is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Policies(_)
            | Self::NoPolicies
            | Self::StatusFile(_)
            | Self::Peers(_)
            | Self::Identity(_) => 2,
            Self::Listen { .. } | Self::Failed(_) => 1,
        }
    }
}

/// What proxies have of each other, and what they are asked.
type Shared = (Arc<Quotas>, Arc<Outliers>, Arc<Decisions>);

/// A running control plane. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    reporter: Arc<Reporter>,
    hub: Arc<Hub>,
    world: watch::Receiver<Arc<World>>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    _guard: DropGuard,
}

/// Starts a control plane on the given addresses; port 0 picks a free one.
///
/// # Errors
/// If the directory cannot be read or an address is taken. Once started, it survives losing the directory.
pub async fn start(args: &ControlPlaneArgs) -> Result<Running, StartError> {
    check_status_file(args)?;
    let policies = args.policies.as_deref().ok_or(StartError::NoPolicies)?;
    let shutdown = CancellationToken::new();
    let readings = file::open(policies, shutdown.clone()).await?;
    start_from(args, readings, None, shutdown).await
}

/// Starts a control plane on what any source reads; it signs as `signing` says, else as the command line does. `shutdown`
/// ends it, and is cancelled when it is dropped.
///
/// # Errors
/// If an address is taken or the command line is at fault.
pub async fn start_from(
    args: &ControlPlaneArgs,
    readings: watch::Receiver<Arc<Reading>>,
    signing: Option<Signing>,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    let guard = shutdown.clone().drop_guard();
    let peers = Peers::new(&args.quota, args.listen)?;
    // In a cluster, everybody can have a name who may serve a Gateway.
    let proof = signing.is_some();
    let certifier = certifier(&args.identity, signing).await?;
    let grpc = listen("--listen", args.listen).await?;
    let admin = listen("--admin", args.admin).await?;

    let reading = readings.borrow().clone();
    let fold = Fold::new(args.classes.controller()).wanting_proof(proof);
    let (fold, first) = apply(fold, reading).await.unwrap_or_default();
    let first = first.unwrap_or_default();
    news::log(&World::default(), &first);
    let hub = Arc::new(Hub::new(&first.published));
    let worlds = watch::Sender::new(first);
    let world = worlds.subscribe();
    let (quotas, relays) = Quotas::new(world.clone(), args.is_first, peers, shutdown.clone());
    let outliers = Outliers::new(world.clone(), shutdown.clone());
    let decisions = Decisions::new(shutdown.clone());
    let shared = (quotas.clone(), outliers.clone(), decisions);
    let reporter = Reporter::new(world.clone(), hub.clone(), shared.clone()).signing(certifier.clone());
    let reporter = Arc::new(reporter);
    if let Some(left) = args.status_file.as_deref().and_then(status::left_behind) {
        reporter.recall(&left);
    }

    let mut tasks = JoinSet::new();
    let (grpc_address, grpc) = grpc;
    let (admin_address, admin) = admin;
    tasks.spawn(follow(fold, readings, worlds, hub.clone(), shutdown.clone()));
    if let Some(certifier) = certifier.clone() {
        tasks.spawn(certifier.keep(shutdown.clone()));
    }
    tasks.spawn(quotas.keep_lending());
    tasks.spawn(outliers.keep_judging());
    for relay in relays {
        tasks.spawn(relay.secured(certifier.as_ref().map(|one| one.secure())).carry());
    }
    tasks.spawn(serve_grpc((grpc, certifier), hub.clone(), (world.clone(), shared), shutdown.clone()));
    let file = args.status_file.clone();
    let following = status::keep(reporter.clone(), reporter.worlds(), hub.changes(), file, shutdown.clone());
    tasks.spawn(following);
    tasks.spawn(admin::serve(admin, reporter.clone(), shutdown.clone()));
    Ok(Running {
        grpc: grpc_address,
        admin: admin_address,
        reporter,
        hub,
        world,
        tasks,
        shutdown,
        _guard: guard,
    })
}

/// Runs a control plane until `shutdown`.
///
/// # Errors
/// As [`start`]; later, if a part of it fails: who runs it shall start it again rather than let it go on half-dead.
pub async fn run(args: &ControlPlaneArgs, shutdown: CancellationToken) -> Result<(), StartError> {
    let running = start(args).await?;
    let policies = args.policies.as_deref().unwrap_or(Path::new("")).display().to_string();
    running.until(shutdown, &policies).await
}

impl Running {
    /// Serves until `shutdown`; `policies` says where they are, for the log.
    ///
    /// # Errors
    /// If a part of it fails: who runs it shall start it again rather than let it go on half-dead.
    pub async fn until(mut self, shutdown: CancellationToken, policies: &str) -> Result<(), StartError> {
        let objects = self.status().objects.len();
        tracing::info!(grpc = %self.grpc, admin = %self.admin, policies, objects, "control plane is ready");
        if self.world.borrow().published.is_incomplete() {
            tracing::warn!(
                "not everything could be read: connected proxies keep what an earlier control plane told them, \
                 except where it is changed now, until the errors above are mended"
            );
        }
        let failed = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = self.tasks.join_next() => match ended {
                Some(Err(error)) => Some(error.to_string()),
                _ if self.shutdown.is_cancelled() => None,
                _ => Some(String::from("it ended")),
            },
        };
        self.shutdown().await;
        failed.map_or(Ok(()), |cause| Err(StartError::Failed(cause)))
    }

    pub fn status(&self) -> Status {
        self.reporter.status()
    }

    /// Answers for what objects are told, at any moment.
    pub fn reporter(&self) -> Arc<Reporter> {
        self.reporter.clone()
    }

    /// Everything held true now, and every moment after.
    pub fn world(&self) -> watch::Receiver<Arc<World>> {
        self.world.clone()
    }

    /// Moves whenever a proxy connects, acknowledges, refuses or leaves.
    pub fn node_changes(&self) -> watch::Receiver<u64> {
        self.hub.changes()
    }

    /// Ends every stream and waits until nothing runs any more.
    pub async fn shutdown(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the control plane failed");
            }
        }
    }
}

/// A file that the source reads must not be one that a change of the source writes.
fn check_status_file(args: &ControlPlaneArgs) -> Result<(), StartError> {
    let Some(path) = &args.status_file else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let policies = args.policies.as_deref().map(Path::canonicalize);
    match (folder.canonicalize(), policies) {
        (Ok(folder), Some(Ok(policies))) if folder.starts_with(&policies) => {
            Err(StartError::StatusFile(path.clone()))
        }
        _ => Ok(()),
    }
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let failed = |cause| StartError::Listen { flag, address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

/// Off the runtime's threads: files may be far away.
async fn certifier(
    args: &IdentityArgs,
    signing: Option<Signing>,
) -> Result<Option<Arc<Certifier>>, StartError> {
    let args = args.clone();
    let opened = tokio::task::spawn_blocking(move || Certifier::open(&args, signing)).await;
    Ok(opened.map_err(|error| StartError::Failed(error.to_string()))??)
}

/// Off the runtime's threads: a large set takes its time. `None` when the runtime is shutting down.
async fn apply(mut fold: Fold, reading: Arc<Reading>) -> Option<(Fold, Option<Arc<World>>)> {
    let applied = tokio::task::spawn_blocking(move || {
        let world = fold.apply(&reading);
        (fold, world)
    });
    match applied.await {
        Ok(done) => Some(done),
        Err(error) => error.try_into_panic().ok().map(|panic| std::panic::resume_unwind(panic)),
    }
}

/// Turns readings into worlds, one after the other.
async fn follow(
    mut fold: Fold,
    mut readings: watch::Receiver<Arc<Reading>>,
    worlds: watch::Sender<Arc<World>>,
    hub: Arc<Hub>,
    shutdown: CancellationToken,
) {
    while let Some(Ok(())) = shutdown.run_until_cancelled(readings.changed()).await {
        let reading = readings.borrow_and_update().clone();
        let world;
        (fold, world) = match apply(fold, reading).await {
            Some(done) => done,
            None => return,
        };
        let Some(world) = world else { continue };
        news::log(&worlds.borrow(), &world);
        tracing::info!(generation = world.generation, objects = world.objects.len(), "documents changed");
        // The status first: a proxy must not seem to run something else than what is wanted of it.
        worlds.send_replace(world.clone());
        hub.publish(&world.published);
    }
}

async fn serve_grpc(
    (listener, certifier): (TcpListener, Option<Arc<Certifier>>),
    hub: Arc<Hub>,
    (world, (quotas, outliers, decisions)): (watch::Receiver<Arc<World>>, Shared),
    shutdown: CancellationToken,
) {
    let limits = RateLimitServiceServer::new(Limits::new(world));
    let service = grpc::service(hub, (TYPES, Some(ASKED)), shutdown.clone());
    let incoming = identity::incoming(listener, certifier.as_ref(), shutdown.clone());
    let served = grpc::server()
        .add_service(service)
        .add_service(limits)
        .add_service(quotas::service(quotas))
        .add_service(outliers::service(outliers))
        .add_service(decisions::service(decisions))
        .add_optional_service(certifier.map(identity::service))
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled());
    if let Err(error) = served.await {
        tracing::error!(%error, "serving proxies failed");
    }
}

//! Starts everything, in order, and ends it in order. The only module that knows everyone.
//!
//! Traffic has threads of its own. Admin port, telemetry and the control plane's stream share another, so that a
//! scrape or a large push cannot hurt a request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_policy::snapshot::{BindAddress, Scope};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admin::AdminServer;
use crate::config::counters::Counters;
use crate::config::{ProxyConfig, xds};
use crate::decisions;
use crate::health_checks;
use crate::http::HttpServer;
use crate::identity;
use crate::jwks;
use crate::limits::mesh;
use crate::listener::{self, Acceptor, ListenerStatus, Site};
use crate::outliers;
use crate::plugins;
use crate::state::ProxyState;
use crate::telemetry::{Direction, Telemetry, TelemetryConfig, TelemetryGuard, TraceSettings};
use crate::upstream::Pools;
use crate::workers::{RESOLVER_THREADS, WorkerThreads, Workers};

const INBOUND: &str = "inbound";
const OUTBOUND: &str = "outbound";
/// For the threads that move traffic to drop what they carry.
const CUT_OFF: Duration = Duration::from_secs(1);

/// A namespace for [`Proxy::start`].
#[derive(Debug)]
pub struct Proxy;

/// A proxy at work. Dropped, it stops at once; [`Running::shutdown`] and [`Running::wait`] let it drain.
#[derive(Debug)]
pub struct Running {
    state: Arc<ProxyState>,
    admin: AdminServer,
    telemetry: Option<TelemetryGuard>,
    lent: Option<mesh::Carrying>,
    counters: Option<Arc<Counters>>,
    /// The control plane's stream lives as long as this.
    _stop: DropGuard,
    runtimes: Runtimes,
}

#[derive(Debug)]
struct Runtimes {
    data: Option<WorkerThreads>,
    control: Option<Runtime>,
}

/// Runs a proxy until `shutdown`, SIGTERM or SIGINT, then drains it.
///
/// # Errors
/// It could not start: an address is taken, say.
pub async fn run(config: ProxyConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let running = Proxy::start(config)?;
    tokio::select! {
        () = shutdown.cancelled() => {}
        signal = signal() => tracing::info!(signal = signal?, "draining"),
    }
    running.shutdown();
    running.wait().await;
    Ok(())
}

async fn signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

impl Proxy {
    /// Binds every socket that flags name and starts to serve. May be called inside or outside of a runtime.
    ///
    /// # Errors
    /// A socket cannot be bound, or a thread cannot be started.
    pub fn start(config: ProxyConfig) -> anyhow::Result<Running> {
        raise_file_limit();
        let runtimes = Runtimes::new(config.workers)?;
        let control = runtimes.control()?;
        let (telemetry, guard) = Telemetry::start(telemetry_config(&config), &control);
        let workers = runtimes.workers()?;
        let data = workers.first()?;
        let state = {
            let _context = data.enter();
            ProxyState::new(config, telemetry.clone())
        };
        let acceptor = Acceptor::new(state.clone(), HttpServer::new(), workers.clone());
        data.spawn(Pools::keep_reaping(Arc::downgrade(&state.pools)));
        if let (Some(crowd), Some(most)) = (state.crowd.clone(), state.config.max_memory) {
            control.spawn(crowd.watch(most));
        }
        let stop = CancellationToken::new();
        identity::start(&state, &control, stop.clone())?;
        // First, so that what is on disk is in force when the sockets open.
        xds::start(&state, &control, stop.clone())?;
        let lent = mesh::start(&state, &control)?;
        outliers::start(&state, &control, stop.clone())?;
        decisions::start(&state, &control, stop.clone())?;
        let counters = Counters::keep(&state, &control, stop.clone());
        health_checks::start(&state, &control, stop.clone());
        jwks::start(&state, &control, stop.clone());
        plugins::start(&state, workers, &control, stop.clone());
        listen(&data, &acceptor)?;
        let admin = start_admin(&state, &telemetry, &control)?;
        let (_stop, telemetry) = (stop.drop_guard(), Some(guard));
        Ok(Running { state, admin, lent, counters, _stop, telemetry, runtimes })
    }
}

fn start_admin(
    state: &Arc<ProxyState>,
    telemetry: &Arc<Telemetry>,
    control: &Handle,
) -> anyhow::Result<AdminServer> {
    let on = |address| AdminServer::start(address, state.clone(), telemetry.clone(), control);
    let ProxyConfig { admin, admin_anywhere, .. } = state.config;
    let mut started = on(admin);
    if admin_anywhere && started.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
        started = on(SocketAddr::new(admin.ip(), 0));
    }
    started.with_context(|| format!("cannot listen on --admin {admin}; with port 0 it takes any free one"))
}

/// Raises the soft limit on open files to the hard one: each request in flight takes two, and the usual soft limit of
/// 1024 is kept low only for programs that call select(2).
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "raised the limit on open files"),
        Err(error) => tracing::warn!(?current, ?maximum, %error, "cannot raise the limit on open files"),
    }
}

fn telemetry_config(config: &ProxyConfig) -> TelemetryConfig {
    let service = config.local.services.first().map(|service| service.name.to_string());
    let service = service.or_else(|| config.workload.clone());
    TelemetryConfig {
        access_log: config.access_log.clone(),
        service_name: service.unwrap_or_else(|| format!("tidegate-{}", config.role())),
        node: Some(config.node.clone()),
        traces: config.traces.clone().unwrap_or_else(TraceSettings::from_env),
        ..TelemetryConfig::default()
    }
}

fn listen(data: &Handle, acceptor: &Acceptor) -> anyhow::Result<()> {
    let config = &acceptor.proxy.config;
    if let Some(address) = config.inbound {
        let site = Site { scope: Scope::Inbound, direction: Direction::Inbound };
        listen_on(data, acceptor, INBOUND, address, site)?;
    }
    if let Some(address) = config.outbound {
        let site = Site { scope: Scope::Outbound, direction: Direction::Outbound };
        listen_on(data, acceptor, OUTBOUND, address, site)?;
    }
    if let Some(ports) = config.gateway {
        data.spawn(listener::follow(acceptor.clone(), ports, acceptor.proxy.draining.clone()));
    }
    Ok(())
}

/// Opens the socket, at once or with the first configuration: what is not configured yet must not pass as having no
/// policies.
fn listen_on(
    data: &Handle,
    acceptor: &Acceptor,
    name: &'static str,
    address: SocketAddr,
    site: Site,
) -> anyhow::Result<()> {
    let _context = data.enter();
    let failed = || format!("cannot listen on --{name} {address}");
    let socket = listener::reserve(address).with_context(failed)?;
    let local = socket.local_addr()?.as_socket().with_context(failed)?;
    let (acceptor, proxy, stop) = (acceptor.clone(), acceptor.proxy.clone(), acceptor.proxy.draining.clone());
    if proxy.is_configured() {
        let listener = listener::listen(socket).with_context(failed)?;
        listening(&proxy, name, local);
        data.spawn(async move { acceptor.run(listener, site, stop).await });
        return Ok(());
    }
    proxy.listeners.set(name, ListenerStatus::Waiting(local));
    data.spawn(async move {
        tokio::select! {
            () = proxy.configured() => {}
            () = stop.cancelled() => return,
        }
        match listener::listen(socket) {
            Ok(listener) => {
                listening(&proxy, name, local);
                acceptor.run(listener, site, stop).await;
            }
            Err(error) => {
                tracing::error!(listener = name, address = %local, %error, "cannot listen");
                proxy.listeners.set(name, ListenerStatus::Failed(error.to_string()));
            }
        }
    });
    Ok(())
}

fn listening(proxy: &ProxyState, name: &'static str, local: SocketAddr) {
    proxy.listeners.set(name, ListenerStatus::Bound(local));
    tracing::info!(listener = name, address = %local, "listening");
}

impl Running {
    /// Where the admin port really listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    pub fn inbound(&self) -> Option<SocketAddr> {
        self.state.listeners.address(INBOUND)
    }

    pub fn outbound(&self) -> Option<SocketAddr> {
        self.state.listeners.address(OUTBOUND)
    }

    /// Where a gateway's socket really listens; `None` until it is bound.
    pub fn gateway(&self, bind: BindAddress) -> Option<SocketAddr> {
        self.state.listeners.address(&listener::gateway_name(bind))
    }

    /// Waits until a gateway's socket listens.
    pub async fn gateway_bound(&self, bind: BindAddress) -> Option<SocketAddr> {
        self.state.listeners.wait_for(&listener::gateway_name(bind)).await
    }

    pub fn state(&self) -> &Arc<ProxyState> {
        &self.state
    }

    /// Begins to drain: no new connections, no new requests on old ones. Returns at once.
    pub fn shutdown(&self) {
        self.state.draining.cancel();
    }

    /// Waits for [`Running::shutdown`] and for what is in flight then, no longer than the drain timeout; what is
    /// recorded is flushed, and what limits have counted is kept.
    pub async fn wait(mut self) {
        self.state.draining.cancelled().await;
        let (connections, limit) = (&self.state.connections, self.state.config.drain_timeout);
        connections.close();
        if tokio::time::timeout(limit, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), ?limit, "drain timeout; closing what is left");
        }
        // Requests that are cut off now still tell telemetry that they were, before it is flushed.
        self.runtimes.stop_data();
        if tokio::time::timeout(CUT_OFF, self.state.connections.wait()).await.is_err() {
            tracing::warn!("some of what was cut off will not be recorded");
        }
        if let Some(lent) = self.lent.take() {
            lent.end().await;
        }
        if let Some(counters) = self.counters.take() {
            counters.finish(self.state.clone()).await;
        }
        if let Some(telemetry) = self.telemetry.take() {
            telemetry.shutdown().await;
        }
    }
}

impl Runtimes {
    fn new(workers: usize) -> anyhow::Result<Self> {
        let data = WorkerThreads::start(workers)?;
        let mut runtimes = Self { data: Some(data), control: None };
        let control = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(RESOLVER_THREADS)
            .thread_name("tidegate-ctl")
            .enable_all()
            .build()
            .context("cannot start the control thread")?;
        runtimes.control = Some(control);
        Ok(runtimes)
    }

    fn workers(&self) -> anyhow::Result<&Workers> {
        Ok(self.data.as_ref().context("stopped")?.workers())
    }

    fn control(&self) -> anyhow::Result<Handle> {
        Ok(self.control.as_ref().context("stopped")?.handle().clone())
    }

    fn stop_data(&mut self) {
        self.data = None;
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        self.stop_data();
        if let Some(control) = self.control.take() {
            control.shutdown_background();
        }
    }
}

//! Connections to endpoints, kept for the next request.
//!
//! One pool per (thread, endpoint, protocol, guard, TLS settings): guards have caps of their own, so they do not share
//! connections, and a connection that was verified under some settings is never used under others. Where a backend is told
//! whom a connection is for, each client has pools of its own. No lock is global to a request: finding a pool is a read of one of a few maps, everything else is per pool.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxBuildHasher, FxHashMap};
use tidegate_policy::Reason;
use tidegate_policy::balance::EndpointState;
use tidegate_policy::call::{Attempt, ConnectionPermit};
use tidegate_policy::decision::Decisions;
use tidegate_policy::mesh::Way;
use tidegate_policy::model::ProxyProtocol;
use tidegate_policy::pipeline::LocalReply;
use tidegate_policy::snapshot::{Target, TlsSettings};
use tokio::runtime::{self, Handle};
use tokio::time::Instant;

use super::connect::{connect, connect_mesh, connect_tls};
use super::group::Group;
use super::http1::Http1Pool;
use super::http2::Http2Pool;
use super::lease::Lease;
use super::tls::{self, Made, UpstreamStream};
use crate::identity::{MeshConnector, WorkloadIdentity};
use crate::proxy_protocol::{Addresses, header};
use crate::telemetry::{ConnectionSide, Telemetry};

/// How long a connection may be idle. Shorter, even with the wait for the reaper, than the keep-alive of common servers
/// (nginx 75 s) and of another Tidegate (60 s), so that we are rather the ones to close: a request that meets the other
/// side's close on its way may be lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// And one that is for one client alone.
const OWN_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// More idle connections to one endpoint than this are closed: they cost memory on both sides.
const MAX_IDLE: usize = 128;
const MAX_OWN_IDLE: usize = 2;
const REAP_EVERY: Duration = Duration::from_secs(5);
const SHARDS: usize = 16;

/// What goes over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// All pools of a proxy, but those that are for one client alone; or all those of one client.
#[derive(Debug)]
pub(crate) struct Pools {
    shards: [RwLock<FxHashMap<Key, Arc<EndpointPool>>>; SHARDS],
    groups: Arc<RwLock<FxHashMap<Arc<str>, Arc<Group>>>>,
    telemetry: Arc<Telemetry>,
    identity: Option<Arc<WorkloadIdentity>>,
    client: Option<Addresses>,
    /// Of clients that are here.
    owned: Mutex<Vec<Weak<Self>>>,
}

/// Endpoint and TLS settings count by identity: each is one allocation for as long as it is known, and the pool's weak
/// reference keeps that address from being used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Connections are driven where they were opened, so they are used there as well.
    runtime: runtime::Id,
    endpoint: usize,
    protocol: Protocol,
    guard: Option<Arc<str>>,
    tls: Option<usize>,
    way: Way,
    proxy_protocol: Option<ProxyProtocol>,
}

/// Connections of one kind to one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointPool {
    endpoint: Weak<EndpointState>,
    protocol: Protocol,
    tls: Option<Tls>,
    /// How the proxy before the endpoint is called, where there is one.
    mesh: Option<Result<MeshConnector, Reason>>,
    /// What connections begin with; empty for nothing.
    first: Box<[u8]>,
    /// The most idle connections.
    pub(super) most_idle: usize,
    pub(super) group: Arc<Group>,
    http1: Http1Pool,
    http2: Http2Pool,
    telemetry: Arc<Telemetry>,
}

/// How connections of a pool are secured.
#[derive(Debug)]
struct Tls {
    settings: Weak<TlsSettings>,
    made: Arc<Made>,
}

/// What a checkout needs to know of the call it is for.
#[derive(Debug)]
pub(crate) struct Checkout<'a> {
    pub(crate) attempt: &'a Attempt,
    pub(crate) connect_timeout: Duration,
    /// Take no pooled connection: the last one turned out to be dead, and so may be its siblings.
    pub(crate) fresh: bool,
}

impl Pools {
    pub(crate) fn new(telemetry: Arc<Telemetry>, identity: Option<Arc<WorkloadIdentity>>) -> Self {
        Self {
            shards: Default::default(),
            groups: Arc::default(),
            telemetry,
            identity,
            client: None,
            owned: Mutex::default(),
        }
    }

    /// Pools for one client, whose connections end when the last one who has these drops them.
    pub(crate) fn of_client(&self, client: Addresses) -> Arc<Self> {
        let (groups, telemetry) = (self.groups.clone(), self.telemetry.clone());
        let all = Self::new(telemetry, self.identity.clone());
        let own = Arc::new(Self { groups, client: Some(client), ..all });
        self.owned.lock().push(Arc::downgrade(&own));
        own
    }

    /// How an endpoint of the target is called.
    pub(crate) fn way(&self, endpoint: &EndpointState, target: &Target) -> Way {
        match &target.backend {
            Ok(backend) if target.tls.is_none() => backend.way(endpoint, self.identity.is_some()),
            _ => Way::Plain,
        }
    }

    fn mesh(
        &self,
        endpoint: &EndpointState,
        target: &Target,
        protocol: Protocol,
    ) -> Result<MeshConnector, Reason> {
        let backend = target.backend.as_ref().map_err(|reason| *reason)?;
        MeshConnector::new(self.identity.as_ref(), backend.peer(endpoint), Some(protocol))
    }

    pub(crate) fn pool(
        &self,
        endpoint: &Arc<EndpointState>,
        protocol: Protocol,
        target: &Target,
    ) -> Arc<EndpointPool> {
        let guard = target.guard.as_ref().map(|guard| guard.id.clone());
        let settings = target.tls.as_ref().map(|tls| &tls.settings);
        let tls = settings.map(|settings| Arc::as_ptr(settings).addr());
        let runtime = Handle::current().id();
        let proxy_protocol = target.backend.as_ref().ok().and_then(|backend| backend.proxy_protocol);
        let endpoint_address = Arc::as_ptr(endpoint).addr();
        let way = self.way(endpoint, target);
        let key = Key { runtime, endpoint: endpoint_address, protocol, guard, tls, way, proxy_protocol };
        let shard = &self.shards[shard(key.endpoint)];
        if let Some(pool) = shard.read().get(&key) {
            return pool.clone();
        }
        let group = self.group(key.guard.as_ref());
        let make = || {
            let pool = Arc::new(EndpointPool {
                endpoint: Arc::downgrade(endpoint),
                protocol,
                tls: settings
                    .map(|settings| Tls { settings: Arc::downgrade(settings), made: tls::made(settings) }),
                mesh: (way == Way::Mesh).then(|| self.mesh(endpoint, target, protocol)),
                first: proxy_protocol
                    .map(|version| header(version, self.client.as_ref()))
                    .unwrap_or_default()
                    .into(),
                most_idle: if self.client.is_some() { MAX_OWN_IDLE } else { MAX_IDLE },
                group: group.clone(),
                http1: Http1Pool::default(),
                http2: Http2Pool::default(),
                telemetry: self.telemetry.clone(),
            });
            group.join(&pool);
            pool
        };
        shard.write().entry(key).or_insert_with(make).clone()
    }

    fn group(&self, guard: Option<&Arc<str>>) -> Arc<Group> {
        match guard {
            None => Arc::default(),
            Some(guard) => self.groups.write().entry(guard.clone()).or_default().clone(),
        }
    }

    /// Closes what has been idle for too long and forgets pools without connections, and those of endpoints or TLS settings
    /// that are gone.
    pub(crate) fn reap(&self, now: Instant) {
        let limit = if self.client.is_some() { OWN_IDLE_TIMEOUT } else { IDLE_TIMEOUT };
        for shard in &self.shards {
            shard.write().retain(|_, pool| {
                pool.http1.reap(now, limit);
                pool.http2.reap(now, limit);
                let in_use = Arc::strong_count(pool) > 1 || !pool.is_empty();
                in_use && pool.endpoint.strong_count() > 0 && pool.tls.as_ref().is_none_or(Tls::is_in_use)
            });
        }
        if self.client.is_some() {
            return;
        }
        self.owned.lock().retain(|own| own.strong_count() > 0);
        let owned: Vec<_> = self.owned.lock().iter().filter_map(Weak::upgrade).collect();
        owned.iter().for_each(|own| own.reap(now));
        self.groups.write().retain(|_, group| Arc::strong_count(group) > 1);
    }

    /// Reaps until the pools are gone.
    pub(crate) async fn keep_reaping(this: Weak<Self>) {
        let mut ticks = tokio::time::interval(REAP_EVERY);
        loop {
            ticks.tick().await;
            let Some(pools) = this.upgrade() else { return };
            pools.reap(Instant::now());
        }
    }
}

fn shard(endpoint: usize) -> usize {
    let mut hasher = FxBuildHasher.build_hasher();
    hasher.write_usize(endpoint);
    usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0)
}

impl Tls {
    fn is_in_use(&self) -> bool {
        self.settings.strong_count() > 0
    }
}

impl EndpointPool {
    /// A connection for one request: an idle one, a share of a multiplexed one, or a new one; at the cap, the next
    /// that becomes free within the connect timeout.
    ///
    /// # Errors
    /// The endpoint cannot be reached, or the caps refuse.
    pub(crate) async fn checkout(
        self: &Arc<Self>,
        cx: &Checkout<'_>,
        decisions: &mut Decisions,
    ) -> Result<Lease, LocalReply> {
        match self.pooled().filter(|_| !cx.fresh) {
            Some(lease) => Ok(lease),
            // Boxed: most requests find a connection, and need not carry the room for opening one.
            None => Box::pin(self.open(cx, decisions)).await,
        }
    }

    async fn open(
        self: &Arc<Self>,
        cx: &Checkout<'_>,
        decisions: &mut Decisions,
    ) -> Result<Lease, LocalReply> {
        match self.protocol {
            Protocol::Http1 => {
                if let Some(permit) = cx.attempt.open_connection() {
                    return Ok(self.open_http1(cx, permit).await?);
                }
            }
            Protocol::Http2 => {
                if let Some(lease) = self.open_or_share_http2(cx).await? {
                    return Ok(lease);
                }
            }
        }
        let _pending = cx.attempt.wait_pending(decisions)?;
        match tokio::time::timeout(cx.connect_timeout, self.wait(cx)).await {
            Ok(waited) => waited.map_err(Into::into),
            Err(_) => Err(cx.attempt.connection_cap_reached(decisions)),
        }
    }

    /// Waits for a connection of ours to become idle, or for leave to open one.
    async fn wait(self: &Arc<Self>, cx: &Checkout<'_>) -> Result<Lease, Reason> {
        loop {
            let freed = self.group.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(lease) = self.pooled() {
                return Ok(lease);
            }
            if let Some(permit) = cx.attempt.open_connection() {
                return match self.protocol {
                    Protocol::Http1 => self.open_http1(cx, permit).await,
                    Protocol::Http2 => self.open_http2(cx, permit).await,
                };
            }
            // Better a connection that another thread drives than none, or than a new one in its place.
            if let Some(lease) = self.group.siblings(self).iter().find_map(Self::pooled) {
                return Ok(lease);
            }
            self.group.evict_idle(self);
            freed.await;
        }
    }

    fn pooled(self: &Arc<Self>) -> Option<Lease> {
        match self.protocol {
            Protocol::Http1 => self.http1.take().map(|sender| Lease::http1(sender, self.clone(), true)),
            Protocol::Http2 => self.http2.share().map(|stream| Lease::http2(stream, true)),
        }
    }

    async fn open_http1(
        self: &Arc<Self>,
        cx: &Checkout<'_>,
        permit: ConnectionPermit,
    ) -> Result<Lease, Reason> {
        let stream = self.connect(cx).await?;
        let guard = self.telemetry.connection(ConnectionSide::Upstream);
        let sender = super::http1::handshake(stream, &self.group, (permit, guard)).await?;
        Ok(Lease::http1(sender, self.clone(), false))
    }

    /// One caller connects, the others wait for it and share. `None` at the cap on connections.
    async fn open_or_share_http2(self: &Arc<Self>, cx: &Checkout<'_>) -> Result<Option<Lease>, Reason> {
        let connecting = tokio::time::timeout(cx.connect_timeout, self.http2.connecting.lock());
        let _connecting = connecting.await.map_err(|_| Reason::ConnectTimeout)?;
        if !cx.fresh
            && let Some(lease) = self.pooled()
        {
            return Ok(Some(lease));
        }
        match cx.attempt.open_connection() {
            Some(permit) => self.open_http2(cx, permit).await.map(Some),
            // Better one stream too many on a live connection, which queues it, than a refusal.
            None => Ok(self.http2.overload().map(|stream| Lease::http2(stream, true))),
        }
    }

    async fn open_http2(
        self: &Arc<Self>,
        cx: &Checkout<'_>,
        permit: ConnectionPermit,
    ) -> Result<Lease, Reason> {
        let stream = self.connect(cx).await?;
        let guard = self.telemetry.connection(ConnectionSide::Upstream);
        let connection = super::http2::handshake(stream, &self.group, (permit, guard)).await?;
        Ok(Lease::http2(self.http2.add(connection), false))
    }

    async fn connect(&self, cx: &Checkout<'_>) -> Result<UpstreamStream, Reason> {
        let (address, limit) = (&cx.attempt.endpoint.address, cx.connect_timeout);
        if let Some(mesh) = &self.mesh {
            let connector = mesh.as_ref().map_err(|reason| *reason)?;
            return connect_mesh(address, limit, &self.first, connector).await;
        }
        match self.tls.as_ref().map(|tls| &*tls.made) {
            None => connect(address, limit, &self.first).await.map(UpstreamStream::Plain),
            Some(Ok(connector)) => {
                let stream =
                    connect_tls(address, limit, &self.first, (connector, Some(self.protocol))).await?;
                Ok(UpstreamStream::Tls(Box::new(stream)))
            }
            Some(Err(_)) => Err(Reason::UpstreamTlsInvalid),
        }
    }

    /// Whether it is another pool with connections of the same kind to the same endpoint.
    pub(super) fn is_sibling(&self, other: &Self) -> bool {
        let settings = |pool: &Self| pool.tls.as_ref().map(|tls| tls.settings.as_ptr());
        !std::ptr::eq(self, other)
            && Weak::ptr_eq(&self.endpoint, &other.endpoint)
            && self.protocol == other.protocol
            // Begun for another client, or for none, it is not of the same kind.
            && self.first == other.first
            && self.mesh.is_some() == other.mesh.is_some()
            && settings(self) == settings(other)
    }

    fn is_empty(&self) -> bool {
        self.http1.is_empty() && self.http2.is_empty()
    }

    pub(super) fn idle_http1(&self) -> &Http1Pool {
        &self.http1
    }

    /// Closes one idle connection, if there is one.
    pub(super) fn evict_one(&self) -> bool {
        self.http1.evict_one() || self.http2.evict_one()
    }
}

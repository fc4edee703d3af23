//! Lends shares of mesh-wide limits, by Envoy's quota protocol: to our proxies, and to whoever else asks by a domain.
//!
//! What is lent, [`desk`] decides; here are the streams. A client that does not read loses what it is told and holds up
//! nobody: a lost assignment is one that nobody uses. Of several control planes, each lends of [its](peers) buckets and
//! [relays](relay) what it hears of others'.

mod desk;
mod peers;
mod relay;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{Stream, stream};
use parking_lot::{Mutex, MutexGuard};
use tidegate_policy::kinds::rate_limit::QuotaLimits;
use tidegate_xds::quota::{
    self, RELAYED_BY, RateLimitQuotaResponse, RateLimitQuotaService, RateLimitQuotaServiceServer,
    RateLimitQuotaUsageReports, relayed_reports, reports,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use desk::Counts;
use desk::{Caller, Desk, Outbox, Round, StreamId};
pub(crate) use peers::Peers;
pub use peers::{PeersError, QuotaArgs};
pub(crate) use relay::Relay;

use crate::pace;
use crate::world::World;

/// How often shares are looked at anew.
const PACE: Duration = Duration::from_millis(100);
/// Answers that wait for one client; those beyond are dropped.
const QUEUE: usize = 16;
/// The same for a replica, which reads for many.
const PEER_QUEUE: usize = 64;
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Quotas {
    desk: Mutex<Desk>,
    world: watch::Receiver<Arc<World>>,
    peers: Peers,
    streams: AtomicU64,
    start: Instant,
    shutdown: CancellationToken,
}

impl Quotas {
    /// `is_first`: no proxy holds shares of a control plane before. The relays carry to the other ones of `peers`.
    pub(crate) fn new(
        world: watch::Receiver<Arc<World>>,
        is_first: bool,
        peers: Peers,
        shutdown: CancellationToken,
    ) -> (Arc<Self>, Vec<Relay>) {
        // Greater than that of every control plane before, as long as clocks are right.
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let epoch = u64::try_from(epoch).unwrap_or(u64::MAX);
        let channels = peers.others().map(|peer| (peer.to_owned(), mpsc::channel(relay::WAITING)));
        let (relays, queues): (_, Vec<_>) =
            channels.map(|(peer, (relay, reports))| ((peer.clone(), relay), (peer, reports))).unzip();
        let desk =
            Desk::new(epoch, is_first, QuotaLimits::new(world.borrow().policies()), (peers.clone(), relays));
        let (desk, streams, start) = (Mutex::new(desk), AtomicU64::new(0), Instant::now());
        let quotas = Arc::new(Self { desk, world, peers, streams, start, shutdown });
        let relay = |(peer, reports)| Relay { peer, reports, quotas: quotas.clone(), secure: None };
        let relays = queues.into_iter().map(relay).collect();
        (quotas, relays)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.desk.lock().counts()
    }

    /// Gives out what has changed, until the shutdown.
    pub(crate) async fn keep_lending(self: Arc<Self>) {
        let look = |changed: Option<&World>| {
            if let Some(world) = changed {
                let limits = QuotaLimits::new(world.policies());
                self.desk.lock().rewrite(limits);
            }
            self.lend();
        };
        pace::keep(PACE, &self.world, &self.shutdown, look).await;
    }

    /// Tells everybody what changed. Reports come in between: at a million buckets, one look at all of them takes seconds.
    fn lend(&self) {
        let now = self.start.elapsed();
        let mut round = Round::new(now);
        loop {
            let mut desk = self.desk.lock();
            let is_over = !desk.rebalance(&mut round);
            MutexGuard::unlock_fair(desk);
            if is_over {
                break;
            }
        }
        for (caller, told) in round.told() {
            self.desk.lock().tell(&caller, told, now);
        }
        self.desk.lock().clean(now);
    }

    /// Reads one stream of a client to its end.
    async fn read(&self, mut messages: Messages, stream: StreamId, outbox: Outbox) -> Option<Status> {
        let (mut domain, mut caller) = (None::<String>, None);
        loop {
            let message = match self.next(&mut messages, &outbox).await {
                Ok(message) => message,
                Err(end) => return end,
            };
            // It is said in the first message; who speaks, in the first that reports something.
            let said = || quota::domain(&message).unwrap_or_default().to_owned();
            let domain = domain.get_or_insert_with(said).clone();
            if message.bucket_quota_usages.is_empty() {
                continue;
            }
            let first = || Caller::client(domain, &message, (stream, outbox.clone()));
            let (caller, client) = caller.get_or_insert_with(first);
            let now = self.start.elapsed();
            let told = reports(&message, &caller.domain, *client, now);
            self.desk.lock().take(caller, told, now);
        }
    }

    /// Reads one stream of another replica to its end.
    async fn read_peer(&self, mut messages: Messages, stream: StreamId, outbox: Outbox) -> Option<Status> {
        let mut caller = Caller::peer((stream, outbox.clone()));
        loop {
            let message = match self.next(&mut messages, &outbox).await {
                Ok(message) => message,
                Err(end) => return end,
            };
            let told = relayed_reports(&message, &message.domain);
            caller.domain = message.domain;
            self.desk.lock().take(&caller, told, self.start.elapsed());
        }
    }

    /// Fails at the end of the stream, or when the client has closed its half of the other direction.
    async fn next(
        &self,
        messages: &mut Messages,
        outbox: &Outbox,
    ) -> Result<RateLimitQuotaUsageReports, Option<Status>> {
        tokio::select! {
            () = self.shutdown.cancelled() => Err(Some(Status::unavailable("the control plane shuts down"))),
            () = outbox.closed() => Err(None),
            message = messages.message() => message.ok().flatten().ok_or(None),
        }
    }

    /// Whether a stream is that of another replica.
    fn is_peer(&self, metadata: &MetadataMap) -> Result<bool, Status> {
        let Some(name) = metadata.get(RELAYED_BY) else { return Ok(false) };
        let name = name.to_str().unwrap_or_default();
        if self.peers.others().any(|peer| peer == name) {
            return Ok(true);
        }
        Err(Status::failed_precondition(format!("the --quota-peers of this replica do not have {name}")))
    }
}

type Messages = Streaming<RateLimitQuotaUsageReports>;

/// The service, ready to be added to a server.
pub(crate) fn service(quotas: Arc<Quotas>) -> RateLimitQuotaServiceServer<Service> {
    RateLimitQuotaServiceServer::new(Service(quotas)).max_decoding_message_size(MAX_MESSAGE)
}

#[derive(Debug)]
pub(crate) struct Service(Arc<Quotas>);

#[tonic::async_trait]
impl RateLimitQuotaService for Service {
    type StreamRateLimitQuotasStream =
        Pin<Box<dyn Stream<Item = Result<RateLimitQuotaResponse, Status>> + Send>>;

    async fn stream_rate_limit_quotas(
        &self,
        request: Request<Streaming<RateLimitQuotaUsageReports>>,
    ) -> Result<Response<Self::StreamRateLimitQuotasStream>, Status> {
        let is_peer = self.0.is_peer(request.metadata())?;
        let (outbox, queue) = mpsc::channel(if is_peer { PEER_QUEUE } else { QUEUE });
        let quotas = Arc::clone(&self.0);
        tokio::spawn(async move {
            let (messages, stream) = (request.into_inner(), quotas.streams.fetch_add(1, Ordering::Relaxed));
            let end = match is_peer {
                true => quotas.read_peer(messages, stream, outbox.clone()).await,
                false => quotas.read(messages, stream, outbox.clone()).await,
            };
            if let Some(end) = end {
                // Failing means that the client is gone, or does not read: nobody is left to be told.
                drop(outbox.try_send(Err(end)));
            }
            quotas.desk.lock().forget(stream);
        });
        let answers = stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
        Ok(Response::new(Box::pin(answers)))
    }
}

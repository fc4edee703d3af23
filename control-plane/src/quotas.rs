//! Lends shares of mesh-wide limits, by Envoy's quota protocol: to our proxies, and to whoever else asks by a domain.
//!
//! What is lent, [`desk`] decides; here are the streams. A client that does not read loses what it is told and holds up
//! nobody: a lost assignment is one that nobody uses.

mod desk;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tidegate_policy::kinds::rate_limit::QuotaLimits;
use tidegate_policy::objects::Object;
use tidegate_xds::quota::{
    self, RateLimitQuotaResponse, RateLimitQuotaService, RateLimitQuotaServiceServer,
    RateLimitQuotaUsageReports, reports,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use desk::Counts;
use desk::{Caller, Desk, Outbox};

use crate::world::World;

/// How often shares are looked at anew.
const PACE: Duration = Duration::from_millis(100);
/// Answers that wait for one client; those beyond are dropped.
const QUEUE: usize = 16;
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Quotas {
    desk: Mutex<Desk>,
    world: watch::Receiver<Arc<World>>,
    start: Instant,
    shutdown: CancellationToken,
}

impl Quotas {
    /// `is_first`: no proxy holds shares of a control plane before.
    pub(crate) fn new(
        world: watch::Receiver<Arc<World>>,
        is_first: bool,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        // Greater than that of every control plane before, as long as clocks are right.
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let desk = Desk::new(u64::try_from(epoch).unwrap_or(u64::MAX), is_first, limits(&world.borrow()));
        Arc::new(Self { desk: Mutex::new(desk), world, start: Instant::now(), shutdown })
    }

    pub(crate) fn counts(&self) -> Counts {
        self.desk.lock().counts()
    }

    /// Gives out what has changed, until the shutdown.
    pub(crate) async fn keep_lending(self: Arc<Self>) {
        let mut generation = None::<u64>;
        let mut tick = interval(PACE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            let world = Arc::clone(&self.world.borrow());
            if generation != Some(world.generation) {
                generation = Some(world.generation);
                let limits = limits(&world);
                self.desk.lock().rewrite(limits);
            }
            self.desk.lock().rebalance(self.start.elapsed());
        }
    }

    /// Reads one stream to its end, or until the client has closed its half of the other direction.
    async fn read(
        &self,
        mut messages: Streaming<RateLimitQuotaUsageReports>,
        outbox: Outbox,
    ) -> Option<Status> {
        let (mut domain, mut caller) = (None::<String>, None::<Caller>);
        loop {
            let message = tokio::select! {
                () = self.shutdown.cancelled() => return Some(Status::unavailable("the control plane shuts down")),
                () = outbox.closed() => return None,
                message = messages.message() => message.ok()??,
            };
            // It is said in the first message; who speaks, in the first that reports something.
            let said = || quota::domain(&message).unwrap_or_default().to_owned();
            let domain = domain.get_or_insert_with(said).clone();
            if message.bucket_quota_usages.is_empty() {
                continue;
            }
            let caller = caller.get_or_insert_with(|| Caller::of(domain, &message, outbox.clone()));
            let now = self.start.elapsed();
            let told = reports(&message, &caller.domain, caller.client, now);
            self.desk.lock().take(caller, told, now);
        }
    }
}

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
        let (outbox, queue) = mpsc::channel(QUEUE);
        let quotas = Arc::clone(&self.0);
        tokio::spawn(async move {
            if let Some(end) = quotas.read(request.into_inner(), outbox.clone()).await {
                // Failing means that the client is gone, or does not read: nobody is left to be told.
                drop(outbox.try_send(Err(end)));
            }
            quotas.desk.lock().forget(&outbox);
        });
        let answers = stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn limits(world: &World) -> QuotaLimits {
    let objects = world.objects.values().filter_map(|indexed| indexed.object.as_deref());
    QuotaLimits::new(objects.filter_map(|object| match object {
        Object::Policy(policy) => Some(&**policy),
        _ => None,
    }))
}

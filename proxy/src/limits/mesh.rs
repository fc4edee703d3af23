//! Carries what is lent of mesh-wide limits: reports to the control plane, assignments back, by Envoy's RLQS.
//!
//! No request waits for any of it, and nothing that is lost here does harm: what the control plane does not know to be
//! given back, it lends to nobody until the lease has run out. While there is no stream, leases grow old and
//! fall back.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tidegate_policy::kinds::rate_limit::Leases;
use tidegate_quota::Report;
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::dial::Dial;
use tidegate_xds::client::grpc;
use tidegate_xds::quota::{self, MESH_DOMAIN, RateLimitQuotaServiceClient, RateLimitQuotaUsageReports};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::clock::{self, Clock};
use crate::state::ProxyState;

/// How often is looked what there is to report; how often what is reported, leases say.
const TICK: Duration = Duration::from_millis(50);
/// Messages under way; those beyond are lost.
const QUEUE: usize = 64;
/// For the control plane to hear that all shares are given up.
const FAREWELL: Duration = Duration::from_millis(500);
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The carrier at work.
#[derive(Debug)]
pub(crate) struct Carrying {
    leave: CancellationToken,
    task: JoinHandle<()>,
}

struct Carrier {
    endpoint: Dial,
    proxy: Arc<ProxyState>,
    leases: Arc<Leases>,
    /// Another one in every life of the process.
    client: u64,
    clock: Clock,
}

/// Begins to carry. A proxy without a control plane has nobody to carry to: what it lets through then is what each policy
/// says for that.
///
/// # Errors
/// The control plane's address cannot be used.
pub(crate) fn start(proxy: &Arc<ProxyState>, runtime: &Handle) -> anyhow::Result<Option<Carrying>> {
    let Some(endpoint) = proxy.control_plane()? else { return Ok(None) };
    let (leases, clock) = (proxy.leases.clone(), proxy.clock);
    let carrier = Carrier { endpoint, proxy: proxy.clone(), leases, client: clock::seed(), clock };
    let leave = CancellationToken::new();
    let task = runtime.spawn(carrier.carry(leave.clone()));
    Ok(Some(Carrying { leave, task }))
}

impl Carrying {
    /// Gives up all shares, for others to have them at once. Nothing that is lent passes any more.
    pub(crate) async fn end(self) {
        self.leave.cancel();
        let _ = timeout(FAREWELL, self.task).await;
    }
}

impl Carrier {
    async fn carry(self, leave: CancellationToken) {
        let mut backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(clock::seed()));
        loop {
            if leave.run_until_cancelled(self.needed()).await.is_none() {
                return;
            }
            let begun = Instant::now();
            let reason = match self.connect(&leave).await {
                Some(Ok(channel)) => self.stream(channel, &leave).await,
                Some(Err(reason)) => reason,
                None => return,
            };
            if leave.is_cancelled() {
                return;
            }
            let retry_in = backoff.next_delay(begun.elapsed());
            tracing::warn!(%reason, ?retry_in, "no shares of mesh-wide limits; those that are held last as long as written");
            if leave.run_until_cancelled(self.meanwhile(sleep(retry_in))).await.is_none() {
                return;
            }
        }
    }

    /// Waits until a policy in force has a mesh-wide limit.
    async fn needed(&self) {
        let mut changes = self.proxy.store.subscribe();
        while !self.leases.are_wanted() {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn connect(&self, leave: &CancellationToken) -> Option<Result<Channel, String>> {
        let connected = leave.run_until_cancelled(self.meanwhile(self.endpoint.connect())).await?;
        Some(connected.map_err(|error| grpc::cause(&error)))
    }

    /// Waits for something without a stream: leases grow old.
    async fn meanwhile<T>(&self, what: impl Future<Output = T>) -> T {
        let (mut what, mut tick) = (pin!(what), ticks());
        loop {
            tokio::select! {
                done = &mut what => return done,
                _ = tick.tick() => drop(self.leases.reports(self.client, self.clock.now())),
            }
        }
    }

    /// One stream from its first message to its end; says why it ended.
    async fn stream(&self, channel: Channel, leave: &CancellationToken) -> String {
        let mut client = RateLimitQuotaServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let (reports, queue) = mpsc::channel(QUEUE);
        let queue =
            stream::unfold(queue, async |mut queue: mpsc::Receiver<_>| Some((queue.recv().await?, queue)));
        // The answer begins when there is one, and that may be after the first report.
        let mut opened = pin!(client.stream_rate_limit_quotas(queue));
        let mut tick = ticks();
        let mut answers = loop {
            tokio::select! {
                answer = &mut opened => match answer {
                    Ok(answer) => break answer.into_inner(),
                    Err(status) => return grpc::explain(&status),
                },
                _ = tick.tick() => self.report(&reports),
                () = leave.cancelled() => return String::new(),
            }
        };
        tracing::debug!("connected for mesh-wide limits");
        loop {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.take(&answer, &reports),
                    Ok(None) => return String::from("the control plane closed the stream"),
                    Err(status) => return grpc::explain(&status),
                },
                _ = tick.tick() => self.report(&reports),
                () = leave.cancelled() => {
                    send(&reports, &self.leases.leave(self.client, self.clock.now()));
                    drop(reports);
                    // Until the other side has read all, and closes.
                    while let Ok(Some(_)) = answers.message().await {}
                    return String::new();
                }
            }
        }
    }

    fn report(&self, reports: &mpsc::Sender<RateLimitQuotaUsageReports>) {
        send(reports, &self.leases.reports(self.client, self.clock.now()));
    }

    fn take(
        &self,
        answer: &quota::RateLimitQuotaResponse,
        reports: &mpsc::Sender<RateLimitQuotaUsageReports>,
    ) {
        let now = self.clock.now();
        let assignments = quota::assignments(answer, MESH_DOMAIN);
        let ours = assignments.iter().filter(|assignment| assignment.client == self.client);
        let waited_for: Vec<_> = ours.filter_map(|assignment| self.leases.assign(assignment, now)).collect();
        send(reports, &waited_for);
    }
}

fn send(queue: &mpsc::Sender<RateLimitQuotaUsageReports>, reports: &[(quota::Names, Report)]) {
    if !reports.is_empty() && queue.try_send(quota::usage_reports(MESH_DOMAIN, reports)).is_err() {
        tracing::debug!("a report of mesh-wide limits is lost: the control plane does not read");
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

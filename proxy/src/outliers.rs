//! Carries what proxies know of failing endpoints: statements to the control plane, suspects back, by Envoy's load
//! reports (LRS).
//!
//! No request waits for any of it. As long as nothing fails, nothing is said; without a stream, what was told last
//! holds for as long as each policy says.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tidegate_policy::Timestamp;
use tidegate_policy::health::{Outliers, Suspect};
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::dial::Dial;
use tidegate_xds::client::grpc;
use tidegate_xds::outliers::{
    Asked, LoadReportingServiceClient, LoadStatsRequest, LoadStatsResponse, Said, request, suspects,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::clock::{self, Clock};
use crate::config::xds::node;
use crate::state::ProxyState;

/// How often is looked what there is to say.
const TICK: Duration = Duration::from_millis(50);
/// Messages under way; what would be said beyond is said later.
const QUEUE: usize = 4;
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

struct Carrier {
    endpoint: Dial,
    proxy: Arc<ProxyState>,
    outliers: Arc<Outliers>,
    clock: Clock,
    /// What the control plane wants to hear of.
    asked: Asked,
    /// The last word of the control plane.
    heard: Timestamp,
}

/// Begins to carry, until `stop`. A proxy without a control plane goes by what it sees.
///
/// # Errors
/// The control plane's address cannot be used.
pub(crate) fn start(
    proxy: &Arc<ProxyState>,
    runtime: &Handle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(endpoint) = proxy.control_plane()? else { return Ok(()) };
    let (outliers, clock) = (proxy.store.outliers(), proxy.clock);
    let (asked, heard) = (Asked::default(), clock.now());
    let carrier = Carrier { endpoint, proxy: proxy.clone(), outliers, clock, asked, heard };
    runtime.spawn(async move { stop.run_until_cancelled(carrier.carry()).await });
    Ok(())
}

impl Carrier {
    async fn carry(mut self) {
        let mut backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(clock::seed()));
        loop {
            self.needed().await;
            let begun = Instant::now();
            let reason = match self.endpoint.connect().await {
                Ok(channel) => self.stream(channel).await,
                Err(error) => grpc::cause(&error),
            };
            let retry_in = backoff.next_delay(begun.elapsed());
            tracing::warn!(%reason, ?retry_in, "what other proxies know of failing endpoints cannot be heard");
            sleep(retry_in).await;
            self.outliers.alone(self.heard, self.clock.now());
        }
    }

    /// Waits until a policy in force shares.
    async fn needed(&self) {
        let mut changes = self.proxy.store.subscribe();
        while !self.outliers.are_wanted() {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// One stream from its first message to its end; says why it ended.
    async fn stream(&mut self, channel: Channel) -> String {
        let mut client = LoadReportingServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let (words, queue) = mpsc::channel(QUEUE);
        let queue =
            stream::unfold(queue, async |mut queue: mpsc::Receiver<_>| Some((queue.recv().await?, queue)));
        // Says who we are; the answer begins with it.
        let _ = words.try_send(request(Some(node(&self.proxy.config)), &[]));
        let answers = match client.stream_load_stats(queue).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return grpc::explain(&status),
        };
        tracing::debug!("connected for what proxies share of failing endpoints");
        self.outliers.begin(self.clock.now());
        self.exchange(answers, &words).await
    }

    async fn exchange(
        &mut self,
        answers: Streaming<LoadStatsResponse>,
        words: &mpsc::Sender<LoadStatsRequest>,
    ) -> String {
        let (mut answers, mut tick) = (pin!(answers), interval(TICK));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.take(&answer),
                    Ok(None) => return String::from("the control plane closed the stream"),
                    Err(status) => return grpc::explain(&status),
                },
                _ = tick.tick() => self.say(words),
            }
            self.heard = self.clock.now();
        }
    }

    fn say(&self, words: &mpsc::Sender<LoadStatsRequest>) {
        // Without room, it stays news.
        let Ok(room) = words.try_reserve() else { return };
        let asked = |guard: &str, endpoint: &str| self.asked.wants(guard, endpoint);
        let news = self.outliers.statements(asked, self.clock.now());
        if news.is_empty() {
            return;
        }
        let said = news.into_iter().map(|(guard, endpoint, statement)| Said {
            cluster: guard.to_string(),
            endpoint: endpoint.to_string(),
            statement,
        });
        room.send(request(None, &said.collect::<Vec<_>>()));
    }

    fn take(&mut self, answer: &LoadStatsResponse) {
        for (guard, told) in suspects(answer) {
            let suspect = |one: tidegate_xds::outliers::Suspect| Suspect {
                endpoint: one.endpoint.into(),
                number: one.number,
                failing: one.failing,
                asked: one.asked,
            };
            self.outliers.told(guard, told.into_iter().map(suspect).collect(), self.clock.now());
        }
        self.asked = Asked::of(answer);
    }
}

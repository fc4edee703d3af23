//! Carries reports to one other replica, and what it gives back to those who reported. Waits for nobody's sake: what
//! cannot be sent is dropped and counted, for a lost report is one that nothing is lent for.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::dial::{Dial, Secure};
use tidegate_xds::client::grpc;
use tidegate_xds::quota::{
    RELAYED_BY, RateLimitQuotaResponse, RateLimitQuotaServiceClient, RateLimitQuotaUsageReports,
    usage_reports,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Streaming};

use super::desk::Relayed;
use super::{MAX_MESSAGE, Quotas};

/// Reports that wait for one peer; those beyond are dropped.
pub(super) const WAITING: usize = 65_536;
/// Of one message: far below what a message may hold, whatever the names.
const BATCH: usize = 1000;
/// Messages under way beside what the connection holds.
const UNDER_WAY: usize = 4;
/// A stream must be accepted within this time.
const OPEN: Duration = Duration::from_secs(5);
/// Peers are few: nobody is hurt when all come at once.
const BACKOFF: BackoffConfig = BackoffConfig {
    min: Duration::from_millis(100),
    max: Duration::from_secs(2),
    healthy_after: Duration::from_secs(10),
};

/// The way to one peer.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(super) peer: String,
    pub(super) reports: mpsc::Receiver<Relayed>,
    pub(super) quotas: Arc<Quotas>,
    pub(super) secure: Option<Arc<dyn Secure>>,
}

impl Relay {
    /// By TLS, as the other replica's port wants it.
    pub(crate) fn secured(self, secure: Option<Arc<dyn Secure>>) -> Self {
        Self { secure, ..self }
    }

    /// Carries until the shutdown.
    pub(crate) async fn carry(mut self) {
        let shutdown = self.quotas.shutdown.clone();
        shutdown.run_until_cancelled(self.keep_connected()).await;
    }

    async fn keep_connected(&mut self) {
        let seed = RandomState::new().build_hasher().finish();
        let mut backoff = Backoff::new(BACKOFF, fastrand::Rng::with_seed(seed));
        let mut last = String::new();
        loop {
            let begun = Instant::now();
            let reason = match self.connect().await {
                Ok((messages, answers)) => {
                    last.clear();
                    self.stream(messages, answers).await
                }
                Err(reason) => reason,
            };
            let retry_in = backoff.next_delay(begun.elapsed());
            // Once: it may stay away for long.
            if reason == last {
                tracing::debug!(peer = self.peer, %reason, ?retry_in, "still no way to a replica");
            } else {
                tracing::warn!(peer = self.peer, %reason, ?retry_in, "no way to a replica: of its mesh-wide limits, shares \
                    that clients of this one hold last as long as written");
            }
            last = reason;
            self.meanwhile(sleep(retry_in)).await;
        }
    }

    async fn connect(&mut self) -> Result<(Messages, Streaming<RateLimitQuotaResponse>), String> {
        let mut endpoint =
            grpc::endpoint(format!("http://{}", self.peer)).map_err(|error| grpc::cause(&error))?;
        if let Some(secure) = &self.secure {
            endpoint = endpoint.secured(secure.clone()).map_err(|error| grpc::cause(&error))?;
        }
        let (messages, queue) = mpsc::channel(UNDER_WAY);
        let queue =
            stream::unfold(queue, async |mut queue: mpsc::Receiver<_>| Some((queue.recv().await?, queue)));
        let mut request = Request::new(queue);
        let own = self.quotas.peers.own().parse().map_err(|_| String::from("its own name is no header"))?;
        request.metadata_mut().insert(RELAYED_BY, own);
        let opened = self.meanwhile(timeout(OPEN, open(endpoint, request))).await;
        let answers = opened.map_err(|_| String::from("it does not answer"))??;
        Ok((messages, answers))
    }

    /// Waits for something without a stream. Reports that come meanwhile would be old when there is one.
    async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = std::pin::pin!(what);
        let mut dropped = Vec::new();
        loop {
            tokio::select! {
                done = &mut what => return done,
                many = self.reports.recv_many(&mut dropped, BATCH) => {
                    self.quotas.desk.lock().lost(many);
                    dropped.clear();
                }
            }
        }
    }

    /// One stream to its end; says why it ended.
    async fn stream(&mut self, messages: Messages, mut answers: Streaming<RateLimitQuotaResponse>) -> String {
        tracing::info!(peer = self.peer, "connected to a replica for its mesh-wide limits");
        let quotas = self.quotas.clone();
        let _connected = Connected::new(&quotas);
        let take = async {
            loop {
                match answers.message().await {
                    Ok(Some(answer)) => quotas.desk.lock().pass(answer, quotas.start.elapsed()),
                    Ok(None) => return String::from("it closed the stream"),
                    Err(status) => return grpc::explain(&status),
                }
            }
        };
        tokio::select! {
            reason = take => reason,
            () = pump(&mut self.reports, messages) => String::from("the stream is closed"),
        }
    }
}

type Messages = mpsc::Sender<RateLimitQuotaUsageReports>;

async fn open(
    endpoint: Dial,
    request: Request<impl futures_util::Stream<Item = RateLimitQuotaUsageReports> + Send + 'static>,
) -> Result<Streaming<RateLimitQuotaResponse>, String> {
    let channel = endpoint.connect().await.map_err(|error| grpc::cause(&error))?;
    let mut client = RateLimitQuotaServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let answers = client.stream_rate_limit_quotas(request).await;
    answers.map(tonic::Response::into_inner).map_err(|status| grpc::explain(&status))
}

/// Until the stream is closed.
async fn pump(reports: &mut mpsc::Receiver<Relayed>, messages: Messages) {
    let mut batch = Vec::new();
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        for message in by_domain(&mut batch) {
            if messages.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// A message has one domain. Reports of one keep their order: what a client says later must not arrive before.
fn by_domain(batch: &mut Vec<Relayed>) -> Vec<RateLimitQuotaUsageReports> {
    batch.sort_by(|a, b| a.domain.cmp(&b.domain));
    let parts = batch.chunk_by(|a, b| a.domain == b.domain);
    let messages = parts.map(|part| {
        let reports: Vec<_> = part.iter().map(|told| (told.names.clone(), told.report)).collect();
        usage_reports(&part[0].domain, &reports)
    });
    let messages = messages.collect();
    batch.clear();
    messages
}

/// Counts a peer as long as there is a stream to it.
struct Connected<'a>(&'a Quotas);

impl<'a> Connected<'a> {
    fn new(quotas: &'a Quotas) -> Self {
        quotas.desk.lock().connected(true);
        Self(quotas)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.desk.lock().connected(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_quota::{Report, Tokens, Usage};
    use tidegate_xds::quota::{Names, bucket_id, relayed_reports};

    #[test]
    fn each_message_has_one_domain_and_reports_of_a_bucket_stay_in_their_order() {
        let names: Names = [(String::from("user"), String::from("ann"))].into();
        let relayed = |(domain, stamp): (&str, u64)| {
            let (bucket, stamp) = (bucket_id(domain, &names), Duration::from_nanos(stamp));
            let (held, usage, returned) = (None, Usage::default(), Tokens::NONE);
            let report = Report { client: 1, bucket, stamp, held, usage, returned, leaves: false };
            Relayed { domain: domain.to_owned(), names: names.clone(), report }
        };
        let mut batch = [("b", 2), ("a", 9), ("b", 1), ("a", 8)].map(relayed).to_vec();
        let stamps = |message: &RateLimitQuotaUsageReports| {
            let reports = relayed_reports(message, &message.domain);
            let stamps = reports.iter().map(|(_, report)| report.stamp.as_nanos());
            (message.domain.clone(), stamps.collect::<Vec<_>>())
        };
        let told: Vec<_> = by_domain(&mut batch).iter().map(stamps).collect();
        assert_eq!(told, [(String::from("a"), vec![9, 8]), (String::from("b"), vec![2, 1])]);
        assert!(batch.is_empty());
    }
}

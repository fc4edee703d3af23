//! Answers the control plane what is kept of single requests, on a stream that the proxy keeps open for that.
//!
//! No request waits for any of it. Without a stream, the admin port has the same to tell.

use std::pin::pin;
use std::sync::Arc;

use futures_util::stream;
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::dial::Dial;
use tidegate_xds::client::grpc;
use tidegate_xds::decisions::{DecisionAnswer, DecisionQuestion, DecisionServiceClient};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use crate::clock;
use crate::state::ProxyState;
use crate::telemetry::{DecisionQuery, Telemetry};

/// Answers under way; who asks faster waits.
const QUEUE: usize = 4;
/// Records of one answer, and their bytes.
const MOST: usize = 64;
const MOST_BYTES: usize = 512 << 10;

/// Answers until `stop`.
///
/// # Errors
/// The control plane's address cannot be used.
pub(crate) fn start(
    proxy: &Arc<ProxyState>,
    runtime: &Handle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(endpoint) = proxy.control_plane()? else { return Ok(()) };
    let (node, telemetry) = (proxy.config.node.clone(), proxy.telemetry.clone());
    runtime.spawn(async move { stop.run_until_cancelled(keep_answering(endpoint, node, telemetry)).await });
    Ok(())
}

async fn keep_answering(endpoint: Dial, node: String, telemetry: Arc<Telemetry>) {
    let mut backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(clock::seed()));
    loop {
        let begun = Instant::now();
        let reason = match endpoint.connect().await {
            Ok(channel) => match serve(channel, &node, &telemetry).await {
                Ok(()) => String::from("the control plane closed the stream"),
                Err(status) => grpc::explain(&status),
            },
            Err(error) => grpc::cause(&error),
        };
        let retry_in = backoff.next_delay(begun.elapsed());
        tracing::debug!(%reason, ?retry_in, "the control plane cannot ask what was decided of single requests");
        sleep(retry_in).await;
    }
}

/// One stream from its first message to its end.
async fn serve(channel: Channel, node: &str, telemetry: &Telemetry) -> Result<(), Status> {
    let (answers, queue) = mpsc::channel(QUEUE);
    let queue =
        stream::unfold(queue, async |mut queue: mpsc::Receiver<_>| Some((queue.recv().await?, queue)));
    // Says who we are; the server asks after it.
    let _ = answers.try_send(DecisionAnswer { node: node.to_owned(), ..DecisionAnswer::default() });
    let questions = DecisionServiceClient::new(channel).stream_decisions(queue).await?.into_inner();
    let mut questions = pin!(questions);
    while let Some(question) = questions.message().await? {
        if answers.send(answer(&question, telemetry)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn answer(question: &DecisionQuestion, telemetry: &Telemetry) -> DecisionAnswer {
    let limit = usize::try_from(question.limit).unwrap_or(MOST).clamp(1, MOST);
    let found = telemetry.decisions(&DecisionQuery { limit, ..DecisionQuery::of_id(&question.id) });
    let mut left = MOST_BYTES;
    let records = found.iter().filter_map(|record| serde_json::to_vec(record).ok());
    let records = records.take_while(|record| match left.checked_sub(record.len()) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    DecisionAnswer { number: question.number, records: records.collect(), ..DecisionAnswer::default() }
}

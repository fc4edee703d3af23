//! Keeps a [`DeltaClient`] connected over gRPC, for ever. Decides nothing about resources: its handler does.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::dial::Dial;
use super::{ConfigHandler, DeltaClient, Want};
use crate::backoff::Backoff;
use crate::wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, MAX_MESSAGE_BYTES};

/// A connection must be up, and a stream be accepted, within this time each.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that may wait for the server beside the first ones: one ACK, since one response is outstanding.
const REQUEST_SLACK: usize = 4;

/// Where a control plane is, with time-outs and keepalive. TLS may be added to it.
///
/// # Errors
/// When `uri` is not a URI such as `http://127.0.0.1:15010`.
pub fn endpoint(uri: impl Into<String>) -> Result<Dial, tonic::transport::Error> {
    Dial::new(uri.into())
}

/// Connects, applies what comes through `handler`, reconnects with backoff, until `cancel`. Gives the client back
/// with what it has.
pub async fn run(
    endpoint: Dial,
    client: DeltaClient,
    handler: impl ConfigHandler,
    backoff: Backoff,
    cancel: CancellationToken,
) -> DeltaClient {
    let (_, nothing) = mpsc::channel(1);
    run_on_demand(endpoint, client, handler, backoff, cancel, nothing).await
}

/// As [`run`], and subscribes and unsubscribes as `wants` says. While no stream is open the wants stay in their
/// channel.
pub async fn run_on_demand(
    endpoint: Dial,
    client: DeltaClient,
    handler: impl ConfigHandler,
    mut backoff: Backoff,
    cancel: CancellationToken,
    wants: mpsc::Receiver<Want>,
) -> DeltaClient {
    let mut runner = Runner { client, handler, wants, was_synced: false, opened: None };
    loop {
        let end = cancel.run_until_cancelled(runner.run_stream(&endpoint)).await;
        let lived = runner.opened.take().map_or(Duration::ZERO, |at| at.elapsed());
        let Some(reason) = end else { return runner.client };
        let retry_in = backoff.next_delay(lived);
        runner.handler.disconnected(&reason, retry_in);
        if cancel.run_until_cancelled(sleep(retry_in)).await.is_none() {
            return runner.client;
        }
    }
}

struct Runner<H> {
    client: DeltaClient,
    handler: H,
    wants: mpsc::Receiver<Want>,
    was_synced: bool,
    /// When the current stream was accepted.
    opened: Option<Instant>,
}

impl<H: ConfigHandler> Runner<H> {
    /// One stream from connect to its end; says why it ended.
    async fn run_stream(&mut self, endpoint: &Dial) -> String {
        let first = self.client.on_connected();
        let (requests, receiver) = mpsc::channel(first.len() + REQUEST_SLACK);
        for request in first {
            // The channel was made large enough for all of them.
            drop(requests.try_send(request));
        }
        let responses = match open(endpoint, receiver).await {
            Ok(responses) => responses,
            Err(reason) => return reason,
        };
        self.opened = Some(Instant::now());
        self.handler.connected();
        match self.serve(responses, &requests).await {
            Ok(()) => "the control plane closed the stream".to_owned(),
            Err(reason) => reason,
        }
    }

    async fn serve(
        &mut self,
        mut responses: Streaming<DeltaDiscoveryResponse>,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Result<(), String> {
        loop {
            let request = tokio::select! {
                response = responses.message() => match response.map_err(|status| explain(&status))? {
                    Some(response) => Some(self.on_response(response)?),
                    None => return Ok(()),
                },
                Some(want) = self.wants.recv() => self.client.want(want),
            };
            if let Some(request) = request
                && requests.send(request).await.is_err()
            {
                return Ok(());
            }
        }
    }

    fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Result<DeltaDiscoveryRequest, String> {
        let update = self.client.on_response(response);
        let update = update.map_err(|error| format!("the control plane broke the protocol: {error}"))?;
        let rejected = self.handler.apply(&update);
        let answer = self.client.ack(update, rejected);
        if !self.was_synced && self.client.synced() {
            self.was_synced = true;
            self.handler.synced();
        }
        Ok(answer)
    }
}

async fn open(
    endpoint: &Dial,
    requests: mpsc::Receiver<DeltaDiscoveryRequest>,
) -> Result<Streaming<DeltaDiscoveryResponse>, String> {
    let late = |_| format!("no answer from {} within {CONNECT_TIMEOUT:?}", endpoint.uri());
    let channel = timeout(CONNECT_TIMEOUT, endpoint.connect()).await.map_err(late)?;
    let channel =
        channel.map_err(|error| format!("cannot connect to {}: {}", endpoint.uri(), cause(&error)))?;
    let mut service = AggregatedDiscoveryServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let call = service.delta_aggregated_resources(ReceiverStream::new(requests));
    let response = timeout(CONNECT_TIMEOUT, call).await.map_err(late)?;
    Ok(response.map_err(|status| explain(&status))?.into_inner())
}

/// What a stream ended of, for people.
pub fn explain(status: &Status) -> String {
    format!("the stream failed: {:?}: {}", status.code(), status.message())
}

/// The innermost error: tonic's own says no more than "transport error".
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

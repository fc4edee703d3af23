//! Serves [`DeltaSession`] over gRPC. Decides nothing: it moves messages between the stream, the session and the
//! source of worlds.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::Stream;
use prost_types::Value;
use prost_types::value::Kind;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{DeltaSession, Event, ProtocolError};
use crate::wire::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
pub use crate::wire::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use crate::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, MAX_MESSAGE_BYTES, Name, Node, ResourceSet};

/// A client that opened a stream must say who it is within this time.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// How often an idle connection is probed, and how long a probe may stay unanswered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells streams apart for as long as the server lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Who a connection was opened by, in the extensions of every request that comes over it.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// A SPIFFE id, if the other side has proved to have one.
    pub identity: Option<Arc<str>>,
}

/// The key of a node's metadata under which its proved identity is told; what a node itself says there is dropped.
pub const IDENTITY: &str = "tidegate.io/identity";

/// The control plane as its streams see it. Calls come from the streams' tasks and must not block.
pub trait WorldSource: Send + Sync + 'static {
    /// The world of one node, now and later; called once per stream, after [`Event::Connected`]. What the receiver
    /// holds must be a world that was loaded: an empty one takes everything away from the client. The stream ends
    /// when the sender is dropped.
    fn subscribe(&self, stream: StreamId, node: &Node) -> watch::Receiver<Arc<ResourceSet>>;

    /// Something happened on a stream.
    fn event(&self, stream: StreamId, event: Event);

    /// The node asks by these names now: its world from here on, if it is another one.
    fn wanted(&self, stream: StreamId, names: Vec<Name>) -> Option<watch::Receiver<Arc<ResourceSet>>> {
        let _ = (stream, names);
        None
    }

    /// The stream ended, for whatever reason; no event follows. Called for each stream that said who it is.
    fn disconnected(&self, stream: StreamId);
}

/// The aggregated discovery service (ADS), delta only.
#[derive(Debug)]
pub struct DiscoveryService<S> {
    source: Arc<S>,
    types: &'static [&'static str],
    asked: Option<&'static str>,
    next_stream: AtomicU64,
    shutdown: CancellationToken,
}

/// One stream while it lives.
struct StreamTask<S: WorldSource> {
    id: StreamId,
    source: Arc<S>,
    session: DeltaSession,
    world: Option<watch::Receiver<Arc<ResourceSet>>>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    caller: Caller,
}

/// The service, ready to be added to a [`tonic::transport::Server`]. `types` are the type URLs in push order,
/// `asked`: the one of which names are questions, see [`DeltaSession::asked_by_name`]. When
/// `shutdown` is cancelled every stream ends with UNAVAILABLE, so that a graceful shutdown of the server can end.
pub fn service<S: WorldSource>(
    source: Arc<S>,
    (types, asked): (&'static [&'static str], Option<&'static str>),
    shutdown: CancellationToken,
) -> AggregatedDiscoveryServiceServer<DiscoveryService<S>> {
    let service = DiscoveryService { source, types, asked, next_stream: AtomicU64::new(1), shutdown };
    AggregatedDiscoveryServiceServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A server that notices dead clients and does not delay small messages.
pub fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

#[tonic::async_trait]
impl<S: WorldSource> AggregatedDiscoveryService for DiscoveryService<S> {
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        // One response is outstanding at a time, and the last message may be the status.
        let (responses, receiver) = mpsc::channel(2);
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        let mut task = StreamTask {
            id: StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed)),
            source: Arc::clone(&self.source),
            session: self.asked.into_iter().fold(DeltaSession::new(self.types), DeltaSession::asked_by_name),
            world: None,
            responses,
            caller,
        };
        let shutdown = self.shutdown.clone();
        let client = task.responses.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                () = shutdown.cancelled() => Some(Status::unavailable("the control plane shuts down")),
                () = client.closed() => None,
                end = run(&mut task, request.into_inner()) => end.err(),
            };
            tracing::debug!(stream = task.id.0, ?end, "xds stream ends");
            if let Some(status) = end {
                // Failing means that the client is gone: nobody is left to be told.
                drop(client.try_send(Err(status)));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Caller {
    fn tell(&self, node: &mut Node) {
        if let Some(metadata) = &mut node.metadata {
            metadata.fields.remove(IDENTITY);
        }
        if let Some(identity) = &self.identity {
            let kind = Some(Kind::StringValue(identity.to_string()));
            node.metadata.get_or_insert_default().fields.insert(IDENTITY.to_owned(), Value { kind });
        }
    }
}

impl<S: WorldSource> StreamTask<S> {
    fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), ProtocolError> {
        for mut event in self.session.on_request(request)? {
            if let Event::Connected { node } = &mut event {
                self.caller.tell(node);
            }
            let node = match event {
                Event::Wanted { names } => {
                    if let Some(world) = self.source.wanted(self.id, names) {
                        self.follow(world);
                    }
                    continue;
                }
                Event::Connected { ref node } => Some(node.clone()),
                _ => None,
            };
            self.source.event(self.id, event);
            if let Some(node) = node {
                let world = self.source.subscribe(self.id, &node);
                self.follow(world);
            }
        }
        Ok(())
    }

    fn follow(&mut self, mut world: watch::Receiver<Arc<ResourceSet>>) {
        self.session.on_world(Arc::clone(&world.borrow_and_update()));
        self.world = Some(world);
    }
}

impl<S: WorldSource> Drop for StreamTask<S> {
    fn drop(&mut self) {
        if self.world.is_some() {
            self.source.disconnected(self.id);
        }
    }
}

impl From<ProtocolError> for Status {
    fn from(error: ProtocolError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Until the client ends the stream (Ok) or it cannot go on.
async fn run<S: WorldSource>(
    task: &mut StreamTask<S>,
    mut requests: Streaming<DeltaDiscoveryRequest>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(FIRST_REQUEST_WITHIN, requests.message()).await;
    let Some(first) = first.map_err(|_| Status::deadline_exceeded("no request on this stream"))?? else {
        return Ok(());
    };
    task.on_request(first)?;
    loop {
        if let Some(response) = task.session.next_response() {
            task.responses.send(Ok(response)).await.map_err(|_| Status::cancelled("the client is gone"))?;
        }
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => task.on_request(request)?,
                None => return Ok(()),
            },
            world = changed(task.world.as_mut()) => task.session.on_world(world?),
        }
    }
}

async fn changed(
    receiver: Option<&mut watch::Receiver<Arc<ResourceSet>>>,
) -> Result<Arc<ResourceSet>, Status> {
    let receiver = receiver.ok_or_else(|| Status::internal("a stream without a world"))?;
    receiver.changed().await.map_err(|_| Status::unavailable("the control plane shuts down"))?;
    Ok(Arc::clone(&receiver.borrow_and_update()))
}

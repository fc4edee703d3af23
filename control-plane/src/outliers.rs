//! Hears from proxies which endpoints fail for them, and tells all who is suspect; by Envoy's load reports.
//!
//! Who is suspect, [`tidegate_outliers::Board`] decides; here are the streams. A proxy that does not read is let go: it
//! connects again and is told all. Of several control planes, each goes by what its own proxies say.

mod desk;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tidegate_policy::kinds::circuit_breaker::SharedRules;
use tidegate_xds::outliers::{
    LoadReportingService, LoadReportingServiceServer, LoadStatsRequest, LoadStatsResponse, said,
};
use tidegate_xds::server::grpc::Caller;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use desk::Counts;
use desk::{Desk, Outbox};

use crate::pace;
use crate::status::Suspected;
use crate::world::World;

/// How often endpoints are judged anew, and how often proxies are to speak.
const PACE: Duration = Duration::from_millis(50);
/// Messages that wait for one proxy.
const QUEUE: usize = 16;
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outliers {
    desk: Mutex<Desk>,
    world: watch::Receiver<Arc<World>>,
    start: Instant,
    shutdown: CancellationToken,
}

impl Outliers {
    pub(crate) fn new(world: watch::Receiver<Arc<World>>, shutdown: CancellationToken) -> Arc<Self> {
        // Greater than that of every control plane before, as long as clocks are right.
        let number = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let desk =
            Desk::new(u64::try_from(number).unwrap_or_default(), SharedRules::new(world.borrow().policies()));
        Arc::new(Self { desk: Mutex::new(desk), world, start: Instant::now(), shutdown })
    }

    pub(crate) fn counts(&self) -> Counts {
        self.desk.lock().counts()
    }

    /// All suspects, for the status.
    pub(crate) fn suspects(&self) -> Vec<Suspected> {
        self.desk.lock().suspects(self.start.elapsed())
    }

    /// Judges, and tells what has changed, until the shutdown.
    pub(crate) async fn keep_judging(self: Arc<Self>) {
        let look = |changed: Option<&World>| {
            if let Some(world) = changed {
                let rules = SharedRules::new(world.policies());
                self.desk.lock().rewrite(rules);
            }
            self.desk.lock().judge(self.start.elapsed());
        };
        pace::keep(PACE, &self.world, &self.shutdown, look).await;
    }

    /// Reads one stream to its end.
    async fn read(
        &self,
        mut messages: Streaming<LoadStatsRequest>,
        caller: &Caller,
        outbox: Outbox,
    ) -> Option<Status> {
        let mut stream = None::<(u64, CancellationToken)>;
        let end = loop {
            let dropped = stream.as_ref().map(|(_, dropped)| dropped.clone()).unwrap_or_default();
            let message = tokio::select! {
                () = self.shutdown.cancelled() => break Some(Status::unavailable("the control plane shuts down")),
                () = outbox.closed() => break None,
                () = dropped.cancelled() => break Some(Status::resource_exhausted("too slow to read")),
                message = messages.message() => match message {
                    Ok(Some(message)) => message,
                    Ok(None) | Err(_) => break None,
                },
            };
            let (stream, _) = match &stream {
                Some(stream) => stream,
                None => {
                    let Some(node) = message.node.as_ref().filter(|node| !node.id.is_empty()) else {
                        break Some(Status::invalid_argument(
                            "the first message must have a node with an id",
                        ));
                    };
                    // Nobody who has proved to be somebody is mistaken for who only says so.
                    let name = match &caller.identity {
                        Some(identity) => format!("{identity} {}", node.id),
                        None => node.id.clone(),
                    };
                    &*stream.insert(self.desk.lock().join(&name, outbox.clone()))
                }
            };
            self.desk.lock().take(*stream, said(message), self.start.elapsed());
        };
        if let Some((stream, _)) = stream {
            self.desk.lock().leave(stream);
        }
        end
    }
}

/// The service, ready to be added to a server.
pub(crate) fn service(outliers: Arc<Outliers>) -> LoadReportingServiceServer<Service> {
    LoadReportingServiceServer::new(Service(outliers)).max_decoding_message_size(MAX_MESSAGE)
}

#[derive(Debug)]
pub(crate) struct Service(Arc<Outliers>);

#[tonic::async_trait]
impl LoadReportingService for Service {
    type StreamLoadStatsStream = Pin<Box<dyn Stream<Item = Result<LoadStatsResponse, Status>> + Send>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let (outbox, queue) = mpsc::channel(QUEUE);
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        let outliers = Arc::clone(&self.0);
        tokio::spawn(async move {
            if let Some(end) = outliers.read(request.into_inner(), &caller, outbox.clone()).await {
                // Failing means that the proxy is gone, or does not read: nobody is left to be told.
                drop(outbox.try_send(Err(end)));
            }
        });
        let answers = stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
        Ok(Response::new(Box::pin(answers)))
    }
}

//! Asks proxies what they keep of a request, for `GET /why` and `tidegate why`.
//!
//! Proxies keep a stream open to be asked on: nobody has to reach them. Who is asked and who has answered, the
//! [`desk`] knows; here are the streams. Of several control planes, each asks the proxies that are connected to it.

mod desk;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_policy::decision::DecisionRecord;
use tidegate_xds::decisions::{DecisionAnswer, DecisionQuestion, DecisionService, DecisionServiceServer};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use desk::{Desk, Outbox};

/// A proxy that has not answered by then is told of as silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions that wait for one proxy.
const QUEUE: usize = 16;
/// People who are answered at a time.
const AT_ONCE: usize = 4;
const MAX_MESSAGE: usize = 1024 * 1024;
/// Records of one answer, of one proxy and of all.
const MOST_OF_ONE: u32 = 64;
const MOST: usize = 500;
/// Names of proxies that did not answer; beyond, they are counted.
const MOST_NAMES: usize = 20;

/// What is known of a request, as `GET /why` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Why {
    pub id: String,
    /// In the order in which they began.
    pub hops: Vec<DecisionRecord>,
    /// There are more than could be told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Proxies that answered.
    pub answered: usize,
    /// Proxies that did not answer in time, or cannot be asked; some of them by name.
    pub unanswered: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Decisions {
    desk: Mutex<Desk>,
    turns: Semaphore,
    shutdown: CancellationToken,
}

impl Why {
    /// Adds what a proxy keeps.
    pub fn add(&mut self, hops: Vec<DecisionRecord>) {
        self.answered += 1;
        let room = MOST.saturating_sub(self.hops.len());
        self.more |= hops.len() > room;
        self.hops.extend(hops.into_iter().take(room));
    }

    /// Nothing follows: hops are put in order, and these said nothing.
    pub fn close(&mut self, silent: impl IntoIterator<Item = String>) {
        self.hops.sort_by_key(DecisionRecord::order);
        for name in silent {
            self.unanswered += 1;
            if self.silent.len() < MOST_NAMES {
                self.silent.push(name);
            }
        }
    }
}

impl Decisions {
    pub(crate) fn new(shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { desk: Mutex::default(), turns: Semaphore::new(AT_ONCE), shutdown })
    }

    /// `connected`: every proxy that is, also one that cannot be asked.
    pub(crate) async fn ask(&self, id: &str, mut connected: BTreeSet<String>) -> Why {
        let mut why = Why { id: id.to_owned(), ..Why::default() };
        let Ok(_turn) = self.turns.acquire().await else { return why };
        let (question, mut answers) = self.desk.lock().ask(id, MOST_OF_ONE);
        let gathering = async {
            while let Some((node, hops)) = answers.recv().await {
                connected.remove(&*node);
                why.add(hops);
            }
        };
        // Whoever is late is told of below.
        let _ = timeout(PATIENCE, gathering).await;
        connected.extend(self.desk.lock().close(question).iter().map(ToString::to_string));
        why.close(connected);
        why
    }

    /// Reads one stream to its end.
    async fn read(&self, mut answers: Streaming<DecisionAnswer>, outbox: Outbox) -> Option<Status> {
        let mut stream = None::<u64>;
        let end = loop {
            let answer = tokio::select! {
                () = self.shutdown.cancelled() => break Some(Status::unavailable("the control plane shuts down")),
                () = outbox.closed() => break None,
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => answer,
                    Ok(None) | Err(_) => break None,
                },
            };
            match stream {
                Some(stream) => {
                    let most = usize::try_from(MOST_OF_ONE).unwrap_or(usize::MAX);
                    let records = answer.records.iter().take(most);
                    // What cannot be read of another version is as good as not kept.
                    let hops = records.filter_map(|record| serde_json::from_slice(record).ok()).collect();
                    self.desk.lock().take(stream, answer.number, hops);
                }
                None if answer.node.is_empty() => {
                    break Some(Status::invalid_argument("the first message must name the proxy"));
                }
                None => stream = Some(self.desk.lock().join(&answer.node, outbox.clone())),
            }
        };
        if let Some(stream) = stream {
            self.desk.lock().leave(stream);
        }
        end
    }
}

/// The service, ready to be added to a server.
pub(crate) fn service(decisions: Arc<Decisions>) -> DecisionServiceServer<Service> {
    DecisionServiceServer::new(Service(decisions)).max_decoding_message_size(MAX_MESSAGE)
}

#[derive(Debug)]
pub(crate) struct Service(Arc<Decisions>);

#[tonic::async_trait]
impl DecisionService for Service {
    type StreamDecisionsStream = Pin<Box<dyn Stream<Item = Result<DecisionQuestion, Status>> + Send>>;

    async fn stream_decisions(
        &self,
        request: Request<Streaming<DecisionAnswer>>,
    ) -> Result<Response<Self::StreamDecisionsStream>, Status> {
        let (outbox, queue) = mpsc::channel(QUEUE);
        let decisions = Arc::clone(&self.0);
        tokio::spawn(async move {
            if let Some(end) = decisions.read(request.into_inner(), outbox.clone()).await {
                // Failing means that the proxy is gone, or does not read: nobody is left to be told.
                drop(outbox.try_send(Err(end)));
            }
        });
        let questions = stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
        Ok(Response::new(Box::pin(questions)))
    }
}

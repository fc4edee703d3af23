//! Real sockets on loopback: a server that dies and comes back, and the client that outlives it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::{ConfigHandler, DeltaClient, Rejection, Update, Want};
use tidegate_xds::server::Event;
use tidegate_xds::server::grpc::{StreamId, WorldSource};
use tidegate_xds::{Node, ResourceSet, client, server};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// No step takes long; this only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq)]
enum Seen {
    Event(Event),
    Disconnected,
}

#[derive(Debug)]
struct Source {
    world: watch::Sender<Arc<ResourceSet>>,
    seen: mpsc::UnboundedSender<Seen>,
}

/// A server in a runtime of its own, so that killing it takes its connections along, as the end of a process does.
struct Server {
    runtime: Option<tokio::runtime::Runtime>,
    address: SocketAddr,
    source: Arc<Source>,
    seen: mpsc::UnboundedReceiver<Seen>,
    shutdown: CancellationToken,
    done: JoinHandle<Result<(), tonic::transport::Error>>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Connected,
    Update(String),
    Synced,
    Disconnected(String),
}

/// Reports what it is told, and refuses what is called bad.
struct Recorder(mpsc::UnboundedSender<Told>);

struct Client {
    told: mpsc::UnboundedReceiver<Told>,
    wants: mpsc::Sender<Want>,
    cancel: CancellationToken,
    task: JoinHandle<DeltaClient>,
}

/// Carries one connection until it is frozen: then nothing moves, and nothing is closed.
struct Relay {
    address: SocketAddr,
    freeze: CancellationToken,
    task: JoinHandle<(TcpStream, TcpStream)>,
}

impl WorldSource for Source {
    fn subscribe(&self, _: StreamId, _: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        self.world.subscribe()
    }

    fn event(&self, _: StreamId, event: Event) {
        self.seen.send(Seen::Event(event)).unwrap();
    }

    fn disconnected(&self, _: StreamId) {
        drop(self.seen.send(Seen::Disconnected));
    }
}

impl ConfigHandler for Recorder {
    fn apply(&mut self, update: &Update) -> Vec<Rejection> {
        let mut words = vec![update.type_url.rsplit('.').next().unwrap().to_owned()];
        words.extend(update.upserts.iter().map(|u| format!("+{}@{}", u.name, u.version)));
        words.extend(update.removed.iter().map(|name| format!("-{name}")));
        self.tell(Told::Update(words.join(" ")));
        let bad = update.upserts.iter().filter(|u| u.version == "bad");
        bad.map(|u| Rejection::of_content(u.name.clone(), "is bad".to_owned())).collect()
    }

    fn connected(&mut self) {
        self.tell(Told::Connected);
    }

    fn synced(&mut self) {
        self.tell(Told::Synced);
    }

    fn disconnected(&mut self, reason: &str, _: Duration) {
        self.tell(Told::Disconnected(reason.to_owned()));
    }
}

impl Recorder {
    fn tell(&self, told: Told) {
        drop(self.0.send(told));
    }
}

impl Server {
    /// `address` may have port 0.
    async fn start(address: SocketAddr, world: Arc<ResourceSet>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (send, seen) = mpsc::unbounded_channel();
        let source = Arc::new(Source { world: watch::channel(world).0, seen: send });
        let shutdown = CancellationToken::new();
        let service = server::grpc::service(Arc::clone(&source), (TYPES, None), shutdown.clone());
        let stop = shutdown.clone().cancelled_owned();
        let (bound, address_bound) = tokio::sync::oneshot::channel();
        let done = runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            bound.send(listener.local_addr().unwrap()).unwrap();
            server::grpc::server()
                .add_service(service)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop)
                .await
        });
        let address = soon(address_bound).await.unwrap();
        Self { runtime: Some(runtime), address, source, seen, shutdown, done }
    }

    async fn anywhere(world: Arc<ResourceSet>) -> Self {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0)), world).await
    }

    fn set(&self, world: Arc<ResourceSet>) {
        self.source.world.send_replace(world);
    }

    async fn next(&mut self) -> Seen {
        soon(self.seen.recv()).await.unwrap()
    }

    async fn expect_acked(&mut self, type_url: &'static str, resources: &[(&str, &str)]) {
        let removed = Vec::new();
        let acked = Event::Acked { type_url, resources: pairs(resources), removed };
        assert_eq!(self.next().await, Seen::Event(acked));
    }

    /// Every task and socket of it is gone afterwards.
    async fn kill(mut self) -> SocketAddr {
        let address = self.address;
        let runtime = self.runtime.take().unwrap();
        let stop = move || runtime.shutdown_timeout(PATIENCE);
        soon(tokio::task::spawn_blocking(stop)).await.unwrap();
        address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    fn start(server: SocketAddr) -> Self {
        Self::start_as(node(), server)
    }

    fn start_as(node: Node, server: SocketAddr) -> Self {
        let (send, told) = mpsc::unbounded_channel();
        let (wants, wanted) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let quick = BackoffConfig {
            min: Duration::from_millis(1),
            max: Duration::from_millis(20),
            ..BackoffConfig::default()
        };
        let task = tokio::spawn(client::grpc::run_on_demand(
            client::grpc::endpoint(format!("http://{server}")).unwrap(),
            DeltaClient::new(node, TYPES).on_demand(ROUTE),
            Recorder(send),
            Backoff::new(quick, fastrand::Rng::with_seed(1)),
            cancel.clone(),
            wanted,
        ));
        Self { told, wants, cancel, task }
    }

    async fn expect(&mut self, expected: &[Told]) {
        for told in expected {
            assert_eq!(soon(self.told.recv()).await.as_ref(), Some(told));
        }
    }

    /// Skips failed attempts.
    async fn expect_reconnect(&mut self) {
        while soon(self.told.recv()).await.unwrap() != Told::Connected {}
    }
}

impl Relay {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let freeze = CancellationToken::new();
        let frozen = freeze.clone();
        let task = tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(server).await.unwrap();
            drop(frozen.run_until_cancelled(copy_bidirectional(&mut near, &mut far)).await);
            (near, far)
        });
        Self { address, freeze, task }
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

fn update(words: &str) -> Told {
    Told::Update(words.to_owned())
}

#[tokio::test]
async fn client_resumes_after_the_server_was_killed_and_restarted() {
    let mut server = Server::anywhere(world(&[(BACKEND, "a", "1"), (POLICY, "p", "1")])).await;
    let mut client = Client::start(server.address);
    client.expect(&[Told::Connected, update("Backend +a@1"), update("Policy +p@1"), Told::Synced]).await;
    assert_eq!(server.next().await, Seen::Event(Event::Connected { node: Box::new(node()) }));
    server.expect_acked(BACKEND, &[("a", "1")]).await;
    server.expect_acked(POLICY, &[("p", "1")]).await;

    let address = server.kill().await;
    let Told::Disconnected(_) = soon(client.told.recv()).await.unwrap() else { panic!() };
    // A new attempt may still meet the dying server.
    loop {
        match soon(client.told.recv()).await.unwrap() {
            Told::Disconnected(why) if why.contains("refused") => break,
            Told::Disconnected(_) => {}
            other => panic!("{other:?}"),
        }
    }

    let mut server = Server::start(address, world(&[(BACKEND, "a", "1"), (POLICY, "p", "2")])).await;
    client.expect_reconnect().await;
    client.expect(&[update("Backend"), update("Policy +p@2")]).await;
    assert_eq!(server.next().await, Seen::Event(Event::Connected { node: Box::new(node()) }));
    server.expect_acked(BACKEND, &[("a", "1")]).await;
    // The claim of version 1 and the answer to the empty response come in either order.
    let mut policies = Vec::new();
    while policies != [pairs(&[("p", "1")]), pairs(&[("p", "2")])] {
        match server.next().await {
            Seen::Event(Event::Acked { type_url: POLICY, resources, .. }) => policies.push(resources),
            Seen::Event(Event::Acked { type_url: BACKEND, resources, .. }) => assert!(resources.is_empty()),
            other => panic!("{other:?}"),
        }
    }

    server.set(world(&[(POLICY, "p", "2")]));
    client.expect(&[update("Backend -a")]).await;
    client.cancel.cancel();
    let kept = soon(client.task).await.unwrap();
    assert_eq!(kept.versions(POLICY).unwrap().len(), 1);
}

#[tokio::test]
async fn refusal_reaches_the_server_with_name_version_and_reason() {
    let mut server = Server::anywhere(world(&[(POLICY, "p", "bad"), (POLICY, "q", "1")])).await;
    let _client = Client::start(server.address);
    loop {
        if let Seen::Event(Event::Nacked(nack)) = server.next().await {
            let rejected = &nack.rejected[0];
            assert_eq!((&*rejected.name, &*rejected.version, &*rejected.reason), ("p", "bad", "is bad"));
            assert_eq!(nack.acked, pairs(&[("q", "1")]));
            return;
        }
    }
}

#[tokio::test]
async fn wants_are_told_on_the_open_stream() {
    let server = Server::anywhere(world(&[(ROUTE, "r", "1"), (ROUTE, "other", "1")])).await;
    let mut client = Client::start(server.address);
    client.expect(&[Told::Connected, update("Backend"), update("Policy"), Told::Synced]).await;
    client.wants.send(Want::Subscribe { type_url: ROUTE, names: strings(&["r"]) }).await.unwrap();
    client.expect(&[update("Route +r@1")]).await;
    client.wants.send(Want::Unsubscribe { type_url: ROUTE, names: strings(&["r"]) }).await.unwrap();
    client.wants.send(Want::Subscribe { type_url: ROUTE, names: strings(&["other"]) }).await.unwrap();
    client.expect(&[update("Route +other@1")]).await;
}

#[tokio::test]
async fn client_that_breaks_the_protocol_is_told_why() {
    let server = Server::anywhere(world(&[])).await;
    let mut client = Client::start_as(Node::default(), server.address);
    client.expect(&[Told::Connected]).await;
    let Told::Disconnected(why) = soon(client.told.recv()).await.unwrap() else { panic!() };
    assert!(
        why.ends_with("InvalidArgument: the first request of a stream must carry a node with an id"),
        "{why}"
    );
}

#[tokio::test]
async fn shutdown_ends_streams_so_that_the_server_can_end() {
    let mut server = Server::anywhere(world(&[])).await;
    let mut client = Client::start(server.address);
    client.expect(&[Told::Connected, update("Backend"), update("Policy"), Told::Synced]).await;
    server.shutdown.cancel();
    soon(&mut server.done).await.unwrap().unwrap();
    let Told::Disconnected(why) = soon(client.told.recv()).await.unwrap() else { panic!() };
    assert_eq!(why, "the stream failed: Unavailable: the control plane shuts down");
    while server.next().await != Seen::Disconnected {}
    server.kill().await;
}

#[tokio::test]
async fn server_tells_of_a_client_that_vanished() {
    let mut server = Server::anywhere(world(&[])).await;
    let mut client = Client::start(server.address);
    client.expect(&[Told::Connected, update("Backend")]).await;
    client.task.abort();
    while server.next().await != Seen::Disconnected {}
    server.kill().await;
}

#[tokio::test]
async fn large_set_arrives_in_parts_and_synced_waits_for_the_last() {
    let mut set = ResourceSet::default();
    for i in 0..3 {
        let resource = tidegate_xds::Versioned::new(POLICY, "1", vec![b'x'; 6 << 20]);
        set.insert(POLICY, format!("p{i}"), resource).unwrap();
    }
    let server = Server::anywhere(Arc::new(set)).await;
    let mut client = Client::start(server.address);
    let parts = ["Policy +p0@1", "Policy +p1@1", "Policy +p2@1"].map(update);
    client.expect(&[Told::Connected, update("Backend")]).await;
    client.expect(&parts).await;
    client.expect(&[Told::Synced]).await;
}

#[tokio::test]
async fn client_survives_a_server_that_speaks_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::start(listener.local_addr().unwrap());
    let web_server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await);
        }
    });
    for _ in 0..3 {
        let told = soon(client.told.recv()).await.unwrap();
        assert!(matches!(told, Told::Disconnected(_)), "{told:?}");
    }
    web_server.abort();
}

// With paused time a silent peer costs the test nothing: time moves on when nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn client_does_not_wait_for_ever_for_a_silent_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = Client::start(address);
    for _ in 0..2 {
        let told = soon(client.told.recv()).await.unwrap();
        assert_eq!(told, Told::Disconnected(format!("no answer from http://{address}/ within 5s")));
    }
}

#[tokio::test]
async fn client_notices_a_server_that_died_without_a_word() {
    let mut server = Server::anywhere(world(&[])).await;
    let relay = Relay::start(server.address).await;
    let mut client = Client::start(relay.address);
    server.next().await;
    client.expect(&[Told::Connected, update("Backend"), update("Policy"), Told::Synced]).await;
    relay.freeze.cancel();
    let _open = soon(relay.task).await.unwrap();
    tokio::time::pause();
    let Told::Disconnected(why) = soon(client.told.recv()).await.unwrap() else { panic!() };
    assert!(why.contains("stream failed"), "{why}");
    server.kill().await;
}

//! A control plane that does what a test says: it serves a world over real gRPC, remembers what each proxy said to
//! it, dies and comes back. It must not validate: a test may want to send what a real one would refuse to.

mod log;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::codec;
use tidegate_policy::model::{Resource, ResourceType};
use tidegate_xds::server::Event;
use tidegate_xds::server::grpc::{StreamId, WorldSource, server, service};
use tidegate_xds::{Node, ResourceSet, Version, Versioned};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use log::Log;

/// No wait of a test is longer: it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

const TYPES: [&str; ResourceType::PUSH_ORDER.len()] = {
    let mut types = [""; ResourceType::PUSH_ORDER.len()];
    let mut i = 0;
    while i < types.len() {
        types[i] = ResourceType::PUSH_ORDER[i].type_url();
        i += 1;
    }
    types
};

/// One control plane at one address, for as many proxies as connect. Every proxy gets the same world.
///
/// Waits panic after 30 s, with what the proxies said until then.
pub struct ScriptedControlPlane {
    address: SocketAddr,
    script: Arc<Script>,
    /// None while it is killed. Its own, so that killing it takes every connection along.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Script {
    world: watch::Sender<Arc<ResourceSet>>,
    log: watch::Sender<Log>,
}

impl ScriptedControlPlane {
    /// Serves an empty world on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let script =
            Script { world: watch::channel(Arc::default()).0, log: watch::channel(Log::default()).0 };
        let mut this =
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), script: Arc::new(script), runtime: None };
        this.restart().await;
        this
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a proxy is given as the URL of its control plane.
    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the world; versions are hashes of content.
    pub fn set<'a>(&self, resources: impl IntoIterator<Item = &'a Resource>) {
        let mut world = ResourceSet::default();
        for resource in resources {
            let (type_url, name, bytes) = codec::encode(resource);
            let versioned = Versioned::new(type_url, version(&bytes), bytes);
            world.insert(type_url, name, versioned).expect("a test's resource fits in a message");
        }
        self.set_world(world);
    }

    /// Replaces the world with any resources at all, such as those that no proxy can decode.
    pub fn set_world(&self, world: ResourceSet) {
        self.script.world.send_replace(Arc::new(world));
    }

    /// Waits until at least one proxy is connected.
    pub async fn connected(&self) {
        self.wait("a proxy connects", |log| (log.connected().next().is_some()).then_some(())).await;
    }

    /// Waits until no proxy is connected.
    pub async fn disconnected(&self) {
        self.wait("every proxy disconnects", |log| (log.connected().next().is_none()).then_some(())).await;
    }

    /// Waits until every connected proxy, and at least one, has this very resource in force.
    pub async fn acked(&self, resource: &Resource) {
        let (type_url, name, bytes) = codec::encode(resource);
        let version = version(&bytes);
        self.wait("the resource is acknowledged", |log| {
            log.every_node(|node| node.in_force(type_url, &name) == Some(&version)).then_some(())
        })
        .await;
    }

    /// Waits until a proxy has refused this very resource; its reason.
    pub async fn nacked(&self, resource: &Resource) -> String {
        let (type_url, name, bytes) = codec::encode(resource);
        let version = version(&bytes);
        self.wait("the resource is refused", |log| {
            let mut refusals = log.connected().filter_map(|node| node.refusal(type_url, &name));
            refusals.find(|(refused, _)| *refused == version).map(|(_, reason)| reason.clone())
        })
        .await
    }

    /// Waits until every connected proxy, and at least one, has all of the current world in force, and nothing else,
    /// but for what it refused.
    pub async fn settled(&self) {
        let world = self.script.world.borrow().clone();
        self.wait("the world is in force", |log| {
            log.every_node(|node| node.has_settled(&TYPES, &world)).then_some(())
        })
        .await;
    }

    /// Ends like a killed process: every socket is closed, nothing is said. The world stays for a restart.
    pub async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let end = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE));
            end.await.expect("shutting a runtime down does not panic");
        }
    }

    /// Serves again at the same address.
    pub async fn restart(&mut self) {
        self.kill().await;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a thread can be started");
        let (bound, address) = oneshot::channel();
        runtime.spawn(serve(self.address, Arc::clone(&self.script), bound));
        self.address = address.await.expect("the address can be bound");
        self.runtime = Some(runtime);
    }

    async fn wait<T>(&self, what: &str, said: impl Fn(&Log) -> Option<T>) -> T {
        let mut log = self.script.log.subscribe();
        let result = {
            let wait = log.wait_for(|log| said(log).is_some());
            tokio::time::timeout(PATIENCE, wait).await.ok().and_then(Result::ok).and_then(|log| said(&log))
        };
        result.unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}; {:#?}", self.script.log.borrow()))
    }
}

impl fmt::Debug for ScriptedControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("ScriptedControlPlane");
        s.field("address", &self.address).field("alive", &self.runtime.is_some()).finish_non_exhaustive()
    }
}

impl Drop for ScriptedControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be awaited inside another one.
            runtime.shutdown_background();
        }
    }
}

impl WorldSource for Script {
    fn subscribe(&self, _: StreamId, _: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        self.world.subscribe()
    }

    fn event(&self, stream: StreamId, event: Event) {
        self.log.send_modify(|log| log.note(stream, event));
    }

    fn disconnected(&self, stream: StreamId) {
        self.log.send_modify(|log| log.disconnect(stream));
    }
}

async fn serve(address: SocketAddr, script: Arc<Script>, bound: oneshot::Sender<SocketAddr>) {
    let listener = TcpListener::bind(address).await.expect("the address can be bound");
    let address = listener.local_addr().expect("a bound socket has an address");
    bound.send(address).expect("a restart waits for the address");
    let service = service(script, (&TYPES, None), CancellationToken::new());
    let end = server().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await;
    end.expect("the server runs until it is killed");
}

fn version(bytes: &[u8]) -> Version {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish()).into()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tidegate_policy::model::{Address, BackendKind, BackendName, Endpoint, Endpoints, ResourceName};
    use tidegate_xds::backoff::{Backoff, BackoffConfig};
    use tidegate_xds::client::{ConfigHandler, DeltaClient, Rejection, Update, grpc};
    use tokio::sync::mpsc;

    use super::*;

    /// Refuses a backend that has no endpoints, and tells what it was sent.
    struct Proxy(mpsc::UnboundedSender<Vec<String>>);

    impl ConfigHandler for Proxy {
        fn apply(&mut self, update: &Update) -> Vec<Rejection> {
            let names = update.upserts.iter().map(|u| u.name.clone());
            drop(self.0.send(names.collect()));
            let empty = update.upserts.iter().filter(|u| {
                let resource = codec::decode(ResourceType::Endpoints, &u.name, &u.body).unwrap();
                matches!(resource, Resource::Endpoints(e) if e.endpoints.is_empty())
            });
            empty.map(|u| Rejection::of_content(u.name.clone(), "no endpoints".to_owned())).collect()
        }
    }

    fn endpoints(name: &str, port: Option<u16>) -> Resource {
        let address = |port| Address::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Resource::Endpoints(Endpoints {
            backend: BackendName {
                kind: BackendKind::Service,
                object: ResourceName::new("shop", name),
                port: 80,
            },
            endpoints: port.map(|port| Endpoint::at(address(port))).into_iter().collect(),
        })
    }

    fn connect(control_plane: &ScriptedControlPlane) -> mpsc::UnboundedReceiver<Vec<String>> {
        let node = Node { id: "checkout-1".to_owned(), ..Node::default() };
        let (send, sent) = mpsc::unbounded_channel();
        let quick = BackoffConfig {
            min: Duration::from_millis(1),
            max: Duration::from_millis(20),
            ..BackoffConfig::default()
        };
        tokio::spawn(grpc::run(
            grpc::endpoint(control_plane.uri()).unwrap(),
            DeltaClient::new(node, &TYPES),
            Proxy(send),
            Backoff::new(quick, fastrand::Rng::with_seed(1)),
            CancellationToken::new(),
        ));
        sent
    }

    #[tokio::test]
    async fn waits_until_a_resource_is_in_force_or_refused() {
        let control_plane = ScriptedControlPlane::start().await;
        let (good, bad) = (endpoints("cart", Some(1)), endpoints("stock", None));
        control_plane.set([&good, &bad]);
        let _sent = connect(&control_plane);
        control_plane.acked(&good).await;
        assert_eq!(control_plane.nacked(&bad).await, "no endpoints");
        control_plane.settled().await;

        let better = endpoints("stock", Some(2));
        control_plane.set([&better]);
        control_plane.acked(&better).await;
        control_plane.settled().await;
    }

    #[tokio::test]
    async fn comes_back_at_the_same_address_with_the_same_world() {
        let mut control_plane = ScriptedControlPlane::start().await;
        let address = control_plane.address();
        let cart = endpoints("cart", Some(1));
        control_plane.set([&cart]);
        let mut sent = connect(&control_plane);
        control_plane.acked(&cart).await;
        control_plane.kill().await;
        control_plane.disconnected().await;

        let stock = endpoints("stock", Some(1));
        control_plane.set([&cart, &stock]);
        control_plane.restart().await;
        assert_eq!(control_plane.address(), address);
        control_plane.connected().await;
        control_plane.settled().await;
        let mut all = Vec::new();
        while let Ok(names) = sent.try_recv() {
            all.extend(names);
        }
        assert_eq!(all.len(), 2, "each was sent once: {all:?}");
    }
}

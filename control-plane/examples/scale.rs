//! What one edit costs a control plane with many sidecars, without sockets: CPU time and memory.
//!
//! `cargo run --release -p tidegate-control-plane --example scale -- [NODES] [SERVICES]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tidegate_control_plane::grpc::{Hub, TYPES};
use tidegate_control_plane::source::{FileContent, FileText, Reading};
use tidegate_control_plane::status::report;
use tidegate_control_plane::world::Fold;
use tidegate_xds::client::WANTS;
use tidegate_xds::server::DeltaSession;
use tidegate_xds::server::grpc::{StreamId, WorldSource};
use tidegate_xds::{DeltaDiscoveryRequest, Node, ResourceSet};
use tokio::sync::watch;

/// Services that each sidecar asks for.
const CALLED: u64 = 5;

/// One sidecar at the other end of a stream, which accepts everything.
struct Sidecar {
    stream: StreamId,
    node: Node,
    session: DeltaSession,
    world: Option<watch::Receiver<Arc<ResourceSet>>>,
}

/// What is edited: of the same mesh, the number in a policy of one Service, in one of all of them, or in one Service's port.
const EDITS: [(&str, [u64; 3]); 3] =
    [("a policy of one Service", [1, 0, 0]), ("a policy of all", [0, 1, 0]), ("a Service", [0, 0, 1])];
const ROUNDS: u64 = 10;

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let (nodes, services): (u64, u64) = (args.next().unwrap_or(1000), args.next().unwrap_or(500));
    let mut mesh = Mesh::new(services);
    let mut fold = Fold::default();
    let (first, took) = timed(|| fold.apply(&mesh.reading()).unwrap());
    println!("{services} services, {} resources: first world in {took:?}", size(&first.published));

    let hub = Hub::new(&first.published);
    let before = resident();
    let mut sidecars: Vec<_> = (0..nodes).map(|i| Sidecar::new(i, services)).collect();
    let (responses, took) = timed(|| sidecars.iter_mut().map(|s| s.connect(&hub)).sum::<usize>());
    let each = (resident() - before) / nodes;
    println!("{nodes} sidecars: {responses} responses in {took:?}; {each} KiB each");

    let mut kept = first;
    for (what, edit) in EDITS {
        let mut sums = [Duration::ZERO; 5];
        for _ in 0..ROUNDS {
            mesh.edit(edit);
            let reading = mesh.reading();
            let (world, folded) = timed(|| fold.apply(&reading).unwrap());
            let ((), published) = timed(|| hub.publish(&world.published));
            let (_, sent) = timed(|| sidecars.iter_mut().map(|s| s.follow(&hub)).sum::<usize>());
            let (_, told) = timed(|| report(&world, &hub.nodes()));
            let ((), dropped) = timed(|| kept = world);
            for (sum, took) in sums.iter_mut().zip([folded, published, sent, dropped, told]) {
                *sum += took / ROUNDS as u32;
            }
        }
        let [folded, published, sent, dropped, told] = sums;
        println!(
            "{what}: folded in {folded:?}, published in {published:?}, sent in {sent:?}, let go in {dropped:?}; \
             a status in {told:?}"
        );
    }
    println!("{} KiB in the end, {} objects", resident(), kept.objects.len());
}

impl Sidecar {
    /// One that asks for [`CALLED`] of so many Services.
    fn new(i: u64, services: u64) -> Self {
        let text = |text: String| Value { kind: Some(Kind::StringValue(text)) };
        let called = (0..CALLED).map(|k| text(format!("s{}.default", (i * CALLED + k) % services))).collect();
        let wants = Value { kind: Some(Kind::ListValue(ListValue { values: called })) };
        let fields = [("namespace", text(String::from("default"))), (WANTS, wants)];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let node = Node { id: format!("sidecar-{i}"), metadata: Some(Struct { fields }), ..Node::default() };
        Self { stream: StreamId(i), node, session: DeltaSession::new(TYPES), world: None }
    }

    fn connect(&mut self, hub: &Hub) -> usize {
        for type_url in TYPES {
            let (node, type_url) = (Some(self.node.clone()), (*type_url).to_owned());
            self.tell(hub, DeltaDiscoveryRequest { node, type_url, ..Default::default() });
        }
        self.world = Some(hub.subscribe(self.stream, &self.node));
        self.follow(hub)
    }

    /// Takes the newest world and acknowledges all of it; how many responses that took.
    fn follow(&mut self, hub: &Hub) -> usize {
        let Some(world) = &mut self.world else { return 0 };
        let world = world.borrow_and_update().clone();
        self.session.on_world(world);
        let mut responses = 0;
        while let Some(response) = self.session.next_response() {
            let (type_url, response_nonce) = (response.type_url, response.nonce);
            self.tell(hub, DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() });
            responses += 1;
        }
        responses
    }

    fn tell(&mut self, hub: &Hub, request: DeltaDiscoveryRequest) {
        for event in self.session.on_request(request).unwrap() {
            hub.event(self.stream, event);
        }
    }
}

/// A hundred Services in a file, each with an endpoint; a policy of all, and one of the first of them.
struct Mesh {
    services: Vec<FileContent>,
    /// As in [`EDITS`].
    numbers: [u64; 3],
}

impl Mesh {
    fn new(services: u64) -> Self {
        let firsts = (0..services).step_by(100);
        let services = firsts.map(|first| Self::file(first..(first + 100).min(services), 80)).collect();
        Self { services, numbers: [1; 3] }
    }

    fn edit(&mut self, by: [u64; 3]) {
        for (number, by) in self.numbers.iter_mut().zip(by) {
            *number += by;
        }
        let numbers = 0..(self.services.len() as u64 * 100).min(100);
        self.services[0] = Self::file(numbers, 80 + self.numbers[2]);
    }

    fn reading(&self) -> Reading {
        let [one, all, _] = self.numbers;
        let policies = [
            Self::policy("all", "{kind: Namespace, name: default}", all),
            Self::policy("one", "{kind: Service, name: s0}", one),
        ];
        let files = policies.into_iter().chain(self.services.iter().cloned()).collect();
        Reading { files, unknown: Vec::new(), root_listed: true }
    }

    /// `port`: of the first of all.
    fn file(numbers: std::ops::Range<u64>, port: u64) -> FileContent {
        let mut text = String::new();
        for i in numbers.clone() {
            let port = if i == 0 { port } else { 80 };
            write!(
                text,
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{ports: [{{name: http, port: {port}}}]}}\n---\n\
                 apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: s{i}, labels: {{kubernetes.io/service-name: s{i}}}}}\naddressType: IPv4\n\
                 ports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [10.0.0.1]}}]\n"
            )
            .unwrap();
        }
        FileContent { path: format!("p/s{:06}.yaml", numbers.start).into(), body: Ok(FileText::new(text)) }
    }

    fn policy(name: &str, target: &str, requests: u64) -> FileContent {
        let text = format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             targetRefs: [{target}]\n  limits: [{{name: a, requests: {requests}, per: 1s}}]\n"
        );
        FileContent { path: format!("p/{name}.yaml").into(), body: Ok(FileText::new(text)) }
    }
}

fn size(published: &tidegate_control_plane::publish::Published) -> usize {
    published.of(tidegate_control_plane::publish::Role::Sidecar).set.len()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

/// KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

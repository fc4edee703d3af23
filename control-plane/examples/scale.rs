//! What one edit costs a control plane with many sidecars, without sockets: CPU time and memory.
//!
//! `cargo run --release -p tidegate-control-plane --example scale -- [NODES] [SERVICES]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_control_plane::grpc::{Hub, TYPES};
use tidegate_control_plane::source::{FileContent, FileText, Reading};
use tidegate_control_plane::status::report;
use tidegate_control_plane::world::Fold;
use tidegate_xds::server::DeltaSession;
use tidegate_xds::server::grpc::{StreamId, WorldSource};
use tidegate_xds::{DeltaDiscoveryRequest, Node, ResourceSet};

/// One sidecar at the other end of a stream, which accepts everything.
struct Sidecar {
    stream: StreamId,
    session: DeltaSession,
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let (nodes, services): (u64, u64) = (args.next().unwrap_or(1000), args.next().unwrap_or(500));
    let mut fold = Fold::default();
    let (world, took) = timed(|| fold.apply(&reading(services, 1)).unwrap());
    println!("{services} services, {} resources: first world in {took:?}", size(&world.published));

    let hub = Hub::new(&world.published);
    let before = resident();
    let mut sidecars: Vec<_> = (0..nodes).map(|i| Sidecar::new(StreamId(i))).collect();
    let (responses, took) = timed(|| sidecars.iter_mut().map(|s| s.connect(&hub)).sum::<usize>());
    let each = (resident() - before) / nodes;
    println!("{nodes} sidecars: {responses} responses in {took:?}; {each} KiB each");

    let (world, folded) = timed(|| fold.apply(&reading(services, 2)).unwrap());
    let ((), published) = timed(|| hub.publish(&world.published));
    let (responses, sent) = timed(|| sidecars.iter_mut().map(|s| s.follow(&hub)).sum::<usize>());
    println!("one edit: folded in {folded:?}, published in {published:?}, {responses} responses in {sent:?}");
    let (status, took) = timed(|| report(&world, &hub.nodes()));
    let behind = status.nodes.iter().filter(|node| node.acknowledged < node.of).count();
    println!("status: {} objects, {behind} sidecars behind, in {took:?}", status.objects.len());
}

impl Sidecar {
    fn new(stream: StreamId) -> Self {
        Self { stream, session: DeltaSession::new(TYPES) }
    }

    fn connect(&mut self, hub: &Hub) -> usize {
        let node = Node { id: format!("sidecar-{}", self.stream.0), ..Node::default() };
        for type_url in TYPES {
            let type_url = (*type_url).to_owned();
            let request = DeltaDiscoveryRequest { node: Some(node.clone()), type_url, ..Default::default() };
            self.tell(hub, request);
        }
        self.follow(hub)
    }

    /// Takes the newest world and acknowledges all of it; how many responses that took.
    fn follow(&mut self, hub: &Hub) -> usize {
        let world: Arc<ResourceSet> = hub.subscribe(self.stream, &Node::default()).borrow().clone();
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

/// One file per service: the Service, an endpoint and a limit. `edit` is the first one's limit.
fn reading(services: u64, edit: u64) -> Reading {
    let file = |i: u64| {
        let mut text = String::new();
        let requests = if i == 0 { edit } else { 10 };
        write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{i}, labels: {{kubernetes.io/service-name: s{i}}}}}\naddressType: IPv4\n\
             ports: [{{port: 8080}}]\nendpoints: [{{addresses: [10.0.0.1]}}]\n---\n\
             apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: s{i}}}\nspec:\n  \
             targetRefs: [{{kind: Service, name: s{i}}}]\n  limits: [{{name: a, requests: {requests}, per: 1s}}]\n"
        )
        .unwrap();
        FileContent { path: format!("p/{i:05}.yaml").into(), body: Ok(FileText::new(text)) }
    };
    Reading { files: (0..services).map(file).collect(), unknown: Vec::new(), root_listed: true }
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

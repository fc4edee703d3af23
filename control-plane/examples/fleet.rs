//! Many sidecars at one control plane, without proxies behind them: how long a change takes to be acknowledged by all whom it
//! concerns, and what that costs the control plane. See `bench/scale.py`, which runs it.
//!
//! `fleet URL DIR PID NODES SERVICES WANTS ROUNDS`: DIR is what the control plane of process PID watches; each node wants that
//! many of the Services `s0`, `s1`, … of the namespace `mesh`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tidegate_control_plane::grpc::{ASKED, TYPES};
use tidegate_xds::Node;
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::{ConfigHandler, DeltaClient, Rejection, Update, Want, grpc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Between rounds, so that one round's cost is not another's.
const REST: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Fleet {
    synced: AtomicUsize,
    /// When each node acknowledged what the round changes.
    seen: Mutex<Vec<Instant>>,
    awaited: Mutex<String>,
    resources: AtomicUsize,
    bytes: AtomicUsize,
    moved: Notify,
}

struct Sidecar(Arc<Fleet>);

struct Plan {
    url: String,
    dir: PathBuf,
    pid: u32,
    nodes: usize,
    services: usize,
    wants: usize,
    rounds: usize,
}

impl ConfigHandler for Sidecar {
    fn apply(&mut self, update: &Update) -> Vec<Rejection> {
        let bytes: usize = update.upserts.iter().map(|upsert| upsert.body.len()).sum();
        self.0.resources.fetch_add(update.upserts.len(), Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        let awaited = self.0.awaited.lock().clone();
        if update.upserts.iter().any(|upsert| upsert.name == awaited) {
            self.0.seen.lock().push(Instant::now());
            self.0.moved.notify_one();
        }
        Vec::new()
    }

    fn synced(&mut self) {
        self.0.synced.fetch_add(1, Ordering::Relaxed);
        self.0.moved.notify_one();
    }
}

#[tokio::main]
async fn main() {
    let plan = Plan::of(&std::env::args().skip(1).collect::<Vec<_>>());
    let fleet = Arc::new(Fleet::default());
    let stop = CancellationToken::new();
    let begun = Instant::now();
    for i in 0..plan.nodes {
        plan.connect(i, &fleet, &stop);
    }
    while fleet.synced.load(Ordering::Relaxed) < plan.nodes {
        fleet.moved.notified().await;
    }
    let connected = begun.elapsed();
    let per_node = |count: &AtomicUsize| count.load(Ordering::Relaxed) / plan.nodes;
    let (resources, bytes) = (per_node(&fleet.resources), per_node(&fleet.bytes));
    tokio::time::sleep(REST).await;
    let memory = resident(plan.pid);
    // Of everybody, and of one Service, which few have to do with.
    let all = plan.measure(&fleet, ("all", "{kind: Namespace, name: mesh}"), plan.nodes).await;
    let few = plan.nodes * plan.wants / plan.services.max(1);
    let one = plan.measure(&fleet, ("one", "{kind: Service, name: s0}"), few.max(1)).await;
    println!(
        "{{\"nodes\": {}, \"services\": {}, \"connected_ms\": {}, \"resources\": {resources}, \"bytes\": {bytes}, \
         \"memory_kib\": {memory}, \"memory_after_kib\": {}, \"all\": {all}, \"one\": {one}}}",
        plan.nodes,
        plan.services,
        connected.as_millis(),
        resident(plan.pid),
    );
    stop.cancel();
}

impl Plan {
    fn of(args: &[String]) -> Self {
        let number = |at: usize| args[at].parse().unwrap();
        Self {
            url: args[0].clone(),
            dir: PathBuf::from(&args[1]),
            pid: args[2].parse().unwrap(),
            nodes: number(3),
            services: number(4),
            wants: number(5),
            rounds: number(6),
        }
    }

    fn connect(&self, i: usize, fleet: &Arc<Fleet>, stop: &CancellationToken) {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = [("role".to_owned(), text("sidecar")), ("namespace".to_owned(), text("mesh"))];
        let metadata = Some(Struct { fields: fields.into_iter().collect() });
        let node = Node { id: format!("sidecar-{i}"), metadata, ..Node::default() };
        let mut client = DeltaClient::new(node, TYPES).asking(ASKED);
        let wants = (0..self.wants).map(|k| format!("s{}.mesh", (i * self.wants + k) % self.services));
        client.want(Want::Subscribe { type_url: ASKED, names: wants.collect() });
        let backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(i as u64));
        let endpoint = grpc::endpoint(self.url.clone()).unwrap();
        tokio::spawn(grpc::run(endpoint, client, Sidecar(fleet.clone()), backoff, stop.clone()));
    }

    /// Changes a policy again and again, and waits each time until `concerned` nodes have it.
    async fn measure(&self, fleet: &Fleet, (name, target): (&str, &str), concerned: usize) -> String {
        *fleet.awaited.lock() = format!("RateLimitPolicy/mesh/{name}");
        let (mut latencies, mut last, mut cpu) = (Vec::new(), Vec::new(), 0);
        for round in 0..=self.rounds {
            fleet.seen.lock().clear();
            let (before, begun) = (cpu_nanos(self.pid), Instant::now());
            self.write(name, target, round + 1);
            while fleet.seen.lock().len() < concerned {
                fleet.moved.notified().await;
            }
            tokio::time::sleep(REST).await;
            // The first round brings the policy; the others change it.
            if round > 0 {
                let took: Vec<_> = fleet.seen.lock().iter().map(|at| at.duration_since(begun)).collect();
                last.push(took.iter().max().copied().unwrap_or_default());
                latencies.extend(took);
                cpu += cpu_nanos(self.pid) - before;
            }
        }
        latencies.sort();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let by_all = last.iter().max().unwrap().as_secs_f64() * 1e3;
        let cpu = cpu as f64 / 1e6 / self.rounds as f64;
        format!(
            "{{\"concerned\": {concerned}, \"p50_ms\": {:.1}, \"p99_ms\": {:.1}, \"by_all_ms\": {by_all:.1}, \"cpu_ms\": {cpu:.1}}}",
            at(0.5),
            at(0.99)
        )
    }

    fn write(&self, name: &str, target: &str, requests: usize) {
        let text = format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: {name}, namespace: mesh}}\nspec:\n  \
             targetRefs: [{target}]\n  limits: [{{name: all, requests: {requests}, per: 1s}}]\n"
        );
        let next = self.dir.join(".next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.dir.join(format!("{name}.yaml"))).unwrap();
    }
}

/// KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// What all threads of a process ran, as the scheduler says.
fn cpu_nanos(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |path: PathBuf| fs::read_to_string(path.join("schedstat")).ok();
    let ran = threads.filter_map(|thread| of_thread(thread.ok()?.path()));
    ran.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

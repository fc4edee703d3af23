//! Every part of a mesh is replaced under load, in the order in which a Deployment does it: the new one is ready first, then
//! nobody is sent to the old one any more, then it is told to end. No request fails.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};

use super::process::{Tidegate, address_after, app, get, try_get};

/// Enough to be in flight at any moment.
const CLIENTS: usize = 4;
/// Requests that must have gone well between two steps.
const BETWEEN: usize = 40;

/// An address that stays, in front of those that come and go: what a Service's is to its clients.
struct Virtual {
    address: SocketAddr,
    behind: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Virtual {
    fn new(behind: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let behind = Arc::new(Mutex::new(behind.to_vec()));
        let all = behind.clone();
        thread::spawn(move || {
            for (i, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let all = all.lock().unwrap().clone();
                if let Ok(server) = TcpStream::connect(all[i % all.len()]) {
                    join(client, server);
                }
            }
        });
        Self { address, behind }
    }

    fn replace(&self, old: SocketAddr, new: SocketAddr) {
        let mut behind = self.behind.lock().unwrap();
        behind.retain(|address| *address != old);
        behind.push(new);
    }
}

fn join(client: TcpStream, server: TcpStream) {
    let halves = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
    for (from, to) in halves {
        let (Ok(mut from), Ok(mut to)) = (from, to) else { return };
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// Clients that never stop to call by way of a sidecar.
struct Load {
    /// Held by each call from its beginning to its end: an application ends before its sidecar does.
    by: Arc<RwLock<SocketAddr>>,
    went_well: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(by: SocketAddr) -> Self {
        let by = Arc::new(RwLock::new(by));
        let (went_well, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (by, went_well) = (by.clone(), went_well.clone());
            let (failed, stop) = (failed.clone(), stop.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let through = by.read().unwrap();
                    match try_get(*through, "http://cart.shop/", "") {
                        Ok((200, _)) => drop(went_well.fetch_add(1, Ordering::Relaxed)),
                        other => failed.lock().unwrap().push(format!("{other:?}")),
                    }
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { by, went_well, failed, stop, clients }
    }

    /// Waits for requests that have begun after now.
    fn goes_on(&self, step: &str) {
        let begun = self.went_well.load(Ordering::Relaxed);
        while self.went_well.load(Ordering::Relaxed) < begun + BETWEEN {
            assert_eq!(*self.failed.lock().unwrap(), Vec::<String>::new(), "{step}");
            thread::yield_now();
        }
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        self.failed.lock().unwrap().clone()
    }
}

struct Mesh {
    policies: PathBuf,
    planes: Virtual,
    serving: Vec<SocketAddr>,
}

struct Plane {
    process: Tidegate,
    grpc: SocketAddr,
    admin: SocketAddr,
}

impl Mesh {
    fn plane(&self) -> Plane {
        let policies = self.policies.to_str().unwrap();
        let flags =
            ["control-plane", "--policies", policies, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let mut process = Tidegate::start(&flags);
        let ready = process.hear_of(&["control plane is ready"]);
        Plane { process, grpc: address_after(&ready, "grpc="), admin: address_after(&ready, "admin=") }
    }

    fn sidecar(&self, node: &str, more: &[&str]) -> Tidegate {
        let url = format!("http://{}", self.planes.address);
        let own = ["proxy", "--sidecar", "--control-plane", &url, "--namespace", "shop", "--node", node];
        Tidegate::start(&[&own[..], &["--admin", "127.0.0.1:0", "--access-log", "off"], more].concat())
    }

    /// A pod of `cart`: an application with a sidecar before it.
    fn instance(&self, node: &str) -> (Tidegate, SocketAddr) {
        let app = app().to_string();
        let flags = ["--inbound", "127.0.0.1:0", "--app", &app, "--pod", node];
        let mut sidecar = self.sidecar(node, &flags);
        let address = address_after(&sidecar.hear_of(&["listening", "inbound"]), "address=");
        (sidecar, address)
    }

    fn caller(&self, node: &str) -> (Tidegate, SocketAddr) {
        let mut sidecar = self.sidecar(node, &["--on-demand", "--outbound", "127.0.0.1:0"]);
        let address = address_after(&sidecar.hear_of(&["listening", "outbound"]), "address=");
        (sidecar, address)
    }

    /// As the endpoint controller says who takes calls.
    fn write(&self) {
        let slices: String = self.serving.iter().enumerate().map(|(i, at)| {
            format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: cart-{i}, namespace: shop, \
                 labels: {{kubernetes.io/service-name: cart}}}}\naddressType: IPv4\nports: [{{name: http, port: {}}}]\n\
                 endpoints: [{{addresses: [{}]}}]\n",
                at.port(),
                at.ip()
            )
        }).collect();
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n\
                       spec: {clusterIP: 127.9.0.1, ports: [{name: http, port: 80}]}\n";
        let next = self.policies.join(".next");
        fs::write(&next, service.to_owned() + &slices).unwrap();
        fs::rename(next, self.policies.join("mesh.yaml")).unwrap();
    }
}

/// Waits until so many proxies, and all that are told of them, call exactly these: what a pod's own time to end is for.
fn heard(planes: &[&Plane], mesh: &Mesh, by: u64) {
    let told = |plane: &&Plane| {
        let status: serde_json::Value = serde_json::from_str(&get(plane.admin, "/status", "").1).unwrap();
        let known: Vec<_> = status["objects"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|object| object["kind"] == "EndpointSlice")
            .map(|object| object["programmed"].clone())
            .collect();
        let all = known.len() == mesh.serving.len() && known.iter().all(|one| one["ready"] == one["of"]);
        all.then(|| known.iter().filter_map(|one| one["of"].as_u64()).min().unwrap_or(0))
    };
    while planes.iter().map(told).sum::<Option<u64>>().is_none_or(|proxies| proxies < by) {}
}

#[test]
fn a_mesh_is_replaced_part_by_part_and_no_request_fails() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let planes = Virtual::new(&[nobody]);
    let mut mesh = Mesh { policies: dir.path().to_owned(), planes, serving: Vec::new() };
    mesh.write();
    let (a, b) = (mesh.plane(), mesh.plane());
    mesh.planes.replace(nobody, a.grpc);
    mesh.planes.replace(nobody, b.grpc);
    let instances: Vec<_> = ["cart-1", "cart-2"].map(|node| mesh.instance(node)).into();
    mesh.serving = instances.iter().map(|(_, at)| *at).collect();
    mesh.write();
    heard(&[&a, &b], &mesh, 0);
    let (caller, outbound) = mesh.caller("web-1");
    let load = Load::start(outbound);
    load.goes_on("before anything");

    // The control plane, replica by replica.
    let mut replicas = Vec::new();
    for old in [a, b] {
        let new = mesh.plane();
        mesh.planes.replace(old.grpc, new.grpc);
        old.process.terminate();
        replicas.push(new);
        load.goes_on("a replica of the control plane was replaced");
    }
    let replicas: Vec<&Plane> = replicas.iter().collect();

    // What serves, pod by pod.
    let mut renewed = Vec::new();
    for (i, (old, at)) in instances.into_iter().enumerate() {
        let (new, address) = mesh.instance(&format!("cart-{}", i + 3));
        mesh.serving.push(address);
        mesh.write();
        heard(&replicas, &mesh, 1);
        load.goes_on("a pod has come");
        mesh.serving.retain(|known| *known != at);
        mesh.write();
        heard(&replicas, &mesh, 1);
        old.terminate();
        renewed.push(new);
        load.goes_on("a pod has gone");
    }

    // Who calls: its application ends first.
    let (new, outbound) = mesh.caller("web-2");
    *load.by.write().unwrap() = outbound;
    load.goes_on("the caller was replaced");
    caller.terminate();
    load.goes_on("the old caller has gone");
    assert_eq!(load.end(), Vec::<String>::new());
    drop((new, renewed));
}

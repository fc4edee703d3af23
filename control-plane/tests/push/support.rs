//! A control plane on a real directory and a scripted proxy on the other end of the wire.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tempfile::TempDir;
use tidegate_control_plane::grpc::TYPES;
use tidegate_control_plane::status::Status;
use tidegate_control_plane::{ControlPlaneArgs, ControllerArgs, IdentityArgs, QuotaArgs, Running, start};
use tidegate_xds::Node;
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::{ConfigHandler, DeltaClient, Rejection, Update, grpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Only ends a test that would never end by itself.
const PATIENCE: Duration = Duration::from_secs(4);

pub(crate) struct Plane {
    pub(crate) directory: TempDir,
    pub(crate) running: Running,
}

pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl Plane {
    pub(crate) async fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("policies")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join("policies").join(name), text).unwrap();
        }
        let running = start(&args(&directory, ANY)).await.unwrap();
        Self { directory, running }
    }

    /// Ends this control plane and starts another one on the same directory and port.
    pub(crate) async fn restart(self) -> Self {
        let address = self.running.grpc;
        self.running.shutdown().await;
        let running = start(&args(&self.directory, address)).await.unwrap();
        Self { directory: self.directory, running }
    }

    /// Replaces a file as editors do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let next = self.path(".next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.path(name)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("policies").join(name)
    }

    /// Waits for a status that is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let (mut world, mut nodes) = (self.running.world(), self.running.node_changes());
        let wait = async {
            loop {
                world.mark_unchanged();
                nodes.mark_unchanged();
                let status = self.running.status();
                if wanted(&status) {
                    return status;
                }
                tokio::select! {
                    changed = world.changed() => changed.unwrap(),
                    changed = nodes.changed() => changed.unwrap(),
                }
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await;
        done.unwrap_or_else(|_| panic!("never came; last: {:#?}", self.running.status()))
    }

    /// One request to the admin port: status code, headers and body.
    pub(crate) async fn admin(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.running.admin).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }
}

pub(crate) fn args(directory: &TempDir, listen: SocketAddr) -> ControlPlaneArgs {
    let policies = Some(directory.path().join("policies"));
    let status_file = Some(directory.path().join("status.json"));
    ControlPlaneArgs {
        policies,
        listen,
        admin: ANY,
        classes: ControllerArgs::default(),
        status_file,
        quota: QuotaArgs::default(),
        identity: IdentityArgs::default(),
        is_first: false,
    }
}

/// What a proxy was told, and what it shall refuse.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// By type URL and name: version.
    pub(crate) resources: BTreeMap<(String, String), String>,
    /// Every upsert and removal since the beginning.
    pub(crate) changes: Vec<String>,
    /// Names to refuse, with the reason.
    pub(crate) refuse: BTreeMap<String, String>,
}

pub(crate) struct Proxy {
    pub(crate) told: Arc<Mutex<Told>>,
    _guard: DropGuard,
}

struct Handler(Arc<Mutex<Told>>);

impl ConfigHandler for Handler {
    fn apply(&mut self, update: &Update) -> Vec<Rejection> {
        let mut told = self.0.lock();
        let mut rejections = Vec::new();
        for upsert in &update.upserts {
            told.changes.push(format!("+{}", upsert.name));
            if let Some(reason) = told.refuse.get(&upsert.name).cloned() {
                rejections.push(Rejection::of_content(upsert.name.clone(), reason));
                continue;
            }
            let key = (update.type_url.to_owned(), upsert.name.clone());
            told.resources.insert(key, upsert.version.clone());
        }
        for name in &update.removed {
            told.changes.push(format!("-{name}"));
            told.resources.remove(&(update.type_url.to_owned(), name.clone()));
        }
        rejections
    }
}

impl Proxy {
    pub(crate) fn connect(address: SocketAddr, id: &str, role: &str) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = [("role".to_owned(), text(role)), ("namespace".to_owned(), text("shop"))];
        let metadata = Some(Struct { fields: fields.into_iter().collect() });
        let node = Node { id: id.to_owned(), metadata, ..Node::default() };
        let endpoint = grpc::endpoint(format!("http://{address}")).unwrap();
        let bounds = BackoffConfig { max: Duration::from_millis(200), ..BackoffConfig::default() };
        let backoff = Backoff::new(bounds, fastrand::Rng::with_seed(1));
        let stop = CancellationToken::new();
        let client = DeltaClient::new(node, TYPES);
        tokio::spawn(grpc::run(endpoint, client, Handler(told.clone()), backoff, stop.clone()));
        Self { told, _guard: stop.drop_guard() }
    }

    pub(crate) fn version(&self, name: &str) -> Option<String> {
        let told = self.told.lock();
        told.resources.iter().find(|((_, n), _)| n == name).map(|(_, version)| version.clone())
    }
}

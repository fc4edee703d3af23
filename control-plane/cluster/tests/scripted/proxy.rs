//! A scripted proxy at the other end of xDS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tidegate_control_plane::grpc::TYPES;
use tidegate_xds::Node;
use tidegate_xds::backoff::{Backoff, BackoffConfig};
use tidegate_xds::client::{ConfigHandler, DeltaClient, Rejection, Update, grpc};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::PATIENCE;

/// By name: version.
type Told = BTreeMap<String, String>;

pub(crate) struct Proxy {
    told: watch::Receiver<Told>,
    _guard: DropGuard,
}

struct Handler(Arc<Mutex<watch::Sender<Told>>>);

impl ConfigHandler for Handler {
    fn apply(&mut self, update: &Update) -> Vec<Rejection> {
        self.0.lock().send_modify(|told| {
            for upsert in &update.upserts {
                told.insert(upsert.name.clone(), upsert.version.clone());
            }
            for name in &update.removed {
                told.remove(name);
            }
        });
        Vec::new()
    }
}

impl Proxy {
    pub(crate) fn connect(address: SocketAddr, id: &str, role: &str) -> Self {
        let (sender, told) = watch::channel(Told::new());
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = [("role".to_owned(), text(role)), ("namespace".to_owned(), text("shop"))];
        let metadata = Some(Struct { fields: fields.into_iter().collect() });
        let node = Node { id: id.to_owned(), metadata, ..Node::default() };
        let endpoint = grpc::endpoint(format!("http://{address}")).unwrap();
        let bounds = BackoffConfig { max: Duration::from_millis(200), ..BackoffConfig::default() };
        let backoff = Backoff::new(bounds, fastrand::Rng::with_seed(1));
        let stop = CancellationToken::new();
        let handler = Handler(Arc::new(Mutex::new(sender)));
        tokio::spawn(grpc::run(endpoint, DeltaClient::new(node, TYPES), handler, backoff, stop.clone()));
        Self { told, _guard: stop.drop_guard() }
    }

    /// Waits until the proxy was told what is wanted.
    pub(crate) async fn until(&mut self, wanted: impl FnMut(&Told) -> bool) -> Told {
        let done = tokio::time::timeout(PATIENCE, self.told.wait_for(wanted)).await;
        done.expect("never told").unwrap().clone()
    }
}

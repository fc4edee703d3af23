//! The control plane as xDS streams see it: which world each node gets, and what each node has acknowledged.
//!
//! Calls come from the streams' tasks: nothing here blocks, computes worlds or judges documents.

mod node;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tidegate_policy::model::ResourceType;
use tidegate_xds::server::Event;
use tidegate_xds::server::grpc::{StreamId, WorldSource};
use tidegate_xds::{Node, ResourceSet};
use tokio::sync::watch;

use crate::publish::{Published, Role};

pub use node::{NodeState, Refusal};

/// The type URLs served, in push order.
pub const TYPES: &[&str] = &[
    ResourceType::PUSH_ORDER[0].type_url(),
    ResourceType::PUSH_ORDER[1].type_url(),
    ResourceType::PUSH_ORDER[2].type_url(),
    ResourceType::PUSH_ORDER[3].type_url(),
    ResourceType::PUSH_ORDER[4].type_url(),
    ResourceType::PUSH_ORDER[5].type_url(),
];

/// The meeting point of worlds and streams.
#[derive(Debug)]
pub struct Hub {
    worlds: BTreeMap<Role, watch::Sender<Arc<ResourceSet>>>,
    nodes: Mutex<BTreeMap<u64, Arc<Mutex<NodeState>>>>,
    changes: watch::Sender<u64>,
}

impl Hub {
    /// Starts with a world that was loaded: an empty one would take everything away from a connecting proxy.
    pub fn new(published: &Published) -> Self {
        let world = |role| watch::Sender::new(Arc::new(published.of(role).set.clone()));
        Self {
            worlds: Role::ALL.into_iter().map(|role| (role, world(role))).collect(),
            nodes: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Tells every node what it is to have from now on; roles for which nothing changed are not woken.
    pub fn publish(&self, published: &Published) {
        for (role, world) in &self.worlds {
            let next = published.of(*role);
            world.send_if_modified(|current| {
                let differs = **current != next.set;
                if differs {
                    *current = Arc::new(next.set.clone());
                }
                differs
            });
        }
    }

    /// Counts what nodes did: connecting, acknowledging, refusing, leaving.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Connected nodes in the order in which they came, each behind its own lock.
    pub fn nodes(&self) -> Vec<Arc<Mutex<NodeState>>> {
        self.nodes.lock().values().cloned().collect()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl WorldSource for Hub {
    fn subscribe(&self, _stream: StreamId, node: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        let role = NodeState::new(node, SystemTime::UNIX_EPOCH).role;
        // Every role has a world from the start.
        self.worlds[&role].subscribe()
    }

    fn event(&self, stream: StreamId, event: Event) {
        match event {
            Event::Connected { node } => {
                let node = NodeState::new(&node, SystemTime::now());
                let identity = node.identity.as_deref();
                tracing::info!(node = %node.id, role = node.role.as_str(), identity, "proxy connected");
                self.nodes.lock().insert(stream.0, Arc::new(Mutex::new(node)));
            }
            Event::Acked { type_url, resources, removed } => {
                let Some(node) = self.nodes.lock().get(&stream.0).cloned() else { return };
                let mut node = node.lock();
                let world = Arc::clone(&self.worlds[&node.role].borrow());
                let shared = resources.into_iter().map(|(n, v)| world.share_name(type_url, n, v));
                node.acknowledge(type_url, shared, &removed);
            }
            Event::Nacked(nack) => {
                let Some(node) = self.nodes.lock().get(&stream.0).cloned() else { return };
                let mut node = node.lock();
                tracing::warn!(node = %node.id, type_url = nack.type_url, reason = %nack.message, "proxy refused");
                node.refuse(nack);
            }
        }
        self.changed();
    }

    fn disconnected(&self, stream: StreamId) {
        let gone = self.nodes.lock().remove(&stream.0);
        if let Some(node) = gone {
            tracing::info!(node = %node.lock().id, "proxy disconnected");
        }
        self.changed();
    }
}

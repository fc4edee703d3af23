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
use tidegate_xds::{Name, Node, ResourceSet};
use tokio::sync::watch;

use crate::publish::{Published, Scope};

pub use node::{NodeState, Refusal};

/// The type URLs served, in push order.
pub const TYPES: &[&str] = &[
    ResourceType::PUSH_ORDER[0].type_url(),
    ResourceType::PUSH_ORDER[1].type_url(),
    ResourceType::PUSH_ORDER[2].type_url(),
    ResourceType::PUSH_ORDER[3].type_url(),
    ResourceType::PUSH_ORDER[4].type_url(),
    ResourceType::PUSH_ORDER[5].type_url(),
    ResourceType::PUSH_ORDER[6].type_url(),
    ResourceType::PUSH_ORDER[7].type_url(),
];

/// The type whose names are questions.
pub const ASKED: &str = ResourceType::Destination.type_url();

/// The meeting point of worlds and streams.
#[derive(Debug)]
pub struct Hub {
    published: Mutex<Published>,
    lanes: Mutex<BTreeMap<Scope, Lane>>,
    nodes: Mutex<BTreeMap<u64, Arc<Mutex<NodeState>>>>,
    changes: watch::Sender<u64>,
}

/// The streams of one scope.
#[derive(Debug)]
struct Lane {
    world: watch::Sender<Arc<ResourceSet>>,
    streams: usize,
}

impl Hub {
    /// Starts with a world that was loaded: an empty one would take everything away from a connecting proxy.
    pub fn new(published: &Published) -> Self {
        Self {
            published: Mutex::new(published.clone()),
            lanes: Mutex::default(),
            nodes: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Tells every node what it is to have from now on; those for which nothing changed are not woken.
    pub fn publish(&self, published: &Published) {
        *self.published.lock() = published.clone();
        // Whoever comes from now on begins with the new one. Nobody waits while views are cut.
        let scopes: Vec<Scope> = self.lanes.lock().keys().cloned().collect();
        for scope in scopes {
            let next = published.view(&scope);
            let lanes = self.lanes.lock();
            let Some(lane) = lanes.get(&scope) else { continue };
            lane.world.send_if_modified(|current| {
                let differs = *current != next;
                if differs {
                    *current = next;
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

    fn join(&self, scope: Scope) -> watch::Receiver<Arc<ResourceSet>> {
        let mut lanes = self.lanes.lock();
        let published = self.published.lock().clone();
        let lane = lanes.entry(scope).or_insert_with_key(|scope| {
            let world = watch::Sender::new(published.view(scope));
            Lane { world, streams: 0 }
        });
        lane.streams += 1;
        lane.world.subscribe()
    }

    fn leave(&self, scope: &Scope) {
        let mut lanes = self.lanes.lock();
        let Some(lane) = lanes.get_mut(scope) else { return };
        lane.streams = lane.streams.saturating_sub(1);
        if lane.streams == 0 {
            lanes.remove(scope);
            self.published.lock().forget(scope);
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl WorldSource for Hub {
    fn subscribe(&self, _stream: StreamId, node: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        let NodeState { id, scope, .. } = NodeState::new(node, SystemTime::UNIX_EPOCH);
        if !self.published.lock().admits(&scope) {
            tracing::warn!(node = %id, ?scope, "it may not serve the Gateway that it names, and is told nothing of it");
        }
        self.join(scope)
    }

    fn wanted(&self, stream: StreamId, names: Vec<Name>) -> Option<watch::Receiver<Arc<ResourceSet>>> {
        let node = self.nodes.lock().get(&stream.0).cloned()?;
        let mut node = node.lock();
        let next = node.scope.asking(names).filter(|next| *next != node.scope)?;
        let world = self.join(next.clone());
        self.leave(&std::mem::replace(&mut node.scope, next));
        Some(world)
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
                let world = self.lanes.lock().get(&node.scope).map(|lane| Arc::clone(&lane.world.borrow()));
                let world = world.unwrap_or_default();
                let shared = resources.into_iter().map(|(n, v)| world.share_name(type_url, n, v));
                node.acknowledge(type_url, shared, &removed);
            }
            // Asked of `wanted`.
            Event::Wanted { .. } => {}
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
            let node = node.lock();
            tracing::info!(node = %node.id, "proxy disconnected");
            self.leave(&node.scope);
        }
        self.changed();
    }
}

//! Plugins in the proxy: loaded beside traffic, asked on its threads.
//!
//! [`loader`] brings what policies name into force, and what cannot be loaded leaves the version before in its place. A request
//! meets plugins one after another: each sees the [head](exchange) that the one before has left, and what it lets pass of a
//! body goes [through](through) the next. A connection that is carried as a whole meets a [chain](chain) of them. What a plugin
//! wants asked elsewhere its VM's [driver](driver) asks. Everything that a plugin may do wrong is the affair of `tidegate-wasm`;
//! here is only what follows for the request or the connection.

mod chain;
mod convert;
mod driver;
mod exchange;
mod fetch;
mod loader;
mod through;
mod world;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use tidegate_policy::model::ResourceName;
use tidegate_policy::plugin::{Failure, Plugin as Wanted};
use tidegate_wasm::{Code, Plugin, Seat, World};
use tokio::sync::watch;

pub(crate) use chain::{Chain, Polled, Stop};
pub(crate) use exchange::Exchange;
pub(crate) use loader::start;
pub(crate) use through::{Cut, Piece, Through};
pub(crate) use world::SeenConnection;

/// Nobody waits longer for a plugin that is being loaded for the first time.
const PATIENCE: Duration = Duration::from_secs(5);

/// The plugins of a proxy.
#[derive(Debug)]
pub(crate) struct Plugins {
    world: World,
    /// Threads that move traffic: as many VMs each plugin may have.
    threads: usize,
    loaded: RwLock<FxHashMap<ResourceName, Entry>>,
    /// Says whenever a load has ended.
    ended: watch::Sender<()>,
}

/// One plugin by its policy.
#[derive(Clone, Debug, Default)]
struct Entry {
    current: Option<Arc<Plugin>>,
    /// What was in force before, for [`Failure::LastGood`].
    before: Option<Arc<Plugin>>,
    /// Why the version that is wanted is not in force.
    fault: Option<String>,
    /// A load has ended, well or not.
    tried: bool,
}

/// How a plugin stands, for people and metrics.
#[derive(Clone, Debug)]
pub struct PluginStatus {
    pub name: ResourceName,
    pub loaded: bool,
    pub fault: Option<String>,
    pub quarantined: bool,
    pub standing: tidegate_wasm::Standing,
    pub counts: tidegate_wasm::Counts,
}

/// What a plugin counts itself, by its name.
pub type CustomMetric = (Arc<str>, tidegate_wasm::Metric);

impl Plugins {
    pub(crate) fn new(threads: usize, node: &str) -> Self {
        let world = World {
            outside: Arc::new(world::Outside::new(node)),
            shared: Arc::default(),
            metrics: Arc::default(),
        };
        Self { world, threads, loaded: RwLock::default(), ended: watch::Sender::new(()) }
    }

    /// A VM of this thread for a request; waits for a plugin that has not been loaded yet. `None`: there is none.
    async fn seat(&self, wanted: &Wanted) -> Option<(Arc<Plugin>, Seat)> {
        let name = &wanted.policy.name;
        if !self.is_tried(name) && wanted.failure != Failure::Open && !wanted.shadow {
            let mut ended = self.ended.subscribe();
            let tried = async { while !self.is_tried(name) && ended.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(PATIENCE, tried).await;
        }
        let Entry { current, before, .. } = self.loaded.read().get(name)?.clone();
        let sit = |plugin: Option<Arc<Plugin>>| {
            let plugin = plugin?;
            match plugin.seat() {
                Ok(seat) => Some((plugin, seat)),
                Err(why) => {
                    tracing::debug!(plugin = %name, %why, "no plugin to ask");
                    None
                }
            }
        };
        sit(current).or_else(|| sit(before.filter(|_| wanted.failure == Failure::LastGood)))
    }

    fn is_tried(&self, name: &ResourceName) -> bool {
        self.loaded.read().get(name).is_some_and(|entry| entry.tried)
    }

    /// What the plugins run that are loaded now.
    fn codes(&self) -> Vec<Code> {
        let loaded = self.loaded.read();
        let all = loaded.values().flat_map(|entry| entry.current.iter().chain(&entry.before));
        all.map(|plugin| plugin.code().clone()).collect()
    }

    /// In the order of their names.
    pub(crate) fn status(&self) -> Vec<PluginStatus> {
        let loaded = self.loaded.read();
        let each = loaded.iter().map(|(name, entry)| {
            let standing = entry.current.as_ref().map(|plugin| plugin.standing()).unwrap_or_default();
            PluginStatus {
                name: name.clone(),
                loaded: entry.current.is_some(),
                fault: entry.fault.clone(),
                quarantined: standing.quarantined_until.is_some(),
                standing,
                counts: entry.current.as_ref().map(|plugin| plugin.counts()).unwrap_or_default(),
            }
        });
        let mut all: Vec<_> = each.collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What plugins themselves count.
    pub(crate) fn custom_metrics(&self) -> Vec<CustomMetric> {
        self.world.metrics.snapshot()
    }
}

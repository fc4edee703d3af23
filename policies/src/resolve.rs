//! Objects -> [`Resources`], by looking up each other's names, and the conditions that tell their authors about it.
//!
//! What is wrong with an object by itself was told before ([`crate::document`]). Nothing here is ever fatal: what
//! cannot be resolved is left out, or keeps its place as a failure (a backendRef), and a condition says why.

mod again;
mod backend_tls;
mod backends;
mod bundles;
mod certificates;
mod classes;
mod condition;
mod controller;
mod difference;
mod extensions;
mod filters;
mod gateway_tls;
mod gateways;
mod grants;
mod grpc_routes;
#[cfg(test)]
mod grpc_tests;
mod listener_sets;
mod namespaces;
mod objects;
mod owner;
mod parents;
mod pem;
mod policies;
mod references;
mod rivals;
mod routes;
mod rules;
mod status;
mod streams;
#[cfg(test)]
mod tests;
mod workloads;

use std::collections::BTreeMap;

use crate::document::ObjectKey;
use crate::model::{ResourceName, Resources};
use crate::objects::Object;

pub use again::{Changed, Resolver, Versions};
pub use condition::Condition;
pub use controller::Controller;
pub use status::{AncestorStatus, ListenerStatus};

/// What objects mean together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub resources: Resources,
    /// By object; of one type, those that do not hold come first.
    pub conditions: BTreeMap<ObjectKey, Vec<Condition>>,
    /// By Gateway or ListenerSet, in the order in which they are written.
    pub listeners: BTreeMap<ObjectKey, Vec<ListenerStatus>>,
    /// By Gateway, how many ListenerSets add listeners to it.
    pub listener_sets: BTreeMap<ResourceName, usize>,
    /// By policy, in the order of its targets.
    pub ancestors: BTreeMap<ObjectKey, Vec<AncestorStatus>>,
}

/// [`resolve_for`] the controller with the names it has by default.
pub fn resolve<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Resolved {
    resolve_for(&Controller::default(), objects)
}

/// Looks up every name. The same objects give the same result in any order.
pub fn resolve_for<'a>(controller: &Controller, objects: impl IntoIterator<Item = &'a Object>) -> Resolved {
    whole(&objects::Objects::collect(objects, controller)).0
}

fn whole(objects: &objects::Objects<'_>) -> (Resolved, policies::Fared) {
    let mut resolved = Resolved::default();
    classes::resolve(objects, &mut resolved);
    backends::resolve(objects, &mut resolved);
    workloads::resolve(objects, &mut resolved);
    gateways::resolve(objects, &mut resolved);
    let rivals = rivals::Rivals::find(objects);
    routes::resolve(objects, &rivals, &mut resolved);
    grpc_routes::resolve(objects, &rivals, &mut resolved);
    streams::resolve(objects, &mut resolved);
    let fared = policies::resolve(objects, &mut resolved);
    backend_tls::tell(objects, &mut resolved);
    resolved.sort();
    (resolved, fared)
}

impl Resolved {
    fn sort(&mut self) {
        for conditions in self.conditions.values_mut() {
            conditions.sort_by(|a, b| (a.kind, a.holds, a.parent).cmp(&(b.kind, b.holds, b.parent)));
        }
    }

    fn tell(&mut self, kind: &str, name: &ResourceName, condition: Condition) {
        self.conditions.entry(key(kind, name)).or_default().push(condition);
    }
}

fn key(kind: &str, name: &ResourceName) -> ObjectKey {
    let (namespace, name) = (name.namespace.to_string(), name.name.to_string());
    ObjectKey { kind: kind.to_owned(), namespace, name }
}

/// Labels and contents of PEM blocks.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn pem_blocks(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let blocks = pem::blocks(bytes)?;
    // Whether they are certificates makes no difference, as long as it can be told.
    let _ = pem::check_bundle(bytes);
    Ok(blocks.into_iter().map(|block| (block.label, block.body)).collect())
}

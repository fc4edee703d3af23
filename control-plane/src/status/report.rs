//! World + acknowledgements -> [`Status`].

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tidegate_policy::describe::{Described, NotDescribed, Subject, describe};
use tidegate_policy::document::{Diagnostic, ObjectKey};
use tidegate_policy::resolve::resolve_for;
use tidegate_xds::ResourceSet;
use tokio::sync::watch;

use super::programmed::{Places, count, of_listeners, progress};
use super::{
    Condition, Filter, InForce, NodeStatus, ObjectStatus, Programmed, Status, Transitions, manifests,
};
use crate::decisions::{Decisions, Why};
use crate::grpc::{Hub, NodeState};
use crate::identity::{self, Certifier};
use crate::index::{Indexed, stands_in};
use crate::outliers::{self, Outliers};
use crate::publish::{ResourceId, Role};
use crate::quotas::{Counts, Quotas};
use crate::world::World;

/// Answers for the status at any moment.
#[derive(Debug)]
pub struct Reporter {
    world: watch::Receiver<Arc<World>>,
    hub: Arc<Hub>,
    quotas: Arc<Quotas>,
    outliers: Arc<Outliers>,
    decisions: Arc<Decisions>,
    transitions: Mutex<Transitions>,
    certifier: Option<Arc<Certifier>>,
    /// What other control planes say of their proxies, where this one speaks for all of them.
    others: Mutex<Vec<Status>>,
}

impl Reporter {
    pub(crate) fn new(
        world: watch::Receiver<Arc<World>>,
        hub: Arc<Hub>,
        (quotas, outliers, decisions): (Arc<Quotas>, Arc<Outliers>, Arc<Decisions>),
    ) -> Self {
        let (transitions, others) = (Mutex::default(), Mutex::default());
        Self { world, hub, quotas, outliers, decisions, transitions, others, certifier: None }
    }

    /// Tells of what signs certificates, too.
    pub(crate) fn signing(self, certifier: Option<Arc<Certifier>>) -> Self {
        Self { certifier, ..self }
    }

    /// What was signed, where there is an authority.
    pub(crate) fn certificates(&self) -> Option<identity::Counts> {
        self.certifier.as_ref().map(|certifier| certifier.counts())
    }

    /// What proxies say of failing endpoints.
    pub(crate) fn outliers(&self) -> outliers::Counts {
        self.outliers.counts()
    }

    /// What the proxies that are connected here keep of a request, by its id or that of its trace.
    pub(crate) async fn why(&self, id: &str) -> Why {
        let connected = self.hub.nodes().iter().map(|node| node.lock().id.clone()).collect();
        self.decisions.ask(id, connected).await
    }

    /// What is attached to an object of those in force, and what holds there.
    ///
    /// # Errors
    /// There is no such object, or several.
    pub(crate) fn describe(&self, subject: Subject, name: &str) -> Result<Described, NotDescribed> {
        let world = self.world();
        let objects = world.objects.values().filter_map(|indexed| indexed.object.as_deref());
        describe(&resolve_for(&world.controller, objects).resources, subject, name)
    }

    /// What is lent of limits that proxies share.
    pub(crate) fn lent(&self) -> Counts {
        self.quotas.counts()
    }

    /// Takes over the times of a List that was written before a restart.
    pub fn recall(&self, list: &Json) {
        *self.transitions.lock() = Transitions::recalled(list);
    }

    pub fn world(&self) -> Arc<World> {
        self.world.borrow().clone()
    }

    /// The world now and after every change.
    pub fn worlds(&self) -> watch::Receiver<Arc<World>> {
        self.world.clone()
    }

    /// From now on, objects are told by all these proxies beside our own. Whether that is another word than before.
    pub fn speak_for(&self, others: Vec<Status>) -> bool {
        let mut before = self.others.lock();
        let differs = *before != others;
        *before = others;
        differs
    }

    /// What is known here, and of our own proxies.
    pub fn status(&self) -> Status {
        Status { suspects: self.outliers.suspects(), ..report(&self.world(), &self.hub.nodes()) }
    }

    /// Every object that `filter` picks, as Kubernetes would show it, in a List.
    pub fn manifests(&self, filter: &Filter) -> Json {
        // Times are kept for all objects, whichever are asked for.
        let picked = self.objects().into_iter().filter(|(object, _)| filter.picks(object));
        let items: Vec<Json> = picked.map(|(_, item)| item).collect();
        json!({ "apiVersion": "v1", "kind": "List", "items": items })
    }

    /// Keeps the times of all conditions: what nothing can be said of is not looked at.
    pub(super) fn note_times(&self) {
        drop(self.objects_of(may_be_told));
    }

    /// Every object, and how Kubernetes would show it, by all proxies that are spoken for.
    pub fn objects(&self) -> Vec<(ObjectStatus, Json)> {
        self.objects_of(|_, _, _| true)
    }

    /// `picks` must pick whatever has conditions.
    fn objects_of(&self, picks: impl Fn(&World, &ObjectKey, &Indexed) -> bool) -> Vec<(ObjectStatus, Json)> {
        // Before the world is looked at: an older one must not be folded in after a younger.
        let mut transitions = self.transitions.lock();
        let world = self.world();
        let mut status = report_of(&world, &self.hub.nodes(), picks);
        for other in self.others.lock().iter() {
            status.join(other);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (items, after) = manifests(&world, &status, &transitions, i64::try_from(now).unwrap_or_default());
        *transitions = after;
        drop(transitions);
        status.objects.into_iter().zip(items).collect()
    }
}

/// Pure but for the nodes' locks, each held for as long as it takes to count that node.
pub fn report(world: &World, nodes: &[Arc<Mutex<NodeState>>]) -> Status {
    report_of(world, nodes, |_, _, _| true)
}

/// Whether Kubernetes would ever show a status of it: in a large mesh most objects are Services and EndpointSlices that
/// nothing is wrong with.
fn may_be_told(world: &World, key: &ObjectKey, indexed: &Indexed) -> bool {
    let spec = indexed.manifest.as_deref().and_then(|manifest| manifest.get("spec"));
    !indexed.current
        || matches!(key.kind.as_str(), "Gateway" | "GatewayClass" | "ListenerSet")
        || key.kind.ends_with("Route")
        || world.conditions.contains_key(key)
        || spec.is_some_and(|spec| spec.get("targetRefs").is_some())
}

/// The same of some of the objects.
fn report_of(
    world: &World,
    nodes: &[Arc<Mutex<NodeState>>],
    picks: impl Fn(&World, &ObjectKey, &Indexed) -> bool,
) -> Status {
    let picked: Vec<_> = world.objects.iter().filter(|(key, indexed)| picks(world, key, indexed)).collect();
    let derived: Vec<Vec<(Role, Vec<ResourceId>)>> =
        picked.iter().map(|(key, _)| world.derived(key)).collect();
    let yields = |derived: &Vec<(Role, Vec<ResourceId>)>| derived.iter().any(|(_, ids)| !ids.is_empty());
    let mut programmed: Vec<Option<Programmed>> =
        derived.iter().map(|d| yields(d).then(Programmed::default)).collect();
    let yields: Vec<_> = picked.iter().zip(&derived).map(|((key, _), d)| of_listeners(key, d)).collect();
    let mut listeners: Vec<BTreeMap<String, Programmed>> = yields
        .iter()
        .map(|of| of.keys().map(|name| (name.clone(), Programmed::default())).collect())
        .collect();
    let mut places = Places::default();
    for (object, (derived, listeners)) in derived.iter().zip(&yields).enumerate() {
        places.add(object, None, derived);
        listeners.iter().for_each(|(name, derived)| places.add(object, Some(name), derived));
    }
    let mut statuses = Vec::with_capacity(nodes.len());
    for node in nodes {
        let node = node.lock();
        let set = world.published.view(&node.scope);
        for (place, behind) in places.told(&set, &node) {
            let programmed = match place.listener() {
                None => programmed[place.object()].as_mut(),
                Some(name) => listeners[place.object()].get_mut(name),
            };
            if let Some(programmed) = programmed {
                count(programmed, &behind, &node);
            }
        }
        statuses.push(node_status(&set, &node));
    }
    statuses.sort_by(|a, b| a.id.cmp(&b.id));
    let mut errors = by_object(world);
    let objects =
        picked.into_iter().zip(programmed).zip(listeners).map(|(((key, indexed), programmed), listeners)| {
            let errors = errors.remove(&**key).unwrap_or_default();
            ObjectStatus { programmed, listeners, ..object_status(world, key, indexed, errors) }
        });
    Status {
        generation: world.generation,
        objects: objects.collect(),
        diagnostics: world.diagnostics.clone(),
        nodes: statuses,
        suspects: Vec::new(),
    }
}

fn node_status(set: &ResourceSet, node: &NodeState) -> NodeStatus {
    let (acknowledged, of) = progress(set, node);
    NodeStatus {
        id: node.id.clone(),
        role: node.role,
        namespace: node.namespace.clone(),
        services: node.services.clone(),
        identity: node.identity.clone(),
        zone: node.zone.clone(),
        connected_since: node.connected_since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        acknowledged,
        of,
        last_refusal: node.last_refusal.clone(),
    }
}

fn object_status(world: &World, key: &ObjectKey, indexed: &Indexed, errors: Vec<Diagnostic>) -> ObjectStatus {
    let in_force = match (&indexed.object, indexed.current) {
        (Some(_), true) => InForce::Current,
        (Some(object), false) if stands_in(object) => InForce::StandIn,
        (Some(_), false) => InForce::LastValid,
        (None, _) => InForce::Nothing,
    };
    let mut conditions = world.conditions.get(key).cloned().unwrap_or_default();
    if in_force != InForce::Current {
        conditions.retain(|condition| condition.kind != "Accepted");
        conditions.insert(0, refused(in_force, &errors));
    } else if !conditions.iter().any(|condition| matches!(&*condition.kind, "Accepted" | "Ignored")) {
        conditions.insert(0, accepted("True", "Accepted", String::new()));
    }
    ObjectStatus {
        kind: key.kind.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        source: match indexed.line {
            0 => indexed.file.to_string(),
            line => format!("{}:{line}", indexed.file),
        },
        in_force,
        conditions,
        errors,
        programmed: None,
        listeners: BTreeMap::new(),
    }
}

fn refused(in_force: InForce, errors: &[Diagnostic]) -> Condition {
    let cause = errors.iter().find(|e| e.is_error()).map(ToString::to_string);
    let cause = cause.unwrap_or_else(|| String::from("what is written now cannot be read"));
    let consequence = match in_force {
        InForce::Nothing => "nothing is in force",
        InForce::StandIn => "it was never valid, and denies everything until it is",
        InForce::Current | InForce::LastValid => "the last valid version stays in force",
    };
    accepted("False", "Invalid", format!("{cause}; {consequence}"))
}

fn accepted(status: &str, reason: &str, message: String) -> Condition {
    let (kind, status, reason) = (String::from("Accepted"), status.to_owned(), reason.to_owned());
    Condition { kind, status, reason, message, parent: None }
}

/// A finding belongs to the object in whose lines it is: from the object's first line to the next object's. An object of
/// a cluster has line 0, as has what is wrong with it; in a file, line 0 is what is wrong with all of it.
fn by_object(world: &World) -> BTreeMap<&ObjectKey, Vec<Diagnostic>> {
    let mut starts = BTreeMap::<(&str, u32), &ObjectKey>::new();
    if world.diagnostics.is_empty() {
        return BTreeMap::new();
    }
    for (key, indexed) in world.objects.iter() {
        starts.insert((&indexed.file, indexed.line), key);
    }
    let mut found = BTreeMap::<&ObjectKey, Vec<Diagnostic>>::new();
    for diagnostic in &world.diagnostics {
        let before = starts.range(..=(&*diagnostic.file, diagnostic.line)).next_back();
        if let Some(((file, _), key)) = before
            && *file == &*diagnostic.file
        {
            found.entry(key).or_default().push(diagnostic.clone());
        }
    }
    found
}

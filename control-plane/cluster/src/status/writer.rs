//! Carries out what the planner says. Only the leader writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tidegate_control_plane::status::Reporter;
use tidegate_control_plane::world::World;
use tidegate_policy::document::ObjectKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::merge::is_shared;
use super::planner::{Outcome, Planner, Write};
use crate::app::Plane;
use crate::errors::{in_time, told, undeclared};
use crate::events::{About, Events, News, news};
use crate::gateways;
use crate::source::Cluster;

/// As the API remembers who set which field.
pub(crate) const FIELD_MANAGER: &str = "tidegate";
/// Requests at once.
const ABREAST: usize = 8;
/// After so long it is tried again whether a kind has a field: it may have been upgraded.
const ANEW: Duration = Duration::from_secs(600);
/// Changes come in bursts: a push, then an acknowledgement from each proxy.
const SETTLE: Duration = Duration::from_millis(50);
/// Looking takes no more than a tenth of the time, however large the mesh is.
const REST: u32 = 9;
const MAX_REST: Duration = Duration::from_secs(5);

struct Writer {
    cluster: Cluster,
    events: Events,
    reporter: Arc<Reporter>,
    controller: String,
    /// Whether Gateways' addresses are those of Services that we made for them.
    deploys: bool,
    undeclared: Mutex<Undeclared>,
}

/// Fields that this cluster's version of a kind does not have, and since when that is known.
type Undeclared = BTreeMap<(String, String), Instant>;

/// Keeps every status as it should be, whenever `leads` says that it is us who write, until `shutdown`.
pub(crate) async fn keep(
    cluster: Cluster,
    plane: Plane,
    (events, deploys): (Events, bool),
    leads: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let Plane { world, nodes, reporter } = plane;
    let controller = world.borrow().controller.name.clone();
    let writer = Writer { cluster, events, reporter, controller, deploys, undeclared: Mutex::default() };
    shutdown.run_until_cancelled(writer.run(world, nodes, leads)).await;
}

impl Writer {
    async fn run(
        &self,
        mut world: watch::Receiver<Arc<World>>,
        mut nodes: watch::Receiver<u64>,
        mut leads: watch::Receiver<bool>,
    ) {
        let start = Instant::now();
        let mut planner = Planner::new(&self.controller, crate::seed());
        let mut observed = self.cluster.observed.subscribe();
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            world.mark_unchanged();
            nodes.mark_unchanged();
            observed.mark_unchanged();
            let Some((looked, next)) = self.round(&mut planner, start).await else { return };
            let rest = SETTLE.max(looked * REST).min(MAX_REST);
            let next = next.map(|at| start + at);
            tokio::select! {
                Ok(()) = world.changed() => {}
                Ok(()) = nodes.changed() => {}
                Ok(()) = observed.changed() => {}
                Ok(()) = leads.changed() => {}
                () = sleep_until(next.unwrap_or(start)), if next.is_some() => {}
            }
            sleep(rest).await;
        }
    }

    /// Writes what is to be written now; says how long it took to see what that is, and when to look again. `None` when
    /// the runtime is shutting down.
    async fn round(&self, planner: &mut Planner, start: Instant) -> Option<(Duration, Option<Duration>)> {
        let reporter = self.reporter.clone();
        let begun = Instant::now();
        let objects = tokio::task::spawn_blocking(move || reporter.objects()).await.ok()?;
        let wanted: Vec<(ObjectKey, Json)> =
            objects.into_iter().filter_map(|(status, manifest)| self.wanted(&status, manifest)).collect();
        let store = self.cluster.store.clone();
        let now = start.elapsed();
        let plan = planner.plan(now, &wanted, |key| {
            let store = store.lock();
            store.observed(&key.kind, &key.namespace, &key.name).map(|(_, observed)| observed)
        });
        let looked = begun.elapsed();
        for key in &plan.fights {
            self.tell_of_fight(key).await;
        }
        let mut again = plan.next;
        let mut done = stream::iter(plan.writes.into_iter().map(|write| self.carry_out(write)))
            .buffer_unordered(ABREAST)
            .boxed();
        while let Some((write, outcome)) = done.next().await {
            planner.done(start.elapsed(), &write, outcome);
            if matches!(outcome, Outcome::Conflict | Outcome::Failed) {
                again = Some(start.elapsed());
            }
        }
        Some((looked, again))
    }

    /// What is to be said of an object; `None` if it is not ours to say.
    fn wanted(
        &self,
        status: &tidegate_control_plane::status::ObjectStatus,
        mut manifest: Json,
    ) -> Option<(ObjectKey, Json)> {
        let owned = matches!(&*status.kind, "Gateway" | "GatewayClass" | "ListenerSet");
        if owned && status.condition("Ignored").is_some() {
            return None;
        }
        let (kind, namespace, name) = (status.kind.clone(), status.namespace.clone(), status.name.clone());
        let mut said = manifest.get_mut("status").map(Json::take).unwrap_or_else(|| json!({}));
        if self.deploys && kind == "Gateway" && said.get("addresses").is_some() {
            said["addresses"] = gateways::addresses(&self.cluster.store.lock(), &namespace, &name);
        }
        if let (Some(programmed), true) = (&status.programmed, said.get("ancestors").is_some()) {
            // For the column of `kubectl get`; kinds that are not ours have none.
            said["programmed"] = json!(format!("{}/{}", programmed.ready, programmed.of));
        }
        let mut undeclared = self.undeclared.lock();
        undeclared.retain(|_, since| since.elapsed() < ANEW);
        for (_, field) in undeclared.keys().filter(|(of, _)| *of == kind) {
            said.as_object_mut().and_then(|said| said.remove(field));
        }
        Some((ObjectKey { kind, namespace, name }, said))
    }

    async fn carry_out(&self, write: Write) -> (Write, Outcome) {
        let outcome = self.write(&write).await;
        (write, outcome)
    }

    async fn write(&self, write: &Write) -> Outcome {
        let key = &write.key;
        let Some(served) = self.cluster.store.lock().served(&key.kind).cloned() else {
            return Outcome::Gone;
        };
        let api: Api<DynamicObject> = match key.namespace.as_str() {
            "" => Api::all_with(self.cluster.client.clone(), &served.resource),
            namespace => Api::namespaced_with(self.cluster.client.clone(), namespace, &served.resource),
        };
        let body = body(&served.resource.api_version, write);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match in_time(api.patch_status(&key.name, &params, &Patch::Apply(&body))).await {
            Ok(object) => {
                self.cluster.written(&key.kind, object);
                let (namespace, name, uid) = (&*key.namespace, &*key.name, &*write.base.uid);
                let about = About { served: &served, namespace, name, uid };
                for news in news(&write.base.status, &write.status) {
                    self.events.tell(&about, &news).await;
                }
                Outcome::Written
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Outcome::Conflict,
            Err(kube::Error::Api(status)) if status.code == 404 => Outcome::Gone,
            Err(error) => {
                let error = told(&error);
                let fields = undeclared(&error);
                if fields.is_empty() {
                    tracing::warn!(object = %key, "cannot write the status, trying again: {error}");
                    return Outcome::Failed;
                }
                tracing::info!(
                    kind = key.kind,
                    ?fields,
                    "this cluster's version of the kind has no such status"
                );
                let fields = fields.into_iter().map(|field| ((key.kind.clone(), field), Instant::now()));
                self.undeclared.lock().extend(fields);
                Outcome::Conflict
            }
        }
    }

    async fn tell_of_fight(&self, key: &ObjectKey) {
        tracing::warn!(
            object = %key,
            "somebody else keeps changing what we say in its status: is there another control plane with the \
             controller name {}? Trying again, more and more seldom", self.controller
        );
        let found = {
            let store = self.cluster.store.lock();
            store.observed(&key.kind, &key.namespace, &key.name).map(|(s, o)| (s.clone(), o))
        };
        let Some((served, observed)) = found else { return };
        let about = About { served: &served, namespace: &key.namespace, name: &key.name, uid: &observed.uid };
        let note = format!(
            "another controller keeps changing the status entries of {}; there must be one with this name only",
            self.controller
        );
        self.events.tell(&about, &News { warning: true, reason: String::from("StatusFight"), note }).await;
    }
}

/// A server-side apply of the status. Lists that are written as a whole must not have changed since they were read.
fn body(api_version: &str, write: &Write) -> Json {
    let key = &write.key;
    let mut metadata = json!({ "name": key.name });
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(key.namespace);
    }
    if is_shared(&write.status) {
        metadata["resourceVersion"] = json!(write.base.resource_version);
    }
    json!({ "apiVersion": api_version, "kind": key.kind, "metadata": metadata, "status": write.status })
}

//! Keeps what runs for Gateways as it should be.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value as Json;
use tidegate_policy::document::ObjectKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Settings, objects};
use crate::app::Plane;
use crate::errors::{in_time, told};
use crate::identity::Roots;
use crate::source::Cluster;
use crate::status::FIELD_MANAGER;

/// What somebody has changed or deleted is put right after so long at the latest.
const AGAIN: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_millis(100);

/// Applies whenever `leads` says that it is us who do, until `shutdown`.
pub(crate) async fn keep(
    cluster: Cluster,
    plane: Plane,
    (settings, mut roots): (Settings, Roots),
    mut leads: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let Plane { mut world, reporter, .. } = plane;
    let keeping = async {
        let mut applied = BTreeMap::<ObjectKey, (Vec<Json>, Instant)>::new();
        while leads.wait_for(|leads| *leads).await.is_ok() {
            world.mark_unchanged();
            let reporter = reporter.clone();
            let Ok(all) = tokio::task::spawn_blocking(move || reporter.objects()).await else { return };
            let mut settings = settings.clone();
            if let (Some(identity), Some(root)) = (&mut settings.identity, &*roots.borrow_and_update()) {
                identity.trust_root.clone_from(root);
            }
            let mut pause = AGAIN;
            let mut present = Vec::new();
            for (status, manifest) in all.into_iter().filter(|(status, _)| status.kind == "Gateway") {
                if status.condition("Ignored").is_some() {
                    continue;
                }
                let key = ObjectKey { kind: status.kind, namespace: status.namespace, name: status.name };
                let uid = {
                    let store = cluster.store.lock();
                    store.observed(&key.kind, &key.namespace, &key.name).map(|(_, seen)| seen.uid.clone())
                };
                let Some(uid) = uid else { continue };
                present.push(key.clone());
                let wanted = objects(&manifest, &uid, &settings);
                let is_done =
                    applied.get(&key).is_some_and(|(done, at)| *done == wanted && at.elapsed() < AGAIN);
                if is_done {
                    continue;
                }
                match apply(&cluster, &key.namespace, &wanted).await {
                    Ok(()) => drop(applied.insert(key, (wanted, Instant::now()))),
                    Err(error) => {
                        tracing::warn!(gateway = %key, "cannot make what runs for it, trying again: {}", told(&error));
                        pause = RETRY;
                    }
                }
            }
            applied.retain(|key, _| present.contains(key));
            tokio::select! {
                Ok(()) = world.changed() => {}
                Ok(()) = roots.changed() => {}
                Ok(()) = leads.changed() => {}
                () = sleep(pause) => {}
            }
            sleep(SETTLE).await;
        }
    };
    shutdown.run_until_cancelled(keeping).await;
}

async fn apply(cluster: &Cluster, namespace: &str, wanted: &[Json]) -> Result<(), kube::Error> {
    for object in wanted {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            api_version: api_version.clone(),
            kind,
        };
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &resource);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        in_time(api.patch(name, &params, &Patch::Apply(object))).await?;
    }
    Ok(())
}

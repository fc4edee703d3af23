//! What a person at the terminal wants to know, and when: each thing once, when it happens.
//!
//! Compares one moment with the one before and prints nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_control_plane::status::{InForce, ObjectStatus, Status};
use tidegate_control_plane::world::World;
use tidegate_policy::document::{Diagnostic, ObjectKey};
use tidegate_policy::model::ResourceName;
use tidegate_policy::objects::Object;
use tidegate_proxy::ListenerStatus;
use tidegate_proxy::config::HeaderSite;

use crate::status::is_complaint;
use tidegate_proxy::app::Running;

#[derive(Debug, Default)]
pub(super) struct News {
    /// The Services that the app is said to serve.
    serves: Vec<ResourceName>,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// Changed, and not yet acknowledged by every proxy.
    pending: BTreeSet<ObjectKey>,
    /// As told, with their labels.
    troubles: BTreeSet<String>,
    listeners: BTreeMap<String, ListenerStatus>,
}

/// Every line begins with a word of this width.
const LABEL: usize = 10;

/// Where everything of a proxy listens, one line each.
pub(super) fn places(proxy: &Running, status: Option<SocketAddr>) -> Vec<String> {
    let config = &proxy.state().config;
    let mut lines = Vec::new();
    if let (Some(inbound), Some((app, _))) = (proxy.inbound(), config.local.app) {
        let told = if config.accept_proxy_protocol.expected_at(HeaderSite::Inbound) {
            "; a PROXY protocol header names the client"
        } else {
            ""
        };
        lines.push(format!("listen    {inbound}, for the app at {app}{told}"));
    }
    if let Some(outbound) = proxy.outbound() {
        let told = if config.accept_proxy_protocol.expected_at(HeaderSite::Outbound) {
            "a PROXY protocol header names the destination"
        } else {
            "redirected connections, else the Host header names the Service"
        };
        lines.push(format!("outbound  {outbound}, for the app's calls; {told}"));
    }
    lines.push(format!("admin     http://{} (/ready /metrics /config /status)", proxy.admin()));
    if let Some(status) = status {
        lines.push(format!("status    http://{status}/status, or: tidegate status --url http://{status}"));
    }
    if config.local.app.is_some() && config.local.services.is_empty() && status.is_some() {
        lines.push(String::from(
            "note      without --service NAME only the namespace's default policies hold for the app's requests",
        ));
    }
    lines
}

impl News {
    pub(super) fn new(serves: &[ResourceName]) -> Self {
        Self { serves: serves.to_vec(), ..Self::default() }
    }

    /// The policies at the start.
    pub(super) fn first(&mut self, world: &World) -> Vec<String> {
        self.objects = in_force(world);
        let policies: Vec<String> = self.objects.values().filter_map(|object| policy(object)).collect();
        match policies.len() {
            0 => vec![String::from("policies  none: every request is passed on")],
            n => std::iter::once(format!("policies  {n} active"))
                .chain(policies.into_iter().map(|line| format!("  {line}")))
                .collect(),
        }
    }

    /// What has changed since the last look.
    pub(super) fn look(
        &mut self,
        world: &World,
        status: &Status,
        listeners: &BTreeMap<String, ListenerStatus>,
    ) -> Vec<String> {
        let mut lines = self.troubles(world, status);
        lines.extend(self.changes(world, status));
        // A listener that is open before its routes are there answers 404: not worth telling yet.
        if status.nodes.iter().all(|node| node.acknowledged == node.of) && !status.nodes.is_empty() {
            lines.extend(self.listeners(listeners));
        }
        lines
    }

    fn troubles(&mut self, world: &World, status: &Status) -> Vec<String> {
        let mut now: Vec<String> = status.diagnostics.iter().map(diagnosis).collect();
        now.extend(status.objects.iter().flat_map(complaints));
        now.extend(self.serves.iter().filter(|name| !is_written(world, name)).map(|name| {
            format!(
                "note      --service {name}: no file has a Service of that name, so no policy can be on it"
            )
        }));
        let mut lines: Vec<String> =
            now.iter().filter(|line| !self.troubles.contains(*line)).cloned().collect();
        let before = std::mem::replace(&mut self.troubles, now.into_iter().collect());
        let gone = before.difference(&self.troubles).filter(|line| !line.starts_with("note"));
        lines.extend(gone.map(|line| format!("fixed     {}", &line[LABEL..])));
        lines
    }

    fn changes(&mut self, world: &World, status: &Status) -> Vec<String> {
        let now = in_force(world);
        let mut lines = Vec::new();
        for key in self.objects.keys().filter(|key| !now.contains_key(*key)) {
            lines.push(format!("removed   {key}"));
            self.pending.remove(key);
        }
        let changed = now.iter().filter(|(key, object)| self.objects.get(*key) != Some(*object));
        self.pending.extend(changed.map(|(key, _)| key.clone()));
        self.objects = now;
        let objects = &self.objects;
        self.pending.retain(|key| {
            if !is_everywhere(status, key) {
                return true;
            }
            if !is_accepted(status, key) {
                return false;
            }
            let text = objects.get(key).and_then(|object| policy(object)).unwrap_or_else(|| key.to_string());
            lines.push(format!("in force  {text}"));
            false
        });
        lines
    }

    fn listeners(&mut self, now: &BTreeMap<String, ListenerStatus>) -> Vec<String> {
        // The app's own two are told at the start.
        let gateways = now.iter().filter(|(name, _)| name.starts_with("gateway"));
        let gateways: BTreeMap<_, _> = gateways.map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut lines = Vec::new();
        for (name, status) in &gateways {
            if self.listeners.get(name) == Some(status) {
                continue;
            }
            lines.push(match status {
                ListenerStatus::Bound(address) | ListenerStatus::Waiting(address) => {
                    format!("listen    {address}, {name}")
                }
                ListenerStatus::Failed(why) => format!("error     {name} cannot be bound: {why}"),
            });
        }
        for name in self.listeners.keys().filter(|name| !gateways.contains_key(*name)) {
            lines.push(format!("closed    {name}"));
        }
        self.listeners = gateways;
        lines
    }
}

fn in_force(world: &World) -> BTreeMap<ObjectKey, Arc<Object>> {
    let objects = world.objects.iter();
    objects.filter_map(|(key, indexed)| Some((ObjectKey::clone(key), indexed.object.clone()?))).collect()
}

/// `RateLimitPolicy shop/per-user, Enforce, on Service shop/cart (limits.yaml:4)`; `None` for what is no policy.
fn policy(object: &Object) -> Option<String> {
    let Object::Policy(policy) = object else { return None };
    let targets: Vec<String> = policy.targets.iter().map(ToString::to_string).collect();
    Some(format!(
        "{} {}, {:?}, on {} ({})",
        policy.kind,
        policy.meta.name,
        policy.mode,
        targets.join(" and "),
        policy.meta.source
    ))
}

/// Says once whether it is an error.
fn diagnosis(diagnostic: &Diagnostic) -> String {
    let (label, word) =
        if diagnostic.is_error() { ("error     ", ": error: ") } else { ("warning   ", ": warning: ") };
    format!("{label}{}", diagnostic.to_string().replacen(word, ": ", 1))
}

/// Conditions of an object that do not hold, other than what its diagnostics, or those of its file, say already.
fn complaints(object: &ObjectStatus) -> Vec<String> {
    let name = format!("{} {}/{}", object.kind, object.namespace, object.name);
    let told = !object.errors.is_empty() || matches!(object.in_force, InForce::LastValid | InForce::StandIn);
    let bad = object.conditions.iter().filter(|c| !told && is_complaint(c));
    let mut complaints: Vec<String> = bad
        .map(|condition| {
            format!("error     {}: {name}: {}: {}", object.source, condition.reason, condition.message)
        })
        .collect();
    let consequence = match object.in_force {
        InForce::LastValid => Some("its last valid version stays in force"),
        InForce::StandIn => Some("it was never valid, and denies everything until it is"),
        InForce::Current | InForce::Nothing => None,
    };
    complaints
        .extend(consequence.map(|what| format!("note      {}: {name}: refused; {what}", object.source)));
    let refusal = object.programmed.as_ref().and_then(|p| p.reason.as_ref());
    complaints.extend(refusal.map(|why| format!("error     {}: the proxy refuses it: {why}", object.source)));
    complaints
}

fn is_everywhere(status: &Status, key: &ObjectKey) -> bool {
    status
        .object(&key.kind, &key.namespace, &key.name)
        .is_some_and(|object| object.programmed.as_ref().is_none_or(|p| p.ready == p.of && p.of > 0))
}

fn is_written(world: &World, service: &ResourceName) -> bool {
    world.objects.iter().any(|(key, indexed)| {
        indexed.object.is_some()
            && key.kind == "Service"
            && *key.namespace == *service.namespace
            && *key.name == *service.name
    })
}

fn is_accepted(status: &Status, key: &ObjectKey) -> bool {
    let conditions = status.object(&key.kind, &key.namespace, &key.name).map_or(&[][..], |o| &o.conditions);
    conditions.iter().all(|condition| condition.kind != "Accepted" || condition.holds())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_control_plane::source::{FileContent, FileText, Reading};
    use tidegate_control_plane::status::{NodeStatus, Programmed};
    use tidegate_control_plane::world::Fold;

    fn limit(requests: u32) -> String {
        format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{ name: a }}\nspec:\n  \
             targetRefs: [{{ group: '', kind: Namespace, name: default }}]\n  \
             limits: [{{ name: all, requests: {requests}, per: 1s }}]\n"
        )
    }

    fn world(fold: &mut Fold, text: &str) -> Arc<World> {
        let body = Ok(FileText::new(text));
        let files = vec![FileContent { path: "limits.yaml".into(), body }];
        fold.apply(&Reading { files, root_listed: true, ..Reading::default() }).unwrap()
    }

    /// As the control plane tells it when `ready` of one proxy have acknowledged.
    fn status(world: &World, ready: usize) -> Status {
        let objects = world.objects.iter().map(|(key, indexed)| ObjectStatus {
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            source: format!("{}:{}", indexed.file, indexed.line),
            in_force: if indexed.current { InForce::Current } else { InForce::LastValid },
            conditions: Vec::new(),
            errors: Vec::new(),
            programmed: Some(Programmed { ready, of: 1, ..Programmed::default() }),
            listeners: std::collections::BTreeMap::new(),
        });
        Status { objects: objects.collect(), diagnostics: world.diagnostics.clone(), ..Status::default() }
    }

    #[test]
    fn the_policies_at_the_start_are_told_with_mode_targets_and_place() {
        let world = world(&mut Fold::default(), &limit(5));
        let lines = News::default().first(&world);
        assert_eq!(lines[0], "policies  1 active");
        assert_eq!(lines[1], "  RateLimitPolicy default/a, Enforce, on Namespace default (limits.yaml:1)");
    }

    #[test]
    fn a_change_is_told_once_and_only_when_the_proxy_has_it() {
        let (mut fold, mut news) = (Fold::default(), News::default());
        news.first(&world(&mut fold, &limit(5)));
        let changed = world(&mut fold, &limit(6));
        let none = BTreeMap::new();
        assert_eq!(news.look(&changed, &status(&changed, 0), &none), [""; 0]);
        let lines = news.look(&changed, &status(&changed, 1), &none);
        assert!(lines.len() == 1 && lines[0].starts_with("in force  RateLimitPolicy default/a"), "{lines:?}");
        assert_eq!(news.look(&changed, &status(&changed, 1), &none), [""; 0]);
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_again_when_it_is_gone() {
        let (mut fold, mut news) = (Fold::default(), News::default());
        news.first(&world(&mut fold, &limit(5)));
        let none = BTreeMap::new();
        let broken = world(&mut fold, &limit(5).replace("per:", "pre:"));
        let lines = news.look(&broken, &status(&broken, 1), &none);
        assert!(lines.iter().any(|line| line.starts_with("error     limits.yaml:6:")), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains(": error:")), "said once: {lines:?}");
        assert!(lines.iter().any(|line| line.contains("last valid version stays")), "{lines:?}");
        let mended = world(&mut fold, &limit(5));
        let lines = news.look(&mended, &status(&mended, 1), &none);
        assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with("fixed     ")), "{lines:?}");
    }

    #[test]
    fn what_is_not_accepted_is_not_told_to_be_in_force() {
        let (mut fold, mut news) = (Fold::default(), News::default());
        news.first(&world(&mut fold, &limit(5)));
        let changed = world(&mut fold, &limit(6));
        let mut dangling = status(&changed, 1);
        dangling.objects[0].conditions = serde_json::from_value(serde_json::json!([{
            "type": "Accepted", "status": "False", "reason": "TargetNotFound", "message": "there is no Service x"
        }]))
        .unwrap();
        let lines = news.look(&changed, &dangling, &BTreeMap::new());
        assert!(lines.len() == 1 && lines[0].contains("there is no Service x"), "{lines:?}");
    }

    #[test]
    fn a_service_that_no_file_has_is_noted_until_one_does() {
        let mut news = News::new(&[ResourceName::new("default", "shop")]);
        let (mut fold, none) = (Fold::default(), BTreeMap::new());
        let without = world(&mut fold, &limit(5));
        news.first(&without);
        let lines = news.look(&without, &status(&without, 1), &none);
        assert!(lines.len() == 1 && lines[0].starts_with("note      --service default/shop:"), "{lines:?}");
        let service =
            "---\napiVersion: v1\nkind: Service\nmetadata: { name: shop }\nspec: { ports: [{ port: 80 }] }\n";
        let with = world(&mut fold, &(limit(5) + service));
        assert_eq!(news.look(&with, &status(&with, 1), &none), ["in force  Service default/shop"]);
    }

    #[test]
    fn a_gateways_listener_is_told_once_its_proxy_has_everything() {
        let mut news = News::default();
        let world = World::default();
        let bound = ListenerStatus::Bound(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let listeners = BTreeMap::from([(String::from("gateway *:80"), bound)]);
        let node = |acknowledged| NodeStatus {
            id: "edge".into(),
            role: serde_json::from_str("\"gateway\"").unwrap(),
            namespace: "default".into(),
            services: Vec::new(),
            identity: None,
            zone: None,
            connected_since: 0,
            acknowledged,
            of: 2,
            last_refusal: None,
        };
        let with = |acknowledged| Status { nodes: vec![node(acknowledged)], ..Status::default() };
        assert_eq!(news.look(&world, &with(1), &listeners), [""; 0]);
        assert_eq!(news.look(&world, &with(2), &listeners), ["listen    127.0.0.1:8080, gateway *:80"]);
        assert_eq!(news.look(&world, &with(2), &BTreeMap::new()), ["closed    gateway *:80"]);
    }
}

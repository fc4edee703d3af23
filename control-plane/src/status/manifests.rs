//! Every object as `kubectl get -o json` would show it: as it was written, with its `.status`.
//!
//! Pure: what is known goes in, JSON comes out.

mod listeners;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value as Json, json};
use tidegate_policy::document::ObjectKey;
use tidegate_policy::model::{TargetKind, TargetRef};
use tidegate_policy::objects::{GATEWAY_GROUP, TIDEGATE_GROUP};

use super::transitions::{Said, Stamp, Transitions};
use super::{Condition, ObjectStatus, Programmed, Status};
use crate::index::Indexed;
use crate::world::World;

/// Kubernetes: a status has no more ancestors.
const MAX_ANCESTORS: usize = 16;
/// Of what no proxy can bind where no address was asked for by name.
const UNBOUND: &str = "Invalid";
const WAITING: &str = "Waiting for controller";

/// One object with what is known of it.
struct Subject<'a> {
    world: &'a World,
    key: ObjectKey,
    indexed: &'a Indexed,
    status: &'a ObjectStatus,
}

/// Manifests of the objects of `status`, which was made of `world`, and the times that hold from now on.
pub fn manifests(world: &World, status: &Status, before: &Transitions, now: i64) -> (Vec<Json>, Transitions) {
    let mut stamp = before.stamp(now);
    let mut items = Vec::new();
    for status in &status.objects {
        let (kind, namespace, name) = (&status.kind, &status.namespace, &status.name);
        let key = ObjectKey { kind: kind.clone(), namespace: namespace.clone(), name: name.clone() };
        let Some(indexed) = world.objects.get(&key) else { continue };
        let subject = Subject { world, key, indexed, status };
        items.push(subject.manifest(&mut stamp));
    }
    (items, stamp.finish())
}

impl Subject<'_> {
    fn manifest(&self, stamp: &mut Stamp<'_>) -> Json {
        let written = self.indexed.manifest.as_deref().and_then(Json::as_object).cloned();
        let mut manifest =
            written.unwrap_or_else(|| Map::from_iter([(String::from("kind"), json!(self.key.kind))]));
        let metadata = manifest.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert(String::from("name"), json!(self.key.name));
            if self.key.namespace.is_empty() {
                metadata.remove("namespace");
            } else {
                metadata.insert(String::from("namespace"), json!(self.key.namespace));
            }
            metadata.insert(String::from("generation"), json!(self.indexed.generation));
        }
        if self.key.kind == "Secret" {
            hide(&mut manifest);
        }
        manifest.remove("status");
        let status = self.status(stamp);
        if status.as_object().is_some_and(|status| !status.is_empty()) {
            manifest.insert(String::from("status"), status);
        }
        Json::Object(manifest)
    }

    fn status(&self, stamp: &mut Stamp<'_>) -> Json {
        let is_ours = self.condition("Ignored").is_none();
        match self.key.kind.as_str() {
            "Gateway" if is_ours => self.gateway(stamp),
            "ListenerSet" if is_ours => self.listener_set(stamp),
            "Gateway" | "ListenerSet" => {
                json!({ "conditions": self.waiting(stamp, &["Accepted", "Programmed"]) })
            }
            "GatewayClass" if is_ours => json!({ "conditions": self.own(stamp, &["Accepted"]) }),
            "GatewayClass" => json!({ "conditions": self.waiting(stamp, &["Accepted"]) }),
            kind if kind.ends_with("Route") => json!({ "parents": self.parents(stamp) }),
            _ if self.spec("targetRefs").is_some() => self.policy(stamp),
            _ => self.complaints(stamp),
        }
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.condition(kind)
    }

    fn spec(&self, field: &str) -> Option<&Vec<Json>> {
        self.indexed.manifest.as_deref()?.get("spec")?.get(field)?.as_array()
    }

    fn said(&self, stamp: &mut Stamp<'_>, part: &str, said: &[Said<'_>]) -> Json {
        stamp.conditions(&self.key, self.indexed.generation, part, said)
    }

    /// As the API server fills it in before any controller has spoken.
    fn waiting(&self, stamp: &mut Stamp<'_>, kinds: &[&str]) -> Json {
        let said = |kind| Said { kind, status: "Unknown", reason: "Pending", message: WAITING };
        let said: Vec<_> = kinds.iter().map(|kind| said(kind)).collect();
        self.said(stamp, "", &said)
    }

    fn own(&self, stamp: &mut Stamp<'_>, kinds: &[&str]) -> Json {
        let said: Vec<_> = kinds.iter().filter_map(|kind| Some(self.condition(kind)?.into())).collect();
        self.said(stamp, "", &said)
    }

    /// For kinds whose status Kubernetes leaves to others: only what is wrong.
    fn complaints(&self, stamp: &mut Stamp<'_>) -> Json {
        let wrong = |c: &&Condition| c.holds() == matches!(&*c.kind, "Conflicted" | "Overridden");
        let said: Vec<_> = self.status.conditions.iter().filter(wrong).map(Said::from).collect();
        if said.is_empty() { json!({}) } else { json!({ "conditions": self.said(stamp, "", &said) }) }
    }

    /// One entry for each parentRef that is our business.
    fn parents(&self, stamp: &mut Stamp<'_>) -> Vec<Json> {
        let mut entries = Vec::new();
        for (at, written) in self.spec("parentRefs").into_iter().flatten().enumerate() {
            let of = |kind: &str, parent: Option<usize>| {
                self.status.conditions.iter().find(|c| c.kind == kind && c.parent == parent)
            };
            if of("Ignored", Some(at)).is_some() {
                continue;
            }
            let whole = of("Accepted", None);
            let accepted = whole.filter(|c| !c.holds()).or_else(|| of("Accepted", Some(at))).or(whole);
            let mut said: Vec<Said<'_>> = accepted.map(Said::from).into_iter().collect();
            if let Some(said) = said.first_mut().filter(|said| said.reason == "Invalid") {
                said.reason = "UnsupportedValue";
            }
            said.extend(of("ResolvedRefs", Some(at)).or_else(|| of("ResolvedRefs", None)).map(Said::from));
            let parent = with_defaults(written, GATEWAY_GROUP, "Gateway");
            let conditions = self.said(stamp, &parent.to_string(), &said);
            entries.push(json!({
                "parentRef": parent,
                "controllerName": self.world.controller.name,
                "conditions": conditions,
            }));
        }
        entries
    }

    /// GEP-713's `PolicyStatus`; of our own kinds, with what `kubectl get` shows in one word.
    fn policy(&self, stamp: &mut Stamp<'_>) -> Json {
        let mut status = json!({ "ancestors": self.ancestors(stamp) });
        let is_ours = tidegate_policy::kinds::find(&self.key.kind).is_some();
        if let Some(Programmed { ready, of, .. }) = self.status.programmed.as_ref().filter(|_| is_ours) {
            status["programmed"] = json!(format!("{ready}/{of}"));
        }
        status
    }

    /// One entry for each target (GEP-713); of a policy that is refused as a whole, for each as it is written.
    fn ancestors(&self, stamp: &mut Stamp<'_>) -> Vec<Json> {
        let (reason, message) = programmed(self.status.programmed.as_ref(), "proxy");
        let programmed = |accepted: bool| {
            let holds = truth(accepted && reason == "Programmed");
            let reason = if accepted { reason } else { "Invalid" };
            Said { kind: "Programmed", status: holds, reason, message: &message }
        };
        let whole = self.condition("Accepted").filter(|c| !c.holds() && c.reason == "Invalid");
        let known = self.world.ancestors.get(&self.key).filter(|_| whole.is_none());
        let entries: Vec<(Json, Vec<Said<'_>>)> = match (known, whole) {
            (Some(known), _) => {
                let said = known.iter().map(|ancestor| {
                    let mut said: Vec<_> = ancestor.conditions.iter().map(Said::from).collect();
                    said.push(programmed(
                        ancestor.conditions.iter().any(|c| c.kind == "Accepted" && c.holds),
                    ));
                    (reference(&ancestor.target), said)
                });
                said.collect()
            }
            (None, whole) => {
                let targets = self.spec("targetRefs").into_iter().flatten();
                let said = || whole.map(Said::from).into_iter().chain([programmed(false)]).collect();
                targets.map(|target| (with_defaults(target, "", "Service"), said())).collect()
            }
        };
        let entry = |(ancestor, said): (Json, Vec<Said<'_>>)| {
            let conditions = self.said(stamp, &ancestor.to_string(), &said);
            let controller = &self.world.controller.name;
            json!({ "ancestorRef": ancestor, "controllerName": controller, "conditions": conditions })
        };
        entries.into_iter().take(MAX_ANCESTORS).map(entry).collect()
    }
}

/// What a Secret holds is shown to nobody: who may read a status need not be one who may read keys.
fn hide(secret: &mut Map<String, Json>) {
    for field in ["data", "stringData"] {
        let values = secret.get_mut(field).and_then(Json::as_object_mut);
        values.into_iter().flatten().for_each(|(_, value)| *value = json!("(hidden)"));
    }
}

const fn truth(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

/// Reason and message of a `Programmed` condition, which holds if the reason is `Programmed`.
fn programmed(programmed: Option<&Programmed>, who: &str) -> (&'static str, String) {
    match programmed {
        None => ("Pending", String::from("proxies are told nothing because of it")),
        Some(Programmed { of: 0, .. }) => ("Pending", format!("no {who} is connected")),
        Some(Programmed { ready, of, reason, laggards, unbound }) => {
            let mut message = format!("{ready}/{of} proxies run it");
            if let Some(reason) = reason {
                let how = if *unbound { "cannot be bound on" } else { "refused by" };
                message += &format!("; {how} {reason}");
            } else if !laggards.is_empty() {
                message += &format!("; waiting for {}", laggards.join(", "));
            }
            let reason = match (ready == of, *unbound) {
                (true, _) => "Programmed",
                (false, true) => UNBOUND,
                (false, false) => "Pending",
            };
            (reason, message)
        }
    }
}

/// A reference as written, with what the API server would fill in.
fn with_defaults(written: &Json, group: &str, kind: &str) -> Json {
    let mut reference = written.as_object().cloned().unwrap_or_default();
    reference.entry("group").or_insert_with(|| json!(group));
    reference.entry("kind").or_insert_with(|| json!(kind));
    Json::Object(reference)
}

fn reference(target: &TargetRef) -> Json {
    let group = match target.kind {
        TargetKind::Gateway
        | TargetKind::ListenerSet
        | TargetKind::HTTPRoute
        | TargetKind::GRPCRoute
        | TargetKind::TCPRoute
        | TargetKind::TLSRoute => GATEWAY_GROUP,
        TargetKind::Backend => TIDEGATE_GROUP,
        _ => "",
    };
    let mut reference = json!({ "group": group, "kind": target.kind.as_str(), "name": &*target.object.name });
    if target.kind != TargetKind::Namespace {
        reference["namespace"] = json!(&*target.object.namespace);
    }
    if let Some(section) = &target.section {
        reference["sectionName"] = json!(&**section);
    }
    reference
}

//! What every policy kind has in its spec: what it applies to, and whether it acts.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, GATEWAY_GROUP, TIDEGATE_GROUP};
use crate::model::{Mode, ResourceName, TargetKind, TargetRef};

/// The part of a policy's spec that is the same for every kind.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargets {
    /// What the policy applies to, in its own namespace. Absent: only where routes name it by ExtensionRef.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub target_refs: Vec<PolicyTargetRef>,
    /// `Shadow` decides and tells, but refuses nobody.
    #[serde(default)]
    pub mode: Mode,
}

/// GEP-713 `LocalPolicyTargetReferenceWithSectionName`; `group` and `namespace` may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetRef {
    #[schemars(length(max = 253))]
    pub group: Option<String>,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Only the policy's own namespace.
    pub namespace: Option<String>,
    /// A listener of a Gateway or ListenerSet, a named rule of a route, or a port name of a Service.
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
}

impl PolicyTargets {
    /// The targets in full. A target that is at fault is reported and left out.
    pub(crate) fn resolve(
        &self,
        namespace: &str,
        allowed: &[TargetKind],
        faults: &mut Faults,
    ) -> Vec<TargetRef> {
        let mut seen = HashSet::new();
        let mut targets = Vec::new();
        for (i, target) in self.target_refs.iter().enumerate() {
            let at = format!("/targetRefs/{i}");
            let before = faults.0.len();
            let Some(resolved) = target.resolve(&at, namespace, allowed, faults) else { continue };
            if faults.0.len() > before {
                continue;
            }
            if seen.insert(resolved.clone()) {
                targets.push(resolved);
            } else {
                faults.error(at, format!("{resolved} is written twice"));
            }
        }
        targets
    }
}

impl PolicyTargetRef {
    fn resolve(
        &self,
        at: &str,
        namespace: &str,
        allowed: &[TargetKind],
        faults: &mut Faults,
    ) -> Option<TargetRef> {
        let Some(kind) = TargetKind::ALL.into_iter().find(|k| k.as_str() == self.kind && allowed.contains(k))
        else {
            let names: Vec<_> = allowed.iter().map(|k| k.as_str()).collect();
            let message = format!("this policy cannot be attached to a {}", self.kind);
            faults.error_with_help(format!("{at}/kind"), message, format!("use one of {}", names.join(", ")));
            return None;
        };
        if self.group.as_deref().is_some_and(|g| g != group_of(kind)) {
            let group = group_of(kind);
            faults.error(format!("{at}/group"), format!("the group of {} is \"{group}\"", self.kind));
        }
        let other = self.namespace.as_deref().filter(|n| *n != namespace);
        let other =
            other.or_else(|| Some(&*self.name).filter(|n| kind == TargetKind::Namespace && *n != namespace));
        if let Some(other) = other {
            let message = format!("a policy in namespace `{namespace}` cannot be attached in `{other}`");
            let field = if kind == TargetKind::Namespace { "name" } else { "namespace" };
            faults.error_with_help(
                format!("{at}/{field}"),
                message,
                format!("put the policy into namespace `{other}`"),
            );
        }
        if self.section_name.is_some() && matches!(kind, TargetKind::Namespace | TargetKind::Backend) {
            faults.error(format!("{at}/sectionName"), format!("a {} has no sections", self.kind));
        }
        for (field, text) in [("name", Some(&self.name)), ("sectionName", self.section_name.as_ref())] {
            if let Some(text) = text.filter(|text| !is_name(text)) {
                faults.error(format!("{at}/{field}"), format!("`{}` is not a name", text.escape_debug()));
            }
        }
        let object = ResourceName::new(namespace, self.name.as_str());
        Some(TargetRef { kind, object, section: self.section_name.as_deref().map(Into::into) })
    }
}

/// What no object can be called, no proxy takes either.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
}

fn group_of(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Gateway
        | TargetKind::ListenerSet
        | TargetKind::HTTPRoute
        | TargetKind::GRPCRoute
        | TargetKind::TCPRoute
        | TargetKind::TLSRoute => GATEWAY_GROUP,
        TargetKind::Namespace | TargetKind::Service => "",
        TargetKind::Backend => TIDEGATE_GROUP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(refs: &serde_json::Value, allowed: &[TargetKind]) -> (Vec<String>, Vec<(String, String)>) {
        let targets: PolicyTargets =
            serde_json::from_value(serde_json::json!({ "targetRefs": refs })).unwrap();
        let mut faults = Faults::default();
        let resolved = targets.resolve("shop", allowed, &mut faults);
        let faults = faults.0.into_iter().map(|f| (f.pointer, f.help.unwrap_or(f.message))).collect();
        (resolved.iter().map(ToString::to_string).collect(), faults)
    }

    #[test]
    fn group_and_namespace_are_filled_in() {
        let refs = serde_json::json!([
            {"kind": "HTTPRoute", "name": "checkout", "sectionName": "pay"},
            {"kind": "Service", "group": "", "name": "checkout", "namespace": "shop"},
            {"kind": "Namespace", "name": "shop"},
        ]);
        let (targets, faults) = resolve(&refs, &TargetKind::ALL);
        assert_eq!(targets, ["HTTPRoute shop/checkout#pay", "Service shop/checkout", "Namespace shop"]);
        assert_eq!(faults, []);
    }

    #[test]
    fn a_target_outside_the_policys_reach_is_refused_with_the_way_out() {
        let refs = serde_json::json!([
            {"kind": "Gateway", "name": "gw"},
            {"kind": "Service", "name": "s", "namespace": "other"},
            {"kind": "Namespace", "name": "other"},
            {"kind": "HTTPRoute", "group": "", "name": "r"},
            {"kind": "Namespace", "name": "shop", "sectionName": "x"},
            {"kind": "Service", "name": "s"},
            {"kind": "Service", "name": "s"},
        ]);
        let (targets, faults) =
            resolve(&refs, &[TargetKind::Namespace, TargetKind::HTTPRoute, TargetKind::Service]);
        assert_eq!(targets, ["Service shop/s"]);
        let faults: Vec<_> = faults.iter().map(|(p, m)| (p.as_str(), m.as_str())).collect();
        assert_eq!(
            faults,
            [
                ("/targetRefs/0/kind", "use one of Namespace, HTTPRoute, Service"),
                ("/targetRefs/1/namespace", "put the policy into namespace `other`"),
                ("/targetRefs/2/name", "put the policy into namespace `other`"),
                ("/targetRefs/3/group", "the group of HTTPRoute is \"gateway.networking.k8s.io\""),
                ("/targetRefs/4/sectionName", "a Namespace has no sections"),
                ("/targetRefs/6", "Service shop/s is written twice"),
            ]
        );
    }

    #[test]
    fn a_target_that_nothing_can_be_called_is_refused_here_and_not_by_every_proxy() {
        let refs = serde_json::json!([
            {"kind": "Service", "name": "a\u{7f}b"},
            {"kind": "Service", "name": "a/b"},
            {"kind": "HTTPRoute", "name": "r", "sectionName": "two words"},
            {"kind": "Service", "name": "fine"},
        ]);
        let (targets, faults) = resolve(&refs, &TargetKind::ALL);
        assert_eq!(targets, ["Service shop/fine"]);
        let places: Vec<_> = faults.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["/targetRefs/0/name", "/targetRefs/1/name", "/targetRefs/2/sectionName"]);
    }
}

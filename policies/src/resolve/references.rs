//! What policies name in other objects.
//!
//! A name that leads nowhere, or to what cannot be used, does not take the policy out of force: nobody gets rid of one by
//! deleting an object. What it does meanwhile is for its kind to say.

use std::borrow::Cow;

use super::Condition;
use super::objects::Objects;
use crate::kind::KindEntry;
use crate::kinds::find;
use crate::model::{Policy, ResourceName};

/// The policy with what it names, and which names are of no use.
pub(super) fn look_up<'p>(objects: &Objects<'_>, policy: &'p Policy) -> (Cow<'p, Policy>, Option<Condition>) {
    match find(&policy.kind) {
        Some(entry) => with(entry, objects, policy),
        None => (Cow::Borrowed(policy), None),
    }
}

fn with<'p>(
    entry: &KindEntry,
    objects: &Objects<'_>,
    policy: &'p Policy,
) -> (Cow<'p, Policy>, Option<Condition>) {
    let mut spec = policy.spec.clone();
    let faults = (entry.look_up)(&mut spec, &|name, key| text(objects, policy, (name, key)));
    let mut told: Vec<_> = faults
        .iter()
        .map(|fault| format!("{}: {}", policy.meta.at(policy.lines.line(&fault.pointer)), fault.message))
        .collect();
    let mut found = Cow::Borrowed(policy);
    if spec != policy.spec {
        let whole = Policy { spec, ..policy.clone() };
        match entry.compile(&whole) {
            Err(errors) if entry.compile(policy).is_ok() => {
                told.extend(errors.iter().map(|error| format!("{}: {error}", policy.meta.source)));
            }
            _ => found = Cow::Owned(whole),
        }
    }
    let condition = || Condition::fails("ResolvedRefs", "InvalidConfigMapRef", told.join("; "));
    (found, (!told.is_empty()).then(condition))
}

/// What is under `key` of a ConfigMap in the policy's namespace.
fn text(objects: &Objects<'_>, policy: &Policy, (name, key): (&str, &str)) -> Result<String, String> {
    let name = ResourceName::new(policy.meta.name.namespace.clone(), name);
    let object = objects.config_maps.get(&name).ok_or_else(|| format!("there is no ConfigMap {name}"))?;
    let bytes = object.spec.get(key).ok_or_else(|| format!("ConfigMap {name} has no `{key}`"))?;
    String::from_utf8(bytes).map_err(|_| format!("ConfigMap {name} has a `{key}` that is no text"))
}

//! Which policies hold where, and what they say.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{Fact, Facts};
use super::{Topic, places};
use crate::attach::Attachments;
use crate::kind::Merge;
use crate::kinds::find;
use crate::model::{Mode, Policy, PolicyKey, Resources};

pub(super) fn tell(resources: &Resources, facts: &mut Facts) {
    let attachments = Attachments::new(resources.policies.values());
    let mut in_force = BTreeSet::<PolicyKey>::new();
    for (name, chain) in places::all(resources) {
        let effective = attachments.effective(&chain);
        if effective.is_empty() {
            continue;
        }
        let mut fact = Fact::default();
        for policy in effective {
            in_force.insert(policy.key());
            let field = policy.kind.to_string();
            let name = policy.meta.name.to_string();
            // Of a kind that adds up there are several; their order makes no difference.
            let text = match fact.parts.remove(&field) {
                Some(others) => {
                    let mut all: Vec<_> = others.text.split(", ").map(str::to_owned).chain([name]).collect();
                    if find(&policy.kind).is_some_and(|entry| entry.merge == Merge::AddUp) {
                        all.sort();
                    }
                    all.join(", ")
                }
                None => name,
            };
            fact.say_at(field, text, policy.meta.source.clone());
        }
        facts.add(Topic::Holds, name, fact);
    }
    for policy in resources.policies.values() {
        let alone = find(&policy.kind).is_some_and(|entry| (entry.stands_alone)(&policy.spec));
        if alone || in_force.contains(&policy.key()) {
            facts.add(Topic::Policy, format!("{} {}", policy.kind, policy.meta.name), of_policy(policy));
        }
    }
}

fn of_policy(policy: &Policy) -> Fact {
    let mut fact = Fact::at(&policy.meta.source);
    if policy.mode == Mode::Shadow {
        fact.say("mode", "Shadow");
    }
    let plain = find(&policy.kind).and_then(|entry| (entry.plain)(&policy.spec));
    let spec = plain.as_ref().unwrap_or(&policy.spec);
    leaves(policy, spec, (String::from("spec"), String::new()), &mut fact);
    fact
}

/// Lists whose entries all count, in whatever order they are written.
const UNORDERED: [(&str, &str); 2] = [("RateLimitPolicy", "/limits"), ("AuthorizationPolicy", "/rules")];

/// Every value by its field. Entries of a list that have names are known by these.
fn leaves(policy: &Policy, value: &Value, (field, pointer): (String, String), fact: &mut Fact) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(policy, value, (format!("{field}.{key}"), format!("{pointer}/{key}")), fact);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            let names: Vec<_> =
                list.iter().filter_map(|one| one.get("name").and_then(Value::as_str)).collect();
            if names.len() > 1 && !UNORDERED.contains(&(&*policy.kind, &*pointer)) {
                let source = policy.meta.at(policy.lines.line(&pointer));
                fact.say_at(format!("{field}: order"), names.join(", "), source);
            }
            for (at, value) in list.iter().enumerate() {
                let name = value.get("name").and_then(Value::as_str);
                let unique = name.filter(|name| names.iter().filter(|other| *other == name).count() == 1);
                let field = match unique {
                    Some(name) => format!("{field}[{name}]"),
                    None => format!("{field}[{at}]"),
                };
                leaves(policy, value, (field, format!("{pointer}/{at}")), fact);
            }
        }
        leaf => {
            let source = policy.meta.at(policy.lines.line(&pointer));
            let text = match leaf {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            fact.say_at(field, text, source);
        }
    }
}

//! What the policy files promise, in the terms of [`super::judge`].
//!
//! Read with the policy core's own parser, so that the demo expects what the mesh was told and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tidegate_policy::model::{Mode, Policy, ResourceName, TargetKind};
use tidegate_policy::objects::{GepDuration, HttpRoute, Object};

use super::judge::{Breaker, UserLimit, Written};
use super::layout::NAMESPACE;

/// The pause of a breaker that does not say.
const USUAL_OPEN: Duration = Duration::from_secs(5);

/// Objects of the last good version each: an edit that is refused changes nothing, here as in the mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct InForce {
    objects: BTreeMap<(String, ResourceName), Object>,
}

impl InForce {
    /// Takes a new reading of the directory: what is there replaces what was; what is gone is gone, unless it may
    /// be hidden behind an error (`faulty`), in which case the last good version stays.
    pub(crate) fn update(&mut self, objects: Vec<Object>, faulty: bool) {
        if !faulty {
            self.objects.clear();
        }
        for object in objects {
            if let (Some(kind), Some(meta)) = (object.kind(), object.meta()) {
                self.objects.insert((kind.to_owned(), meta.name.clone()), object);
            }
        }
    }

    pub(crate) fn written(&self) -> Written {
        let mut written = Written::default();
        for object in self.objects.values() {
            match object {
                Object::HttpRoute(route) if is_parent(route, "checkout") => weights(route, &mut written),
                Object::Policy(policy) if policy.mode == Mode::Enforce => match &*policy.kind {
                    "RateLimitPolicy" => limits(policy, &mut written),
                    "CircuitBreakerPolicy" => breaker(policy, &mut written),
                    _ => {}
                },
                _ => {}
            }
        }
        written
    }
}

fn is_parent(route: &HttpRoute, service: &str) -> bool {
    let namespace = |given: &Option<String>| given.as_deref().unwrap_or(&route.meta.name.namespace) == NAMESPACE;
    route.spec.parent_refs.iter().any(|p| p.kind == "Service" && p.name == service && namespace(&p.namespace))
}

fn weights(route: &HttpRoute, written: &mut Written) {
    match route.spec.rules.as_slice() {
        [rule] => {
            for backend in &rule.backend_refs {
                *written.weights.entry(backend.name.clone()).or_default() += backend.weight;
            }
        }
        rules => written.unjudged.push(format!("{} with {} rules", route.meta.name, rules.len())),
    }
}

/// Whether the policy is attached to `service` itself, or is the default of its whole namespace.
fn covers(policy: &Policy, service: &str) -> bool {
    policy.targets.iter().any(|target| match target.kind {
        TargetKind::Service => *target.object.namespace == *NAMESPACE && *target.object.name == *service,
        TargetKind::Namespace => *target.object.name == *NAMESPACE,
        _ => false,
    })
}

fn limits(policy: &Policy, written: &mut Written) {
    if !covers(policy, "storefront") {
        return;
    }
    for (at, limit) in list(&policy.spec, "limits").iter().enumerate() {
        let name = limit["name"].as_str().map_or_else(|| format!("limits[{at}]"), str::to_owned);
        let mut keys = list(limit, "key").iter();
        let by_user = keys.len() == 1
            && keys.all(|key| {
                key["type"] == "Header"
                    && key["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("x-user"))
            });
        match user_limit(limit, name) {
            Ok(limit) if by_user => written.limits.push(limit),
            Ok(limit) => {
                let text = format!("{} {}: its keys are not `x-user` alone", policy.meta.name, limit.name);
                written.unjudged.push(text);
            }
            Err(name) => written.unjudged.push(format!("{} {name}: its rate", policy.meta.name)),
        }
    }
}

/// The limit, or its name back if its numbers cannot be read.
fn user_limit(limit: &Value, name: String) -> Result<UserLimit, String> {
    let requests = limit["requests"].as_f64();
    let Some((requests, per)) = requests.zip(duration(&limit["per"])).filter(|(_, per)| !per.is_zero()) else {
        return Err(name);
    };
    // Without a burst, a whole period's requests may come at once.
    let burst = limit["burst"].as_f64().unwrap_or(requests);
    Ok(UserLimit { name, rate: requests / per.as_secs_f64(), burst })
}

fn breaker(policy: &Policy, written: &mut Written) {
    if !covers(policy, "checkout-v2") {
        return;
    }
    let pauses =
        list(&policy.spec, "breakers").iter().map(|rule| duration(&rule["open"]).unwrap_or(USUAL_OPEN));
    let longest = pauses.chain(written.breaker.as_ref().map(|b| b.open)).max();
    written.breaker = longest.map(|open| Breaker { open });
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn duration(value: &Value) -> Option<Duration> {
    value.as_str()?.parse::<GepDuration>().ok().map(Duration::from)
}

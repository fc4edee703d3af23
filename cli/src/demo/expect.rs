//! What the policy files promise, in the terms of [`super::judge`].
//!
//! Read with the policy core's own parser, so that the demo expects what the mesh was told and nothing else.

use std::time::Duration;

use serde_json::Value;
use tidegate_policy::model::{Mode, Policy, TargetKind};
use tidegate_policy::objects::{GepDuration, HttpRoute, Object};

use super::judge::{Breaker, UserLimit, Written};
use super::layout::NAMESPACE;

/// The pause of a breaker that does not say.
const USUAL_OPEN: Duration = Duration::from_secs(5);

/// What `objects` promise: the ones in force, the last good version of each.
pub(crate) fn written<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Written {
    let mut written = Written::default();
    for object in objects {
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

fn is_parent(route: &HttpRoute, service: &str) -> bool {
    let namespace =
        |given: &Option<String>| given.as_deref().unwrap_or(&route.meta.name.namespace) == NAMESPACE;
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
    let Some((requests, per)) = requests.zip(duration(&limit["per"])).filter(|(_, per)| !per.is_zero())
    else {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::layout;
    use tidegate_policy::document;

    const FILES: [&str; 4] = [
        include_str!("../../../policies/examples/demo/mesh.yaml"),
        include_str!("../../../policies/examples/demo/canary.yaml"),
        include_str!("../../../policies/examples/demo/limits.yaml"),
        include_str!("../../../policies/examples/demo/breaker.yaml"),
    ];

    fn objects(text: &str) -> Vec<Object> {
        let parsed = document::parse(&"demo.yaml".into(), text);
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        parsed.objects
    }

    fn demo() -> Vec<Object> {
        FILES.iter().flat_map(|text| objects(text)).collect()
    }

    #[test]
    fn the_demos_own_files_say_what_the_demo_shows() {
        let written = written(&demo());
        assert_eq!(written.limits, [UserLimit { name: "user".into(), rate: 30.0, burst: 20.0 }]);
        assert_eq!(written.weights["checkout-v1"], 90);
        assert_eq!(written.weights["checkout-v2"], 10);
        assert_eq!(written.breaker, Some(Breaker { open: Duration::from_secs(2) }));
        assert_eq!(written.unjudged, [""; 0]);
    }

    #[test]
    fn the_demos_endpoints_are_where_its_sidecars_listen() {
        let mut found = 0;
        for object in demo() {
            let Object::EndpointSlice(slice) = object else { continue };
            let service = &slice.labels["kubernetes.io/service-name"];
            let port = slice.spec.ports[0].port;
            let workload = layout::WORKLOADS.iter().find(|w| port == Some(w.inbound)).unwrap();
            assert!(workload.serves.contains(&service.as_str()), "{service} at {port:?}");
            found += 1;
        }
        assert_eq!(found, 5);
    }

    #[test]
    fn a_policy_that_only_watches_promises_nothing() {
        let shadow = |text: &str| {
            objects(&text.replacen("spec:\n", "spec:\n  mode: Shadow\n", 1).replace("  mode: Enforce\n", ""))
        };
        assert_eq!(written(&shadow(FILES[2])).limits, []);
        assert_eq!(written(&shadow(FILES[3])).breaker, None);
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let by_path = FILES[2].replace("type: Header\n          name: x-user", "type: Path");
        assert_eq!(written(&objects(&by_path)).unjudged.len(), 1);
    }
}

//! Policies that routes name in their filters.

use super::*;
use crate::model::{PolicyKey, RouteFilter, fixture};

const LIMIT: &str = "
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: gentle, namespace: shop}
spec: {limits: [{name: all, requests: 1, per: 1s}]}
---
";

const OTHERS: &str = "
apiVersion: tidegate.io/v1alpha1
kind: CohortPolicy
metadata: {name: users, namespace: shop}
spec: {key: [{type: PeerIdentity}]}
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {name: caps, namespace: shop}
spec: {caps: [{scope: Backend, requests: 1}]}
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {name: more, namespace: shop}
spec: {caps: [{scope: Backend, requests: 2}]}
---
";

fn reference(group: &str, kind: &str, name: &str) -> String {
    format!("{{type: ExtensionRef, extensionRef: {{group: {group}, kind: {kind}, name: {name}}}}}")
}

fn ours(kind: &str, name: &str) -> String {
    reference("tidegate.io", kind, name)
}

/// A route whose rule has these filters, and its backendRef those.
fn resolved(rule: &str, backend: &str) -> Resolved {
    let more = format!(
        "  rules:\n  - name: pay\n    filters: [{rule}]\n    backendRefs: [{{name: cart, port: 80, filters: [{backend}]}}]"
    );
    with_cart(&(http_route("shop", "{name: gw}", &more) + LIMIT + OTHERS))
}

fn key(kind: &str, name: &str) -> RouteFilter {
    RouteFilter::Extension(PolicyKey { kind: kind.into(), name: fixture::name(name) })
}

#[test]
fn a_route_may_name_any_policy_of_its_namespace_at_a_rule_and_at_a_backend() {
    let resolved = resolved(
        &[ours("RateLimitPolicy", "gentle"), ours("CohortPolicy", "users")].join(", "),
        &ours("CircuitBreakerPolicy", "caps"),
    );
    assert_eq!(told(&resolved, "HTTPRoute shop/r")[..2], ["Accepted=Accepted", "ResolvedRefs=ResolvedRefs"]);
    let rule = &resolved.resources.routes[&(RouteKind::Http, name("r"))].rules[0];
    assert_eq!(rule.filters, [key("RateLimitPolicy", "gentle"), key("CohortPolicy", "users")]);
    assert_eq!(rule.backends[0].filters, [key("CircuitBreakerPolicy", "caps")]);
}

#[test]
fn what_cannot_be_resolved_becomes_a_failure_and_is_told_with_its_line_and_the_nearest_name() {
    let breakers = [ours("CircuitBreakerPolicy", "caps"), ours("CircuitBreakerPolicy", "more")].join(", ");
    for (rule, backend, want) in [
        (
            &ours("RateLimitPolicy", "gentel")[..],
            "",
            "PolicyNotFound: shop.yaml:29: there is no RateLimitPolicy shop/gentel (did you mean `gentle`?)",
        ),
        (
            &ours("RateLimitPolicy", "users"),
            "",
            "PolicyNotFound: shop.yaml:29: there is no RateLimitPolicy shop/users",
        ),
        (
            &ours("RateLimitPolcy", "gentle"),
            "",
            "InvalidKind: shop.yaml:29: `RateLimitPolcy` is not a policy kind (did you mean `RateLimitPolicy`?)",
        ),
        (
            &reference("example.com", "RateLimitPolicy", "gentle"),
            "",
            "InvalidKind: shop.yaml:29: no filter is of the group `example.com`; policies are of tidegate.io",
        ),
        (
            "",
            &ours("CohortPolicy", "users"),
            "IncompatibleFilters: shop.yaml:30: a CohortPolicy picks among backendRefs: name it in the rule's filters",
        ),
        (
            &breakers,
            "",
            "IncompatibleFilters: shop.yaml:29: a second CircuitBreakerPolicy beside the first: name one",
        ),
    ] {
        let resolved = resolved(rule, backend);
        let conditions = &resolved.conditions[&super::super::key("HTTPRoute", &name("r"))];
        let refs = conditions.iter().find(|c| c.kind == "ResolvedRefs").unwrap();
        assert!(!refs.holds);
        assert_eq!(format!("{}: {}", refs.reason, refs.message), want);
        let rule = &resolved.resources.routes[&(RouteKind::Http, name("r"))].rules[0];
        let all = rule.filters.iter().chain(&rule.backends[0].filters);
        assert_eq!(all.last(), Some(&RouteFilter::Invalid), "never skipped");
    }
}

#[test]
fn a_policy_without_targets_is_fine_where_a_route_names_it_and_told_of_where_none_does() {
    let resolved = resolved(&ours("RateLimitPolicy", "gentle"), "");
    assert_eq!(told(&resolved, "RateLimitPolicy shop/gentle"), ["Accepted=Accepted"]);
    let ancestors = &resolved.ancestors[&super::super::key("RateLimitPolicy", &name("gentle"))];
    let targets: Vec<_> = ancestors.iter().map(|ancestor| ancestor.target.to_string()).collect();
    assert_eq!(targets, ["HTTPRoute shop/r#pay"]);
    let conditions = &resolved.conditions[&super::super::key("CohortPolicy", &name("users"))];
    assert_eq!(conditions.len(), 1);
    assert_eq!(
        (conditions[0].kind, conditions[0].holds, conditions[0].reason),
        ("Accepted", false, "TargetNotFound")
    );
    assert!(
        conditions[0]
            .message
            .ends_with(": has no targetRefs, and no route names it in an ExtensionRef: it has no effect"),
        "{}",
        conditions[0].message
    );
}

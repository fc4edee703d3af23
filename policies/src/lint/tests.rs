use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::document::parse;
use crate::resolve::resolve;

mod limits;
mod policies;
mod routes;

/// A gateway, a Service `web` of two endpoints behind it, and a Backend of one.
const MESH: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: shop, protocol: HTTP, port: 80, hostname: "*.shop.test"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}]
ports: [{port: 3000}]
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {name: one}
spec: {endpoints: [{address: 127.0.0.1, port: 1}]}
---
"#;

/// A route of one rule to `web` with these matches.
fn route(name: &str, more: &str, matches: &str) -> String {
    format!(
        r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: gw}}]
  {more}
  rules:
  - matches: [{matches}]
    backendRefs: [{{name: web, port: 80}}]
---
"#
    )
}

fn policy(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "\napiVersion: tidegate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{spec}\n---\n"
    )
}

fn findings(documents: &str) -> Vec<Finding> {
    let text = format!("{MESH}{documents}");
    let parsed = parse(&"mesh.yaml".into(), &text);
    assert_eq!(parsed.diagnostics.iter().filter(|d| d.is_error()).collect::<Vec<_>>(), [] as [&_; 0]);
    let resolved = resolve(&parsed.objects);
    lint(&parsed.objects, &resolved)
}

/// `lint kind name pointer`, of all that is told.
fn told(documents: &str) -> Vec<String> {
    let words = |one: Finding| format!("{} {} {}{}", one.lint, one.object.kind, one.object.name, one.pointer);
    findings(documents).into_iter().map(words).collect()
}

fn silent(documents: &str) {
    assert_eq!(findings(documents), [] as [Finding; 0]);
}

#[test]
fn every_lint_has_a_name_of_its_own_in_order_and_an_explanation_with_an_example() {
    let names: Vec<_> = LINTS.iter().map(|lint| lint.name).collect();
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!((unique.len(), names.is_sorted()), (names.len(), true));
    for lint in LINTS {
        assert!(lint.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", lint.name);
        assert!(lint.explanation.contains("\n    "), "{} has no example", lint.name);
        let long = lint.explanation.lines().find(|line| line.starts_with(' ') && line.chars().count() > 118);
        assert_eq!(long, None, "{}", lint.name);
        assert_eq!(find(lint.name).unwrap().about, lint.about);
    }
    assert_eq!(nearest("unreachable-rules"), Some("unreachable-rule"));
}

#[test]
fn a_finding_knows_its_line_and_that_of_what_it_has_to_do_with() {
    let both = route("a", "", "{path: {value: /x}}") + &route("b", "", "{path: {value: /x}}");
    let found = findings(&both);
    let [finding] = &found[..] else { panic!("{found:?}") };
    let line = |text: &str| {
        let all = format!("{MESH}{both}");
        all.match_indices(text).map(|(at, _)| all[..at].lines().count() + 1).collect::<Vec<_>>()
    };
    let rules = line("  - matches");
    let at =
        |line: usize| SourceRef::File { path: Arc::from("mesh.yaml"), line: u32::try_from(line).unwrap() };
    assert_eq!(finding.source, at(rules[1]));
    assert_eq!(finding.related[0].0, at(rules[0]));
}

#[test]
fn the_mesh_of_these_tests_is_without_a_finding() {
    silent(&route("a", "", "{path: {value: /x}}"));
}

//! Documents as people write them, good and bad: every fault is told at once, each with its line.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test outside the crate: it reads examples"
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use tidegate_policy::document::{Diagnostic, Parsed, from_value, parse};
use tidegate_policy::objects::{Object, PathMatchType};

fn read(text: &str) -> Parsed {
    parse(&Arc::from("a.yaml"), text)
}

fn told(parsed: &Parsed) -> Vec<String> {
    parsed.diagnostics.iter().map(ToString::to_string).collect()
}

/// Every example, those in folders too.
fn examples() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: r
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches:
    - path: {type: RegularExpression, value: 'a('}
      headers:
      - {name: 'bad name', value: x}
    backendRefs:
    - {name: a, port: 80, weight: 1000001}
    - {name: b, prot: 80}
    filters:
    - {type: ExternalAuth, externalAuth: {}}
    timeouts: {request: 1s}
";

#[test]
fn every_fault_is_told_at_once_with_its_line() {
    let parsed = read(ROUTE);
    assert_eq!(
        told(&parsed),
        [
            "a.yaml:9:46: error: spec.rules[0].matches[0].path.value: `a(` is not a regular expression: unclosed group",
            "a.yaml:11:16: error: spec.rules[0].matches[0].headers[0].name: `bad name` is not a header name",
            "a.yaml:13:35: error: spec.rules[0].backendRefs[0].weight: must be between 0 and 1000000, got the number 1000001",
            "a.yaml:14:17: error: spec.rules[0].backendRefs[1].prot: unknown field (did you mean `port`?)",
            "a.yaml:16:14: error: spec.rules[0].filters[0].type: the filter ExternalAuth is not supported yet",
        ]
    );
    assert_eq!(parsed.failed[0].to_string(), "HTTPRoute default/r");
    assert!(parsed.complete && parsed.objects.is_empty());
}

#[test]
fn a_duration_of_another_form_is_refused_with_the_right_one() {
    let parsed = read(&ROUTE.replace("1s", "1 s"));
    assert!(told(&parsed).iter().any(|t| t
        == "a.yaml:17:25: error: spec.rules[0].timeouts.request: the string `1 s` does not have the right form \
            (A duration such as 500ms, 10s or 1h30m (GEP-2257))"));
}

const RETRY: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules:
  - backendRefs: [{name: a, port: 80}]
    timeouts: {request: 1s}
";

#[test]
fn a_retry_stanza_is_judged_field_by_field() {
    let parsed =
        read(&format!("{RETRY}    retry: {{codes: [503, 200], attempts: -1, backoff: 1, jitter: 1s}}\n"));
    assert_eq!(
        told(&parsed),
        [
            "a.yaml:9:26: error: spec.rules[0].retry.codes[1]: must be between 400 and 599, got the number 200",
            "a.yaml:9:42: error: spec.rules[0].retry.attempts: must be between 0 and 4294967295, got the number -1",
            "a.yaml:9:55: error: spec.rules[0].retry.backoff: expected a string, got the number 1 (write the unit too: 1s)",
            "a.yaml:9:58: error: spec.rules[0].retry.jitter: unknown field (known here: attempts, backoff, codes)",
        ]
    );
    let parsed = read(&format!("{RETRY}    retry: {{attempts: 500, backoff: 2s}}\n"));
    assert_eq!(
        told(&parsed),
        [
            "a.yaml:9:23: warning: spec.rules[0].retry.attempts: 500 retries; no more than 100 are made",
            "a.yaml:9:37: warning: spec.rules[0].retry.backoff: after 2s the whole request has timed out (1s): \
             nothing is ever retried",
        ]
    );
    assert_eq!(parsed.objects.len(), 1);
}

#[test]
fn targets_of_a_policy_are_checked_beside_its_other_faults() {
    let parsed = read(
        "\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: p}
spec:
  mode: Shadwo
  targetRef: []
  targetRefs:
  - {kind: Carrot, name: x}
",
    );
    let told = told(&parsed);
    for expected in [
        "a.yaml:5:9: error: spec.mode: must be one of Enforce, Shadow, got the string `Shadwo` (did you mean `Shadow`?)",
        "a.yaml:6:3: error: spec.targetRef: unknown field (did you mean `targetRefs`?)",
    ] {
        assert!(told.iter().any(|t| t == expected), "{told:?}");
    }
    assert_eq!(parsed.failed[0].to_string(), "RateLimitPolicy default/p");
}

#[test]
fn a_wrong_type_says_what_was_written_and_what_to_write() {
    let parsed = read(
        "\
apiVersion: v1
kind: Service
metadata:
  name: 5
  labels: {app: true}
spec:
  ports:
    name: http
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {name: b}
spec:
  endpoints:
  - {address: 10.0.0.1, port: '80'}
  - {address: [], port: 70000}
  - 7
  protocol: H2
",
    );
    assert_eq!(
        told(&parsed),
        [
            "a.yaml:4:9: error: metadata.name: expected a string, got the number 5 (put it in quotes: \"5\")",
            "a.yaml:5:17: error: metadata.labels.app: expected a string, got the boolean true (put it in quotes: \"true\")",
            "a.yaml:8:5: error: spec.ports: expected a list, got a mapping (begin each item of the list with `- `)",
            "a.yaml:15:31: error: spec.endpoints[0].port: expected an integer, got the string `80` (write 80 without quotes)",
            "a.yaml:16:15: error: spec.endpoints[1].address: expected a string, got a list",
            "a.yaml:16:25: error: spec.endpoints[1].port: must be between 1 and 65535, got the number 70000",
            "a.yaml:17:5: error: spec.endpoints[2]: expected a mapping, got the number 7",
            "a.yaml:18:13: error: spec.protocol: must be one of HTTP1, H2C, got the string `H2` (did you mean `H2C`?)",
        ]
    );
    // A name that is not a string identifies nothing: an object may hide here.
    assert!(!parsed.complete);
    assert_eq!(parsed.failed.len(), 1);
}

#[test]
fn missing_and_misplaced_fields_are_named() {
    let parsed = read(
        "\
apiVersion: gateway.networking.k8s.io/v2
kind: Gateway
metadata:
  nmae: gw
  uid: 1234
listeners: []
spec:
  gatewayClassName: null
  listeners: []
status: {anything: [goes]}
",
    );
    assert_eq!(
        told(&parsed),
        [
            "a.yaml:1:13: error: apiVersion: `gateway.networking.k8s.io/v2` is not a supported version of Gateway \
             (use gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1)",
            "a.yaml:4:3: error: metadata.name: is required",
            "a.yaml:4:3: error: metadata.nmae: unknown field (did you mean `name`?)",
            "a.yaml:6:1: error: listeners: unknown field (`listeners` belongs under `spec`)",
            "a.yaml:8:3: error: spec.gatewayClassName: is required",
            "a.yaml:9:14: error: spec.listeners: needs at least 1, has 0",
        ]
    );
}

#[test]
fn an_unknown_kind_is_an_error_a_foreign_one_a_warning() {
    let parsed = read(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: HttpRoutes
metadata: {name: r}
---
apiVersion: apps/v1
kind: Deployment
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
kind: Carrot
apiVersion: garden/v1
",
    );
    let told = told(&parsed);
    assert_eq!(told[0], "a.yaml:2:7: error: kind: unknown kind `HttpRoutes` (did you mean `HTTPRoute`?)");
    assert_eq!(told[1], "a.yaml:6:7: warning: kind: Deployment is not used by the mesh: passed over");
    assert!(
        told[2].starts_with("a.yaml:12:7: error: kind: unknown kind `Carrot` (known kinds: GatewayClass, ")
    );
    assert_eq!(told.len(), 3);
    assert!(!parsed.complete, "a misspelt kind hides an object");
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {ports: [{port: 80}]}\n";

fn service(name: &str) -> String {
    SERVICE.replace("NAME", name)
}

#[test]
fn a_syntax_error_costs_its_document_and_not_its_neighbours() {
    let text = format!("{}---\nkind: [\n  a: }}\n---\n{}", service("before"), service("after"));
    let parsed = read(&text);
    assert_eq!(parsed.objects.len(), 2);
    assert!(!parsed.complete);
    assert_eq!(parsed.diagnostics.len(), 1, "{:?}", told(&parsed));
    assert_eq!(parsed.diagnostics[0].line, 7, "{:?}", told(&parsed));
}

#[test]
fn a_quote_that_is_never_closed_costs_its_document_only() {
    let text = format!("kind: \"Gate\n---\n{}", service("after"));
    let parsed = read(&text);
    assert_eq!((parsed.objects.len(), parsed.complete), (1, false));
}

#[test]
fn an_object_that_is_there_is_not_lost_to_a_second_one_that_breaks_off() {
    let deep = format!("more: {}{}\n", "[".repeat(70), "]".repeat(70));
    let parsed = read(&format!("{}---\n{}{deep}", service("a"), service("a")));
    assert_eq!((parsed.objects.len(), parsed.failed.len()), (1, 0), "{:?}", told(&parsed));
    assert!(told(&parsed).iter().any(|told| told.contains("is defined twice")), "{:?}", told(&parsed));
}

#[test]
fn tabs_are_pointed_out() {
    let parsed = read("kind: Gateway\nmetadata:\n\tname: x\n");
    assert_eq!(parsed.diagnostics[0].line, 3, "{:?}", told(&parsed));
    let help = parsed.diagnostics[0].help.as_deref();
    assert_eq!(help, Some("indent with spaces: YAML does not allow tabs there"));
}

#[test]
fn a_key_written_twice_names_both_lines() {
    let parsed = read(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports: []\n  type: a\n  ports: []\n",
    );
    assert_eq!(told(&parsed), ["a.yaml:7:3: error: key `ports` is written twice, on lines 5 and 7"]);
    assert_eq!(parsed.failed[0].to_string(), "Service default/s");
}

#[test]
fn keys_that_are_no_strings_are_refused() {
    let parsed =
        read("apiVersion: v1\nkind: Service\nmetadata: {name: s, labels: {1: a}}\nspec: {? [x] : y}\n");
    let lines: Vec<_> = parsed.diagnostics.iter().map(|d| (d.line, d.message.as_str())).collect();
    assert_eq!(
        lines,
        [(3, "a key must be a string: put it in quotes"), (4, "a key must be a string: put it in quotes")]
    );
}

#[test]
fn an_alias_bomb_is_refused_before_it_goes_off() {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (last, next) in ["ab", "bc", "cd", "de", "ef", "fg", "gh"].iter().map(|p| p.split_at(1)) {
        text.push_str(&format!("{next}: &{next} [{}]\n", vec![format!("*{last}"); 10].join(", ")));
    }
    let parsed = read(&text);
    assert!(
        told(&parsed).iter().any(|t| t.contains("a.yaml:6:8:") && t.contains("more than 200000 values")),
        "{:?}",
        told(&parsed)
    );
    assert!(!parsed.complete);
}

#[test]
fn aliases_are_expanded_and_may_not_be_endless() {
    let good = "apiVersion: v1\nkind: Service\nmetadata: {name: &n s, labels: {app: *n}}\nspec: {selector: {app: *n}}\n";
    assert_eq!(told(&read(good)), Vec::<String>::new());
    assert!(told(&read("a: &a [*a]\n"))[2].contains("no complete anchor"));
    assert!(!read("a: *nowhere\n").complete);
}

#[test]
fn deep_nesting_is_refused() {
    for depth in [70, 250, 100_000] {
        let parsed = read(&format!("a: {}", "[".repeat(depth)));
        assert!(!parsed.complete && !parsed.diagnostics.is_empty(), "{depth}");
    }
    let closed = read(&format!("kind: {}{}\n---\n{}", "[".repeat(70), "]".repeat(70), service("after")));
    assert!(told(&closed)[0].contains("nested more than 64 levels deep"), "{:?}", told(&closed));
    assert_eq!(closed.objects.len(), 1);
}

#[test]
fn a_file_that_is_too_big_is_not_read() {
    let parsed = read(&"# ten megabytes\n".repeat(10 << 16));
    assert_eq!(
        told(&parsed),
        ["a.yaml:1:1: error: the file is larger than 4 MiB (split it into several files)"]
    );
    assert!(!parsed.complete);
}

#[test]
fn an_empty_file_is_only_a_warning() {
    for text in ["", "\n\n", "# nothing\n", "---\n---\n", "\u{feff}"] {
        let parsed = read(text);
        assert_eq!(told(&parsed), ["a.yaml:1:1: warning: the file is empty: it defines nothing"], "{text:?}");
        assert!(parsed.complete);
    }
}

#[test]
fn the_same_object_twice_in_a_file_is_an_error_and_the_first_counts() {
    let parsed = read(&format!("{}---\n{}", service("s"), service("s")));
    assert_eq!(
        told(&parsed),
        ["a.yaml:8:18: error: metadata.name: Service default/s is defined twice: the one on line 1 counts"]
    );
    assert_eq!(parsed.objects.len(), 1);
}

#[test]
fn a_list_is_unpacked_and_json_is_yaml() {
    let item =
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"NAME"},"spec":{"ports":[{"port":80}]}}"#;
    let items = format!("{},\n{}", item.replace("NAME", "a"), item.replace("NAME", "b"));
    let parsed = read(&format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{items}]}}\n"));
    assert_eq!(told(&parsed), Vec::<String>::new());
    assert_eq!(parsed.objects.len(), 2);
    assert_eq!(parsed.objects[1].meta().unwrap().source.to_string(), "a.yaml:2");
}

#[test]
fn names_must_be_names() {
    let parsed = read(&format!("{}---\n{}", service("Upper"), service("ok, namespace: a.b")));
    let fields: Vec<_> = parsed.diagnostics.iter().map(|d| (d.line, d.field.as_str())).collect();
    assert_eq!(fields, [(3, "metadata.name"), (8, "metadata.namespace")]);
}

#[test]
fn an_object_from_a_cluster_passes_the_same_checks() {
    let mut object = json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "Backend",
        "metadata": {
            "name": "b", "namespace": "shop", "generation": 7, "uid": "x", "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"f:spec": {}}],
        },
        "spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}], "protocol": null},
        "status": {"conditions": []},
    });
    let Object::Backend(backend) = from_value(&object).unwrap() else { panic!("not a Backend") };
    assert_eq!(backend.meta.source.to_string(), "shop/b@7");
    assert_eq!(backend.meta.created, Some(1_767_225_600));
    assert_eq!((backend.spec.port(), backend.spec.endpoints[0].weight), (80, 1));
    assert_eq!(backend.lines.0.len(), 0);

    object["spec"]["endpoints"][0]["port"] = json!(0);
    object["spec"]["endpoints"][0]["adress"] = json!("x");
    let told: Vec<_> = from_value(&object).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "Backend shop/b: error: spec.endpoints[0].port: must be between 1 and 65535, got the number 0",
            "Backend shop/b: error: spec.endpoints[0].adress: unknown field (did you mean `address`?)",
        ]
    );
}

#[test]
fn a_cluster_may_hold_kinds_that_are_not_used() {
    let job = json!({"apiVersion": "v1", "kind": "Job", "metadata": {"name": "shop"}});
    assert_eq!(from_value(&job).unwrap(), Object::Ignored);
    assert!(from_value(&json!({"kind": "Carrot", "apiVersion": "v1"})).is_err());
    assert!(from_value(&json!([])).is_err());
}

#[test]
fn a_kind_of_the_whole_cluster_has_no_namespace_and_a_namespace_needs_no_spec() {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let namespace = from_value(&namespace).unwrap();
    assert_eq!(namespace.meta().unwrap().name.to_string(), "shop");
    let parsed = read(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: edge, namespace: shop}
spec: {controllerName: edge}
",
    );
    let wrong = "a.yaml:4:24: error: spec.controllerName: `edge` is not of the form example.com/name";
    assert_eq!(told(&parsed), [wrong]);
    assert_eq!(parsed.failed[0].to_string(), "GatewayClass edge");
}

#[test]
fn a_listener_set_is_checked_like_the_listeners_of_a_gateway_and_names_one() {
    let set = |parent: &str, listeners: &[&str]| {
        let listeners: String = listeners.iter().map(|listener| format!("  - {{{listener}}}\n")).collect();
        read(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: s}}\n\
             spec:\n  parentRef: {{{parent}}}\n  listeners:\n{listeners}"
        ))
    };
    let http = "name: a, port: 80, protocol: HTTP";
    let fine = set("name: gw", &[http]);
    let [Object::ListenerSet(fine)] = &fine.objects[..] else { panic!("{:?}", told(&fine)) };
    let parent = &fine.spec.parent_ref;
    assert_eq!((&*parent.group, &*parent.kind), ("gateway.networking.k8s.io", "Gateway"));
    assert_eq!((&parent.namespace, fine.lines.line("/listeners/0")), (&None, Some(7)));
    let parsed = set(
        "name: gw",
        &[
            "name: a, port: 80, protocol: HTTP, hostname: a.example.com",
            "name: a, port: 80, protocol: HTTP, hostname: a.example.com",
            "name: b, port: 443, protocol: HTTPS",
            "name: c, port: 81, protocol: TCP, hostname: a.example.com",
            "name: e, port: 82, protocol: HTTP, tls: {}",
            "name: f, port: 83, protocol: HTTP, allowedRoutes: {namespaces: {selector: {}}}",
        ],
    );
    let lines: Vec<_> = parsed.diagnostics.iter().map(|d| (d.line, d.field.as_str(), d.is_error())).collect();
    assert_eq!(
        lines,
        [
            (8, "spec.listeners[1]", true),
            (8, "spec.listeners[1].name", true),
            (9, "spec.listeners[2]", true),
            (10, "spec.listeners[3].hostname", true),
            (11, "spec.listeners[4].tls", true),
            (12, "spec.listeners[5].allowedRoutes.namespaces.selector", false),
        ]
    );
    for (parent, listeners, field) in [
        ("name: gw, sectionName: a", &[http][..], "spec.parentRef.sectionName"),
        ("namespace: infra", &[http], "spec.parentRef.name"),
        ("name: gw", &["name: a, protocol: HTTP"], "spec.listeners[0].port"),
        ("name: gw", &[], "spec.listeners"),
    ] {
        let parsed = set(parent, listeners);
        assert_eq!(parsed.diagnostics[0].field, field, "{:?}", told(&parsed));
    }
}

#[test]
fn a_gateway_lets_nobody_add_listeners_unless_it_says_whom() {
    use tidegate_policy::objects::FromNamespaces::{None, Same, Selector};
    for (written, from, findings) in [
        ("{}", None, vec![]),
        ("{namespaces: {}}", None, vec![]),
        ("{namespaces: {from: Same}}", Same, vec![]),
        ("{namespaces: {selector: {}}}", None, vec!["spec.allowedListeners.namespaces.selector"]),
        ("{namespaces: {from: Selector}}", Selector, vec!["spec.allowedListeners.namespaces"]),
        ("{namespaces: {from: Some}}", None, vec!["spec.allowedListeners.namespaces.from"]),
        ("{namespace: {}}", None, vec!["spec.allowedListeners.namespace"]),
    ] {
        let parsed = read(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  \
             gatewayClassName: tidegate\n  listeners: [{{name: a, port: 80, protocol: HTTP}}]\n  \
             allowedListeners: {written}\n"
        ));
        let fields: Vec<_> = parsed.diagnostics.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(fields, findings, "{written}");
        if let [Object::Gateway(gateway)] = &parsed.objects[..] {
            assert_eq!(gateway.spec.allowed_listeners.namespaces.from, from, "{written}");
        } else {
            assert!(!findings.is_empty(), "{written}");
        }
    }
}

#[test]
fn defaults_are_those_of_the_gateway_api() {
    let text = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs:
  - name: gw
  rules:
  - backendRefs:
    - {name: a, port: 80}
";
    let parsed = read(text);
    let [Object::HttpRoute(route)] = &parsed.objects[..] else { panic!("{:?}", told(&parsed)) };
    let rule = &route.spec.rules[0];
    assert_eq!((rule.matches[0].path.kind, &*rule.matches[0].path.value), (PathMatchType::PathPrefix, "/"));
    assert_eq!(
        (&*rule.backend_refs[0].kind, &*rule.backend_refs[0].group, rule.backend_refs[0].weight),
        ("Service", "", 1)
    );
    assert_eq!(
        (&*route.spec.parent_refs[0].kind, &*route.spec.parent_refs[0].group),
        ("Gateway", "gateway.networking.k8s.io")
    );
    assert_eq!(&*route.meta.name.namespace, "default");
    assert_eq!(route.meta.source.to_string(), "a.yaml:1");
    let line = |pointer| route.lines.line(pointer);
    assert_eq!(
        (line("/parentRefs/0"), line("/rules/0"), line("/rules/0/backendRefs/0")),
        (Some(6), Some(8), Some(9))
    );

    let without_rules = read(&text[..text.find("  rules").unwrap()]);
    let [Object::HttpRoute(route)] = &without_rules.objects[..] else { panic!("{:?}", told(&without_rules)) };
    assert_eq!(route.spec.rules.len(), 1);
}

#[test]
fn the_limits_of_the_route_are_kept() {
    let rule = |name: &str, matches: usize| {
        let one = "{path: {value: /x}}";
        format!(
            "  - {{name: {name}, matches: [{}], backendRefs: [{{name: a, port: 80}}]}}\n",
            vec![one; matches].join(", ")
        )
    };
    let route = |rules: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  parentRefs: [{{name: g}}]\n  rules:\n{rules}"
        )
    };
    let many: String = (0..17).map(|i| rule(&format!("r{i}"), 1)).collect();
    assert_eq!(told(&read(&route(&many))), ["a.yaml:7:5: error: spec.rules: at most 16 are allowed, has 17"]);
    assert_eq!(
        told(&read(&route(&rule("a", 65)))),
        ["a.yaml:7:24: error: spec.rules[0].matches: at most 64 are allowed, has 65"]
    );
    let three: String = ["a", "b", "c"].iter().map(|n| rule(n, 43)).collect();
    assert_eq!(
        told(&read(&route(&three))),
        ["a.yaml:7:5: error: spec.rules: 129 matches in all; at most 128 are allowed"]
    );
    let same = [rule("a", 1), rule("a", 1)].concat();
    assert_eq!(
        told(&read(&route(&same))),
        ["a.yaml:8:12: error: spec.rules[1].name: rule 0 is named `a` too"]
    );
}

#[test]
fn a_gateway_refuses_what_it_cannot_do_and_what_is_written_twice() {
    let parsed = read(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: a, port: 80, protocol: HTTP, hostname: a.example.com}
  - {name: a, port: 80, protocol: HTTP, hostname: a.example.com}
  - {name: b, port: 443, protocol: HTTPS}
  - {name: c, port: 81, protocol: HTTP, hostname: 10.0.0.1}
  - {name: d, port: 82, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}
  - {name: E, port: 83, protocol: HTTP}
  addresses: [{value: nowhere}]
",
    );
    let lines: Vec<_> = parsed.diagnostics.iter().map(|d| (d.line, d.field.as_str())).collect();
    assert_eq!(
        lines,
        [
            (8, "spec.listeners[1]"),
            (8, "spec.listeners[1].name"),
            (9, "spec.listeners[2]"),
            (10, "spec.listeners[3].hostname"),
            (11, "spec.listeners[4].allowedRoutes.namespaces"),
            (12, "spec.listeners[5].name"),
            (13, "spec.addresses[0].value"),
        ]
    );
    assert!(told(&parsed)[2].contains("protocol HTTPS needs `tls`"));
}

#[test]
fn a_listener_says_what_becomes_of_tls_if_and_only_if_its_protocol_has_it() {
    let parsed = read(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: a, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: c}]}}
  - {name: b, port: 81, protocol: HTTPS, tls: {}}
  - {name: c, port: 82, protocol: HTTPS, tls: {mode: Passthrough, certificateRefs: [{name: c}]}}
  - {name: d, port: 83, protocol: TLS, tls: {mode: Passthrough}}
  - {name: e, port: 84, protocol: HTTPS, tls: {mode: Terminate, certificateRefs: [{kind: Secret, name: c}]}}
  - {name: f, port: 85, protocol: TLS}
  - {name: g, port: 86, protocol: TLS, tls: {}}
  - {name: h, port: 87, protocol: TCP, tls: {mode: Passthrough}}
  - {name: i, port: 88, protocol: TCP, hostname: a.example.com}
  - {name: j, port: 89, protocol: TLS, tls: {certificateRefs: [{name: c}]}}
  - {name: k, port: 90, protocol: TCP}
",
    );
    assert_eq!(
        told(&parsed),
        [
            "a.yaml:7:46: error: spec.listeners[0].tls: protocol HTTP has no TLS: use protocol HTTPS",
            "a.yaml:8:47: error: spec.listeners[1].tls: protocol HTTPS needs a certificate in `certificateRefs`",
            "a.yaml:9:54: error: spec.listeners[2].tls.mode: protocol HTTPS ends TLS here: the mode is Terminate",
            "a.yaml:12:5: error: spec.listeners[5]: protocol TLS needs `tls`: `mode: Passthrough`, or the certificate \
             to show",
            "a.yaml:13:45: error: spec.listeners[6].tls: protocol TLS needs a certificate in `certificateRefs`",
            "a.yaml:14:45: error: spec.listeners[7].tls: protocol TCP has no TLS: use protocol TLS",
            "a.yaml:15:50: error: spec.listeners[8].hostname: protocol TCP knows no names: leave `hostname` out",
        ]
    );
}

#[test]
fn a_listener_of_a_protocol_that_is_not_served_leaves_its_gateway_valid() {
    let gateway = |protocol: &str| {
        format!(
            "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gw}}
spec:
  gatewayClassName: tidegate
  listeners:
  - {{name: a, port: 53, protocol: {protocol}}}
  - {{name: b, port: 80, protocol: HTTP}}
"
        )
    };
    for protocol in ["UDP", "htpp", "example.com/bar"] {
        let parsed = read(&gateway(protocol));
        let told = told(&parsed);
        let expected = format!("no listener of protocol {protocol} is served: use HTTP, HTTPS, TLS or TCP");
        assert!(told.len() == 1 && told[0].contains("warning") && told[0].ends_with(&expected), "{told:?}");
        assert_eq!(parsed.objects.len(), 1);
    }
    assert!(told(&read(&gateway("'a b'")))[0].contains("does not have the right form"));
}

#[test]
fn routes_of_connections_have_one_rule_with_backends_and_a_tls_route_has_names() {
    let route = |kind: &str, version: &str, spec: &str| {
        format!(
            "\
apiVersion: gateway.networking.k8s.io/{version}
kind: {kind}
metadata: {{name: r}}
spec:
  parentRefs: [{{name: gw}}]
{spec}
"
        )
    };
    let rule = "rules: [{backendRefs: [{name: a, port: 1}]}]";
    let hosts = "hostnames: ['*.example.com']";
    for (kind, version, spec, expected) in [
        ("TCPRoute", "v1", format!("  {rule}"), ""),
        ("TCPRoute", "v1alpha2", format!("  {rule}"), ""),
        ("UDPRoute", "v1", format!("  {rule}"), ""),
        ("TLSRoute", "v1alpha3", format!("  {hosts}\n  {rule}"), ""),
        ("TCPRoute", "v1alpha3", format!("  {rule}"), "use gateway.networking.k8s.io/v1 or"),
        ("TCPRoute", "v1", format!("  {hosts}\n  {rule}"), "spec.hostnames: unknown field"),
        ("TLSRoute", "v1", format!("  {rule}"), "spec.hostnames: is required"),
        ("TLSRoute", "v1", format!("  hostnames: []\n  {rule}"), "needs at least 1, has 0"),
        ("TLSRoute", "v1", format!("  hostnames: [10.0.0.1]\n  {rule}"), "is an IP address"),
        ("TCPRoute", "v1", String::from("  rules: []"), "needs at least 1, has 0"),
        ("TCPRoute", "v1", String::from("  rules: [{}]"), "backendRefs: is required"),
        ("TCPRoute", "v1", String::from("  rules: [{backendRefs: []}]"), "needs at least 1, has 0"),
        (
            "TCPRoute",
            "v1",
            String::from("  rules: [{backendRefs: [{name: a}]}]"),
            "needs a `port` (add `port`; to name a Backend, add `group: tidegate.io, kind: Backend`)",
        ),
        (
            "TCPRoute",
            "v1",
            String::from("  rules: [{backendRefs: [{name: a, port: 1, weight: 1000001}]}]"),
            "must be between 0 and 1000000",
        ),
        (
            "TCPRoute",
            "v1",
            String::from("  rules: [{backendRefs: [{name: a, port: 1, filters: []}]}]"),
            "filters: unknown field",
        ),
        ("TCPRoute", "v1", format!("  {rule}\n  useDefaultGateways: All"), "is not supported yet"),
    ] {
        let parsed = read(&route(kind, version, &spec));
        let told: Vec<_> = parsed.diagnostics.iter().map(ToString::to_string).collect();
        if expected.is_empty() {
            assert_eq!((told, parsed.objects.len()), (Vec::<String>::new(), 1), "{kind} {spec}");
            assert_eq!(parsed.objects[0].kind(), Some(kind));
        } else {
            assert!(told.len() == 1 && told[0].contains(expected), "{kind} {spec}: {told:?}");
        }
    }
}

#[test]
fn a_secret_is_judged_without_a_word_of_what_it_holds() {
    let secret = "\
apiVersion: v1
kind: Secret
metadata: {name: s}
type: Opaque
immutable: true
stringData: {a: top secret}
data: {b: dG9wIHNlY3JldA==, c: top-secret?}
";
    let parsed = read(secret);
    assert_eq!(
        told(&parsed),
        ["a.yaml:7:32: error: data.c: is not base64 (put plain text under `stringData`)"]
    );
    let parsed = read(&secret.replace(", c: top-secret?", ""));
    assert_eq!(told(&parsed), Vec::<String>::new());
    let shown = format!("{:?}", parsed.objects);
    assert!(!shown.contains("top secret") && !shown.contains("dG9w"), "{shown}");
}

#[test]
fn findings_without_end_are_cut_and_counted() {
    let fields: String = (0..2000).map(|i| format!("  f{i}: 1\n")).collect();
    let parsed = read(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec:\n{fields}"));
    assert_eq!(parsed.diagnostics.len(), 501);
    assert_eq!(parsed.diagnostics[500].message, "1500 further problems are not listed");
}

fn yaml_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "apiVersion: v1\n",
        "kind: Service\n",
        "kind: List\n",
        "metadata:\n",
        "  name: a\n",
        "spec:\n",
        "items:\n",
        "- ",
        "  ",
        "\t",
        "---\n",
        "...\n",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "[",
        "]",
        "{",
        "}",
        ": ",
        ", ",
        "? ",
        "| \n",
        "> \n",
        "\"",
        "'",
        "#",
        "%YAML 1.2\n",
        "\n",
        "\r\n",
        "<<: *a\n",
        "\u{feff}",
        "é",
        "\0",
        "0x1F",
        "~",
        "1e400",
        "@",
        "`",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|p| p.concat())
}

fn mutated() -> impl Strategy<Value = String> {
    let texts: Vec<_> = examples().into_iter().map(|(_, text)| text).collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, any::<char>()), 1..8);
    (prop::sample::select(texts), edits).prop_map(|(text, edits)| {
        let mut chars: Vec<_> = text.chars().collect();
        for (at, edit, c) in edits {
            let at = at.index(chars.len());
            match edit {
                0 => chars[at] = c,
                1 => chars.insert(at, c),
                _ => chars.truncate(at.max(1)),
            }
        }
        chars.into_iter().collect()
    })
}

fn check_promises(text: &str) -> Result<(), TestCaseError> {
    let parsed = read(text);
    // YAML 1.2.2, 5.4: a lone carriage return breaks a line too, as editors show it.
    let lines = u32::try_from(text.replace("\r\n", "\n").split(['\n', '\r']).count()).unwrap();
    for diagnostic in &parsed.diagnostics {
        prop_assert!(
            diagnostic.column > 0 && (1..=lines + 1).contains(&diagnostic.line),
            "{diagnostic} {text:?}"
        );
    }
    let refused = !parsed.complete || !parsed.failed.is_empty();
    prop_assert!(
        !refused || parsed.diagnostics.iter().any(Diagnostic::is_error),
        "refused without a word: {text:?}"
    );
    Ok(())
}

/// Files of very old editors: what YAML takes for a line, a diagnostic must too, in every document of a file.
#[test]
fn a_lone_carriage_return_ends_a_line() {
    assert!(told(&read("\r\rx"))[0].starts_with("a.yaml:3:1: "), "{:?}", told(&read("\r\rx")));
    let text = "apiVersion: v1\rkind: Namespace\r\nmetadata: {name: a}\n---\rx: [";
    assert!(told(&read(text))[0].starts_with("a.yaml:5:"), "{:?}", told(&read(text)));
}

proptest! {
    #[test]
    fn no_text_makes_parsing_panic(text in ".{0,80}") {
        check_promises(&text)?;
    }

    #[test]
    fn no_heap_of_yaml_makes_parsing_panic(text in yaml_like()) {
        check_promises(&text)?;
    }

    #[test]
    fn no_slip_of_the_pen_makes_parsing_panic(text in mutated()) {
        check_promises(&text)?;
    }
}

/// A full file must not cost more than its size: every step is linear.
#[test]
fn a_file_at_the_limit_is_read_whole() {
    let endpoints = "  - {address: 10.0.0.1, port: 1}\n".repeat(100_000);
    let text = format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: Backend\nmetadata: {{name: b}}\nspec:\n  endpoints:\n{endpoints}"
    );
    assert!(text.len() < 4 << 20);
    let parsed = read(&text);
    assert!(told(&parsed)[0].contains("more than 200000 values"), "{:?}", told(&parsed)[0]);

    let many: String = (0..40_000).map(|i| format!("---\n{}", service(&format!("s{i}")))).collect();
    assert_eq!(read(&many).objects.len(), 40_000);
}

#[test]
fn an_annotation_that_we_read_is_checked_like_a_field() {
    let service = |version: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: s\n  annotations:\n    other.io/what: ever\n    \
             tidegate.io/proxy-protocol: {version}\nspec: {{ports: [{{port: 80}}]}}\n"
        )
    };
    assert_eq!(told(&read(&service("V2"))), [""; 0]);
    let parsed = read(&service("v2"));
    assert!(parsed.objects.is_empty(), "not taken for nothing");
    let [told] = &told(&parsed)[..] else { panic!("{:?}", told(&parsed)) };
    assert!(told.starts_with("a.yaml:7:33: error: metadata.annotations"), "{told}");
    assert!(told.contains("`v2` is no version") && told.contains("write `V1` or `V2`"), "{told}");
    let backend = "apiVersion: tidegate.io/v1alpha1\nkind: Backend\nmetadata: {name: b}\nspec:\n  proxyProtocol: V3\n  \
                   endpoints: [{address: 10.0.0.1, port: 80}]\n";
    let parsed = read(backend);
    let [wrong] = &parsed.diagnostics[..] else { panic!("{:?}", parsed.diagnostics) };
    let wrong = wrong.to_string();
    assert!(wrong.starts_with("a.yaml:5:") && wrong.contains("V1") && wrong.contains("V2"), "{wrong}");
}

/// Of a limit in a policy on a Service, what is told.
fn told_of_limit(limit: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: a}}\nspec:\n  \
         targetRefs: [{{kind: Service, name: b}}]\n  limits:\n  - {limit}\n"
    );
    let all = read(&text).diagnostics;
    all.iter().map(|found| format!("{}: {}", found.field, found.message)).collect()
}

#[test]
fn what_cannot_be_read_hides_nothing_that_is_wrong_beside_it() {
    let told = told_of_limit("{name: x, foo: 1, per: 1s}");
    assert!(told.contains(&"spec.limits[0].foo: unknown field".into()), "{told:?}");
    assert!(
        told.iter().any(|one| one.starts_with("spec.limits[0].requests: `requests` is missing")),
        "{told:?}"
    );
    let told = told_of_limit("{name: x, foo: 1, requests: 0, per: 1s, responseCost: {}}");
    for field in ["foo: unknown", "requests: ", "responseCost"] {
        let field = format!("spec.limits[0].{field}");
        assert!(told.iter().any(|one| one.starts_with(&field)), "{field} of {told:?}");
    }
    let told = told_of_limit("{name: x, requests: many, per: 1s, when: 'request.nothing'}");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("spec.limits[0].requests: expected"), "{told:?}");
    assert!(told[1].starts_with("spec.limits[0].when: there is no"), "{told:?}");
}

#[test]
fn what_only_follows_from_a_slip_is_not_told_again() {
    assert_eq!(told_of_limit("{name: x, reqests: 1, per: 1s}"), ["spec.limits[0].reqests: unknown field"]);
    let told = told_of_limit("{name: x, requests: 1, per: 1s}\n  scop: Mesh\n  mesh: {}");
    assert!(
        told.iter().all(|one| one.starts_with("spec.scop: ") || one.starts_with("spec.mesh: ")),
        "{told:?}"
    );
    let told = told_of_limit("{name: x, requests: 1, per: 1s}\n  scope: Mehs\n  mesh: {}");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("spec.scope: must be one of"), "{told:?}");
}

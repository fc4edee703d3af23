//! The rules as the API server evaluates them: never stricter than `compile`, and refusing what they are there for.

use cel::{Context, Program, Value};

use super::super::super::locate::to_json;
use super::super::super::parse;
use super::documents::{examples, written};
use super::*;

/// The messages of every rule that does not hold for a value of the schema.
fn refused(schema: &Json, value: &Json, found: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let program = Program::compile(rule["rule"].as_str().unwrap()).unwrap();
        let mut context = Context::default();
        context.add_variable("self", value).unwrap();
        match program.execute(&context).unwrap() {
            Value::Bool(true) => {}
            Value::Bool(false) => found.push(rule["message"].as_str().unwrap().to_owned()),
            other => panic!("{rule}: {other:?}"),
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(inner) = value.get(name) {
            refused(property, inner, found);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        refused(&schema["items"], item, found);
    }
}

fn told(kind: &str, spec: &Json) -> Vec<String> {
    let mut found = Vec::new();
    refused(&spec_of(kind), spec, &mut found);
    found
}

#[test]
fn no_rule_refuses_an_example() {
    for (kind, text) in &examples() {
        for spec in written(kind, text) {
            assert_eq!(told(kind, &to_json(&spec)), [""; 0], "{kind}");
        }
    }
}

/// Kind, a spec that breaks one rule, and a part of what is said of it.
const BROKEN: &[(&str, &str, &str)] = &[
    ("HealthCheckPolicy", r#"{"checks": [{"tcp": {}, "grpc": {}}]}"#, "one of `http`, `grpc` and `tcp`"),
    ("HealthCheckPolicy", r#"{"checks": [{}]}"#, "one of `http`, `grpc` and `tcp`"),
    ("OverloadPolicy", r#"{"limit": 1, "adaptive": {}}"#, "`limit` or `adaptive`"),
    (
        "JwtAuthenticationPolicy",
        r#"{"providers": [{"name": "a", "issuer": "i", "jwks": {}}]}"#,
        "`inline`, `configMapRef` and `uri`",
    ),
    (
        "JwtAuthenticationPolicy",
        r#"{"providers": [{"name": "a", "issuer": "i", "jwks": {"configMapRef": {"name": "n", "key": "k"}}, "from": [{"cookie": "c", "prefix": "p"}]}]}"#,
        "`prefix` goes with `header`",
    ),
    ("CohortPolicy", r#"{"key": [{"type": "Header"}]}"#, "needs a `name`"),
    (
        "CohortPolicy",
        r#"{"key": [{"type": "PeerIdentity", "name": "x"}]}"#,
        "`name` goes with type Cookie or Header",
    ),
    (
        "FaultPolicy",
        r#"{"faults": [{"name": "a", "delay": {"fixed": "1s", "uniform": {"min": "1s", "max": "2s"}}}]}"#,
        "`fixed`, `uniform`",
    ),
    ("RateLimitPolicy", r#"{"limits": []}"#, "at least one of `limits`"),
    (
        "RateLimitPolicy",
        r#"{"scope": "Local", "mesh": {}, "limits": [{"name": "a", "requests": 1, "per": "1s"}]}"#,
        "`mesh` goes with scope Mesh",
    ),
    (
        "RateLimitPolicy",
        r#"{"scope": "Service", "limits": [{"name": "a", "requests": 1, "per": "1s"}]}"#,
        "needs a `service`",
    ),
    (
        "RateLimitPolicy",
        r#"{"limits": [{"name": "a", "requests": 1, "per": "1s", "cost": {"fixed": 1, "header": "x"}}]}"#,
        "`fixed`, `header`",
    ),
    (
        "RateLimitPolicy",
        r#"{"limits": [{"name": "a", "requests": 1, "per": "1s", "key": [{"type": "Path", "expression": "1"}]}]}"#,
        "`expression` goes with",
    ),
    ("CircuitBreakerPolicy", r#"{"breakers": [{"scope": "Endpoint"}]}"#, "at least one of `failureRate`"),
    (
        "CircuitBreakerPolicy",
        r#"{"breakers": [{"scope": "Endpoint", "failureRate": {"percent": 1, "minimumCalls": 1, "window": "1s", "calls": 5}}]}"#,
        "`window` and `calls`",
    ),
    ("CohortPolicy", r#"{"key": [{"type": "PeerIdentity"}], "targetRefs": []}"#, ""),
];

#[test]
fn what_a_rule_refuses_is_refused_in_a_file_too() {
    for (kind, spec, wanted) in BROKEN {
        let value: Json = serde_json::from_str(spec).unwrap();
        let found = told(kind, &value);
        assert_eq!(found.is_empty(), wanted.is_empty(), "{kind} {spec}: {found:?}");
        assert!(found.iter().all(|message| message.contains(wanted)), "{kind} {spec}: {found:?}");
        let text = format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: x, namespace: a}}\nspec: {spec}\n"
        );
        let parsed = parse(&"a.yaml".into(), &text);
        let refused = parsed.diagnostics.iter().any(|found| found.is_error());
        assert_eq!(refused, !wanted.is_empty(), "{kind} {spec}: {:?}", parsed.diagnostics);
    }
}

#[test]
fn a_target_that_has_no_sections_is_named_whole() {
    let spec =
        json!({ "targetRefs": [{ "kind": "Namespace", "name": "a", "sectionName": "b" }], "request": "1s" });
    let targets = spec_of("TimeoutPolicy")["properties"]["targetRefs"].clone();
    let mut found = Vec::new();
    refused(&targets, &spec["targetRefs"], &mut found);
    assert!(
        found.iter().all(|message| message.contains("leave out `sectionName`")) && !found.is_empty(),
        "{found:?}"
    );
}

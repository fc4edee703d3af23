//! What cannot be written, each with its place.

use super::*;

fn told(spec: Value, wanted: &[&str]) {
    let told = faults(KIND, spec.clone());
    for wanted in wanted {
        assert!(told.iter().any(|fault| fault.contains(wanted)), "{spec}: {wanted}: {told:#?}");
    }
    assert_eq!(told.len(), wanted.len(), "{spec}: {told:#?}");
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    told(
        json!({"rules": [
            {"name": "a b", "action": "Deny", "from": [
                {"ipBlocks": ["10.0.0.1/8", "x"], "serviceAccounts": ["a/b/c"], "namespaces": ["a/b"]},
                {"identities": [{"exact": "cluster.local"}, {}, {"exact": "spiffe://a", "prefix": "spiffe://a"}]},
                {"identities": [{"trustDomain": "spiffe://a"}], "trustedHops": 17},
            ], "to": [
                {"methods": ["get", "B AD"], "hosts": ["a_b"], "ports": [0]},
                {"paths": [{"exact": "a"}, {"prefix": "/%"}, {"template": "/a*"}, {}]},
                {"headers": [{"name": "a b", "present": true}, {"name": "a", "present": false}, {"name": "a"}]},
            ], "claims": [{"values": ["x"]}, {"claim": "a", "values": []}], "when": "request.nope"},
        ]}),
        &[
            "spec/rules/0/name: `a b` cannot be a name",
            "spec/rules/0/from/0/ipBlocks/0: `10.0.0.1/8` has bits beyond",
            "spec/rules/0/from/0/ipBlocks/1: `x` is no block",
            "spec/rules/0/from/0/serviceAccounts/0: `a/b/c` is no service account",
            "spec/rules/0/from/0/namespaces/0: `a/b` is no namespace",
            "spec/rules/0/from/1/identities/0: `cluster.local` is no SPIFFE id",
            "spec/rules/0/from/1/identities/1: write one of",
            "spec/rules/0/from/1/identities/2: write one of",
            "spec/rules/0/from/2/identities/0: `spiffe://a` is no trust domain",
            "spec/rules/0/from/2/trustedHops: 17 is out of range",
            "spec/rules/0/from/2/trustedHops: `trustedHops` goes with `ipBlocks` only",
            "spec/rules/0/to/0/methods/0: `get` is a method that nobody sends: write GET",
            "spec/rules/0/to/0/methods/1: `B AD` is no method",
            "spec/rules/0/to/0/hosts/0: `a_b` is not a hostname",
            "spec/rules/0/to/0/ports/0: nothing arrives at port 0",
            "spec/rules/0/to/1/paths/0: `a` does not begin with `/`",
            "spec/rules/0/to/1/paths/1: `/%`",
            "spec/rules/0/to/1/paths/2: `a*` is no element",
            "spec/rules/0/to/1/paths/3: write one of",
            "spec/rules/0/to/2/headers/0: `a b` is not the name of a header",
            "spec/rules/0/to/2/headers/1: for a header that is not there write it under `not`",
            "spec/rules/0/to/2/headers/2: write one of",
            "spec/rules/0/claims/0: write the claim's `claim`",
            "spec/rules/0/claims/1/values: write 1 to 64",
            "spec/rules/0/when: ",
        ],
    );
}

#[test]
fn a_policy_that_says_nothing_or_takes_back_what_it_says_is_none() {
    told(json!({}), &["it says nothing"]);
    told(json!({"default": "Allow", "rules": []}), &["it says nothing"]);
    told(
        json!({"default": "Allow", "rules": [rule("Allow", json!({}))]}),
        &["an Allow rule changes nothing"],
    );
    told(json!({"rules": [rule("Deny", json!({"from": [{}]}))]}), &["from/0: it says nothing"]);
    told(json!({"rules": [rule("Deny", json!({"to": [{"not": {}}]}))]}), &["to/0: it says nothing"]);
    told(json!({"rules": [rule("Deny", json!({})), rule("Deny", json!({}))]}), &["used twice"]);
    told(json!({"rules": [{"name": "default", "action": "Deny"}]}), &["`default` is what is told"]);
}

#[test]
fn a_rule_that_can_never_match_is_a_mistake() {
    let from = |source: Value| json!({"rules": [rule("Deny", json!({"from": [source]}))]});
    let nobody = "from/0: nobody is all of this";
    told(from(json!({"identities": [{"exact": CHECKOUT}], "namespaces": ["web"]})), &[nobody]);
    told(from(json!({"identities": [{"exact": CHECKOUT}], "serviceAccounts": ["other"]})), &[nobody]);
    told(from(json!({"namespaces": ["shop"], "serviceAccounts": ["web/a"]})), &[nobody]);
    told(
        from(json!({"namespaces": ["a", "b"], "not": {"namespaces": ["b", "a", "c"]}})),
        &["from/0/namespaces: it can never match"],
    );
    let to = |operation: Value| json!({"rules": [rule("Deny", json!({"to": [operation]}))]});
    told(to(json!({"methods": ["GET"], "not": {"methods": ["GET"]}})), &["to/0/methods: it can never match"]);
    assert!(
        compile_in(
            Mode::Enforce,
            KIND,
            from(json!({"identities": [{"exact": CHECKOUT}], "namespaces": ["shop"]}))
        )
        .is_ok()
    );
    assert!(
        compile_in(Mode::Enforce, KIND, to(json!({"methods": ["GET", "PUT"], "not": {"methods": ["GET"]}})))
            .is_ok()
    );
}

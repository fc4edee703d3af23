//! What holds whatever is written.

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

/// One condition, which may not be decidable for [`sent`].
fn condition() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"from": [{"namespaces": ["shop"]}]})),
        Just(json!({"from": [{"namespaces": ["web"]}]})),
        Just(json!({"from": [{"not": {"namespaces": ["web"]}}]})),
        Just(json!({"to": [{"methods": ["GET"]}]})),
        Just(json!({"to": [{"not": {"methods": ["GET"]}}]})),
        Just(json!({"to": [{"paths": [{"prefix": "/a"}]}]})),
        Just(json!({"to": [{"headers": [{"name": "tenant", "exact": "a"}]}]})),
        Just(json!({"when": "request.headers.tenant == 'a'"})),
    ]
}

fn action() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("Allow"), Just("Deny"), Just("Audit")]
}

fn policy() -> impl Strategy<Value = Value> {
    let rules = prop::collection::vec((action(), condition()), 1..4);
    (rules, any::<bool>()).prop_map(|(rules, closed)| {
        let named = |(i, (action, condition)): (usize, (&str, Value))| {
            let mut rule = rule(action, condition);
            rule["name"] = json!(format!("r{i}"));
            rule
        };
        let mut spec = json!({"rules": rules.into_iter().enumerate().map(named).collect::<Vec<_>>()});
        if closed {
            spec["default"] = json!("Deny");
        }
        spec
    })
}

type Sent = (Option<&'static str>, &'static str, &'static str, Vec<&'static str>);

fn sent() -> impl Strategy<Value = Sent> {
    let who = prop_oneof![Just(None), Just(Some(CHECKOUT)), Just(Some("spiffe://cluster.local/ns/web/sa/a"))];
    let path = prop_oneof![Just("/"), Just("/a/b"), Just("/a%2Fb")];
    (who, prop_oneof![Just("GET"), Just("PUT")], path, subsequence(vec!["a", "b"], 0..=2))
}

fn lets_pass(policies: &[(Mode, Value)], (who, method, path, tenants): &Sent) -> bool {
    let request = tenants.iter().fold(Request::builder().method(*method).uri(*path), |request, tenant| {
        request.header("tenant", *tenant)
    });
    ask_as(&level(policies.to_vec()), &peer("10.0.0.1:1", *who), request, None).0
}

fn enforced(policies: &[Value]) -> Vec<(Mode, Value)> {
    policies.iter().map(|spec| (Mode::Enforce, spec.clone())).collect()
}

proptest! {
    #[test]
    fn the_order_of_policies_and_rules_makes_no_difference(
        policies in prop::collection::vec(policy(), 1..4),
        sent in sent(),
    ) {
        let mut turned = policies.clone();
        turned.reverse();
        turned.iter_mut().for_each(|spec| spec["rules"].as_array_mut().unwrap().reverse());
        prop_assert_eq!(lets_pass(&enforced(&policies), &sent), lets_pass(&enforced(&turned), &sent));
    }

    #[test]
    fn a_deny_rule_never_lets_more_pass(policies in prop::collection::vec(policy(), 0..3), more in condition(), sent in sent()) {
        let mut with = policies.clone();
        with.push(json!({"rules": [rule("Deny", more)]}));
        prop_assert!(lets_pass(&enforced(&policies), &sent) || !lets_pass(&enforced(&with), &sent));
    }

    /// Where something must allow already; the first that allows closes what it does not name.
    #[test]
    fn an_allow_rule_never_lets_less_pass_where_something_must_allow(
        policies in prop::collection::vec(policy(), 0..3),
        more in condition(),
        sent in sent(),
    ) {
        let mut before = policies;
        before.push(json!({"default": "Deny"}));
        let mut with = before.clone();
        with.push(json!({"rules": [rule("Allow", more)]}));
        prop_assert!(!lets_pass(&enforced(&before), &sent) || lets_pass(&enforced(&with), &sent));
    }

    #[test]
    fn a_policy_in_shadow_changes_nothing(
        policies in prop::collection::vec(policy(), 0..3),
        shadow in policy(),
        at in 0_usize..3,
        sent in sent(),
    ) {
        let before = enforced(&policies);
        let mut with = before.clone();
        with.insert(at.min(before.len()), (Mode::Shadow, shadow));
        prop_assert_eq!(lets_pass(&before, &sent), lets_pass(&with, &sent));
    }

    /// Whatever is not known of a connection may turn out either way.
    #[test]
    fn a_connection_passes_no_policy_that_a_request_like_it_might_not(policy in policy(), sent in sent()) {
        let (who, ..) = sent;
        let authorizer = level([(Mode::Enforce, policy.clone())]);
        if connect(&authorizer, &peer("10.0.0.1:1", who), None).0.is_ok() {
            prop_assert!(lets_pass(&[(Mode::Enforce, policy)], &sent));
        }
    }
}

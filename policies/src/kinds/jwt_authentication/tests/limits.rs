//! Rate limits that are keyed by claims, or hold under conditions on them.

#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use super::*;

const LIMITS: &str = "RateLimitPolicy";

fn limited(limit: Value) -> [Arc<dyn Filter>; 2] {
    let mut own = json!({"name": "each", "requests": 1, "per": "1h"});
    own.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
    let mut authentication = spec(json!({}));
    authentication["missing"] = json!("Allow");
    let limits = filter_in(Mode::Enforce, LIMITS, json!({"limits": [own]}), &StateStore::new([0, 0]));
    [filter(authentication), limits]
}

fn passes(filters: &[Arc<dyn Filter>], claims: Value) -> bool {
    ask(filters, bearer(&SIGNER.token("EdDSA", &claims))).reply.is_none()
}

#[test]
fn each_value_of_a_claim_has_a_bucket_of_its_own() {
    for (key, name, values) in [
        (json!({"type": "Claim", "name": "sub"}), "sub", [json!("ann"), json!("bob")]),
        (
            json!({"type": "Claim", "name": "https://a.example/tier"}),
            "https://a.example/tier",
            [json!(1), json!(2)],
        ),
        (
            json!({"type": "Claim", "path": ["realm", "tier"]}),
            "realm",
            [json!({"tier": "a"}), json!({"tier": true})],
        ),
        (json!({"type": "Claim", "name": "roles"}), "roles", [json!(["a", "b"]), json!(["ab"])]),
        (
            json!({"type": "Expression", "expression": "jwt.claims.sub + '/' + jwt.claims.aud"}),
            "sub",
            [json!("a"), json!("b")],
        ),
        (json!({"type": "Expression", "expression": "jwt.claims.level"}), "level", [json!(1), json!(1.5)]),
    ] {
        let filters = limited(json!({"key": [key]}));
        for value in &values {
            assert!(passes(&filters, but(name, value.clone())), "{name}: {value}");
        }
        for value in values {
            assert!(!passes(&filters, but(name, value.clone())), "{name}: {value}");
        }
    }
}

#[test]
fn a_request_without_the_claim_does_not_have_this_part_of_the_key() {
    for (missing, want) in [("Share", [true, false]), ("Skip", [true, true]), ("Deny", [false, false])] {
        for key in [
            json!({"type": "Claim", "name": "plan", "missing": missing}),
            json!({"type": "Claim", "path": ["plan", "name"], "missing": missing}),
            json!({"type": "Expression", "expression": "jwt.claims.plan", "missing": missing}),
        ] {
            let filters = limited(json!({"key": [key]}));
            // Without a token, with one that says nothing of it, and with what is no text.
            for request in [get(), bearer(&token()), bearer(&SIGNER.token("EdDSA", &but("plan", json!({}))))]
            {
                let filters = [filters[0].clone(), limited(json!({"key": [key.clone()]}))[1].clone()];
                let allowed = [0, 1].map(|_| {
                    let headers = request.headers_ref().unwrap().clone();
                    let mut again = get();
                    again.headers_mut().unwrap().extend(headers);
                    ask(&filters, again).reply.is_none()
                });
                assert_eq!(allowed, want, "{missing} {key}");
            }
        }
    }
}

#[test]
fn conditions_and_costs_ask_for_claims() {
    let filters =
        limited(json!({"when": "jwt.claims.plan == 'free' && 'staff' in jwt.claims.roles == false"}));
    let free = |roles: Value| {
        let mut claims = but("plan", json!("free"));
        claims["roles"] = roles;
        claims
    };
    for _ in 0..3 {
        assert!(passes(&filters, but("plan", json!("gold"))));
        assert!(passes(&filters, claims()));
        assert!(passes(&filters, free(json!(["staff"]))));
        assert!(ask(&filters, get()).reply.is_none());
    }
    assert!(passes(&filters, free(json!(["user"]))));
    assert!(!passes(&filters, free(json!(["user"]))));

    let filters = limited(json!({"requests": 10, "cost": {"expression": "jwt.claims.weight"}}));
    assert!(passes(&filters, but("weight", json!(9))));
    assert!(!passes(&filters, but("weight", json!(2))));
    // No number: one request.
    assert!(passes(&filters, but("weight", json!("2"))));
}

#[test]
fn a_named_user_may_have_a_limit_of_her_own() {
    let own = json!([{"key": ["ann"], "requests": 2}]);
    let filters = limited(json!({"key": [{"type": "Claim", "name": "sub"}], "overrides": own}));
    let count = |user: &str| (0..5).filter(|_| passes(&filters, but("sub", json!(user)))).count();
    assert_eq!((count("ann"), count("bob")), (2, 1));
}

#[test]
fn what_a_client_claims_without_a_token_is_no_claim() {
    let filters = limited(json!({"key": [{"type": "Claim", "name": "sub"}]}));
    let forged = OTHER.token("EdDSA", &but("sub", json!("bob")));
    assert!(!passes(&filters, claims()) || ask(&filters, bearer(&forged)).reply.is_some());
    let met = ask(&filters[1..], bearer(&token()));
    assert!(met.claims.is_none(), "nobody has verified it");
}

#[test]
fn keys_by_claim_are_written_by_name_or_by_path() {
    let fault = |key: Value| {
        let limit = json!({"name": "a", "requests": 1, "per": "1s", "key": [key]});
        faults(LIMITS, json!({"limits": [limit]})).join("; ")
    };
    for (key, want) in [
        (json!({"type": "Claim"}), "key/0: write the claim's `name`, or its `path` within others"),
        (json!({"type": "Claim", "name": "a", "path": ["b"]}), "key/0: write the claim's `name`"),
        (json!({"type": "Claim", "name": ""}), "key/0: the name of a claim is not empty"),
        (
            json!({"type": "Header", "name": "a", "path": ["b"]}),
            "key/0/path: `path` goes with type Claim only",
        ),
    ] {
        let found = fault(key.clone());
        assert!(found.contains(want), "{key}: {found}");
    }
}

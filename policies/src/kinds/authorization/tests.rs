#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, request};
use serde_json::{Value, json};

use super::*;
use crate::decision::{Decisions, Outcome};
use crate::jwt::{Claims, claims_of};
use crate::kinds::tests::{compile_in, faults};
use crate::model::{Identity, Peer};
use crate::pipeline::{ConnectionContext, Cut, Filter, Ongoing, OpenedBy, RequestContext, Verdict};
use crate::reason::Reason;
use crate::time::Timestamp;

mod connections;
mod laws;
mod matches;
mod specs;

const CHECKOUT: &str = "spiffe://cluster.local/ns/shop/sa/checkout";
const PORT: u16 = 8080;

fn authorization(mode: Mode, spec: Value) -> Arc<Authorization> {
    match compile_in(mode, KIND, spec).expect("valid") {
        Compiled::Authorization(authorization) => authorization,
        other => panic!("{other:?}"),
    }
}

/// Policies of one target.
fn level(specs: impl IntoIterator<Item = (Mode, Value)>) -> Authorizer {
    Authorizer::new(specs.into_iter().map(|(mode, spec)| authorization(mode, spec)), Some(PORT))
}

fn rules(rules: Value) -> Authorizer {
    level([(Mode::Enforce, json!({"rules": rules}))])
}

/// A policy with one rule.
fn one(action: &str, more: Value) -> Authorizer {
    rules(json!([rule(action, more)]))
}

fn rule(action: &str, more: Value) -> Value {
    let mut rule = json!({"name": "it", "action": action});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

fn peer(address: &str, identity: Option<&str>) -> Peer {
    Peer { address: address.parse().unwrap(), identity: identity.map(|id| Identity(id.into())) }
}

fn checkout() -> Peer {
    peer("10.1.2.3:4000", Some(CHECKOUT))
}

/// Whether a request passes, and what is said of it.
fn ask_as(
    authorizer: &Authorizer,
    peer: &Peer,
    request: request::Builder,
    claims: Option<Claims>,
) -> (bool, Decisions) {
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let mut decisions = Decisions::new();
    let verdict = authorizer.on_request(&mut RequestContext {
        head: &mut head,
        peer,
        route: Some("shop/r"),
        now: Timestamp::from_millis(1),
        unix: &|| Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut HeaderMap::new(),
        claims: &mut claims.map(Arc::new),
        held: &mut Vec::new(),
    });
    match verdict {
        Verdict::Continue => (true, decisions),
        Verdict::Reply(reply) => {
            assert_eq!(reply.reason, Reason::AccessDenied);
            (false, decisions)
        }
        other => panic!("{other:?}"),
    }
}

fn passes(authorizer: &Authorizer, request: request::Builder) -> bool {
    ask_as(authorizer, &checkout(), request, None).0
}

fn passes_from(authorizer: &Authorizer, address: &str, identity: Option<&str>) -> bool {
    ask_as(authorizer, &peer(address, identity), get("/"), None).0
}

fn get(path: &str) -> request::Builder {
    Request::get(path).header("host", "cart.shop")
}

fn connect(authorizer: &Authorizer, peer: &Peer, server_name: Option<&str>) -> (Result<(), Cut>, Decisions) {
    let (mut decisions, now) = (Decisions::new(), Timestamp::from_millis(1));
    let said = authorizer.on_connection(&mut ConnectionContext {
        peer,
        port: 80,
        server_name,
        carried: true,
        now,
        decisions: &mut decisions,
    });
    (said, decisions)
}

fn words(decisions: &Decisions) -> Vec<String> {
    let word = |decision: &crate::Decision| {
        let detail = decision.detail.map(|detail| format!(" {detail}")).unwrap_or_default();
        format!("{} {}{detail}", decision.rule.name, decision.outcome.as_str())
    };
    decisions.iter().map(word).collect()
}

#[test]
fn a_deny_rule_that_matches_refuses_whatever_allows() {
    let both = rules(json!([
        {"name": "all", "action": "Allow"},
        {"name": "admin", "action": "Deny", "to": [{"paths": [{"prefix": "/admin"}]}]},
    ]));
    let (passed, said) = ask_as(&both, &checkout(), get("/admin/users"), None);
    assert_eq!((passed, words(&said)), (false, vec![String::from("admin refused")]));
    let decision = &said[0];
    assert_eq!(decision.outcome, Outcome::Refused(Reason::AccessDenied));
    assert_eq!(decision.policy.name.to_string(), "shop/p");
    assert_eq!(decision.rule.source.to_string(), "policies.yaml:82");
    let (passed, said) = ask_as(&both, &checkout(), get("/cart"), None);
    assert_eq!((passed, words(&said)), (true, vec![String::from("all allowed")]));
}

#[test]
fn where_something_allows_what_nothing_allows_is_refused_by_the_default() {
    let allows = one("Allow", json!({"to": [{"methods": ["GET"]}]}));
    assert!(passes(&allows, get("/")));
    let (passed, said) = ask_as(&allows, &checkout(), Request::post("/"), None);
    assert_eq!((passed, words(&said)), (false, vec![String::from("default refused")]));
    let denies = one("Deny", json!({"to": [{"methods": ["POST"]}]}));
    let (passed, said) = ask_as(&denies, &checkout(), get("/"), None);
    assert!(passed && said.is_empty(), "where nothing has to allow, nothing is said");
}

#[test]
fn default_deny_without_a_rule_lets_nobody_pass() {
    assert!(!passes(&level([(Mode::Enforce, json!({"default": "Deny"}))]), get("/")));
}

#[test]
fn policies_of_one_target_judge_together() {
    let by = |method: &str| {
        (Mode::Enforce, json!({"rules": [rule("Allow", json!({"to": [{"methods": [method]}]}))]}))
    };
    let both = level([by("GET"), by("PUT")]);
    assert!(passes(&both, get("/")) && passes(&both, Request::put("/")));
    assert!(!passes(&both, Request::post("/")));
    let closed = level([(Mode::Enforce, json!({"default": "Deny"})), by("GET")]);
    assert!(passes(&closed, get("/")));
    let denied = level([by("GET"), (Mode::Enforce, json!({"rules": [rule("Deny", json!({}))]}))]);
    assert!(!passes(&denied, get("/")));
}

#[test]
fn what_cannot_be_told_counts_against_the_one_who_asks() {
    let when = json!({"when": "request.headers.tenant == 'a'"});
    let (passed, said) = ask_as(&one("Deny", when.clone()), &checkout(), get("/"), None);
    assert_eq!((passed, words(&said)), (false, vec![String::from("it refused match=undecidable")]));
    let (passed, said) = ask_as(&one("Allow", when.clone()), &checkout(), get("/"), None);
    assert_eq!((passed, words(&said)), (false, vec![String::from("it refused match=undecidable")]));
    let asked = get("/").header("tenant", "a");
    assert!(passes(&one("Allow", when.clone()), asked));
    assert!(passes(&one("Deny", when), get("/").header("tenant", "b")));
    // Nothing was asked that is not there.
    let asks_first = json!({"when": "has(request.headers.tenant) && request.headers.tenant == 'a'"});
    assert!(passes(&one("Deny", asks_first), get("/")));
}

#[test]
fn an_audit_rule_tells_and_changes_nothing() {
    let audit = json!({"name": "posts", "action": "Audit", "to": [{"methods": ["POST"]}]});
    let (passed, said) = ask_as(&rules(json!([audit])), &checkout(), Request::post("/"), None);
    assert_eq!((passed, words(&said)), (true, vec![String::from("posts audited")]));
    let (passed, said) = ask_as(&rules(json!([audit])), &checkout(), get("/"), None);
    assert!(passed && said.is_empty());
    let denied = rules(json!([audit, {"name": "all", "action": "Deny"}]));
    let (passed, said) = ask_as(&denied, &checkout(), Request::post("/"), None);
    assert_eq!((passed, words(&said)), (false, vec!["posts audited".into(), "all refused".into()]));
}

#[test]
fn a_policy_in_shadow_tells_whom_it_would_refuse_and_refuses_nobody() {
    let shadow =
        level([(Mode::Shadow, json!({"rules": [rule("Allow", json!({"to": [{"methods": ["GET"]}]}))]}))]);
    let (passed, said) = ask_as(&shadow, &checkout(), Request::post("/"), None);
    assert_eq!((passed, words(&said)), (true, vec![String::from("default would_refuse")]));
    assert_eq!(said[0].outcome, Outcome::WouldRefuse(Reason::AccessDenied));
    let (passed, said) = ask_as(&shadow, &checkout(), get("/"), None);
    assert!(passed && said.is_empty());
    // Nor does it let anybody pass.
    let closed = level([
        (Mode::Enforce, json!({"default": "Deny"})),
        (Mode::Shadow, json!({"rules": [rule("Allow", json!({}))]})),
    ]);
    let (passed, said) = ask_as(&closed, &checkout(), get("/"), None);
    assert_eq!((passed, words(&said)), (false, vec![String::from("default refused")]));
}

#[test]
fn what_stands_in_for_a_policy_that_was_never_valid_denies_and_says_so() {
    let stand_in = level([(Mode::Enforce, AuthorizationPolicy::stand_in().unwrap())]);
    let (passed, said) = ask_as(&stand_in, &checkout(), get("/"), None);
    assert_eq!((passed, words(&said)), (false, vec![String::from("never-valid refused")]));
    assert!(connect(&stand_in, &checkout(), None).0.is_err());
}

#[test]
fn the_answer_is_403_and_permission_denied() {
    let answer = Reason::AccessDenied.answer();
    assert_eq!((answer.status.as_u16(), answer.grpc, answer.retry_safe), (403, 7, false));
}

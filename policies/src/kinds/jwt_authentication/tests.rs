#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, request};
use serde_json::{Value, json};

use super::*;
use crate::decision::{Decisions, Outcome};
use crate::jwt::signer::{OTHER, SIGNER};
use crate::jwt::{Claims, Verified};
use crate::kinds::tests::{compile_in, faults};
use crate::model::Peer;
use crate::pipeline::{self, Flow, LocalReply, Progress, RequestContext, Stop};
use crate::reason::Reason;
use crate::time::Timestamp;

mod limits;
mod places;
mod remote;
mod specs;

const KIND: &str = "JwtAuthenticationPolicy";
const ISSUER: &str = "https://issuer.example.com";
const NOW: u64 = 1_800_000_000;

thread_local! {
    /// What the wall says.
    static WALL: Cell<u64> = const { Cell::new(NOW) };
}

fn provider(more: Value) -> Value {
    let mut provider = json!({"name": "ours", "issuer": ISSUER, "audiences": ["shop"],
        "jwks": {"inline": SIGNER.jwks("EdDSA")}});
    provider.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    provider
}

fn spec(more: Value) -> Value {
    json!({"providers": [provider(more)]})
}

fn filter_in(mode: Mode, kind: &str, spec: Value, store: &StateStore) -> Arc<dyn Filter> {
    match compile_in(mode, kind, spec).expect("valid") {
        Compiled::Filter(filter) => filter.bind(store),
        _ => panic!("not a filter"),
    }
}

fn filter(spec: Value) -> Arc<dyn Filter> {
    filter_in(Mode::Enforce, KIND, spec, &StateStore::new([0, 0]))
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "ann", "aud": "shop", "exp": NOW + 60})
}

fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn token() -> String {
    SIGNER.token("EdDSA", &claims())
}

fn get() -> request::Builder {
    Request::get("/cart?a=1")
}

fn bearer(token: &str) -> request::Builder {
    get().header("authorization", format!("Bearer {token}"))
}

/// What one request met.
#[derive(Debug)]
struct Met {
    reply: Option<LocalReply>,
    decisions: Decisions,
    claims: Option<Arc<Claims>>,
    head: request::Parts,
}

impl Met {
    fn says(&self) -> String {
        let said = self.decisions.iter().map(|decision| {
            let outcome = match decision.outcome {
                Outcome::Allowed => "allowed",
                Outcome::Refused(Reason::Unauthenticated) => "refused",
                Outcome::WouldRefuse(Reason::Unauthenticated) => "would refuse",
                Outcome::Refused(_) => "limited",
                other => panic!("{other:?}"),
            };
            let detail = decision.detail.map(|detail| format!(" {detail}")).unwrap_or_default();
            format!("{}: {outcome}{detail}", decision.rule.name)
        });
        said.collect::<Vec<_>>().join(", ")
    }

    fn challenge(&self) -> &str {
        let headers = &self.reply.as_ref().expect("refused").headers;
        assert_eq!(headers[0].0, "www-authenticate");
        headers[0].1.to_str().unwrap()
    }
}

fn ask(filters: &[Arc<dyn Filter>], request: request::Builder) -> Met {
    let mut head = request.body(()).unwrap().into_parts().0;
    let (mut decisions, mut headers, mut claims) = (Decisions::new(), HeaderMap::new(), None);
    let peer = Peer { address: "192.0.2.1:1000".parse().unwrap(), identity: None };
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer,
        route: None,
        now: Timestamp::from_millis(1),
        unix: &|| Duration::from_secs(WALL.get()),
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut headers,
        claims: &mut claims,
        held: &mut Vec::new(),
    };
    let reply = match pipeline::on_request(filters, &mut cx, &mut Progress::default()) {
        Ok(Flow::Done) => None,
        Err(Stop::Refused(reply)) => Some(reply),
        other => panic!("{other:?}"),
    };
    Met { reply, decisions, claims, head }
}

fn meets(filter: &Arc<dyn Filter>, request: request::Builder) -> Met {
    ask(std::slice::from_ref(filter), request)
}

#[test]
fn a_token_that_holds_lets_its_request_pass_with_its_claims() {
    let met = meets(&filter(spec(json!({}))), bearer(&token()));
    assert_eq!((met.reply.is_none(), met.says().as_str()), (true, "ours: allowed"));
    assert_eq!(met.claims.unwrap().all()["sub"], "ann");
    assert_eq!(met.head.headers["authorization"], format!("Bearer {}", token()));
    assert_eq!(met.decisions[0].rule.source.to_string(), "policies.yaml:71");
}

#[test]
fn whoever_is_refused_learns_the_class_and_the_log_learns_why() {
    let filter = filter(spec(json!({})));
    let cases = [
        (bearer(&SIGNER.token("EdDSA", &but("exp", json!(NOW - 60)))), "ours: refused token=expired"),
        (bearer(&SIGNER.token("EdDSA", &but("nbf", json!(NOW + 60)))), "ours: refused token=not_yet_valid"),
        (bearer(&SIGNER.token("EdDSA", &but("aud", json!("bank")))), "ours: refused token=audience"),
        (bearer(&SIGNER.token("EdDSA", &but("iss", json!("x")))), "providers: refused token=issuer"),
        (bearer(&OTHER.token("EdDSA", &claims())), "ours: refused token=signature"),
        (bearer(&SIGNER.token("ES256", &claims())), "ours: refused token=key"),
        (bearer(&SIGNER.token("HS256", &claims())), "ours: refused token=algorithm"),
        (bearer("garbage"), "ours: refused token=malformed"),
        (bearer(&"x".repeat(17_000)), "ours: refused token=too_long"),
    ];
    for (request, want) in cases {
        let met = meets(&filter, request);
        assert_eq!(met.says(), want);
        assert_eq!(met.challenge(), r#"Bearer realm="p", error="invalid_token""#);
        let reply = met.reply.unwrap();
        assert_eq!((reply.reason, reply.written), (Reason::Unauthenticated, None));
        assert!(met.claims.is_none());
    }
    // RFC 6750, 3: without a token, no word of an error.
    let met = meets(&filter, get());
    assert_eq!(
        (met.challenge(), met.says().as_str()),
        (r#"Bearer realm="p""#, "ours: refused token=missing")
    );
}

#[test]
fn a_token_that_is_known_holds_until_its_end_and_no_longer() {
    let filter = filter(spec(json!({"leeway": "5s"})));
    let token = SIGNER.token("EdDSA", &but("nbf", json!(NOW - 10)));
    for (at, want) in [
        (NOW, "ours: allowed"),
        (NOW + 64, "ours: allowed"),
        (NOW + 65, "ours: refused token=expired"),
        // The clock was set back.
        (NOW, "ours: allowed"),
        (NOW - 16, "ours: refused token=not_yet_valid"),
    ] {
        WALL.set(at);
        assert_eq!(meets(&filter, bearer(&token)).says(), want, "{at}");
    }
}

#[test]
fn a_known_token_needs_no_signature_as_long_as_the_providers_stay_as_they_are() {
    let store = StateStore::new([0, 0]);
    let written = spec(json!({}));
    let filter = filter_in(Mode::Enforce, KIND, written.clone(), &store);
    let read: JwtAuthenticationPolicySpec = serde_json::from_value(written.clone()).unwrap();
    let place =
        StateKey::new(format!("{KIND}/shop/p"), fingerprint(&serde_json::to_vec(&read.providers).unwrap()));
    let cache: Arc<Cache> = store.get_or_insert(place, || panic!("not where the filter has it"));
    let text = token();
    let signed = crate::jwt::Token::read(text.as_bytes()).unwrap();
    cache.insert(Cache::digest(b"known"), Verified::new(0, 0, signed));
    assert_eq!(meets(&filter, bearer("known")).says(), "ours: allowed");
    assert_eq!(meets(&filter, bearer("knowm")).says(), "ours: refused token=malformed");
    // A push that changes nothing.
    let again = filter_in(Mode::Enforce, KIND, written, &store);
    assert_eq!(meets(&again, bearer("known")).says(), "ours: allowed");
    // Other keys: nothing is known under them.
    let others = spec(json!({"jwks": {"inline": OTHER.jwks("EdDSA")}}));
    let others = filter_in(Mode::Enforce, KIND, others, &store);
    assert_eq!(meets(&others, bearer("known")).says(), "ours: refused token=malformed");
    assert_eq!(meets(&others, bearer(&text)).says(), "ours: refused token=signature");
}

#[test]
fn what_was_refused_is_not_known_the_next_time() {
    let filter = filter(spec(json!({})));
    let late = SIGNER.token("EdDSA", &but("exp", json!(NOW - 60)));
    for _ in 0..3 {
        assert_eq!(meets(&filter, bearer(&late)).says(), "ours: refused token=expired");
    }
}

#[test]
fn each_provider_answers_for_its_own_issuer_with_its_own_keys() {
    let theirs = json!({"name": "theirs", "issuer": "theirs", "jwks": {"inline": OTHER.jwks("EdDSA")}});
    let filter = filter(json!({"providers": [provider(json!({})), theirs]}));
    let of_theirs = but("iss", json!("theirs"));
    for (token, want) in [
        (token(), "ours: allowed"),
        (OTHER.token("EdDSA", &of_theirs), "theirs: allowed"),
        // Signed with the other's key.
        (OTHER.token("EdDSA", &claims()), "ours: refused token=signature"),
        (SIGNER.token("EdDSA", &of_theirs), "theirs: refused token=signature"),
        (String::from("garbage"), "providers: refused token=malformed"),
    ] {
        assert_eq!(meets(&filter, bearer(&token)).says(), want);
    }
    assert_eq!(meets(&filter, get()).says(), "providers: refused token=missing");
}

#[test]
fn a_request_without_a_token_passes_where_it_may_and_one_with_a_bad_one_never_does() {
    let mut spec = spec(json!({}));
    spec["missing"] = json!("Allow");
    let filter = filter(spec);
    let met = meets(&filter, get());
    assert_eq!((met.reply.is_none(), met.says().as_str()), (true, "ours: allowed token=missing"));
    assert!(met.claims.is_none());
    let basic = get().header("authorization", "Basic YTpi");
    assert_eq!(meets(&filter, basic).says(), "ours: allowed token=missing");
    assert_eq!(meets(&filter, bearer("garbage")).says(), "ours: refused token=malformed");
}

#[test]
fn in_shadow_nobody_is_refused_and_no_byte_changes_but_claims_are_known() {
    let written = spec(json!({"forward": false, "claimToHeaders": [{"claim": "sub", "header": "x-user"}]}));
    let filter = filter_in(Mode::Shadow, KIND, written, &StateStore::new([0, 0]));
    let met = meets(&filter, bearer(&token()).header("x-user", "from outside"));
    assert_eq!((met.reply.is_none(), met.says().as_str()), (true, "ours: allowed"));
    assert_eq!(met.head.headers["x-user"], "from outside");
    assert!(met.head.headers.contains_key("authorization"));
    assert_eq!(met.claims.unwrap().all()["sub"], "ann");
    for (request, want) in [
        (get(), "ours: would refuse token=missing"),
        (bearer(&OTHER.token("EdDSA", &claims())), "ours: would refuse token=signature"),
    ] {
        let met = meets(&filter, request);
        assert_eq!((met.reply.is_none(), met.says().as_str(), met.claims.is_none()), (true, want, true));
    }
}

#[test]
fn without_its_keys_a_provider_believes_nobody() {
    let filter = filter(spec(json!({"jwks": {"configMapRef": {"name": "keys", "key": "jwks.json"}}})));
    assert_eq!(meets(&filter, bearer(&token())).says(), "ours: refused token=key");
}

//! Keys that the issuer publishes: who waits for them, who is refused without them, and that what was signed by a key that is gone is
//! believed no longer.

use super::*;
use crate::jwt::{KeySet, KeySource};
use crate::pipeline::{Effect, Performed, Verdict};

const FIRST: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000) + Duration::from_secs(seconds)
}

fn published(more: Value) -> Value {
    let mut jwks = json!({"uri": "https://issuer.example.com/keys"});
    jwks.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec(json!({"jwks": jwks}))
}

fn source(filter: &Arc<dyn Filter>) -> &KeySource {
    &filter.key_sources()[0]
}

fn arrives(source: &KeySource, signer: &crate::jwt::signer::Signer, now: Timestamp) {
    assert!(source.begin(now), "{:?} {:?}", source.due(now), now);
    let set = KeySet { body: signer.jwks("EdDSA").into_bytes(), max_age: None };
    source.fetched(&set, now, &mut fastrand::Rng::with_seed(1)).unwrap();
}

/// What a filter says of a request; `waited`: after it has waited.
fn says(filter: &Arc<dyn Filter>, token: &str, now: Timestamp, waited: bool) -> String {
    let mut head = bearer(token).body(()).unwrap().into_parts().0;
    let peer = Peer { address: "192.0.2.1:1000".parse().unwrap(), identity: None };
    let (mut decisions, mut claims) = (Decisions::new(), None);
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer,
        route: None,
        now,
        unix: &|| Duration::from_secs(NOW),
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut HeaderMap::new(),
        claims: &mut claims,
        held: &mut Vec::new(),
    };
    let verdict =
        if waited { filter.on_effect(&mut cx, &Performed::Waited) } else { filter.on_request(&mut cx) };
    match verdict {
        Verdict::Continue if claims.is_some() => String::from("known"),
        Verdict::Continue => String::from("passes"),
        Verdict::Reply(reply) => format!("{} {}", reply.reason.flag(), decisions[0].detail.unwrap()),
        Verdict::Effect(Effect::Keys(awaited)) => format!("waits {:?}", awaited.patience),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_requests_wait_for_the_keys_once_and_are_then_told_that_there_are_none() {
    let filter = filter(published(json!({})));
    assert_eq!(says(&filter, &token(), at(0), false), format!("waits {FIRST:?}"));
    assert_eq!(says(&filter, &token(), at(0), true), "keys_unavailable token=keys_unavailable");
    source(&filter).begin(at(0));
    assert_eq!(says(&filter, &token(), at(0), false), format!("waits {FIRST:?}"), "they are on their way");
    source(&filter).failed(at(0), &mut fastrand::Rng::with_seed(1));
    assert_eq!(says(&filter, &token(), at(0), false), "keys_unavailable token=keys_unavailable");
    arrives(source(&filter), &SIGNER, at(9));
    assert_eq!(says(&filter, &token(), at(9), false), "known");
}

#[test]
fn nobody_waits_where_that_is_written_or_in_shadow() {
    let never = filter(published(json!({"wait": "0s"})));
    assert_eq!(says(&never, &token(), at(0), false), "keys_unavailable token=keys_unavailable");
    let shadow = filter_in(Mode::Shadow, KIND, published(json!({})), &StateStore::new([0, 0]));
    assert_eq!(says(&shadow, &token(), at(0), false), "passes");
}

#[test]
fn a_token_of_a_key_that_is_gone_is_believed_no_longer_though_it_was_verified_before() {
    let filter = filter(published(json!({})));
    arrives(source(&filter), &SIGNER, at(0));
    for _ in 0..2 {
        assert_eq!(says(&filter, &token(), at(1), false), "known");
    }
    let renewed = at(3600);
    arrives(source(&filter), &OTHER, renewed);
    assert_eq!(says(&filter, &token(), renewed, false), "unauthenticated token=signature");
    assert_eq!(says(&filter, &OTHER.token("EdDSA", &claims()), renewed, false), "known");
}

#[test]
fn old_keys_are_believed_for_as_long_as_is_written_and_then_nobody_is() {
    let filter = filter(published(json!({"maxAge": "1m", "staleFor": "1m"})));
    arrives(source(&filter), &SIGNER, at(0));
    assert_eq!(says(&filter, &token(), at(119), false), "known");
    assert_eq!(says(&filter, &token(), at(120), false), "keys_unavailable token=keys_unavailable");
}

#[test]
fn a_key_that_is_not_known_has_the_set_fetched_again() {
    let filter = filter(published(json!({})));
    let text = claims().to_string();
    let named = |kid: &str| SIGNER.token_with(&json!({"alg": "EdDSA", "kid": kid}), text.as_bytes(), "EdDSA");
    let mut jwk = SIGNER.jwk("EdDSA");
    jwk["kid"] = json!("old");
    let set = KeySet { body: json!({"keys": [jwk]}).to_string().into_bytes(), max_age: None };
    assert!(source(&filter).begin(at(0)));
    source(&filter).fetched(&set, at(0), &mut fastrand::Rng::with_seed(1)).unwrap();
    assert_eq!(says(&filter, &named("old"), at(20), false), "known");
    assert!(!source(&filter).begin(at(20)));
    assert_eq!(says(&filter, &named("new"), at(20), false), "unauthenticated token=key");
    assert!(source(&filter).begin(at(20)), "it may be a new one");
}

#[test]
fn a_push_that_changes_nothing_of_it_keeps_the_keys() {
    let store = StateStore::new([0, 0]);
    let before = filter_in(Mode::Enforce, KIND, published(json!({})), &store);
    arrives(source(&before), &SIGNER, at(0));
    let mut more = published(json!({}));
    more["missing"] = json!("Allow");
    let after = filter_in(Mode::Enforce, KIND, more, &store);
    assert_eq!(says(&after, &token(), at(1), false), "known");
    let elsewhere = published(json!({"uri": "https://issuer.example.com/other"}));
    let other = filter_in(Mode::Enforce, KIND, elsewhere, &store);
    assert_eq!(says(&other, &token(), at(1), true), "keys_unavailable token=keys_unavailable");
}

#[test]
fn where_its_authorities_are_not_found_nobody_is_asked() {
    let lost = json!({"caCertificates": {"configMapRef": {"name": "ca", "key": "ca.crt"}}});
    let filter = filter(published(lost));
    assert!(filter.key_sources().is_empty());
    assert_eq!(says(&filter, &token(), at(0), false), "unauthenticated token=key");
}

#[test]
fn what_is_no_place_for_keys_is_told() {
    for (jwks, want) in [
        (json!({"uri": "ftp://a/"}), "jwks/uri: `ftp://a/` begins neither"),
        (json!({"uri": "/keys"}), "jwks/uri: `/keys` begins neither"),
        (json!({"uri": "https://"}), "jwks/uri: `https://`"),
        (json!({"uri": "https://me:pw@a/"}), "jwks/uri: whoever may read the policy"),
        (json!({"uri": "https://a:0/"}), "jwks/uri: `0` is no port"),
        (json!({"uri": "https://a/", "inline": "{}"}), "jwks: write one of"),
        (json!({"inline": "{}", "timeout": "1s"}), "jwks/timeout: `timeout` goes with `uri` only"),
        (json!({"uri": "https://a/", "timeout": "1m"}), "jwks/timeout: 1m is out of range"),
        (json!({"uri": "https://a/", "maxAge": "1s"}), "jwks/maxAge: 1s is out of range"),
        (json!({"uri": "https://a/", "wait": "1m"}), "jwks/wait: 1m is out of range"),
        (json!({"uri": "https://a/", "caCertificates": {}}), "caCertificates: write one of"),
        (json!({"uri": "https://a/", "caCertificates": {"inline": "x"}}), "inline: there is no certificate"),
        (
            json!({"uri": "http://a/", "caCertificates": {"inline": "-----BEGIN CERTIFICATE-----"}}),
            "caCertificates: http:// knows no certificates",
        ),
    ] {
        let told = faults(KIND, spec(json!({"jwks": jwks})));
        assert!(told.iter().any(|fault| fault.contains(want)), "{jwks}: {told:?}");
    }
}

use http::{HeaderMap, Request, request};
use proptest::prelude::*;

use super::*;
use crate::decision::Decisions;
use crate::model::{Identity, Peer, ResourceName};
use crate::pick::user::LONGEST_KEY;
use crate::pick::{CookieSettings, SameSite, UserKey};

fn cohort(keys: Vec<UserKey>, missing: Missing) -> Cohort {
    let source = SourceRef::File { path: "cohorts.yaml".into(), line: 7 };
    let name = ResourceName::new("shop", "canary");
    let policy = Arc::new(PolicyRef { kind: "CohortPolicy".into(), name, source: source.clone() });
    let users = UserKeys { keys, missing };
    Cohort { policy, mode: Mode::Enforce, source, users, seed: None, named: BTreeMap::new() }
}

fn by_header() -> Cohort {
    cohort(vec![UserKey::Header("x-user".parse().unwrap())], Missing::Random)
}

fn seats<'a>(backends: &[(&'a str, u32)]) -> Vec<Seat<'a>> {
    backends.iter().map(|(identity, weight)| Seat { identity, weight: *weight }).collect()
}

fn bind(cohort: Cohort, rule: &str, backends: &[(&str, u32)]) -> BoundCohort {
    Arc::new(cohort).bind(rule, seats(backends).into_iter())
}

fn head(fields: &[(&str, &str)]) -> request::Parts {
    let builder = fields.iter().fold(Request::get("/"), |b, (name, value)| b.header(*name, *value));
    builder.body(()).unwrap().into_parts().0
}

/// What came of one request.
struct Outcome {
    target: usize,
    decisions: Decisions,
    headers: HeaderMap,
}

fn ask(cohort: &BoundCohort, head: &request::Parts, identity: Option<&str>, seed: u64) -> Outcome {
    let identity = identity.map(|id| Identity(id.into()));
    let peer = Peer { address: "10.1.2.3:4567".parse().unwrap(), identity };
    let (mut decisions, mut headers) = (Decisions::new(), HeaderMap::new());
    let mut cx = PickContext {
        head,
        peer: &peer,
        secure: true,
        unix: &|| std::time::Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(seed),
        decisions: &mut decisions,
        response_headers: &mut headers,
    };
    let target = cohort.pick(&mut cx, |rng| Ok(rng.usize(..2))).unwrap();
    Outcome { target, decisions, headers }
}

fn told(outcome: &Outcome) -> String {
    let [decision] = &outcome.decisions[..] else { panic!("one decision: {:?}", outcome.decisions) };
    let detail = decision.detail.map(|d| d.to_string()).unwrap_or_default();
    format!("{} {} {} {detail}", decision.outcome.as_str(), decision.rule.name, decision.rule.source)
}

const TWO: [(&str, u32); 2] = [("shop/cart-v1:80", 50), ("shop/cart-v2:80", 50)];

fn user(n: usize) -> request::Parts {
    head(&[("x-user", &format!("user-{n}"))])
}

fn picks(cohort: &BoundCohort) -> Vec<usize> {
    (0..1000).map(|n| ask(cohort, &user(n), None, 1).target).collect()
}

#[test]
fn a_user_is_picked_alike_by_every_proxy_whatever_its_luck_and_the_order_of_the_backends() {
    let (a, b) = (bind(by_header(), "r", &TWO), bind(by_header(), "r", &[TWO[1], TWO[0]]));
    for n in 0..100 {
        let (here, there) = (ask(&a, &user(n), None, 1).target, ask(&b, &user(n), None, 99).target);
        assert_eq!(here, 1 - there, "the same backend, at another place of the list");
    }
}

#[test]
fn the_first_key_that_is_present_counts_and_by_its_value() {
    let keys = vec![
        UserKey::Header("x-user".parse().unwrap()),
        UserKey::Cookie("user".into()),
        UserKey::PeerIdentity,
        UserKey::ClientAddress,
    ];
    let cohort = bind(cohort(keys, Missing::Random), "r", &TWO);
    let spiffe = Some("spiffe://cluster.local/ns/shop/sa/web");
    let detail = |fields: &[(&str, &str)], identity| told(&ask(&cohort, &head(fields), identity, 1));
    assert!(detail(&[("x-user", "a"), ("cookie", "user=b")], spiffe).ends_with("key=header"));
    assert!(detail(&[("cookie", "x=1; user=b")], spiffe).ends_with("key=cookie"));
    assert!(detail(&[("cookie", "x=1; user=")], spiffe).ends_with("key=peer_identity"), "empty is absent");
    assert!(detail(&[], None).ends_with("key=client_address"));
    for n in 0..50 {
        let name = format!("user-{n}");
        let by_cookie = ask(&cohort, &head(&[("cookie", &format!("user={name}"))]), None, 1).target;
        assert_eq!(by_cookie, ask(&cohort, &head(&[("x-user", &name)]), None, 1).target);
    }
}

#[test]
fn what_is_too_long_to_be_a_key_is_none() {
    let cohort = bind(by_header(), "r", &TWO);
    let detail = |length: usize| told(&ask(&cohort, &head(&[("x-user", &"x".repeat(length))]), None, 1));
    assert!(detail(LONGEST_KEY).ends_with("key=header"));
    assert!(detail(LONGEST_KEY + 1).ends_with("key=missing"));
}

#[test]
fn no_decision_shows_the_key() {
    let outcome = ask(&bind(by_header(), "r", &TWO), &head(&[("x-user", "secret")]), None, 1);
    assert!(!format!("{:?}", outcome.decisions).contains("secret"));
    assert!(told(&outcome).starts_with("picked shop/cart-v"), "{}", told(&outcome));
    assert!(told(&outcome).contains(" cohorts.yaml:7 key=header"), "{}", told(&outcome));
}

#[test]
fn a_new_user_is_told_a_key_that_leads_back_to_the_same_backend() {
    let settings =
        CookieSettings { name: "id".into(), path: "/".into(), max_age: None, same_site: SameSite::Lax };
    let cohort = bind(cohort(Vec::new(), Missing::SetCookie(settings)), "r", &TWO);
    let mut picked = [0, 0];
    for seed in 0..200 {
        let first = ask(&cohort, &head(&[]), None, seed);
        assert!(told(&first).ends_with("key=new"));
        let cookie = first.headers["set-cookie"].to_str().unwrap();
        assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
        let again = ask(&cohort, &head(&[("cookie", cookie.split(';').next().unwrap())]), None, seed + 1);
        assert_eq!(again.target, first.target);
        assert!(again.headers.is_empty(), "told once");
        picked[first.target] += 1;
    }
    assert!(picked.iter().all(|n| *n > 60), "{picked:?}");
}

#[test]
fn in_shadow_chance_decides_and_what_would_have_been_picked_is_told() {
    let settings =
        CookieSettings { name: "id".into(), path: "/".into(), max_age: None, same_site: SameSite::Lax };
    let keys = vec![UserKey::Header("x-user".parse().unwrap())];
    let shadow = Cohort { mode: Mode::Shadow, ..cohort(keys, Missing::SetCookie(settings)) };
    let (shadow, enforced) = (bind(shadow, "r", &TWO), bind(by_header(), "r", &TWO));
    let mut differ = 0;
    for n in 0..100 {
        let (would, does) =
            (ask(&shadow, &user(n), None, n as u64), ask(&enforced, &user(n), None, n as u64));
        assert_eq!(would.target, fastrand::Rng::with_seed(n as u64).usize(..2), "chance");
        assert_eq!(told(&would), told(&does).replace("picked", "would_pick"));
        differ += usize::from(would.target != does.target);
    }
    assert!(differ > 20);
    assert!(ask(&shadow, &head(&[]), None, 1).headers.is_empty(), "nothing on the wire");
}

/// Worked out by another program, from the definitions in `hash` and `rendezvous`: what this version picks, every other
/// one must.
#[test]
fn forty_users_are_where_they_have_always_been() {
    let backends = [("shop/cart-v1:80", 70), ("shop/cart-v2:80", 20), ("shop/cart-v3:80", 10)];
    let picked = picks(&bind(by_header(), "HTTPRoute/shop/edge/0", &backends));
    let versions: String = picked[..40].iter().map(|target| (target + 1).to_string()).collect();
    assert_eq!(versions, "2212132111213321121131131311111111111121");
}

#[test]
fn rules_are_independent_unless_they_share_a_seed() {
    let seeded = || Cohort { seed: Some("2026".into()), ..by_header() };
    let same = |a: &[usize], b: &[usize]| a.iter().zip(b).filter(|(a, b)| a == b).count();
    let (here, there) = (picks(&bind(by_header(), "a", &TWO)), picks(&bind(by_header(), "b", &TWO)));
    assert!((430..570).contains(&same(&here, &there)), "as two coins: {}", same(&here, &there));
    let (here, there) = (picks(&bind(seeded(), "a", &TWO)), picks(&bind(seeded(), "b", &TWO)));
    assert_eq!(here, there);
    let rule_of_that_name = picks(&bind(by_header(), "2026", &TWO));
    assert!(same(&here, &rule_of_that_name) < 600, "a seed is no rule's name");
}

#[test]
fn named_cohorts_give_backends_of_different_services_the_same_users() {
    let seeded = |canary: &str| {
        let named = BTreeMap::from([(canary.into(), "canary".into())]);
        Cohort { seed: Some("2026".into()), named, ..by_header() }
    };
    let front = bind(seeded("front-v2"), "a", &[("shop/front:80", 90), ("shop/front-v2:80", 10)]);
    let cart = bind(seeded("cart-v2"), "b", &[("shop/cart:80", 90), ("shop/cart-v2:80", 10)]);
    let apart = |a: &[usize], b: &[usize]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    // The stable versions still differ in name, so that the shares agree up to chance between these.
    let unnamed = apart(&picks(&front), &picks(&cart));
    let both = |canary: &str, stable: &str| {
        let named = [(canary.into(), "canary".into()), (stable.into(), "stable".into())];
        Cohort { seed: Some("2026".into()), named: named.into(), ..by_header() }
    };
    let front = bind(both("front-v2", "front"), "a", &[("shop/front:80", 90), ("shop/front-v2:80", 10)]);
    let cart = bind(both("cart-v2", "cart"), "b", &[("shop/cart:80", 90), ("shop/cart-v2:80", 10)]);
    assert_eq!(picks(&front), picks(&cart));
    assert!(unnamed > 0);
}

#[test]
fn a_backend_that_is_there_twice_has_both_shares() {
    let cohort = bind(by_header(), "r", &[("shop/cart:80", 50), ("shop/cart:80", 50)]);
    let second: usize = picks(&cohort).iter().sum();
    assert!((430..570).contains(&second), "{second}");
}

#[test]
fn without_any_weight_chance_is_asked_and_nothing_told() {
    let cohort = bind(by_header(), "r", &[("shop/cart:80", 0)]);
    let outcome = ask(&cohort, &user(1), None, 1);
    assert_eq!(outcome.target, fastrand::Rng::with_seed(1).usize(..2));
}

proptest! {
    #[test]
    fn no_header_makes_it_panic_or_pick_what_is_not_there(value in prop::collection::vec(32_u8..=255, 0..64)) {
        let Ok(value) = http::HeaderValue::from_bytes(&value) else { return Ok(()) };
        let mut head = head(&[]);
        head.headers.insert("cookie", value.clone());
        head.headers.insert("x-user", value);
        let keys = vec![UserKey::Cookie("user".into()), UserKey::Header("x-user".parse().unwrap())];
        let outcome = ask(&bind(cohort(keys, Missing::Random), "r", &TWO), &head, None, 1);
        prop_assert!(outcome.target < 2);
    }
}

use serde_json::{Value, json};

use super::super::tests::{compile, faults};
use super::*;

const KIND: &str = "CohortPolicy";

fn cohort(spec: Value) -> Arc<Cohort> {
    match compile(KIND, spec).expect("valid") {
        Compiled::Cohort(cohort) => cohort,
        _ => panic!("not a cohort"),
    }
}

#[test]
fn keys_are_looked_for_in_the_order_in_which_they_are_written() {
    let cohort = cohort(json!({"key": [
        {"type": "Header", "name": "X-User"}, {"type": "Cookie", "name": "user"}, {"type": "PeerIdentity"},
        {"type": "ClientAddress"},
    ]}));
    let header = UserKey::Header(HeaderName::from_static("x-user"));
    let keys = [header, UserKey::Cookie("user".into()), UserKey::PeerIdentity, UserKey::ClientAddress];
    assert_eq!(cohort.users, UserKeys { keys: keys.into(), missing: Missing::Random });
    assert_eq!(cohort.seed, None);
}

#[test]
fn a_cookie_is_set_for_a_month_and_the_whole_site_unless_written_otherwise() {
    let set = |cookie: Value| {
        let missing = json!({"type": "SetCookie", "cookie": cookie});
        let spec = json!({"key": [{"type": "Cookie", "name": "user"}], "onMissing": missing});
        match &cohort(spec).users.missing {
            Missing::SetCookie(cookie) => cookie.render("x", false).unwrap().to_str().unwrap().to_owned(),
            Missing::Random => panic!("a cookie is set"),
        }
    };
    assert_eq!(set(json!({"name": "id"})), "id=x; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax");
    let all = json!({"name": "id", "path": "/shop", "ttl": "1h", "sameSite": "Strict"});
    assert_eq!(set(all), "id=x; Path=/shop; Max-Age=3600; HttpOnly; SameSite=Strict");
}

#[test]
fn every_fault_is_told_with_its_place() {
    let header = json!({"type": "Header", "name": "x-user"});
    let set = |cookie: Value| json!({"key": [header], "onMissing": {"type": "SetCookie", "cookie": cookie}});
    for (spec, want) in [
        (json!({"key": []}), "spec/key: 0 parts: write 1 to 8"),
        (json!({"key": [{"type": "Header"}]}), "spec/key/0: type Header needs a `name`"),
        (json!({"key": [{"type": "Cookie"}]}), "spec/key/0: type Cookie needs a `name`"),
        (
            json!({"key": [{"type": "Header", "name": "a b"}]}),
            "spec/key/0/name: `a b` is not the name of a header",
        ),
        (
            json!({"key": [{"type": "Cookie", "name": "a=b"}]}),
            "spec/key/0/name: `a=b` is not the name of a cookie",
        ),
        (
            json!({"key": [{"type": "PeerIdentity", "name": "x"}]}),
            "spec/key/0/name: `name` goes with the types Cookie and Header only",
        ),
        (json!({"key": [header, header]}), "spec/key/1: the same key is written twice"),
        (
            json!({"key": [{"type": "ClientAddress"}, header]}),
            "spec/key/0: every request has a ClientAddress: what is written after it is never looked at; put it last",
        ),
        (
            json!({"key": [{"type": "ClientAddress"}], "onMissing": {"type": "Random"}}),
            "spec/onMissing: every request has a ClientAddress: nothing is ever missing; remove one of the two",
        ),
        (
            json!({"key": [header], "onMissing": {"type": "SetCookie"}}),
            "spec/onMissing: type SetCookie needs the `cookie` to set",
        ),
        (
            json!({"key": [header], "onMissing": {"type": "Random", "cookie": {"name": "a"}}}),
            "spec/onMissing/cookie: `cookie` goes with type SetCookie only",
        ),
        (set(json!({"name": "a;"})), "spec/onMissing/cookie/name: `a;` is not the name of a cookie"),
        (
            set(json!({"name": "a", "path": "x"})),
            "spec/onMissing/cookie/path: `x` is not the path of a cookie: it begins with `/`",
        ),
        (
            set(json!({"name": "__Host-a", "path": "/x"})),
            "spec/onMissing/cookie/path: browsers take a cookie `__Host-…` only with the path `/`",
        ),
        (
            set(json!({"name": "a", "ttl": "10ms"})),
            "spec/onMissing/cookie/ttl: 10ms is out of range: use 1s to 9600h",
        ),
        (
            json!({"key": [header], "seed": "a b"}),
            "spec/seed: `a b` cannot be a name: use 1 to 63 letters, digits, `-`, `_` or `.`",
        ),
        (
            json!({"key": [header], "cohorts": [{"name": "canary", "backends": ["v2"]}]}),
            "spec/cohorts: cohorts are named to be the same on several rules: write a `seed` that these share",
        ),
        (
            json!({"key": [header], "seed": "s",
                "cohorts": [{"name": "a", "backends": ["v2"]}, {"name": "b", "backends": ["v2"]}]}),
            "spec/cohorts/1/backends/0: `v2` is in the cohort `a` already",
        ),
    ] {
        assert_eq!(faults(KIND, spec.clone()), [want], "{spec}");
    }
}

//! What each part of a rule matches.

use super::*;

fn from(source: Value) -> Authorizer {
    one("Allow", json!({"from": [source]}))
}

fn to(operation: Value) -> Authorizer {
    one("Allow", json!({"to": [operation]}))
}

fn id(path: &str) -> String {
    format!("spiffe://cluster.local/{path}")
}

#[test]
fn identities_are_compared_as_a_whole_by_elements_or_by_trust_domain() {
    for (wanted, who, want) in [
        (json!({"exact": CHECKOUT}), CHECKOUT, true),
        (json!({"exact": CHECKOUT}), "spiffe://cluster.local/ns/shop/sa/checkout2", false),
        (json!({"prefix": "spiffe://cluster.local/ns/shop"}), CHECKOUT, true),
        (json!({"prefix": "spiffe://cluster.local/ns/shop/"}), CHECKOUT, true),
        (json!({"prefix": "spiffe://cluster.local/ns/sho"}), CHECKOUT, false),
        (json!({"prefix": "spiffe://cluster"}), CHECKOUT, false),
        (json!({"prefix": "spiffe://"}), CHECKOUT, true),
        (json!({"prefix": CHECKOUT}), CHECKOUT, true),
        (json!({"trustDomain": "cluster.local"}), CHECKOUT, true),
        (json!({"trustDomain": "cluster.local"}), "spiffe://cluster.local.evil/ns/shop/sa/checkout", false),
        (json!({"trustDomain": "cluster.local"}), "https://cluster.local/ns/shop/sa/checkout", false),
    ] {
        let authorizer = from(json!({"identities": [wanted]}));
        assert_eq!(passes_from(&authorizer, "10.0.0.1:1", Some(who)), want, "{wanted} {who}");
        assert!(!passes_from(&authorizer, "10.0.0.1:1", None));
    }
}

#[test]
fn namespace_and_service_account_are_those_of_the_whole_spiffe_id() {
    let namespaces = from(json!({"namespaces": ["shop"]}));
    let own = from(json!({"serviceAccounts": ["checkout"]}));
    let other = from(json!({"serviceAccounts": ["web/checkout"]}));
    for (path, of_shop, of_own, of_other) in [
        ("ns/shop/sa/checkout", true, true, false),
        ("ns/web/sa/checkout", false, false, true),
        ("ns/shop/sa/other", true, false, false),
        ("ns/shop/sa/checkout/more", false, false, false),
        ("ns/shop/x/checkout", false, false, false),
        ("x/ns/shop/sa/checkout", false, false, false),
        ("ns/shop", false, false, false),
        ("ns/shop/sa/checkout/", false, false, false),
    ] {
        let passes = |authorizer: &Authorizer| passes_from(authorizer, "10.0.0.1:1", Some(&id(path)));
        assert_eq!(
            (passes(&namespaces), passes(&own), passes(&other)),
            (of_shop, of_own, of_other),
            "{path}"
        );
    }
}

#[test]
fn of_a_stranger_nobody_can_tell_that_he_is_not_one_of_these() {
    let not = json!({"not": {"namespaces": ["evil"]}});
    let (allow, deny) = (from(not.clone()), one("Deny", json!({"from": [not]})));
    for (who, want) in [(Some(id("ns/shop/sa/a")), true), (Some(id("ns/evil/sa/a")), false), (None, false)] {
        assert_eq!(passes_from(&allow, "10.0.0.1:1", who.as_deref()), want, "{who:?}");
    }
    // Whoever is not of that namespace is denied, and a stranger may be none of it.
    for (who, want) in [(Some(id("ns/shop/sa/a")), false), (Some(id("ns/evil/sa/a")), true), (None, false)] {
        assert_eq!(passes_from(&deny, "10.0.0.1:1", who.as_deref()), want, "{who:?}");
    }
}

#[test]
fn all_that_is_written_of_a_source_must_fit_and_one_source_of_several() {
    let both = from(json!({"namespaces": ["shop"], "ipBlocks": ["10.0.0.0/8"]}));
    assert!(passes_from(&both, "10.9.9.9:1", Some(CHECKOUT)));
    assert!(!passes_from(&both, "11.9.9.9:1", Some(CHECKOUT)));
    assert!(!passes_from(&both, "10.9.9.9:1", None));
    let either = one("Allow", json!({"from": [{"namespaces": ["shop"]}, {"ipBlocks": ["10.0.0.0/8"]}]}));
    assert!(passes_from(&either, "11.9.9.9:1", Some(CHECKOUT)));
    assert!(passes_from(&either, "10.9.9.9:1", None));
    assert!(!passes_from(&either, "11.9.9.9:1", None));
    let but = from(json!({"ipBlocks": ["10.0.0.0/8"], "not": {"ipBlocks": ["10.1.0.0/16"]}}));
    assert!(passes_from(&but, "10.2.0.1:1", None) && !passes_from(&but, "10.1.0.1:1", None));
}

#[test]
fn an_address_is_that_of_the_connection_or_what_trusted_proxies_have_told() {
    let near = from(json!({"ipBlocks": ["192.0.2.0/24"]}));
    let told = from(json!({"ipBlocks": ["192.0.2.0/24"], "trustedHops": 1}));
    let asked = || get("/").header("x-forwarded-for", "192.0.2.9");
    let ask =
        |authorizer: &Authorizer, who: &str, request| ask_as(authorizer, &peer(who, None), request, None).0;
    assert!(!ask(&near, "10.0.0.1:1", asked()), "nobody said that this proxy is to be believed");
    assert!(ask(&told, "10.0.0.1:1", asked()));
    assert!(!ask(&told, "10.0.0.1:1", get("/")));
    assert!(ask(&near, "[::ffff:192.0.2.1]:1", get("/")));
}

#[test]
fn paths_are_whole_elements_and_templates() {
    for (wanted, path, want) in [
        (json!({"exact": "/a"}), "/a", true),
        (json!({"exact": "/a"}), "/a/", false),
        (json!({"prefix": "/a"}), "/a", true),
        (json!({"prefix": "/a"}), "/a/b?c", true),
        (json!({"prefix": "/a/"}), "/a", true),
        (json!({"prefix": "/a"}), "/ab", false),
        (json!({"prefix": "/"}), "/anything", true),
        (json!({"prefix": "/"}), "/", true),
        (json!({"template": "/users/{id}/orders"}), "/users/7/orders", true),
        (json!({"template": "/users/{id}/orders"}), "/users/7/orders/8", false),
        // As requests are: `%61` is `a`.
        (json!({"exact": "/%61"}), "/a", true),
    ] {
        assert_eq!(passes(&to(json!({"paths": [wanted]})), get(path)), want, "{wanted} {path}");
    }
}

#[test]
fn no_way_to_write_a_path_leads_past_a_rule() {
    let paths = json!({"to": [{"paths": [{"prefix": "/admin"}]}]});
    let (deny, allow) = (one("Deny", paths.clone()), one("Allow", paths));
    // Some servers read `/admin/x`.
    for path in ["/admin%2Fx", "/admin%5Cx"] {
        assert!(!passes(&deny, get(path)) && !passes(&allow, get(path)), "{path}");
    }
    let sub = json!({"to": [{"paths": [{"prefix": "/a/b"}]}]});
    assert!(!passes(&one("Deny", sub), get("/a%2Fb/c")));
    assert!(passes(&one("Deny", json!({"to": [{"paths": [{"exact": "/x"}]}]})), get("/@scope%2Fname")));
}

#[test]
fn methods_hosts_and_ports_are_those_of_the_request() {
    assert!(passes(&to(json!({"methods": ["GET", "PUT"]})), Request::put("/")));
    assert!(!passes(&to(json!({"methods": ["GET", "PUT"]})), Request::post("/")));
    let hosts = to(json!({"hosts": ["cart.shop", "*.example.com"]}));
    for (host, want) in [
        ("cart.shop", true),
        ("CART.shop:8080", true),
        ("a.b.example.com", true),
        ("example.com", false),
        ("evil-example.com", false),
    ] {
        assert_eq!(passes(&hosts, Request::get("/").header("host", host)), want, "{host}");
    }
    assert!(passes(&to(json!({"ports": [8080]})), get("/")));
    assert!(!passes(&to(json!({"ports": [8081]})), get("/")));
    let elsewhere = Authorizer::new(
        [authorization(Mode::Enforce, json!({"rules": [rule("Deny", json!({"to": [{"ports": [1]}]}))]}))],
        None,
    );
    assert!(!passes(&elsewhere, get("/")), "of a port that is not known, nobody can tell that it is another");
}

#[test]
fn of_several_values_of_a_header_all_must_fit_or_nobody_can_tell() {
    let exact = json!({"to": [{"headers": [{"name": "x-role", "exact": "admin"}]}]});
    let (allow, deny) = (one("Allow", exact.clone()), one("Deny", exact));
    let with =
        |values: &[&str]| values.iter().fold(get("/"), |request, value| request.header("x-role", *value));
    for (values, allowed, denied) in [
        (&["admin"][..], true, true),
        (&["user"], false, false),
        (&[], false, false),
        (&["admin", "user"], false, true),
        (&["admin", "admin"], true, true),
    ] {
        assert_eq!(
            (passes(&allow, with(values)), !passes(&deny, with(values))),
            (allowed, denied),
            "{values:?}"
        );
    }
    assert!(passes(&to(json!({"headers": [{"name": "X-Role", "present": true}]})), with(&["any"])));
    assert!(passes(&to(json!({"headers": [{"name": "x-role", "prefix": "ad"}]})), with(&["admin"])));
    assert!(passes(&to(json!({"not": {"headers": [{"name": "x-role", "present": true}]}})), with(&[])));
    assert!(!passes(&to(json!({"not": {"headers": [{"name": "x-role", "present": true}]}})), with(&["a"])));
}

#[test]
fn claims_are_those_of_a_token_that_was_verified_and_all_must_be_there() {
    let claims = json!({"claims": [
        {"claim": "plan", "values": ["gold", "silver"]},
        {"path": ["realm", "roles"], "values": ["admin"]},
    ]});
    let authorizer = one("Allow", claims);
    for (token, want) in [
        (Some(r#"{"plan": "gold", "realm": {"roles": ["user", "admin"]}}"#), true),
        (Some(r#"{"plan": "gold", "realm": {"roles": "admin"}}"#), true),
        (Some(r#"{"plan": "gold", "realm": {"roles": ["user"]}}"#), false),
        (Some(r#"{"plan": "free", "realm": {"roles": ["admin"]}}"#), false),
        (Some(r#"{"plan": "gold"}"#), false),
        (None, false),
    ] {
        let said = ask_as(&authorizer, &checkout(), get("/"), token.map(claims_of));
        assert_eq!(said.0, want, "{token:?}");
    }
    let level = one("Allow", json!({"claims": [{"claim": "level", "values": ["3"]}]}));
    assert!(ask_as(&level, &checkout(), get("/"), Some(claims_of(r#"{"level": 3}"#))).0);
}

#[test]
fn an_expression_sees_who_asks_and_what_for() {
    let when = "source.identity.startsWith('spiffe://cluster.local/') && request.method == 'GET' && jwt.claims.age >= 18";
    let authorizer = one("Allow", json!({"when": when}));
    assert!(ask_as(&authorizer, &checkout(), get("/"), Some(claims_of(r#"{"age": 18}"#))).0);
    assert!(!ask_as(&authorizer, &checkout(), get("/"), Some(claims_of(r#"{"age": 17}"#))).0);
    assert!(!ask_as(&authorizer, &checkout(), get("/"), None).0);
    let known = one("Allow", json!({"when": "has(source.identity)"}));
    assert!(passes_from(&known, "10.0.0.1:1", Some(CHECKOUT)));
    let (passed, said) = ask_as(&known, &peer("10.0.0.1:1", None), get("/"), None);
    assert_eq!(
        (passed, words(&said)),
        (false, vec![String::from("default refused")]),
        "it is known that he is not"
    );
}

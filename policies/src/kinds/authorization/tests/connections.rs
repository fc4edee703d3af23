//! Connections that are carried as a whole, and what goes on when the configuration changes.

use super::*;

fn is_let_in(authorizer: &Authorizer, peer: &Peer, server_name: Option<&str>) -> bool {
    connect(authorizer, peer, server_name).0.is_ok()
}

#[test]
fn of_a_connection_the_peer_its_address_the_port_and_the_server_name_are_known() {
    for (part, want) in [
        (json!({"from": [{"identities": [{"exact": CHECKOUT}]}]}), true),
        (json!({"from": [{"namespaces": ["web"]}]}), false),
        (json!({"from": [{"ipBlocks": ["10.0.0.0/8"]}]}), true),
        (json!({"from": [{"ipBlocks": ["10.0.0.0/16"]}]}), false),
        (json!({"to": [{"ports": [8080]}]}), true),
        (json!({"to": [{"ports": [9090]}]}), false),
        (json!({"to": [{"hosts": ["*.example.com"]}]}), true),
        (json!({"to": [{"hosts": ["example.org"]}]}), false),
        (json!({"when": "source.address == '10.1.2.3'"}), true),
        (json!({"when": "has(source.identity) && source.port == 1"}), false),
    ] {
        let name = Some("DB.example.com");
        assert_eq!(is_let_in(&one("Allow", part.clone()), &checkout(), name), want, "{part}");
        assert_eq!(is_let_in(&one("Deny", part.clone()), &checkout(), name), !want, "{part}");
    }
}

#[test]
fn what_only_requests_have_counts_against_a_connection() {
    for part in [
        json!({"to": [{"methods": ["GET"]}]}),
        json!({"to": [{"not": {"methods": ["GET"]}}]}),
        json!({"to": [{"paths": [{"prefix": "/admin"}]}]}),
        json!({"to": [{"headers": [{"name": "a", "present": true}]}]}),
        json!({"to": [{"hosts": ["a.example"]}]}),
        json!({"claims": [{"claim": "sub", "values": ["ann"]}]}),
        json!({"when": "request.method == 'GET'"}),
        json!({"when": "has(request.headers.a)"}),
        json!({"when": "!has(jwt.claims.sub)"}),
        json!({"from": [{"ipBlocks": ["10.0.0.0/8"], "trustedHops": 1}]}),
    ] {
        let deny = connect(&one("Deny", part.clone()), &checkout(), None);
        assert_eq!(words(&deny.1), ["it refused match=undecidable"], "{part}");
        assert_eq!(deny.0, Err(Cut { reason: Reason::AccessDenied, reset: true }));
        let allow = connect(&one("Allow", part.clone()), &checkout(), None);
        assert_eq!(words(&allow.1), ["it refused match=undecidable"], "{part}");
    }
    // What is known decides first.
    let other = json!({"from": [{"namespaces": ["web"]}], "to": [{"methods": ["GET"]}]});
    assert!(is_let_in(&one("Deny", other), &checkout(), None));
}

#[test]
fn a_connection_whose_requests_are_judged_one_by_one_comes_in() {
    let (peer, mut decisions) = (checkout(), Decisions::new());
    let mut cx = ConnectionContext {
        port: 80,
        peer: &peer,
        server_name: None,
        carried: false,
        now: Timestamp::from_millis(1),
        decisions: &mut decisions,
    };
    assert_eq!(one("Deny", json!({})).on_connection(&mut cx), Ok(()));
    assert!(decisions.is_empty());
}

#[test]
fn a_policy_in_shadow_lets_connections_in_and_tells_whom_it_would_not() {
    let shadow = level([(Mode::Shadow, json!({"rules": [rule("Deny", json!({}))]}))]);
    let (said, decisions) = connect(&shadow, &checkout(), None);
    assert_eq!((said, words(&decisions)), (Ok(()), vec![String::from("it would_refuse")]));
}

#[test]
fn what_goes_on_is_judged_by_what_it_was_opened_with() {
    let (peer, claims) = (checkout(), claims_of(r#"{"sub": "ann"}"#));
    let (head, ()) = get("/chat").body(()).unwrap().into_parts();
    let tunnel = OpenedBy { head: &head, route: Some("shop/r"), claims: Some(&claims) };
    let goes_on = |part: Value, opened_by: Option<OpenedBy<'_>>| {
        let decisions = &mut Decisions::new();
        let mut cx = Ongoing { peer: &peer, server_name: None, opened_by, decisions };
        let said = one("Deny", part).on_change(&mut cx);
        assert_eq!(said.is_err(), !decisions.is_empty());
        said.is_ok()
    };
    assert!(!goes_on(json!({"to": [{"paths": [{"exact": "/chat"}]}]}), Some(tunnel)));
    assert!(goes_on(json!({"to": [{"paths": [{"exact": "/other"}]}]}), Some(tunnel)));
    assert!(!goes_on(json!({"claims": [{"claim": "sub", "values": ["ann"]}]}), Some(tunnel)));
    assert!(!goes_on(json!({"to": [{"paths": [{"exact": "/other"}]}]}), None), "nobody can tell");
    assert!(goes_on(json!({"from": [{"namespaces": ["web"]}]}), None));
}

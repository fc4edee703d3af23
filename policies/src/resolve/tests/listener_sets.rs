//! ListenerSets: which Gateways take their listeners, who yields to whom, and what routes see of it.

use proptest::prelude::*;

use super::backend_tls::PEM;
use super::*;

/// A Gateway `edge` with `listeners`, in the namespace `infra`.
fn gateway(allowed: &str, listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: infra}}
spec:
  gatewayClassName: tidegate
  listeners: [{listeners}]
{allowed}
---
"
    )
}

fn from(namespaces: &str) -> String {
    format!("  allowedListeners: {{namespaces: {{{namespaces}}}}}")
}

/// A ListenerSet `namespace/name` for that Gateway; `age` is the month in which it was made.
fn set(name: &str, age: u8, listeners: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-0{age}-01T00:00:00Z'}}
spec:
  parentRef: {{name: edge, namespace: infra}}
  listeners: [{listeners}]
---
"
    )
}

fn http(name: &str, port: u16, host: &str) -> String {
    format!("{{name: {name}, port: {port}, protocol: HTTP, hostname: {host}}}")
}

const OPEN: &str = "{name: own, port: 80, protocol: HTTP}";

fn served(resolved: &Resolved) -> Vec<String> {
    resolved.resources.listeners.keys().map(ListenerName::to_string).collect()
}

/// `listener: type=reason …` of what is wrong with the listeners of a set, and how many routes each has.
fn entries(resolved: &Resolved, set: &str) -> Vec<String> {
    let entry = |l: &ListenerStatus| {
        let wrong = l.conditions.iter().filter(|c| c.holds == (c.kind == "Conflicted"));
        let wrong: String = wrong.map(|c| format!(" {}={}", c.kind, c.reason)).collect();
        format!("{}:{} {}", l.name, wrong, l.attached_routes)
    };
    resolved.listeners[&key("ListenerSet", &name(set))].iter().map(entry).collect()
}

fn attached(resolved: &Resolved) -> usize {
    resolved.listener_sets[&name("infra/edge")]
}

#[test]
fn a_gateway_takes_the_listeners_of_the_namespaces_that_it_allows() {
    let friends = "from: Selector, selector: {matchLabels: {tier: front}}";
    let label = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {tier: front}}\n---\n";
    for (allowed, team, infra) in [
        (String::new(), false, false),
        (String::from("  allowedListeners: {}"), false, false),
        (String::from("  allowedListeners: {namespaces: {}}"), false, false),
        (from("from: None"), false, false),
        (from("from: Same"), false, true),
        (from("from: All"), true, true),
        (from(friends), true, false),
        // A selector without the word is nothing.
        (from("selector: {}"), false, false),
    ] {
        let sets = set("team/a", 1, &http("a", 80, "a.org")) + &set("infra/b", 2, &http("b", 80, "b.org"));
        let resolved = resolve(&objects(&(gateway(&allowed, OPEN) + label + &sets)));
        for (name, is_allowed) in [("team/a", team), ("infra/b", infra)] {
            let expected = if is_allowed { "Accepted=Accepted" } else { "!Accepted=NotAllowed" };
            assert_eq!(told(&resolved, &format!("ListenerSet {name}")), [expected], "{allowed}");
            let listener = format!("infra/edge/{name}/{}", &name[name.len() - 1..]);
            assert_eq!(served(&resolved).contains(&listener), is_allowed, "{allowed}");
        }
        assert_eq!(attached(&resolved), usize::from(team) + usize::from(infra), "{allowed}");
        assert!(served(&resolved).contains(&String::from("infra/edge/own")), "{allowed}");
        assert_eq!(told(&resolved, "Gateway infra/edge"), ["Accepted=Accepted"]);
    }
}

#[test]
fn a_set_without_a_gateway_of_ours_that_is_accepted_serves_nothing() {
    let listener = http("a", 80, "a.org");
    let all = from("from: All");
    for (gateway, condition) in [
        (String::new(), "!Accepted=ParentNotAccepted"),
        (gateway(&all, "{name: own, port: 80, protocol: UDP}"), "!Accepted=ParentNotAccepted"),
        (
            gateway(&format!("{all}\n  addresses: [{{type: Hostname, value: a.org}}]"), OPEN),
            "!Accepted=ParentNotAccepted",
        ),
        (gateway(&all, OPEN).replace(": tidegate", ": other"), "Ignored=OtherGatewayClass"),
        (gateway(&all, OPEN).replace("kind: Gateway", "kind: Service"), "!Accepted=Invalid"),
    ] {
        let is_service = gateway.contains("kind: Service");
        let set = set("team/a", 1, &listener);
        let text = if is_service {
            set.replace("{name: edge", "{kind: Service, group: '', name: edge")
        } else {
            gateway.clone() + &set
        };
        let resolved = resolve(&objects(&text));
        assert_eq!(told(&resolved, "ListenerSet team/a"), [condition], "{gateway}");
        assert!(served(&resolved).is_empty(), "{gateway}");
    }
}

#[test]
fn of_listeners_that_cannot_be_told_apart_those_of_the_gateway_hold_then_those_of_the_older_set() {
    let own = http("own", 80, "own.org") + ", {name: plain, port: 81, protocol: HTTP}";
    let tls = "{name: tls, port: 81, protocol: TLS, hostname: t.org, tls: {mode: Passthrough}}";
    let text = gateway(&from("from: All"), &own)
        + &set("team/young", 3, &format!("{}, {}", http("lost", 80, "x.org"), http("kept", 80, "young.org")))
        + &set("team/old", 2, &format!("{}, {}, {tls}", http("x", 80, "x.org"), http("own", 80, "own.org")))
        + &set("other/same", 3, &http("y", 80, "young.org"))
        + &set("team/none", 4, &http("x", 80, "x.org"));
    let resolved = resolve(&objects(&text));
    let expected = ["infra/edge/own", "infra/edge/plain", "infra/edge/other/same/y", "infra/edge/team/old/x"];
    assert_eq!(served(&resolved), expected);
    let lost = |name: &str, reason: &str| format!("{name}: Accepted={reason} Conflicted={reason} 0");
    let (host, protocol) = ("HostnameConflict", "ProtocolConflict");
    assert_eq!(entries(&resolved, "team/old"), ["x: 0".to_owned(), lost("own", host), lost("tls", protocol)]);
    assert_eq!(entries(&resolved, "team/young"), [lost("lost", host), lost("kept", host)]);
    let accepted = |set: &str| told(&resolved, &format!("ListenerSet {set}"))[0].clone();
    assert_eq!(accepted("team/old"), "Accepted=ListenersNotValid");
    assert_eq!(accepted("team/young"), "!Accepted=ListenersNotValid");
    assert_eq!(accepted("team/none"), "!Accepted=ListenersNotValid");
    assert_eq!(attached(&resolved), 2);
    assert_eq!(told(&resolved, "Gateway infra/edge"), ["Accepted=Accepted"]);
}

#[test]
fn within_a_set_nobody_wins_and_what_a_gateway_disputes_is_free_for_no_set() {
    let twice = |port: u16| {
        let a = format!("{{name: a, port: {port}, protocol: HTTP}}");
        format!("{a}, {{name: b, port: {port}, protocol: TLS, tls: {{mode: Passthrough}}}}")
    };
    let text =
        gateway(&from("from: All"), &format!("{}, {{name: fine, port: 82, protocol: HTTP}}", twice(80)))
            + &set("team/a", 1, &format!("{}, {}", twice(81), http("c", 80, "c.org")))
            + &set("team/b", 2, "{name: b, port: 81, protocol: HTTP}");
    let resolved = resolve(&objects(&text));
    assert_eq!(served(&resolved), ["infra/edge/fine", "infra/edge/team/b/b"]);
    let lost = |name: &str| format!("{name}: Accepted=ProtocolConflict Conflicted=ProtocolConflict 0");
    assert_eq!(entries(&resolved, "team/a"), [lost("a"), lost("b"), lost("c")]);
}

#[test]
fn a_listener_that_has_to_yield_is_not_in_the_way_of_its_own_set() {
    let listeners = format!("{}, {{name: tcp, port: 80, protocol: TCP}}", http("fine", 80, "a.org"));
    let text = gateway(&from("from: All"), OPEN) + &set("team/s", 1, &listeners);
    let resolved = resolve(&objects(&text));
    let tcp = "tcp: Accepted=ProtocolConflict Conflicted=ProtocolConflict 0";
    assert_eq!(entries(&resolved, "team/s"), ["fine: 0", tcp]);
    assert_eq!(told(&resolved, "ListenerSet team/s")[0], "Accepted=ListenersNotValid");
}

#[test]
fn what_other_namespaces_have_is_not_told() {
    let text = gateway(&from("from: All"), &http("own", 80, "own.org"))
        + &set("secret/first", 1, &http("hidden", 80, "a.org"))
        + &set("team/first", 2, &http("b", 80, "b.org"))
        + &set("team/late", 3, &["a", "b", "own"].map(|n| http(n, 80, &format!("{n}.org"))).join(", "));
    let resolved = resolve(&objects(&text));
    let statuses = &resolved.listeners[&key("ListenerSet", &name("team/late"))];
    let messages: Vec<_> = statuses.iter().map(|l| l.conditions[1].message.as_str()).collect();
    let whole = told(&resolved, "ListenerSet team/late");
    assert_eq!(whole[0], "!Accepted=ListenersNotValid");
    assert!(messages[0].ends_with("as a listener of another namespace, which came first"), "{}", messages[0]);
    assert!(messages[1].contains("as infra/edge/team/first/b (shop.yaml:"), "{}", messages[1]);
    assert!(messages[2].contains("as infra/edge/own (shop.yaml:"), "{}", messages[2]);
    let all = resolved.conditions[&key("ListenerSet", &name("team/late"))].iter();
    assert!(all.chain(statuses.iter().flat_map(|l| &l.conditions)).all(|c| !c.message.contains("secret")));
}

fn route(route: &str, parent: &str) -> String {
    let (namespace, route) = route.split_once('/').unwrap();
    http_route(namespace, parent, "").replace("{name: r,", &format!("{{name: {route},"))
}

#[test]
fn a_route_holds_at_the_listeners_of_the_parent_that_it_names_and_at_no_others() {
    let of_set = |more: &str| format!("{{kind: ListenerSet, name: s, namespace: team{more}}}");
    let text = gateway(&from("from: All"), OPEN)
        + &set("team/s", 1, &format!("{}, {}", http("own", 80, "a.org"), http("b", 81, "b.org")))
        + &route("infra/gateway", "{name: edge}")
        + &route("infra/lost", "{name: edge, sectionName: b}")
        + &route("infra/elsewhere", &of_set(""))
        + &route("team/all", &of_set(""))
        + &route("team/section", &of_set(", sectionName: own"))
        + &route("team/port", &of_set(", port: 81"))
        + &route("team/none", &of_set(", sectionName: own, port: 81"))
        + &route("team/gone", "{kind: ListenerSet, name: gone}")
        + &route("team/both", &format!("{}, {{name: edge, namespace: infra}}", of_set("")));
    let resolved = resolve(&objects(&text));
    let places = |of: &str| -> Vec<String> {
        let route = resolved.resources.routes.get(&(RouteKind::Http, name(of)));
        let parents = route.map_or(&[][..], |route| &route.parents);
        let place = |parent: &RouteParent| match parent {
            RouteParent::Listener { listener, hostnames } => format!("{listener} {}", hostnames[0]),
            RouteParent::Service { .. } => unreachable!(),
        };
        parents.iter().map(place).collect()
    };
    let (a, b) = ("infra/edge/team/s/own a.org", "infra/edge/team/s/b b.org");
    assert_eq!(places("infra/gateway"), ["infra/edge/own "]);
    assert_eq!(places("team/all"), [a, b]);
    assert_eq!(places("team/section"), [a]);
    assert_eq!(places("team/port"), [b]);
    assert_eq!(places("team/both"), [a, b]);
    let accepted = |of: &str| told(&resolved, &format!("HTTPRoute {of}"))[0].clone();
    // `Same` is the namespace of the set, not that of its Gateway.
    assert_eq!(accepted("infra/elsewhere"), "!Accepted=NotAllowedByListeners");
    assert_eq!(accepted("infra/lost"), "!Accepted=NoMatchingParent");
    assert_eq!(accepted("team/none"), "!Accepted=NoMatchingParent");
    assert_eq!(accepted("team/gone"), "!Accepted=NoMatchingParent");
    let of_both: Vec<_> = resolved.conditions[&key("HTTPRoute", &name("team/both"))]
        .iter()
        .map(|c| (c.parent, c.holds, c.reason))
        .collect();
    let refs = (None, true, "ResolvedRefs");
    assert_eq!(of_both, [(Some(1), false, "NotAllowedByListeners"), (Some(0), true, "Accepted"), refs]);
    assert_eq!(entries(&resolved, "team/s"), ["own: 3", "b: 3"]);
    let own = &resolved.listeners[&key("Gateway", &name("infra/edge"))];
    assert_eq!(own[0].attached_routes, 1);
}

fn grant(kind: &str, namespace: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{name: for-{kind}-{namespace}, namespace: vault}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: {namespace}}}]
  to: [{{group: '', kind: Secret}}]
---
"
    )
    .replace("for-Gateway", "for-gateway")
    .replace("for-ListenerSet", "for-set")
}

fn secret() -> String {
    let (chain, key) = (
        serde_json::to_string(PEM).unwrap(),
        "\"-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n\"",
    );
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert, namespace: vault}}\ntype: kubernetes.io/tls\n\
         stringData: {{tls.crt: {chain}, tls.key: {key}}}\n---\n"
    )
}

#[test]
fn what_is_granted_to_a_gateway_is_not_granted_to_its_sets_nor_the_other_way_round() {
    let https = |name: &str| {
        let refs = "tls: {certificateRefs: [{name: cert, namespace: vault}]}";
        format!("{{name: {name}, port: 443, protocol: HTTPS, hostname: {name}.org, {refs}}}")
    };
    for (kind, namespace, expected) in [
        ("Gateway", "infra", vec!["infra/edge/plain", "infra/edge/own"]),
        ("ListenerSet", "infra", vec!["infra/edge/plain"]),
        ("Gateway", "team", vec!["infra/edge/plain"]),
        ("ListenerSet", "team", vec!["infra/edge/plain", "infra/edge/team/s/s"]),
    ] {
        let text = gateway(&from("from: All"), &format!("{}, {}", http("plain", 80, "a.org"), https("own")))
            + &set("team/s", 1, &https("s"))
            + &secret()
            + &grant(kind, namespace);
        let resolved = resolve(&objects(&text));
        let mut served = served(&resolved);
        served.sort_by_key(|listener| (listener.len(), listener == "infra/edge/own"));
        served.sort_by_key(|listener| !listener.ends_with("plain"));
        assert_eq!(served, expected, "{kind} {namespace}");
        let refused = "s: ResolvedRefs=RefNotPermitted 0";
        let fine = served.len() == 2 && kind == "ListenerSet";
        assert_eq!(entries(&resolved, "team/s"), [if fine { "s: 0" } else { refused }]);
        let accepted = if fine { "Accepted=Accepted" } else { "!Accepted=ListenersNotValid" };
        assert_eq!(told(&resolved, "ListenerSet team/s")[0], accepted);
    }
}

#[test]
fn how_a_gateway_judges_its_clients_holds_for_its_sets_and_names_nothing_of_it() {
    let tls = |ca: &str| {
        let refs = format!("{{caCertificateRefs: [{{group: '', kind: ConfigMap, name: {ca}}}]}}");
        format!("{}\n  tls: {{frontend: {{default: {{validation: {refs}}}}}}}", from("from: All"))
    };
    let https =
        "{name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: vault}]}}";
    let bundle = serde_json::to_string(PEM).unwrap();
    let bundle = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: infra}}\ndata: {{ca.crt: {bundle}}}\n---\n"
    );
    let with = |ca: &str| {
        let text = gateway(&tls(ca), OPEN) + &set("team/s", 1, https) + &secret() + &bundle;
        resolve(&objects(&(text + &grant("ListenerSet", "team"))))
    };
    let resolved = with("ca");
    let listener = resolved.resources.listeners.values().find(|listener| listener.port == 443).unwrap();
    assert!(listener.clients.is_some());
    let resolved = with("confidential");
    assert_eq!(served(&resolved), ["infra/edge/own"]);
    let refs = "ResolvedRefs=InvalidCACertificateRef";
    assert_eq!(entries(&resolved, "team/s"), [format!("s: Accepted=NoValidCACertificate {refs} 0")]);
    let key = key("ListenerSet", &name("team/s"));
    let of_listeners = resolved.listeners[&key].iter().flat_map(|listener| &listener.conditions);
    let mut all = of_listeners.chain(&resolved.conditions[&key]);
    assert!(all.all(|condition| !condition.message.contains("confidential")));
}

#[test]
fn a_policy_on_a_gateway_holds_for_its_sets_and_one_on_a_set_for_that_alone() {
    let limit = |name: &str, target: &str| {
        let namespace = if target.contains("edge") { "infra" } else { "team" };
        format!(
            "
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  targetRefs: [{target}]
  limits: [{{name: all, requests: 1, per: 1s}}]
---
"
        )
    };
    let text = gateway(&from("from: All"), OPEN)
        + &set("team/s", 1, &format!("{}, {}", http("own", 80, "a.org"), http("b", 81, "b.org")))
        + &limit("whole", "{kind: Gateway, name: edge}")
        + &limit("own", "{kind: Gateway, name: edge, sectionName: own}")
        + &limit("set", "{kind: ListenerSet, name: s}")
        + &limit("b", "{kind: ListenerSet, name: s, sectionName: b}")
        + &limit("gone", "{kind: ListenerSet, name: s, sectionName: c}");
    let resolved = resolve(&objects(&text));
    let attachments = crate::attach::Attachments::new(resolved.resources.policies.values());
    let place = crate::attach::Place { resources: &resolved.resources, rule: None };
    let at = |listener: &ListenerName| {
        let effective = attachments.effective(&place.gateway(listener, None));
        effective.iter().map(|policy| policy.meta.name.name.to_string()).collect::<Vec<_>>()
    };
    let all: Vec<_> = resolved.resources.listeners.keys().map(at).collect();
    assert_eq!(all, [["own"], ["b"], ["set"]]);
    assert_eq!(told(&resolved, "RateLimitPolicy team/gone"), ["!Accepted=TargetNotFound"]);
    let without = text.replace("kind: ListenerSet, name: s}", "kind: ListenerSet, name: gone}");
    let resolved = resolve(&objects(&without));
    let attachments = crate::attach::Attachments::new(resolved.resources.policies.values());
    let place = crate::attach::Place { resources: &resolved.resources, rule: None };
    let own = resolved.resources.listeners.keys().find(|l| l.set.is_some() && &*l.section == "own").unwrap();
    let effective = attachments.effective(&place.gateway(own, None));
    assert_eq!(&*effective[0].meta.name.name, "whole");
}

/// Listeners from few ports and names, so that many cannot be told apart.
fn some_listeners() -> impl Strategy<Value = String> {
    let listener = (0..2_u16, 0..4_usize).prop_map(|(port, host)| (80 + port, host));
    proptest::collection::btree_set(listener, 1..4).prop_map(|places| {
        let listener = |(at, (port, host)): (usize, (u16, usize))| {
            let hosts = ["a.org", "b.org", "'*.b.org'"];
            hosts.get(host).map_or_else(
                || format!("{{name: l{at}, port: {port}, protocol: TLS, tls: {{mode: Passthrough}}}}"),
                |host| http(&format!("l{at}"), port, host),
            )
        };
        places.into_iter().enumerate().map(listener).collect::<Vec<_>>().join(", ")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_documents_does_not_matter(
        own in some_listeners(),
        sets in proptest::collection::vec((some_listeners(), 1..3_u8), 1..5),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut all = objects(&gateway(&from("from: All"), &own));
        for (at, (listeners, age)) in sets.iter().enumerate() {
            let namespace = if at % 2 == 0 { "team" } else { "other" };
            all.extend(objects(&set(&format!("{namespace}/s{at}"), *age, listeners)));
            let parent = format!("{{kind: ListenerSet, name: s{at}}}");
            all.extend(objects(&route(&format!("{namespace}/r{at}"), &parent)));
        }
        let expected = resolve(&all);
        let turn = seed.index(all.len());
        all.rotate_left(turn);
        prop_assert_eq!(&resolve(&all), &expected);
        all.reverse();
        prop_assert_eq!(&resolve(&all), &expected);
        // Whoever is served has its place alone, and no set has one of the Gateway's.
        let served: Vec<_> = expected.resources.listeners.values().collect();
        for (at, one) in served.iter().enumerate() {
            let same = |other: &&&crate::model::Listener| {
                other.port == one.port && other.hostname() == one.hostname()
            };
            prop_assert_eq!(served[at + 1..].iter().find(same), None);
        }
        let without = resolve(all.iter().filter(|object| !matches!(object, Object::ListenerSet(_))));
        let own = |resolved: &Resolved| resolved.listeners[&key("Gateway", &name("infra/edge"))].clone();
        prop_assert_eq!(own(&without), own(&expected));
    }
}

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::document;
use crate::snapshot::Scope;
use crate::state::StateStore;

const MESH: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: canary, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example.com]
  rules:
  - name: cart
    matches: [{path: {value: /cart}}]
    backendRefs: [{name: cart, port: 80, weight: 9}, {name: canary, port: 80, weight: 0}]
    timeouts: {request: 7s}
  - name: canary
    matches: [{path: {value: /cart}, headers: [{name: x-canary, value: '1'}]}]
    backendRefs: [{name: cart, port: 80}]
  - name: rest
    backendRefs: [{name: cart, port: 80}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: of-edge, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
  limits: [{name: all, requests: 5, per: 1s}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: of-route, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}]
  limits: [{name: everyone, requests: 3, per: 1s}]
---
apiVersion: tidegate.io/v1alpha1
kind: TimeoutPolicy
metadata: {name: patience, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  perTry: 2s
---
apiVersion: tidegate.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}]
  rules: [{name: admin, action: Deny, to: [{paths: [{prefix: /cart/admin}]}]}]
";

fn ask(side: Side, url: &str, headers: &[&str]) -> Explanation {
    let question = question(side, "GET", url, headers);
    let parsed = document::parse(&Arc::from("mesh.yaml"), MESH);
    assert_eq!(parsed.diagnostics, [], "the mesh is valid");
    let world = World::build([&parsed], &question.local(), &StateStore::new([0, 0])).unwrap();
    explain(&world, &question, 7).unwrap()
}

fn question(side: Side, method: &str, url: &str, headers: &[&str]) -> Question {
    let headers: Vec<_> = headers.iter().map(ToString::to_string).collect();
    Question::new(side, peer(&[]).unwrap(), (method, url), &headers).unwrap()
}

fn line(part: &str) -> usize {
    MESH.lines().position(|line| line.contains(part)).unwrap() + 1
}

#[test]
fn the_chosen_rule_says_what_puts_it_before_the_others() {
    let found = ask(Side::Gateway, "http://shop.example.com/cart", &["x-canary: 1"]);
    let chosen = found.routing.chosen.unwrap();
    assert_eq!((chosen.route.as_deref(), &*chosen.rule), (Some("shop/web"), "canary"));
    let next: Vec<_> = found.routing.next.iter().map(|one| (&*one.said.rule, &*one.why)).collect();
    let wanted = [
        ("cart", "the chosen one asks for more headers: 1, not 0"),
        ("rest", "the path of the chosen one is longer"),
    ];
    assert_eq!(next, wanted);
    let found = ask(Side::Gateway, "http://shop.example.com/cart", &[]);
    let other = &found.routing.others[0];
    assert_eq!((&*other.said.rule, &*other.why), ("canary", "it asks for x-canary=1"));
    assert!(found.routing.listener.unwrap().ends_with(&format!("(mesh.yaml:{})", line("name: http"))));
}

#[test]
fn policies_come_in_the_order_of_their_phases_with_attachment_verdict_and_line() {
    let found = ask(Side::Gateway, "http://shop.example.com/cart", &[]);
    let all: Vec<_> =
        found.policies.iter().map(|one| (one.phase, &*one.policy, one.attached.len())).collect();
    let wanted =
        [("authorize", "shop/no-admin", 1), ("rateLimit", "shop/of-route", 1), ("call", "shop/patience", 1)];
    assert_eq!(all, wanted);
    let limit = &found.policies[1];
    assert_eq!(limit.attached, ["HTTPRoute shop/web"]);
    assert_eq!((&*limit.said[0].rule, &*limit.said[0].outcome), ("everyone", "allowed"));
    assert_eq!(limit.said[0].source, format!("mesh.yaml:{}", line("name: everyone")));
    let [overridden] = &found.overridden[..] else { panic!("{:?}", found.overridden) };
    assert_eq!(
        (&*overridden.policy, &overridden.by[..]),
        ("shop/of-edge", &[String::from("shop/of-route")][..])
    );
}

#[test]
fn a_refusal_is_the_mesh_s_answer_and_no_backend_is_called() {
    let found = ask(Side::Gateway, "http://shop.example.com/cart/admin", &[]);
    assert_eq!((found.status, found.reason), (403, Some("access_denied")));
    assert!(found.backends.iter().all(|one| one.endpoint.is_none()));
    assert_eq!(found.policies[1].said, [], "a limit has no word after a refusal");
    let nowhere = ask(Side::Gateway, "http://other.example.com/", &[]);
    assert_eq!((nowhere.status, nowhere.reason), (404, Some("no_route")));
    assert!(nowhere.routing.chosen.is_none() && nowhere.policies.is_empty());
}

#[test]
fn settings_of_the_call_say_where_they_are_written() {
    let found = ask(Side::Gateway, "http://shop.example.com/cart", &[]);
    let settings = found.call.unwrap().settings;
    let of = |name: &str| settings.iter().find(|one| one.name == name).unwrap();
    assert_eq!((&*of("request timeout").value, &*of("request timeout").from), ("7s", call::OWN));
    let attempt = of("timeout of an attempt");
    assert_eq!(attempt.value, "2s");
    assert!(
        attempt.from.starts_with("TimeoutPolicy shop/patience") && attempt.from.contains("mesh.yaml:"),
        "{attempt:?}"
    );
    let [cart, canary] = &found.backends[..] else { panic!("{:?}", found.backends) };
    assert_eq!((cart.picked, cart.weight, cart.endpoints.len()), (true, 9, 2));
    assert!((cart.percent - 100.0).abs() < 1e-9 && cart.endpoint.is_some());
    assert_eq!((canary.picked, canary.weight), (false, 0));
}

#[test]
fn each_side_sees_what_holds_at_its_own_proxy() {
    let caller = ask(Side::Caller("shop".into()), "http://cart.shop/cart", &[]);
    assert!(caller.routing.service.as_deref().unwrap().contains("shop/cart:80"));
    assert!(caller.policies.iter().any(|one| one.policy == "shop/patience"), "who calls waits");
    let serving = ask(Side::Serving("shop/cart".parse().unwrap()), "http://cart/cart", &[]);
    assert_eq!(serving.routing.chosen.unwrap().rule, "inbound");
    assert!(serving.policies.is_empty(), "{:?}", serving.policies);
    assert!(serving.overridden.iter().any(|one| one.policy == "shop/patience" && one.by.is_empty()));
}

#[test]
fn as_text_it_says_all_of_it() {
    let text = ask(Side::Gateway, "http://shop.example.com/cart", &["x-canary: 1"]).to_string();
    for part in [
        "GET http://shop.example.com/cart\n",
        "Listener shop/edge/http (mesh.yaml:",
        "Rule shop/web canary (mesh.yaml:",
        "  not shop/web cart (mesh.yaml:",
        "the chosen one asks for more headers: 1, not 0",
        "rateLimit    RateLimitPolicy shop/of-route (mesh.yaml:",
        "everyone (mesh.yaml:",
        "RateLimitPolicy shop/of-edge (mesh.yaml:",
        ": shop/of-route is more specific, or older",
        "-> shop/cart:80, weight 1 (100.0 %)",
        "The answer is 200",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn what_is_no_request_says_what_would_be_one() {
    let new = |method: &str, url: &str, header: &str| {
        Question::new(Side::Gateway, peer(&[]).unwrap(), (method, url), &[header.to_owned()])
    };
    assert!(matches!(new("GE T", "http://a/", "a: b"), Err(InvalidQuestion::Method(_))));
    for url in ["/cart", "shop.example.com/cart", "ftp://a/", "http://"] {
        assert!(matches!(new("GET", url, "a: b"), Err(InvalidQuestion::Url(_))), "{url}");
    }
    for header in ["x-canary", "a b: c", ": x"] {
        assert!(matches!(new("GET", "http://a/", header), Err(InvalidQuestion::Header(_))), "{header}");
    }
    let side = |words: &[&str]| Side::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(side(&["caller", "shop"]), Ok(Side::Caller("shop".into())));
    assert!(side(&["caller"]).is_err() && side(&["serving", "a/b/c"]).is_err() && side(&["edge"]).is_err());
    assert!(peer(&[String::from("shop")]).is_err());
}

proptest! {
    /// The contest is only told; requests are routed by the index. Both must name the same rule.
    #[test]
    fn the_first_match_that_holds_is_the_one_that_routing_finds(
        path in prop::sample::select(vec!["/", "/cart", "/cart/", "/cart/admin", "/carts", "/x"]),
        canary in prop::option::of(0u8..3),
        host in prop::sample::select(vec!["shop.example.com", "other.example.com"]),
    ) {
        let header = canary.map(|value| format!("x-canary: {value}"));
        let headers: Vec<&str> = header.iter().map(String::as_str).collect();
        let question = question(Side::Gateway, "GET", &format!("http://{host}{path}"), &headers);
        let parsed = document::parse(&Arc::from("mesh.yaml"), MESH);
        let world = World::build([&parsed], &question.local(), &StateStore::new([0, 0])).unwrap();
        let (head, asked) = question.asked(&world.snapshot).unwrap();
        prop_assert!(matches!(asked.scope, Scope::Gateway(_)));
        let contest = world.snapshot.contest(asked.scope, &head);
        let first = contest.contenders.iter().find(|one| one.holds).map(|one| Arc::as_ptr(&one.candidate.value));
        let found = world.snapshot.find(asked.scope, &head).ok().map(Arc::as_ptr);
        prop_assert_eq!(first, found);
    }
}

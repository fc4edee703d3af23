use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_policy::document::parse;
use tidegate_policy::model::ResourceName;
use tidegate_policy::objects::Object;
use tidegate_policy::resolve::{Controller, resolve_for};
use tidegate_xds::ResourceSet;

use super::{Guests, Interest, Published, Role, Scope, label, publish};
use crate::grpc::TYPES;

/// Two Gateways with a route each, to a Service each; what is said of policies is their names.
const MESH: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: inner, namespace: ops, annotations: {tidegate.io/service-accounts: 'porter, web/guest'}}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, port: 8080, protocol: HTTP}, {name: tcp, port: 9000, protocol: TCP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{name: edge}]
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: copies, port: 80}}}
    - {type: ExtensionRef, extensionRef: {group: tidegate.io, kind: RateLimitPolicy, name: named}}
    backendRefs: [{name: shop, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: store, namespace: ops}
spec:
  parentRefs: [{name: inner, sectionName: tcp}]
  rules: [{backendRefs: [{name: store, port: 6379}]}]
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: web}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: copies, namespace: web}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: judge, namespace: web}
spec: {ports: [{port: 8081}]}
---
apiVersion: v1
kind: Service
metadata: {name: store, namespace: ops}
spec: {ports: [{port: 6379}]}
";

fn limit(namespace: &str, name: &str, target: &str) -> String {
    format!(
        "---\napiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{targetRefs: [{target}], limits: [{{name: all, requests: 1, per: 1s}}]}}\n"
    )
}

fn with_named() -> String {
    MESH.to_owned() + &limit("web", "named", "")
}

fn mesh() -> String {
    with_named()
        + &limit("web", "of-edge", "{kind: Gateway, name: edge}")
        + &limit("web", "of-web", "{kind: Namespace, name: web}")
        + &limit("web", "of-shop", "{kind: Service, name: shop}")
        + &limit("ops", "of-ops", "{kind: Namespace, name: ops}")
        + "---\napiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: asked, namespace: web}\nspec:\n  \
           targetRefs: [{kind: HTTPRoute, name: shop}]\n  scope: Service\n  \
           service: {backendRef: {name: judge, port: 8081}, domain: web}\n  \
           limits: [{name: all, requests: 1, per: 1s, descriptor: [{key: user, from: {type: QueryParameter, name: user}}]}]\n"
}

fn published(text: &str, proof: bool, before: &Published) -> Published {
    let parsed = parse(&Arc::from("mesh.yaml"), text);
    assert_eq!(parsed.diagnostics, []);
    let mut guests = Guests::new(proof);
    for object in &parsed.objects {
        if let Object::Gateway(gateway) = object {
            guests.add(gateway);
        }
    }
    // Both have the same port.
    let controller = Controller { apart: true, ..Controller::default() };
    publish(&resolve_for(&controller, &parsed.objects).resources, guests, before)
}

fn gateway(name: Option<&str>, account: Option<&str>) -> Scope {
    let parsed = |text: Option<&str>| text.map(|text| text.parse::<ResourceName>().unwrap());
    Scope::Gateway { name: parsed(name), account: parsed(account) }
}

fn names(set: &ResourceSet) -> BTreeSet<String> {
    let short = |url: &str| url.rsplit('.').next().unwrap().to_owned();
    let of_type = |url| set.of_type(url).map(move |(name, _)| format!("{} {name}", short(url)));
    TYPES.iter().copied().flat_map(of_type).collect()
}

fn told(published: &Published, name: Option<&str>, account: Option<&str>) -> BTreeSet<String> {
    names(&published.view(&gateway(name, account)))
}

fn listeners(published: &Published, name: Option<&str>, account: Option<&str>) -> Vec<String> {
    told(published, name, account)
        .into_iter()
        .filter_map(|n| Some(n.strip_prefix("Listener ")?.to_owned()))
        .collect()
}

#[test]
fn a_gateways_proxies_are_told_what_hangs_on_it_and_nothing_else() {
    let published = published(&mesh(), false, &Published::default());
    let expected = [
        "Backend web/copies:80",
        "Backend web/judge:8081",
        "Backend web/shop:80",
        "Endpoints web/copies:80",
        "Endpoints web/judge:8081",
        "Endpoints web/shop:80",
        "Listener web/edge/http",
        "Policy RateLimitPolicy/web/asked",
        "Policy RateLimitPolicy/web/named",
        "Policy RateLimitPolicy/web/of-edge",
        "Policy RateLimitPolicy/web/of-shop",
        "Policy RateLimitPolicy/web/of-web",
        "Route web/shop",
    ];
    assert_eq!(told(&published, Some("web/edge"), None), expected.map(str::to_owned).into());
    let expected = [
        "Backend ops/store:6379",
        "Endpoints ops/store:6379",
        "Listener ops/inner/http",
        "Listener ops/inner/tcp",
        "Policy RateLimitPolicy/ops/of-ops",
        "StreamRoute TCPRoute/ops/store",
    ];
    assert_eq!(told(&published, Some("ops/inner"), Some("ops/porter")), expected.map(str::to_owned).into());
    assert!(told(&published, Some("web/none"), None).is_empty());
}

#[test]
fn who_names_no_gateway_is_told_of_all_that_he_may_serve() {
    let open = with_named().replace(", annotations: {tidegate.io/service-accounts: 'porter, web/guest'}", "");
    let open = published(&open, false, &Published::default());
    assert_eq!(told(&open, None, None), names(&open.of(Role::Gateway).set));
    assert_eq!(listeners(&open, None, Some("web/edge-tidegate")), ["web/edge/http"]);
}

#[test]
fn an_identity_must_be_one_that_the_gateway_goes_by() {
    let published = published(&with_named(), false, &Published::default());
    let edge = |account| listeners(&published, Some("web/edge"), account).len();
    assert_eq!(edge(Some("web/edge-tidegate")), 1, "what the controller makes for it");
    assert_eq!(edge(Some("web/edge")), 1, "its own name");
    assert_eq!(edge(Some("web/default")), 0, "any other of its namespace");
    assert_eq!(edge(Some("ops/edge-tidegate")), 0, "of another namespace");
    assert_eq!(edge(None), 1, "nobody has asked for proof");
    let inner = |account| listeners(&published, Some("ops/inner"), account).len();
    assert_eq!((inner(Some("ops/porter")), inner(Some("web/guest"))), (2, 2), "who is written");
    assert_eq!((inner(Some("ops/inner")), inner(None)), (0, 0), "and nobody else");
    assert_eq!(listeners(&published, None, Some("web/guest")), ["ops/inner/http", "ops/inner/tcp"]);
}

#[test]
fn where_proof_is_wanted_nobody_is_believed_without() {
    let published = published(&with_named(), true, &Published::default());
    assert!(told(&published, Some("web/edge"), None).is_empty() && told(&published, None, None).is_empty());
    assert_eq!(listeners(&published, Some("web/edge"), Some("web/edge-tidegate")).len(), 1);
}

#[test]
fn a_change_for_one_gateway_is_none_for_another() {
    let before = published(&mesh(), false, &Published::default());
    let scopes = [gateway(Some("web/edge"), None), gateway(Some("ops/inner"), Some("ops/porter"))];
    let views = scopes.each_ref().map(|scope| before.view(scope));
    let after = published(&mesh().replace("port: 6379}]}]", "port: 6379, weight: 2}]}]"), false, &before);
    assert!(Arc::ptr_eq(&views[0], &after.view(&scopes[0])), "the very same");
    assert!(*views[1] != *after.view(&scopes[1]));
}

#[test]
fn a_sidecar_is_told_what_its_own_pod_serves_and_of_no_other() {
    let pods = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: web, labels: {app: shop}}\n\
                ---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: web, labels: {app: shop}}\n";
    let picking = with_named().replace(
        "metadata: {name: shop, namespace: web}\nspec: {ports",
        "metadata: {name: shop, namespace: web}\nspec: {selector: {app: shop}, ports",
    ) + pods;
    let before = published(&picking, false, &Published::default());
    let sidecar = |pod: &str| Scope::Sidecar { pod: Some(ResourceName::new("web", pod)), interest: None };
    let whole = names(&before.view(&Scope::whole(Role::Sidecar)));
    let told = names(&before.view(&sidecar("a")));
    assert_eq!(told.difference(&whole).collect::<Vec<_>>(), ["Workload web/a"]);
    assert_eq!(names(&before.view(&sidecar("none"))), whole);
    // Only its own change concerns it.
    let after = published(
        &picking.replace("name: b, namespace: web, labels: {app: shop}", "name: b, namespace: web"),
        false,
        &before,
    );
    assert!(Arc::ptr_eq(&before.view(&sidecar("a")), &after.view(&sidecar("a"))));
    assert!(before.view(&sidecar("b")) != after.view(&sidecar("b")));
}

#[test]
fn names_that_are_too_long_for_labels_are_cut_and_stay_apart() {
    let (a, b) = (label(&("x".repeat(70) + "a")), label(&("x".repeat(70) + "b")));
    assert!(a != b && a.len() <= 63);
    assert_eq!(label("edge"), "edge");
}

fn asking(namespace: &str, served: &[&str], wants: &[&str]) -> Scope {
    let interest = Interest {
        namespace: namespace.into(),
        served: served.iter().map(|service| service.parse().unwrap()).collect(),
        wants: wants.iter().map(|want| (*want).into()).collect(),
    };
    Scope::Sidecar { pod: None, interest: Some(interest) }
}

const INSIDE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.0.0.7, ports: [{name: http, port: 80}, {name: admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-cart, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{backendRefs: [{name: pay, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-a-caller, namespace: web}
spec: {parentRefs: [{group: '', kind: Service, name: cart, namespace: shop}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-pay, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: pay}]}
";

fn inside() -> Published {
    let policies = limit("shop", "of-cart", "{kind: Service, name: cart}")
        + &limit("shop", "of-route", "{kind: HTTPRoute, name: of-cart}")
        + &limit("shop", "of-other", "{kind: Service, name: other}")
        + &limit("web", "of-web", "{kind: Namespace, name: web}");
    published(&(INSIDE.to_owned() + &policies), false, &Published::default())
}

#[test]
fn a_sidecar_that_asks_is_told_of_what_it_calls_and_of_nothing_else() {
    let published = inside();
    assert!(published.view(&asking("shop", &[], &[])).is_empty());
    let expected = [
        "Backend shop/cart:80",
        "Backend shop/cart:81",
        "Backend shop/pay:80",
        "Destination cart.shop",
        "Endpoints shop/cart:80",
        "Endpoints shop/cart:81",
        "Endpoints shop/pay:80",
        "Policy RateLimitPolicy/shop/of-cart",
        "Policy RateLimitPolicy/shop/of-route",
        "Route shop/of-cart",
    ];
    let told = |scope: &Scope| names(&published.view(scope));
    assert_eq!(told(&asking("other", &[], &["cart.shop"])), expected.map(str::to_owned).into());
    let from_web = told(&asking("web", &[], &["cart.shop"]));
    let more: Vec<_> = from_web.iter().filter(|name| !expected.contains(&name.as_str())).collect();
    assert_eq!(
        more,
        ["Policy RateLimitPolicy/web/of-web", "Route web/of-a-caller"],
        "its own namespace's words"
    );
}

#[test]
fn a_service_is_asked_for_by_any_of_its_names_and_its_address() {
    let published = inside();
    let found = |namespace: &str, key: &str| {
        names(&published.view(&asking(namespace, &[], &[key]))).contains("Backend shop/cart:80")
    };
    for key in ["cart.shop", "cart.shop.svc", "cart.shop.svc.cluster.local", "10.0.0.7"] {
        assert!(found("web", key), "{key}");
    }
    assert!(found("shop", "cart") && !found("web", "cart"), "a short name is of its own namespace");
    let nothing = asking("web", &[], &["example.com"]);
    assert_eq!(
        names(&published.view(&nothing)),
        ["Destination example.com".to_owned()].into(),
        "answered as well"
    );
}

#[test]
fn what_is_served_is_told_unasked() {
    let published = inside();
    let told = names(&published.view(&asking("shop", &["shop/other"], &[])));
    let expected =
        ["Backend shop/other:80", "Endpoints shop/other:80", "Policy RateLimitPolicy/shop/of-other"];
    assert_eq!(told, expected.map(str::to_owned).into());
}

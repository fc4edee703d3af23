//! BackendTLSPolicies: whom they are for, whom they trust, and what is said of each.

use super::*;
use crate::model::{AltName, BackendKind, BackendName, HostPattern, Trust};

/// A certificate by its outermost shape.
pub(super) const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAIwAA==\n-----END CERTIFICATE-----\n";

pub(super) fn bundle(name: &str, content: &str) -> String {
    let content = serde_json::to_string(content).unwrap();
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata: {{{content}}}\n---\n")
        .replace("{\"", "{ca.crt: \"")
}

fn policy(name: &str, created: &str, target: &str, validation: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}, namespace: shop, creationTimestamp: '2026-01-0{created}T00:00:00Z'}}
spec:
  targetRefs: [{target}]
  validation: {{{validation}}}
---
"
    )
}

const CART_SERVICE: &str = "{group: '', kind: Service, name: cart}";
const CART_HTTP: &str = "{group: '', kind: Service, name: cart, sectionName: http}";
const VALID: &str = "hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";

fn tls(resolved: &Resolved, port: u16) -> Option<&crate::model::BackendTls> {
    resolved.resources.backends[&service_name("cart", port)].tls.as_ref()
}

/// The name of the policy that holds for a port of the cart.
fn holder(resolved: &Resolved, port: u16) -> Option<&str> {
    tls(resolved, port).map(|tls| &*tls.policy.name.name)
}

fn ancestors(resolved: &Resolved, policy: &str) -> Vec<String> {
    let (_, found) = resolved.ancestors.iter().find(|(key, _)| key.name == policy).unwrap();
    let word = |c: &Condition| format!(" {}{}={}", if c.holds { "" } else { "!" }, c.kind, c.reason);
    found.iter().map(|a| a.target.to_string() + &a.conditions.iter().map(word).collect::<String>()).collect()
}

const FINE: &str = "Accepted=Accepted ResolvedRefs=ResolvedRefs";

#[test]
fn a_policy_for_a_service_makes_all_its_ports_be_called_by_tls() {
    let names =
        "subjectAltNames: [{type: Hostname, hostname: '*.b.org'}, {type: URI, uri: 'spiffe://c.org/d'}]";
    let text = bundle("ca", PEM) + &policy("p", "1", CART_SERVICE, &format!("{VALID}, {names}"));
    let resolved = with_cart(&text);
    for port in [80, 81, 82] {
        let tls = tls(&resolved, port).unwrap();
        assert_eq!(tls.verification.trust, Some(Trust::Bundle(PEM.as_bytes().into())));
        assert_eq!(&*tls.verification.hostname, "a.org");
        let wildcard = AltName::Dns(HostPattern::parse("*.b.org").unwrap());
        assert_eq!(tls.verification.alt_names, [wildcard, AltName::Uri("spiffe://c.org/d".into())]);
        assert_eq!(tls.policy.source.to_string(), "shop.yaml:27");
    }
    assert_eq!(told(&resolved, "BackendTLSPolicy shop/p").join(" "), FINE);
}

#[test]
fn without_a_policy_of_its_own_namespace_a_service_is_called_without_tls() {
    let elsewhere = policy("p", "1", CART_SERVICE, VALID).replace("namespace: shop", "namespace: other");
    let resolved = with_cart(&(bundle("ca", PEM) + &elsewhere));
    assert_eq!(holder(&resolved, 80), None);
    assert_eq!(told(&resolved, "BackendTLSPolicy other/p")[0], "!Accepted=TargetNotFound");
    // Nor does it find the bundle of another namespace.
    assert_eq!(told(&resolved, "BackendTLSPolicy other/p")[1], "!ResolvedRefs=InvalidCACertificateRef");
}

#[test]
fn a_policy_for_a_port_by_name_goes_before_one_for_the_service() {
    let text = bundle("ca", PEM)
        + &policy("whole", "1", CART_SERVICE, VALID)
        + &policy("port", "2", CART_HTTP, VALID);
    let resolved = with_cart(&text);
    assert_eq!((holder(&resolved, 80), holder(&resolved, 81)), (Some("port"), Some("whole")));
    for name in ["whole", "port"] {
        assert_eq!(told(&resolved, &format!("BackendTLSPolicy shop/{name}")).join(" "), FINE);
    }
}

#[test]
fn of_two_policies_on_one_target_the_older_holds_then_the_first_by_name() {
    for (a, b, winner, loser) in [("2", "1", "b", "a"), ("1", "1", "a", "b"), ("1", "2", "a", "b")] {
        for target in [CART_SERVICE, CART_HTTP] {
            let text = bundle("ca", PEM)
                + &policy("a", a, target, VALID)
                + &policy("b", b, target, VALID)
                + &http_route("shop", "{name: gw}", &to_cart(""));
            let resolved = with_cart(&text);
            assert_eq!(holder(&resolved, 80), Some(winner), "{target}");
            assert_eq!(ancestors(&resolved, winner), [format!("Gateway shop/gw {FINE}")]);
            let lost = "Gateway shop/gw !Accepted=Conflicted ResolvedRefs=ResolvedRefs";
            assert_eq!(ancestors(&resolved, loser), [lost]);
            let message = message(&resolved, &format!("BackendTLSPolicy shop/{loser}"), "Accepted");
            assert!(
                message.contains(&format!("shop/{winner}")) && message.contains("shop.yaml:"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_reference_that_leads_to_no_bundle_makes_every_call_fail_and_none_go_unprotected() {
    let by_kind = "hostname: a.org, caCertificateRefs: [{group: x.io, kind: Carrot, name: ca}]";
    let odd = bundle("ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (config_map, validation, reason, why) in [
        (String::new(), VALID, "InvalidCACertificateRef", "there is no ConfigMap shop/ca"),
        (bundle("ca", PEM).replace("ca.crt", "other"), VALID, "InvalidCACertificateRef", "has no `ca.crt`"),
        (bundle("ca", ""), VALID, "InvalidCACertificateRef", "holds no PEM certificate"),
        (odd, VALID, "InvalidCACertificateRef", "something else than PEM certificates"),
        (
            bundle("ca", PEM),
            by_kind,
            "InvalidKind",
            "a Carrot.x.io holds no CA certificates; use a ConfigMap",
        ),
    ] {
        let text = config_map + &policy("p", "1", CART_SERVICE, validation);
        let resolved = with_cart(&(text + &http_route("shop", "{name: gw}", &to_cart(""))));
        assert_eq!(tls(&resolved, 80).unwrap().verification.trust, None, "{why}");
        let expected = format!("Gateway shop/gw !Accepted=NoValidCACertificate !ResolvedRefs={reason}");
        assert_eq!(ancestors(&resolved, "p"), [expected], "{why}");
        let message = message(&resolved, "BackendTLSPolicy shop/p", "ResolvedRefs");
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn of_several_references_those_that_can_be_used_are_trusted_and_the_others_told() {
    let two = "hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: no}, \
               {group: '', kind: ConfigMap, name: ca}, {group: '', kind: ConfigMap, name: cb}]";
    // Without an end to its last line.
    let text = bundle("ca", PEM.trim_end()) + &bundle("cb", PEM) + &policy("p", "1", CART_SERVICE, two);
    let resolved = with_cart(&text);
    let trust = tls(&resolved, 80).unwrap().verification.trust.clone();
    assert_eq!(trust, Some(Trust::Bundle(PEM.repeat(2).as_bytes().into())));
    assert_eq!(
        told(&resolved, "BackendTLSPolicy shop/p"),
        ["Accepted=Accepted", "!ResolvedRefs=InvalidCACertificateRef"]
    );
}

#[test]
fn the_systems_certificates_are_known_and_no_other_set() {
    let system = policy("p", "1", CART_SERVICE, "hostname: a.org, wellKnownCACertificates: System");
    let resolved = with_cart(&system);
    assert_eq!(tls(&resolved, 80).unwrap().verification.trust, Some(Trust::System));
    assert_eq!(told(&resolved, "BackendTLSPolicy shop/p").join(" "), FINE);
    let resolved = with_cart(&system.replace("System", "example.com/ours"));
    assert_eq!(tls(&resolved, 80).unwrap().verification.trust, None);
    assert_eq!(
        told(&resolved, "BackendTLSPolicy shop/p"),
        ["!Accepted=Invalid", "ResolvedRefs=ResolvedRefs"]
    );
}

#[test]
fn a_target_that_is_not_there_is_told_with_its_line() {
    for (target, why) in [
        ("{group: '', kind: Service, name: gone}", "there is no Service shop/gone"),
        ("{group: '', kind: Service, name: cart, sectionName: x}", "Service shop/cart has no port named `x`"),
        ("{group: tidegate.io, kind: Backend, name: gone}", "there is no Backend shop/gone"),
        ("{group: '', kind: Carrot, name: cart}", "a Carrot is not called; use a Service"),
    ] {
        let resolved = with_cart(&(bundle("ca", PEM) + &policy("p", "1", target, VALID)));
        assert_eq!(told(&resolved, "BackendTLSPolicy shop/p")[0], "!Accepted=TargetNotFound", "{why}");
        let message = message(&resolved, "BackendTLSPolicy shop/p", "Accepted");
        assert_eq!(message, format!("shop.yaml:31: {why}"));
        assert_eq!(holder(&resolved, 80), None);
    }
}

#[test]
fn a_backend_object_is_called_by_tls_where_a_policy_says_so() {
    let backend = "
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {name: out, namespace: shop}
spec: {endpoints: [{address: api.example.com, port: 443}]}
---
";
    let target = "{group: tidegate.io, kind: Backend, name: out}";
    let name = BackendName { kind: BackendKind::Backend, object: name("out"), port: 443 };
    let resolved = with_cart(&(backend.to_owned() + &bundle("ca", PEM) + &policy("p", "1", target, VALID)));
    assert!(resolved.resources.backends[&name].tls.is_some());
    assert_eq!(ancestors(&resolved, "p"), [format!("Backend shop/out {FINE}")], "no Gateway leads there");
    assert_eq!(with_cart(backend).resources.backends[&name].tls, None);
}

#[test]
fn the_gateways_whose_routes_lead_to_a_target_are_its_ancestors_mirrors_included() {
    let mirror = "  rules: [{backendRefs: [{name: cart, port: 81}], filters: [{type: RequestMirror, \
                  requestMirror: {backendRef: {name: cart, port: 80}}}]}]";
    let text = bundle("ca", PEM) + &policy("p", "1", CART_HTTP, VALID);
    let resolved = with_cart(&(text.clone() + &http_route("shop", "{name: gw}", mirror)));
    assert_eq!(ancestors(&resolved, "p"), [format!("Gateway shop/gw {FINE}")]);
    let other = to_cart("").replace("port: 80", "port: 81");
    let resolved = with_cart(&(text.clone() + &http_route("shop", "{name: gw}", &other)));
    assert_eq!(ancestors(&resolved, "p"), [format!("Service shop/cart#http {FINE}")], "another port");
    let mesh = http_route("shop", "{group: '', kind: Service, name: cart}", &to_cart(""));
    assert_eq!(ancestors(&with_cart(&(text + &mesh)), "p"), [format!("Service shop/cart#http {FINE}")]);
}

#[test]
fn a_port_that_speaks_tls_can_be_called_only_where_a_policy_says_whom_to_trust() {
    for protocol in ["https", "HTTPS", "kubernetes.io/wss"] {
        let cart = CART.replace(
            "{name: odd, port: 82, appProtocol: mysql}",
            &format!("{{name: odd, port: 82, appProtocol: {protocol}}}"),
        );
        let route = http_route("shop", "{name: gw}", &to_cart("").replace("port: 80", "port: 82"));
        let resolved = resolve(&objects(&format!("{cart}{route}")));
        assert_eq!(told(&resolved, "HTTPRoute shop/r")[1], "!ResolvedRefs=UnsupportedProtocol");
        let message = message(&resolved, "HTTPRoute shop/r", "ResolvedRefs");
        assert!(message.ends_with("a BackendTLSPolicy must say whom to trust there"), "{message}");
        let policy = bundle("ca", PEM) + &policy("p", "1", CART_SERVICE, VALID);
        let resolved = resolve(&objects(&format!("{cart}{route}{policy}")));
        assert_eq!(told(&resolved, "HTTPRoute shop/r")[1], "ResolvedRefs=ResolvedRefs", "{protocol}");
        let backend = &resolved.resources.backends[&service_name("cart", 82)];
        assert_eq!(backend.protocol, AppProtocol::Http1);
    }
}

//! `tls.frontend` and `tls.backend` of Gateways.

use super::backend_tls::{PEM, bundle};
use super::*;
use crate::model::ClientMode;

fn edge(tls: &str) -> String {
    let secret = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}";
    let gateway = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  gatewayClassName: tidegate
  listeners: [{secret}, {}, {{name: http, port: 80, protocol: HTTP}}]
  tls: {{{tls}}}
---
",
        secret.replace("https", "alt").replace("443", "8443")
    );
    gateway + &secret_of("cert", "kubernetes.io/tls", CERTIFICATE, KEY)
}

const CERTIFICATE: &str = PEM;
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

fn secret_of(name: &str, kind: &str, certificate: &str, key: &str) -> String {
    let (certificate, key) =
        (serde_json::to_string(certificate).unwrap(), serde_json::to_string(key).unwrap());
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\ntype: {kind}\n\
         stringData: {{tls.crt: {certificate}, tls.key: {key}}}\n---\n"
    )
}

fn validation(reference: &str) -> String {
    format!("validation: {{caCertificateRefs: [{reference}]}}")
}

const CA: &str = "{group: '', kind: ConfigMap, name: ca}";
const GONE: &str = "{group: '', kind: ConfigMap, name: gone}";

/// `listener: type=reason …` of what is wrong.
fn wrong(resolved: &Resolved) -> Vec<String> {
    let word = |c: &Condition| format!(" {}={}", c.kind, c.reason);
    let line = |l: &ListenerStatus| {
        let wrong = l.conditions.iter().filter(|c| !c.holds && c.kind != "Conflicted");
        format!("{}:{}", l.name, wrong.map(word).collect::<String>())
    };
    resolved.listeners[&key("Gateway", &name("edge"))].iter().map(line).collect()
}

/// What clients of a listener must show.
fn clients(resolved: &Resolved, listener: &str) -> Option<(usize, ClientMode)> {
    let listener = &resolved.resources.listeners[&listener_name("edge", listener)];
    listener.clients.as_ref().map(|clients| (clients.bundle.len() / PEM.len(), clients.mode))
}

#[test]
fn the_default_is_for_https_listeners_on_ports_without_a_setting_of_their_own() {
    let both = format!("{CA}, {{group: '', kind: ConfigMap, name: cb}}");
    let per_port = format!("perPort: [{{port: 8443, tls: {{{}}}}}]", validation(&both));
    let text = edge(&format!("frontend: {{default: {{{}}}, {per_port}}}", validation(CA)));
    let resolved = resolve(&objects(&(text + &bundle("ca", PEM) + &bundle("cb", PEM))));
    assert_eq!(wrong(&resolved), ["https:", "alt:", "http:"]);
    assert_eq!(clients(&resolved, "https"), Some((1, ClientMode::ValidOnly)));
    assert_eq!(clients(&resolved, "alt"), Some((2, ClientMode::ValidOnly)));
    assert_eq!(clients(&resolved, "http"), None);
    assert_eq!(told(&resolved, "Gateway shop/edge"), ["Accepted=Accepted"]);
}

#[test]
fn a_port_without_validation_asks_for_no_certificate_whatever_the_default_is() {
    let text =
        edge(&format!("frontend: {{default: {{{}}}, perPort: [{{port: 8443, tls: {{}}}}]}}", validation(CA)));
    let resolved = resolve(&objects(&(text + &bundle("ca", PEM))));
    assert_eq!((clients(&resolved, "https").is_some(), clients(&resolved, "alt")), (true, None));
}

#[test]
fn a_fallback_to_no_certificate_is_told_on_the_gateway() {
    let insecure = validation(CA).replace("]}", "], mode: AllowInsecureFallback}");
    let text = edge(&format!("frontend: {{default: {{{insecure}}}}}"));
    let resolved = resolve(&objects(&(text + &bundle("ca", PEM))));
    assert_eq!(clients(&resolved, "https"), Some((1, ClientMode::InsecureFallback)));
    let expected = ["Accepted=Accepted", "InsecureFrontendValidationMode=ConfigurationChanged"];
    assert_eq!(told(&resolved, "Gateway shop/edge"), expected);
}

#[test]
fn a_listener_without_anybody_to_trust_serves_nobody_and_its_neighbours_go_on() {
    let elsewhere = "{group: '', kind: ConfigMap, name: ca, namespace: other}";
    for (reference, reason) in [
        (GONE, "InvalidCACertificateRef"),
        ("{group: '', kind: Service, name: ca}", "InvalidCACertificateKind"),
        (elsewhere, "RefNotPermitted"),
    ] {
        let per_port = format!("perPort: [{{port: 8443, tls: {{{}}}}}]", validation(reference));
        let text = edge(&format!("frontend: {{default: {{{}}}, {per_port}}}", validation(CA)));
        let resolved = resolve(&objects(&(text + &bundle("ca", PEM))));
        let alt = format!("alt: Accepted=NoValidCACertificate ResolvedRefs={reason}");
        assert_eq!(wrong(&resolved), ["https:", &alt, "http:"]);
        let served: Vec<_> = resolved.resources.listeners.keys().map(|l| &*l.section).collect();
        assert_eq!(served, ["http", "https"]);
        let expected = ["Accepted=ListenersNotValid", "!ResolvedRefs=ListenersNotResolved"];
        assert_eq!(told(&resolved, "Gateway shop/edge"), expected);
    }
}

#[test]
fn a_bundle_of_another_namespace_is_used_where_a_grant_allows_it_to_gateways() {
    let grant = "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: '', kind: ConfigMap}]
---
";
    let elsewhere = "{group: '', kind: ConfigMap, name: ca, namespace: other}";
    let text = edge(&format!("frontend: {{default: {{{}}}}}", validation(elsewhere)));
    let bundle = bundle("ca", PEM).replace("namespace: shop", "namespace: other");
    let resolved = resolve(&objects(&(text + &bundle + grant)));
    assert_eq!(clients(&resolved, "https"), Some((1, ClientMode::ValidOnly)));
}

#[test]
fn one_reference_that_leads_nowhere_is_told_while_another_is_trusted() {
    let text = edge(&format!("frontend: {{default: {{{}}}}}", validation(&format!("{GONE}, {CA}"))));
    let resolved = resolve(&objects(&(text + &bundle("ca", PEM))));
    assert_eq!(clients(&resolved, "https"), Some((1, ClientMode::ValidOnly)));
    assert_eq!(wrong(&resolved)[0], "https: ResolvedRefs=InvalidCACertificateRef");
}

fn shown(reference: &str) -> (Resolved, Option<String>) {
    let text = edge(&format!("backend: {{clientCertificateRef: {reference}}}"));
    let opaque = secret_of("opaque", "Opaque", CERTIFICATE, KEY);
    let resolved = resolve(&objects(&(text + &opaque)));
    let mut shown = resolved.resources.listeners.values().map(|l| l.client_certificate.as_ref());
    let first = shown.next().unwrap().map(|shown| shown.secret.to_string());
    assert!(shown.all(|shown| shown.map(|shown| shown.secret.to_string()) == first), "all listeners alike");
    (resolved, first)
}

#[test]
fn a_gateways_client_certificate_is_shown_from_all_its_listeners() {
    let (resolved, shown) = shown("{name: cert}");
    assert_eq!(shown.as_deref(), Some("shop/cert"));
    assert_eq!(told(&resolved, "Gateway shop/edge"), ["Accepted=Accepted", "ResolvedRefs=ResolvedRefs"]);
}

#[test]
fn a_client_certificate_that_cannot_be_used_is_told_and_leaves_the_gateway_accepted() {
    for (reference, reason) in [
        ("{name: gone}", "InvalidClientCertificateRef"),
        ("{name: opaque}", "InvalidClientCertificateRef"),
        ("{group: x.io, kind: Secret, name: cert}", "InvalidClientCertificateRef"),
        ("{kind: Carrot, name: cert}", "InvalidClientCertificateRef"),
        ("{name: cert, namespace: other}", "RefNotPermitted"),
    ] {
        let (resolved, shown) = shown(reference);
        assert_eq!(shown, None);
        let expected = ["Accepted=Accepted", &format!("!ResolvedRefs={reason}")];
        assert_eq!(told(&resolved, "Gateway shop/edge"), expected, "{reference}");
        let message = message(&resolved, "Gateway shop/edge", "ResolvedRefs");
        assert!(message.starts_with("shop.yaml:2: tls.backend.clientCertificateRef: "), "{message}");
        assert_eq!(wrong(&resolved), ["https:", "alt:", "http:"]);
    }
}

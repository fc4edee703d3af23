//! BackendTLSPolicies, ConfigMaps and the TLS of Gateways as people write them: what the API server's rules refuse, a
//! file's check refuses too, with line and field.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

use std::sync::Arc;

use tidegate_policy::document::parse;
use tidegate_policy::objects::Object;

fn told(text: &str) -> Vec<String> {
    let parsed = parse(&Arc::from("a.yaml"), text);
    parsed.diagnostics.iter().map(|told| told.to_string().replace("a.yaml:", "")).collect()
}

const TARGET: &str = "{group: '', kind: Service, name: s}";
const VALIDATION: &str = "{hostname: a.org, wellKnownCACertificates: System}";

fn policy(targets: &str, validation: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: p}}\nspec:\n  \
         targetRefs: [{targets}]\n  validation: {validation}\n"
    )
}

#[test]
fn every_field_of_a_backend_tls_policy_is_read() {
    let validation = "{hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}], subjectAltNames: \
                      [{type: Hostname, hostname: '*.b.org'}, {type: URI, uri: 'spiffe://a.org/b'}]}";
    let section = "{group: '', kind: Service, name: s, sectionName: https}";
    assert_eq!(told(&policy(section, validation)), Vec::<String>::new());
    let options = policy(TARGET, VALIDATION) + "  options: {example.com/ciphers: all}\n";
    assert_eq!(
        told(&options),
        [
            "7:34: warning: spec.options[\"example.com/ciphers\"]: is not an option of Tidegate: it changes nothing"
        ]
    );
}

#[test]
fn the_crds_rules_for_targets_hold_in_a_file_too() {
    let section = |name: &str| format!("{{group: '', kind: Service, name: s, sectionName: {name}}}");
    for (targets, expected) in [
        (String::new(), "spec.targetRefs: needs at least 1, has 0"),
        (format!("{TARGET}, {TARGET}"), "spec.targetRefs[1]: Service `s` is written twice"),
        (format!("{}, {}", section("x"), section("x")), "spec.targetRefs[1]: Service `s` is written twice"),
        (
            format!("{TARGET}, {}", section("x")),
            "spec.targetRefs[1]: Service `s` is written more than once: give each a `sectionName`",
        ),
        (section("X_y"), "spec.targetRefs[0].sectionName: `X_y` cannot be a name"),
        (String::from("{kind: Service, name: s}"), "spec.targetRefs[0].group: is required"),
    ] {
        let told = told(&policy(&targets, VALIDATION));
        assert!(told.iter().any(|told| told.contains(expected)), "{expected}: {told:?}");
    }
}

#[test]
fn the_crds_rules_for_the_validation_hold_in_a_file_too() {
    let instead = |of: &str, with: &str| VALIDATION.replace(of, with);
    let references = ", caCertificateRefs: [{group: '', kind: ConfigMap, name: c}]}";
    for (validation, expected) in [
        (String::from("{hostname: a.org}"), "spec.validation: needs `caCertificateRefs` or `wellKnown"),
        (
            instead("}", references),
            "spec.validation.wellKnownCACertificates: cannot be combined with `caCertificateRefs`",
        ),
        (
            instead("System", "Mozilla"),
            "spec.validation.wellKnownCACertificates: `Mozilla` is not a set of certificates (write System;",
        ),
        (instead("a.org", "'*.a.org'"), "hostname: must be one name, not a wildcard"),
        (instead("a.org", "10.0.0.1"), "hostname: `10.0.0.1` is an IP address"),
        (instead("a.org", "A.org"), "hostname: `A.org` has upper case letters"),
        (instead("a.org", "''"), "spec.validation.hostname: must not be empty"),
        (instead("hostname", "hostnam"), "hostnam: unknown field (did you mean `hostname`?)"),
    ] {
        let told = told(&policy(TARGET, &validation));
        assert!(told.iter().any(|told| told.contains(expected)), "{expected}: {told:?}");
    }
}

#[test]
fn the_crds_rules_for_subject_alt_names_hold_in_a_file_too() {
    let six = ["{type: Hostname, hostname: a.org}"; 6].join(", ");
    for (names, expected) in [
        ("{type: Hostname}", "subjectAltNames[0]: type Hostname needs a `hostname`"),
        ("{type: URI}", "subjectAltNames[0]: type URI needs a `uri`"),
        ("{type: URI, uri: 'a:b'}", "[0].uri: `a:b` is not an absolute URI (begin with"),
        ("{type: IP, hostname: a.org}", "[0].type: must be one of Hostname, URI, got the"),
        ("{type: Hostname, hostname: a.org, uri: 'a://b'}", "[0].uri: only type URI has a `uri`"),
        ("{type: URI, hostname: a.org, uri: 'a://b'}", "[0].hostname: only type Hostname has a `hostname`"),
        (&*six, "subjectAltNames: at most 5 are allowed, has 6"),
    ] {
        let validation = VALIDATION.replace('}', &format!(", subjectAltNames: [{names}]}}"));
        let told = told(&policy(TARGET, &validation));
        assert!(told.iter().any(|told| told.contains(expected)), "{expected}: {told:?}");
    }
}

#[test]
fn another_implementations_set_of_certificates_is_no_fault_of_form() {
    assert_eq!(
        told(&policy(TARGET, &VALIDATION.replace("System", "example.com/ours"))),
        Vec::<String>::new()
    );
}

#[test]
fn a_config_map_holds_text_and_base64_and_no_key_twice() {
    let text = |data: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\nimmutable: true\n{data}\n")
    };
    let fine = text("data: {ca.crt: x}\nbinaryData: {other: eHl6}");
    assert_eq!(told(&fine), Vec::<String>::new());
    assert!(matches!(parse(&Arc::from("a"), &fine).objects.as_slice(), [Object::ConfigMap(_)]));
    assert_eq!(told(&text("")), Vec::<String>::new());
    assert_eq!(
        told(&text("data: {a: x}\nbinaryData: {a: eHl6, b: '?'}")),
        [
            "6:17: error: binaryData.a: `a` is under `data` too",
            "6:26: error: binaryData.b: is not base64 (put plain text under `data`)"
        ]
    );
}

#[test]
fn a_gateways_tls_is_judged_by_the_crds_rules() {
    let gateway = |tls: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  \
             gatewayClassName: tidegate\n  listeners: [{{name: l, port: 80, protocol: HTTP}}]\n  tls: {{{tls}}}\n"
        )
    };
    let validation =
        "validation: {mode: AllowValidOnly, caCertificateRefs: [{group: '', kind: ConfigMap, name: c}]}";
    let port = |port: u32| format!("{{port: {port}, tls: {{{validation}}}}}");
    let fine = format!("frontend: {{default: {{{validation}}}, perPort: [{}, {}]}}", port(443), port(8443));
    assert_eq!(told(&gateway(&fine)), Vec::<String>::new());
    assert_eq!(told(&gateway("backend: {clientCertificateRef: {name: s}}")), Vec::<String>::new());
    for (tls, expected) in [
        (fine.replace("8443", "443"), "spec.tls.frontend.perPort[1].port: port 443 is written twice"),
        (String::from("frontend: {}"), "spec.tls.frontend.default: is required"),
        (fine.replace("AllowValidOnly", "AllowAll"), "must be one of AllowValidOnly, AllowInsecureFallback"),
        (
            String::from("frontend: {default: {validation: {caCertificateRefs: []}}}"),
            "needs at least 1, has 0",
        ),
        (String::from("backend: {clientCertificateRefs: []}"), "did you mean `clientCertificateRef`?"),
    ] {
        let told = told(&gateway(&tls));
        assert!(told.iter().any(|told| told.contains(expected)), "{expected}: {told:?}");
    }
}

//! What the CRDs of the Gateway API refuse, refused in files too: one document per rule, each with where the rule is from.
//! And what they let pass, passes.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test outside the crate: it reads documents"
)]

use std::sync::Arc;

use tidegate_policy::document::parse;

/// A rule with a spec that breaks it, and the one error that must be told.
struct Row {
    /// Type and marker in the Go sources of the Gateway API.
    source: &'static str,
    kind: &'static str,
    spec: String,
    told: &'static str,
}

/// A spec around a reference.
type SpecWith<'a> = &'a dyn Fn(&str) -> String;

fn row(source: &'static str, kind: &'static str, spec: impl Into<String>, told: &'static str) -> Row {
    Row { source, kind, spec: spec.into(), told }
}

fn errors(kind: &str, spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"
    );
    let parsed = parse(&Arc::from("a.yaml"), &text);
    parsed.diagnostics.iter().filter(|found| found.is_error()).map(ToString::to_string).collect()
}

fn check(rows: &[Row]) {
    for Row { source, kind, spec, told } in rows {
        let found = errors(kind, spec);
        assert_eq!(found.len(), 1, "{source}\n{kind} {spec}\n{found:#?}");
        let at = found[0].strip_prefix("a.yaml:4:").unwrap_or_else(|| panic!("{source}: {found:?}"));
        assert!(at.contains(told), "{source}\nwanted {told}\ngot {}", found[0]);
    }
}

fn parents(refs: &str) -> String {
    format!("{{parentRefs: [{refs}], rules: [{{backendRefs: [{{name: s, port: 80}}]}}]}}")
}

fn rule(text: &str) -> String {
    format!("{{parentRefs: [{{name: g}}], rules: [{{{text}}}]}}")
}

fn filter(text: &str) -> String {
    rule(&format!("filters: [{{{text}}}], backendRefs: [{{name: s, port: 80}}]"))
}

fn path(kind: &str, value: &str) -> String {
    rule(&format!(
        "matches: [{{path: {{type: {kind}, value: {value}}}}}], backendRefs: [{{name: s, port: 80}}]"
    ))
}

fn listener(text: &str) -> String {
    format!("{{gatewayClassName: tidegate, listeners: [{{name: a, port: 80, protocol: HTTP{text}}}]}}")
}

fn gateway(text: &str) -> String {
    format!("{{gatewayClassName: tidegate, listeners: [{{name: a, port: 80, protocol: HTTP}}], {text}}}")
}

#[test]
fn parents_of_one_name_are_told_apart_by_the_same_field() {
    for kind in ["HTTPRoute", "GRPCRoute", "TCPRoute"] {
        check(&[
            row(
                "CommonRouteSpec.parentRefs, XValidation `sectionName or port must be specified`",
                kind,
                parents("{name: g}, {name: g, sectionName: a}"),
                "spec.parentRefs[1]: Gateway `g` is written more than once, and only one has a `sectionName` (give each a",
            ),
            row(
                "CommonRouteSpec.parentRefs, XValidation, `port`",
                kind,
                parents("{name: g, port: 80}, {name: g}"),
                "spec.parentRefs[1]: Gateway `g` is written more than once, and only one has a `port`",
            ),
            row(
                "CommonRouteSpec.parentRefs, XValidation `sectionName or port must be unique`",
                kind,
                parents("{name: g, sectionName: a}, {name: g, sectionName: a}"),
                "spec.parentRefs[1]: Gateway `g` is written twice",
            ),
        ]);
        for fine in [
            "{name: g, sectionName: a}, {name: g, sectionName: b}",
            "{name: g, port: 1}, {name: g, port: 2}",
            "{name: g}, {name: g, namespace: other, sectionName: a}",
            "{name: g}, {name: h, port: 80}",
        ] {
            assert_eq!(errors(kind, &parents(fine)), [""; 0], "{kind} {fine}");
        }
    }
}

#[test]
fn every_reference_has_a_group_a_kind_and_a_namespace_that_can_exist() {
    const GROUP: &str =
        "`A_b` cannot be a group (write a DNS name such as gateway.networking.k8s.io, or \"\" for";
    const KIND: &str = "`1a` cannot be a kind (begin with a letter; letters, digits and `-` may follow)";
    const NAMESPACE: &str = "`a.b` cannot be a namespace (use at most 63 lower case letters, digits and `-`)";
    let tls = |refs: &str| {
        format!(
            "{{gatewayClassName: t, listeners: [{{name: a, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: c, {refs}}}]}}}}]}}"
        )
    };
    let validation = |refs: &str| {
        gateway(&format!(
            "tls: {{frontend: {{default: {{validation: {{caCertificateRefs: [{{name: c, {refs}}}]}}}}}}}}"
        ))
    };
    let per_port = |refs: &str| {
        gateway(&format!(
            "tls: {{frontend: {{default: {{}}, perPort: [{{port: 80, tls: {{validation: {{caCertificateRefs: [{{name: c, {refs}}}]}}}}}}]}}}}"
        ))
    };
    let backend_tls = |refs: &str| {
        format!(
            "{{targetRefs: [{{name: s, {refs}}}], validation: {{hostname: a, wellKnownCACertificates: System}}}}"
        )
    };
    let bundle = |refs: &str| {
        format!(
            "{{targetRefs: [{{group: '', kind: Service, name: s}}], validation: {{hostname: a, caCertificateRefs: [{{name: c, {refs}}}]}}}}"
        )
    };
    let stream = |refs: &str| {
        format!("{{parentRefs: [{{name: g}}], rules: [{{backendRefs: [{{name: s, port: 1, {refs}}}]}}]}}")
    };
    let with_namespace: [(&str, SpecWith<'_>); 10] = [
        ("HTTPRoute", &|refs| parents(&format!("{{name: g, {refs}}}"))),
        ("HTTPRoute", &|refs| rule(&format!("backendRefs: [{{name: s, port: 1, {refs}}}]"))),
        ("HTTPRoute", &|refs| {
            filter(&format!(
                "type: RequestMirror, requestMirror: {{backendRef: {{name: s, port: 1, {refs}}}}}"
            ))
        }),
        ("TCPRoute", &stream),
        ("Gateway", &tls),
        ("Gateway", &validation),
        ("Gateway", &per_port),
        ("GatewayClass", &|refs| format!("{{controllerName: a.b/c, parametersRef: {{name: p, {refs}}}}}")),
        ("ListenerSet", &|refs| {
            format!("{{parentRef: {{name: g, {refs}}}, listeners: [{{name: a, port: 80, protocol: HTTP}}]}}")
        }),
        ("ReferenceGrant", &|refs| format!("{{from: [{{{refs}}}], to: [{{group: '', kind: Service}}]}}")),
    ];
    let without: [(&str, SpecWith<'_>); 6] = [
        ("HTTPRoute", &|refs| filter(&format!("type: ExtensionRef, extensionRef: {{name: p, {refs}}}"))),
        ("Gateway", &|refs| listener(&format!(", allowedRoutes: {{kinds: [{{{refs}}}]}}"))),
        ("Gateway", &|refs| gateway(&format!("infrastructure: {{parametersRef: {{name: p, {refs}}}}}"))),
        ("ReferenceGrant", &|refs| {
            format!("{{from: [{{group: '', kind: A, namespace: a}}], to: [{{{refs}}}]}}")
        }),
        ("BackendTLSPolicy", &backend_tls),
        ("BackendTLSPolicy", &bundle),
    ];
    for (kind, spec) in with_namespace {
        check(&[
            row("Group, Pattern", kind, spec("group: A_b, kind: K, namespace: a"), GROUP),
            row("Kind, Pattern", kind, spec("group: a.b, kind: 1a, namespace: a"), KIND),
            row("Namespace, Pattern", kind, spec("group: a.b, kind: K, namespace: a.b"), NAMESPACE),
        ]);
    }
    for (kind, spec) in without {
        check(&[
            row("Group, Pattern", kind, spec("group: A_b, kind: K"), GROUP),
            row("Kind, Pattern", kind, spec("group: a.b, kind: 1a"), KIND),
        ]);
    }
}

#[test]
fn matches_hold_what_a_request_can_have_and_nothing_twice() {
    let matched = |text: &str| rule(&format!("matches: [{{{text}}}], backendRefs: [{{name: s, port: 80}}]"));
    for kind in ["Exact", "PathPrefix"] {
        for (value, told) in [
            ("'/a b'", "`/a b` must not contain ` ` (percent-encode it"),
            ("/é", "`/é` must not contain `é`"),
            ("'/{id}'", "`/{id}` must not contain `{`"),
            ("/a|b", "`/a|b` must not contain `|`"),
        ] {
            check(&[row(
                "HTTPPathMatch, XValidation `must only contain valid characters`",
                "HTTPRoute",
                path(kind, value),
                told,
            )]);
        }
        for fine in ["\"/-A~!$&'()*+,;=:@.\"", "/%20", "/a."] {
            assert_eq!(errors("HTTPRoute", &path(kind, fine)), [""; 0], "{kind} {fine}");
        }
    }
    assert_eq!(errors("HTTPRoute", &path("RegularExpression", "'/(a|b) [{]'")), [""; 0]);
    let twice = "headers: [{name: a, value: x}, {name: a, value: y}]";
    check(&[
        row(
            "HTTPRouteMatch.headers, listMapKey=name",
            "HTTPRoute",
            matched(twice),
            "headers[1].name: `a` is written twice",
        ),
        row(
            "GRPCRouteMatch.headers, listMapKey=name",
            "GRPCRoute",
            matched(twice),
            "headers[1].name: `a` is written twice",
        ),
        row(
            "HTTPRouteMatch.queryParams, listMapKey=name",
            "HTTPRoute",
            matched("queryParams: [{name: a, value: x}, {name: a, value: y}]"),
            "queryParams[1].name: `a` is written twice",
        ),
        row(
            "HTTPQueryParamMatch.name, HTTPHeaderName Pattern",
            "HTTPRoute",
            matched("queryParams: [{name: 'a[]', value: x}]"),
            "`a[]` cannot name a parameter here",
        ),
    ]);
    assert_eq!(
        errors("HTTPRoute", &matched("queryParams: [{name: a, value: x}, {name: A, value: y}]")),
        [""; 0]
    );
}

#[test]
fn lists_of_filters_are_sets() {
    let cors = |text: &str| filter(&format!("type: CORS, cors: {{{text}}}"));
    let long = format!("allowHeaders: [{}]", "a".repeat(257));
    check(&[
        row(
            "HTTPHeaderFilter.remove, listType=set",
            "HTTPRoute",
            filter("type: RequestHeaderModifier, requestHeaderModifier: {remove: [a, b, a]}"),
            "remove[2]: `a` is written twice",
        ),
        row(
            "HTTPCORSFilter.allowOrigins, listType=set",
            "HTTPRoute",
            cors("allowOrigins: [http://a, http://a]"),
            "allowOrigins[1]: `http://a` is written twice",
        ),
        row(
            "HTTPCORSFilter.allowMethods, listType=set",
            "HTTPRoute",
            cors("allowMethods: [GET, GET]"),
            "allowMethods[1]: `GET` is written twice",
        ),
        row(
            "HTTPCORSFilter.allowHeaders, listType=set",
            "HTTPRoute",
            cors("allowHeaders: [a, a]"),
            "allowHeaders[1]: `a` is written twice",
        ),
        row(
            "HTTPCORSFilter.exposeHeaders, listType=set",
            "HTTPRoute",
            cors("exposeHeaders: [a, a]"),
            "exposeHeaders[1]: `a` is written twice",
        ),
        row(
            "HTTPHeaderName, MaxLength",
            "HTTPRoute",
            cors(&long),
            "at most 256 characters are allowed, has 257",
        ),
        row(
            "HTTPCORSFilter.allowHeaders, XValidation",
            "HTTPRoute",
            cors("allowHeaders: ['*', a]"),
            "allowHeaders[0]: `*` allows everything",
        ),
    ]);
    assert_eq!(errors("HTTPRoute", &cors("exposeHeaders: ['*', a]")), [""; 0], "no rule forbids it here");
}

#[test]
fn hostnames_are_written_in_lower_case() {
    const TOLD: &str = "`A.org` has upper case letters (write a.org)";
    let route =
        "{parentRefs: [{name: g}], hostnames: [A.org], rules: [{backendRefs: [{name: s, port: 80}]}]}";
    check(&[
        row("Hostname, Pattern", "HTTPRoute", route, TOLD),
        row("Hostname, Pattern", "GRPCRoute", route, TOLD),
        row("Hostname, Pattern", "TLSRoute", route, TOLD),
        row("Hostname, Pattern", "Gateway", listener(", hostname: A.org"), TOLD),
        row(
            "PreciseHostname, Pattern",
            "HTTPRoute",
            filter("type: URLRewrite, urlRewrite: {hostname: A.org}"),
            TOLD,
        ),
        row("Hostname, MinLength", "Gateway", listener(", hostname: ''"), "hostname: must not be empty"),
        row(
            "GatewaySpecAddress, XValidation",
            "Gateway",
            gateway("addresses: [{type: Hostname, value: a_b}]"),
            "addresses[0].value: `a_b` is not a hostname",
        ),
    ]);
}

#[test]
fn gateways_and_their_classes_keep_the_limits() {
    let labels = |text: &str| gateway(&format!("infrastructure: {{labels: {{{text}}}}}"));
    let many = |n: usize| (0..n).map(|i| format!("k{i}: v")).collect::<Vec<_>>().join(", ");
    let annotations = |text: &str| gateway(&format!("infrastructure: {{annotations: {{{text}}}}}"));
    check(&[
        row(
            "RouteNamespaces.from, Enum",
            "Gateway",
            listener(", allowedRoutes: {namespaces: {from: None}}"),
            "from: None is for ListenerSets, in `allowedListeners` (use one of All, Same, Selector)",
        ),
        row(
            "ProtocolType, Pattern",
            "Gateway",
            "{gatewayClassName: t, listeners: [{name: a, port: 80, protocol: a.b/c-d}]}",
            "protocol: the string `a.b/c-d` does not have the right form",
        ),
        row(
            "GatewayInfrastructure.labels, MaxProperties",
            "Gateway",
            labels(&many(9)),
            "infrastructure.labels: at most 8 are allowed, has 9",
        ),
        row("GatewayInfrastructure.labels, XValidation", "Gateway", labels("-a: b"), "`-a` cannot be a key"),
        row("LabelValue, Pattern", "Gateway", labels("a: b c"), "`b c` cannot be the value of a label"),
        row(
            "GatewayInfrastructure.annotations, MaxProperties",
            "Gateway",
            annotations(&many(17)),
            "infrastructure.annotations: at most 16 are allowed, has 17",
        ),
        row(
            "GatewayInfrastructure.annotations, XValidation",
            "Gateway",
            annotations("A.b/c: x"),
            "`A.b/c` cannot be a key",
        ),
        row(
            "AnnotationValue, MaxLength",
            "Gateway",
            annotations(&format!("a.b/c: {}", "x".repeat(4097))),
            "at most 4096 characters are allowed, has 4097",
        ),
    ]);
    assert_eq!(errors("Gateway", &labels("a.b/c: '', d: E_f.g")), [""; 0]);
}

#[test]
fn classes_and_policies_of_tls_keep_the_limits() {
    let description = format!("{{controllerName: a.b/c, description: {}}}", "x".repeat(65));
    let options = |value: &str| {
        format!(
            "{{targetRefs: [{{group: '', kind: Service, name: s}}], validation: {{hostname: a, wellKnownCACertificates: System}}, options: {{a.b/c: {value}}}}}"
        )
    };
    check(&[
        row(
            "GatewayClassSpec.description, MaxLength",
            "GatewayClass",
            description,
            "spec.description: at most 64 characters are allowed, has 65",
        ),
        row(
            "GatewayController, Pattern",
            "GatewayClass",
            "{controllerName: A.b/c}",
            "`A.b/c` is not of the form example.com/name",
        ),
        row(
            "GatewayController, Pattern",
            "GatewayClass",
            "{controllerName: a.b/c d}",
            "`a.b/c d` is not of the form example.com/name",
        ),
        row(
            "AnnotationValue, MaxLength",
            "BackendTLSPolicy",
            options(&"x".repeat(4097)),
            "at most 4096 characters are allowed, has 4097",
        ),
        row(
            "SectionName, MinLength",
            "BackendTLSPolicy",
            "{targetRefs: [{group: '', kind: Service, name: s, sectionName: ''}], validation: {hostname: a, wellKnownCACertificates: System}}",
            "sectionName: must not be empty",
        ),
    ]);
    assert_eq!(errors("GatewayClass", "{controllerName: a/b~c}"), [""; 0], "no dot is demanded");
}

#[test]
fn a_name_may_be_one_label_of_253_characters() {
    let name = "a".repeat(253);
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec: {}",
        listener("")
    );
    assert!(parse(&Arc::from("a.yaml"), &text).diagnostics.is_empty(), "as Kubernetes has it");
    assert_eq!(errors("HTTPRoute", &parents(&format!("{{name: {name}, sectionName: {name}}}"))), [""; 0]);
    let long = format!("{{name: g, namespace: {}}}", "a".repeat(64));
    assert_eq!(errors("HTTPRoute", &parents(&long)).len(), 1, "a namespace is a label of the DNS");
}

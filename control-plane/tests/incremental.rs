//! The law of a control plane that works out only what a change concerns: it comes to what it would if it began with
//! nothing, in what proxies are told as in what people are.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_control_plane::publish::{Interest, Role, Scope};
use tidegate_control_plane::source::{FileContent, FileText, Reading};
use tidegate_control_plane::world::{Fold, World};
use tidegate_policy::document::{Diagnostic, parse};
use tidegate_policy::model::ResourceName;

/// One object in several versions.
type Slot = Vec<String>;

fn object(version: &str, kind: &str, metadata: &str, rest: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{{metadata}}}\n{rest}\n")
}

fn versions(version: &str, kind: &str, metadata: &str, rests: &[&str]) -> Slot {
    rests.iter().map(|rest| object(version, kind, metadata, rest)).collect()
}

fn services(slots: &mut Vec<Slot>) {
    for (namespace, name) in [("a", "s0"), ("a", "s1"), ("b", "s0")] {
        let metadata = format!("name: {name}, namespace: {namespace}");
        let plain = [
            "spec: {ports: [{name: http, port: 80}]}",
            "spec: {selector: {app: x}, ports: [{name: http, port: 80}]}",
            "spec: {clusterIP: 10.0.0.7, ports: [{name: http, port: 80}]}",
            "spec: {ports: [{name: web, port: 80}, {name: grpc, port: 81, appProtocol: kubernetes.io/h2c}]}",
            "spec: {ports: [{name: http, port: 8080}]}",
            "spec: {ports: [{name: http, port: 80, appProtocol: smtp}]}",
            "spec: {type: ExternalName, externalName: example.com}",
        ];
        let mut all = versions("v1", "Service", &metadata, &plain);
        for annotation in ["tidegate.io/proxy-protocol: V1", "tidegate.io/mtls: enabled"] {
            let metadata = format!("{metadata}, annotations: {{{annotation}}}");
            all.push(object("v1", "Service", &metadata, plain[0]));
        }
        slots.push(all);
        let slices = ["s0", "s1", "gone"].into_iter().flat_map(|of| {
            let metadata = format!("{metadata}, labels: {{kubernetes.io/service-name: {of}}}");
            ["http", "web"].map(|port| {
                let rest = format!(
                    "addressType: IPv4\nports: [{{name: {port}, port: 8080}}]\nendpoints: [{{addresses: [10.1.0.1], \
                     targetRef: {{kind: Pod, name: p0}}}}, {{addresses: [10.1.0.2]}}]"
                );
                object("discovery.k8s.io/v1", "EndpointSlice", &metadata, &rest)
            })
        });
        slots.push(slices.collect());
    }
    slots.push(["app: x", "app: y", ""].map(|labels| {
        let metadata = format!("name: p0, namespace: a, labels: {{{labels}}}, annotations: {{tidegate.io/mesh-ports: '8080'}}");
        object("v1", "Pod", &metadata, "spec: {serviceAccountName: sa}")
    }).into());
    let backend =
        ["port: 7", "port: 8"].map(|port| format!("spec: {{endpoints: [{{address: 127.0.0.1, {port}}}]}}"));
    let backend = backend.iter().map(String::as_str).collect::<Vec<_>>();
    slots.push(versions("tidegate.io/v1alpha1", "Backend", "name: s0, namespace: a", &backend));
}

fn around(slots: &mut Vec<Slot>) {
    const GATEWAY: &str = "gateway.networking.k8s.io/v1";
    slots.push(versions(GATEWAY, "Gateway", "name: edge, namespace: a", &[
        "spec: {gatewayClassName: tidegate, listeners: [{name: http, port: 80, protocol: HTTP}]}",
        "spec: {gatewayClassName: tidegate, listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}, {name: more, port: 81, protocol: HTTP}], allowedListeners: {namespaces: {from: Same}}}",
        "spec: {gatewayClassName: tidegate, listeners: [{name: http, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: pair}]}}, {name: tcp, port: 90, protocol: TCP}]}",
        "spec: {gatewayClassName: tidegate, listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {in: 'yes'}}}}}]}",
        "spec: {gatewayClassName: other, listeners: [{name: http, port: 80, protocol: HTTP}]}",
    ]));
    slots.push(
        ["in: 'yes'", "in: 'no'"]
            .map(|labels| object("v1", "Namespace", &format!("name: b, labels: {{{labels}}}"), ""))
            .into(),
    );
    slots.push(versions("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "name: grant, namespace: b", &[
        "spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], to: [{group: '', kind: Service}]}",
        "spec: {from: [{group: tidegate.io, kind: RateLimitPolicy, namespace: a}], to: [{group: '', kind: Service, name: s0}]}",
    ]));
    let backends =
        "backendRefs: [{name: s0, port: 80}, {name: s1, port: 80}, {name: s0, namespace: b, port: 80}]";
    let named = "filters: [{type: ExtensionRef, extensionRef: {group: tidegate.io, kind: RateLimitPolicy, name: p0}}]";
    for (namespace, name) in [("a", "r0"), ("b", "r1")] {
        let rests = [
            format!(
                "spec: {{parentRefs: [{{name: edge, namespace: a}}], rules: [{{name: first, {backends}}}]}}"
            ),
            format!(
                "spec: {{parentRefs: [{{name: edge, namespace: a}}], rules: [{{name: other, {named}, {backends}}}]}}"
            ),
            format!(
                "spec: {{parentRefs: [{{group: '', kind: Service, name: s0}}], rules: [{{name: first, {backends}}}]}}"
            ),
            format!(
                "spec: {{parentRefs: [{{group: '', kind: Service, name: s1, port: 80}}], rules: [{{{named}, {backends}}}]}}"
            ),
            String::from("spec: {parentRefs: [{name: nobody}], rules: [{}]}"),
        ];
        let rests = rests.iter().map(String::as_str).collect::<Vec<_>>();
        slots.push(versions(GATEWAY, "HTTPRoute", &format!("name: {name}, namespace: {namespace}"), &rests));
    }
    slots.push(versions(GATEWAY, "GRPCRoute", "name: r0, namespace: a", &[
        "spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: s1, port: 80}]}]}",
        "spec: {parentRefs: [{group: '', kind: Service, name: s0}], rules: [{backendRefs: [{name: s0, port: 81}]}]}",
    ]));
    slots.push(versions(GATEWAY, "BackendTLSPolicy", "name: tls, namespace: a", &[
        "spec: {targetRefs: [{group: '', kind: Service, name: s0}], validation: {hostname: a.b, wellKnownCACertificates: System}}",
        "spec: {targetRefs: [{group: '', kind: Service, name: s1, sectionName: http}], validation: {hostname: a.b, wellKnownCACertificates: System}}",
    ]));
}

/// What few others look at, and by other ways.
fn beside(slots: &mut Vec<Slot>) {
    let set = "parentRef: {name: edge}, listeners: [{name: own, port: 82, protocol: HTTP";
    slots.push(versions(
        "gateway.networking.k8s.io/v1",
        "ListenerSet",
        "name: set, namespace: a",
        &[
            &format!("spec: {{{set}}}]}}"),
            &format!("spec: {{{set}, hostname: a.example}}]}}"),
            "spec: {parentRef: {name: nobody}, listeners: [{name: own, port: 82, protocol: HTTP}]}",
        ],
    ));
    slots.push(versions("gateway.networking.k8s.io/v1", "TCPRoute", "name: t0, namespace: a", &[
        "spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: s0, port: 80}]}]}",
        "spec: {parentRefs: [{group: '', kind: Service, name: s0}], rules: [{backendRefs: [{name: s1, port: 80}]}]}",
    ]));
    let keys = ["'{\"keys\": []}'", "nothing of the kind"];
    let keys = keys.map(|keys| format!("data: {{jwks: {keys}}}"));
    slots.push(versions(
        "v1",
        "ConfigMap",
        "name: keys, namespace: a",
        &[&keys[0], &keys[1], "data: {other: x}"],
    ));
    slots.push(versions(
        "v1",
        "Secret",
        "name: pair, namespace: a",
        &[
            "type: kubernetes.io/tls\nstringData: {tls.crt: a, tls.key: b}",
            "type: kubernetes.io/tls\nstringData: {tls.crt: c, tls.key: d}",
        ],
    ));
    let provider = "name: ours, issuer: 'https://i.example', jwks: {configMapRef: {name: keys, key: jwks}}";
    let policy = |audience: &str, target: &str| {
        format!("spec: {{targetRefs: [{target}], providers: [{{{provider}, audiences: [{audience}]}}]}}")
    };
    let (on_service, on_set) = ("{kind: Service, name: s0}", "{kind: ListenerSet, name: set}");
    let all = [policy("x", on_service), policy("y", on_service), policy("x", on_set), policy("y", on_set)];
    let all = all.iter().map(String::as_str).collect::<Vec<_>>();
    slots.push(versions("tidegate.io/v1alpha1", "JwtAuthenticationPolicy", "name: jwt, namespace: a", &all));
}

fn policies(slots: &mut Vec<Slot>) {
    const TARGETS: [&str; 9] = [
        "{kind: Service, name: s0}",
        "{kind: Service, name: s0, sectionName: http}",
        "{kind: Namespace, name: a}",
        "{kind: Gateway, name: edge}",
        "{kind: Gateway, name: edge, sectionName: more}",
        "{kind: HTTPRoute, name: r0}",
        "{kind: HTTPRoute, name: r0, sectionName: first}",
        "{kind: Service, name: s0}, {kind: HTTPRoute, name: r0}",
        "",
    ];
    const SPECS: [(&str, [&str; 2]); 4] = [
        (
            "RateLimitPolicy",
            ["limits: [{name: l, requests: 1, per: 1s}]", "limits: [{name: l, requests: 2, per: 1s}]"],
        ),
        (
            "RateLimitPolicy",
            [
                "limits: [{name: l, requests: 3, per: 1s}]",
                "scope: Service, service: {backendRef: {name: s0, namespace: b, port: 80}, domain: d}, limits: \
                 [{name: user, requests: 10, per: 1h, descriptor: [{key: user, from: {type: QueryParameter, name: user}}]}]",
            ],
        ),
        ("TimeoutPolicy", ["request: 1s", "request: 2s"]),
        ("AuthorizationPolicy", ["rules: [{name: r, action: Deny}]", "rules: [{name: r, action: Allow}]"]),
    ];
    for (at, (kind, specs)) in SPECS.into_iter().enumerate() {
        for created in ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"] {
            let name = format!("p{at}{}", if created < "2026-02" { "" } else { "x" });
            // The one that routes name.
            let name = if name == "p0" || at > 0 { name } else { String::from("q0") };
            let of_targets = TARGETS.iter().flat_map(|targets| specs.map(|spec| (targets, spec)));
            let mut all: Slot = of_targets
                .map(|(targets, spec)| {
                    let metadata = format!("name: {name}, namespace: a, creationTimestamp: '{created}'");
                    let rest = format!("spec: {{targetRefs: [{targets}], {spec}}}");
                    object("tidegate.io/v1alpha1", kind, &metadata, &rest)
                })
                .collect();
            all.push(all[0].replace("2026-0", "2025-0"));
            slots.push(all);
        }
    }
}

fn slots() -> Vec<Slot> {
    let mut slots = Vec::new();
    services(&mut slots);
    around(&mut slots);
    beside(&mut slots);
    policies(&mut slots);
    slots
}

#[derive(Clone, Debug)]
enum Edit {
    Delete,
    /// Its neighbour: of a policy, the same targets with another setting.
    Flip,
    /// Any version, so many lines further down.
    Write(prop::sample::Index, usize),
}

fn edits() -> impl Strategy<Value = Vec<Vec<(prop::sample::Index, Edit)>>> {
    let edit = prop_oneof![
        4 => Just(Edit::Flip),
        4 => (any::<prop::sample::Index>(), 0usize..2).prop_map(|(version, lines)| Edit::Write(version, lines)),
        1 => Just(Edit::Delete),
    ];
    prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), edit), 1..3), 1..40)
}

/// The mesh as it is written: a slot's number, its version and how far down it begins.
#[derive(Default)]
struct Mesh {
    slots: Vec<Slot>,
    written: BTreeMap<usize, (usize, usize)>,
}

impl Mesh {
    /// One in which there is something to break.
    fn new() -> Self {
        let slots = slots();
        let written = (0..slots.len()).map(|at| (at, (0, 0))).collect();
        Self { slots, written }
    }

    fn edit(&mut self, slot: &prop::sample::Index, edit: &Edit) {
        let at = slot.index(self.slots.len());
        let versions = self.slots[at].len();
        match edit {
            Edit::Delete => drop(self.written.remove(&at)),
            Edit::Flip => {
                let (version, lines) = self.written.get(&at).copied().unwrap_or_default();
                self.written.insert(at, ((version ^ 1).min(versions - 1), lines));
            }
            Edit::Write(version, lines) => drop(self.written.insert(at, (version.index(versions), *lines))),
        }
    }

    fn reading(&self) -> Reading {
        let file = |(at, (version, lines)): (&usize, &(usize, usize))| {
            let text = "#\n".repeat(*lines) + &self.slots[*at][*version];
            FileContent { path: format!("p/{at:02}.yaml").into(), body: Ok(FileText::new(text)) }
        };
        Reading { files: self.written.iter().map(file).collect(), root_listed: true, ..Reading::default() }
    }
}

fn scopes() -> Vec<Scope> {
    let name = |name: &str| ResourceName::new("a", name);
    let wants = ["s0", "s1.a", "10.0.0.7", "s0.b"].map(Arc::from).into();
    let interest = Interest { namespace: "a".into(), served: [name("s1")].into(), wants };
    let asking = Interest { served: [].into(), ..interest.clone() };
    vec![
        Scope::Gateway { name: Some(name("edge")), account: None },
        Scope::Sidecar { pod: Some(name("p0")), interest: Some(asking) },
        Scope::Sidecar { pod: None, interest: Some(interest) },
    ]
}

fn assert_same(kept: &World, fresh: &World) {
    assert_eq!(kept.diagnostics, fresh.diagnostics);
    assert_eq!(kept.conditions, fresh.conditions);
    assert_eq!(kept.listeners, fresh.listeners);
    assert_eq!(kept.listener_sets, fresh.listener_sets);
    assert_eq!(kept.ancestors, fresh.ancestors);
    for role in Role::ALL {
        assert_eq!(kept.published.of(role), fresh.published.of(role), "{role:?}");
    }
}

fn assert_same_views(kept: &World, fresh: &World) {
    for scope in scopes() {
        assert_eq!(kept.published.view(&scope), fresh.published.view(&scope), "{scope:?}");
    }
}

/// A version that is not would leave the one before in force, which who begins with nothing has never seen.
#[test]
fn every_version_is_valid() {
    let versions = slots().into_iter().flatten().enumerate();
    let parsed = versions.map(|(at, text)| parse(&format!("{at}").into(), &text).diagnostics);
    let wrong: Vec<_> = parsed.flatten().filter(Diagnostic::is_error).map(|one| one.to_string()).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_worked_out_of_a_change_is_what_is_worked_out_of_everything(edits in edits()) {
        let mut mesh = Mesh::new();
        let mut kept = Fold::default();
        let mut world = kept.apply(&mesh.reading()).unwrap();
        for edits in edits {
            edits.iter().for_each(|(slot, edit)| mesh.edit(slot, edit));
            let reading = mesh.reading();
            let fresh = Fold::default().apply(&reading).unwrap();
            world = kept.apply(&reading).unwrap_or(world);
            assert_same(&world, &fresh);
            // Not everybody looks each time.
            if edits.len() == 1 {
                assert_same_views(&world, &fresh);
            }
        }
    }
}

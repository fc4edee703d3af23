//! Every kind a document may have, with its schema and its reader.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::Schema;
use serde_json::Value as Json;

use super::schema::{Checker, generate};
use crate::kind::KindEntry;
use crate::kinds::KINDS;
use crate::model::{Meta, Mode, Policy, SourceMap};
use crate::objects::{
    BackendSpec, BackendTlsPolicySpec, ConfigMapSpec, EndpointSliceSpec, Fault, Faults, GatewayClassSpec,
    GatewaySpec, GrpcRouteSpec, HttpRouteSpec, ListenerSetSpec, Metadata, NamespaceSpec, Object, PodSpec,
    PolicyTargets, ReferenceGrantSpec, SecretSpec, ServiceSpec, Spec, TcpRouteSpec, TlsRouteSpec,
    UdpRouteSpec, Written,
};

/// Real kinds that often share a file with ours, told from misspelt ones.
const NOT_USED: [&str; 20] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CronJob",
    "CustomResourceDefinition",
    "DaemonSet",
    "Deployment",
    "Endpoints",
    "HorizontalPodAutoscaler",
    "Ingress",
    "Job",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "ReplicaSet",
    "Role",
    "RoleBinding",
    "ServiceAccount",
    "ServiceMonitor",
    "StatefulSet",
    "StorageClass",
];

/// A kind that becomes an [`Object`].
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: &'static str,
    pub(super) api_versions: &'static [&'static str],
    pub(super) content: Content,
    /// Objects of the kind belong to no namespace.
    pub(super) cluster_scoped: bool,
    pub(super) schema: Checker,
    reader: Reader,
}

/// Where a kind keeps what its schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Spec,
    /// Under `spec`, which may be absent.
    OptionalSpec,
    /// Beside `metadata`.
    Beside,
}

#[derive(Debug)]
enum Reader {
    Object(fn(Parts) -> ReadResult),
    Policy(&'static KindEntry),
}

/// An object with what is wrong with it; or what the schema let pass and the type did not.
pub(super) type ReadResult = Result<(Object, Vec<Fault>), String>;

/// A document taken apart: its shape is right, its meaning not yet judged.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) meta: Meta,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) spec: Json,
    pub(super) lines: SourceMap,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let gateway: &[_] = &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
    // Manifests in use are still written for the versions before.
    let tls: &[_] = &[
        "gateway.networking.k8s.io/v1",
        "gateway.networking.k8s.io/v1alpha2",
        "gateway.networking.k8s.io/v1alpha3",
    ];
    let stream = &tls[..2];
    let tidegate: &[_] = &["tidegate.io/v1alpha1"];
    let mut rows = vec![
        Row { cluster_scoped: true, ..Row::of::<GatewayClassSpec>("GatewayClass", gateway) },
        Row::of::<GatewaySpec>("Gateway", gateway),
        Row::of::<ListenerSetSpec>("ListenerSet", &gateway[..1]),
        Row::of::<HttpRouteSpec>("HTTPRoute", gateway),
        Row::of::<GrpcRouteSpec>("GRPCRoute", gateway),
        Row::of::<TcpRouteSpec>("TCPRoute", stream),
        Row::of::<TlsRouteSpec>("TLSRoute", tls),
        Row::of::<UdpRouteSpec>("UDPRoute", stream),
        Row::of::<ReferenceGrantSpec>("ReferenceGrant", gateway),
        Row {
            content: Content::OptionalSpec,
            cluster_scoped: true,
            ..Row::of::<NamespaceSpec>("Namespace", &["v1"])
        },
        Row::of::<ServiceSpec>("Service", &["v1"]),
        Row {
            content: Content::Beside,
            ..Row::of::<EndpointSliceSpec>("EndpointSlice", &["discovery.k8s.io/v1"])
        },
        Row { content: Content::OptionalSpec, ..Row::of::<PodSpec>("Pod", &["v1"]) },
        Row::of::<BackendSpec>("Backend", tidegate),
        Row { content: Content::Beside, ..Row::of::<SecretSpec>("Secret", &["v1"]) },
        Row { content: Content::Beside, ..Row::of::<ConfigMapSpec>("ConfigMap", &["v1"]) },
        Row::of::<BackendTlsPolicySpec>("BackendTLSPolicy", &["gateway.networking.k8s.io/v1"]),
    ];
    rows.extend(KINDS.iter().map(|entry| Row::policy(entry, tidegate)));
    rows
});

pub(super) static METADATA: LazyLock<Checker> = LazyLock::new(|| Checker::new(generate::<Metadata>()));

pub(super) fn find(kind: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.kind == kind)
}

pub(super) fn is_known_but_not_used(kind: &str) -> bool {
    NOT_USED.contains(&kind)
}

pub(super) fn rows() -> &'static [Row] {
    &ROWS
}

/// The kinds that a document may have to some effect.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.kind)
}

impl Row {
    fn of<S: Spec>(kind: &'static str, api_versions: &'static [&'static str]) -> Self {
        let schema = Checker::new(generate::<S>());
        Self::new(kind, api_versions, schema, Reader::Object(read::<S>))
    }

    fn policy(entry: &'static KindEntry, api_versions: &'static [&'static str]) -> Self {
        let schema = Checker::new(with_targets((entry.schema)()));
        Self::new(entry.kind, api_versions, schema, Reader::Policy(entry))
    }

    fn new(
        kind: &'static str,
        api_versions: &'static [&'static str],
        schema: Checker,
        reader: Reader,
    ) -> Self {
        Self { kind, api_versions, content: Content::Spec, cluster_scoped: false, schema, reader }
    }

    /// The entry of the registry, for a policy kind.
    pub(super) fn policy_entry(&self) -> Option<&'static KindEntry> {
        match self.reader {
            Reader::Object(_) => None,
            Reader::Policy(entry) => Some(entry),
        }
    }

    /// Turns the parts into an object.
    pub(super) fn read(&self, parts: Parts) -> ReadResult {
        match self.reader {
            Reader::Object(read) => read(parts),
            Reader::Policy(entry) => read_policy(entry, parts),
        }
    }
}

impl Row {
    /// See [`Policy::stand_in`]. Targets that cannot be read are left out: nobody can tell what it was for.
    pub(super) fn stand_in(&self, meta: Meta, written: &Json) -> Option<Object> {
        let Reader::Policy(entry) = self.reader else { return None };
        let spec = (entry.stand_in)()?;
        let all = written.get("targetRefs").and_then(Json::as_array);
        let one = |written: &Json| {
            let target_refs = vec![serde::Deserialize::deserialize(written).ok()?];
            let (one, mut faults) = (PolicyTargets { target_refs, mode: Mode::Enforce }, Faults::default());
            let found = one.resolve(&meta.name.namespace, entry.targets, &mut faults);
            faults.0.is_empty().then_some(found)
        };
        let mut targets: Vec<_> = all.into_iter().flatten().filter_map(one).flatten().collect();
        targets.sort();
        targets.dedup();
        let mode = match written.get("mode").and_then(Json::as_str) {
            Some("Shadow") => Mode::Shadow,
            _ => Mode::Enforce,
        };
        let kind = entry.kind.into();
        Some(Object::Policy(Box::new(Policy {
            meta,
            kind,
            targets,
            mode,
            spec,
            lines: SourceMap::default(),
        })))
    }
}

fn read<S: Spec>(parts: Parts) -> ReadResult {
    let Parts { meta, labels, annotations, spec, lines } = parts;
    let spec = serde_json::from_value(spec).map_err(|e| e.to_string())?;
    let object = Written::<S> { meta, labels, annotations, spec, lines };
    let mut faults = Faults::default();
    S::check(&object, &mut faults);
    Ok((S::wrap(object), faults.0))
}

fn read_policy(entry: &'static KindEntry, parts: Parts) -> ReadResult {
    let Parts { meta, mut spec, lines, .. } = parts;
    let common: PolicyTargets =
        serde::Deserialize::deserialize(&spec).map_err(|e: serde_json::Error| e.to_string())?;
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("targetRefs");
        spec.remove("mode");
    }
    let mut faults = Faults::default();
    let targets = common.resolve(&meta.name.namespace, entry.targets, &mut faults);
    let policy = Policy { meta, kind: entry.kind.into(), targets, mode: common.mode, spec, lines };
    for error in entry.faults(&policy)? {
        faults.error(error.pointer, error.message);
    }
    Ok((Object::Policy(Box::new(policy)), faults.0))
}

/// The schema of a kind's own fields, with those that every policy has.
fn with_targets(own: Schema) -> Schema {
    let mut whole = own;
    let common = generate::<PolicyTargets>();
    for (keyword, value) in common.as_object().into_iter().flatten() {
        let slot = whole.ensure_object().entry(keyword.clone());
        match (keyword.as_str(), slot.or_insert_with(|| value.clone()), value) {
            ("properties" | "$defs", Json::Object(into), Json::Object(from)) => {
                into.extend(from.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            ("required", Json::Array(into), Json::Array(from)) => {
                into.extend(from.iter().filter(|name| *name == "targetRefs").cloned());
                into.dedup();
            }
            _ => {}
        }
    }
    whole
}

//! One document tree -> one object: identity, metadata, shape, meaning.

use std::borrow::Cow;
use std::sync::Arc;

use super::ObjectKey;
use super::diagnostic::Report;
use super::kinds::{self, Content, Parts, Row};
use super::locate::{lines, locate, to_json};
use super::lost::{Lost, MOST_LEVELS, follows, without};
use super::schema::{nearest, unknown_field_help};
use super::timestamp::parse_rfc3339;
use super::yaml::{Node, Place, Value};
use crate::model::{Meta, ProxyProtocol, ResourceName, SourceMap, SourceRef};
use crate::objects::{
    Fault, MTLS, MTLS_ENABLED, Metadata, Object, PROXY_PROTOCOL, default_namespace, is_dns_label,
    is_dns_subdomain,
};

/// Where a document comes from.
pub(super) enum Origin {
    File(Arc<str>),
    Cluster,
}

pub(super) enum Outcome {
    Object(Object),
    /// A kind the mesh has no use for, or an empty document.
    Nothing,
    /// Errors were reported; the identity, where it could be read.
    Refused(Option<ObjectKey>),
}

/// Everything of an object but its content.
struct Head {
    meta: Meta,
    metadata: Metadata,
}

/// The items of a `kind: List`.
pub(super) fn list_items(node: &Node) -> Option<&[Arc<Node>]> {
    let kind = node.get("kind")?.as_str()?;
    match (kind, &node.get("items")?.value) {
        ("List", Value::Sequence(items)) => Some(items),
        _ => None,
    }
}

pub(super) fn name_place(node: &Node) -> Place {
    node.get("metadata").and_then(|m| m.get("name")).map_or(node.place, |n| n.place)
}

pub(super) fn object(node: &Node, origin: &Origin, report: &mut Report) -> Outcome {
    if node.value == Value::Null {
        return Outcome::Nothing;
    }
    let key = key_of(node);
    let before = report.begin_object();
    let Some(row) = row_of(node, report) else {
        // Of an unknown kind nobody can tell which object was meant.
        return if report.errors() == before { Outcome::Nothing } else { Outcome::Refused(None) };
    };
    let body = check_shape(node, row, report);
    let lost = report.take_lost();
    let metadata = metadata_of(node, row, origin, report);
    let (Some(body), Some(head)) = (body, metadata) else { return Outcome::Refused(key) };
    let lines = match origin {
        Origin::File(_) => lines(&body),
        Origin::Cluster => SourceMap::default(),
    };
    let object = finish(row, (&body, &lost), (head, lines), report);
    object.filter(|_| report.errors() == before).map_or(Outcome::Refused(key), Outcome::Object)
}

/// What holds in the place of a policy that is not valid, as far as can be told what it was for.
pub(super) fn stand_in(node: &Node, origin: &Origin) -> Option<Object> {
    let row = kinds::find(node.get("kind")?.as_str()?)?;
    let file = match origin {
        Origin::File(file) => file.clone(),
        Origin::Cluster => Arc::default(),
    };
    // What is wrong has been told.
    let meta = metadata_of(node, row, origin, &mut Report::new(file))?.meta;
    row.stand_in(meta, &node.get("spec").map(|spec| to_json(spec)).unwrap_or_default())
}

/// The identity as far as it can be read, whatever else is wrong.
pub(super) fn key_of(node: &Node) -> Option<ObjectKey> {
    let metadata = node.get("metadata")?;
    let kind = node.get("kind")?.as_str()?.to_owned();
    let namespace = match metadata.get("namespace") {
        _ if kinds::find(&kind).is_some_and(|row| row.cluster_scoped) => String::new(),
        Some(namespace) => namespace.as_str()?.to_owned(),
        None => default_namespace(),
    };
    let name = metadata.get("name")?.as_str()?.to_owned();
    Some(ObjectKey { kind, namespace, name })
}

/// The row of the document's kind; `None` after an error, or without one for a kind that is passed over.
fn row_of(node: &Node, report: &mut Report) -> Option<&'static Row> {
    if !matches!(node.value, Value::Mapping(_)) {
        let help = String::from("an object begins with `apiVersion:` and `kind:`");
        report.error(node.place, "", "expected an object", Some(help));
        return None;
    }
    let api_version = string(node, "apiVersion", report);
    let (kind, place) = string(node, "kind", report)?;
    let Some(row) = kinds::find(kind) else {
        if kinds::is_known_but_not_used(kind) {
            report.warn(place, "kind", format!("{kind} is not used by the mesh: passed over"), None);
        } else {
            let help = match nearest(kind, kinds::names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known kinds: {}", kinds::names().collect::<Vec<_>>().join(", ")),
            };
            report.error(place, "kind", format!("unknown kind `{kind}`"), Some(help));
        }
        return None;
    };
    let (version, place) = api_version?;
    if !row.api_versions.contains(&version) {
        let message = format!("`{version}` is not a supported version of {kind}");
        report.error(place, "apiVersion", message, Some(format!("use {}", row.api_versions.join(" or "))));
    }
    Some(row)
}

fn string<'n>(node: &'n Node, field: &str, report: &mut Report) -> Option<(&'n str, Place)> {
    let Some(value) = node.get(field) else {
        report.error(node.place, field, "is required", None);
        return None;
    };
    let text = value.as_str();
    if text.is_none() {
        report.error(value.place, field, "expected a string", None);
    }
    text.map(|t| (t, value.place))
}

/// Checks the document outside its metadata; returns the part that the kind's schema describes.
fn check_shape<'n>(node: &'n Node, row: &Row, report: &mut Report) -> Option<Cow<'n, Node>> {
    const ENVELOPE: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];
    if row.content == Content::Beside {
        let own = node.entries().iter().filter(|e| !ENVELOPE.contains(&e.key.as_str())).cloned().collect();
        let body = Node::new(Value::Mapping(own), node.place);
        row.schema.check(&body, "", report);
        return Some(Cow::Owned(body));
    }
    for entry in node.entries() {
        let key = entry.key.as_str();
        if key != "spec" && !ENVELOPE.contains(&key) {
            let help = if row.schema.fields().contains(&key) {
                Some(format!("`{key}` belongs under `spec`"))
            } else {
                unknown_field_help(key, &["apiVersion", "kind", "metadata", "spec"])
            };
            report.error(entry.place, key, "unknown field", help);
        }
    }
    let Some(spec) = node.get("spec") else {
        if row.content == Content::OptionalSpec {
            return Some(Cow::Owned(Node::new(Value::Mapping(Vec::new()), node.place)));
        }
        report.error(node.place, "spec", "is required", None);
        return None;
    };
    row.schema.check(spec, "spec", report);
    Some(Cow::Borrowed(spec))
}

/// Identity, place and age, if nothing is wrong with them.
fn metadata_of(node: &Node, row: &Row, origin: &Origin, report: &mut Report) -> Option<Head> {
    let Some(written) = node.get("metadata") else {
        report.error(node.place, "metadata", "is required", None);
        return None;
    };
    let before = report.errors();
    kinds::METADATA.check(written, "metadata", report);
    check_names(written, report);
    check_annotations(written, row, report);
    let created = written.get("creationTimestamp").and_then(|c| {
        let seconds = c.as_str().and_then(parse_rfc3339);
        if seconds.is_none() && c.as_str().is_some() {
            let help = Some(String::from("write it like 2026-01-31T12:00:00Z"));
            report.error(c.place, "metadata.creationTimestamp", "is not an RFC 3339 time", help);
        }
        seconds
    });
    if report.errors() > before {
        return None;
    }
    let metadata: Metadata = match serde_json::from_value(to_json(written)) {
        Ok(metadata) => metadata,
        Err(error) => {
            report.error(written.place, "metadata", error.to_string(), None);
            return None;
        }
    };
    let namespace = if row.cluster_scoped { "" } else { metadata.namespace.as_str() };
    let name = ResourceName::new(namespace, metadata.name.as_str());
    let source = match origin {
        Origin::File(path) => SourceRef::File { path: path.clone(), line: node.place.line },
        Origin::Cluster => SourceRef::Object { name: name.clone(), generation: metadata.generation },
    };
    Some(Head { meta: Meta { name, source, created }, metadata })
}

fn check_names(metadata: &Node, report: &mut Report) {
    let mut check = |key: &str, allowed: fn(&str) -> bool, help: &str| {
        let Some(value) = metadata.get(key) else { return };
        // An empty one is reported by the schema.
        if let Some(text) = value.as_str().filter(|t| !t.is_empty() && !allowed(t)) {
            let message = format!("`{text}` cannot be a {key}");
            report.error(value.place, &format!("metadata.{key}"), message, Some(help.to_owned()));
        }
    };
    check("name", is_dns_subdomain, "use lower case letters, digits, `-` and `.`, at most 253 characters");
    check("namespace", is_dns_label, "use lower case letters, digits and `-`, at most 63 characters");
}

/// What is said in annotations is for want of a field in a kind that is not ours, and is checked as strictly.
fn check_annotations(metadata: &Node, row: &Row, report: &mut Report) {
    let kinds = ["Service", "EndpointSlice", "Backend"];
    let Some(annotations) = metadata.get("annotations").filter(|_| kinds.contains(&row.kind)) else { return };
    if let Some(mtls) = annotations.get(MTLS)
        && let Some(text) = mtls.as_str().filter(|text| !matches!(*text, MTLS_ENABLED | "disabled"))
    {
        let field = locate(metadata, "metadata", &format!("/annotations/{}", MTLS.replace('/', "~1"))).0;
        let message = format!("`{text}` says nothing of mTLS");
        report.error(mtls.place, &field, message, Some(String::from("write `enabled` or `disabled`")));
    }
    if row.kind != "Service" {
        return;
    }
    let Some(version) = annotations.get(PROXY_PROTOCOL) else { return };
    // What is no text is reported by the schema.
    if let Some(text) = version.as_str().filter(|text| text.parse::<ProxyProtocol>().is_err()) {
        let field =
            locate(metadata, "metadata", &format!("/annotations/{}", PROXY_PROTOCOL.replace('/', "~1"))).0;
        let message = format!("`{text}` is no version of the PROXY protocol");
        report.error(version.place, &field, message, Some(String::from("write `V1` or `V2`")));
    }
}

/// The meaning. It is judged even where the shape had faults, as far as it can be read, so that an author need not mend
/// the file twice; what follows only from a fault of shape is not told again.
fn finish(
    row: &Row,
    (body, lost): (&Node, &[Lost]),
    (head, lines): (Head, SourceMap),
    report: &mut Report,
) -> Option<Object> {
    let root = if row.content == Content::Beside { "" } else { "spec" };
    let Metadata { labels, annotations, .. } = head.metadata;
    let whole = to_json(body);
    let parts = Parts { meta: head.meta, labels, annotations, spec: whole.clone(), lines };
    let spare = (!lost.is_empty()).then(|| parts.clone());
    let (object, faults, left_out) = match row.read(parts) {
        Ok((object, faults)) => (object, faults, None),
        Err(message) => {
            let rest = spare.and_then(|parts| {
                (0..MOST_LEVELS).find_map(|level| {
                    let parts = Parts { spec: without(&whole, lost, level), ..parts.clone() };
                    row.read(parts).ok().map(|(object, faults)| (object, faults, Some(level)))
                })
            });
            match rest {
                Some(rest) => rest,
                None => {
                    if !report.has_error_within(root) {
                        report.error(body.place, root, message, None);
                    }
                    return None;
                }
            }
        }
    };
    let follows = |fault: &Fault| left_out.is_some_and(|level| follows(&fault.pointer, &whole, lost, level));
    let faults: Vec<_> = faults
        .into_iter()
        .filter(|fault| !follows(fault))
        .map(|fault| (locate(body, root, &fault.pointer), fault))
        .collect();
    let told: Vec<_> = faults.iter().map(|((field, _), _)| report.has_error_within(field)).collect();
    for (((field, place), fault), _) in faults.into_iter().zip(told).filter(|(_, told)| !told) {
        if fault.warning {
            report.warn(place, &field, fault.message, fault.help);
        } else {
            report.error(place, &field, fault.message, fault.help);
        }
    }
    Some(object)
}

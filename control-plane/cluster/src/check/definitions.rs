//! Whether the definitions of kinds that a cluster has are those that this program was made for.
//!
//! A field that a definition does not have is dropped by the API server without a word, so a policy of today under the
//! definition of yesterday says less than its author wrote. What is compared is what a definition means: which fields,
//! which values of a choice, which rules. The API server writes the rest in its own way.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use serde_json::Value as Json;
use tidegate_policy::document::{self, crd};

use super::{Finding, broken, get, lacking, well};
use crate::errors::told;

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const OURS: &str = "tidegate.io";
/// Without these there is no routing.
const ESSENTIAL: [&str; 3] = ["GatewayClass", "Gateway", "HTTPRoute"];
const RULES: &str = "x-kubernetes-validations";
/// So many differences are told of one kind.
const TOLD: usize = 3;

const GET_GATEWAY_API: &str = "see https://gateway-api.sigs.k8s.io";
const GET_OURS: &str = "apply those of this version: tidegate crds | kubectl apply --server-side -f -";

/// A definition as the cluster has it.
enum There {
    Yes(Json),
    No,
    /// And why nothing is known.
    Unknown(String),
}

pub(super) async fn check(client: &Client) -> Vec<Finding> {
    let mut found = gateway_api(client).await;
    found.push(ours(client).await);
    found
}

async fn definition(client: &Client, name: &str) -> There {
    let url = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    match get(client, &url).await {
        Ok(definition) => There::Yes(definition),
        Err(kube::Error::Api(status)) if status.code == 404 => There::No,
        Err(error) => There::Unknown(told(&error)),
    }
}

fn served(definition: &Json) -> Vec<&str> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    versions
        .filter(|version| version["served"] == true)
        .filter_map(|version| version["name"].as_str())
        .collect()
}

fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if lower.ends_with('s') => format!("{lower}es"),
        _ => format!("{lower}s"),
    }
}

async fn gateway_api(client: &Client) -> Vec<Finding> {
    let of_group = document::kinds().filter(|(_, versions, _)| versions[0].starts_with(GATEWAY_API));
    let (mut bundles, mut missing, mut other, mut findings) =
        (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
    for (kind, read, _) in of_group {
        let definition = match definition(client, &format!("{}.{GATEWAY_API}", plural(kind))).await {
            There::Yes(definition) => definition,
            There::No => {
                missing.push(kind);
                continue;
            }
            There::Unknown(why) => {
                findings.push(lacking(format!("cannot ask for the definition of {kind}: {why}")));
                break;
            }
        };
        let served = served(&definition);
        let read: Vec<_> =
            read.iter().filter_map(|version| version.split_once('/')).map(|(_, v)| v).collect();
        if !read.iter().any(|version| served.contains(version)) {
            missing.push(kind);
            other.push(format!("{kind} is served as {}, and read as {}", served.join(", "), read.join(", ")));
        }
        bundles.entry(bundle(&definition)).or_insert_with(Vec::new).push(kind);
    }
    findings.insert(0, there(&bundles, &missing));
    if !other.is_empty() {
        findings.push(lacking(format!(
            "of the Gateway API, {}: apply the CRDs of another release, {GET_GATEWAY_API}",
            other.join("; ")
        )));
    }
    if bundles.len() > 1 {
        let each = bundles.iter().map(|(bundle, kinds)| format!("{bundle}: {}", kinds.join(", ")));
        let each: Vec<_> = each.collect();
        let help = format!("apply all of one release, {GET_GATEWAY_API}");
        findings
            .push(lacking(format!("the Gateway API is of several releases ({}): {help}", each.join("; "))));
    }
    findings
}

/// The release that a definition is of, as GEP-922 has it written down.
fn bundle(definition: &Json) -> String {
    let note = |name: &str| &definition["metadata"]["annotations"][format!("{GATEWAY_API}/{name}")];
    match (note("bundle-version").as_str(), note("channel").as_str()) {
        (Some(version), Some(channel)) => format!("{version} ({channel} channel)"),
        (Some(version), None) => version.to_owned(),
        (None, _) => String::from("an unknown version"),
    }
}

fn there(bundles: &BTreeMap<String, Vec<&str>>, missing: &[&str]) -> Finding {
    if ESSENTIAL.iter().any(|kind| missing.contains(kind)) {
        let missing = missing.join(", ");
        return broken(format!(
            "the Gateway API is missing ({missing}): install its CRDs, {GET_GATEWAY_API}"
        ));
    }
    let bundles = bundles.keys().cloned().collect::<Vec<_>>().join(", ");
    match missing {
        [] => well(format!("the Gateway API is there: {bundles}")),
        missing => {
            // Some kinds are in the experimental channel only, or came later.
            let missing = missing.join(", ");
            lacking(format!(
                "the Gateway API is there: {bundles}, without {missing}: a newer release or its experimental channel has more"
            ))
        }
    }
}

async fn ours(client: &Client) -> Finding {
    let (mut missing, mut older, mut newer) = (Vec::new(), Vec::new(), Vec::new());
    let wanted = crd::definitions();
    for wanted in &wanted {
        let kind = wanted["spec"]["names"]["kind"].as_str().unwrap_or_default();
        let there = match definition(client, wanted["metadata"]["name"].as_str().unwrap_or_default()).await {
            There::Yes(definition) => definition,
            There::No => {
                missing.push(kind);
                continue;
            }
            There::Unknown(why) => {
                return lacking(format!("cannot ask for the definition of {kind}: {why}"));
            }
        };
        let (here, there) = (facts(wanted), facts(&there));
        older.extend(differences(kind, &here, &there));
        newer.extend(differences(kind, &there, &here));
    }
    if !missing.is_empty() {
        return broken(format!("CRDs of {OURS} are missing: {}; {GET_OURS}", missing.join(", ")));
    }
    if !older.is_empty() {
        let older = older.join("; ");
        return broken(format!(
            "CRDs of {OURS} are of another version: they do not know {older}; {GET_OURS}"
        ));
    }
    if !newer.is_empty() {
        let newer = newer.join("; ");
        return lacking(format!(
            "CRDs of {OURS} know more than this version does: {newer}; is the control plane older than the chart?"
        ));
    }
    well(format!("all kinds of {OURS} are there, as this version defines them"))
}

/// What of `these` is not among `those`; the first few.
fn differences(kind: &str, these: &BTreeSet<String>, those: &BTreeSet<String>) -> Option<String> {
    let all: Vec<_> = these.difference(those).map(String::as_str).collect();
    let more = if all.len() > TOLD { format!(" and {} more", all.len() - TOLD) } else { String::new() };
    let first = all.iter().take(TOLD).copied().collect::<Vec<_>>().join(", ");
    (!all.is_empty()).then(|| format!("{kind} {first}{more}"))
}

/// What the served versions of a definition say, each as a word of its own.
fn facts(definition: &Json) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    let served = served(definition);
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        let name = version["name"].as_str().unwrap_or_default();
        if served.contains(&name) {
            facts.insert(name.to_owned());
            for part in ["spec", "status"] {
                let schema = &version["schema"]["openAPIV3Schema"]["properties"][part];
                of_schema(schema, &mut format!("{name} {part}"), &mut facts);
            }
        }
    }
    facts
}

fn of_schema(schema: &Json, at: &mut String, facts: &mut BTreeSet<String>) {
    let length = at.len();
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        at.push_str(&format!(".{field}"));
        facts.insert(at.clone());
        of_schema(schema, at, facts);
        at.truncate(length);
    }
    for (below, sign) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[below].is_object() {
            at.push_str(sign);
            of_schema(&schema[below], at, facts);
            at.truncate(length);
        }
    }
    let values = schema["enum"].as_array().into_iter().flatten();
    facts.extend(values.map(|value| format!("{at}={value}")));
    let rules = schema[RULES].as_array().into_iter().flatten().filter_map(|rule| rule["rule"].as_str());
    facts.extend(rules.map(|rule| format!("{at} rule {rule:?}")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits() -> Json {
        let all = crd::definitions();
        all.into_iter().find(|one| one["spec"]["names"]["kind"] == "RateLimitPolicy").unwrap()
    }

    #[test]
    fn a_definition_says_its_fields_their_values_and_its_rules() {
        let facts = facts(&limits());
        for fact in [
            "v1alpha1",
            "v1alpha1 spec.limits",
            "v1alpha1 spec.limits[].requests",
            "v1alpha1 spec.mode=\"Shadow\"",
        ] {
            assert!(facts.contains(fact), "{fact}: {facts:#?}");
        }
        assert!(facts.iter().any(|fact| fact.contains(" rule ")), "{facts:#?}");
    }

    #[test]
    fn what_the_api_server_writes_in_its_own_way_is_no_difference() {
        let mut theirs = limits();
        theirs["metadata"] = json!({ "name": "x", "uid": "u", "managedFields": [] });
        theirs["spec"]["conversion"] = json!({ "strategy": "None" });
        theirs["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!("other words");
        theirs["status"] = json!({ "storedVersions": ["v1alpha1"] });
        assert_eq!(facts(&theirs), facts(&limits()));
        theirs["spec"]["versions"][0]["served"] = json!(false);
        assert!(facts(&theirs).is_empty(), "a version that is not served says nothing");
    }

    #[test]
    fn kinds_are_in_the_plural_that_the_gateway_api_gives_them() {
        let named = ["GatewayClass", "Gateway", "BackendTLSPolicy", "HTTPRoute"].map(plural);
        assert_eq!(named, ["gatewayclasses", "gateways", "backendtlspolicies", "httproutes"]);
    }
}

use serde_json::{Value, json};
use tidegate_cluster::check::{Place, Verdict, check};
use tidegate_policy::document::{self, crd};

use crate::api::Api;
use crate::objects::{DEFINITIONS, cluster};
use crate::support::{flags, plane};

async fn findings(api: &Api) -> Vec<String> {
    let place = Place {
        namespace: String::from("mesh"),
        service: String::from("tidegate"),
        lease: String::from("tidegate-leader"),
        webhook_configuration: String::from("tidegate"),
        secrets: ["tidegate-webhook", "tidegate-ca"].map(String::from).to_vec(),
    };
    let found = check(&api.client(), &place).await.into_iter();
    let mark = |verdict| match verdict {
        Verdict::Well => "ok",
        Verdict::Lacking => "--",
        Verdict::Broken => "!!",
    };
    found.map(|finding| format!("{} {}", mark(finding.verdict), finding.what)).collect()
}

#[tokio::test]
async fn what_a_cluster_lacks_is_told_with_what_would_help() {
    let mut kinds = cluster();
    kinds.retain(|kind| kind.kind != "HTTPRoute");
    let api = Api::start(kinds).await;
    let found = findings(&api).await.join("\n");
    for expected in [
        "ok the API answers: Kubernetes v1.36.0",
        "!! the Gateway API is missing (GatewayClass, Gateway, ListenerSet, HTTPRoute,",
        "!! CRDs of tidegate.io are missing: AuthorizationPolicy, Backend, CircuitBreakerPolicy,",
        "-- webhook tidegate: not installed",
        "!! there is no Lease mesh/tidegate-leader",
        "!! Service mesh/tidegate does not answer",
    ] {
        assert!(found.contains(expected), "{expected} is not in\n{found}");
    }
}

/// Whether what `tidegate install` prints grants this, as RBAC has it; the Role is that of the namespace that is asked about.
fn is_granted(asked: &Value) -> bool {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/install.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let word = |name: &str| asked[name].as_str().unwrap_or_default();
    let resource = match word("subresource") {
        "" => word("resource").to_owned(),
        sub => format!("{}/{sub}", word("resource")),
    };
    let roles = text.split("\n---\n").filter_map(|role| serde_saphyr::from_str::<Value>(role).ok());
    let holds = |role: &Value| {
        role["kind"] == "ClusterRole" || (role["kind"] == "Role" && !word("namespace").is_empty())
    };
    let lists = |rule: &Value, field: &str, wanted: &str| {
        let any_of = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        let fits =
            |one: &Value| *one == wanted || *one == "*" || any_of.as_ref().is_some_and(|any| one == any);
        rule[field].as_array().is_some_and(|all| all.iter().any(fits))
    };
    let rules: Vec<Value> =
        roles.filter(holds).flat_map(|r| r["rules"].as_array().unwrap().clone()).collect();
    rules.iter().any(|rule| {
        lists(rule, "apiGroups", word("group"))
            && lists(rule, "resources", &resource)
            && lists(rule, "verbs", word("verb"))
            && (rule["resourceNames"].is_null() || lists(rule, "resourceNames", word("name")))
    })
}

#[tokio::test]
async fn the_roles_of_the_chart_are_all_that_is_needed() {
    let api = Api::start(cluster()).await;
    api.with(|state| state.may = Some(is_granted));
    let found = findings(&api).await.join("\n");
    assert!(found.contains("ok system:serviceaccount:mesh:tidegate may do what it must"), "{found}");
    api.with(|state| state.may = Some(|asked| is_granted(asked) && asked["name"] != "tidegate-ca"));
    let found = findings(&api).await.join("\n");
    assert!(
        found.contains("!! system:serviceaccount:mesh:tidegate may not get secrets tidegate-ca, "),
        "{found}"
    );
}

/// An API that has the definitions of this version, and those of one release of the Gateway API; after `change` to each.
async fn defined(change: impl Fn(&mut Value)) -> Api {
    let mut kinds = cluster();
    kinds.push(DEFINITIONS);
    let api = Api::start(kinds).await;
    let gateway = document::kinds().filter(|(_, versions, _)| versions[0].starts_with("gateway.networking"));
    let gateway =
        gateway.map(|(kind, versions, _)| gateway_api(kind, versions[0].split_once('/').unwrap().1));
    for mut definition in crd::definitions().into_iter().chain(gateway) {
        change(&mut definition);
        if !definition.is_null() {
            api.put(definition);
        }
    }
    api
}

fn gateway_api(kind: &str, version: &str) -> Value {
    let plural = match kind {
        "GatewayClass" => String::from("gatewayclasses"),
        "BackendTLSPolicy" => String::from("backendtlspolicies"),
        other => format!("{}s", other.to_lowercase()),
    };
    let group = "gateway.networking.k8s.io";
    let annotations =
        json!({ format!("{group}/bundle-version"): "v1.4.0", format!("{group}/channel"): "experimental" });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}"), "annotations": annotations },
        "spec": { "group": group, "names": { "kind": kind }, "versions": [{ "name": version, "served": true }] },
    })
}

/// What is said of definitions.
async fn of_definitions(api: &Api) -> Vec<String> {
    let about = |line: &String| line.contains("Gateway API") || line.contains("of tidegate.io");
    findings(api).await.into_iter().filter(about).collect()
}

fn is(definition: &Value, kind: &str) -> bool {
    definition["spec"]["names"]["kind"] == kind
}

#[tokio::test]
async fn definitions_of_this_version_and_of_one_release_are_well() {
    let api = defined(|_| {}).await;
    assert_eq!(
        of_definitions(&api).await,
        [
            "ok the Gateway API is there: v1.4.0 (experimental channel)",
            "ok all kinds of tidegate.io are there, as this version defines them"
        ]
    );
}

#[tokio::test]
async fn a_gateway_api_of_several_releases_or_of_versions_that_nobody_reads_is_told_with_what_helps() {
    let api = defined(|definition| {
        let note = "/metadata/annotations/gateway.networking.k8s.io~1bundle-version";
        if is(definition, "HTTPRoute") {
            *definition.pointer_mut(note).unwrap() = json!("v1.1.0");
        } else if is(definition, "BackendTLSPolicy") {
            definition["spec"]["versions"] =
                json!([{ "name": "v1alpha3", "served": true }, { "name": "v1", "served": false }]);
        } else if is(definition, "UDPRoute") {
            *definition = Value::Null;
        } else if is(definition, "GRPCRoute") {
            definition["metadata"]["annotations"] = json!({});
        }
    })
    .await;
    let found = of_definitions(&api).await.join("\n");
    for expected in [
        "-- the Gateway API is there: an unknown version, v1.1.0 (experimental channel), v1.4.0 (experimental channel), \
         without ",
        "UDPRoute",
        "-- of the Gateway API, BackendTLSPolicy is served as v1alpha3, and read as v1: apply the CRDs of another release",
        "-- the Gateway API is of several releases (an unknown version: GRPCRoute; v1.1.0 (experimental channel): HTTPRoute; ",
        "apply all of one release, see https://gateway-api.sigs.k8s.io",
    ] {
        assert!(found.contains(expected), "{expected} is not in\n{found}");
    }
}

#[tokio::test]
async fn a_field_that_an_older_chart_does_not_define_would_be_lost_so_it_is_an_error() {
    let limits = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let older = defined(|definition| {
        if is(definition, "RateLimitPolicy") {
            definition.pointer_mut(limits).unwrap().as_object_mut().unwrap().remove("mode").unwrap();
        }
    })
    .await;
    let found = of_definitions(&older).await.join("\n");
    let expected =
        "!! CRDs of tidegate.io are of another version: they do not know RateLimitPolicy v1alpha1 spec.mode";
    assert!(found.contains(expected) && found.contains("tidegate crds | kubectl apply"), "{found}");

    let newer = defined(|definition| {
        if is(definition, "RateLimitPolicy") {
            definition.pointer_mut(limits).unwrap()["later"] = json!({ "type": "string" });
        }
    })
    .await;
    let found = of_definitions(&newer).await.join("\n");
    let expected =
        "-- CRDs of tidegate.io know more than this version does: RateLimitPolicy v1alpha1 spec.later; ";
    assert!(found.contains(expected), "{found}");
}

#[tokio::test]
async fn who_leads_is_told_and_an_api_that_is_away() {
    let api = Api::start(cluster()).await;
    let mut plane = plane(&api, &flags()).await;
    plane.leads.wait_for(|leads| *leads).await.unwrap();
    let found = findings(&api).await.join("\n");
    assert!(found.contains(" leads, as of 20") && found.contains("!! the Gateway API is missing"), "{found}");
    api.go_away();
    let found = findings(&api).await;
    assert!(found.len() == 1 && found[0].starts_with("!! the API does not answer: "), "{found:?}");
    plane.shutdown().await;
}

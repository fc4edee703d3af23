//! What is promised of injection, for every pod that proptest can think of and for those that people write.

mod laws;
mod pods;
mod refusals;

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::*;

fn web() -> Json {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "app", "image": "web:1", "ports": [{ "containerPort": 3000 }] }] },
        } },
    })
}

/// With annotations of `tidegate.io/` on its pods.
fn web_with(annotations: &[(&str, &str)]) -> Json {
    let mut web = web();
    let named = annotations.iter().map(|(name, value)| (format!("tidegate.io/{name}"), json!(value)));
    web["spec"]["template"]["metadata"]["annotations"] = Json::Object(named.collect());
    web
}

fn injected(of: &Json, settings: &Settings) -> Json {
    match document(of, settings) {
        Ok(Outcome::Injected(injected)) => injected,
        other => panic!("{other:?}"),
    }
}

fn template(of: &Json) -> &Json {
    &of["spec"]["template"]["spec"]
}

fn container<'a>(spec: &'a Json, name: &str) -> &'a Json {
    let all = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten());
    all.into_iter()
        .find(|container| container["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {spec}"))
}

fn args(container: &Json) -> Vec<String> {
    container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned()).collect()
}

/// RFC 6902, as far as our patches go.
fn apply(patch: &Json, to: &Json) -> Json {
    let mut whole = to.clone();
    for operation in patch.as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        let Some((parent, name)) = path.rsplit_once('/') else {
            whole = operation["value"].clone();
            continue;
        };
        let name = name.replace("~1", "/").replace("~0", "~");
        match (whole.pointer_mut(parent).unwrap(), operation["op"].as_str().unwrap()) {
            (Json::Object(map), "remove") => drop(map.remove(&name).unwrap()),
            (Json::Object(map), "add") => drop(map.insert(name, operation["value"].clone())),
            (Json::Object(map), "replace") => *map.get_mut(&name).unwrap() = operation["value"].clone(),
            (Json::Array(items), "add") if name == "-" => items.push(operation["value"].clone()),
            (Json::Array(items), "add") => items.insert(name.parse().unwrap(), operation["value"].clone()),
            (Json::Array(items), "replace") => {
                items[name.parse::<usize>().unwrap()] = operation["value"].clone();
            }
            (_, other) => panic!("{other} {path}"),
        }
    }
    whole
}

#[test]
fn a_namespace_asks_for_its_pods_and_a_pod_for_itself() {
    let pod = |place: &str, word: &str| json!({ "metadata": { place: { "tidegate.io/inject": word } } });
    let enabled = BTreeMap::from([("tidegate.io/inject".to_owned(), "enabled".to_owned())]);
    let nothing = BTreeMap::new();
    let plain = json!({ "metadata": {} });
    assert_eq!(decide(&plain, &enabled), Ok(Decision::Inject(Because::OfWhereItIs)));
    assert!(matches!(decide(&plain, &nothing), Ok(Decision::Leave(why)) if why.contains("neither")));
    for place in ["labels", "annotations"] {
        assert_eq!(decide(&pod(place, "enabled"), &nothing), Ok(Decision::Inject(Because::ItSaysSo)));
        assert!(matches!(decide(&pod(place, "disabled"), &enabled), Ok(Decision::Leave(_))));
        let wrong = decide(&pod(place, "yes"), &enabled).unwrap_err().to_string();
        assert!(wrong.contains(place) && wrong.contains("`yes` is neither"), "{wrong}");
    }
}

#[test]
fn a_webhook_patches_what_is_to_have_a_sidecar_and_nothing_else() {
    let enabled = BTreeMap::from([("tidegate.io/inject".to_owned(), "enabled".to_owned())]);
    let settings = Settings::default();
    let new =
        json!({ "metadata": { "generateName": "web-" }, "spec": { "containers": [{ "name": "app" }] } });
    let patch = review(&new, &enabled, &settings).unwrap().unwrap();
    let with = apply(&patch, &new);
    assert!(args(container(&with["spec"], PROXY_CONTAINER)).contains(&"--workload=web".to_owned()));
    assert_eq!(review(&with, &enabled, &settings), Ok(None), "asked again, there is nothing to do");
    assert_eq!(review(&new, &BTreeMap::new(), &settings), Ok(None));
    let mut of_host = new;
    of_host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(review(&of_host, &enabled, &settings), Ok(None), "its namespace asked, not the pod");
    of_host["metadata"]["labels"] = json!({ "tidegate.io/inject": "enabled" });
    assert!(review(&of_host, &enabled, &settings).unwrap_err().to_string().contains("spec.hostNetwork"));
}

#[test]
fn settings_are_read_as_the_chart_writes_them() {
    let text = r#"{"proxyImage": "p:1", "initImage": "c:1", "uid": 7, "excludedCIDRs": ["169.254.169.254/32"], "ports": {"admin": 1}}"#;
    let settings: Settings = serde_json::from_str(text).unwrap();
    assert_eq!((settings.uid.get(), settings.ports.admin, settings.ports.outbound), (7, 1, 15001));
    let wrong = serde_json::from_str::<Settings>(r#"{"proxyImge": "p:1"}"#).unwrap_err().to_string();
    assert!(wrong.contains("proxyImge"), "{wrong}");
    assert!(
        serde_json::from_str::<Settings>(r#"{"uid": 0}"#).is_err(),
        "root's calls are the init container's too"
    );
}

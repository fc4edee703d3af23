//! What a pod wants of its node, from what the API server knows of it. Pure.

use serde_json::Value as Json;
use tidegate_inject::{INIT_CONTAINER, INJECTED, INTERCEPTION, PROXY_CONTAINER, REDIRECT};
use tidegate_redirect::{MAX_WRITTEN_BYTES, Rules};

use crate::spec::{Code, Failure, PodName};

/// Of a static pod as the API server shows it: the identity that the kubelet knows it by.
const STATIC_UID: &str = "kubernetes.io/config.hash";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing, and why.
    Nothing(&'static str),
    Lead(Rules),
}

/// What is to be done for a pod.
///
/// # Errors
/// `TryAgainLater`: it is not the pod that was asked for. `Refused`: it is to be led to its sidecar, and what it says about
/// that cannot be used.
pub fn wanted(pod: &Json, asked: &PodName) -> Result<Wanted, Failure> {
    if let Some(uid) = &asked.uid {
        let known = [pod.pointer("/metadata/uid"), annotation(pod, STATIC_UID)];
        if !known.into_iter().flatten().any(|known| known == uid.as_str()) {
            // One that is gone, by the name of the one that comes.
            let why = format!("pod {asked} of the API server is another one than {uid}");
            return Err(Failure::new(Code::TryAgainLater, why));
        }
    }
    if pod.pointer("/spec/hostNetwork") == Some(&Json::Bool(true)) {
        return Ok(Wanted::Nothing("it has the node's own network"));
    }
    let Some(sidecar) = containers(pod).find(|container| container["name"] == PROXY_CONTAINER) else {
        return Ok(Wanted::Nothing("it has no sidecar"));
    };
    if annotation(pod, INTERCEPTION).is_some_and(|word| word == "none") {
        return Ok(Wanted::Nothing("something else leads its connections"));
    }
    let Some(written) = annotation(pod, REDIRECT).and_then(Json::as_str) else {
        if containers(pod).any(|container| container["name"] == INIT_CONTAINER) {
            return Ok(Wanted::Nothing("its init container leads its connections"));
        }
        let is_injected = pod.pointer("/metadata/labels").and_then(|labels| labels.get(INJECTED)).is_some();
        return match is_injected {
            false => Ok(Wanted::Nothing("its sidecar was not injected")),
            true => Err(refused(
                asked,
                "annotation",
                REDIRECT,
                "missing: nothing says what is led to its sidecar",
            )),
        };
    };
    lead(written, sidecar, asked).map(Wanted::Lead)
}

fn lead(written: &str, sidecar: &Json, asked: &PodName) -> Result<Rules, Failure> {
    if written.len() > MAX_WRITTEN_BYTES {
        return Err(refused(asked, "annotation", REDIRECT, &format!("more than {MAX_WRITTEN_BYTES} bytes")));
    }
    let rules: Rules = serde_json::from_str(written)
        .map_err(|error| refused(asked, "annotation", REDIRECT, &error.to_string()))?;
    let runs_as = sidecar.pointer("/securityContext/runAsUser").and_then(Json::as_u64);
    if runs_as != Some(u64::from(rules.uid)) || rules.uid == 0 {
        // Its connections would be led to itself, or somebody else's nowhere.
        let why = format!("must be the user whose connections are not led, {}, and not root", rules.uid);
        return Err(refused(asked, PROXY_CONTAINER, "securityContext.runAsUser", &why));
    }
    Ok(rules)
}

fn refused(asked: &PodName, place: &str, field: &str, why: &str) -> Failure {
    let help = "inject it anew, or write tidegate.io/interception: none";
    Failure::new(Code::Refused, format!("pod {asked}: {place} {field}: {why}; {help}"))
}

fn containers(pod: &Json) -> impl Iterator<Item = &Json> {
    let lists = ["/spec/initContainers", "/spec/containers"].into_iter();
    lists.filter_map(|list| pod.pointer(list)?.as_array()).flatten()
}

fn annotation<'a>(pod: &'a Json, name: &str) -> Option<&'a Json> {
    pod.pointer("/metadata/annotations")?.get(name)
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(uid: Option<&str>) -> PodName {
        PodName { namespace: "shop".into(), name: "web".into(), uid: uid.map(str::to_owned) }
    }

    fn meshed() -> Json {
        json!({
            "metadata": {
                "uid": "u-1",
                "labels": { INJECTED: "true" },
                "annotations": { REDIRECT: r#"{"uid":15001,"outboundPort":15001}"# },
            },
            "spec": {
                "initContainers": [
                    { "name": "tidegate-verify" },
                    { "name": "tidegate-proxy", "securityContext": { "runAsUser": 15001 } },
                ],
                "containers": [{ "name": "app" }],
            },
        })
    }

    fn with(pointer: &str, value: Json) -> Json {
        let mut pod = meshed();
        *pod.pointer_mut(pointer).unwrap() = value;
        pod
    }

    #[test]
    fn an_injected_pod_is_led_as_its_annotation_says() {
        let Ok(Wanted::Lead(rules)) = wanted(&meshed(), &asked(None)) else { panic!() };
        assert_eq!(rules.flags(), ["--uid=15001", "--outbound-port=15001"]);
    }

    #[test]
    fn whoever_is_not_of_the_mesh_or_led_by_others_is_left_alone() {
        let none = |pod: Json| match wanted(&pod, &asked(None)) {
            Ok(Wanted::Nothing(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(none(with("/spec/initContainers", json!([]))).contains("no sidecar"));
        let mut of_host = meshed();
        of_host["spec"]["hostNetwork"] = json!(true);
        assert!(none(of_host).contains("node's own"));
        let mut others = meshed();
        others["metadata"]["annotations"] = json!({ INTERCEPTION: "none" });
        assert!(none(others).contains("something else"));
        let mut by_itself = with("/metadata/annotations", json!({}));
        by_itself["spec"]["initContainers"][0]["name"] = json!(INIT_CONTAINER);
        assert!(none(by_itself).contains("init container"));
        let mut by_hand = with("/metadata/annotations", json!({}));
        by_hand["metadata"]["labels"] = json!({});
        assert!(none(by_hand).contains("not injected"));
        assert!(none(json!({})).contains("no sidecar") && none(json!([1])).contains("no sidecar"));
    }

    #[test]
    fn an_injected_pod_that_says_nothing_or_nonsense_does_not_start() {
        let why = |pod: Json| {
            let failure = wanted(&pod, &asked(None)).unwrap_err();
            assert_eq!(failure.code, Code::Refused);
            failure.message
        };
        assert!(why(with("/metadata/annotations", json!({}))).contains("redirect: missing"));
        let redirect = "/metadata/annotations/tidegate.io~1redirect";
        assert!(why(with(redirect, json!("{"))).contains("EOF"));
        assert!(
            why(with(redirect, json!(" ".repeat(MAX_WRITTEN_BYTES + 1)))).contains("more than 65536 bytes")
        );
        let mut by_root = with(redirect, json!(r#"{"uid":0,"outboundPort":1}"#));
        by_root["spec"]["initContainers"][1]["securityContext"]["runAsUser"] = json!(0);
        let root = why(by_root);
        assert!(root.contains("and not root"), "{root}");
        let other = why(with("/spec/initContainers/1/securityContext/runAsUser", json!(7)));
        assert!(other.contains("tidegate-proxy securityContext.runAsUser"), "{other}");
    }

    #[test]
    fn a_pod_that_only_has_the_name_of_the_one_asked_for_is_another_one() {
        assert!(wanted(&meshed(), &asked(Some("u-1"))).is_ok());
        let failure = wanted(&meshed(), &asked(Some("u-2"))).unwrap_err();
        assert_eq!(failure.code, Code::TryAgainLater);
        let mut mirror = meshed();
        mirror["metadata"]["annotations"][STATIC_UID] = json!("u-2");
        assert!(wanted(&mirror, &asked(Some("u-2"))).is_ok(), "a static pod's mirror");
    }
}

//! A Gateway -> the objects that run it. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use tidegate_control_plane::publish::{label, own_name};

use super::{ByToken, Settings};
use crate::source::GATEWAY_LABEL;

const GATEWAY_CLASS_LABEL: &str = "gateway.networking.k8s.io/gateway-class-name";

/// Where the proxies tell that they are ready.
const ADMIN_PORT: u16 = 15020;
const TOKEN_DIR: &str = "/var/run/secrets/tidegate";
/// As injected pods have it: out of the pod itself, so that nothing has to be in its namespace before.
const TRUST_ROOT: &str = "tidegate.io/trust-root";

/// Objects to apply, in their order, for the Gateway that `gateway` is the manifest of and `uid` the identity.
pub fn objects(gateway: &Json, uid: &str, settings: &Settings) -> Vec<Json> {
    let text = |pointer: &str| gateway.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
    let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
    let class = text("/spec/gatewayClassName");
    let own = own_name(name, class);
    let selector = json!({ GATEWAY_LABEL: label(name) });
    let mut labels = map(gateway.pointer("/spec/infrastructure/labels"));
    labels.insert(String::from("app.kubernetes.io/managed-by"), json!("tidegate"));
    labels.insert(GATEWAY_LABEL.to_owned(), json!(label(name)));
    labels.insert(GATEWAY_CLASS_LABEL.to_owned(), json!(label(class)));
    let annotations = map(gateway.pointer("/spec/infrastructure/annotations"));
    let metadata = json!({
        "name": own,
        "namespace": namespace,
        "labels": labels,
        "annotations": annotations,
        "ownerReferences": [{
            "apiVersion": text("/apiVersion"), "kind": "Gateway", "name": name, "uid": uid, "controller": true,
        }],
    });
    let ports = ports(gateway);
    let object = |api_version: &str, kind: &str, more: Json| {
        let mut object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
        if let (Some(object), Json::Object(more)) = (object.as_object_mut(), more) {
            object.extend(more);
        }
        object
    };
    let mut pod = json!({
        "metadata": { "labels": labels, "annotations": annotations },
        "spec": pod(&own, (name, namespace), &ports, settings),
    });
    if let Some(identity) = &settings.identity {
        introduce(&mut pod, identity);
    }
    let service_ports: Vec<Json> = ports
        .iter()
        .map(|(port, protocol)| {
            let named = format!("{}-{port}", protocol.to_lowercase());
            json!({ "name": named, "port": port, "targetPort": port, "protocol": protocol })
        })
        .collect();
    let mut all = vec![
        object("v1", "ServiceAccount", json!({})),
        // How many there are is for people and autoscalers to say.
        object(
            "apps/v1",
            "Deployment",
            json!({ "spec": { "selector": { "matchLabels": selector }, "template": pod } }),
        ),
    ];
    if !service_ports.is_empty() {
        let spec = json!({ "type": "LoadBalancer", "selector": selector, "ports": service_ports });
        all.push(object("v1", "Service", json!({ "spec": spec })));
    }
    all
}

/// Nodes and load balancers send connections to a pod that ends until they have heard of it.
const PRE_STOP_SECONDS: u32 = 5;

fn pod(
    own: &str,
    (name, namespace): (&str, &str),
    ports: &BTreeSet<(u64, &str)>,
    settings: &Settings,
) -> Json {
    let ports: Vec<Json> =
        ports.iter().map(|(port, protocol)| json!({ "containerPort": port, "protocol": protocol })).collect();
    let pod_name = json!({ "fieldRef": { "fieldPath": "metadata.name" } });
    let probe = json!({ "httpGet": { "path": "/ready", "port": ADMIN_PORT }, "periodSeconds": 2 });
    json!({
        "serviceAccountName": own,
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
            // Ports below 1024 need no privilege then.
            "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }],
        },
        "containers": [{
            "name": "gateway",
            "image": settings.image,
            "env": [
                { "name": "POD_NAME", "valueFrom": pod_name },
                { "name": "TIDEGATE_NODE", "value": format!("$(POD_NAME).{namespace}") },
                { "name": "TIDEGATE_CONTROL_PLANE", "value": settings.control_plane },
                { "name": "TIDEGATE_NAMESPACE", "value": namespace },
                { "name": "TIDEGATE_WORKLOAD", "value": name },
                { "name": "TIDEGATE_GATEWAY", "value": "true" },
                { "name": "TIDEGATE_GATEWAY_NAME", "value": format!("{namespace}/{name}") },
                { "name": "TIDEGATE_ADMIN", "value": format!("0.0.0.0:{ADMIN_PORT}") },
            ],
            "ports": ports,
            "readinessProbe": probe,
            "lifecycle": { "preStop": { "sleep": { "seconds": PRE_STOP_SECONDS } } },
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
        }],
    })
}

/// Gives a pod what it asks for a certificate with.
fn introduce(pod: &mut Json, identity: &ByToken) {
    pod["metadata"]["annotations"][TRUST_ROOT] = json!(identity.trust_root);
    let token = json!({
        "serviceAccountToken": { "audience": identity.audience, "expirationSeconds": 3600, "path": "token" },
    });
    let root = json!({ "fieldPath": format!("metadata.annotations['{TRUST_ROOT}']") });
    let root = json!({ "downwardAPI": { "items": [{ "path": "root-cert.pem", "fieldRef": root }] } });
    let spec = &mut pod["spec"];
    spec["volumes"] = json!([{ "name": "tidegate-token", "projected": { "sources": [token, root] } }]);
    let container = &mut spec["containers"][0];
    container["volumeMounts"] =
        json!([{ "name": "tidegate-token", "mountPath": TOKEN_DIR, "readOnly": true }]);
    if let Some(env) = container["env"].as_array_mut() {
        env.extend([
            json!({ "name": "TIDEGATE_IDENTITY_TOKEN", "value": format!("{TOKEN_DIR}/token") }),
            json!({ "name": "TIDEGATE_TRUST_ROOT", "value": format!("{TOKEN_DIR}/root-cert.pem") }),
            json!({ "name": "TIDEGATE_TRUST_DOMAIN", "value": identity.trust_domain }),
            json!({ "name": "TIDEGATE_WAIT_FOR_IDENTITY", "value": "true" }),
        ]);
    }
}

/// Each port once, whatever many listeners it has.
fn ports(gateway: &Json) -> BTreeSet<(u64, &'static str)> {
    let listeners = gateway.pointer("/spec/listeners").and_then(Json::as_array).into_iter().flatten();
    let port = |listener: &Json| {
        let protocol = if listener["protocol"] == "UDP" { "UDP" } else { "TCP" };
        Some((listener["port"].as_u64()?, protocol))
    };
    listeners.filter_map(port).collect()
}

fn map(value: Option<&Json>) -> Map<String, Json> {
    value.and_then(Json::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let control_plane = "http://tidegate.mesh.svc:15010".into();
        Settings { image: "proxy:1".into(), control_plane, identity: None }
    }

    fn gateway(name: &str) -> Json {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": name, "namespace": "shop" },
            "spec": {
                "gatewayClassName": "tidegate",
                "infrastructure": { "labels": { "team": "edge" }, "annotations": { "a": "b" } },
                "listeners": [
                    { "name": "a", "port": 80, "protocol": "HTTP" },
                    { "name": "b", "port": 80, "protocol": "HTTP" },
                    { "name": "c", "port": 443, "protocol": "HTTPS" },
                ],
            },
        })
    }

    #[test]
    fn a_gateway_gets_an_account_a_deployment_and_a_service_that_it_owns() {
        let all = objects(&gateway("edge"), "u-1", &settings());
        let kinds: Vec<_> = all.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["ServiceAccount", "Deployment", "Service"]);
        for object in &all {
            let metadata = &object["metadata"];
            assert_eq!(metadata["name"], "edge-tidegate");
            assert_eq!(metadata["ownerReferences"][0]["uid"], "u-1");
            assert_eq!(metadata["labels"]["team"], "edge");
            assert_eq!(metadata["annotations"]["a"], "b");
        }
        let ports: Vec<_> =
            all[2]["spec"]["ports"].as_array().unwrap().iter().map(|p| p["port"].as_u64().unwrap()).collect();
        assert_eq!(ports, [80, 443]);
        let template = &all[1]["spec"]["template"];
        assert_eq!(all[1]["spec"]["selector"]["matchLabels"], all[2]["spec"]["selector"]);
        assert_eq!(template["metadata"]["labels"][GATEWAY_LABEL], "edge");
        assert_eq!(template["spec"]["containers"][0]["image"], "proxy:1");
        assert!(all[1]["spec"].get("replicas").is_none(), "autoscalers say how many");
    }

    #[test]
    fn where_somebody_signs_its_proxies_bring_a_token_and_know_whom_to_give_it_to() {
        let identity = ByToken {
            audience: "tidegate".into(),
            trust_domain: "prod.example".into(),
            trust_root: "PEM".into(),
        };
        let settings = Settings { identity: Some(identity), ..settings() };
        let all = objects(&gateway("edge"), "u-1", &settings);
        let template = &all[1]["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"][TRUST_ROOT], "PEM");
        assert_eq!(template["metadata"]["annotations"]["a"], "b");
        let sources = &template["spec"]["volumes"][0]["projected"]["sources"];
        assert_eq!(sources[0]["serviceAccountToken"]["audience"], "tidegate");
        let env = template["spec"]["containers"][0]["env"].to_string();
        assert!(env.contains("/var/run/secrets/tidegate/token") && env.contains("prod.example"), "{env}");
        assert!(all[1]["metadata"]["annotations"].get(TRUST_ROOT).is_none(), "pods alone need it");
    }

    #[test]
    fn names_that_are_too_long_are_cut_and_stay_apart() {
        let name = |end: &str| {
            objects(&gateway(&("x".repeat(70) + end)), "u", &settings())[0]["metadata"]["name"].clone()
        };
        let (a, b) = (name("a"), name("b"));
        assert!(a != b && a.as_str().unwrap().len() <= 63);
    }
}

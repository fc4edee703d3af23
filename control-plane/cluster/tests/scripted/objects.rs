//! Objects as people apply them, and the kinds that a cluster serves.

use serde_json::{Value, json};

use crate::state::Resource;

const fn kind(
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Resource {
    Resource { api_version, kind, plural, namespaced }
}

pub(crate) const GATEWAY: &str = "gateway.networking.k8s.io/v1";
pub(crate) const OURS: &str = "tidegate.io/v1alpha1";

pub(crate) const RATE_LIMITS: Resource = kind(OURS, "RateLimitPolicy", "ratelimitpolicies", true);

pub(crate) const DEFINITIONS: Resource =
    kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false);

/// A cluster with Gateway API and our kinds.
pub(crate) fn cluster() -> Vec<Resource> {
    vec![
        kind("v1", "Service", "services", true),
        kind("v1", "Namespace", "namespaces", false),
        kind("v1", "Pod", "pods", true),
        kind("v1", "Secret", "secrets", true),
        kind("v1", "ConfigMap", "configmaps", true),
        kind("v1", "ServiceAccount", "serviceaccounts", true),
        kind("apps/v1", "Deployment", "deployments", true),
        kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
        kind("coordination.k8s.io/v1", "Lease", "leases", true),
        kind("events.k8s.io/v1", "Event", "events", true),
        kind(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            false,
        ),
        kind(GATEWAY, "GatewayClass", "gatewayclasses", false),
        kind(GATEWAY, "Gateway", "gateways", true),
        kind(GATEWAY, "HTTPRoute", "httproutes", true),
        kind("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "referencegrants", true),
        kind(OURS, "JwtAuthenticationPolicy", "jwtauthenticationpolicies", true),
        RATE_LIMITS,
    ]
}

pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80 }], "clusterIP": "10.0.0.1" },
    })
}

pub(crate) fn limit(requests: impl Into<Value>) -> Value {
    json!({
        "apiVersion": OURS, "kind": "RateLimitPolicy", "metadata": { "name": "per-user", "namespace": "shop" },
        "spec": {
            "targetRefs": [{ "kind": "Service", "name": "web" }],
            "limits": [{ "name": "all", "requests": requests.into(), "per": "1s" }],
        },
    })
}

pub(crate) fn gateway(certificate: Option<&str>) -> Value {
    let listener = match certificate {
        None => json!({ "name": "http", "port": 80, "protocol": "HTTP" }),
        Some(name) => json!({
            "name": "https", "port": 443, "protocol": "HTTPS",
            "tls": { "mode": "Terminate", "certificateRefs": [{ "kind": "Secret", "name": name }] },
        }),
    };
    json!({
        "apiVersion": GATEWAY, "kind": "Gateway", "metadata": { "name": "edge", "namespace": "shop" },
        "spec": { "gatewayClassName": "tidegate", "listeners": [listener] },
    })
}

pub(crate) fn route() -> Value {
    json!({
        "apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "parentRefs": [{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge" }],
            "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }],
        },
    })
}

pub(crate) fn secret(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": "shop" },
        "type": "kubernetes.io/tls", "data": { "tls.crt": value, "tls.key": value },
    })
}

//! What the control plane writes back: GEP-713's `PolicyStatus`, with how many proxies run it.

use serde_json::{Value as Json, json};

/// Kubernetes: a status has no more ancestors, and an ancestor no more conditions.
const MOST_ANCESTORS: u32 = 16;
const MOST_CONDITIONS: u32 = 8;

pub(super) fn of_policy() -> Json {
    json!({
        "type": "object",
        "description": "Written by the control plane.",
        "properties": {
            "programmed": {
                "type": "string",
                "description": "Proxies that run it as it is written now, of those that should: 97/100.",
                "maxLength": 32,
            },
            "ancestors": {
                "type": "array",
                "description": "What is true of the policy at each of its targets.",
                "maxItems": MOST_ANCESTORS,
                "items": {
                    "type": "object",
                    "required": ["ancestorRef", "conditions", "controllerName"],
                    "properties": {
                        "ancestorRef": reference(),
                        "controllerName": { "type": "string", "minLength": 1, "maxLength": 253 },
                        "conditions": conditions(),
                    },
                },
            },
        },
    })
}

pub(super) fn of_object() -> Json {
    json!({
        "type": "object",
        "description": "Written by the control plane.",
        "properties": { "conditions": conditions() },
    })
}

fn reference() -> Json {
    let name = |max: u32| json!({ "type": "string", "maxLength": max });
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "group": name(253),
            "kind": name(63),
            "namespace": name(63),
            "name": { "type": "string", "minLength": 1, "maxLength": 253 },
            "sectionName": name(253),
            "port": { "type": "integer", "format": "int32", "minimum": 1, "maximum": 65535 },
        },
    })
}

/// `metav1.Condition`.
fn conditions() -> Json {
    json!({
        "type": "array",
        "maxItems": MOST_CONDITIONS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "reason": { "type": "string", "minLength": 1, "maxLength": 1024 },
                "message": { "type": "string", "maxLength": 32768 },
            },
        },
    })
}

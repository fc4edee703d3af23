use serde_json::{Value, json};

use crate::api::Api;
use crate::objects::{GATEWAY, cluster, gateway, limit, route, service};
use crate::proxy::Proxy;
use crate::support::{flags, plane};

fn condition<'a>(conditions: &'a Value, kind: &str) -> &'a Value {
    let found = conditions.as_array().into_iter().flatten().find(|c| c["type"] == kind);
    found.unwrap_or(&Value::Null)
}

fn ancestor(object: &Value) -> &Value {
    &object["status"]["ancestors"][0]["conditions"]
}

#[tokio::test]
async fn an_object_is_told_how_it_fares_and_by_how_many_proxies_it_is_run() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    api.put(limit(5));
    let plane = plane(&api, &flags()).await;
    let policy = ("RateLimitPolicy", "shop", "per-user");
    let told =
        api.until_object(policy, |object| condition(ancestor(object), "Accepted")["status"] == "True").await;
    assert_eq!(condition(ancestor(&told), "Programmed")["message"], "no proxy is connected");

    let mut proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    proxy.until(|told| told.contains_key("RateLimitPolicy/shop/per-user")).await;
    let told = api
        .until_object(policy, |o| condition(ancestor(o), "Programmed")["message"] == "1/1 proxies run it")
        .await;
    assert_eq!(condition(ancestor(&told), "Programmed")["observedGeneration"], 1);

    api.put(limit("many"));
    let told = api.until_object(policy, |o| condition(ancestor(o), "Accepted")["status"] == "False").await;
    let accepted = condition(ancestor(&told), "Accepted");
    assert_eq!(accepted["observedGeneration"], 2);
    let message = accepted["message"].as_str().unwrap();
    assert!(
        message.starts_with("RateLimitPolicy/shop/per-user: error: spec.limits[0].requests: "),
        "{message}"
    );
    assert!(message.ends_with("the last valid version stays in force"), "{message}");
    let event = api
        .until("an Event", |state| {
            state.objects.iter().find(|(key, _)| key.1 == "events").map(|(_, e)| e.clone())
        })
        .await;
    assert_eq!((&event["reason"], &event["regarding"]["name"]), (&json!("NotAccepted"), &json!("per-user")));
    plane.shutdown().await;
}

#[tokio::test]
async fn what_is_written_is_an_apply_of_the_whole_list_over_the_version_that_was_read() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    api.put(gateway(None));
    let route = api.put(route());
    let theirs = json!({
        "parentRef": { "name": "edge" }, "controllerName": "other.io/controller", "conditions": [],
    });
    api.put_status("HTTPRoute", "shop", "web", json!({ "parents": [theirs] }));
    let plane = plane(&api, &flags()).await;
    let ours = |object: &Value| object["status"]["parents"].as_array().is_some_and(|p| p.len() == 2);
    let told = api.until_object(("HTTPRoute", "shop", "web"), ours).await;
    assert_eq!(told["status"]["parents"][0], theirs);
    let writes = api.requests(|r| r.method == "PATCH" && r.path.ends_with("/httproutes/web/status"));
    let write = &writes[0];
    assert!(
        write.query.contains("fieldManager=tidegate") && write.query.contains("force=true"),
        "{}",
        write.query
    );
    let mut body = write.body.clone();
    for condition in body["status"]["parents"][1]["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"].take();
    }
    let said = |kind: &str, reason: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": null,
        })
    };
    let version: u64 = route["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let expected = json!({
        "apiVersion": GATEWAY,
        "kind": "HTTPRoute",
        "metadata": { "name": "web", "namespace": "shop", "resourceVersion": (version + 1).to_string() },
        "status": { "parents": [theirs, {
            "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge" },
            "controllerName": "tidegate.io/gateway-controller",
            "conditions": [said("Accepted", "Accepted"), said("ResolvedRefs", "ResolvedRefs")],
        }] },
    });
    assert_eq!(body, expected);
    plane.shutdown().await;
}

#[tokio::test]
async fn a_conflict_is_looked_at_anew_and_nothing_is_written_twice() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    api.put(limit(5));
    api.with(|state| state.conflicts = 3);
    let plane = plane(&api, &flags()).await;
    let policy = ("RateLimitPolicy", "shop", "per-user");
    api.until_object(policy, |object| ancestor(object).is_array()).await;
    let writes = || api.requests(|r| r.method == "PATCH" && r.path.contains("ratelimitpolicies")).len();
    assert_eq!(writes(), 4);
    // Something else changes, and is told; this is not.
    api.put(gateway(None));
    api.until_object(("Gateway", "shop", "edge"), |o| o["status"]["conditions"].is_array()).await;
    assert_eq!(writes(), 4);
    plane.shutdown().await;
}

#[tokio::test]
async fn gateways_of_other_classes_are_left_to_others() {
    let api = Api::start(cluster()).await;
    let mut other = gateway(None);
    other["spec"]["gatewayClassName"] = json!("other");
    other["metadata"]["name"] = json!("other");
    api.put(other);
    api.put(gateway(None));
    let plane = plane(&api, &flags()).await;
    let told = api.until_object(("Gateway", "shop", "edge"), |o| o["status"]["listeners"].is_array()).await;
    assert_eq!(condition(&told["status"]["conditions"], "Accepted")["status"], "True");
    assert!(api.get("Gateway", "shop", "other").unwrap().get("status").is_none());
    plane.shutdown().await;
}

#[tokio::test]
async fn a_secret_that_goes_away_is_told_at_the_gateway_that_names_it() {
    let api = Api::start(cluster()).await;
    api.put(gateway(Some("tls")));
    let plane = plane(&api, &flags()).await;
    let resolved = |object: &Value| {
        condition(&object["status"]["listeners"][0]["conditions"], "ResolvedRefs")["status"].clone()
    };
    let told = api.until_object(("Gateway", "shop", "edge"), |o| resolved(o) == "False").await;
    let said = condition(&told["status"]["listeners"][0]["conditions"], "ResolvedRefs");
    assert_eq!(said["reason"], "InvalidCertificateRef");
    plane.shutdown().await;
}

#[tokio::test]
async fn a_field_that_a_cluster_does_not_know_yet_is_left_out() {
    let api = Api::start(cluster()).await;
    api.put(gateway(None));
    api.with(|state| state.undeclared = Some("attachedListenerSets"));
    let plane = plane(&api, &flags()).await;
    let told = api.until_object(("Gateway", "shop", "edge"), |o| o["status"]["conditions"].is_array()).await;
    assert!(told["status"].get("attachedListenerSets").is_none());
    plane.shutdown().await;
}

#[tokio::test]
async fn nobody_fights_for_long_over_an_entry() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    api.put(limit(5));
    let theirs = json!({ "ancestors": [{
        "ancestorRef": { "group": "", "kind": "Service", "name": "web", "namespace": "shop" },
        "controllerName": "tidegate.io/gateway-controller", "conditions": [],
    }] });
    api.with(|state| state.vandal = Some(theirs));
    let plane = plane(&api, &flags()).await;
    let writes = |r: &crate::state::Seen| r.method == "PATCH" && r.path.contains("ratelimitpolicies");
    api.until("a second write", |state| {
        (state.requests.iter().filter(|r| writes(r)).count() == 2).then_some(())
    })
    .await;
    // The second came two seconds after the first was undone, and the third would come four after that.
    let mut proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    proxy.until(|told| told.contains_key("RateLimitPolicy/shop/per-user")).await;
    assert_eq!(api.requests(writes).len(), 2);
    plane.shutdown().await;
}

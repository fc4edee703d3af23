use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::objects::{cluster, gateway, limit, service};
use crate::proxy::Proxy;
use crate::support::{flags, plane, plane_until};

#[tokio::test]
async fn of_two_replicas_one_writes_both_serve_and_the_other_takes_over() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    api.put(limit(5));
    let mut first = plane(&api, &flags()).await;
    first.leads.wait_for(|leads| *leads).await.unwrap();
    let mut second = plane(&api, &flags()).await;
    let mut proxy = Proxy::connect(second.running.grpc, "p1", "sidecar");
    proxy.until(|told| told.contains_key("RateLimitPolicy/shop/per-user")).await;
    assert!(*first.leads.borrow() && !*second.leads.borrow());

    first.shutdown().await;
    let lease = api.get("Lease", "mesh", "tidegate-leader").unwrap();
    assert!(lease["spec"]["leaseDurationSeconds"].as_i64().unwrap() > 0, "{lease}");
    second.leads.wait_for(|leads| *leads).await.unwrap();
    api.put(gateway(None));
    let told = api.until_object(("Gateway", "shop", "edge"), |o| o["status"]["conditions"].is_array()).await;
    assert!(told["status"]["conditions"][0]["lastTransitionTime"].is_string());
    let lease = api.get("Lease", "mesh", "tidegate-leader").unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    second.shutdown().await;
}

#[tokio::test]
async fn who_writes_speaks_for_the_proxies_of_all_replicas() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    api.put(limit(5));
    let mut first = plane(&api, &flags()).await;
    first.leads.wait_for(|leads| *leads).await.unwrap();
    let second = plane(&api, &flags()).await;
    for (name, admin) in [("a", first.running.admin), ("b", second.running.admin)] {
        api.put(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": name, "namespace": "mesh", "labels": { "kubernetes.io/service-name": "tidegate" },
            },
            "endpoints": [{ "addresses": [admin.ip().to_string()] }],
            "ports": [{ "name": "admin", "port": admin.port() }],
        }));
    }
    let _here = Proxy::connect(first.running.grpc, "p1", "sidecar");
    let there = Proxy::connect(second.running.grpc, "p2", "sidecar");
    let says = |object: &serde_json::Value, word: &str| object["status"]["programmed"] == word;
    let policy = ("RateLimitPolicy", "shop", "per-user");
    let told = api.until_object(policy, |object| says(object, "2/2")).await;
    assert_eq!(told["status"]["ancestors"][0]["conditions"][1]["message"], "2/2 proxies run it");
    drop(there);
    api.until_object(policy, |object| says(object, "1/1")).await;
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_steps_down_and_comes_back() {
    let api = Api::start(cluster()).await;
    let mut plane = plane(&api, &flags()).await;
    plane.leads.wait_for(|leads| *leads).await.unwrap();
    api.go_away();
    plane.leads.wait_for(|leads| !*leads).await.unwrap();
    api.come_back();
    plane.leads.wait_for(|leads| *leads).await.unwrap();
    plane.shutdown().await;
}

#[tokio::test]
async fn who_is_told_to_stop_gives_up_the_lead_and_ends_well() {
    // Which of its parts ends first is a matter of chance.
    for _ in 0..5 {
        let api = Api::start(cluster()).await;
        let shutdown = CancellationToken::new();
        let mut plane = plane_until(&api, &flags(), shutdown.child_token()).await;
        plane.leads.wait_for(|leads| *leads).await.unwrap();
        let serving = tokio::spawn(plane.until(shutdown.clone()));
        shutdown.cancel();
        serving.await.unwrap().unwrap();
        let lease = api.get("Lease", "mesh", "tidegate-leader").unwrap();
        assert_eq!(lease["spec"]["holderIdentity"], "");
    }
}

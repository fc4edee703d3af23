use std::time::Duration;

use serde_json::json;
use tidegate_control_plane::source::Reading;

use crate::api::Api;
use crate::objects::{RATE_LIMITS, cluster, gateway, limit, route, secret, service};
use crate::support::{Source, hurry, paths, text};

#[tokio::test]
async fn nothing_is_told_before_all_was_listed_page_by_page() {
    let api = Api::start(cluster()).await;
    for i in 0..1200 {
        api.put(service(&format!("s{i:04}")));
    }
    api.put(limit(5));
    let mut source = Source::of(&api, hurry());
    let first = source.until(|_| true).await;
    assert_eq!(first.files.len(), 1201);
    assert!(first.unknown.is_empty() && first.root_listed, "{:?}", first.unknown);
    let pages = api.requests(|r| r.path == "/api/v1/services" && r.query.contains("limit=500"));
    assert_eq!(pages.len(), 3);
    let policy = text(&first, "RateLimitPolicy/shop/per-user").unwrap();
    assert!(policy.contains("\"generation\":1") && policy.contains("tidegate.io/v1alpha1"), "{policy}");
    for noise in ["managedFields", "resourceVersion", "\"status\""] {
        assert!(!policy.contains(noise), "{policy}");
    }
}

#[tokio::test]
async fn changes_and_deletions_are_told_and_a_status_that_was_written_is_no_change() {
    let api = Api::start(cluster()).await;
    api.put(limit(5));
    let mut source = Source::of(&api, hurry());
    source.until(|reading| paths(reading) == ["RateLimitPolicy/shop/per-user"]).await;
    api.put_status("RateLimitPolicy", "shop", "per-user", json!({ "ancestors": [] }));
    api.put(service("web"));
    let both = ["RateLimitPolicy/shop/per-user", "Service/shop/web"];
    let reading = source.until(|reading| paths(reading) == both).await;
    let policy = text(&reading, both[0]).unwrap();
    assert!(!policy.contains("ancestors"));
    api.put(limit(6));
    source.until(|reading| text(reading, both[0]).unwrap().contains("\"requests\":6")).await;
    api.delete("RateLimitPolicy", "shop", "per-user");
    source.until(|reading| paths(reading) == ["Service/shop/web"]).await;
}

#[tokio::test]
async fn a_watch_that_expired_is_begun_anew_and_finds_what_it_missed() {
    let api = Api::start(cluster()).await;
    api.put(service("a"));
    api.put(service("b"));
    let mut source = Source::of(&api, hurry());
    source.until(|reading| reading.files.len() == 2).await;
    api.go_away();
    api.with(|state| {
        let key = state.objects.keys().find(|key| key.3 == "a").unwrap().clone();
        state.delete(&key);
        state.oldest = state.version + 1;
        state.version += 2;
    });
    api.put(service("c"));
    api.come_back();
    source.until(|reading| paths(reading) == ["Service/shop/b", "Service/shop/c"]).await;
    let lists = api.requests(|r| r.path == "/api/v1/services" && !r.query.contains("watch"));
    assert!(lists.len() >= 2, "{lists:?}");
}

#[tokio::test]
async fn what_was_there_stays_while_the_api_is_away() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    let mut source = Source::of(&api, hurry());
    source.until(|reading| reading.files.len() == 1).await;
    api.go_away();
    api.delete("Service", "shop", "web");
    // Long enough for many attempts that fail.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(paths(&source.last().unwrap()), ["Service/shop/web"]);
    api.come_back();
    source.until(|reading| reading.files.is_empty()).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_is_taken_up_where_it_was() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    let mut source = Source::of(&api, hurry());
    source.until(|reading| reading.files.len() == 1).await;
    api.hang_up();
    api.put(service("more"));
    source.until(|reading| reading.files.len() == 2).await;
    let lists = api.requests(|r| r.path == "/api/v1/services" && !r.query.contains("watch"));
    assert_eq!(lists.len(), 1, "a watch goes on from the last version: {lists:?}");
}

#[tokio::test]
async fn only_secrets_that_something_names_are_read_and_none_after_it_is_gone() {
    let api = Api::start(cluster()).await;
    api.put(secret("tls", "b25l"));
    api.put(secret("unrelated", "dHdv"));
    api.put(gateway(Some("tls")));
    let mut source = Source::of(&api, hurry());
    let first = source.until(|_| true).await;
    assert_eq!(paths(&first), ["Gateway/shop/edge", "Secret/shop/tls"]);
    api.put(secret("tls", "bmV3"));
    source.until(|reading| text(reading, "Secret/shop/tls").is_some_and(|t| t.contains("bmV3"))).await;
    api.delete("Secret", "shop", "tls");
    source.until(|reading| paths(reading) == ["Gateway/shop/edge"]).await;
    api.put(secret("tls", "YmFjaw=="));
    source.until(|reading| paths(reading).len() == 2).await;
    api.delete("Gateway", "shop", "edge");
    source.until(|reading| reading.files.is_empty()).await;
    for asked in api.requests(|r| r.path.contains("secrets")) {
        assert!(asked.path.contains("/namespaces/shop/"), "{asked:?}");
        assert!(asked.query.contains("fieldSelector=metadata.name%3Dtls"), "{asked:?}");
    }
}

#[tokio::test]
async fn kinds_that_are_installed_later_are_found_and_those_taken_away_are_forgotten() {
    let mut kinds = cluster();
    kinds.retain(|kind| kind.kind != "RateLimitPolicy");
    let api = Api::start(kinds).await;
    api.put(service("web"));
    let mut source = Source::of(&api, hurry());
    let first = source.until(|_| true).await;
    assert!(first.unknown.is_empty(), "what is not there is no fault: {:?}", first.unknown);
    api.with(|state| state.resources.push(RATE_LIMITS));
    api.put(limit(5));
    source.until(|reading| paths(reading).contains(&"RateLimitPolicy/shop/per-user")).await;
    api.with(|state| {
        state.resources.retain(|kind| kind.kind != "RateLimitPolicy");
        state.objects.retain(|key, _| key.1 != "ratelimitpolicies");
    });
    api.hang_up();
    source.until(|reading| paths(reading) == ["Service/shop/web"]).await;
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_is_told_as_unknown_and_holds_up_nobody_for_ever() {
    let api = Api::start(cluster()).await;
    api.put(service("web"));
    api.put(route());
    api.with(|state| state.forbidden.insert(String::from("httproutes")));
    let timing = tidegate_cluster::source::Timing { patience: Duration::from_millis(200), ..hurry() };
    let mut source = Source::of(&api, timing);
    let is_told = |reading: &Reading| {
        reading.unknown.iter().any(|kind| &*kind.path == "HTTPRoute" && kind.reason.contains("403"))
    };
    let first = source.until(is_told).await;
    assert_eq!((paths(&first), first.unknown.len()), (vec!["Service/shop/web"], 1));
    api.with(|state| state.forbidden.clear());
    source.until(|reading| reading.unknown.is_empty() && reading.files.len() == 2).await;
}

#[tokio::test]
async fn of_pods_only_those_with_a_sidecar_are_read_and_no_more_of_them_than_is_needed() {
    let api = Api::start(cluster()).await;
    api.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-1", "namespace": "shop", "labels": { "app": "web", "tidegate.io/injected": "true" },
            "annotations": { "tidegate.io/mesh-ports": "8080", "tidegate.io/trust-root": "PEM", "other": "x" },
            "ownerReferences": [{ "kind": "ReplicaSet" }],
        },
        "spec": { "serviceAccountName": "web", "containers": [{ "name": "app", "env": [{ "name": "SECRET" }] }] },
        "status": { "podIP": "10.0.0.1" },
    }));
    let mut source = Source::of(&api, hurry());
    let reading = source.until(|reading| !reading.files.is_empty()).await;
    let pod: serde_json::Value = serde_json::from_str(&text(&reading, "Pod/shop/web-1").unwrap()).unwrap();
    assert_eq!(pod["spec"], json!({ "serviceAccountName": "web" }));
    assert_eq!(pod["metadata"]["annotations"], json!({ "tidegate.io/mesh-ports": "8080" }));
    assert_eq!(pod["metadata"]["labels"]["app"], "web");
    assert!(pod.get("status").is_none(), "{pod}");
    let asked = api.requests(|r| r.path == "/api/v1/pods");
    assert!(
        !asked.is_empty() && asked.iter().all(|r| r.query.contains("labelSelector=tidegate.io")),
        "{asked:?}"
    );
}

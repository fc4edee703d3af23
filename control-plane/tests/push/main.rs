//! From the file to the proxy and back to the status, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;

use support::{ANY, Plane, Proxy, args};
use tidegate_control_plane::source::file::CannotOpen;
use tidegate_control_plane::status::{InForce, ObjectStatus, Status};
use tidegate_control_plane::{StartError, start};

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec:
  ports: [{port: 80}]
";

const POLICY: &str = "RateLimitPolicy/shop/per-user";

fn limit(requests: u32) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: per-user, namespace: shop}}\n\
         spec:\n  targetRefs: [{{kind: Service, name: checkout}}]\n  limits:\n  - name: all\n    \
         requests: {requests}\n    per: 1s\n"
    )
}

fn policy(status: &Status) -> &ObjectStatus {
    status.object("RateLimitPolicy", "shop", "per-user").unwrap()
}

/// `ready/of` proxies that run the policy.
fn programmed(status: &Status) -> String {
    let object = status.object("RateLimitPolicy", "shop", "per-user");
    let programmed = object.and_then(|o| o.programmed.as_ref());
    programmed.map_or_else(String::new, |p| format!("{}/{}", p.ready, p.of))
}

#[tokio::test]
async fn an_edit_arrives_a_mistake_changes_nothing_and_its_repair_arrives() {
    let plane = Plane::new(&[("service.yaml", SERVICE), ("limit.yaml", &limit(5))]).await;
    let proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    plane.until(|status| programmed(status) == "1/1").await;
    let first = proxy.version(POLICY).unwrap();

    plane.write("limit.yaml", &limit(6));
    plane.until(|status| status.generation == 2 && programmed(status) == "1/1").await;
    let second = proxy.version(POLICY).unwrap();
    assert_ne!(first, second);

    let told = proxy.told.lock().changes.len();
    plane.write("limit.yaml", &limit(7).replace("requests: 7", "request: 7"));
    let status = plane.until(|status| status.generation == 3).await;
    let broken = policy(&status);
    assert_eq!((broken.in_force, programmed(&status).as_str()), (InForce::LastValid, "1/1"));
    let accepted = broken.condition("Accepted").unwrap();
    let place = format!("{}:8:", plane.path("limit.yaml").display());
    assert!(!accepted.holds() && accepted.message.contains(&place), "{accepted:?}");
    let (code, _, page) = plane.admin("GET", "/status?kind=ratelimitpolicy&name=shop%2Fper-user").await;
    assert_eq!(code, 200);
    let page: Status = serde_json::from_str(&page).unwrap();
    assert_eq!(page.objects.len(), 1);
    let places: Vec<_> = page.diagnostics.iter().map(|d| (d.line, &*d.field)).collect();
    assert_eq!(places, [(8, "spec.limits[0].request")]);

    plane.write("limit.yaml", &limit(7));
    let status = plane.until(|status| status.generation == 4 && programmed(status) == "1/1").await;
    assert_eq!(policy(&status).in_force, InForce::Current);
    assert_eq!(status.diagnostics, []);
    assert_eq!(proxy.told.lock().changes.len(), told + 1, "{:?}", proxy.told.lock().changes);
    assert!(![first, second].contains(&proxy.version(POLICY).unwrap()));
}

#[tokio::test]
async fn a_refusal_shows_who_and_why_and_others_are_programmed() {
    let plane = Plane::new(&[("service.yaml", SERVICE)]).await;
    let good = Proxy::connect(plane.running.grpc, "good", "sidecar");
    let bad = Proxy::connect(plane.running.grpc, "bad", "gateway");
    bad.told.lock().refuse.insert(POLICY.to_owned(), "no room for counters".to_owned());
    plane
        .until(|status| status.nodes.len() == 2 && status.nodes.iter().all(|n| n.acknowledged == n.of))
        .await;

    plane.write("limit.yaml", &limit(5));
    let status =
        plane.until(|status| programmed(status) == "1/2" && status.nodes[0].last_refusal.is_some()).await;
    let programmed_on = policy(&status).programmed.clone().unwrap();
    assert_eq!(programmed_on.laggards, ["bad"]);
    assert_eq!(programmed_on.reason.unwrap(), "bad: no room for counters");
    assert!(status.nodes[0].last_refusal.as_ref().unwrap().contains("no room for counters"));
    assert_eq!(good.told.lock().refuse.len(), 0);

    bad.told.lock().refuse.clear();
    plane.write("limit.yaml", &limit(6));
    let status = plane.until(|status| programmed(status) == "2/2").await;
    assert_eq!(policy(&status).programmed.clone().unwrap().reason, None);
}

#[tokio::test]
async fn a_restarted_control_plane_sends_nothing_that_did_not_change() {
    let plane = Plane::new(&[("service.yaml", SERVICE), ("limit.yaml", &limit(5))]).await;
    let proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    plane.until(|status| programmed(status) == "1/1").await;
    proxy.told.lock().changes.clear();

    let plane = plane.restart().await;
    plane.until(|status| programmed(status) == "1/1").await;
    plane.write("limit.yaml", &limit(6));
    plane.until(|status| status.generation == 2 && programmed(status) == "1/1").await;
    assert_eq!(proxy.told.lock().changes, [format!("+{POLICY}")]);

    // What was deleted while nobody served is taken away by the next control plane.
    fs::remove_file(plane.path("limit.yaml")).unwrap();
    let plane = plane.restart().await;
    plane.until(|status| status.nodes.len() == 1 && proxy.version(POLICY).is_none()).await;
}

#[tokio::test]
async fn a_control_plane_that_starts_on_a_broken_file_takes_nothing_away() {
    const OTHER: &str = "RateLimitPolicy/shop/other";
    let other = |requests| limit(requests).replace("per-user", "other");
    let files = [("service.yaml", SERVICE), ("limit.yaml", &*limit(5)), ("other.yaml", &*other(1))];
    let mut plane = Plane::new(&files).await;
    let proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    let synced = |status: &Status| status.nodes.iter().any(|n| n.acknowledged == n.of);
    plane.until(synced).await;
    let faulty = limit(5).replace("requests", "reqests");
    let cases = [("limit.yaml", "kind: ["), ("limit.yaml", &*faulty), ("service.yaml", "kind: [")];
    for (i, (file, broken)) in cases.into_iter().enumerate() {
        plane.write(file, broken);
        plane.until(|status| !status.diagnostics.is_empty()).await;
        plane = plane.restart().await;
        plane.until(|status| status.nodes.len() == 1).await;
        proxy.told.lock().changes.clear();
        // Removals come at the end of a pass, so the first pass is over once an edit is there.
        let last = proxy.version(OTHER);
        plane.write("other.yaml", &other(u32::try_from(i).unwrap() + 2));
        plane.until(|_| proxy.version(OTHER) != last).await;
        assert_eq!(proxy.told.lock().changes, [format!("+{OTHER}")], "{file} {broken}");
    }
    plane.write("service.yaml", SERVICE);
    plane.write("limit.yaml", "kind: Namespace\napiVersion: v1\nmetadata: {name: shop}\n");
    plane.until(|_| proxy.version(POLICY).is_none()).await;
}

#[tokio::test]
async fn a_deleted_file_takes_its_policy_away_and_a_lost_directory_takes_nothing() {
    let plane = Plane::new(&[("service.yaml", SERVICE), ("limit.yaml", &limit(5))]).await;
    let proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    plane.until(|status| programmed(status) == "1/1").await;

    let away = plane.directory.path().join("away");
    fs::rename(plane.path(""), &away).unwrap();
    let status = plane.until(|status| !status.diagnostics.is_empty()).await;
    assert_eq!((programmed(&status).as_str(), policy(&status).in_force), ("1/1", InForce::LastValid));
    fs::rename(&away, plane.path("")).unwrap();
    plane.until(|status| status.diagnostics.is_empty()).await;
    assert!(proxy.version(POLICY).is_some());

    fs::remove_file(plane.path("limit.yaml")).unwrap();
    plane.until(|status| status.object("RateLimitPolicy", "shop", "per-user").is_none()).await;
    plane.until(|_| proxy.version(POLICY).is_none()).await;
}

#[tokio::test]
async fn a_proxy_that_leaves_is_no_longer_counted() {
    let plane = Plane::new(&[("service.yaml", SERVICE), ("limit.yaml", &limit(5))]).await;
    let proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    plane.until(|status| programmed(status) == "1/1").await;
    drop(proxy);
    let status = plane.until(|status| status.nodes.is_empty()).await;
    assert_eq!(programmed(&status), "0/0");
}

#[tokio::test]
async fn every_mistake_of_a_file_is_told_and_its_other_objects_apply() {
    let text = limit(5).replace("requests: 5", "requests: many").replace("per: 1s", "per: soon");
    let plane = Plane::new(&[("all.yaml", &format!("{text}---\n{SERVICE}"))]).await;
    let status = plane.running.status();
    let lines: Vec<_> = policy(&status).errors.iter().map(|e| e.line).collect();
    assert_eq!(lines, [8, 9]);
    assert_eq!(policy(&status).in_force, InForce::Nothing);
    assert_eq!(status.object("Service", "shop", "checkout").unwrap().in_force, InForce::Current);
}

#[tokio::test]
async fn the_admin_port_answers_what_it_knows_and_refuses_the_rest() {
    let plane = Plane::new(&[("service.yaml", SERVICE), ("limit.yaml", &limit(5))]).await;
    assert_eq!(plane.admin("GET", "/ready").await.0, 200);
    assert!(plane.admin("GET", "/").await.2.contains("/status"));
    let (code, head, page) = plane.admin("GET", "/metrics").await;
    assert_eq!(code, 200);
    assert!(head.contains("application/openmetrics-text"), "{head}");
    for line in [
        "tidegate_control_plane_changes_total 1",
        "tidegate_control_plane_files 2",
        "tidegate_control_plane_objects{kind=\"RateLimitPolicy\",in_force=\"current\"} 1",
        "tidegate_control_plane_diagnostics{severity=\"error\"} 0",
        "tidegate_control_plane_proxies 0",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
    assert_eq!(plane.admin("GET", "/nothing").await.0, 404);
    assert_eq!(plane.admin("POST", "/status").await.0, 405);
    assert_eq!(plane.admin("GET", "/status?colour=red").await.0, 400);
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let error = start(&args(&directory, ANY)).await.unwrap_err();
    assert!(matches!(&error, StartError::Policies(CannotOpen { .. })), "{error}");
    assert!(error.exit_code() == 2 && error.to_string().contains("/policies"), "{error}");
    fs::create_dir(directory.path().join("policies")).unwrap();

    let first = start(&args(&directory, ANY)).await.unwrap();
    let error = start(&args(&directory, first.grpc)).await.unwrap_err();
    assert!(error.exit_code() == 1 && error.to_string().contains(&first.grpc.to_string()), "{error}");
}

#[tokio::test]
async fn only_proxies_that_are_told_about_an_object_count_for_it() {
    let gateway = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: checkout-1, namespace: shop, labels: {kubernetes.io/service-name: checkout}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{port: 3000}]
";
    let plane = Plane::new(&[("service.yaml", SERVICE), ("gateway.yaml", gateway)]).await;
    let sidecars: Vec<_> =
        (0..12).map(|i| Proxy::connect(plane.running.grpc, &format!("s{i:02}"), "sidecar")).collect();
    let edge = Proxy::connect(plane.running.grpc, "edge", "gateway");
    let ready = |status: &Status, kind: &str, name: &str| {
        let programmed = status.object(kind, "shop", name).unwrap().programmed.clone().unwrap();
        (programmed.ready, programmed.of)
    };
    let status = plane.until(|status| ready(status, "EndpointSlice", "checkout-1") == (13, 13)).await;
    assert_eq!(ready(&status, "Service", "checkout"), (13, 13));
    let status = plane.until(|status| ready(status, "Gateway", "edge").0 == 1).await;
    assert_eq!(ready(&status, "Gateway", "edge"), (1, 1));
    assert!(edge.version("shop/edge/http").is_some() && sidecars[0].version("shop/edge/http").is_none());

    for proxy in &sidecars {
        proxy.told.lock().refuse.insert(POLICY.to_owned(), "no".to_owned());
    }
    plane.write("limit.yaml", &limit(5));
    let status = plane
        .until(|status| {
            programmed(status) == "1/13"
                && status.nodes.iter().filter(|n| n.last_refusal.is_some()).count() == 12
        })
        .await;
    assert_eq!(policy(&status).programmed.as_ref().unwrap().laggards.len(), 10);
}

#[tokio::test]
async fn objects_are_shown_as_kubernetes_would_and_the_status_file_says_the_same() {
    let plane = Plane::new(&[("service.yaml", SERVICE), ("limit.yaml", &limit(5))]).await;
    let _proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    plane.until(|status| programmed(status) == "1/1").await;
    let (code, _, page) = plane.admin("GET", "/objects?kind=ratelimitpolicy").await;
    let list: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!((code, &list["kind"], list["items"].as_array().unwrap().len()), (200, &"List".into(), 1));
    let policy = &list["items"][0];
    assert_eq!(policy["spec"]["limits"][0]["requests"], 5);
    let ancestor = &policy["status"]["ancestors"][0];
    assert_eq!(ancestor["ancestorRef"]["name"], "checkout");
    assert_eq!(ancestor["conditions"][1]["message"], "1/1 proxies run it");

    let file = plane.directory.path().join("status.json");
    let wait = async {
        loop {
            let (_, _, page) = plane.admin("GET", "/objects").await;
            let text = fs::read_to_string(&file).unwrap_or_default();
            if !text.is_empty() && page == text {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(4), wait).await.unwrap();
}

#[tokio::test]
async fn a_status_file_among_the_documents_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("policies")).unwrap();
    let mut args = args(&directory, ANY);
    args.status_file = Some(directory.path().join("policies/status.json"));
    let error = start(&args).await.unwrap_err();
    assert!(matches!(error, StartError::StatusFile(_)) && error.exit_code() == 2, "{error}");
}

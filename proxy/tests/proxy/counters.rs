//! A proxy that starts again goes on with what its limits have counted.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tidegate_policy::model::{Resource, TargetKind};
use tidegate_proxy::config::CountersFile;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::client::Client;

use crate::mesh::{Gateway, everything_to, policy};

const HOUR: Duration = Duration::from_secs(3600);

async fn backend() -> FaultBackend {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("fine").into());
    backend
}

/// Two requests per hour, for each user or for all.
fn limit(keys: &[&str]) -> Resource {
    let key: Vec<_> = keys.iter().map(|name| json!({"type": "Header", "name": name})).collect();
    let limits = json!([{"name": "hourly", "requests": 2, "per": "1h", "key": key}]);
    policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), json!({"limits": limits}))
}

async fn start(directory: &Path, backend: &FaultBackend, limit: Resource) -> Gateway {
    let mut gateway = Gateway::with(|config| config.state_dir = Some(directory.into()));
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(limit);
    gateway.apply(all);
    gateway
}

async fn stop(gateway: Gateway) {
    gateway.running.shutdown();
    gateway.running.wait().await;
}

async fn ask(gateway: &Gateway, user: &str) -> u16 {
    let request = http::Request::get("/").header("x-user", user);
    let mut client = Client::http1(gateway.address().await).await;
    client.call(request.body(tidegate_testkit::body::empty()).unwrap()).await.status.as_u16()
}

/// As if `time` had passed since the counters were written.
fn age(directory: &Path, time: Duration) {
    let file = CountersFile::of(directory);
    let mut saved = file.load().unwrap().unwrap();
    for piece in &mut saved.pieces {
        piece.wall -= u64::try_from(time.as_nanos()).unwrap();
    }
    file.save(&saved).unwrap();
}

#[tokio::test]
async fn a_spent_limit_is_still_spent_after_a_restart_and_no_longer_than_its_window() {
    let (backend, directory) = (backend().await, tempfile::tempdir().unwrap());
    for keys in [&["x-user"][..], &[]] {
        let directory = directory.path().join(keys.len().to_string());
        let proxy = start(&directory, &backend, limit(keys)).await;
        let answers = [ask(&proxy, "ann").await, ask(&proxy, "ann").await, ask(&proxy, "ann").await];
        assert_eq!(answers, [200, 200, 429]);
        stop(proxy).await;

        let proxy = start(&directory, &backend, limit(keys)).await;
        assert_eq!(ask(&proxy, "ann").await, 429);
        if !keys.is_empty() {
            assert_eq!(ask(&proxy, "bob").await, 200, "who has not asked yet");
        }
        stop(proxy).await;

        age(&directory, HOUR / 2);
        let proxy = start(&directory, &backend, limit(keys)).await;
        assert_eq!(
            [ask(&proxy, "ann").await, ask(&proxy, "ann").await],
            [200, 429],
            "half an hour gives one"
        );
        stop(proxy).await;

        age(&directory, HOUR);
        let proxy = start(&directory, &backend, limit(keys)).await;
        let answers = [ask(&proxy, "ann").await, ask(&proxy, "ann").await, ask(&proxy, "ann").await];
        assert_eq!(answers, [200, 200, 429]);
        stop(proxy).await;
    }
}

#[tokio::test]
async fn what_was_used_of_a_month_stays_used_after_a_restart() {
    let (backend, directory) = (backend().await, tempfile::tempdir().unwrap());
    let key = json!([{"type": "Header", "name": "x-user"}]);
    let quotas =
        json!([{"name": "monthly", "requests": 2, "every": "Month", "timeZone": "Asia/Tokyo", "key": key}]);
    let quota = || policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), json!({"quotas": quotas}));
    let proxy = start(directory.path(), &backend, quota()).await;
    assert_eq!([ask(&proxy, "ann").await, ask(&proxy, "ann").await, ask(&proxy, "bob").await], [200; 3]);
    stop(proxy).await;
    let proxy = start(directory.path(), &backend, quota()).await;
    assert_eq!(
        [ask(&proxy, "ann").await, ask(&proxy, "bob").await, ask(&proxy, "bob").await],
        [429, 200, 429]
    );
    stop(proxy).await;
}

#[tokio::test]
async fn what_waits_for_its_limit_survives_another_restart() {
    let (backend, directory) = (backend().await, tempfile::tempdir().unwrap());
    let proxy = start(directory.path(), &backend, limit(&[])).await;
    assert_eq!([ask(&proxy, "ann").await, ask(&proxy, "ann").await], [200, 200]);
    stop(proxy).await;
    // This one never hears of the limit.
    stop(Gateway::with(|config| config.state_dir = Some(directory.path().into()))).await;
    let proxy = start(directory.path(), &backend, limit(&[])).await;
    assert_eq!(ask(&proxy, "ann").await, 429);
}

#[tokio::test]
async fn damaged_counters_are_not_used_and_replaced() {
    let (backend, directory) = (backend().await, tempfile::tempdir().unwrap());
    let proxy = start(directory.path(), &backend, limit(&[])).await;
    assert_eq!([ask(&proxy, "ann").await, ask(&proxy, "ann").await], [200, 200]);
    stop(proxy).await;
    let file = directory.path().join("counters");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let proxy = start(directory.path(), &backend, limit(&[])).await;
    assert_eq!(ask(&proxy, "ann").await, 200);
    stop(proxy).await;
    assert!(CountersFile::of(directory.path()).load().unwrap().is_some());
}

#[tokio::test]
async fn without_a_directory_nothing_is_kept_and_a_disk_that_fails_hurts_nobody() {
    let (backend, directory) = (backend().await, tempfile::tempdir().unwrap());
    let file = directory.path().join("a-file");
    std::fs::write(&file, "in the way").unwrap();
    let proxy = start(&file, &backend, limit(&[])).await;
    assert_eq!(ask(&proxy, "ann").await, 200);
    stop(proxy).await;
    assert_eq!(std::fs::read(&file).unwrap(), b"in the way");
}

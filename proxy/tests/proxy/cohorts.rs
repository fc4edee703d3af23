//! Users who stay where they are: two real proxies, one user, one backend.

use crate::mesh;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::mesh::{Gateway, PORT, backend_name, get, listener, route, service_at};
use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::*;
use tidegate_proxy::telemetry::LogTarget;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::{TestBody, empty};
use tidegate_testkit::client::{Answer, Client};

/// Two versions that answer with their names.
struct Versions([FaultBackend; 2]);

impl Versions {
    async fn start() -> Self {
        let both = [FaultBackend::start().await, FaultBackend::start().await];
        for (backend, name) in both.iter().zip(["v1", "v2"]) {
            backend.always(Reply::text(name).header("set-cookie", "app=1").into());
        }
        Self(both)
    }

    /// A route that shares its users out to both.
    fn route(&self, weights: [u32; 2]) -> Resource {
        let mut route = route("v1");
        route.rules[0].backends = ["v1", "v2"]
            .into_iter()
            .zip(weights)
            .map(|(name, w)| BackendRef::to(backend_name(name), w))
            .collect();
        Resource::Route(route)
    }

    fn resources(&self, weights: [u32; 2], spec: Value) -> Vec<Resource> {
        let mut all = vec![Resource::Listener(listener(PORT)), self.route(weights)];
        for (backend, name) in self.0.iter().zip(["v1", "v2"]) {
            all.extend(service_at(name, AppProtocol::Http1, &[backend.address()]));
        }
        all.push(mesh::policy("CohortPolicy", (TargetKind::HTTPRoute, "all"), spec));
        all
    }
}

async fn gateway(resources: Vec<Resource>) -> (Gateway, Client) {
    let mut gateway = Gateway::start();
    gateway.apply(resources);
    let client = Client::http1(gateway.address().await).await;
    (gateway, client)
}

fn by_user(user: usize) -> Request<TestBody> {
    Request::get("/").header("cookie", format!("theme=dark; user=user-{user}")).body(empty()).unwrap()
}

fn version(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

async fn versions(client: &mut Client, users: usize) -> Vec<String> {
    let mut all = Vec::new();
    for user in 0..users {
        all.push(version(&client.call(by_user(user)).await));
    }
    all
}

fn by_cookie() -> Value {
    json!({"key": [{"type": "Cookie", "name": "user"}]})
}

#[tokio::test]
async fn two_proxies_send_each_user_to_the_same_backend() {
    let backends = Versions::start().await;
    let (_one, mut here) = gateway(backends.resources([50, 50], by_cookie())).await;
    let (_two, mut there) = gateway(backends.resources([50, 50], by_cookie())).await;
    let picked = versions(&mut here, 100).await;
    assert_eq!(versions(&mut there, 100).await, picked);
    assert_eq!(versions(&mut here, 100).await, picked, "and the next time too");
    let counts = picked.iter().fold(BTreeMap::<_, usize>::new(), |mut counts, version| {
        *counts.entry(version.as_str()).or_default() += 1;
        counts
    });
    // Six standard deviations of 100 coins.
    assert!((20..=80).contains(&counts["v1"]), "{counts:?}");
}

#[tokio::test]
async fn raising_a_weight_under_traffic_moves_users_there_and_nobody_back() {
    let backends = Versions::start().await;
    let (mut gateway, mut client) = gateway(backends.resources([90, 10], by_cookie())).await;
    let ten = versions(&mut client, 300).await;
    gateway.apply(vec![backends.route([70, 30])]);
    let thirty = versions(&mut client, 300).await;
    for (before, after) in ten.iter().zip(&thirty) {
        assert!(before == after || after == "v2", "{before} -> {after}");
    }
    assert_ne!(ten, thirty);
    gateway.apply(vec![backends.route([90, 10])]);
    assert_eq!(versions(&mut client, 300).await, ten, "and back again: the same ten percent");
}

#[tokio::test]
async fn a_new_user_is_given_a_cookie_once_and_stays_with_the_first_answer() {
    let backends = Versions::start().await;
    let spec = json!({
        "key": [{"type": "Cookie", "name": "user"}],
        "onMissing": {"type": "SetCookie", "cookie": {"name": "cohort", "ttl": "1h", "sameSite": "Strict"}},
    });
    let (_gateway, mut client) = gateway(backends.resources([50, 50], spec)).await;
    for _ in 0..20 {
        let first = client.call(get("/")).await;
        let cookies: Vec<_> =
            first.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
        let [app, ours] = cookies[..] else { panic!("the backend's cookie and ours: {cookies:?}") };
        assert_eq!(app, "app=1");
        assert!(ours.starts_with("cohort="), "{ours}");
        assert!(ours.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict"), "{ours}");
        let cookie = ours.split(';').next().unwrap();
        for _ in 0..3 {
            let request = Request::get("/").header("cookie", cookie).body(empty()).unwrap();
            let again = client.call(request).await;
            assert_eq!(version(&again), version(&first));
            assert_eq!(again.headers.get_all("set-cookie").iter().count(), 1, "only the backend's");
        }
    }
    assert_eq!(
        client.call(by_user(1)).await.headers.get_all("set-cookie").iter().count(),
        1,
        "known by another key"
    );
}

#[tokio::test]
async fn the_access_log_and_the_counters_say_which_policy_picked_and_never_the_key() {
    let backends = Versions::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut gateway = Gateway::with(|config| config.access_log = LogTarget::File(file.path().to_owned()));
    gateway.apply(backends.resources([50, 50], by_cookie()));
    let picked = version(&Client::http1(gateway.address().await).await.call(by_user(1)).await);
    let backend = format!("shop/{picked}:80");
    let counted = format!(
        "tidegate_policy_decisions_total{{kind=\"CohortPolicy\",policy=\"shop/policy\",rule=\"{backend}\",outcome=\"picked\"}} 1"
    );
    // A request is counted when its record is dropped, which may be after its answer has come.
    let waited = async {
        loop {
            let page = Client::http1(gateway.running.admin()).await.get("/metrics").await.body;
            if String::from_utf8_lossy(&page).contains(&counted) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect(&counted);
    gateway.running.shutdown();
    gateway.running.wait().await;
    let log = std::fs::read_to_string(file.path()).unwrap();
    let line: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let said = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(said("tidegate.decision"), "picked");
    assert_eq!(said("tidegate.policy.kind"), "CohortPolicy");
    assert_eq!(said("tidegate.policy.rule"), backend);
    assert_eq!(said("tidegate.policy.source"), "test.yaml:1");
    assert_eq!(said("tidegate.policy.detail"), "key=cookie");
    assert!(!log.contains("user-1"), "{log}");
}

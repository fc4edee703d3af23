//! Endpoints as a live proxy chooses among them.

use crate::mesh::{self, Gateway, PORT, listener, route, service_at};
use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::*;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::{TestBody, empty};
use tidegate_testkit::client::Client;

/// One Service with endpoints that answer with their numbers.
struct Endpoints(Vec<FaultBackend>);

impl Endpoints {
    async fn start(many: usize) -> Self {
        let mut all = Vec::new();
        for number in 0..many {
            let endpoint = FaultBackend::start().await;
            endpoint.always(Reply::text(["0", "1", "2", "3"][number]).into());
            all.push(endpoint);
        }
        Self(all)
    }

    fn resources(&self, policy: Option<Value>) -> Vec<Resource> {
        let addresses: Vec<_> = self.0.iter().map(|endpoint| endpoint.address()).collect();
        let mut all = service_at("v1", AppProtocol::Http1, &addresses);
        all.extend([Resource::Listener(listener(PORT)), Resource::Route(route("v1"))]);
        let target = (TargetKind::Service, "v1");
        all.extend(policy.map(|spec| mesh::policy("LoadBalancingPolicy", target, spec)));
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
    Request::get("/").header("x-user", format!("user-{user}")).body(empty()).unwrap()
}

async fn answers(client: &mut Client, users: usize) -> Vec<String> {
    let mut all = Vec::new();
    for user in 0..users {
        let answer = client.call(by_user(user)).await;
        all.push(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }
    all
}

#[tokio::test]
async fn two_proxies_send_a_key_to_the_same_endpoint() {
    let endpoints = Endpoints::start(4).await;
    let spec = json!({"algorithm": "Maglev", "hashKey": [{"type": "Header", "name": "x-user"}]});
    let (_one, mut here) = gateway(endpoints.resources(Some(spec.clone()))).await;
    let (_two, mut there) = gateway(endpoints.resources(Some(spec))).await;
    let first = answers(&mut here, 60).await;
    assert_eq!(answers(&mut there, 60).await, first);
    assert_eq!(answers(&mut here, 60).await, first, "and the next time too");
    for endpoint in 0..4 {
        assert!(first.contains(&format!("200 OK {endpoint}")), "{first:?}");
    }
}

#[tokio::test]
async fn without_a_policy_an_endpoint_that_fails_fast_is_hardly_called() {
    let endpoints = Endpoints::start(2).await;
    endpoints.0[0].always(Reply::status(500).into());
    let (_gateway, mut client) = gateway(endpoints.resources(None)).await;
    let failed = answers(&mut client, 200).await.iter().filter(|answer| answer.starts_with("500")).count();
    assert!(failed <= 10, "{failed} of 200");
}

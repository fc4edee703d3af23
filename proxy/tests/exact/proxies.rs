//! Whole proxies that share one budget, and what they do when its store goes.

use serde_json::json;
use tidegate_policy::model::TargetKind;
use tidegate_proxy::ProxyConfig;
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::client::Client;

use crate::mesh::{Gateway, get, policy};
use crate::redis::Redis;

async fn gateway(backend: &FaultBackend, change: impl FnOnce(&mut ProxyConfig)) -> (Gateway, Client) {
    let mut gateway = Gateway::with(change).to(&[backend.address()]).await;
    gateway.apply(vec![policy(
        "RateLimitPolicy",
        (TargetKind::HTTPRoute, "all"),
        json!({
            "scope": "Exact",
            "exact": {"timeout": "100ms", "fallbackPercent": 20},
            "limits": [{"name": "everyone", "requests": 30, "per": "1h"}],
        }),
    )]);
    let client = Client::http1(gateway.address().await).await;
    (gateway, client)
}

async fn passed(client: &mut Client, requests: usize) -> usize {
    let mut passed = 0;
    for _ in 0..requests {
        let answer = client.call(get("/")).await;
        match answer.status.as_u16() {
            200 => passed += 1,
            _ => assert_eq!(answer.reason(), Some("rate_limited"), "{answer:?}"),
        }
    }
    passed
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn two_proxies_let_one_budget_through_and_each_its_part_of_it_once_the_store_is_gone() {
    let (mut redis, backend) = (Redis::start(), FaultBackend::start().await);
    let address = redis.address();
    let (one, mut here) = gateway(&backend, |config| config.redis = Some(address.clone())).await;
    let (_two, mut there) = gateway(&backend, |config| config.redis = Some(address.clone())).await;
    let mut together = 0;
    for _ in 0..25 {
        together += passed(&mut here, 1).await + passed(&mut there, 1).await;
    }
    assert_eq!(together, 30);

    redis.kill();
    assert_eq!([passed(&mut here, 20).await, passed(&mut there, 20).await], [6, 6], "20 % of 30 each");
    let page = Client::http1(one.running.admin()).await.get("/metrics").await.body;
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(page.contains("tidegate_exact_limit_total{result=\"answered\"} 25\n"), "{page}");
    assert!(page.contains("tidegate_exact_limit_total{result=\"fell_back\"} 20\n"), "{page}");
}

#[tokio::test]
async fn a_proxy_without_a_store_lets_its_part_through() {
    let backend = FaultBackend::start().await;
    let (_gateway, mut client) = gateway(&backend, |_| {}).await;
    assert_eq!(passed(&mut client, 20).await, 6);
}

#[tokio::test]
async fn a_proxy_whose_store_was_never_there_lets_its_part_through() {
    let backend = FaultBackend::start().await;
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("redis://{nowhere}/0");
    let (_gateway, mut client) = gateway(&backend, |config| config.redis = Some(address)).await;
    assert_eq!(passed(&mut client, 20).await, 6);
}

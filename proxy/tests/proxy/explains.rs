//! `x-tidegate-explain`: who may know is told what was decided, nobody else, and nobody is asked in somebody else's name.

use http::{HeaderMap, Request};
use serde_json::json;
use tidegate_policy::model::*;
use tidegate_proxy::telemetry::DecisionQuery;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{TestBody, empty};
use tidegate_testkit::client::Client;

use crate::mesh::{self, Gateway, everything_to};

const EXPLAIN: &str = "x-tidegate-explain";

fn asking(path: &str) -> Request<TestBody> {
    Request::get(path).header(EXPLAIN, "1").body(empty()).unwrap()
}

fn limit() -> Resource {
    let limits = json!({"limits": [{"name": "everyone", "requests": 1, "per": "1h"}]});
    mesh::policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), limits)
}

/// A gateway with a limit of one request that explains to these, and its backend, which has an explanation of its own.
async fn gateway(explain_to: &[&str]) -> (Gateway, FaultBackend) {
    let backend = FaultBackend::start().await;
    backend.always(Script::from(Reply::text("fine").header(EXPLAIN, "from further on")));
    let mut gateway = Gateway::with(|config| {
        config.explain_to = explain_to.iter().map(|who| who.parse().unwrap()).collect();
    });
    let all = everything_to("v1", &[backend.address()]).into_iter().chain([limit()]);
    gateway.apply(all.collect());
    gateway.address().await;
    (gateway, backend)
}

fn explained(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(EXPLAIN).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn who_may_know_is_told_policy_rule_line_and_outcome_of_every_hop() {
    let (gateway, backend) = gateway(&["127.0.0.0/8"]).await;
    let mut client = Client::http1(gateway.address().await).await;
    let answer = client.call(asking("/a")).await;
    let [there, here] = explained(&answer.headers)[..] else { panic!("{:?}", answer.headers) };
    assert_eq!(there, "from further on");
    let wanted = "test gateway; route shop/all all (test.yaml:1); backend shop/v1:80; \
                  RateLimitPolicy shop/policy everyone (test.yaml:1): allowed";
    assert!(here.starts_with(wanted), "{here}");
    assert_eq!(backend.seen()[0].headers[EXPLAIN], "1", "the next hop is asked too");
    let answer = client.call(asking("/a")).await;
    let [here] = explained(&answer.headers)[..] else { panic!("{:?}", answer.headers) };
    assert!(
        here.contains("answered here: rate_limited") && here.contains("(test.yaml:1): refused rate_limited")
    );
    assert!(client.call(mesh::get("/a")).await.headers.get(EXPLAIN).is_none(), "only who asks is told");
}

#[tokio::test]
async fn whoever_may_not_know_is_told_nothing_and_nobody_is_asked_for_him() {
    for explain_to in [&[][..], &["app", "10.0.0.0/8", "spiffe://cluster.local/ns/ops/*"]] {
        let (gateway, backend) = gateway(explain_to).await;
        let mut client = Client::http1(gateway.address().await).await;
        for _ in 0..2 {
            let answer = client.call(asking("/a")).await;
            assert_eq!(explained(&answer.headers), Vec::<&str>::new(), "{:?}", answer.headers);
        }
        let mut client = Client::http2(gateway.address().await).await;
        assert!(client.call(asking("/none")).await.headers.get(EXPLAIN).is_none());
        assert!(backend.seen()[0].headers.get(EXPLAIN).is_none());
        let kept = gateway.running.state().telemetry.decisions(&DecisionQuery::default());
        assert!(kept.iter().all(|hop| hop.kept != "asked"));
    }
}

#[tokio::test]
async fn what_was_explained_is_kept_to_be_asked_for_again() {
    let (gateway, _backend) = gateway(&["127.0.0.1"]).await;
    let mut client = Client::http1(gateway.address().await).await;
    let request =
        Request::get("/a").header(EXPLAIN, "1").header("x-request-id", "my-own").body(empty()).unwrap();
    client.call(request).await;
    let telemetry = gateway.running.state().telemetry.clone();
    let hops = loop {
        let hops = telemetry.decisions(&DecisionQuery::of_id("my-own"));
        if !hops.is_empty() {
            break hops;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((hops[0].kept.as_str(), hops[0].status, hops[0].node.as_str()), ("asked", 200, "test"));
}

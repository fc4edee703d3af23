//! Attempts beside attempts in a real proxy: whom they ask, whose answer counts, and what is known of the losers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use serde_json::{Value, json};
use tidegate_policy::Timestamp;
use tidegate_policy::model::{Resource, TargetKind};
use tidegate_policy::snapshot::Scope;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{full, streaming};
use tidegate_testkit::client::{Answer, Client};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::mesh::{BIND, Gateway, everything_to, policy};

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn on_service(kind: &str, spec: Value) -> Resource {
    policy(kind, (TargetKind::Service, "v1"), spec)
}

fn hedging(more: &Value) -> Resource {
    let mut spec = json!({"hedge": {"after": "10ms"}, "budget": {"minPerSecond": 1000}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    on_service("RetryPolicy", spec)
}

async fn gateway(endpoints: &[&FaultBackend], policies: Vec<Resource>) -> (Gateway, SocketAddr) {
    let addresses: Vec<_> = endpoints.iter().map(|backend| backend.address()).collect();
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &addresses);
    all.extend(policies);
    gateway.apply(all);
    let address = gateway.address().await;
    (gateway, address)
}

/// One that hangs and one that sends back what it gets.
async fn slow_and_fast() -> (FaultBackend, FaultBackend) {
    let (slow, fast) = (FaultBackend::start().await, FaultBackend::start().await);
    slow.always(Script::Hang);
    fast.always(Script::Echo);
    (slow, fast)
}

async fn put(client: &mut Client, name: &'static str, value: String) -> Answer {
    let request = Request::put("/").header(name, value).body(full("twice")).unwrap();
    timeout(PATIENCE, client.call(request)).await.expect("an answer")
}

/// Half of all keys lead to each of two endpoints.
fn by_key() -> Resource {
    let spec = json!({"algorithm": "Maglev", "hashKey": [{"type": "Header", "name": "x-key"}]});
    on_service("LoadBalancingPolicy", spec)
}

/// How often this was decided about an attempt.
async fn decided(gateway: &Gateway, decision: &str) -> u64 {
    let page = Client::http1(gateway.running.admin()).await.get("/metrics").await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let line = text.lines().find(|line| line.contains(&format!("decision=\"{decision}\"}}")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn there_is_none_where_the_first_endpoint_is_the_only_one_that_is_well() {
    let (well, broken) = (FaultBackend::start().await, FaultBackend::start().await);
    broken.always(Reply::status(500).into());
    let breaker = json!({"breakers": [{"scope": "Endpoint", "consecutiveFailures": 1, "open": "1h"}]});
    let policies = vec![hedging(&json!({})), on_service("CircuitBreakerPolicy", breaker)];
    let (gateway, address) = gateway(&[&well, &broken], policies).await;
    let mut client = Client::http1(address).await;
    for _ in 0..1000 {
        if broken.counts().requests > 0 {
            break;
        }
        let _ = client.get("/").await;
    }
    let (asked, failed) = (well.counts().requests, broken.counts().requests);
    assert!(failed > 0, "it is ejected");
    let before = decided(&gateway, "no_other").await;
    let answers = Arc::new(Notify::new());
    well.always(Script::After(answers.clone(), Box::new(Reply::text("late").into())));
    let calling = tokio::spawn(async move { client.get("/").await });
    well.until(|counts| counts.requests == asked + 1).await;
    let told = async {
        while decided(&gateway, "no_other").await == before {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.expect("the hedge is due, and is not made");
    answers.notify_one();
    assert_eq!(calling.await.unwrap().status, 200);
    assert_eq!((well.counts().requests, broken.counts().requests), (asked + 1, failed));
}

#[tokio::test]
async fn a_failure_is_no_answer_while_another_attempt_may_do_better() {
    let (one, two) = (FaultBackend::start().await, FaultBackend::start().await);
    let (fails, answers) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    one.always(Script::After(fails.clone(), Box::new(Reply::status(502).into())));
    two.always(Script::After(answers.clone(), Box::new(Reply::text("well").into())));
    let on = json!({"retryOn": {"conditions": ["GatewayError"]}});
    let (_gateway, address) = gateway(&[&one, &two], vec![hedging(&on)]).await;
    let calling = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    one.until(|counts| counts.requests == 1).await;
    two.until(|counts| counts.requests == 1).await;
    fails.notify_one();
    // The test holds whoever is first; a proxy that is wrong needs this to show it.
    tokio::time::sleep(Duration::from_millis(30)).await;
    answers.notify_one();
    let answer = calling.await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"well"[..]));
}

#[tokio::test]
async fn one_goes_to_another_endpoint_whatever_the_request_is_hashed_by() {
    let (slow, fast) = slow_and_fast().await;
    let policies = vec![hedging(&json!({})), by_key()];
    let (_gateway, address) = gateway(&[&slow, &fast], policies).await;
    let mut client = Client::http1(address).await;
    for key in 0..16 {
        assert_eq!(put(&mut client, "x-key", key.to_string()).await.status, 200);
    }
    let asked = slow.counts().requests;
    assert!((1..=16).contains(&asked), "{asked}");
    assert_eq!(fast.counts().requests, 16);
}

#[tokio::test]
async fn one_waits_for_the_whole_body_and_is_made_then() {
    let (slow, fast) = slow_and_fast().await;
    let (_gateway, address) = gateway(&[&slow, &fast], vec![hedging(&json!({}))]).await;
    for _ in 0..100 {
        let mut client = Client::http1(address).await;
        let (frames, body) = streaming();
        let calling = tokio::spawn(async move { client.call(Request::put("/").body(body).unwrap()).await });
        frames.data("one, ").await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        frames.data("two").await;
        drop(frames);
        let answer = timeout(PATIENCE, calling).await.expect("an answer").unwrap();
        assert_eq!(&*answer.body, b"one, two");
        if slow.counts().requests > 1 {
            return;
        }
    }
    panic!("the slow endpoint is never the first");
}

#[tokio::test]
async fn the_client_is_told_how_many_there_were_with_the_first() {
    let (slow, fast) = slow_and_fast().await;
    let (_gateway, address) = gateway(&[&slow, &fast], vec![hedging(&json!({"tellAttempts": true}))]).await;
    let mut client = Client::http1(address).await;
    let mut twice = 0;
    for _ in 0..20 {
        let answer = put(&mut client, "x-key", String::new()).await;
        twice += usize::from(answer.headers["x-tidegate-attempts"] == "2");
    }
    // The fast one may be asked first and be too slow, too.
    assert!(twice >= slow.counts().requests && twice > 0, "{twice}");
}

#[tokio::test]
async fn each_counts_under_the_cap_on_retries_until_it_ends() {
    let (one, two) = (FaultBackend::start().await, FaultBackend::start().await);
    one.always(Script::Hang);
    two.always(Script::Hang);
    let cap = on_service("CircuitBreakerPolicy", json!({"caps": [{"scope": "Backend", "retries": 1}]}));
    let (_gateway, address) = gateway(&[&one, &two], vec![hedging(&json!({})), cap]).await;
    let calls: Vec<_> =
        (0..2).map(|_| tokio::spawn(async move { Client::http1(address).await.get("/").await })).collect();
    let all = || one.counts().requests + two.counts().requests;
    let three = async {
        while all() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, three).await.expect("two requests and a hedge");
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(all(), 3, "the second hedge has no place");
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn what_a_loser_took_at_least_is_known() {
    let (slow, fast) = slow_and_fast().await;
    let latency = on_service("TimeoutPolicy", json!({"deadline": {"refuseHopeless": true}}));
    let begun = Instant::now();
    let (gateway, address) = gateway(&[&slow, &fast], vec![hedging(&json!({})), latency, by_key()]).await;
    let mut client = Client::http1(address).await;
    for key in 0..40 {
        assert_eq!(put(&mut client, "x-key", key.to_string()).await.status, 200);
    }
    assert!(slow.counts().requests > 8, "more than a tenth of all that is known");
    let head = Request::get("/").header("host", "a").body(()).unwrap().into_parts().0;
    let snapshot = gateway.running.state().store.load();
    let selected = snapshot.route(Scope::Gateway(BIND), &head, &mut fastrand::Rng::with_seed(1)).unwrap();
    let known = selected.target().plan.latency.as_ref().expect("somebody asks for it");
    let most = known.quantile(900, Timestamp::from(begun.elapsed())).expect("enough are known");
    assert!(most >= Duration::from_millis(9), "{most:?}");
}

//! Clients who go back to where they were answered from, through real proxies.

use std::net::SocketAddr;
use std::time::Duration;

use crate::mesh::{Gateway, PORT, backend_name, listener, route, service_at};
use http::Request;
use tidegate_policy::model::*;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Answer, Client};

/// Backends that answer with their places.
async fn backends<const N: usize>() -> [FaultBackend; N] {
    let mut all = Vec::new();
    for i in 0..N {
        let backend = FaultBackend::start().await;
        backend.always(Reply::text(["0", "1", "2", "3"][i]).into());
        all.push(backend);
    }
    all.try_into().unwrap()
}

fn cookie() -> SessionPersistence {
    let carrier = SessionCarrier::Cookie { name: None, path: "/".into(), permanent: false };
    SessionPersistence { carrier, absolute_timeout: None, idle_timeout: None }
}

fn routed(weights: [u32; 2], session: &SessionPersistence) -> Resource {
    let mut route = route("v1");
    let rule = &mut route.rules[0];
    rule.session = Some(session.clone());
    rule.backends = ["v1", "v2"]
        .into_iter()
        .zip(weights)
        .map(|(name, w)| BackendRef::to(backend_name(name), w))
        .collect();
    Resource::Route(route)
}

fn resources(
    endpoints: [&[SocketAddr]; 2],
    weights: [u32; 2],
    session: &SessionPersistence,
) -> Vec<Resource> {
    let mut all = vec![Resource::Listener(listener(PORT)), routed(weights, session)];
    for (name, endpoints) in ["v1", "v2"].into_iter().zip(endpoints) {
        all.extend(service_at(name, AppProtocol::Http1, endpoints));
    }
    all
}

async fn gateway(resources: Vec<Resource>) -> (Gateway, Client) {
    let mut gateway = Gateway::start();
    gateway.apply(resources);
    let client = Client::http1(gateway.address().await).await;
    (gateway, client)
}

fn set(answer: &Answer) -> Option<String> {
    let value = answer.headers.get("set-cookie")?.to_str().unwrap();
    Some(value.split(';').next().unwrap().to_owned())
}

async fn with(client: &mut Client, cookie: &str) -> Answer {
    client.call(Request::get("/").header("cookie", cookie).body(empty()).unwrap()).await
}

#[tokio::test]
async fn a_session_leads_to_one_endpoint_through_two_proxies_and_past_a_weight_of_zero() {
    let all = backends::<4>().await;
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| all[i].address());
    let (mut one, mut here) = gateway(resources([&[a, b], &[c, d]], [50, 50], &cookie())).await;
    let (_two, mut there) = gateway(resources([&[b, a], &[d, c]], [50, 50], &cookie())).await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let first = here.get("/").await;
        sessions.push((set(&first).expect("a session"), first.body));
    }
    for (cookie, place) in &sessions {
        for client in [&mut here, &mut there] {
            let again = with(client, cookie).await;
            assert_eq!((&again.body, set(&again)), (place, None));
        }
    }
    one.apply(vec![routed([0, 100], &cookie())]);
    for (cookie, place) in &sessions {
        assert_eq!(with(&mut here, cookie).await.body, *place, "an established session stays");
    }
    for _ in 0..20 {
        let fresh = here.get("/").await;
        assert!(fresh.body == "2" || fresh.body == "3", "a new one goes where the weights say");
    }
}

#[tokio::test]
async fn where_an_endpoint_goes_away_its_clients_get_a_new_session() {
    let all = backends::<2>().await;
    let [a, b] = [0, 1].map(|i| all[i].address());
    let (mut gateway, mut client) = gateway(resources([&[a, b], &[]], [1, 0], &cookie())).await;
    let first = client.get("/").await;
    let old = set(&first).unwrap();
    let (stays, place) = if first.body == "0" { (b, "1") } else { (a, "0") };
    gateway.apply(service_at("v1", AppProtocol::Http1, &[stays]));
    let moved = with(&mut client, &old).await;
    assert_eq!(moved.body, place);
    let new = set(&moved).expect("a new session");
    assert_ne!(new, old);
    gateway.apply(service_at("v1", AppProtocol::Http1, &[a, b]));
    assert_eq!(with(&mut client, &new).await.body, place, "and stays there");
}

#[tokio::test]
async fn a_retry_may_leave_the_endpoint_and_the_session_follows() {
    let all = backends::<2>().await;
    let [a, b] = [0, 1].map(|i| all[i].address());
    let mut everything = resources([&[a, b], &[]], [1, 0], &cookie());
    for resource in &mut everything {
        if let Resource::Route(route) = resource {
            let backoff = Some(Duration::ZERO);
            route.rules[0].retry = Some(Retry { codes: [503].into(), attempts: 1, backoff });
        }
    }
    let (_gateway, mut client) = gateway(everything).await;
    let first = client.get("/").await;
    let old = set(&first).unwrap();
    let (failing, other) = if first.body == "0" { (0, "1") } else { (1, "0") };
    all[failing].push(Script::Reply(Reply::status(503)));
    let retried = with(&mut client, &old).await;
    assert_eq!(retried.body, other);
    assert_eq!(with(&mut client, &set(&retried).unwrap()).await.body, other);
}

#[tokio::test]
async fn a_session_in_a_header_works_the_same() {
    let all = backends::<3>().await;
    let [a, b, c] = [0, 1, 2].map(|i| all[i].address());
    let carrier = SessionCarrier::Header("x-session".parse().unwrap());
    let session = SessionPersistence { carrier, ..cookie() };
    let (_gateway, mut client) = gateway(resources([&[a, b, c], &[]], [1, 0], &session)).await;
    for _ in 0..10 {
        let first = client.get("/").await;
        let token = first.headers["x-session"].clone();
        for _ in 0..3 {
            let request = Request::get("/").header("x-session", &token).body(empty()).unwrap();
            assert_eq!(client.call(request).await.body, first.body);
        }
    }
}

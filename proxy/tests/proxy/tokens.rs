//! Tokens: who asks, and what follows for what they may.

#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::{Resource, TargetKind};
use tidegate_proxy::telemetry::LogTarget;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Answer, Client};

use crate::mesh::{Gateway, everything_to, policy};

/// Of RFC 8037, A.1: the tokens below are signed with it, and end with the year 2099.
const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// `"sub": "ann"`.
const ANN: &str = "eyJhbGciOiJFZERTQSJ9.\
    eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlLmNvbSIsInN1YiI6ImFubiIsImF1ZCI6InNob3AiLCJwbGFuIjoiZ29sZCIs\
    ImV4cCI6NDEwMjQ0NDgwMH0.\
    Trx7J-F5mbJf6reu6h1mBYnQPStfoPDPvh3vMSrZ49wwDeccFN0x9Y2NqPsjsxNYsI2whlbogwe6qvgzLDCgBQ";
/// `"sub": "bob"`.
const BOB: &str = "eyJhbGciOiJFZERTQSJ9.\
    eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlLmNvbSIsInN1YiI6ImJvYiIsImF1ZCI6InNob3AiLCJwbGFuIjoiZnJlZSIs\
    ImV4cCI6NDEwMjQ0NDgwMH0.\
    OTWdZXFjSA4NBNqNLWACBi3Udn9VhrdR4CYaZyJcOJaLX1myO9xCljqGu-8Lu-FOkG0DpjTdCGwSalPjmXHtDQ";
/// Of January 2026.
const EXPIRED: &str = "eyJhbGciOiJFZERTQSJ9.\
    eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlLmNvbSIsInN1YiI6ImV2ZSIsImF1ZCI6InNob3AiLCJleHAiOjE3NjcyMjU2\
    NjB9.\
    yzOjAd9TTd6y5v4r6pNN936HpAwaT6x09jgcipsVUklUaJVykzEl3QDbWDRwHqWP9gnhws3AiofmCymW3wO4Bw";

fn tokens(more: Value) -> Resource {
    let mut provider = json!({"name": "corp", "issuer": "https://issuer.example.com", "audiences": ["shop"],
        "jwks": {"inline": KEYS}});
    provider.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy("JwtAuthenticationPolicy", (TargetKind::HTTPRoute, "all"), json!({"providers": [provider]}))
}

fn per_user(more: Value) -> Resource {
    let mut spec = json!({"limits": [
        {"name": "each", "requests": 2, "per": "1h", "key": [{"type": "Claim", "name": "sub", "missing": "Deny"}]},
    ]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), spec)
}

async fn backend() -> FaultBackend {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("fine").into());
    backend
}

async fn gateway(backend: &FaultBackend, policies: Vec<Resource>) -> Gateway {
    let mut gateway = Gateway::start();
    gateway.apply(everything_to("v1", &[backend.address()]).into_iter().chain(policies).collect());
    gateway.address().await;
    gateway
}

async fn ask(gateway: &Gateway, token: &str) -> Answer {
    let mut client = Client::http1(gateway.address().await).await;
    let request = Request::get("/cart").header("authorization", format!("Bearer {token}"));
    client.call(request.body(empty()).unwrap()).await
}

async fn statuses(gateway: &Gateway, token: &str, requests: usize) -> Vec<u16> {
    let mut all = Vec::new();
    for _ in 0..requests {
        all.push(ask(gateway, token).await.status.as_u16());
    }
    all
}

#[tokio::test]
async fn two_users_have_different_buckets_and_a_push_gives_neither_a_new_one() {
    let backend = backend().await;
    let mut gateway = gateway(&backend, vec![tokens(json!({})), per_user(json!({}))]).await;
    assert_eq!(statuses(&gateway, ANN, 3).await, [200, 200, 429]);
    assert_eq!(statuses(&gateway, BOB, 1).await, [200]);
    gateway.apply(vec![tokens(json!({"leeway": "1s"})), per_user(json!({}))]);
    assert_eq!(statuses(&gateway, ANN, 1).await, [429]);
    assert_eq!(statuses(&gateway, BOB, 2).await, [200, 429]);
    assert_eq!(backend.counts().requests, 4);
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_keeps_its_claims() {
    let backend = backend().await;
    // In Shadow, the second limit is judged when the request goes on, and would not know whom to count.
    let limits = json!({"limits": [
        {"name": "turns", "requests": 20, "per": "1s", "burst": 1},
        {"name": "each", "requests": 1, "per": "1h", "mode": "Shadow",
            "key": [{"type": "Claim", "name": "sub", "missing": "Deny"}]},
    ], "onLimit": {"delay": {"atMost": "5s"}}});
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut gateway = Gateway::with(|config| config.access_log = LogTarget::File(file.path().to_owned()));
    let all = everything_to("v1", &[backend.address()]).into_iter();
    gateway.apply(all.chain([tokens(json!({})), per_user(limits)]).collect());
    for token in [ANN, BOB, ANN] {
        assert_eq!(statuses(&gateway, token, 1).await, [200]);
    }
    let log = log_of(gateway, &file).await;
    assert_eq!(log.lines().filter(|line| line.contains("would_refuse")).count(), 1, "{log}");
}

#[tokio::test]
async fn whoever_has_no_token_that_holds_is_refused_before_any_backend_and_the_log_says_why_and_not_which() {
    let backend = backend().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut gateway = Gateway::with(|config| config.access_log = LogTarget::File(file.path().to_owned()));
    gateway.apply(everything_to("v1", &[backend.address()]).into_iter().chain([tokens(json!({}))]).collect());
    let answer = ask(&gateway, EXPIRED).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.headers["www-authenticate"], r#"Bearer realm="policy", error="invalid_token""#);
    assert_eq!(answer.headers["x-tidegate-reason"], "unauthenticated");
    let mut client = Client::http1(gateway.address().await).await;
    let twice = Request::get("/")
        .header("authorization", format!("Bearer {ANN}"))
        .header("authorization", "Basic YTpi");
    assert_eq!(client.call(twice.body(empty()).unwrap()).await.status, 400);
    let grpc = Request::post("/shop.Cart/Get").header("content-type", "application/grpc");
    let answer = client.call(grpc.body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), &answer.headers["grpc-status"]), (200, &"16".parse().unwrap()));
    assert_eq!(backend.counts().requests, 0);

    let log = log_of(gateway, &file).await;
    for said in
        ["token=expired", "token=several", "token=missing", "JwtAuthenticationPolicy", "corp", "test.yaml:1"]
    {
        assert!(log.contains(said), "{said}: {log}");
    }
    let signature = |token: &'static str| token.rsplit('.').next().unwrap();
    assert!(!log.contains(signature(ANN)) && !log.contains(signature(EXPIRED)), "{log}");
}

#[tokio::test]
async fn the_backend_is_told_who_asks_and_does_not_get_the_token_where_it_is_not_to_be_forwarded() {
    let backend = backend().await;
    let told = json!({"forward": false, "claimToHeaders": [{"claim": "sub", "header": "x-user"}]});
    let gateway = gateway(&backend, vec![tokens(told)]).await;
    let mut client = Client::http1(gateway.address().await).await;
    let request = Request::get("/").header("authorization", format!("Bearer {ANN}")).header("x-user", "root");
    assert_eq!(client.call(request.header("x_user", "root").body(empty()).unwrap()).await.status, 200);
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.headers["x-user"], "ann");
    assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key("x_user"));
}

/// What was logged, after the last request is over.
async fn log_of(gateway: Gateway, file: &tempfile::NamedTempFile) -> String {
    gateway.running.shutdown();
    tokio::time::timeout(Duration::from_secs(30), gateway.running.wait()).await.expect("it stops");
    std::fs::read_to_string(file.path()).unwrap()
}

//! Keys that an issuer publishes: fetched from a real server, by TLS too, and whatever it does.

#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::{Resource, TargetKind};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Answer, Client};
use tidegate_testkit::pki::Authority;

use crate::mesh::{Gateway, everything_to, policy};

/// Of RFC 8037, A.1: the token is signed with it, and ends with the year 2099.
const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// Of RFC 7515, A.3: of another type.
const OTHERS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
const ANN: &str = "eyJhbGciOiJFZERTQSJ9.\
    eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlLmNvbSIsInN1YiI6ImFubiIsImF1ZCI6InNob3AiLCJwbGFuIjoiZ29sZCIs\
    ImV4cCI6NDEwMjQ0NDgwMH0.\
    Trx7J-F5mbJf6reu6h1mBYnQPStfoPDPvh3vMSrZ49wwDeccFN0x9Y2NqPsjsxNYsI2whlbogwe6qvgzLDCgBQ";

fn tokens(jwks: Value) -> Resource {
    let provider = json!({"name": "corp", "issuer": "https://issuer.example.com", "jwks": jwks});
    policy("JwtAuthenticationPolicy", (TargetKind::HTTPRoute, "all"), json!({"providers": [provider]}))
}

fn at(issuer: &FaultBackend) -> Value {
    json!({"uri": format!("http://{}/keys?v=1", issuer.address())})
}

/// A gateway to a backend that is always fine.
async fn gateway(jwks: Value) -> (Gateway, FaultBackend) {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    gateway.apply(everything_to("v1", &[backend.address()]).into_iter().chain([tokens(jwks)]).collect());
    (gateway, backend)
}

async fn ask(gateway: &Gateway) -> Answer {
    let mut client = Client::http1(gateway.address().await).await;
    let request = Request::get("/").header("authorization", format!("Bearer {ANN}"));
    client.call(request.body(empty()).unwrap()).await
}

/// Asks until it is answered so.
async fn until(gateway: &Gateway, status: u16) {
    let asking = async {
        while ask(gateway).await.status != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("in time");
}

#[tokio::test]
async fn keys_are_fetched_once_and_the_first_request_waits_for_them() {
    let issuer = FaultBackend::start().await;
    issuer.always(Reply::text(KEYS).header("cache-control", "max-age=600").into());
    let (mut gateway, backend) = gateway(at(&issuer)).await;
    for _ in 0..20 {
        assert_eq!(ask(&gateway).await.status, 200);
    }
    let seen = issuer.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].uri.path_and_query().unwrap(), "/keys?v=1");
    assert_eq!(seen[0].headers["host"], issuer.address().to_string());
    // A push that changes something else of the policy has nothing fetched.
    let mut more = at(&issuer);
    more["wait"] = json!("1s");
    let Resource::Policy(mut policy) = tokens(at(&issuer)) else { panic!() };
    policy.spec["missing"] = json!("Allow");
    gateway.apply(vec![Resource::Policy(policy)]);
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!((issuer.counts().requests, backend.counts().requests), (1, 21));
}

#[tokio::test]
async fn an_issuer_that_is_of_no_use_at_first_is_asked_again_and_requests_get_503_meanwhile() {
    let huge = Reply { body: Bytes::from(vec![b' '; 1 << 20]), ..Reply::default() };
    for useless in [
        Script::Reset,
        Script::Close,
        Reply::text("<html>no</html>").into(),
        Reply::status(404).into(),
        Reply::status(302).header("location", "/elsewhere").into(),
        huge.into(),
    ] {
        let issuer = FaultBackend::start().await;
        issuer.push(useless.clone()).always(Reply::text(KEYS).into());
        let (gateway, backend) = gateway(at(&issuer)).await;
        let answer = ask(&gateway).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("keys_unavailable")), "{useless:?}");
        assert!(!answer.headers.contains_key("www-authenticate"), "the client's token may well be good");
        assert_eq!(backend.counts().requests, 0);
        until(&gateway, 200).await;
        assert_eq!(issuer.counts().requests, 2, "{useless:?}");
    }
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_holds_up_the_first_requests_for_as_long_as_is_written() {
    let issuer = FaultBackend::start().await;
    issuer.always(Script::Hang);
    let mut jwks = at(&issuer);
    jwks["wait"] = json!("50ms");
    jwks["timeout"] = json!("200ms");
    let (gateway, _backend) = gateway(jwks).await;
    for _ in 0..2 {
        assert_eq!(ask(&gateway).await.reason(), Some("keys_unavailable"));
    }
    issuer.always(Reply::text(KEYS).into());
    until(&gateway, 200).await;
}

#[tokio::test]
async fn by_tls_the_issuer_must_prove_who_it_is() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let issuer = FaultBackend::start_tls(ours.sign(&["localhost"]).server(None)).await;
    issuer.always(Reply::text(KEYS).into());
    let by = |ca: &Authority| {
        json!({"uri": format!("https://localhost:{}/keys", issuer.address().port()),
            "caCertificates": {"inline": ca.pem()}})
    };
    let (trusts, _backend) = gateway(by(&ours)).await;
    assert_eq!(ask(&trusts).await.status, 200);
    let (does_not, _backend) = gateway(by(&other)).await;
    assert_eq!(ask(&does_not).await.reason(), Some("keys_unavailable"));
    assert_eq!(issuer.counts().requests, 1);
}

#[tokio::test]
async fn keys_are_rotated_when_a_token_names_a_new_one_and_a_storm_of_those_is_one_question() {
    let issuer = FaultBackend::start().await;
    issuer.always(Reply::text(OTHERS).into());
    let (gateway, _backend) = gateway(at(&issuer)).await;
    for _ in 0..100 {
        assert_eq!(ask(&gateway).await.reason(), Some("unauthenticated"));
    }
    let asked = issuer.counts().requests;
    assert!(asked <= 2, "{asked}");
    issuer.always(Reply::text(KEYS).into());
    until(&gateway, 200).await;
}

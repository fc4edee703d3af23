use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tidegate_cluster::ClusterArgs;
use tidegate_cluster::identity::CaSecret;
use tidegate_control_plane::identity::MaterialStore as _;
use tidegate_identity::dial::ByTls;
use tidegate_identity::request::KeyRequest;
use tidegate_identity::tls::FixedRoots;
use tidegate_identity::{Credentials, Held, Material, TrustDomain};
use tidegate_xds::ca::{IstioCertificateRequest, IstioCertificateServiceClient};
use tidegate_xds::client::dial::Dial;
use tidegate_xds::client::grpc;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::{Code, Request, Status};

use crate::api::{Api, PATIENCE};
use crate::objects::cluster;
use crate::support::{flags, plane};

const SECRET: &str = "tidegate-ca";

fn signing() -> ClusterArgs {
    ClusterArgs { ca_secret: Some(SECRET.to_owned()), webhook: None, ..flags() }
}

fn domain() -> TrustDomain {
    TrustDomain::DEFAULT.parse().unwrap()
}

/// A token of `name` that runs out in so many seconds, which the API knows if it is to.
fn token(api: &Api, name: &str, seconds: i64, status: Option<Value>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": name, "exp": now.saturating_add_signed(seconds) });
    let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
    if let Some(status) = status {
        api.with(|state| state.tokens.insert(token.clone(), status));
    }
    token
}

fn of(username: &str) -> Option<Value> {
    let user = json!({ "username": username, "uid": "u" });
    Some(json!({ "authenticated": true, "user": user, "audiences": ["tidegate"] }))
}

/// The name that was signed, and the root that it leads to.
async fn ask(plane: SocketAddr, token: &str) -> Result<(String, String), Status> {
    ask_by(grpc::endpoint(format!("http://{plane}")).unwrap(), token).await
}

async fn ask_by(dial: Dial, token: &str) -> Result<(String, String), Status> {
    let key = KeyRequest::new().unwrap();
    let asked = IstioCertificateRequest { csr: key.csr.clone(), ..Default::default() };
    let mut request = Request::new(asked);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let channel = dial.connect().await.unwrap();
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner();
    let held = Arc::new(Held::new(domain()));
    let read = Credentials::read(&answer.cert_chain, &answer.trust_bundle, key.key(), &held).unwrap();
    Ok((read.id.to_string(), answer.trust_bundle.concat()))
}

fn secret(material: &Material) -> Value {
    let data: serde_json::Map<_, _> =
        material.0.iter().map(|(name, bytes)| (name.clone(), json!(BASE64_STANDARD.encode(bytes)))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRET, "namespace": "mesh" }, "data": data,
    })
}

fn reviews(api: &Api) -> usize {
    api.requests(|seen| seen.path.ends_with("/tokenreviews")).len()
}

#[tokio::test]
async fn two_replicas_agree_on_a_root_and_know_workloads_by_their_tokens() {
    let api = Api::start(cluster()).await;
    let flags = signing();
    let (first, second) = tokio::join!(plane(&api, &flags), plane(&api, &flags));
    let web = token(&api, "web", 3600, of("system:serviceaccount:shop:web"));
    let (id, root) = ask(first.running.grpc, &web).await.unwrap();
    assert_eq!(id, "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(ask(second.running.grpc, &web).await.unwrap(), (id.clone(), root.clone()));
    // As a sidecar comes: by TLS, and with nothing but the root to know the control plane by.
    let nobody = Arc::new(Held::new(domain()));
    let by_tls = ByTls::new(&nobody, Some(FixedRoots::read(root.as_bytes()).unwrap()));
    let dial = grpc::endpoint(format!("http://{}", second.running.grpc)).unwrap();
    let dial = dial.secured(Arc::new(by_tls)).unwrap();
    assert_eq!(ask_by(dial, &web).await.unwrap(), (id, root));
    let written = api.get("Secret", "mesh", SECRET).unwrap();
    assert!(written["data"]["ca-key.pem"].is_string() && written["data"]["root-cert.pem"].is_string());
    let asked = &api.requests(|seen| seen.path.ends_with("/tokenreviews"))[0].body["spec"];
    assert_eq!(asked["audiences"], json!(["tidegate"]));
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn who_is_nobody_gets_nothing_and_who_cannot_be_asked_about_is_told_to_try_again() {
    let api = Api::start(cluster()).await;
    let plane = plane(&api, &signing()).await;
    let grpc = plane.running.grpc;
    let code = async |token: String| ask(grpc, &token).await.map_err(|status| status.code()).unwrap_err();
    assert_eq!(code(token(&api, "unheard-of", 3600, None)).await, Code::Unauthenticated);
    assert_eq!(code(token(&api, "person", 3600, of("jane"))).await, Code::Unauthenticated);
    let own = of("system:serviceaccount:tidegate-system:tidegate");
    assert_eq!(code(token(&api, "own", 3600, own)).await, Code::Unauthenticated);
    let mut other = of("system:serviceaccount:shop:web").unwrap();
    other["audiences"] = json!(["https://kubernetes.default.svc"]);
    assert_eq!(code(token(&api, "other", 3600, Some(other))).await, Code::Unauthenticated);
    let asked = reviews(&api);
    assert_eq!(code(String::from("tidegate-join-0000")).await, Code::Unauthenticated);
    assert_eq!(reviews(&api), asked, "the API is not asked about what is no token of its");

    let web = token(&api, "web", 3600, of("system:serviceaccount:shop:web"));
    ask(grpc, &web).await.unwrap();
    let asked = reviews(&api);
    api.go_away();
    ask(grpc, &web).await.unwrap();
    assert_eq!(reviews(&api), asked, "what was said a moment ago holds");
    let late = token(&api, "late", 3600, of("system:serviceaccount:shop:late"));
    let refusal = ask(grpc, &late).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert!(refusal.message().contains("try again"), "{refusal}");
    api.come_back();
    ask(grpc, &late).await.unwrap();
    plane.shutdown().await;
}

#[tokio::test]
async fn nothing_is_remembered_of_a_token_for_longer_than_it_holds() {
    let api = Api::start(cluster()).await;
    let plane = plane(&api, &signing()).await;
    // The API allows for clocks that are apart; we remember nothing of it.
    let over = token(&api, "web", -5, of("system:serviceaccount:shop:web"));
    ask(plane.running.grpc, &over).await.unwrap();
    ask(plane.running.grpc, &over).await.unwrap();
    assert_eq!(reviews(&api), 2);
    plane.shutdown().await;
}

#[tokio::test]
async fn a_root_that_was_brought_is_used_one_that_changes_is_followed_and_one_that_is_lost_is_put_back() {
    let api = Api::start(cluster()).await;
    let brought = Material::generate(&domain(), SystemTime::now()).unwrap();
    api.put(secret(&brought));
    let plane = plane(&api, &signing()).await;
    let web = token(&api, "web", 3600, of("system:serviceaccount:shop:web"));
    let root = |material: &Material| String::from_utf8(material.0["root-cert.pem"].clone()).unwrap();
    assert_eq!(ask(plane.running.grpc, &web).await.unwrap().1.trim(), root(&brought).trim());

    let next = Material::generate(&domain(), SystemTime::now() - Duration::from_secs(60)).unwrap();
    api.put(secret(&next));
    let followed = async {
        while ask(plane.running.grpc, &web).await.unwrap().1.trim() != root(&next).trim() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("never followed");

    api.put(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRET, "namespace": "mesh" },
        "data": { "ca-cert.pem": "bm90aGluZw==", "ca-key.pem": "bm90aGluZw==", "root-cert.pem": "bm90aGluZw==" },
    }));
    api.delete("Secret", "mesh", SECRET);
    let back = api.until_object(("Secret", "mesh", SECRET), |object| object["data"].is_object()).await;
    assert_eq!(back["data"], secret(&next)["data"]);
    assert_eq!(ask(plane.running.grpc, &web).await.unwrap().1.trim(), root(&next).trim());
    plane.shutdown().await;
}

#[tokio::test]
async fn whoever_is_first_makes_the_root_and_nobody_writes_over_it() {
    let api = Api::start(cluster()).await;
    let [first, second] = [0, 1].map(|_| Material::generate(&domain(), SystemTime::now()).unwrap());
    for (before, wanted) in [(None, &first), (Some(Material::default()), &first)] {
        if let Some(before) = before {
            api.put(secret(&before));
        }
        let stores = [0, 1].map(|_| {
            let roots = watch::Sender::new(None);
            CaSecret::new(api.client(), ("mesh", SECRET), Duration::ZERO, Handle::current(), roots)
        });
        let (one, other) = (first.clone(), second.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let [fast, slow] = stores;
            assert!(fast.load().unwrap().is_empty() && slow.load().unwrap().is_empty());
            fast.save(&one).unwrap();
            slow.save(&other).unwrap();
            [fast.load().unwrap(), slow.load().unwrap()]
        });
        assert_eq!(loaded.await.unwrap(), [wanted.clone(), wanted.clone()]);
    }
}

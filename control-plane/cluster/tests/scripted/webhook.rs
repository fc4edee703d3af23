use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::core::response::StatusSummary;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::api::Api;
use crate::objects::{cluster, limit};
use crate::support::{flags, plane};
use tidegate_cluster::ClusterArgs;

fn configuration() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "tidegate" },
        "webhooks": [{
            "name": "validate.tidegate.io",
            "clientConfig": { "service": { "name": "tidegate", "namespace": "mesh", "path": "/validate" } },
        }],
    })
}

fn bundle(object: &Value) -> Option<String> {
    use base64::Engine;
    let encoded = object["webhooks"][0]["clientConfig"]["caBundle"].as_str()?;
    String::from_utf8(base64::prelude::BASE64_STANDARD.decode(encoded).ok()?).ok()
}

/// Asks as an API server would that trusts this bundle and nothing else.
async fn ask(address: SocketAddr, bundle: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("tidegate.mesh.svc").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        http::Request::post(path).header("host", "tidegate.mesh.svc").body(Full::new(Bytes::from(body)));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn review(object: &Value) -> Vec<u8> {
    let request = json!({
        "uid": "u-1", "operation": "CREATE", "namespace": "shop", "name": object["metadata"]["name"],
        "kind": { "group": "tidegate.io", "version": "v1alpha1", "kind": object["kind"] }, "object": object,
    });
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn the_api_server_trusts_what_it_is_told_to_and_gets_its_answers() {
    let api = Api::start(cluster()).await;
    api.put(configuration());
    let plane = plane(&api, &flags()).await;
    let key = ("ValidatingWebhookConfiguration", "", "tidegate");
    let trusted = bundle(&api.until_object(key, |object| bundle(object).is_some()).await).unwrap();
    let address = plane.webhook.unwrap();

    let (code, answer) = ask(address, &trusted, "/validate", review(&limit(5))).await;
    assert_eq!((code, &answer["response"]["allowed"]), (200, &json!(true)));
    let (_, answer) = ask(address, &trusted, "/validate", review(&limit("many"))).await;
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.limits[0].requests"), "{message}");
    let failure = serde_json::to_value(StatusSummary::Failure).unwrap();
    assert_eq!(answer["response"]["status"]["status"], failure);
    let (code, answer) = ask(address, &trusted, "/inject", review(&limit(5))).await;
    assert_eq!((code, answer["response"].clone()), (200, json!({ "uid": "u-1", "allowed": true })));
    assert_eq!(ask(address, &trusted, "/validate", b"nonsense".to_vec()).await.0, 400);
    assert_eq!(ask(address, &trusted, "/validate", vec![b' '; 9 << 20]).await.0, 413);
    assert_eq!(ask(address, &trusted, "/other", Vec::new()).await.0, 404);
    plane.shutdown().await;
}

fn pod_review(namespace: &str) -> Vec<u8> {
    let pod =
        json!({ "metadata": { "generateName": "web-" }, "spec": { "containers": [{ "name": "app" }] } });
    let request = json!({
        "uid": "u-2", "operation": "CREATE", "namespace": namespace,
        "kind": { "group": "", "version": "v1", "kind": "Pod" }, "object": pod,
    });
    json!({ "request": request }).to_string().into_bytes()
}

fn patch(answer: &Value) -> Option<String> {
    use base64::Engine;
    let encoded = answer["response"]["patch"].as_str()?;
    String::from_utf8(base64::prelude::BASE64_STANDARD.decode(encoded).ok()?).ok()
}

#[tokio::test]
async fn pods_of_labelled_namespaces_get_a_sidecar_that_knows_the_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("injection.json");
    let text = r#"{"proxyImage": "p:1", "controlPlane": "https://tidegate.mesh.svc:15010"}"#;
    std::fs::write(&settings, text).unwrap();
    let api = Api::start(cluster()).await;
    api.put(configuration());
    let namespace = |name: &str, labels: Value| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
    api.put(namespace("shop", json!({ "tidegate.io/inject": "enabled" })));
    api.put(namespace("other", json!({})));
    let flags =
        ClusterArgs { injection: Some(settings.clone()), ca_secret: Some("tidegate-ca".into()), ..flags() };
    let plane = plane(&api, &flags).await;
    let key = ("ValidatingWebhookConfiguration", "", "tidegate");
    let trusted = bundle(&api.until_object(key, |object| bundle(object).is_some()).await).unwrap();
    let address = plane.webhook.unwrap();

    let (code, answer) = ask(address, &trusted, "/inject", pod_review("shop")).await;
    let added = patch(&answer).unwrap_or_else(|| panic!("{code}: {answer}"));
    let root = api.get("Secret", "mesh", "tidegate-ca").unwrap()["data"]["root-cert.pem"].clone();
    let root = {
        use base64::Engine;
        let pem = base64::prelude::BASE64_STANDARD.decode(root.as_str().unwrap()).unwrap();
        json!(String::from_utf8(pem).unwrap()).to_string()
    };
    assert!(added.contains("\"p:1\"") && added.contains("--wait-for-identity"), "{added}");
    assert!(added.contains(root.trim_matches('"').trim_end_matches("\\n")), "{added}");
    let (code, answer) = ask(address, &trusted, "/inject", pod_review("other")).await;
    assert_eq!((code, &answer["response"]), (200, &json!({ "uid": "u-2", "allowed": true })));
    // Labelled a moment ago: the listing may not know of it, the API does.
    api.put(namespace("other", json!({ "tidegate.io/inject": "enabled" })));
    assert!(patch(&ask(address, &trusted, "/inject", pod_review("other")).await.1).is_some());

    api.go_away();
    let (code, _) = ask(address, &trusted, "/inject", pod_review("shop")).await;
    assert_eq!(code, 200, "what is known needs no API");
    let (code, _) = ask(address, &trusted, "/inject", pod_review("unheard-of")).await;
    assert_eq!(code, 503, "its failurePolicy says what becomes of a pod that nobody can judge");
    plane.shutdown().await;
}

#[tokio::test]
async fn every_replica_serves_the_same_certificate_and_a_bundle_that_was_lost_is_set_again() {
    let api = Api::start(cluster()).await;
    api.put(configuration());
    let first = plane(&api, &flags()).await;
    let second = plane(&api, &flags()).await;
    let key = ("ValidatingWebhookConfiguration", "", "tidegate");
    let trusted = bundle(&api.until_object(key, |object| bundle(object).is_some()).await).unwrap();
    for plane in [&first, &second] {
        let (code, _) = ask(plane.webhook.unwrap(), &trusted, "/validate", review(&limit(5))).await;
        assert_eq!(code, 200);
    }
    let secrets = api.requests(|r| r.method == "POST" && r.path == "/api/v1/namespaces/mesh/secrets");
    assert!(!secrets.is_empty());
    first.shutdown().await;
    // Applied again without a bundle while nobody leads: whoever is next sets it.
    api.put(configuration());
    let again = bundle(&api.until_object(key, |object| bundle(object).is_some()).await).unwrap();
    assert_eq!(again, trusted);
    second.shutdown().await;
}

use std::sync::Arc;
use std::time::Duration;

use http::{Request as HttpRequest, header};
use kube::api::PostParams;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tidegate_identity::request::KeyRequest;
use tidegate_identity::{Credentials, Held, TrustDomain};
use tidegate_xds::ca::{IstioCertificateRequest, IstioCertificateServiceClient};
use tidegate_xds::client::grpc;
use tonic::{Code, Request, Status};

use crate::api::PATIENCE;
use crate::{ANY, Cluster, cluster_with};

impl Cluster {
    /// As the kubelet asks for one that it projects.
    async fn token(&self, account: &str, audience: &str) -> String {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "audiences": [audience], "expirationSeconds": 600 },
        });
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", self.namespace);
        let request = HttpRequest::post(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(review.to_string().into_bytes()).unwrap();
        let answer: Value = self.client.request(request).await.unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    async fn put_account(&self, name: &str) {
        let metadata = json!({ "name": name, "namespace": self.namespace });
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
        self.put(account).await.unwrap();
    }
}

async fn ask(plane: std::net::SocketAddr, token: &str) -> Result<(String, String), Status> {
    let key = KeyRequest::new().unwrap();
    let asked = IstioCertificateRequest { csr: key.csr.clone(), ..Default::default() };
    let mut request = Request::new(asked);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let channel = grpc::endpoint(format!("http://{plane}")).unwrap().connect().await.unwrap();
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner();
    let held = Arc::new(Held::new(TrustDomain::DEFAULT.parse().unwrap()));
    let read = Credentials::read(&answer.cert_chain, &answer.trust_bundle, key.key(), &held).unwrap();
    Ok((read.id.to_string(), answer.trust_bundle.concat()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: KUBECONFIG"]
async fn a_service_account_gets_its_name_by_its_token_from_every_replica() {
    let Some(cluster) = cluster_with("identity", &[]).await else { return };
    cluster.put_account("web").await;
    let sign = |flags: &mut tidegate_cluster::ClusterArgs| flags.ca_secret = Some("tidegate-ca".into());
    let (first, second) = tokio::join!(cluster.plane_as(None, sign), cluster.plane_as(None, sign));
    let token = cluster.token("web", "tidegate").await;
    let (id, root) = ask(first.running.grpc, &token).await.unwrap();
    assert_eq!(id, format!("spiffe://cluster.local/ns/{}/sa/web", cluster.namespace));
    assert_eq!(ask(second.running.grpc, &token).await.unwrap(), (id, root));
    let other = cluster.token("web", "https://elsewhere.example").await;
    assert_eq!(ask(first.running.grpc, &other).await.unwrap_err().code(), Code::Unauthenticated);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    assert_eq!(ask(first.running.grpc, &forged).await.unwrap_err().code(), Code::Unauthenticated);
    first.shutdown().await;
    second.shutdown().await;
    cluster.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: KUBECONFIG"]
async fn a_pod_of_a_labelled_namespace_has_a_sidecar_that_the_api_server_takes() {
    let Some(cluster) = cluster_with("inject", &[]).await else { return };
    cluster.put_account("default").await;
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("injection.json");
    std::fs::write(&settings, r#"{"controlPlane": "https://tidegate.mesh.svc:15010"}"#).unwrap();
    let plane = cluster
        .plane_as(Some(ANY), |flags| {
            flags.ca_secret = Some("tidegate-ca".into());
            flags.injection = Some(settings.clone());
        })
        .await;
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": cluster.namespace },
        "webhooks": [{
            "name": "inject.tidegate.io",
            "clientConfig": { "url": format!("https://localhost:{}/inject", plane.webhook.unwrap().port()) },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": cluster.namespace } },
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
        }],
    });
    cluster.put(configuration).await.unwrap();
    let key = ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", &*cluster.namespace);
    cluster.until(key, |object| object["webhooks"][0]["clientConfig"]["caBundle"].is_string()).await;
    // The API server takes a moment to see a new configuration; the namespace is labelled meanwhile.
    let labels = json!({ "tidegate.io/inject": "enabled" });
    let metadata = json!({ "name": cluster.namespace, "labels": labels });
    cluster.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })).await.unwrap();
    let pods = cluster.api("v1", "Pod");
    let wait = async {
        for n in 0.. {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": format!("web-{n}"), "namespace": cluster.namespace },
                "spec": { "containers": [{ "name": "app", "image": "web:1", "ports": [{ "containerPort": 80 }] }] },
            });
            let pod: DynamicObject = serde_json::from_value(pod).unwrap();
            match pods.create(&PostParams::default(), &pod).await {
                Ok(made) if made.data["spec"]["initContainers"].is_array() => return made,
                Ok(_) => {}
                Err(error) => assert!(error.to_string().contains("failed calling webhook"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("it goes on for ever")
    };
    let made = tokio::time::timeout(PATIENCE, wait).await.expect("no sidecar came");
    let names: Vec<_> =
        made.data["spec"]["initContainers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["tidegate-init", "tidegate-proxy"]);
    assert_eq!(made.data["spec"]["initContainers"][1]["restartPolicy"], "Always");
    let root = &made.metadata.annotations.unwrap()["tidegate.io/trust-root"];
    assert!(root.contains("BEGIN CERTIFICATE"), "{root}");
    plane.shutdown().await;
    cluster.clean_up().await;
}

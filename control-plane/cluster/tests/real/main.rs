//! A control plane at a real API server. Ignored unless asked for: `KUBECONFIG=… cargo test --test real -- --ignored`.
//!
//! The cluster needs the Gateway API's CRDs and ours, no nodes. Everything is made in a namespace of its own, and taken
//! away at the end.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "whoever runs it must see that it was skipped")]

/// Only ends a test that would never end by itself.
mod api {
    pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
}
mod identity;
mod pods;
#[path = "../scripted/proxy.rs"]
mod proxy;

use std::net::SocketAddr;
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidegate_cluster::leader::Terms;
use tidegate_cluster::source::Timing;
use tidegate_cluster::{ClusterArgs, Options, Started, start};
use tidegate_control_plane::{ControlPlaneArgs, ControllerArgs, QuotaArgs};
use tokio_util::sync::CancellationToken;

use api::PATIENCE;
use proxy::Proxy;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Cluster {
    client: Client,
    namespace: String,
}

/// `None`, with a word about it, where there is no cluster to test against.
async fn cluster(test: &str) -> Option<Cluster> {
    cluster_with(test, &["gateway.networking.k8s.io/v1", "tidegate.io/v1alpha1"]).await
}

/// One that serves these; the mesh's kinds are not always needed.
async fn cluster_with(test: &str, groups: &[&str]) -> Option<Cluster> {
    if std::env::var_os("KUBECONFIG").is_none() {
        eprintln!("skipped: KUBECONFIG is not set");
        return None;
    }
    let filter = tracing_subscriber::EnvFilter::from_env("TIDEGATE_LOG");
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let client = tidegate_cluster::app::client().await.unwrap();
    for needed in groups {
        if client.list_api_group_resources(needed).await.is_err() {
            eprintln!("skipped: this cluster does not serve {needed}");
            return None;
        }
    }
    let unique = fastrand::Rng::with_seed(std::process::id().into()).u32(..);
    let namespace = format!("tidegate-{test}-{unique:x}");
    let cluster = Cluster { client, namespace: namespace.clone() };
    cluster
        .put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))
        .await
        .unwrap();
    Some(cluster)
}

impl Cluster {
    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let lower = kind.to_lowercase();
        let plural = match lower.strip_suffix('y') {
            Some(stem) if lower != "gateway" => format!("{stem}ies"),
            _ => format!("{lower}s"),
        };
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural,
        };
        match kind {
            "Namespace" | "Node" | "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
                Api::all_with(self.client.clone(), &resource)
            }
            _ => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        }
    }

    async fn put(&self, object: Value) -> Result<DynamicObject, kube::Error> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let api = self.api(&text("/apiVersion"), &text("/kind"));
        let params = PatchParams::apply("tidegate-test").force();
        api.patch(&text("/metadata/name"), &params, &Patch::Apply(&object)).await
    }

    /// Waits for an object that is as wanted.
    async fn until(
        &self,
        (api_version, kind, name): (&str, &str, &str),
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let api = self.api(api_version, kind);
        let mut last = Value::Null;
        let wait = async {
            loop {
                if let Some(object) = api.get_opt(name).await.unwrap() {
                    last = object.data;
                    if wanted(&last) {
                        return last.clone();
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await;
        done.unwrap_or_else(|_| panic!("{kind} {name} never was as wanted: {last:#}"))
    }

    async fn plane(&self, webhook: Option<SocketAddr>) -> Started {
        self.plane_as(webhook, |_| {}).await
    }

    async fn plane_as(&self, webhook: Option<SocketAddr>, change: impl FnOnce(&mut ClusterArgs)) -> Started {
        let args = ControlPlaneArgs {
            policies: None,
            listen: ANY,
            admin: ANY,
            classes: ControllerArgs {
                // Another control plane may be at work here.
                controller_name: format!("test.tidegate.io/{}", self.namespace),
                gateway_class: self.namespace.clone(),
                apart: false,
            },
            status_file: None,
            quota: QuotaArgs::default(),
            identity: tidegate_control_plane::IdentityArgs::default(),
            is_first: true,
        };
        let mut flags = ClusterArgs {
            kubernetes: true,
            namespace: self.namespace.clone(),
            service: String::from("tidegate"),
            webhook,
            webhook_secret: String::from("tidegate-webhook"),
            webhook_configuration: self.namespace.clone(),
            webhook_hosts: vec![String::from("localhost")],
            leader_lease: String::from("tidegate-leader"),
            identity: None,
            gateway_image: None,
            injection: None,
            ca_secret: None,
            token_audience: String::from("tidegate"),
        };
        change(&mut flags);
        let terms = Terms {
            lease: Duration::from_secs(6),
            deadline: Duration::from_secs(4),
            retry: Duration::from_millis(250),
        };
        let options = Options { client: self.client.clone(), timing: Timing::default(), terms, mutate: None };
        start(&args, &flags, options, CancellationToken::new()).await.unwrap()
    }

    async fn clean_up(self) {
        for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
            let webhooks = self.api("admissionregistration.k8s.io/v1", kind);
            let _ = webhooks.delete(&self.namespace, &DeleteParams::default()).await;
        }
        let _ = self.api("v1", "Namespace").delete(&self.namespace, &DeleteParams::default()).await;
    }

    fn limit(&self, name: &str, when: Option<&str>) -> Value {
        let mut policy = json!({
            "apiVersion": "tidegate.io/v1alpha1", "kind": "RateLimitPolicy",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": {
                "targetRefs": [{ "kind": "Service", "name": "web" }],
                "limits": [{ "name": "all", "requests": 5, "per": "1s" }],
            },
        });
        if let Some(when) = when {
            policy["spec"]["when"] = json!(when);
        }
        policy
    }

    async fn put_mesh(&self) {
        let namespace = &self.namespace;
        let gateway_api = "gateway.networking.k8s.io/v1";
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": namespace },
            "spec": { "ports": [{ "port": 80, "protocol": "TCP" }] },
        });
        let gateway = json!({
            "apiVersion": gateway_api, "kind": "Gateway", "metadata": { "name": "edge", "namespace": namespace },
            "spec": { "gatewayClassName": namespace, "listeners": [{
                "name": "https", "port": 443, "protocol": "HTTPS",
                "tls": { "mode": "Terminate", "certificateRefs": [{ "kind": "Secret", "name": "tls" }] },
            }] },
        });
        let route = json!({
            "apiVersion": gateway_api, "kind": "HTTPRoute", "metadata": { "name": "web", "namespace": namespace },
            "spec": {
                "parentRefs": [{ "name": "edge" }],
                "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }],
            },
        });
        for object in [service, gateway, route, self.limit("per-user", None)] {
            self.put(object).await.unwrap();
        }
    }
}

fn condition(conditions: &Value, kind: &str) -> Value {
    let found = conditions.as_array().into_iter().flatten().find(|c| c["type"] == kind);
    found.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: KUBECONFIG"]
async fn what_is_applied_is_served_and_told_and_what_is_wrong_is_refused_at_the_door() {
    let Some(cluster) = cluster("whole").await else { return };
    cluster.put_mesh().await;
    let plane = cluster.plane(Some(ANY)).await;
    let policy = ("tidegate.io/v1alpha1", "RateLimitPolicy", "per-user");
    // Other controllers have their say beside ours.
    let controller = format!("test.tidegate.io/{}", cluster.namespace);
    let own = |object: &Value, list: &str, kind: &str| {
        let entries = object["status"][list].as_array().into_iter().flatten();
        let ours = entries.clone().find(|entry| entry["controllerName"] == *controller);
        condition(&ours.cloned().unwrap_or_default()["conditions"], kind)
    };
    let of = |object: &Value, kind: &str| own(object, "ancestors", kind);
    cluster.until(policy, |object| of(object, "Accepted")["status"] == "True").await;

    // A proxy gets it, and that is told.
    let mut proxy = Proxy::connect(plane.running.grpc, "p1", "sidecar");
    let named = format!("RateLimitPolicy/{}/per-user", cluster.namespace);
    proxy.until(|told| told.contains_key(&named)).await;
    let run = "1/1 proxies run it";
    cluster.until(policy, |object| of(object, "Programmed")["message"] == run).await;

    // A route is accepted; its Gateway waits for a Secret, and has it once it is there.
    let route = ("gateway.networking.k8s.io/v1", "HTTPRoute", "web");
    let accepted = |o: &Value| own(o, "parents", "Accepted");
    cluster.until(route, |object| accepted(object)["reason"].is_string()).await;
    let gateway = ("gateway.networking.k8s.io/v1", "Gateway", "edge");
    let resolved = |o: &Value| condition(&o["status"]["listeners"][0]["conditions"], "ResolvedRefs");
    cluster.until(gateway, |object| resolved(object)["reason"] == "InvalidCertificateRef").await;
    let key = rcgen::generate_simple_self_signed(vec![String::from("shop.example")]).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "tls", "namespace": cluster.namespace },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": key.cert.pem(), "tls.key": key.signing_key.serialize_pem() },
    });
    cluster.put(secret).await.unwrap();
    cluster.until(gateway, |object| resolved(object)["status"] == "True").await;
    cluster.until(route, |object| accepted(object)["status"] == "True").await;

    refuses_at_the_door(&cluster, plane.webhook.unwrap()).await;

    let policies = cluster.api(policy.0, policy.1);
    policies.delete("per-user", &DeleteParams::default()).await.unwrap();
    proxy.until(|told| !told.contains_key(&named)).await;
    plane.shutdown().await;
    cluster.clean_up().await;
}

/// The API server asks our webhook, over TLS that it trusts by the bundle that we have set.
async fn refuses_at_the_door(cluster: &Cluster, webhook: SocketAddr) {
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": cluster.namespace },
        "webhooks": [{
            "name": "validate.tidegate.io",
            "clientConfig": { "url": format!("https://localhost:{}/validate", webhook.port()) },
            "rules": [{
                "apiGroups": ["tidegate.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                "resources": ["*"], "scope": "*",
            }],
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": cluster.namespace } },
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
        }],
    });
    cluster.put(configuration).await.unwrap();
    let key = ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", &*cluster.namespace);
    cluster.until(key, |object| object["webhooks"][0]["clientConfig"]["caBundle"].is_string()).await;
    let policies = cluster.api("tidegate.io/v1alpha1", "RateLimitPolicy");
    let create = |object: Value| {
        let policies = policies.clone();
        async move {
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            policies.create(&PostParams::default(), &object).await
        }
    };
    // The API server takes a moment to see a new configuration.
    let wait = async {
        loop {
            match create(cluster.limit("wrong", Some("request.nope == 1"))).await {
                Err(error) => return error.to_string(),
                Ok(_) => drop(policies.delete("wrong", &DeleteParams::default()).await),
            }
        }
    };
    let refusal = tokio::time::timeout(PATIENCE, wait).await.unwrap();
    let expected = format!("RateLimitPolicy/{}/wrong: error: spec.when", cluster.namespace);
    assert!(refusal.contains("denied the request") && refusal.contains(&expected), "{refusal}");
    create(cluster.limit("right", Some("request.path == '/a'"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: KUBECONFIG"]
async fn of_two_replicas_one_leads_and_the_other_takes_over() {
    let Some(cluster) = cluster("leader").await else { return };
    let mut first = cluster.plane(None).await;
    first.leads.wait_for(|leads| *leads).await.unwrap();
    let mut second = cluster.plane(None).await;
    assert!(!*second.leads.borrow());
    first.shutdown().await;
    second.leads.wait_for(|leads| *leads).await.unwrap();
    cluster.put_mesh().await;
    let policy = ("tidegate.io/v1alpha1", "RateLimitPolicy", "per-user");
    cluster.until(policy, |object| object["status"]["ancestors"].is_array()).await;
    second.shutdown().await;
    cluster.clean_up().await;
}

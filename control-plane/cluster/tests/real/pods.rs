//! Pods that come with a sidecar, and go: what their callers and their sidecars are told, by the API server's own controllers.

use std::net::SocketAddr;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tidegate_cluster::Started;
use tidegate_control_plane::publish::{Role, Scope};
use tidegate_policy::codec;
use tidegate_policy::model::{Address, Resource, ResourceName, ResourceType};

use crate::api::PATIENCE;
use crate::{Cluster, cluster_with};

impl Cluster {
    /// A pod of `web` that runs as far as anybody can see.
    async fn pod(&self, name: &str, ip: &str, sidecar: bool) {
        let mut metadata = json!({ "name": name, "namespace": self.namespace, "labels": { "app": "web" } });
        if sidecar {
            metadata["labels"]["tidegate.io/injected"] = json!("true");
            metadata["annotations"] = json!({ "tidegate.io/mesh-ports": "8080" });
        }
        let spec = json!({ "nodeName": self.namespace, "containers": [{ "name": "app", "image": "app:1" }] });
        self.put(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }))
            .await
            .unwrap();
        let status = json!({ "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        } });
        let pods = self.api("v1", "Pod");
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    async fn kill(&self, name: &str) {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.api("v1", "Pod").delete(name, &now).await.unwrap();
    }
}

/// Each endpoint of `web`, and whose identity it must have.
fn endpoints(plane: &Started, namespace: &str) -> Vec<(SocketAddr, Vec<String>)> {
    let published = plane.running.world().borrow().published.clone();
    let set = published.view(&Scope::whole(Role::Sidecar));
    let name = format!("{namespace}/web:80");
    let Some(found) = set.get(ResourceType::Endpoints.type_url(), &name) else { return Vec::new() };
    let Ok(Resource::Endpoints(found)) = codec::decode(ResourceType::Endpoints, &name, &found.body.value)
    else {
        panic!("not to be read");
    };
    let known = found.endpoints.into_iter().filter_map(|endpoint| match endpoint.address {
        Address::Socket(address) => {
            let accounts = endpoint.mesh.into_iter().flat_map(|peer| peer.service_accounts);
            Some((address, accounts.map(|account| account.to_string()).collect()))
        }
        Address::Name { .. } => None,
    });
    known.collect()
}

async fn until(plane: &Started, namespace: &str, wanted: &[(&str, &[String])]) {
    let wanted: Vec<(SocketAddr, Vec<String>)> =
        wanted.iter().map(|(address, accounts)| (address.parse().unwrap(), accounts.to_vec())).collect();
    let mut worlds = plane.running.world();
    let done =
        tokio::time::timeout(PATIENCE, worlds.wait_for(|_| endpoints(plane, namespace) == wanted)).await;
    drop(done.unwrap_or_else(|_| panic!("never {wanted:?}, but {:?}", endpoints(plane, namespace))).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: KUBECONFIG"]
async fn a_pod_with_a_sidecar_is_of_the_mesh_for_as_long_as_it_is_there_and_knows_what_it_serves() {
    let Some(cluster) = cluster_with("pods", &[]).await else { return };
    let namespace = cluster.namespace.clone();
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": namespace } });
    cluster.put(node).await.unwrap();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": namespace },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    cluster.put(service).await.unwrap();
    let plane = cluster.plane(None).await;
    let account = [format!("{namespace}/default")];
    cluster.pod("meshed", "10.9.0.1", true).await;
    until(&plane, &namespace, &[("10.9.0.1:8080", &account)]).await;
    cluster.pod("plain", "10.9.0.2", false).await;
    until(&plane, &namespace, &[("10.9.0.1:8080", &account), ("10.9.0.2:8080", &[])]).await;

    let pod = Scope::Sidecar { pod: Some(ResourceName::new(&*namespace, "meshed")), interest: None };
    let told = plane.running.world().borrow().published.view(&pod);
    let workload = told.of_type(ResourceType::Workload.type_url()).next().unwrap();
    let Ok(Resource::Workload(workload)) =
        codec::decode(ResourceType::Workload, workload.0, &workload.1.body.value)
    else {
        panic!("not to be read");
    };
    assert_eq!(workload.services, [ResourceName::new(&*namespace, "web")]);

    // Its successor has none, at the very same address: nobody calls that by mTLS.
    cluster.kill("meshed").await;
    until(&plane, &namespace, &[("10.9.0.2:8080", &[])]).await;
    cluster.pod("successor", "10.9.0.1", false).await;
    until(&plane, &namespace, &[("10.9.0.1:8080", &[]), ("10.9.0.2:8080", &[])]).await;
    for pod in ["plain", "successor"] {
        cluster.kill(pod).await;
    }
    let _ = cluster.api("v1", "Node").delete(&namespace, &DeleteParams::default()).await;
    plane.shutdown().await;
    cluster.clean_up().await;
}

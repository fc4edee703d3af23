//! Kubernetes v1 `Pod`, as far as the mesh asks: whose it is, which Services pick it, and whether a proxy stands before it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, Object, Spec, Written};

/// Written by injection, with commas between: calls of these ports of the pod come to its sidecar, which takes mTLS.
pub const MESH_PORTS: &str = "tidegate.io/mesh-ports";
/// The service account of a pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-ignored" = [
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "containers", "dnsConfig", "dnsPolicy",
    "enableServiceLinks", "ephemeralContainers", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers", "hostname",
    "hostnameOverride", "imagePullSecrets", "initContainers", "nodeName", "nodeSelector", "os", "overhead",
    "preemptionPolicy", "priority", "priorityClassName", "readinessGates", "resourceClaims", "resources", "restartPolicy",
    "runtimeClassName", "schedulerName", "schedulingGates", "securityContext", "serviceAccount", "setHostnameAsFQDN",
    "shareProcessNamespace", "subdomain", "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints",
    "volumes"
]))]
pub struct PodSpec {
    /// Whose identity the pod's sidecar has.
    pub service_account_name: Option<String>,
}

impl Written<PodSpec> {
    pub fn service_account(&self) -> &str {
        self.spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_ACCOUNT)
    }

    /// Whether calls of this port come to a sidecar.
    pub fn is_meshed_at(&self, port: u16) -> bool {
        self.mesh_ports().any(|meshed| meshed == Ok(port))
    }

    fn mesh_ports(&self) -> impl Iterator<Item = Result<u16, &str>> {
        let written = self.annotations.get(MESH_PORTS).map(String::as_str).unwrap_or_default();
        let parts = written.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().map_err(|_| part))
    }
}

impl Spec for PodSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        for wrong in object.mesh_ports().filter_map(Result::err) {
            faults.error(
                "",
                format!("annotation {MESH_PORTS}: `{wrong}` is no port: write 8080,9090 for example"),
            );
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::Pod(Box::new(object))
    }
}

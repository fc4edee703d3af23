//! Kubernetes v1 `Service`: the name and ports under which a workload is called.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, Object, Spec, Written};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
#[schemars(extend("x-ignored" = [
    "allocateLoadBalancerNodePorts", "clusterIPs", "externalIPs", "externalTrafficPolicy", "healthCheckNodePort",
    "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy", "loadBalancerClass", "loadBalancerIP",
    "loadBalancerSourceRanges", "publishNotReadyAddresses", "sessionAffinity", "sessionAffinityConfig",
    "trafficDistribution"
]))]
pub struct ServiceSpec {
    pub ports: Vec<ServicePort>,
    /// Of the pods; the mesh reads EndpointSlices instead.
    pub selector: BTreeMap<String, String>,
    /// An address, `None` (headless) or absent.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub external_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["nodePort"]))]
pub struct ServicePort {
    /// Optional where there is one port; EndpointSlice ports are found by it.
    #[serde(default)]
    pub name: String,
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Read by Kubernetes when it writes EndpointSlices; the mesh takes the slice's port.
    pub target_port: Option<IntOrString>,
    #[serde(default)]
    pub protocol: TransportProtocol,
    /// GEP-1911, e.g. `kubernetes.io/h2c`.
    pub app_protocol: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum IntOrString {
    Int(i32),
    String(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransportProtocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Spec for ServiceSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        let ports = &object.spec.ports;
        let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
        for (i, port) in ports.iter().enumerate() {
            let at = format!("/ports/{i}");
            if port.name.is_empty() && ports.len() > 1 {
                faults.error(&at, "a port needs a name where there are several");
            } else if !names.insert(&port.name) {
                faults.error(format!("{at}/name"), format!("another port is named `{}`", port.name));
            }
            if !numbers.insert((port.port, port.protocol)) {
                faults.error(format!("{at}/port"), format!("port {} is written twice", port.port));
            }
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::Service(Box::new(object))
    }
}

//! Kubernetes v1 `Service`: the name and ports under which a workload is called.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, Object, Spec, Written};

/// Annotation of a Service: as `proxyProtocol` of a Backend.
pub(crate) const PROXY_PROTOCOL: &str = "tidegate.io/proxy-protocol";
/// Of a Service, an EndpointSlice or a Backend: a proxy of the mesh stands before the endpoints, and is called by mTLS.
pub(crate) const MTLS: &str = "tidegate.io/mtls";
pub(crate) const MTLS_ENABLED: &str = "enabled";
/// Beside it: whose identity that proxy has, as `name` or `namespace/name`, several with commas. Of a Gateway: that of its
/// proxies, to whom alone its listeners are told.
pub const SERVICE_ACCOUNTS: &str = "tidegate.io/service-accounts";

/// As `clusterIP`: there is none.
const HEADLESS: &str = "None";

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
#[schemars(extend("x-ignored" = [
    "allocateLoadBalancerNodePorts", "externalIPs", "externalTrafficPolicy", "healthCheckNodePort",
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
    /// One address of each family; the first is `clusterIP`.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
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

impl ServiceSpec {
    /// Without an address of its own: a name for its endpoints.
    pub fn is_headless(&self) -> bool {
        self.written_ips().any(|ip| ip == HEADLESS)
    }

    /// Only another name for something elsewhere.
    pub fn is_external_name(&self) -> bool {
        self.kind.as_deref() == Some("ExternalName")
    }

    /// The addresses that stand for the Service as a whole.
    pub fn cluster_addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.written_ips().filter_map(|ip| ip.parse().ok()).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    fn written_ips(&self) -> impl Iterator<Item = &str> {
        let all = self.cluster_ip.iter().chain(&self.cluster_ips).map(String::as_str);
        all.filter(|ip| !ip.is_empty() && !self.is_external_name())
    }
}

impl Spec for ServiceSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        for ip in object.spec.written_ips().filter(|ip| *ip != HEADLESS && ip.parse::<IpAddr>().is_err()) {
            faults.error("/clusterIP", format!("`{ip}` is neither an IP address nor `{HEADLESS}`"));
        }
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

//! Kubernetes discovery.k8s.io/v1 `EndpointSlice`: the addresses behind a Service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::rules::is_dns_subdomain;
use super::{Faults, Object, Spec, TransportProtocol, Written};
use crate::model::ResourceName;

/// The label that says which Service a slice belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The parts of an EndpointSlice beside its metadata: the kind has no `spec`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSliceSpec {
    pub address_type: AddressType,
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub endpoints: Vec<SliceEndpoint>,
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub ports: Vec<SlicePort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AddressType {
    IPv4,
    IPv6,
    #[serde(rename = "FQDN")]
    Fqdn,
}

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["deprecatedTopology"]))]
pub struct SliceEndpoint {
    /// All addresses of one endpoint; consumers take the first.
    #[schemars(length(min = 1, max = 100))]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub conditions: EndpointConditions,
    pub hostname: Option<String>,
    pub node_name: Option<String>,
    /// Where it is: a LoadBalancingPolicy may prefer the caller's own zone.
    #[schemars(length(max = 253))]
    pub zone: Option<String>,
    pub hints: Option<EndpointHints>,
    /// What it is the address of.
    pub target_ref: Option<SliceTarget>,
}

/// The object behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-ignored" = ["apiVersion", "fieldPath", "resourceVersion", "uid"]))]
pub struct SliceTarget {
    pub kind: String,
    /// Default: that of the slice.
    pub namespace: Option<String>,
    pub name: String,
}

/// Whom an endpoint is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-ignored" = ["forNodes"]))]
pub struct EndpointHints {
    /// The zones whose clients are to call it.
    #[schemars(length(max = 8))]
    pub for_zones: Vec<ForZone>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ForZone {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointConditions {
    /// Absent means ready.
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct SlicePort {
    /// The name of the Service port it stands behind.
    pub name: String,
    /// Absent means all ports; such an entry cannot be balanced over.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    pub protocol: TransportProtocol,
    pub app_protocol: Option<String>,
}

impl Written<EndpointSliceSpec> {
    /// The name of the Service, in the slice's own namespace.
    pub fn service(&self) -> Option<&str> {
        self.labels.get(SERVICE_LABEL).map(String::as_str)
    }
}

impl SliceEndpoint {
    /// The pod behind it; `within`: the slice's namespace.
    pub fn pod(&self, within: &Arc<str>) -> Option<ResourceName> {
        let target = self.target_ref.as_ref().filter(|target| target.kind == "Pod")?;
        let namespace = target.namespace.as_deref().map_or_else(|| within.clone(), Arc::from);
        Some(ResourceName::new(namespace, target.name.as_str()))
    }

    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// Going away, and still answering: better than nothing (Kubernetes KEP-1669).
    pub fn is_last_resort(&self) -> bool {
        let EndpointConditions { serving, terminating, .. } = self.conditions;
        terminating == Some(true) && serving == Some(true)
    }
}

impl Spec for EndpointSliceSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        if object.service().is_none() {
            faults.warn("", format!("without the label `{SERVICE_LABEL}` it belongs to no Service"));
        }
        let (wanted, fits): (_, fn(&str) -> bool) = match object.spec.address_type {
            AddressType::IPv4 => ("an IPv4 address", |a| a.parse::<Ipv4Addr>().is_ok()),
            AddressType::IPv6 => ("an IPv6 address", |a| a.parse::<Ipv6Addr>().is_ok()),
            AddressType::Fqdn => {
                ("a DNS name", |a| is_dns_subdomain(&a.to_ascii_lowercase()) && a.parse::<IpAddr>().is_err())
            }
        };
        for (i, endpoint) in object.spec.endpoints.iter().enumerate() {
            for (j, address) in endpoint.addresses.iter().enumerate().filter(|(_, a)| !fits(a)) {
                faults.error(
                    format!("/endpoints/{i}/addresses/{j}"),
                    format!("`{address}` is not {wanted}, as addressType says"),
                );
            }
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::EndpointSlice(Box::new(object))
    }
}

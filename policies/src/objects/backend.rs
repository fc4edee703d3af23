//! tidegate.io/v1alpha1 `Backend`: addresses or DNS names to call, where there is no Service.

use std::collections::HashSet;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::rules::is_dns_subdomain;
use super::{Faults, GepDuration, Object, Spec, Written, one};
use crate::model::ProxyProtocol;

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendSpec {
    /// Where requests go: balanced over by weight and load.
    #[schemars(length(min = 1, max = 1000))]
    pub endpoints: Vec<BackendEndpoint>,
    /// The port under which routes refer to this Backend. Default: the first endpoint's port.
    #[serde(rename = "port")]
    #[schemars(range(min = 1, max = 65535))]
    port: Option<u16>,
    /// What the endpoints speak.
    #[serde(default)]
    pub protocol: BackendProtocol,
    /// How long one connection attempt may take.
    pub connect_timeout: Option<GepDuration>,
    /// Begin every connection with a PROXY protocol header of this version, which tells the endpoints the client's address.
    /// Those of one client are then shared with no other.
    pub proxy_protocol: Option<ProxyProtocol>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendEndpoint {
    /// An IP address, or a DNS name that is resolved when a connection is made.
    #[schemars(length(min = 1, max = 253))]
    pub address: String,
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Relative share of the traffic; 0 takes none.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
    /// Where it is: a LoadBalancingPolicy may prefer the caller's own zone.
    #[schemars(length(min = 1, max = 253))]
    pub zone: Option<String>,
    /// Endpoints of priority 0 are called first; those of the next only where too few of these are well.
    #[serde(default)]
    #[schemars(range(max = 127))]
    pub priority: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum BackendProtocol {
    #[default]
    HTTP1,
    /// HTTP/2 with prior knowledge.
    H2C,
}

impl BackendSpec {
    /// The port that routes name, written or not.
    pub fn port(&self) -> u16 {
        self.port.or_else(|| self.endpoints.first().map(|e| e.port)).unwrap_or(80)
    }
}

impl Spec for BackendSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        let mut seen = HashSet::new();
        for (i, endpoint) in object.spec.endpoints.iter().enumerate() {
            let address = &endpoint.address;
            let at = format!("/endpoints/{i}");
            if address.parse::<IpAddr>().is_err() && !is_dns_subdomain(&address.to_ascii_lowercase()) {
                faults.error_with_help(
                    format!("{at}/address"),
                    format!("`{address}` is neither an IP address nor a DNS name"),
                    "write the port in `port`, and no scheme or brackets",
                );
            }
            if !seen.insert((address, endpoint.port)) {
                faults.error(&at, format!("endpoint {address} port {} is written twice", endpoint.port));
            }
        }
        if object.spec.connect_timeout.is_some_and(|t| t.get().is_zero()) {
            faults.error("/connectTimeout", "must be longer than 0s; leave it out for the proxy's default");
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::Backend(Box::new(object))
    }
}

//! What runs for a Gateway of ours: a Deployment of proxies, a Service before it, a ServiceAccount for it (GEP-1762).
//!
//! Applied by the leader, owned by the Gateway: whoever deletes it deletes all of it.

mod keeper;
mod objects;

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tidegate_identity::TrustDomain;

use crate::args::ClusterArgs;
use crate::identity::Roots;
use crate::source::Store;

pub(crate) use keeper::keep;
pub use objects::objects;

/// What the proxies of Gateways have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub image: String,
    /// Where they find the control plane.
    pub control_plane: String,
    /// How they get a certificate there; `None` where nobody signs.
    pub identity: Option<ByToken>,
}

/// What a proxy asks for a certificate with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByToken {
    pub audience: String,
    pub trust_domain: String,
    /// What it knows the control plane by, in PEM.
    pub trust_root: Arc<str>,
}

impl Settings {
    /// `None` if no proxies are to be run for Gateways; `port` is where xDS is served.
    pub(crate) fn of(
        flags: &ClusterArgs,
        domain: Option<TrustDomain>,
        roots: &Roots,
        port: u16,
    ) -> Option<Self> {
        let image = flags.gateway_image.clone()?;
        let trust_root = flags.ca_secret.as_ref().and_then(|_| roots.borrow().clone());
        let identity = trust_root.zip(domain).map(|(trust_root, domain)| {
            let audience = flags.token_audience.clone();
            ByToken { audience, trust_domain: domain.as_str().to_owned(), trust_root }
        });
        let scheme = if identity.is_some() { "https" } else { "http" };
        let control_plane = format!("{scheme}://{}.{}.svc:{port}", flags.service, flags.namespace);
        Some(Self { image, control_plane, identity })
    }
}

/// As a Gateway's status tells where it is to be reached: by what its Service was given, else inside the cluster.
pub(crate) fn addresses(store: &Store, namespace: &str, gateway: &str) -> Json {
    let services = store.services_of(namespace, gateway);
    let mut found = Vec::new();
    for service in &services {
        for ingress in service.status["loadBalancer"]["ingress"].as_array().into_iter().flatten() {
            let ip = ingress["ip"].as_str().map(|ip| ("IPAddress", ip));
            let host = ingress["hostname"].as_str().map(|host| ("Hostname", host));
            found.extend(ip.or(host));
        }
    }
    if found.is_empty() {
        let inside = services.iter().flat_map(|s| s.status["clusterIPs"].as_array().into_iter().flatten());
        found.extend(inside.filter_map(Json::as_str).filter(|ip| *ip != "None").map(|ip| ("IPAddress", ip)));
    }
    found.into_iter().map(|(kind, value)| json!({ "type": kind, "value": value })).collect()
}

//! TLS of a Gateway as a whole: whose certificates its clients show, and the one it shows to backends (GEP-91, GEP-3155).

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::CertificateRef;
use crate::objects::Faults;
use crate::objects::rules::Reference;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTlsSpec {
    pub backend: Option<GatewayBackendTls>,
    pub frontend: Option<FrontendTls>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayBackendTls {
    /// Shown to every backend that is called by TLS.
    pub client_certificate_ref: Option<CertificateRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTls {
    /// For HTTPS listeners on ports that `perPort` does not name.
    pub default: FrontendConfig,
    /// Takes the place of `default` as a whole.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub per_port: Vec<FrontendPort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontendPort {
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    pub tls: FrontendConfig,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendConfig {
    /// Absent: clients are not asked for a certificate.
    pub validation: Option<FrontendValidation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontendValidation {
    /// Bundles of CA certificates that clients' certificates must lead to.
    #[serde(rename = "caCertificateRefs")]
    #[schemars(length(min = 1, max = 16))]
    pub ca_certificate_refs: Vec<ObjectRef>,
    #[serde(default)]
    pub mode: FrontendValidationMode,
}

/// An object, of the Gateway's own namespace unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FrontendValidationMode {
    /// Without a valid certificate there is no connection.
    #[default]
    AllowValidOnly,
    /// A certificate is asked for, and any or none will do.
    AllowInsecureFallback,
}

impl FrontendTls {
    /// How the clients of a port are judged; `None` where they are not.
    pub(crate) fn on_port(&self, port: u16) -> Option<&FrontendValidation> {
        let own = self.per_port.iter().find(|own| own.port == port);
        own.map_or(&self.default, |own| &own.tls).validation.as_ref()
    }
}

pub(super) fn check(tls: &GatewayTlsSpec, faults: &mut Faults) {
    let client = tls.backend.as_ref().and_then(|backend| backend.client_certificate_ref.as_ref());
    if let Some(client) = client {
        client.as_reference().check("/tls/backend/clientCertificateRef", faults);
    }
    if let Some(frontend) = &tls.frontend {
        check_config("/tls/frontend/default", &frontend.default, faults);
    }
    let mut ports = HashSet::new();
    let per_port = tls.frontend.iter().flat_map(|frontend| &frontend.per_port);
    for (i, FrontendPort { port, tls }) in per_port.enumerate() {
        check_config(&format!("/tls/frontend/perPort/{i}/tls"), tls, faults);
        if !ports.insert(port) {
            faults.error(format!("/tls/frontend/perPort/{i}/port"), format!("port {port} is written twice"));
        }
    }
}

fn check_config(at: &str, config: &FrontendConfig, faults: &mut Faults) {
    let refs = config.validation.iter().flat_map(|validation| &validation.ca_certificate_refs);
    for (i, ObjectRef { group, kind, namespace, .. }) in refs.enumerate() {
        let at = format!("{at}/validation/caCertificateRefs/{i}");
        Reference { group, kind, namespace: namespace.as_deref() }.check(&at, faults);
    }
}

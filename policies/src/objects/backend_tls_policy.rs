//! Gateway API `BackendTLSPolicy` (GEP-1897): which backends are called by TLS, and how they prove who they are.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

mod check;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicySpec {
    /// What is called by TLS, in the policy's own namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<LocalTargetRef>,
    pub validation: BackendTlsValidation,
    /// For implementations' own settings; Tidegate has none.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Gateway API `LocalPolicyTargetReferenceWithSectionName`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalTargetRef {
    /// The empty group is the core one, of Service.
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The name of a Service's port.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: String,
}

/// How an endpoint's certificate is judged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsValidation {
    /// Bundles of CA certificates; either these or `wellKnownCACertificates`.
    #[serde(default, rename = "caCertificateRefs")]
    #[schemars(length(max = 8))]
    pub ca_certificate_refs: Vec<LocalObjectRef>,
    /// `System`: what the proxy's machine trusts.
    #[serde(default, rename = "wellKnownCACertificates")]
    #[schemars(length(min = 1, max = 253))]
    pub well_known_ca_certificates: String,
    /// The name that is asked for (SNI), and that must be in the certificate unless there are `subjectAltNames`.
    #[schemars(length(min = 1, max = 253))]
    pub hostname: String,
    /// One of these must be in the certificate; `hostname` then counts for SNI only.
    #[serde(default)]
    #[schemars(length(max = 5))]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// An object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalObjectRef {
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectAltName {
    #[serde(rename = "type")]
    pub kind: SubjectAltNameType,
    /// With type Hostname: a DNS name, which may begin with `*.`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub hostname: String,
    /// With type URI: scheme and all, e.g. a SPIFFE ID.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub uri: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SubjectAltNameType {
    Hostname,
    #[serde(rename = "URI")]
    Uri,
}

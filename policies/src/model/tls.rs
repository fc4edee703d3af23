use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{HostPattern, PolicyRef};

/// The kind of policy that makes calls go by TLS.
pub const BACKEND_TLS_POLICY: &str = "BackendTLSPolicy";

/// How a backend is called by TLS (Gateway API GEP-1897).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendTls {
    /// Who says so.
    pub policy: PolicyRef,
    #[serde(flatten)]
    pub verification: Verification,
}

/// How an endpoint proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// `None`: no CA certificate could be found. Nothing is trusted then, and every call fails: it never goes out
    /// without TLS, nor to an endpoint that was not verified.
    pub trust: Option<Trust>,
    /// The name that is asked for (SNI, RFC 6066), lower case. It is also the one that must be in the certificate, unless
    /// there are `alt_names`.
    pub hostname: Arc<str>,
    /// If there are any, one of them must be in the certificate, and `hostname` need not.
    pub alt_names: Vec<AltName>,
}

/// Whose signatures count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Of the authorities that the proxy's own machine trusts.
    System,
    /// Of the CA certificates in this PEM. That they can be read is found out by the proxy.
    Bundle(Arc<[u8]>),
}

/// A subjectAltName (RFC 5280) of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AltName {
    /// Never [`HostPattern::Any`].
    Dns(HostPattern),
    /// Compared byte by byte, as SPIFFE has it.
    Uri(Arc<str>),
}

/// How the certificates of a listener's clients are judged (Gateway API GEP-91).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientValidation {
    /// CA certificates in PEM.
    pub bundle: Arc<[u8]>,
    pub mode: ClientMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMode {
    /// Without a valid certificate there is no connection.
    ValidOnly,
    /// A certificate is asked for; any will do, and none.
    InsecureFallback,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A bundle prints as its length: what is in it is long and no news.
impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Bundle(pem) => write!(f, "bundle of {} bytes", pem.len()),
        }
    }
}

impl Serialize for Trust {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
        }
    }
}

impl Serialize for AltName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

use std::fmt;
use std::sync::Arc;

use super::ResourceName;

/// A server's certificate with its key, from one Secret. PEM as far as can be told without cryptography; whether the
/// two belong together is found out by the proxy that loads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub secret: ResourceName,
    /// The chain in PEM, the server's own certificate first.
    pub chain: Arc<[u8]>,
    pub key: PrivateKey,
}

/// A private key in PEM. Shown to nobody: it prints as its length.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Arc<[u8]>);

impl PrivateKey {
    pub fn new(pem: impl Into<Arc<[u8]>>) -> Self {
        Self(pem.into())
    }

    /// The key itself. For the TLS library and for the wire to the proxy, and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({} bytes)", self.0.len())
    }
}

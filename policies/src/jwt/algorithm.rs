//! The algorithms of RFC 7518 (3.1) and RFC 8037 by which a token may be signed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As it is called in `alg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    /// With Ed25519.
    EdDSA,
    /// HS*: with a secret that whoever checks tokens has as well, and could sign with.
    HS256,
    HS384,
    HS512,
}

impl Algorithm {
    /// Those with a public key.
    pub(crate) const ASYMMETRIC: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// Names are case-sensitive (RFC 7515, 4.1.1). `none` is the name of no algorithm.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            "EdDSA" => Self::EdDSA,
            "HS256" => Self::HS256,
            "HS384" => Self::HS384,
            "HS512" => Self::HS512,
            _ => return None,
        })
    }
}

//! JSON Web Tokens: whether one was signed by whom it names, for us and for this time; and what it claims then.
//!
//! Read is the compact form of a signed token (RFC 7515, 7.1), and nothing else: no encrypted ones, no `none`, no keys that the
//! token itself brings along (`jwk`, `jku`, `x5c`, `x5u`). The rules are those of RFC 7519 and of RFC 8725: which algorithms may be
//! is written down beforehand, and each belongs to one type of key, so that no public key can pass for a secret. Signatures are
//! checked by the library that our TLS has; nothing of it is computed here.

mod algorithm;
mod cache;
mod claims;
mod fault;
mod issuer;
mod json;
mod jwks;
mod remote;
mod times;
mod token;

#[cfg(test)]
pub(crate) mod signer;
#[cfg(test)]
mod tests;

pub(crate) use algorithm::Algorithm;
pub(crate) use cache::{Cache, Verified};
pub use claims::Claims;
pub(crate) use claims::{ClaimPath, plain};
pub use fault::TokenFault;
pub(crate) use issuer::Issuer;
pub(crate) use jwks::Jwks;
pub use remote::{KeySet, KeySource, KeysAt, KeysAwaited, max_age};
pub(crate) use token::Token;

/// As if they had been verified.
#[cfg(test)]
pub(crate) fn claims_of(text: &str) -> Claims {
    Claims::new(json::object(text.as_bytes()).expect("an object"))
}

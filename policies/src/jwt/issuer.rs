//! Whose tokens are believed, and which of them.

use serde_json::Value;

use super::{Algorithm, Jwks, Token, TokenFault};

/// One issuer as a provider describes it.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// `iss`, letter by letter.
    pub(crate) name: Box<str>,
    /// One of them must be in `aud`. Empty: whomever it is for.
    pub(crate) audiences: Box<[Box<str>]>,
    pub(crate) algorithms: Box<[Algorithm]>,
    pub(crate) keys: Jwks,
    /// Whether a token must have an end.
    pub(crate) ends: bool,
}

impl Issuer {
    /// All but the time, which is asked again for each request; by its own keys.
    ///
    /// # Errors
    /// The first thing that is wrong; what is not signed is not looked at further.
    pub(crate) fn verify(&self, token: &Token<'_>) -> Result<(), TokenFault> {
        self.verify_by(&self.keys, token)
    }

    /// The same by keys that came later.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn verify_by(&self, keys: &Jwks, token: &Token<'_>) -> Result<(), TokenFault> {
        if token.issuer() != Some(&*self.name) {
            return Err(TokenFault::Issuer);
        }
        if !self.algorithms.contains(&token.algorithm) {
            return Err(TokenFault::Algorithm);
        }
        keys.verify(token)?;
        if !self.is_for_us(token.claims.named("aud")) {
            return Err(TokenFault::Audience);
        }
        if self.ends && token.times.is_endless() {
            return Err(TokenFault::Endless);
        }
        Ok(())
    }

    /// `aud` is a text, or a list of texts (RFC 7519, 4.1.3).
    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let ours = |value: &Value| {
            let name = value.as_str();
            name.is_some_and(|name| self.audiences.iter().any(|audience| **audience == *name))
        };
        self.audiences.is_empty()
            || match audience {
                Some(Value::Array(all)) => all.iter().any(ours),
                Some(one) => ours(one),
                None => false,
            }
    }
}

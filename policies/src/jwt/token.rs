//! A token taken apart, and not yet believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::times::Times;
use super::{Algorithm, Claims, TokenFault, json};

/// Longer than any header field that servers take.
const MOST_BYTES: usize = 16 * 1024;

/// JWS in its compact form (RFC 7515, 7.1), with the parts of its header that count.
#[derive(Debug)]
pub(crate) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Claims,
    pub(super) times: Times,
    /// Header and claims as they are written.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
}

impl<'t> Token<'t> {
    pub(crate) fn is_too_long(text: &[u8]) -> bool {
        text.len() > MOST_BYTES
    }

    /// # Errors
    /// It is no token, or one that cannot be judged.
    pub(crate) fn read(text: &'t [u8]) -> Result<Self, TokenFault> {
        if Self::is_too_long(text) {
            return Err(TokenFault::TooLong);
        }
        let last = text.iter().rposition(|b| *b == b'.').ok_or(TokenFault::Malformed)?;
        let (signed, signature) = (&text[..last], &text[last + 1..]);
        let first = signed.iter().position(|b| *b == b'.').ok_or(TokenFault::Malformed)?;
        // A further dot is no letter of base64.
        let header = object(&signed[..first])?;
        let claims = Claims::new(object(&signed[first + 1..])?);
        let algorithm = header.get("alg").and_then(|name| name.as_str());
        let algorithm = algorithm.and_then(Algorithm::named).ok_or(TokenFault::Algorithm)?;
        if header.contains_key("crit") {
            return Err(TokenFault::Critical);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(TokenFault::Malformed)?.to_owned()),
        };
        let times = Times::of(&claims)?;
        Ok(Self { algorithm, kid, claims, times, signed, signature: decoded(signature)? })
    }

    /// Whom it says it is from.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.named("iss")?.as_str()
    }
}

fn object(part: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>, TokenFault> {
    json::object(&decoded(part)?).ok_or(TokenFault::Malformed)
}

/// Strictly: without padding, and no two texts stand for the same bytes.
fn decoded(part: &[u8]) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)
}

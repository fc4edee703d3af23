//! When a token holds. Asked again for each request, whether its signature is known already or not.

use std::time::Duration;

use serde_json::Value;

use super::{Claims, TokenFault};

/// `exp`, `nbf` and `iat` (RFC 7519, 4.1), in seconds since the Unix epoch. Broken seconds are taken against the bearer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    ends: Option<i64>,
    begins: Option<i64>,
}

impl Times {
    /// # Errors
    /// One of them is no number.
    pub(super) fn of(claims: &Claims) -> Result<Self, TokenFault> {
        let ends = seconds(claims.named("exp"), f64::floor)?;
        let not_before = seconds(claims.named("nbf"), f64::ceil)?;
        let issued = seconds(claims.named("iat"), f64::ceil)?;
        // What is issued in the future is signed by a clock that is wrong, or kept for later.
        Ok(Self { ends, begins: not_before.max(issued) })
    }

    pub(super) fn is_endless(self) -> bool {
        self.ends.is_none()
    }

    /// `now`: since the Unix epoch. `leeway`: by how much its clock and that of the issuer may differ.
    pub(crate) fn check(self, now: Duration, leeway: Duration) -> Result<(), TokenFault> {
        let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let (now, leeway) = (whole(now), whole(leeway));
        if self.ends.is_some_and(|ends| now >= ends.saturating_add(leeway)) {
            return Err(TokenFault::Expired);
        }
        if self.begins.is_some_and(|begins| now.saturating_add(leeway) < begins) {
            return Err(TokenFault::NotYetValid);
        }
        Ok(())
    }
}

fn seconds(value: Option<&Value>, whole: fn(f64) -> f64) -> Result<Option<i64>, TokenFault> {
    let Some(value) = value else { return Ok(None) };
    if let Some(seconds) = value.as_i64() {
        return Ok(Some(seconds));
    }
    let seconds = value.as_f64().ok_or(TokenFault::Malformed)?;
    // Saturates: as far away as any.
    Ok(Some(whole(seconds) as i64))
}

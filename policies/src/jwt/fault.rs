use std::fmt;

/// Why a request is not believed to come from whom it says. It names the fault and never what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// The request has none.
    Missing,
    /// The request has more than one, or the field that holds it comes twice.
    Several,
    TooLong,
    /// Not three parts in base64url, or no JSON object in one; too deep, too many values, or a name twice.
    Malformed,
    /// `alg` is none that this issuer may use.
    Algorithm,
    /// `crit` asks for an extension (RFC 7515, 4.1.11).
    Critical,
    /// `iss` names no provider that has its tokens at this place.
    Issuer,
    /// The issuer has no key that could have signed it.
    Key,
    /// The issuer's keys are to be fetched, and could not be: whether it holds cannot be told.
    KeysUnavailable,
    Signature,
    Audience,
    Expired,
    /// There is no `exp`.
    Endless,
    /// `nbf` or `iat` lies ahead.
    NotYetValid,
}

impl TokenFault {
    /// The word that the access log and the span use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Several => "several",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::Issuer => "issuer",
            Self::Key => "key",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::Endless => "endless",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

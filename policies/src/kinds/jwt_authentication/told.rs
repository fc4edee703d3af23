//! What whoever is refused learns: the classes of RFC 6750 (3.1) and no more. Why exactly is for the log.

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};

use crate::jwt::TokenFault;
use crate::model::PolicyRef;
use crate::pipeline::{LocalReply, WrittenReply};
use crate::reason::Reason;

/// `WWW-Authenticate` for each class, rendered beforehand.
#[derive(Clone, Debug)]
pub(super) struct Challenges {
    /// Nothing was sent, so nothing is wrong with it.
    missing: HeaderValue,
    invalid_request: HeaderValue,
    invalid_token: HeaderValue,
    bad_request: Arc<WrittenReply>,
}

impl Challenges {
    pub(super) fn new(policy: &PolicyRef) -> Option<Self> {
        // One policy is one realm. Names of objects need no escape.
        let realm = &policy.name.name;
        let with = |error: &str| HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{error}")).ok();
        let bad_request = WrittenReply { status: Some(StatusCode::BAD_REQUEST), ..WrittenReply::default() };
        Some(Self {
            missing: with("")?,
            invalid_request: with(", error=\"invalid_request\"")?,
            invalid_token: with(", error=\"invalid_token\"")?,
            bad_request: Arc::new(bad_request),
        })
    }

    pub(super) fn refusal(&self, fault: TokenFault) -> LocalReply {
        let (challenge, written) = match fault {
            TokenFault::KeysUnavailable => return Reason::KeysUnavailable.into(),
            TokenFault::Missing => (&self.missing, None),
            TokenFault::Several => (&self.invalid_request, Some(self.bad_request.clone())),
            _ => (&self.invalid_token, None),
        };
        let headers = vec![(WWW_AUTHENTICATE, challenge.clone())];
        LocalReply { headers, written, ..Reason::Unauthenticated.into() }
    }
}

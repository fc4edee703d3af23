//! Whose token it is: TokenReview (authentication.k8s.io/v1), remembered for a moment.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Request, header};
use kube::Client;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tidegate_identity::token::Authenticated;
use tidegate_identity::{Authenticate, SpiffeId, TrustDomain, Unauthenticated};

use crate::errors::{in_time, told};

/// A pod that is deleted takes its token with it: an answer is not held true for longer.
const REMEMBERED: Duration = Duration::from_secs(30);
const MOST_REMEMBERED: usize = 4_096;
const MAX_TOKEN: usize = 16 * 1024;
const USER: &str = "system:serviceaccount:";

/// See the module.
pub struct Reviews {
    client: Client,
    audience: String,
    trust_domain: TrustDomain,
    /// By the hash of the token: whoever reads this memory has no token of anybody.
    known: Mutex<HashMap<[u8; 32], (SpiffeId, SystemTime)>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Review {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

impl Reviews {
    /// Only tokens for `audience` count.
    pub fn new(client: Client, audience: String, trust_domain: TrustDomain) -> Self {
        Self { client, audience, trust_domain, known: Mutex::default() }
    }

    async fn find(&self, token: &str, now: SystemTime) -> Result<SpiffeId, Unauthenticated> {
        if token.is_empty() {
            return Err(Unauthenticated::NoToken);
        }
        // The API is not asked about what no service account has.
        let is_jwt = token.len() <= MAX_TOKEN && token.split('.').count() == 3;
        let Some(expires) = is_jwt.then(|| expiry(token)).flatten() else {
            return Err(Unauthenticated::Unknown);
        };
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some((id, until)) = self.known.lock().get(&hash)
            && now < *until
        {
            return Ok(id.clone());
        }
        let review = self.ask(token).await?;
        if !review.authenticated {
            let over = expires <= now;
            return Err(if over { Unauthenticated::Expired } else { Unauthenticated::Unknown });
        }
        // An authenticator that does not know of audiences leaves them out.
        if !review.audiences.contains(&self.audience) {
            return Err(Unauthenticated::Unknown);
        }
        let id = self.named(&review.user.username).ok_or(Unauthenticated::Unknown)?;
        self.remember(hash, &id, now, expires);
        Ok(id)
    }

    async fn ask(&self, token: &str) -> Result<Review, Unauthenticated> {
        let unavailable = |why: String| {
            Unauthenticated::Unavailable(format!(
                "cannot ask the cluster whose token it is: {why}; try again"
            ))
        };
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [self.audience] },
        });
        let request = Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
            .header(header::CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes())
            .map_err(|error| unavailable(error.to_string()))?;
        let answer = in_time(self.client.request::<Json>(request)).await;
        let mut answer = answer.map_err(|error| unavailable(told(&error)))?;
        serde_json::from_value(answer["status"].take()).map_err(|error| unavailable(error.to_string()))
    }

    /// `system:serviceaccount:NAMESPACE:NAME`; others have no name in the mesh, and nobody joins as the control plane.
    fn named(&self, username: &str) -> Option<SpiffeId> {
        let (namespace, account) = username.strip_prefix(USER)?.split_once(':')?;
        let id = SpiffeId::new(self.trust_domain.clone(), namespace, account).ok()?;
        (!id.is_control_plane()).then_some(id)
    }

    fn remember(&self, hash: [u8; 32], id: &SpiffeId, now: SystemTime, expires: SystemTime) {
        let until = expires.min(now + REMEMBERED);
        let mut known = self.known.lock();
        if known.len() >= MOST_REMEMBERED {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MOST_REMEMBERED {
            known.insert(hash, (id.clone(), until));
        }
    }
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviews").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Authenticate for Reviews {
    fn authenticate<'a>(&'a self, token: &'a str, now: SystemTime) -> Authenticated<'a> {
        Box::pin(self.find(token, now))
    }
}

/// `exp` (RFC 7519, section 4.1.4), which is nobody's word before the token was reviewed.
fn expiry(token: &str) -> Option<SystemTime> {
    let claims = token.split('.').nth(1)?;
    let claims: Json = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(claims["exp"].as_u64()?))
}

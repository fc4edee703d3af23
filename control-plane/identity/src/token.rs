//! Who asks for a certificate: a trait, and its form without a cluster, a file of join tokens.
//!
//! A token is 256 random bits, so its plain SHA-256 can be kept: nobody finds one by trying. The file has a line for
//! each: the hash, `namespace/service-account`, and `expires=SECONDS` since the Unix epoch if it ends.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use crate::material::seconds;
use crate::spiffe::{SpiffeId, TrustDomain};

/// What tokens begin with, for people and scanners to know them by.
const PREFIX: &str = "tidegate-join-";
const MAX_TOKEN: usize = 16 * 1024;
const HASH: usize = 32;

/// Why a caller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    #[error("a token is wanted: `authorization: Bearer TOKEN`")]
    NoToken,
    #[error("the token is not known")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    /// Whoever knows tokens cannot be asked: the caller may try again.
    #[error("{0}")]
    Unavailable(String),
}

pub type Authenticated<'a> = Pin<Box<dyn Future<Output = Result<SpiffeId, Unauthenticated>> + Send + 'a>>;

/// Says who has a token: a file of join tokens here, a cluster's TokenReview elsewhere.
pub trait Authenticate: std::fmt::Debug + Send + Sync {
    fn authenticate<'a>(&'a self, token: &'a str, now: SystemTime) -> Authenticated<'a>;
}

/// The tokens of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinTokens(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hash: [u8; HASH],
    of: SpiffeId,
    expires: Option<u64>,
}

/// A line that makes no sense, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadLine {
    pub line: usize,
    pub what: String,
}

/// A new token: what its owner gets, and the line that is kept.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub token: String,
    pub line: String,
}

impl JoinTokens {
    /// # Errors
    /// Every line that cannot be read.
    pub fn read(text: &str, trust_domain: &TrustDomain) -> Result<Self, Vec<BadLine>> {
        let (mut entries, mut bad) = (Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match Entry::read(line, trust_domain) {
                Ok(entry) => entries.push(entry),
                Err(what) => bad.push(BadLine { line: index + 1, what }),
            }
        }
        if bad.is_empty() { Ok(Self(entries)) } else { Err(bad) }
    }

    /// Looks at every entry, whichever it is, in a time that says nothing of how much of a hash fits.
    ///
    /// # Errors
    /// The token is not known, or its time is over.
    pub fn find(&self, token: &str, now: SystemTime) -> Result<SpiffeId, Unauthenticated> {
        if token.is_empty() {
            return Err(Unauthenticated::NoToken);
        }
        if token.len() > MAX_TOKEN {
            return Err(Unauthenticated::Unknown);
        }
        let hash = digest(&SHA256, token.as_bytes());
        let mut found = Err(Unauthenticated::Unknown);
        for entry in &self.0 {
            if verify_slices_are_equal(hash.as_ref(), &entry.hash).is_ok() {
                let over = entry.expires.is_some_and(|at| seconds(now) >= at);
                found = if over { Err(Unauthenticated::Expired) } else { Ok(entry.of.clone()) };
            }
        }
        found
    }
}

impl Authenticate for JoinTokens {
    fn authenticate<'a>(&'a self, token: &'a str, now: SystemTime) -> Authenticated<'a> {
        Box::pin(std::future::ready(self.find(token, now)))
    }
}

impl Entry {
    fn read(line: &str, trust_domain: &TrustDomain) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let hash = words.next().and_then(|word| HEXLOWER.decode(word.as_bytes()).ok());
        let hash = hash.and_then(|hash| hash.try_into().ok());
        let hash = hash.ok_or("first comes the SHA-256 of a token, as 64 hexadecimal digits")?;
        let name = words.next().and_then(|word| word.split_once('/'));
        let (namespace, account) = name.ok_or("second comes NAMESPACE/SERVICE-ACCOUNT")?;
        let of = SpiffeId::new(trust_domain.clone(), namespace, account).map_err(|e| e.to_string())?;
        if of.is_control_plane() {
            return Err(format!("{namespace}/{account} is the control plane itself: nobody joins as that"));
        }
        let mut expires = None;
        for word in words {
            let at = word.strip_prefix("expires=").and_then(|at| at.parse().ok());
            expires =
                Some(at.ok_or_else(|| format!("`{word}`: write expires=SECONDS since the Unix epoch"))?);
        }
        Ok(Self { hash, of, expires })
    }
}

impl NewToken {
    /// For one service account. `lasts`: `None` for ever.
    ///
    /// # Errors
    /// What is wrong with the name, or that there is no randomness.
    pub fn new(
        namespace: &str,
        account: &str,
        lasts: Option<Duration>,
        now: SystemTime,
    ) -> Result<Self, String> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| "the machine has no randomness to give")?;
        let token = format!("{PREFIX}{}", HEXLOWER.encode(&secret));
        let hash = HEXLOWER.encode(digest(&SHA256, token.as_bytes()).as_ref());
        let mut line = format!("{hash} {namespace}/{account}");
        if let Some(lasts) = lasts {
            line += &format!(" expires={}", seconds(now).saturating_add(lasts.as_secs()));
        }
        let any: TrustDomain = TrustDomain::DEFAULT.parse().map_err(|e| format!("{e}"))?;
        Entry::read(&line, &any)?;
        Ok(Self { token, line })
    }
}

//! Keys that an issuer publishes at an address (RFC 7517, 5): when they are to be fetched, and for how long they are believed.
//!
//! A state machine over `now`; the shell fetches. No request waits for it, but the first ones, and those only for as long as is
//! written. Keys are renewed before they grow old, and a key that is not known has them renewed at once, but seldom: whoever
//! sends tokens with made-up keys must not make us ask the issuer for each. As long as nothing new can be had, what is there is
//! believed, up to a bound that is written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use parking_lot::{Mutex, RwLock};

use super::Jwks;
use super::jwks::MOST_BYTES;
use crate::model::Address;
use crate::snapshot::TlsSettings;
use crate::time::Timestamp;

/// However short a time the issuer says.
const LEAST_AGE: Duration = Duration::from_secs(30);
/// Between two fetches because of a key that is not known.
const AGAIN: Duration = Duration::from_secs(5);
/// After a failure; doubled with each, up to [`MOST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(60);

/// Where keys are, and how they are got.
#[derive(Debug)]
pub struct KeysAt {
    pub address: Address,
    /// As `Host` wants it.
    pub host: Arc<str>,
    /// With its query.
    pub path: Arc<str>,
    /// `None`: without TLS.
    pub tls: Option<Arc<TlsSettings>>,
    /// For all of it: connection, handshake and answer.
    pub timeout: Duration,
    /// They count as new for no longer, whatever the issuer says.
    pub max_age: Duration,
    /// They are believed for so long after that, if no new ones can be had.
    pub stale_for: Duration,
    /// Requests wait for the first ones for so long.
    pub wait: Duration,
}

/// One such address, for as long as any policy names it.
#[derive(Debug)]
pub struct KeySource {
    pub at: Arc<KeysAt>,
    keys: RwLock<Option<Fetched>>,
    plan: Mutex<Plan>,
}

#[derive(Clone, Debug)]
struct Fetched {
    keys: Arc<Jwks>,
    /// Which set it is; another number for another text.
    number: u64,
    digest: [u8; 32],
    /// From then on nobody believes them.
    until: Timestamp,
}

#[derive(Debug, Default)]
struct Plan {
    under_way: bool,
    /// `None`: at once.
    due: Option<Timestamp>,
    /// The last one that ended.
    ended: Option<Timestamp>,
    failures: u32,
}

/// What an issuer has answered.
#[derive(Clone, Debug)]
pub struct KeySet {
    pub body: Vec<u8>,
    /// As `Cache-Control` says it, if it does.
    pub max_age: Option<Duration>,
}

/// Keys to wait for.
#[derive(Clone, Debug)]
pub struct KeysAwaited {
    pub source: Arc<KeySource>,
    /// No longer than that.
    pub patience: Duration,
}

impl PartialEq for KeysAwaited {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.patience == other.patience
    }
}

impl Eq for KeysAwaited {}

impl fmt::Display for KeysAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

impl KeySource {
    /// The most that is read of an answer.
    pub const MOST_BYTES: usize = MOST_BYTES;

    pub fn new(at: impl Into<Arc<KeysAt>>) -> Self {
        Self { at: at.into(), keys: RwLock::default(), plan: Mutex::default() }
    }

    /// The keys that are believed, and the number of their set.
    pub(crate) fn keys(&self, now: Timestamp) -> Option<(Arc<Jwks>, u64)> {
        let keys = self.keys.read();
        keys.as_ref()
            .filter(|fetched| now < fetched.until)
            .map(|fetched| (fetched.keys.clone(), fetched.number))
    }

    /// The number of the set, without the set.
    pub(crate) fn number(&self, now: Timestamp) -> Option<u64> {
        self.keys.read().as_ref().filter(|fetched| now < fetched.until).map(|fetched| fetched.number)
    }

    /// Whether the answer to the first question has not come yet.
    pub fn is_new(&self) -> bool {
        self.plan.lock().ended.is_none()
    }

    /// A token names a key that is not here: it may be a new one.
    pub(crate) fn misses(&self, now: Timestamp) {
        let mut plan = self.plan.lock();
        // After failures, that is what the pause is for.
        if plan.failures == 0
            && let Some(ended) = plan.ended
        {
            let soon = (ended + AGAIN).max(now);
            plan.due = plan.due.map(|due| due.min(soon));
        }
    }

    /// When it is to be fetched next; `None` while it is.
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let plan = self.plan.lock();
        (!plan.under_way).then(|| plan.due.unwrap_or(now))
    }

    /// Begins a fetch, if it is time and none is under way. Its end is told to [`KeySource::fetched`] or [`KeySource::failed`].
    pub fn begin(&self, now: Timestamp) -> bool {
        let mut plan = self.plan.lock();
        let begins = !plan.under_way && plan.due.is_none_or(|due| due <= now);
        plan.under_way |= begins;
        begins
    }

    /// The issuer has answered.
    ///
    /// # Errors
    /// Why it is no set of keys that can be used; those from before stay.
    pub fn fetched(&self, set: &KeySet, now: Timestamp, rng: &mut fastrand::Rng) -> Result<(), String> {
        let text = std::str::from_utf8(&set.body).map_err(|_| String::from("not UTF-8"));
        let keys = match text.and_then(Jwks::parse) {
            Ok(keys) => keys,
            Err(why) => {
                self.failed(now, rng);
                return Err(why);
            }
        };
        let most = self.at.max_age.max(LEAST_AGE);
        let age = set.max_age.unwrap_or(most).clamp(LEAST_AGE, most);
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, &set.body).as_ref());
        let mut held = self.keys.write();
        let last = held.as_ref();
        let number = match last {
            Some(last) if last.digest == digest => last.number,
            last => last.map_or(1, |last| last.number + 1),
        };
        *held = Some(Fetched { keys: Arc::new(keys), number, digest, until: now + age + self.at.stale_for });
        drop(held);
        // Not all proxies at one time, and before they are old.
        let ahead = age.mul_f64(0.75 + 0.15 * rng.f64());
        *self.plan.lock() = Plan { under_way: false, due: Some(now + ahead), ended: Some(now), failures: 0 };
        Ok(())
    }

    /// There was no answer, or none that is one.
    pub fn failed(&self, now: Timestamp, rng: &mut fastrand::Rng) {
        let mut plan = self.plan.lock();
        let pause = PAUSE.saturating_mul(1 << plan.failures.min(6)).min(MOST_PAUSE);
        let failures = plan.failures.saturating_add(1);
        let due = Some(now + pause.mul_f64(0.75 + 0.5 * rng.f64()));
        *plan = Plan { under_way: false, due, ended: Some(now), failures };
    }
}

/// `max-age` of `Cache-Control` (RFC 9111, 5.2.2); nothing is kept of what says `no-store` or `no-cache`.
pub fn max_age(cache_control: &str) -> Option<Duration> {
    let directives = || cache_control.split(',').map(str::trim);
    if directives().any(|one| one.eq_ignore_ascii_case("no-store") || one.eq_ignore_ascii_case("no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds = directives().find_map(|one| {
        let (name, value) = one.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok())?
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests;

//! Who this workload is, for as long as that holds: certificate, key and whom it trusts, replaced as a whole.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::spiffe::{SpiffeId, TrustDomain};
use crate::tls::{Usage, peer_id, verify_chain};
use crate::x509::{certificates, fields};

/// A certificate with its key, and the roots that others are verified with.
pub struct Credentials {
    pub id: SpiffeId,
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) roots: Arc<RootCertStore>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// In hexadecimal.
    pub serial: String,
}

/// Why what an authority has answered is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCredentials {
    #[error("the certificate cannot be read: {0}")]
    Chain(String),
    #[error("the roots cannot be read: {0}")]
    Roots(String),
    #[error("the certificate is not for the key that was asked with")]
    OtherKey,
    #[error("the certificate names no workload")]
    NoName,
    #[error("the certificate is of the trust domain {0}, and this is {1}")]
    OtherDomain(TrustDomain, TrustDomain),
    #[error("the certificate does not lead to a root: {0}")]
    Untrusted(String),
}

/// What this process has of credentials at the moment, and the clock by which they run out.
pub struct Held {
    pub trust_domain: TrustDomain,
    current: ArcSwapOption<Credentials>,
    clock: Arc<dyn TimeProvider>,
}

impl Credentials {
    /// What an authority has answered. `bundle` is PEM; where it is empty, the last of the chain is the root.
    ///
    /// # Errors
    /// It makes no sense, or is not for whom it should be.
    pub fn read(
        chain: &[String],
        bundle: &[String],
        key: PrivateKeyDer<'static>,
        held: &Held,
    ) -> Result<Self, BadCredentials> {
        let mut certificates = pem(chain).map_err(|why| BadCredentials::Chain(why.to_owned()))?;
        let is_root = |one: &CertificateDer<'_>| fields(one).is_some_and(|fields| fields.is_root);
        let mut trusted = if bundle.is_empty() { Vec::new() } else { pem(bundle).map_err(roots_error)? };
        if trusted.is_empty() {
            trusted.extend(certificates.last().filter(|last| is_root(last)).cloned());
        }
        if certificates.len() > 1 {
            certificates.retain(|one| !is_root(one));
        }
        let roots = roots(&trusted)?;
        let own = certificates.first().ok_or_else(|| BadCredentials::Chain(String::from("it is empty")))?;
        let fields = fields(own).ok_or_else(|| BadCredentials::Chain(String::from("no X.509")))?;
        let id = peer_id(own).ok_or(BadCredentials::NoName)?;
        if id.trust_domain != held.trust_domain {
            return Err(BadCredentials::OtherDomain(id.trust_domain, held.trust_domain.clone()));
        }
        verify_chain(&certificates, &roots, held.unix(), Usage::Server)
            .map_err(|error| BadCredentials::Untrusted(error.to_string()))?;
        let key = CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider())
            .map_err(|_| BadCredentials::OtherKey)?;
        Ok(Self {
            id,
            key: Arc::new(key),
            roots: Arc::new(roots),
            not_before: fields.not_before,
            not_after: fields.not_after,
            serial: fields.serial,
        })
    }

    /// When to ask for the next: at half of what is left at `now`, sooner or later by a twentieth of it, so that not all ask
    /// at once. `chance` is from 0 to 1.
    pub fn renew_after(&self, now: SystemTime, chance: f64) -> Duration {
        let left = self.not_after.duration_since(now).unwrap_or_default();
        left.mul_f64(0.45 + 0.1 * chance.clamp(0.0, 1.0))
    }

    /// How many roots are trusted.
    pub fn roots(&self) -> usize {
        self.roots.len()
    }
}

impl Held {
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self::with_clock(trust_domain, Arc::new(DefaultTimeProvider))
    }

    pub fn with_clock(trust_domain: TrustDomain, clock: Arc<dyn TimeProvider>) -> Self {
        Self { trust_domain, current: ArcSwapOption::empty(), clock }
    }

    /// Handshakes from now on are with these.
    pub fn replace(&self, credentials: Credentials) {
        self.current.store(Some(Arc::new(credentials)));
    }

    /// What is there, run out or not.
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.current.load_full()
    }

    /// What can be used now.
    pub fn usable(&self) -> Option<Arc<Credentials>> {
        let now = self.now();
        self.current().filter(|credentials| now < credentials.not_after)
    }

    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.unix().as_secs())
    }

    pub(crate) fn unix(&self) -> rustls_pki_types::UnixTime {
        let told = self.clock.current_time();
        told.unwrap_or_else(|| rustls_pki_types::UnixTime::since_unix_epoch(Duration::ZERO))
    }

    pub(crate) fn clock(&self) -> Arc<dyn TimeProvider> {
        self.clock.clone()
    }
}

fn pem(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    certificates(texts.join("\n").as_bytes())
}

fn roots_error(why: &'static str) -> BadCredentials {
    BadCredentials::Roots(why.to_owned())
}

/// # Errors
/// One of them cannot be used, or there is none.
pub(crate) fn roots(trusted: &[CertificateDer<'_>]) -> Result<RootCertStore, BadCredentials> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root.clone().into_owned()).map_err(|e| BadCredentials::Roots(e.to_string()))?;
    }
    if roots.is_empty() { Err(roots_error("there is none")) } else { Ok(roots) }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("current", &self.current()).finish_non_exhaustive()
    }
}

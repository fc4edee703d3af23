//! What an authority is made of, as files: in a directory, or the `data` of a Secret in a cluster.
//!
//! The names are those of Istio's `cacerts` Secret, so that one that is there already can be used. A rotation is written
//! down when it begins, with the times of its steps; every control plane that reads it takes each step at its time, and
//! nobody has to write anything in between.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use serde::{Deserialize, Serialize};

use crate::spiffe::TrustDomain;

/// What signs: a root of its own, or an intermediate.
pub const CA_CERT: &str = "ca-cert.pem";
pub const CA_KEY: &str = "ca-key.pem";
/// What leads from the signing certificate to a root, if that is not the root itself.
pub const CERT_CHAIN: &str = "cert-chain.pem";
/// Every root that is trusted.
pub const ROOT_CERT: &str = "root-cert.pem";
/// What signs after a rotation.
pub const NEXT_CERT: &str = "next-ca-cert.pem";
pub const NEXT_KEY: &str = "next-ca-key.pem";
pub const ROTATION: &str = "rotation.json";

/// Of a root that is made here.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Clocks may be wrong by this much.
pub(crate) const SKEW: Duration = Duration::from_secs(5 * 60);

/// By name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Material(pub BTreeMap<String, Vec<u8>>);

/// When the steps of a rotation are taken, in seconds since the Unix epoch. Until `signs_from` the next root is only
/// trusted; until `old_until` the one before still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    pub signs_from: u64,
    pub old_until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{0}`: {1}")]
    Bad(&'static str, String),
    #[error("a rotation is under way, until {0} seconds after the Unix epoch")]
    UnderWay(u64),
    #[error("`{CA_CERT}` is not in `{ROOT_CERT}`: roots of others are not rotated from here")]
    NotOurs,
    #[error("the machine has no randomness to give: {0}")]
    Random(String),
}

impl Material {
    /// A new root that signs by itself.
    ///
    /// # Errors
    /// Without randomness.
    pub fn generate(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, MaterialError> {
        let (certificate, key) = root(trust_domain, now)?;
        let files = [(CA_CERT, certificate.clone()), (CA_KEY, key), (ROOT_CERT, certificate)];
        Ok(Self(files.map(|(name, pem)| (name.to_owned(), pem.into_bytes())).into()))
    }

    pub fn is_empty(&self) -> bool {
        !self.0.contains_key(CA_CERT) && !self.0.contains_key(CA_KEY) && !self.0.contains_key(ROOT_CERT)
    }

    /// Begins to put a new root in the place of this one. For `overlap` from now on it is only trusted, so that everybody
    /// has heard of it when it begins to sign; for as long again the old one is trusted beside it.
    ///
    /// # Errors
    /// A rotation is under way already, or the root is not one that is made here.
    pub fn rotate(
        &self,
        trust_domain: &TrustDomain,
        now: SystemTime,
        overlap: Duration,
    ) -> Result<Self, MaterialError> {
        let mut material = self.clone();
        if let Some(rotation) = self.rotation()? {
            if seconds(now) < rotation.old_until {
                return Err(MaterialError::UnderWay(rotation.old_until));
            }
            material.finish()?;
        }
        let files = &mut material.0;
        if files.get(CA_CERT) != files.get(ROOT_CERT) || files.contains_key(CERT_CHAIN) {
            return Err(MaterialError::NotOurs);
        }
        let (certificate, key) = root(trust_domain, now)?;
        let signs_from = seconds(now).saturating_add(overlap.as_secs());
        let rotation = Rotation { signs_from, old_until: signs_from.saturating_add(overlap.as_secs()) };
        let written =
            serde_json::to_vec(&rotation).map_err(|e| MaterialError::Bad(ROTATION, e.to_string()))?;
        files.insert(NEXT_CERT.to_owned(), certificate.into_bytes());
        files.insert(NEXT_KEY.to_owned(), key.into_bytes());
        files.insert(ROTATION.to_owned(), written);
        Ok(material)
    }

    /// What is written of a rotation.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn rotation(&self) -> Result<Option<Rotation>, MaterialError> {
        let Some(written) = self.0.get(ROTATION) else { return Ok(None) };
        serde_json::from_slice(written).map(Some).map_err(|e| MaterialError::Bad(ROTATION, e.to_string()))
    }

    /// The next root takes the place of the one before.
    fn finish(&mut self) -> Result<(), MaterialError> {
        let mut take = |name: &'static str| self.0.remove(name).ok_or(MaterialError::Missing(name));
        let (certificate, key) = (take(NEXT_CERT)?, take(NEXT_KEY)?);
        take(ROTATION)?;
        self.0.insert(ROOT_CERT.to_owned(), certificate.clone());
        self.0.insert(CA_CERT.to_owned(), certificate);
        self.0.insert(CA_KEY.to_owned(), key);
        Ok(())
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<&str, MaterialError> {
        let bytes = self.0.get(name).ok_or(MaterialError::Missing(name))?;
        std::str::from_utf8(bytes).map_err(|_| MaterialError::Bad(name, String::from("it is not text")))
    }
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Certificate and key in PEM.
fn root(trust_domain: &TrustDomain, now: SystemTime) -> Result<(String, String), MaterialError> {
    let made = || {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
        // Two roots of one name would be taken for each other where issuers are looked up by it.
        params.distinguished_name.push(DnType::CommonName, format!("Tidegate root {}", seconds(now)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - SKEW).into();
        params.not_after = (now + ROOT_LIFETIME).into();
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    made().map_err(|error: rcgen::Error| MaterialError::Random(error.to_string()))
}

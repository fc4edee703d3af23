//! The webhook's certificates: an authority of our own, what it signs, and when either is replaced.
//!
//! Pure but for the randomness of keys. A new authority is trusted for a while before anything is signed by it, and the
//! old one for a while after, so at no moment does an API server meet a certificate that it has no reason to trust.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Clocks differ: what is signed holds from before now.
const SKEW: Duration = DAY;

/// When what is replaced. Times are since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    /// How long an authority holds, and how long before its end its successor is made.
    pub authority: Duration,
    pub authority_margin: Duration,
    pub serving: Duration,
    pub serving_margin: Duration,
    /// How long a successor is trusted before it signs: by then every API server has read the new bundle.
    pub overlap: Duration,
    /// How long the one before is still trusted.
    pub farewell: Duration,
}

impl Default for Timetable {
    fn default() -> Self {
        Self {
            authority: DAY * 730,
            authority_margin: DAY * 90,
            serving: DAY * 90,
            serving_margin: DAY * 30,
            overlap: Duration::from_secs(600),
            farewell: DAY,
        }
    }
}

/// Everything that the replicas share, as their Secret holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    authority: Authority,
    /// Trusted already, and not yet signing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Next>,
    /// Trusted still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Previous>,
    serving: Serving,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authority {
    name: String,
    certificate: String,
    key: String,
    /// Seconds since the Unix epoch, as everywhere here.
    not_after: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Next {
    authority: Authority,
    since: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Previous {
    certificate: String,
    until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Serving {
    certificate: String,
    key: String,
    not_after: u64,
    names: Vec<String>,
}

impl Keys {
    /// PEM of everything that is to be trusted.
    pub fn bundle(&self) -> String {
        let next = self.next.iter().map(|next| &*next.authority.certificate);
        let previous = self.previous.iter().map(|previous| &*previous.certificate);
        std::iter::once(&*self.authority.certificate).chain(next).chain(previous).collect()
    }

    /// PEM of the certificate to serve with, and of its key.
    pub fn serving(&self) -> (&str, &str) {
        (&self.serving.certificate, &self.serving.key)
    }
}

/// The keys that are to be in the place of `keys` at `now`, for a server with `names`; `None` if they are as they should
/// be.
///
/// # Errors
/// If a name cannot stand in a certificate, or a key that was kept cannot be read.
pub fn advance(
    keys: Option<&Keys>,
    names: &[String],
    now: Duration,
    table: &Timetable,
) -> Result<Option<Keys>, rcgen::Error> {
    let Some(before) = keys else {
        let authority = Authority::new(now, table)?;
        let serving = authority.sign(names, now, table)?;
        return Ok(Some(Keys { authority, next: None, previous: None, serving }));
    };
    let mut keys = before.clone();
    let seconds = now.as_secs();
    if keys.authority.not_after <= seconds {
        // Nobody has kept them for longer than they hold: there is nothing left to overlap with.
        return advance(None, names, now, table);
    }
    if keys.previous.as_ref().is_some_and(|previous| previous.until <= seconds) {
        keys.previous = None;
    }
    let ends = |not_after: u64, margin: Duration| not_after < seconds + margin.as_secs();
    match keys.next.take() {
        None if ends(keys.authority.not_after, table.authority_margin) => {
            keys.next = Some(Next { authority: Authority::new(now, table)?, since: seconds });
        }
        Some(next) if seconds >= next.since + table.overlap.as_secs() => {
            let old = std::mem::replace(&mut keys.authority, next.authority);
            let until = old.not_after.min(seconds + table.farewell.as_secs());
            keys.previous = Some(Previous { certificate: old.certificate, until });
            keys.serving = keys.authority.sign(names, now, table)?;
        }
        next => keys.next = next,
    }
    if ends(keys.serving.not_after, table.serving_margin) || keys.serving.names != names {
        keys.serving = keys.authority.sign(names, now, table)?;
    }
    Ok((keys != *before).then_some(keys))
}

impl Authority {
    fn new(now: Duration, table: &Timetable) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let not_after = (now + table.authority).as_secs();
        // Two authorities of one name would be taken for one another.
        let name = format!("tidegate-webhook-{:x}", now.as_millis());
        let certificate = Self::params(&name, not_after, now).self_signed(&key)?.pem();
        Ok(Self { name, certificate, key: key.serialize_pem(), not_after })
    }

    fn params(name: &str, not_after: u64, now: Duration) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(SKEW);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(not_after);
        params
    }

    fn sign(&self, names: &[String], now: Duration, table: &Timetable) -> Result<Serving, rcgen::Error> {
        let issuer =
            Issuer::new(Self::params(&self.name, self.not_after, now), KeyPair::from_pem(&self.key)?);
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "tidegate-webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let not_after = (now + table.serving).as_secs().min(self.not_after);
        params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(SKEW);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(not_after);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Serving { certificate, key: key.serialize_pem(), not_after, names: names.to_vec() })
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;

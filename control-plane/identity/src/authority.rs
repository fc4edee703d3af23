//! Signs who somebody is. Only the name that the caller was authenticated for goes into a certificate, whatever the
//! request asks for; nothing is signed that outlives the trust in what signs it.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use crate::csr::public_key;
use crate::material::{
    CA_CERT, CA_KEY, CERT_CHAIN, Material, MaterialError, NEXT_CERT, NEXT_KEY, ROOT_CERT, SKEW, seconds,
};
use crate::spiffe::SpiffeId;
use crate::x509::{Fields, certificates, fields, to_pem};

/// Of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Where the caller asks for none.
    pub usual: Duration,
    /// Whatever it asks for.
    pub most: Duration,
}

/// What signs, now and after a rotation.
pub struct Authority {
    now: Signer,
    next: Option<Next>,
    lifetimes: Lifetimes,
}

struct Next {
    signer: Signer,
    signs_from: SystemTime,
    old_until: SystemTime,
}

struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// From the signing certificate to the one below a root; empty where the root signs itself.
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    until: SystemTime,
}

/// A signed certificate, and what it is verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// PEM, each with one certificate: the workload's own first, its root last.
    pub chain: Vec<String>,
    /// Every root that is trusted now.
    pub bundle: Vec<String>,
    pub not_after: SystemTime,
}

/// Why nothing is signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("the request is too large")]
    TooLarge,
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
    #[error("the request is not signed by the key that is in it")]
    BadSignature,
    #[error("only keys of ECDSA P-256 are signed")]
    KeyKind,
    #[error("the authority's own certificate has run out")]
    Expired,
    #[error("cannot sign: {0}")]
    Failed(String),
}

impl Lifetimes {
    pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    /// Shorter ones are asked for more often than anybody needs.
    pub const LEAST: Duration = Duration::from_secs(60);
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { usual: Self::DAY, most: Self::DAY }
    }
}

impl Authority {
    /// # Errors
    /// What is wrong with the files, by name; nothing of what a key contains.
    pub fn read(material: &Material, lifetimes: Lifetimes) -> Result<Self, MaterialError> {
        let now = Signer::read(material, (CA_CERT, CA_KEY, ROOT_CERT))?;
        let next = match material.rotation()? {
            None => None,
            Some(rotation) => Some(Next {
                signer: Signer::read(material, (NEXT_CERT, NEXT_KEY, NEXT_CERT))?,
                signs_from: SystemTime::UNIX_EPOCH + Duration::from_secs(rotation.signs_from),
                old_until: SystemTime::UNIX_EPOCH + Duration::from_secs(rotation.old_until),
            }),
        };
        Ok(Self { now, next, lifetimes })
    }

    /// Signs the key of a request for a caller who was authenticated. `asked`: how long it is to hold, zero for no wish.
    ///
    /// # Errors
    /// The request is of no use, or the authority's own time is over.
    pub fn issue(
        &self,
        csr: &str,
        caller: &SpiffeId,
        asked: Duration,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        let key = public_key(csr)?;
        let (signer, until) = self.signer(now);
        let wished = if asked.is_zero() { self.lifetimes.usual } else { asked.max(Lifetimes::LEAST) };
        let not_after = (now + wished.min(self.lifetimes.most)).min(until);
        if not_after <= now {
            return Err(IssueError::Expired);
        }
        let failed = |error: rcgen::Error| IssueError::Failed(error.to_string());
        let params = params(caller, (now - SKEW, not_after)).map_err(failed)?;
        let signed = params.signed_by(&key, &signer.issuer).map_err(failed)?;
        let chain = std::iter::once(signed.der()).chain(&signer.chain).chain(signer.roots.last());
        Ok(Issued {
            chain: chain.map(to_pem).collect(),
            bundle: self.roots(now).map(to_pem).collect(),
            not_after,
        })
    }

    /// Every root that is trusted.
    pub fn roots(&self, now: SystemTime) -> impl Iterator<Item = &CertificateDer<'static>> {
        let next = self.next.as_ref();
        let old = next.is_none_or(|next| now < next.old_until);
        let new = next.iter().flat_map(|next| &next.signer.roots).collect::<Vec<_>>();
        self.now.roots.iter().filter(move |_| old).chain(new)
    }

    /// Who signs, and how long that may hold.
    fn signer(&self, now: SystemTime) -> (&Signer, SystemTime) {
        match &self.next {
            Some(next) if now >= next.signs_from => (&next.signer, next.signer.until),
            Some(next) => (&self.now, self.now.until.min(next.old_until)),
            None => (&self.now, self.now.until),
        }
    }
}

impl Signer {
    fn read(
        material: &Material,
        (cert, key, root): (&'static str, &'static str, &'static str),
    ) -> Result<Self, MaterialError> {
        let bad = |name, why: &str| MaterialError::Bad(name, why.to_owned());
        let read = |name| certificates(material.text(name)?.as_bytes()).map_err(|why| bad(name, why));
        let (signing, roots) = (read(cert)?, read(root)?);
        let [own, ..] = &*signing else { return Err(bad(cert, "there is no PEM certificate")) };
        let fields = authority(own).map_err(|why| bad(cert, why))?;
        let key_pair =
            KeyPair::from_pem(material.text(key)?).map_err(|_| bad(key, "no PEM key that signs"))?;
        if !is_key_of(own, &key_pair) {
            return Err(bad(key, "it does not belong to the certificate"));
        }
        for other in &roots {
            authority(other).map_err(|why| bad(root, why))?;
        }
        let mut chain = if roots.contains(own) { Vec::new() } else { signing.clone() };
        if !chain.is_empty() && material.0.contains_key(CERT_CHAIN) {
            chain.extend(read(CERT_CHAIN)?);
        }
        let mut seen = Vec::new();
        chain.retain(|one| !roots.contains(one) && !seen.contains(one) && (seen.push(one.clone()), true).1);
        let issuer = Issuer::from_ca_cert_der(own, key_pair).map_err(|e| bad(cert, &e.to_string()))?;
        Ok(Self { issuer, chain, roots, until: fields.not_after })
    }
}

/// Of a certificate that may sign others.
fn authority(certificate: &CertificateDer<'_>) -> Result<Fields, &'static str> {
    let fields = fields(certificate).ok_or("a certificate cannot be read")?;
    if fields.is_authority { Ok(fields) } else { Err("a certificate is not one of an authority") }
}

fn is_key_of(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *key.public_key_raw())
}

fn params(
    caller: &SpiffeId,
    (not_before, not_after): (SystemTime, SystemTime),
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(caller.to_string().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and of full length (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = seconds(self.now.until);
        f.debug_struct("Authority").field("until", &until).field("rotates", &self.next.is_some()).finish()
    }
}
